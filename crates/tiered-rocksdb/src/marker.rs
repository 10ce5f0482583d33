//! The markers: what says that a database of ours is being made in a folder, or being removed.
//!
//! Neither is atomic in RocksDB, and its files do not name their creator. So the marker of making is written first, and
//! removed when the database is complete. A folder that is not empty and holds neither our database nor the marker is
//! foreign; so is one whose database has lost its files.

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::path::Path;

/// A marker by its name and its text. RocksDB leaves files alone whose names are not its own.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Kind {
    pub(crate) name: &'static str,
    text: &'static [u8],
}

/// There from before a database is made until it is complete.
pub(crate) const MAKING: Kind =
    Kind { name: "tiered-making", text: b"A RocksDB database of tiered is being made in this folder.\n" };

/// There from before the first file of a database is removed until after the last.
pub(crate) const REMOVING: Kind = Kind {
    name: "tiered-removing",
    text: b"A RocksDB database of tiered is being removed from this folder.\n",
};

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
pub(crate) fn set(folder: &Path, kind: Kind) -> io::Result<()> {
    let path = folder.join(kind.name);
    let write = || {
        let mut file = File::create(&path)?;
        file.write_all(kind.text)?;
        file.sync_all()?;
        File::open(folder)?.sync_all()
    };
    write().inspect_err(|_| {
        // On a full disk the space taken so far is released.
        fs::remove_file(&path).ok();
    })
}

/// Removes a marker of ours, durably.
pub(crate) fn clear(folder: &Path, kind: Kind) -> io::Result<()> {
    if look(folder, kind)? == Marker::Whole {
        fs::remove_file(folder.join(kind.name))?;
        File::open(folder)?.sync_all()?;
    }
    Ok(())
}

pub(crate) fn look(folder: &Path, kind: Kind) -> io::Result<Marker> {
    let mut text = Vec::new();
    match File::open(folder.join(kind.name)) {
        Ok(file) => file.take(kind.text.len() as u64 + 1).read_to_end(&mut text)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Marker::Absent),
        Err(error) => return Err(error),
    };
    Ok(match text {
        text if text == kind.text => Marker::Whole,
        text if kind.text.starts_with(&text) => Marker::Begun,
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
        assert_eq!(look(folder, MAKING).expect("reads"), Marker::Absent);
        set(folder, MAKING).expect("written");
        assert_eq!(look(folder, MAKING).expect("reads"), Marker::Whole);
        clear(folder, MAKING).expect("removed");
        assert_eq!(look(folder, MAKING).expect("reads"), Marker::Absent);
        let longer = [MAKING.text, b"x"].concat();
        for (text, marker) in [
            (&b""[..], Marker::Begun),
            (&MAKING.text[..9], Marker::Begun),
            (b"other", Marker::Foreign),
            (&longer, Marker::Foreign),
        ] {
            fs::write(folder.join(MAKING.name), text).expect("written");
            assert_eq!(look(folder, MAKING).expect("reads"), marker, "{text:?}");
            clear(folder, MAKING).expect("passed over");
            assert!(folder.join(MAKING.name).exists());
        }
    }
}
