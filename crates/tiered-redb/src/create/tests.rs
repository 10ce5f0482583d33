//! Creation when any of its calls fails, and when the process is killed at any of them.

use std::cell::{Cell, RefCell};

use tempfile::TempDir;

use super::*;
use crate::system::Os;

/// What happens to a call.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fate {
    /// It fails, and the process goes on.
    Fails,
    /// The process is killed before it: no further call is carried out.
    Killed,
    /// As `Killed`, and the first half of a write was carried out.
    Torn,
}

/// The operating system, with one call that fails.
struct Failing {
    /// Calls until then.
    left: Cell<usize>,
    fate: Fate,
    errno: i32,
    /// Calls that fail always, by name.
    never: &'static [&'static str],
    dead: Cell<bool>,
    calls: RefCell<Vec<&'static str>>,
    /// Every file that was locked, as a process has it that was started meanwhile.
    inherited: RefCell<Vec<File>>,
}

impl Failing {
    fn at(left: usize, fate: Fate, errno: i32) -> Self {
        let (dead, calls, inherited) = (Cell::new(false), RefCell::default(), RefCell::default());
        Self { left: Cell::new(left), fate, errno, never: &[], dead, calls, inherited }
    }

    fn without(never: &'static [&'static str], errno: i32) -> Self {
        Self { never, ..Self::at(usize::MAX, Fate::Fails, errno) }
    }

    fn call(&self, name: &'static str) -> io::Result<()> {
        self.calls.borrow_mut().push(name);
        let failed = Err(io::Error::from_raw_os_error(self.errno));
        if self.dead.get() || self.never.contains(&name) {
            return failed;
        }
        if self.left.replace(self.left.get().wrapping_sub(1)) == 0 {
            self.dead.set(self.fate != Fate::Fails);
            return failed;
        }
        Ok(())
    }
}

impl System for Failing {
    fn create_new(&self, path: &Path) -> io::Result<File> {
        self.call("create").and_then(|()| Os.create_new(path))
    }

    fn open(&self, path: &Path) -> io::Result<File> {
        self.call("open").and_then(|()| Os.open(path))
    }

    fn lock(&self, file: &File) -> io::Result<Option<Lock>> {
        self.call("lock")?;
        self.inherited.borrow_mut().push(file.try_clone()?);
        Os.lock(file)
    }

    fn names(&self, path: &Path, file: &File) -> io::Result<bool> {
        self.call("names").and_then(|()| Os.names(path, file))
    }

    fn is_nameless(&self, file: &File) -> io::Result<bool> {
        self.call("is_nameless").and_then(|()| Os.is_nameless(file))
    }

    fn write_at(&self, file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
        let alive = !self.dead.get();
        self.call("write").inspect_err(|_| {
            if alive && self.fate == Fate::Torn {
                Os.write_at(file, bytes.get(..bytes.len() / 2).unwrap_or_default(), offset).expect("written");
            }
        })?;
        Os.write_at(file, bytes, offset)
    }

    fn set_len(&self, file: &File, len: u64) -> io::Result<()> {
        self.call("set_len").and_then(|()| Os.set_len(file, len))
    }

    fn sync(&self, file: &File) -> io::Result<()> {
        self.call("sync").and_then(|()| Os.sync(file))
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

/// A folder, and a file in it: absent, or empty and there before.
fn place(is_there: bool) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("d.redb");
    if is_there {
        File::create(&path).expect("made");
    }
    (folder, path)
}

fn content(path: &Path) -> Content {
    inspect(&File::open(path).expect("opens")).expect("reads")
}

fn count(folder: &TempDir) -> usize {
    fs::read_dir(folder.path()).expect("reads").count()
}

/// ENOSPC.
const FULL: i32 = 28;
/// EBADF.
const NO_FLOCK: i32 = 9;
/// EIO.
const BROKEN: i32 = 5;
/// EPERM.
const FORBIDDEN: i32 = 1;

#[test]
fn the_image_of_a_new_file_is_deterministic_and_a_valid_database() {
    let image_one = image().expect("made");
    assert!(image_one == image().expect("made"));
    assert!(image_one.starts_with(&MAGIC));
    assert!(image_one.get(..512).expect("a sector").len() > DRAFT_AT + DRAFT.len());
}

#[test]
fn a_creation_killed_at_any_step_is_completed_by_the_next_open() {
    for is_there in [false, true] {
        for fate in [Fate::Killed, Fate::Torn] {
            let mut finished = false;
            for step in 0..40 {
                let (folder, path) = place(is_there);
                let system = Failing::at(step, fate, FULL);
                if create(&system, &path).is_ok() {
                    finished = true;
                    break;
                }
                assert!(count(&folder) <= 1, "step {step}: another file was made");
                create(&Os, &path).unwrap_or_else(|error| panic!("step {step}: {}", error.chain()));
                assert!(fs::read(&path).expect("reads") == image().expect("made"), "step {step}");
            }
            assert!(finished, "every step was met");
        }
    }
}

#[test]
fn a_failed_creation_leaves_the_folder_unchanged() {
    for is_there in [false, true] {
        let mut failures = 0;
        for step in 0..40 {
            let (folder, path) = place(is_there);
            let Err(error) = create(&Failing::at(step, Fate::Fails, FULL), &path) else { continue };
            failures += 1;
            assert!(!matches!(error.kind(), ErrorKind::Other | ErrorKind::Corrupt), "{}", error.chain());
            if is_there {
                assert_eq!(content(&path), Content::Empty, "step {step}");
            } else {
                // What was made before its lock was looked at is empty, and filled by the next opening.
                assert!(count(&folder) == 0 || content(&path) == Content::Empty, "step {step}");
            }
        }
        assert!(failures >= 9, "{failures}");
    }
}

#[test]
fn a_child_process_does_not_keep_the_lock() {
    let (_folder, path) = place(false);
    let system = Failing::at(usize::MAX, Fate::Fails, FULL);
    create(&system, &path).expect("made");
    assert_eq!(system.inherited.borrow().len(), 1);
    Builder::new().open(&path).expect("nothing holds it");
}

#[test]
fn a_creation_on_a_full_disk_reports_it_and_frees_its_space() {
    let (folder, path) = place(false);
    let error = create(&Failing::without(&["write"], FULL), &path).expect_err("no room");
    assert_eq!(error.kind(), ErrorKind::Full, "{}", error.chain());
    assert_eq!(count(&folder), 0);
}

#[test]
fn on_a_file_system_that_cannot_sync_folders_everything_is_synced() {
    // NFS and some FUSE: a folder is not synced. The whole file system is, then.
    let (_folder, path) = place(false);
    let system = Failing::without(&["sync_folder"], NO_FLOCK);
    create(&system, &path).expect("made");
    assert!(system.calls.borrow().contains(&"sync_all"));
    assert_eq!(content(&path), Content::Redb);
    // A disk that failed is not asked again.
    let (folder, path) = place(false);
    let system = Failing::without(&["sync_folder"], BROKEN);
    create(&system, &path).expect_err("the disk failed");
    assert!(!system.calls.borrow().contains(&"sync_all"));
    assert_eq!(count(&folder), 0);
}

#[test]
fn on_a_file_system_without_locks_a_new_file_is_created_and_an_existing_one_is_refused() {
    let (_folder, path) = place(false);
    create(&Failing::without(&["lock"], NO_FLOCK), &path).expect("made");
    assert_eq!(content(&path), Content::Redb);
    let (_folder, path) = place(true);
    let error = create(&Failing::without(&["lock"], FORBIDDEN), &path).expect_err("no locks");
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.chain().contains("locked") && error.chain().contains("os error 1"), "{}", error.chain());
    assert_eq!(content(&path), Content::Empty);
}

#[test]
fn concurrent_creations_of_a_file_exclude_each_other() {
    let (_folder, path) = place(true);
    let other = Os.open(&path).expect("opens");
    let lock = Os.lock(&other).expect("locks").expect("free");
    let error = create(&Os, &path).expect_err("locked");
    assert_eq!(error.kind(), ErrorKind::Locked);
    drop(lock);
    create(&Os, &path).expect("free");
    let before = fs::read(&path).expect("reads");
    create(&Os, &path).expect("finished already");
    assert!(fs::read(&path).expect("reads") == before);
}
