//! A folder for the temporary files of one run, removed at its end; the next run removes what a killed run left.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

/// How the folders begin.
const PREFIX: &str = "tiered-tests-";

/// The lock of a folder that is in use.
const LOCK: &str = "lock";

/// A folder, removed when it is dropped.
#[derive(Debug)]
pub(crate) struct Scratch {
    path: PathBuf,
    /// Held, not used.
    _lock: File,
}

impl Scratch {
    /// Makes a folder among the temporary files of the system.
    pub(crate) fn make() -> Result<Self, String> {
        let place = std::env::temp_dir();
        remove_leftovers(&place);
        Self::make_in(&place).map_err(|error| format!("{}: {error}", place.display()))
    }

    fn make_in(place: &Path) -> io::Result<Self> {
        let path = place.join(format!("{PREFIX}{}", std::process::id()));
        fs::create_dir(&path)?;
        let lock = File::create_new(path.join(LOCK))?;
        lock.try_lock()?;
        Ok(Self { path, _lock: lock })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.path).ok();
    }
}

/// Removes the folders of runs that have ended without doing so.
fn remove_leftovers(place: &Path) {
    for entry in fs::read_dir(place).into_iter().flatten().flatten() {
        let path = entry.path();
        if !entry.file_name().to_string_lossy().starts_with(PREFIX) {
            continue;
        }
        let unused = File::open(path.join(LOCK)).is_ok_and(|lock| lock.try_lock().is_ok());
        if unused && fs::remove_dir_all(&path).is_ok() {
            println!("removed {}, which an interrupted run left", path.display());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_in_use_stay_and_leftovers_are_removed() {
        let place = std::env::temp_dir().join(format!("scratch-of-{}", std::process::id()));
        fs::create_dir(&place).expect("made");
        let used = Scratch::make_in(&place).expect("made");
        let left = place.join(format!("{PREFIX}left"));
        fs::create_dir(&left).expect("made");
        fs::write(left.join(LOCK), "").expect("written");
        fs::create_dir(place.join("other")).expect("made");
        remove_leftovers(&place);
        assert!(used.path().exists() && place.join("other").exists() && !left.exists());
        drop(used);
        fs::remove_dir(place.join("other")).expect("removed");
        fs::remove_dir(&place).expect("empty");
    }
}
