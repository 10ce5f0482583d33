//! Whether there is a database, and its removal.
//!
//! Removing the name of the file is one step: before it the whole database is there, and after it nothing. An opening
//! that has the file open already, and waits for its lock, would get a file without a name and lose what it writes. So
//! the file is emptied under the lock once it has no name left, and that opening fails.

use std::fs::{self, File};
use std::io;
use std::path::Path;

use tiered_core::adapter::opening::Before;
use tiered_core::{Error, ErrorKind, Result};
use tiered_embedded::{Access, io_error};

use crate::config::RedbConfig;
use crate::create::{Content, copy_of, inspect, sync_name, target};
use crate::open::{check_ours, check_ours_and_repair, contained, open_on};
use crate::system::{Os, System};

/// Bytes of a database that may be an unused one. A new one has about one and a half MiB, and marks are small.
const LARGEST_UNUSED: u64 = 16 << 20;

/// Whether the file of `config` is a database. Changes nothing.
///
/// # Errors
/// `Foreign` where the file is surely not ours. A database that is in use, damaged or not closed cleanly counts as there.
pub(crate) fn exists(config: &RedbConfig) -> Result<bool> {
    found(config).map_err(|error| error.at_place(config.path.display()))
}

fn found(config: &RedbConfig) -> Result<bool> {
    match look(&config.path)? {
        None | Some(Content::Empty | Content::Unfinished) => Ok(false),
        Some(Content::Other) => Err(foreign()),
        Some(Content::Redb) => match check_ours(config) {
            Err(error) if error.kind() == ErrorKind::Foreign => Err(error),
            // Whose it is cannot be told from here.
            _ => Ok(true),
        },
    }
}

/// What the file at `path` is; `None` where there is none.
fn look(path: &Path) -> Result<Option<Content>> {
    match fs::metadata(path) {
        Ok(found) if found.is_dir() => {
            return Err(Error::new(ErrorKind::Foreign, "the path is a folder; name a file"));
        }
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(io_error(error)),
    }
    inspect(&File::open(path).map_err(io_error)?).map(Some)
}

/// Removes the database of `config`, once it is known to be ours.
pub(crate) fn destroy(config: &RedbConfig) -> Result<()> {
    let ours = || match look(&config.path)? {
        None => Err(absent()),
        Some(Content::Empty) => Err(Error::new(ErrorKind::NotFound, "the file is empty, and no database")),
        Some(Content::Other) => Err(foreign()),
        Some(Content::Unfinished) => Ok(()),
        Some(Content::Redb) => match check_ours(config) {
            // A database that was not closed cleanly is repaired first, as by an opening.
            Err(error) if error.kind() == ErrorKind::PermissionDenied => check_ours_and_repair(config),
            checked => checked,
        },
    };
    if config.access == Access::ReadOnly {
        let message = "the database is only read by these settings; leave out read-only access to destroy it";
        return Err(Error::new(ErrorKind::PermissionDenied, message).at_place(config.path.display()));
    }
    ours().and_then(|()| remove(&Os, &config.path)).map_err(|error| error.at_place(config.path.display()))
}

/// Removes the file of a database, or of one that was never finished. A link to it stays.
pub(crate) fn remove(system: &dyn System, path: &Path) -> Result<()> {
    remove_where(system, path, Before::Absent, |_| Ok(true)).map(drop)
}

/// Removes the database of `config` that was just made, where it was not used since; whether it was removed.
pub(crate) fn take_back(config: &RedbConfig, before: Before) -> Result<bool> {
    let taken = remove_where(&Os, &config.path, before, |file| match inspect(file)? {
        Content::Unfinished => Ok(true),
        _ => was_never_used(config, file),
    });
    match taken {
        // Someone else has removed it.
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        taken => taken.map_err(|error| error.at_place(config.path.display())),
    }
}

/// Whether a database has no entries, and no marks but those of an opening. It is looked at in a copy: the caller holds
/// the lock of the file.
fn was_never_used(config: &RedbConfig, file: &File) -> Result<bool> {
    let Some(copy) = copy_of(file, LARGEST_UNUSED)? else { return Ok(false) };
    contained(|| tiered_embedded::is_unused(&*open_on(config, copy)?))
}

/// Removes the file of a database, or empties it where it was an empty one before, if `condition` allows that under its
/// lock; whether it did.
fn remove_where(
    system: &dyn System,
    path: &Path,
    before: Before,
    condition: impl FnOnce(&File) -> Result<bool>,
) -> Result<bool> {
    let path = &target(path)?;
    let file = system.open(path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => absent(),
        _ => io_error(error),
    })?;
    let locked =
        || Error::new(ErrorKind::Locked, "another process or handle has the file open; close it there");
    let _lock = system
        .lock(&file)
        .map_err(|error| {
            let message = "the file cannot be locked, so whether it is in use cannot be told; close it everywhere and remove it by hand";
            Error::new(ErrorKind::Unsupported, message).with_source(error)
        })?
        .ok_or_else(locked)?;
    // Under the lock: another process may have replaced the file meanwhile.
    let is_ours = matches!(inspect(&file)?, Content::Redb | Content::Unfinished);
    if !is_ours || !system.names(path, &file).map_err(io_error)? {
        return Err(Error::new(ErrorKind::Locked, "another process has just changed the file; try again"));
    }
    if !condition(&file)? {
        return Ok(false);
    }
    if before == Before::Empty {
        return system.set_len(&file, 0).map(|()| true).map_err(io_error);
    }
    system.remove(path).map_err(io_error)?;
    sync_name(system, path, &file).map_err(|error| {
        let message = "the file is removed, and a power loss may bring it back; destroy it again then";
        Error::new(ErrorKind::Unavailable, message).with_source(error)
    })?;
    // A name that is left is another hard link, such as a backup.
    if system.is_nameless(&file).unwrap_or(false) {
        system.set_len(&file, 0).ok();
    }
    Ok(true)
}

fn absent() -> Error {
    Error::new(ErrorKind::NotFound, "there is no such file")
}

fn foreign() -> Error {
    Error::new(ErrorKind::Foreign, "the file is not a database; it was not touched")
}

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};

    use super::*;
    use crate::create::create;
    use crate::system::Lock;

    /// The operating system, whose call of a number fails, and every later one as well: the process is killed there.
    struct Killed {
        left: Cell<usize>,
        calls: RefCell<Vec<&'static str>>,
    }

    impl Killed {
        fn before(step: usize) -> Self {
            Self { left: Cell::new(step), calls: RefCell::default() }
        }

        fn call(&self, name: &'static str) -> io::Result<()> {
            let left = self.left.get();
            self.left.set(left.saturating_sub(1));
            if left == 0 {
                return Err(io::Error::other("killed"));
            }
            self.calls.borrow_mut().push(name);
            Ok(())
        }
    }

    impl System for Killed {
        fn create_new(&self, path: &Path) -> io::Result<File> {
            Os.create_new(path)
        }

        fn open(&self, path: &Path) -> io::Result<File> {
            self.call("open").and_then(|()| Os.open(path))
        }

        fn lock(&self, file: &File) -> io::Result<Option<Lock>> {
            self.call("lock").and_then(|()| Os.lock(file))
        }

        fn names(&self, path: &Path, file: &File) -> io::Result<bool> {
            self.call("names").and_then(|()| Os.names(path, file))
        }

        fn is_nameless(&self, file: &File) -> io::Result<bool> {
            self.call("is_nameless").and_then(|()| Os.is_nameless(file))
        }

        fn write_at(&self, file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
            Os.write_at(file, bytes, offset)
        }

        fn set_len(&self, file: &File, len: u64) -> io::Result<()> {
            self.call("set_len").and_then(|()| Os.set_len(file, len))
        }

        fn sync(&self, file: &File) -> io::Result<()> {
            Os.sync(file)
        }

        fn sync_folder(&self, folder: &Path) -> io::Result<()> {
            self.call("sync_folder").and_then(|()| Os.sync_folder(folder))
        }

        fn sync_all(&self, file: &File) -> io::Result<()> {
            self.call("sync_all").and_then(|()| Os.sync_all(file))
        }

        fn remove(&self, path: &Path) -> io::Result<()> {
            self.call("remove").and_then(|()| Os.remove(path))
        }
    }

    #[test]
    fn a_removal_killed_at_any_step_leaves_a_whole_database_or_none() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("d.redb");
        let (mut whole, mut gone) = (0, 0);
        for step in 0..10 {
            create(&Os, &path).expect("made");
            let before = fs::read(&path).expect("reads");
            let system = Killed::before(step);
            if remove(&system, &path).is_ok() && system.left.get() > 0 {
                let order = ["open", "lock", "names", "remove", "sync_folder", "is_nameless", "set_len"];
                assert_eq!(*system.calls.borrow(), order);
                assert!(whole >= 4 && gone >= 1, "{whole} {gone}");
                return;
            }
            match fs::read(&path) {
                Ok(after) => {
                    assert!(after == before, "step {step}");
                    whole += 1;
                }
                Err(_) => gone += 1,
            }
            remove(&Os, &path).ok();
            assert!(!path.exists(), "step {step}: the next one finishes");
        }
        panic!("every step was met");
    }

    #[test]
    fn an_opening_that_waits_for_the_lock_gets_no_database_without_a_name() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("d.redb");
        create(&Os, &path).expect("made");
        let waits = Os.open(&path).expect("opens");
        remove(&Os, &path).expect("removed");
        assert_eq!(inspect(&waits).expect("reads"), Content::Empty);
    }

    #[test]
    fn another_hard_link_keeps_its_content() {
        let folder = tempfile::tempdir().expect("a folder");
        let (path, backup) = (folder.path().join("d.redb"), folder.path().join("backup.redb"));
        create(&Os, &path).expect("made");
        fs::hard_link(&path, &backup).expect("linked");
        remove(&Os, &path).expect("removed");
        assert_eq!(inspect(&File::open(&backup).expect("opens")).expect("reads"), Content::Redb);
    }
}
