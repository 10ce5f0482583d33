//! The seal: what a clean close leaves behind, so that the next opening can tell a damaged manifest from a torn one.
//!
//! RocksDB takes a manifest whose last record is cut short for the trace of a crash, and opens the state before it. A
//! flipped bit in that record's length looks the same, and would lose in silence what the record speaks of. After a
//! clean close nothing is cut short: the seal has the manifest's name, length and CRC-32C.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::Path;

use tiered_core::{Error, ErrorKind, Result};
use tiered_embedded::io_error;

/// RocksDB leaves files alone whose names are not its own.
pub(crate) const NAME: &str = "tiered-seal";
const DRAFT: &str = "tiered-seal.new";

/// Seals a closed database.
pub(crate) fn set(folder: &Path) -> io::Result<()> {
    let draft = folder.join(DRAFT);
    let mut file = File::create(&draft)?;
    file.write_all(describe(folder)?.as_bytes())?;
    file.sync_all()?;
    fs::rename(&draft, folder.join(NAME))
}

/// Checks the seal of a database that is not open, and breaks it. One that speaks of another manifest is of an older
/// close, and says nothing.
pub(crate) fn check(folder: &Path) -> Result<()> {
    let path = folder.join(NAME);
    let seal = match fs::read(&path) {
        Ok(seal) => String::from_utf8_lossy(&seal).into_owned(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(io_error(error)),
    };
    let (name, manifest) = current(folder).map_err(io_error)?;
    match parse(&seal) {
        Some((sealed, ..)) if sealed != name => {}
        // A manifest that has grown was opened by somebody else just before the seal was set; what was sealed is its
        // beginning.
        Some((_, len, crc)) if manifest.get(..len).is_some_and(|beginning| sum(beginning) == crc) => {}
        // RocksDB's own checks are left.
        None => tracing::warn!(folder = %folder.display(), "the seal is damaged, and says nothing"),
        Some(_) => {
            return Err(Error::new(
                ErrorKind::Corrupt,
                format!("{name} is damaged; restore the database from another tier or a backup"),
            ));
        }
    }
    fs::remove_file(&path).map_err(io_error)
}

/// The current manifest, as a seal describes it.
fn describe(folder: &Path) -> io::Result<String> {
    let (name, manifest) = current(folder)?;
    let seal = format!("{name} {} {}", manifest.len(), sum(&manifest));
    Ok(format!("{seal} {}\n", sum(seal.as_bytes())))
}

/// Name, length and checksum of the manifest that a seal describes, if the seal itself is whole.
fn parse(seal: &str) -> Option<(&str, usize, &str)> {
    let (seal, own) = seal.trim_end().rsplit_once(' ')?;
    let mut words = seal.split(' ').filter(|_| sum(seal.as_bytes()) == own);
    Some((words.next()?, words.next()?.parse().ok()?, words.next()?))
}

/// The current manifest: its name and its bytes.
fn current(folder: &Path) -> io::Result<(String, Vec<u8>)> {
    let name = String::from_utf8_lossy(&fs::read(folder.join("CURRENT"))?).trim_end().to_owned();
    let manifest = fs::read(folder.join(&name))?;
    Ok((name, manifest))
}

fn sum(bytes: &[u8]) -> String {
    format!("{:08x}", crc32c::crc32c(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn damage_is_told_from_growth_and_from_another_manifest() {
        let folder = tempfile::tempdir().expect("a folder");
        let folder = folder.path();
        let write = |name: &str, text: &str| fs::write(folder.join(name), text).expect("written");
        let kind = || check(folder).map_err(|error| error.kind());
        assert_eq!(kind(), Ok(()), "never sealed");
        write("CURRENT", "MANIFEST-1\n");
        write("MANIFEST-1", "edits");
        set(folder).expect("sealed");
        assert_eq!(kind(), Ok(()));
        assert!(!folder.join(NAME).exists(), "a seal is for one opening");
        for (manifest, answer) in [
            ("editz", Err(ErrorKind::Corrupt)),
            ("edit", Err(ErrorKind::Corrupt)),
            ("edits and more", Ok(())),
        ] {
            write("MANIFEST-1", "edits");
            set(folder).expect("sealed");
            write("MANIFEST-1", manifest);
            assert_eq!(kind(), answer, "{manifest}");
        }
        set(folder).expect("sealed");
        write("CURRENT", "MANIFEST-2\n");
        write("MANIFEST-2", "others");
        assert_eq!(kind(), Ok(()), "of an older close");
        write(NAME, "MANIFEST-2 6 00000000 00000000");
        assert_eq!(kind(), Ok(()), "a damaged seal locks nobody out");
    }
}
