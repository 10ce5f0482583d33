//! The seal: what a clean close leaves behind, so that the next opening can tell a damaged manifest from a torn one.
//!
//! RocksDB takes a manifest whose last record is truncated for the result of a crash, and opens the state before that
//! record. A flipped bit in the record's length looks the same and would silently lose its content. After a clean close
//! nothing is truncated: the seal holds the manifest's name, length and CRC-32C.

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::path::Path;

use tiered_core::{Error, ErrorKind, Result};
use tiered_embedded::{Access, io_error};

/// RocksDB leaves files alone whose names are not its own.
pub(crate) const NAME: &str = "tiered-seal";
const DRAFT: &str = "tiered-seal.new";

/// What every seal begins with: the name of a manifest.
const BEGINNING: &[u8] = b"MANIFEST-";

/// The longest seal, in bytes.
const MAX_LEN: u64 = 128;

/// Seals a closed database. Files of others that have the seal's names are left alone, and the database unsealed.
pub(crate) fn set(folder: &Path) -> io::Result<()> {
    let (draft, seal) = (folder.join(DRAFT), folder.join(NAME));
    if !is_ours(&draft)? || !is_ours(&seal)? {
        tracing::warn!(folder = %folder.display(), "a foreign file has the name of the seal; the folder is not sealed");
        return Ok(());
    }
    let made = describe(folder).and_then(|text| {
        let mut file = File::create(&draft)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&draft, &seal)
    });
    made.inspect_err(|_| {
        fs::remove_file(&draft).ok();
    })
}

/// Removes the seal of a database that is gone, and its draft.
pub(crate) fn clear(folder: &Path) -> io::Result<()> {
    for path in [folder.join(NAME), folder.join(DRAFT)] {
        if path.exists() && is_ours(&path)? {
            fs::remove_file(path)?;
        }
    }
    Ok(())
}

/// Whether a file may be replaced: it is absent, or what we write under its name, whole or not.
fn is_ours(path: &Path) -> io::Result<bool> {
    let mut text = Vec::new();
    match File::open(path) {
        Ok(file) => file.take(MAX_LEN + 1).read_to_end(&mut text)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(true),
        Err(error) => return Err(error),
    };
    let begins = text.starts_with(BEGINNING) || BEGINNING.starts_with(&text);
    Ok(begins && text.len() as u64 <= MAX_LEN)
}

/// Checks the seal of a database that is not open, and removes it unless the database is opened read-only. A seal for
/// another manifest is from an older close and is ignored.
pub(crate) fn check(folder: &Path, access: Access) -> Result<()> {
    let path = folder.join(NAME);
    let seal = match fs::read(&path) {
        Ok(seal) => String::from_utf8_lossy(&seal).into_owned(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(io_error(error)),
    };
    let (name, manifest) = current(folder).map_err(io_error)?;
    match parse(&seal) {
        Some((sealed, ..)) if sealed != name => {}
        // A manifest that has grown was opened by another process just before the seal was set; the seal covers its
        // beginning.
        Some((_, len, crc)) if manifest.get(..len).is_some_and(|beginning| sum(beginning) == crc) => {}
        // RocksDB's own checks are left.
        None => tracing::warn!(folder = %folder.display(), "the seal is damaged and is ignored"),
        Some(_) => {
            return Err(Error::new(
                ErrorKind::Corrupt,
                format!("{name} is damaged; restore the database from another tier or a backup"),
            ));
        }
    }
    if access == Access::ReadOnly || !is_ours(&path).map_err(io_error)? {
        return Ok(());
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
    fn damage_is_distinguished_from_growth_and_from_another_manifest() {
        let folder = tempfile::tempdir().expect("a folder");
        let folder = folder.path();
        let write = |name: &str, text: &str| fs::write(folder.join(name), text).expect("written");
        let kind = || check(folder, Access::ReadWrite).map_err(|error| error.kind());
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
        assert_eq!(kind(), Ok(()), "a damaged seal does not keep the store from opening");
    }

    #[test]
    fn other_files_with_the_names_of_seals_are_kept() {
        let folder = tempfile::tempdir().expect("a folder");
        let folder = folder.path();
        let write = |name: &str, text: &str| fs::write(folder.join(name), text).expect("written");
        let read = |name: &str| fs::read_to_string(folder.join(name)).expect("reads");
        write("CURRENT", "MANIFEST-1\n");
        write("MANIFEST-1", "edits");
        for (name, other) in [(NAME, DRAFT), (DRAFT, NAME)] {
            write(name, "a seal at the zoo");
            set(folder).expect("passed over");
            check(folder, Access::ReadWrite).expect("passed over");
            assert_eq!(read(name), "a seal at the zoo");
            assert!(!folder.join(other).exists());
            fs::remove_file(folder.join(name)).expect("removed");
        }
        set(folder).expect("sealed");
        check(folder, Access::ReadOnly).expect("whole");
        assert!(read(NAME).starts_with("MANIFEST-1 "), "only read");
    }
}
