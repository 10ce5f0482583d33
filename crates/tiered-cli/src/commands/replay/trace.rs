//! A log of accesses: one a line, a key and, where the log says so, the bytes of its value.

use std::collections::HashMap;
use std::fs::File;
use std::hash::{BuildHasher as _, RandomState};
use std::io::{self, BufRead as _, BufReader, Seek as _};
use std::path::Path;

use tiered::{Error, Key};

use crate::exit::Failure;

/// A log that can be read again and again.
pub(super) struct Trace {
    file: File,
    name: String,
    /// Bytes of a value where the log does not say.
    value_size: u64,
}

/// An access.
#[derive(Debug)]
pub(super) struct Access {
    pub(super) key: Key,
    pub(super) size: u64,
}

/// What a log holds, however large the cache.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Summary {
    pub(super) accesses: u64,
    /// Different keys. The first access to each is a miss in any cache.
    pub(super) keys: u64,
    /// Bytes of all keys and values, each as it was last.
    pub(super) bytes: u64,
}

impl Trace {
    /// Opens a log; `-` is standard input, which is copied to a temporary file.
    pub(super) fn open(path: &Path, value_size: u64) -> Result<Self, Failure> {
        let name = path.display().to_string();
        let opened = if name == "-" { spool() } else { File::open(path) };
        let file = opened.map_err(|error| Failure::Io(name.clone(), error))?;
        Ok(Self { file, name, value_size })
    }

    /// Reads the whole log, and hands over each access.
    pub(super) fn read(&self, mut each: impl FnMut(Access) -> Result<(), Failure>) -> Result<(), Failure> {
        let failed = |error| Failure::Io(self.name.clone(), error);
        let mut file = &self.file;
        file.rewind().map_err(failed)?;
        let mut lines = BufReader::with_capacity(1 << 20, file);
        let mut line = String::new();
        for number in 1_u64.. {
            line.clear();
            if lines.read_line(&mut line).map_err(failed)? == 0 {
                break;
            }
            let text = line.trim();
            if text.is_empty() {
                continue;
            }
            let access = parse(text, self.value_size).map_err(|error| {
                Failure::Usage(format!("{}, line {number}: {}", self.name, error.chain()))
            })?;
            each(access)?;
        }
        Ok(())
    }

    /// Counts what the log holds. Keeps 16 bytes for each key.
    pub(super) fn summary(&self) -> Result<Summary, Failure> {
        let hasher = RandomState::new();
        let mut sizes: HashMap<u64, u64> = HashMap::new();
        let mut accesses = 0;
        self.read(|Access { key, size }| {
            accesses += 1;
            sizes.insert(hasher.hash_one(&key), size.saturating_add(key.len() as u64));
            Ok(())
        })?;
        Ok(Summary {
            accesses,
            keys: sizes.len() as u64,
            bytes: sizes.values().fold(0, |sum: u64, size| sum.saturating_add(*size)),
        })
    }
}

/// A copy of standard input that can be read again.
fn spool() -> io::Result<File> {
    let mut file = tempfile::tempfile()?;
    io::copy(&mut io::stdin().lock(), &mut file)?;
    Ok(file)
}

/// `KEY` or `KEY SIZE`. A last field of digits alone is the size, where another one stands before it.
fn parse(text: &str, value_size: u64) -> Result<Access, Error> {
    let (key, size) = text
        .rsplit_once(char::is_whitespace)
        .and_then(|(key, size)| Some((key.trim_end(), size.parse().ok()?)))
        .unwrap_or((text, value_size));
    Ok(Access { key: Key::new(key)?, size })
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn a_line_is_a_key_and_perhaps_a_size() {
        for (line, key, size) in [
            ("users/42", "users/42", 7),
            ("users/42 100", "users/42", 100),
            ("users/42\t0", "users/42", 0),
            ("a key with spaces", "a key with spaces", 7),
            ("42", "42", 7),
            ("GET /page  512", "GET /page", 512),
        ] {
            let access = parse(line, 7).expect(line);
            assert_eq!((access.key.as_str(), access.size), (key, size), "{line}");
        }
    }

    #[test]
    fn a_log_can_be_read_twice_and_says_which_line_is_wrong() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("log");
        File::create(&path).expect("made").write_all(b"a 10\nb 20\n\na 30\n").expect("written");
        let trace = Trace::open(&path, 1).expect("opens");
        for _ in 0..2 {
            let expected = Summary { accesses: 3, keys: 2, bytes: 52 };
            assert_eq!(trace.summary().expect("counts"), expected);
        }
        File::create(&path).expect("made").write_all(b"a\nb\x07b\n").expect("written");
        let refused = Trace::open(&path, 1).expect("opens").summary().expect_err("a control character");
        assert!(refused.to_string().contains("line 2"), "{refused}");
    }
}
