//! The marker: what says that a database of ours is being made in a folder.
//!
//! RocksDB's creation is not atomic, and its files do not name their creator. So the marker is written first, and
//! removed when the database is complete. A folder that is not empty and holds neither our database nor the marker is
//! foreign; so is one whose database has lost its files.

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::path::Path;

/// RocksDB leaves files alone whose names are not its own.
pub(crate) const NAME: &str = "tiered-making";
const TEXT: &[u8] = b"A RocksDB database of tiered is being made in this folder.\n";

/// What there is of a marker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Marker {
    Absent,
    /// Its writing was interrupted: nothing else was made yet.
    Begun,
    Whole,
    /// A file of another that has the marker's name.
    Foreign,
}

/// Writes the marker durably, unless a foreign file has its name.
pub(crate) fn set(folder: &Path) -> io::Result<()> {
    let path = folder.join(NAME);
    let write = || {
        let mut file = File::create(&path)?;
        file.write_all(TEXT)?;
        file.sync_all()?;
        File::open(folder)?.sync_all()
    };
    write().inspect_err(|_| {
        // On a full disk the space taken so far is released.
        fs::remove_file(&path).ok();
    })
}

/// Removes the marker of a finished database.
pub(crate) fn clear(folder: &Path) -> io::Result<()> {
    if look(folder)? == Marker::Whole {
        fs::remove_file(folder.join(NAME))?;
        File::open(folder)?.sync_all()?;
    }
    Ok(())
}

pub(crate) fn look(folder: &Path) -> io::Result<Marker> {
    let mut text = Vec::new();
    match File::open(folder.join(NAME)) {
        Ok(file) => file.take(TEXT.len() as u64 + 1).read_to_end(&mut text)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Marker::Absent),
        Err(error) => return Err(error),
    };
    Ok(match text {
        text if text == TEXT => Marker::Whole,
        text if TEXT.starts_with(&text) => Marker::Begun,
        _ => Marker::Foreign,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_marker_is_recognised_by_its_text() {
        let folder = tempfile::tempdir().expect("a folder");
        let folder = folder.path();
        assert_eq!(look(folder).expect("reads"), Marker::Absent);
        set(folder).expect("written");
        assert_eq!(look(folder).expect("reads"), Marker::Whole);
        clear(folder).expect("removed");
        assert_eq!(look(folder).expect("reads"), Marker::Absent);
        let longer = [TEXT, b"x"].concat();
        for (text, marker) in [
            (&b""[..], Marker::Begun),
            (&TEXT[..9], Marker::Begun),
            (b"other", Marker::Foreign),
            (&longer, Marker::Foreign),
        ] {
            fs::write(folder.join(NAME), text).expect("written");
            assert_eq!(look(folder).expect("reads"), marker, "{text:?}");
            clear(folder).expect("passed over");
            assert!(folder.join(NAME).exists());
        }
    }
}
