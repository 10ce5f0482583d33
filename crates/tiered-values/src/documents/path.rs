//! Paths into documents: JSON Pointers, RFC 6901, and segments.

use std::borrow::Cow;
use std::fmt;

use crate::error::{Error, Result};

/// A path into a document: segments, of which each names a member of an object or, as a number, an element of an array.
///
/// # Examples
/// ```
/// use tiered_values::Path;
///
/// let path = Path::pointer("/a~1b/0")?;
/// assert_eq!(path, Path::of(["a/b", "0"]));
/// assert_eq!(path.segments(), ["a/b", "0"]);
/// assert_eq!(path.to_string(), "/a~1b/0");
/// assert!(Path::pointer("")?.is_root() && Path::root().is_root());
/// assert_eq!(Path::root().join("").to_string(), "/");
/// assert!(Path::pointer("no/slash").is_err());
/// # Ok::<(), tiered_values::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Path(Vec<String>);

impl Path {
    /// The whole document.
    pub const fn root() -> Self {
        Self(Vec::new())
    }

    /// The path of these segments.
    pub fn of<S: Into<String>>(segments: impl IntoIterator<Item = S>) -> Self {
        Self(segments.into_iter().map(Into::into).collect())
    }

    /// The path of a JSON Pointer: empty, or `/` before each segment, with `~1` for `/` and `~0` for `~`.
    ///
    /// # Errors
    /// [`Error::Path`] where the text is none.
    pub fn pointer(text: &str) -> Result<Self> {
        let malformed = |reason| Error::Path { key: None, at: text.to_owned(), reason };
        if text.is_empty() {
            return Ok(Self::root());
        }
        let segments = text.strip_prefix('/').ok_or_else(|| malformed("a JSON Pointer begins with /"))?;
        let unescape = |segment: &str| {
            let mut parts = segment.split('~');
            let mut plain = parts.next().unwrap_or_default().to_owned();
            for part in parts {
                let (replaced, rest) = match part.split_at_checked(1) {
                    Some(("0", rest)) => ('~', rest),
                    Some(("1", rest)) => ('/', rest),
                    _ => return Err(malformed("after ~ comes 0 or 1")),
                };
                plain.push(replaced);
                plain.push_str(rest);
            }
            Ok(plain)
        };
        segments.split('/').map(unescape).collect::<Result<_>>().map(Self)
    }

    /// The path with one more segment.
    #[must_use]
    pub fn join(mut self, segment: impl Into<String>) -> Self {
        self.0.push(segment.into());
        self
    }

    /// The segments.
    pub fn segments(&self) -> &[String] {
        &self.0
    }

    /// Whether it stands for the whole document.
    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// The path that this one begins with.
    pub(super) fn until(&self, segments: usize) -> Self {
        Self(self.0.iter().take(segments).cloned().collect())
    }
}

/// As a JSON Pointer.
impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|segment| write!(f, "/{}", segment.replace('~', "~0").replace('/', "~1")))
    }
}

/// What the methods of [`Documents`](crate::Documents) take for a path: text is a JSON Pointer, an array or a list has the
/// segments.
///
/// # Examples
/// ```
/// use tiered_values::{Path, ToPath};
///
/// let expected = Path::of(["a", "b"]);
/// assert_eq!(*"/a/b".to_path()?, expected);
/// assert_eq!(*["a", "b"].to_path()?, expected);
/// assert_eq!(*vec!["a".to_owned(), "b".to_owned()].to_path()?, expected);
/// assert_eq!(*expected.to_path()?, expected);
/// # Ok::<(), tiered_values::Error>(())
/// ```
pub trait ToPath: Send + Sync {
    /// The path.
    ///
    /// # Errors
    /// [`Error::Path`] where text is no JSON Pointer.
    fn to_path(&self) -> Result<Cow<'_, Path>>;
}

impl ToPath for Path {
    fn to_path(&self) -> Result<Cow<'_, Path>> {
        Ok(Cow::Borrowed(self))
    }
}

impl ToPath for str {
    fn to_path(&self) -> Result<Cow<'_, Path>> {
        Path::pointer(self).map(Cow::Owned)
    }
}

impl ToPath for String {
    fn to_path(&self) -> Result<Cow<'_, Path>> {
        self.as_str().to_path()
    }
}

impl<S: AsRef<str> + Send + Sync> ToPath for [S] {
    fn to_path(&self) -> Result<Cow<'_, Path>> {
        Ok(Cow::Owned(Path::of(self.iter().map(|segment| segment.as_ref().to_owned()))))
    }
}

impl<S: AsRef<str> + Send + Sync, const N: usize> ToPath for [S; N] {
    fn to_path(&self) -> Result<Cow<'_, Path>> {
        self.as_slice().to_path()
    }
}

impl<S: AsRef<str> + Send + Sync> ToPath for Vec<S> {
    fn to_path(&self) -> Result<Cow<'_, Path>> {
        self.as_slice().to_path()
    }
}

impl<P: ToPath + ?Sized> ToPath for &P {
    fn to_path(&self) -> Result<Cow<'_, Path>> {
        (**self).to_path()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 6901, section 5, and texts that are no pointers.
    #[test]
    fn the_pointers_of_the_rfc_are_read_and_written() {
        let pointers = [
            ("", vec![]),
            ("/foo", vec!["foo"]),
            ("/foo/0", vec!["foo", "0"]),
            ("/", vec![""]),
            ("/a~1b", vec!["a/b"]),
            ("/c%d", vec!["c%d"]),
            ("/i\\j", vec!["i\\j"]),
            ("/k\"l", vec!["k\"l"]),
            ("/ ", vec![" "]),
            ("/m~0n", vec!["m~n"]),
            ("/~01", vec!["~1"]),
            ("/é/~0~1", vec!["é", "~/"]),
        ];
        for (text, segments) in pointers {
            let path = Path::pointer(text).expect(text);
            assert_eq!(path.segments(), segments, "{text}");
            assert_eq!(path.to_string(), text);
        }
        for text in ["foo", "/~", "/~2", "/a~", "/~é", "#/foo"] {
            assert!(Path::pointer(text).is_err(), "{text}");
        }
    }
}
