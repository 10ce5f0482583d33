//! What can be chosen of a tier over an object store.

/// Whether conditional writes are used.
///
/// # Examples
/// ```
/// use tiered_object_store::Conditional;
///
/// assert_eq!(Conditional::default(), Conditional::Probe);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Conditional {
    /// Where the object store turns out to judge them, when the tier is opened.
    #[default]
    Probe,
    /// Never.
    Off,
}

/// What a listing does about the order, which the trait `ObjectStore` does not promise.
///
/// # Examples
/// ```
/// use tiered_object_store::Order;
///
/// assert_eq!(Order::default(), Order::Checked);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Order {
    /// Keys are listed as the object store gives them, and an error ends a listing that is out of order. For S3, Google
    /// Cloud Storage, Azure and memory.
    #[default]
    Checked,
    /// The whole listing is taken into memory and sorted. For folders and `WebDAV`.
    Sorted,
}

/// How keys are written as paths.
///
/// # Examples
/// ```
/// use tiered_object_store::Keys;
///
/// assert_eq!(Keys::default(), Keys::Paths);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Keys {
    /// A key is the path of the same text, as other programs see it. Keys that are no path are refused: with an empty part
    /// (`a//b`, `a/`, `/a`), or one that is `.` or `..`. A folder cannot hold `a` and `a/b`.
    #[default]
    Paths,
    /// Every key is one part of a path: `/` is written `.~`, `.` is `.!`, and `#` is `#!`, which keeps the order. Every key
    /// is taken, and half as long ones. In a folder of files, limit them with
    /// `max_key(120)`: a name has 255 bytes.
    Flat,
}

impl Keys {
    /// A key, or what keys begin with, as a part of a path.
    pub(crate) fn write(self, key: &str) -> String {
        if self == Self::Paths {
            return key.to_owned();
        }
        let mut written = String::with_capacity(key.len() + 8);
        for char in key.chars() {
            match char {
                '/' => written.push_str(".~"),
                '.' => written.push_str(".!"),
                '#' => written.push_str("#!"),
                other => written.push(other),
            }
        }
        written
    }

    /// The key that was written so; `None` where none was.
    pub(crate) fn read(self, path: &str) -> Option<String> {
        if self == Self::Paths {
            return Some(path.to_owned());
        }
        let mut key = String::with_capacity(path.len());
        let mut chars = path.chars();
        while let Some(char) = chars.next() {
            key.push(match char {
                '/' => return None,
                '.' => match chars.next()? {
                    '~' => '/',
                    '!' => '.',
                    _ => return None,
                },
                '#' => chars.next().filter(|next| *next == '!').map(|_| '#')?,
                other => other,
            });
        }
        Some(key)
    }
}

#[cfg(test)]
mod tests {
    use super::Keys;

    #[test]
    fn flat_keys_are_read_as_they_were_written_in_the_same_order() {
        let mut keys = vec![String::new()];
        for _ in 0..4 {
            let letters = ["/", ".", "#", "-", "0", "!", "~", "\"", "$", "a", "é"];
            let longer = keys.iter().flat_map(|key| letters.map(|letter| format!("{key}{letter}")));
            keys.extend(longer.collect::<Vec<_>>());
            keys.sort_unstable();
            keys.dedup();
            keys.truncate(3_000);
        }
        let written: Vec<String> = keys.iter().map(|key| Keys::Flat.write(key)).collect();
        assert!(written.is_sorted() && written.iter().all(|path| !path.contains('/')));
        for (key, path) in keys.iter().zip(&written) {
            assert_eq!(Keys::Flat.read(path).as_ref(), Some(key));
            assert!(path != "." && path != "..");
        }
        for path in ["a/b", ".", "a.b", "#1", "a#"] {
            assert_eq!(Keys::Flat.read(path), None, "{path}");
        }
    }
}
