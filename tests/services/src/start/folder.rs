//! Folders that servers work in: marked as ours, and locked for as long as they are in use.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

/// The marker, which is the lock as well.
const MARKER: &str = "tiered-services.lock";
const TEXT: &[u8] = b"A folder of tiered's test servers, removed when they end.\n";

/// A folder, removed when it is dropped.
#[derive(Debug)]
pub(crate) struct Folder {
    path: PathBuf,
    /// Held, not used.
    _lock: File,
}

impl Folder {
    /// Makes a folder that is not there yet, or was left behind.
    pub(crate) fn make(path: PathBuf) -> io::Result<Self> {
        match fs::create_dir(&path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && remove_if_left(&path) => {
                fs::create_dir(&path)?;
            }
            made => made?,
        }
        let mut lock = File::options().create_new(true).write(true).open(path.join(MARKER))?;
        lock.try_lock()?;
        lock.write_all(TEXT)?;
        Ok(Self { path, _lock: lock })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.path).ok();
    }
}

/// Removes the folders that killed runs left behind in `place`.
pub(crate) fn remove_leftovers(place: &Path) {
    for entry in fs::read_dir(place).into_iter().flatten().flatten() {
        if remove_if_left(&entry.path()) {
            eprintln!("{} is removed", entry.path().display());
        }
    }
}

/// Removes a folder that has our marker and is in use by nothing; whether it did.
fn remove_if_left(folder: &Path) -> bool {
    let marker = folder.join(MARKER);
    if !fs::read(&marker).is_ok_and(|text| text == TEXT) {
        return false;
    }
    let Ok(lock) = File::open(&marker) else { return false };
    lock.try_lock().is_ok() && fs::remove_dir_all(folder).is_ok()
}

/// Whether a process that is running made this folder.
pub(crate) fn is_in_use(folder: &Path) -> bool {
    File::open(folder.join(MARKER)).is_ok_and(|lock| lock.try_lock().is_err())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_leftover_folders_of_these_tests_are_removed() {
        let place = std::env::temp_dir().join(format!("services-of-{}", std::process::id()));
        let place = Folder::make(place).expect("made");
        let path = |name: &str| place.path().join(name);
        for name in ["tiered-postgres-of-mine", "tiered-s3-5000", "left"] {
            fs::create_dir(path(name)).expect("made");
        }
        fs::write(path("tiered-s3-5000").join(MARKER), "other").expect("written");
        fs::write(path("left").join(MARKER), TEXT).expect("written");
        let used = Folder::make(path("used")).expect("made");
        Folder::make(path("used")).expect_err("in use");
        Folder::make(path("tiered-s3-5000")).expect_err("another's");
        remove_leftovers(place.path());
        for (name, is_there) in
            [("tiered-postgres-of-mine", true), ("tiered-s3-5000", true), ("left", false), ("used", true)]
        {
            assert_eq!(path(name).exists(), is_there, "{name}");
        }
        drop(used);
        assert!(!path("used").exists());
    }
}
