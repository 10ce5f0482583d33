//! What adapters need when they open a place: a runtime, and patience with locks of their own process.
//!
//! A store that is dropped releases its place a little later: a thread has to end, or a commit. An opening of the same
//! place in this process would find it locked, with no store left to close. So every place that this process holds is
//! listed here, from the moment when it is locked to the moment when the lock is released.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use crate::error::{Error, ErrorKind, Result};
use crate::marks::{SET_BY_OPENINGS, within_prefix};
use crate::sync_primitives::Handle;

/// How long an opening waits for a place that is in use in this process. A stack that was dropped takes a few
/// milliseconds to drop its tiers; a place that is really in use is told as locked after this.
const IN_USE: Duration = Duration::from_millis(250);

/// How long an opening waits for a place that is being let go: until a last commit is on disk.
const LEAVING: Duration = Duration::from_secs(2);

/// The places that this process holds. A lock is the process's, so is this list.
static HELD: Mutex<Vec<Arc<Entry>>> = Mutex::new(Vec::new());
static CHANGED: Condvar = Condvar::new();

#[derive(Debug)]
struct Entry {
    place: PlaceId,
    leaving: AtomicBool,
}

/// The tokio runtime that the caller runs in.
///
/// # Errors
/// [`ErrorKind::Config`] where there is none.
///
/// # Examples
/// ```
/// let error = tiered_core::adapter::opening::runtime().expect_err("there is none here");
/// assert_eq!(error.kind(), tiered_core::ErrorKind::Config);
/// ```
pub fn runtime() -> Result<Handle> {
    Handle::try_current().map_err(|error| {
        let message = "there is no tokio runtime here; call this inside one, such as under #[tokio::main]";
        Error::new(ErrorKind::Config, message).with_source(error)
    })
}

/// What was at a place before a store was made there. [`is_set_by_openings`] helps to tell whether the store was used since.
///
/// # Examples
/// ```
/// use tiered_core::adapter::opening::Before;
///
/// let folder = std::env::temp_dir();
/// assert_eq!(Before::at(&folder.join("no-such-place")), Before::Absent);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Before {
    /// Nothing: a store that is taken back leaves nothing.
    Absent,
    /// An empty file or folder that the user had made, perhaps with rights of its own: it is left as empty as it was.
    Empty,
}

impl Before {
    /// What a store will find at `path`, if it can be made there at all.
    pub fn at(path: &Path) -> Self {
        if path.exists() { Self::Empty } else { Self::Absent }
    }
}

/// Whether an opening sets a mark of this name by itself. A store with no other marks and no keys was never used, unless a
/// user of it has it open now.
///
/// # Examples
/// ```
/// use tiered_core::adapter::opening::is_set_by_openings;
///
/// assert!(is_set_by_openings("tiered.identity"));
/// assert!(!is_set_by_openings("tiered.journals"), "a journal holds writes for the store");
/// ```
pub fn is_set_by_openings(mark: &str) -> bool {
    SET_BY_OPENINGS.contains(&within_prefix(mark))
}

/// What tells one file or folder from another, whatever its names.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PlaceId(Identity);

#[cfg(unix)]
type Identity = (u64, u64);
#[cfg(not(unix))]
type Identity = std::path::PathBuf;

impl PlaceId {
    /// The file or folder at `path`; that which a link points to.
    ///
    /// # Errors
    /// Those of the operating system.
    pub fn of(path: &Path) -> io::Result<Self> {
        #[cfg(unix)]
        return std::fs::metadata(path).map(|found| {
            use std::os::unix::fs::MetadataExt as _;
            Self((found.dev(), found.ino()))
        });
        #[cfg(not(unix))]
        std::fs::canonicalize(path).map(Self)
    }
}

/// Says that this process holds a place. Drop it when the lock is released, not before.
#[derive(Debug)]
pub struct Held(Arc<Entry>);

impl Held {
    /// Lists a place that was just locked.
    pub fn new(place: PlaceId) -> Self {
        let entry = Arc::new(Entry { place, leaving: AtomicBool::new(false) });
        HELD.lock().push(Arc::clone(&entry));
        Self(entry)
    }

    /// Says that the place is being let go: openings wait longer for it from now on.
    pub fn leave(&self) {
        let held = HELD.lock();
        self.0.leaving.store(true, Ordering::Relaxed);
        drop(held);
        CHANGED.notify_all();
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        HELD.lock().retain(|entry| !Arc::ptr_eq(entry, &self.0));
        CHANGED.notify_all();
    }
}

/// Runs `open`, again where it found the place at `path` locked and this process has let it go meanwhile. Waits at
/// most 2 s for a place that is being let go, 250 ms for one that is in use in this process, and not at all for one
/// that another process holds. Blocks.
///
/// # Errors
/// Those of `open`.
pub fn open_patiently<T>(path: &Path, mut open: impl FnMut() -> Result<T>) -> Result<T> {
    let begun = begin();
    loop {
        // Asked first: what is let go between the attempt and the question was held by us as well.
        let was_ours = PlaceId::of(path).is_ok_and(|place| is_held(&place));
        let error = match open() {
            Err(error) if error.kind() == ErrorKind::Locked => error,
            opened => return opened,
        };
        let Ok(place) = PlaceId::of(path) else { return Err(error) };
        let ours = was_ours || is_held(&place);
        if !ours || !wait(&place, begun) {
            return Err(error);
        }
    }
}

#[allow(clippy::disallowed_methods, reason = "a lock of the operating system has no injected clock")]
fn begin() -> Instant {
    Instant::now()
}

fn is_held(place: &PlaceId) -> bool {
    is_leaving(&HELD.lock(), place).is_some()
}

/// Whether a place is being let go; `None` where this process does not hold it.
fn is_leaving(held: &[Arc<Entry>], place: &PlaceId) -> Option<bool> {
    let entry = held.iter().find(|entry| entry.place == *place)?;
    Some(entry.leaving.load(Ordering::Relaxed))
}

/// Waits until this process does not hold the place; whether that was in time.
fn wait(place: &PlaceId, begun: Instant) -> bool {
    let mut held = HELD.lock();
    loop {
        let patience = match is_leaving(&held, place) {
            // Another opening may have it by now: then the next attempt finds it listed.
            None => return begun.elapsed() < LEAVING,
            Some(true) => LEAVING,
            Some(false) => IN_USE,
        };
        if begun.elapsed() >= patience {
            return false;
        }
        CHANGED.wait_until(&mut held, begun + patience);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU32;
    use std::thread;

    use super::*;

    fn locked() -> Result<()> {
        Err(Error::new(ErrorKind::Locked, "held"))
    }

    /// An opening of a place that is locked for as long as it is listed.
    fn open(path: &Path, attempts: &AtomicU32) -> Result<()> {
        open_patiently(path, || {
            attempts.fetch_add(1, Ordering::Relaxed);
            if is_held(&PlaceId::of(path).expect("there")) { locked() } else { Ok(()) }
        })
    }

    #[test]
    fn a_lock_held_by_another_process_fails_at_once() {
        let attempts = AtomicU32::new(0);
        let opened = open_patiently(Path::new("."), || {
            attempts.fetch_add(1, Ordering::Relaxed);
            locked()
        });
        assert_eq!(opened.expect_err("locked").kind(), ErrorKind::Locked);
        assert_eq!(attempts.into_inner(), 1);
    }

    #[test]
    fn a_place_in_use_is_locked_and_opening_waits_for_one_that_is_being_released() {
        // Folders that no other test holds.
        let (used, left) = (Path::new("src/slot"), Path::new("src/sync"));
        let held = Held::new(PlaceId::of(used).expect("there"));
        let attempts = AtomicU32::new(0);
        assert_eq!(open(used, &attempts).expect_err("in use").kind(), ErrorKind::Locked);
        drop(held);
        open(used, &attempts).expect("free");
        let held = Held::new(PlaceId::of(left).expect("there"));
        held.leave();
        let begun = begin();
        let releases = thread::spawn(move || {
            thread::sleep(IN_USE * 2);
            drop(held);
        });
        open(left, &attempts).expect("let go");
        assert!(begun.elapsed() >= IN_USE, "it was waited for");
        releases.join().expect("ends");
    }
}
