//! An engine over maps in memory, whose disk can be made to fail: also the shortest example of an engine.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::ThreadId;
use std::time::Duration;

use parking_lot::Mutex;
use tiered_core::{Error, ErrorKind, Outcome, Result};
use tiered_embedded::{Engine, Opening, Table, Transaction, View, Visit};

type Tables = BTreeMap<(u8, Vec<u8>), Vec<u8>>;

/// What lasts when the engine is closed.
#[derive(Default)]
pub(crate) struct Disk {
    tables: Mutex<Tables>,
    locked: AtomicBool,
    pub(crate) commits: AtomicU64,
    pub(crate) openings: AtomicU64,
    /// Commits that will fail, before anything is stored.
    pub(crate) failures: AtomicU64,
    /// The most bytes of keys and values, marks apart, that a commit has left.
    pub(crate) largest: AtomicU64,
    /// How long a commit takes, and closing, in milliseconds.
    pub(crate) slowness: AtomicU64,
    /// How long each look-up of a record takes, in milliseconds.
    pub(crate) look_up: AtomicU64,
    /// The threads that reads ran on, one for each view.
    pub(crate) readers: Mutex<Vec<ThreadId>>,
}

impl Disk {
    pub(crate) fn open(self: &Arc<Self>, _: Opening) -> Result<Box<dyn Engine>> {
        if self.locked.swap(true, Ordering::AcqRel) {
            return Err(Error::new(ErrorKind::Locked, "the maps are open elsewhere; close them there"));
        }
        self.openings.fetch_add(1, Ordering::Relaxed);
        Ok(Box::new(MapEngine(Arc::clone(self))))
    }

    /// Changes a byte of every value of `table`.
    pub(crate) fn damage(&self, table: Table) {
        for ((_, _), value) in self.tables.lock().iter_mut().filter(|((number, _), _)| *number == id(table)) {
            if let Some(byte) = value.last_mut() {
                *byte ^= 1;
            }
        }
    }

    /// What a process that is killed now leaves.
    pub(crate) fn copy(&self) -> Self {
        Self { tables: Mutex::new(self.tables.lock().clone()), ..Self::default() }
    }

    /// Whether no engine has it open.
    pub(crate) fn is_free(&self) -> bool {
        !self.locked.load(Ordering::Acquire)
    }

    /// The threads that have read since the last call.
    pub(crate) fn take_readers(&self) -> Vec<ThreadId> {
        std::mem::take(&mut self.readers.lock())
    }

    /// Pairs of `table`.
    pub(crate) fn pairs(&self, table: Table) -> usize {
        self.tables.lock().keys().filter(|(number, _)| *number == id(table)).count()
    }
}

struct MapEngine(Arc<Disk>);

impl Drop for MapEngine {
    fn drop(&mut self) {
        self.0.locked.store(false, Ordering::Release);
    }
}

struct Tabled(Tables, Duration);

fn id(table: Table) -> u8 {
    match table {
        Table::Meta => 0,
        Table::Chunks => 1,
        Table::Marks => 2,
    }
}

impl View for Tabled {
    fn get(&self, table: Table, key: &[u8], visit: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<bool> {
        std::thread::sleep(self.1);
        match self.0.get(&(id(table), key.to_vec())) {
            Some(value) => visit(value).map(|()| true),
            None => Ok(false),
        }
    }

    fn scan(&self, table: Table, from: Bound<&[u8]>, to: Option<&[u8]>, visit: &mut Visit<'_>) -> Result<()> {
        let inside = |key: &[u8]| {
            let begun = match from {
                Bound::Unbounded => true,
                Bound::Included(from) => key >= from,
                Bound::Excluded(from) => key > from,
            };
            begun && to.is_none_or(|to| key < to)
        };
        let pairs = self.0.iter().filter(|((number, key), _)| *number == id(table) && inside(key));
        for ((_, key), value) in pairs {
            if visit(key, value)?.is_break() {
                break;
            }
        }
        Ok(())
    }
}

impl Transaction for Tabled {
    fn put(&mut self, table: Table, key: &[u8], value: &[u8]) -> Result<()> {
        self.0.insert((id(table), key.to_vec()), value.to_vec());
        Ok(())
    }

    fn delete(&mut self, table: Table, key: &[u8]) -> Result<()> {
        self.0.remove(&(id(table), key.to_vec()));
        Ok(())
    }
}

impl Engine for MapEngine {
    fn read(&self, run: &mut dyn FnMut(&dyn View) -> Result<()>) -> Result<()> {
        self.0.readers.lock().push(std::thread::current().id());
        let look_up = Duration::from_millis(self.0.look_up.load(Ordering::Relaxed));
        run(&Tabled(self.0.tables.lock().clone(), look_up))
    }

    fn write(&self, _: bool, run: &mut dyn FnMut(&mut dyn Transaction) -> Result<()>) -> Result<()> {
        std::thread::sleep(Duration::from_millis(self.0.slowness.load(Ordering::Relaxed)));
        let mut tables = Tabled(self.0.tables.lock().clone(), Duration::ZERO);
        run(&mut tables).map_err(|error| error.outcome_is(Outcome::NotApplied))?;
        let failures = self.0.failures.load(Ordering::Relaxed);
        if failures > 0 {
            self.0.failures.store(failures - 1, Ordering::Relaxed);
            return Err(Error::new(ErrorKind::Unavailable, "the disk failed").outcome_is(Outcome::Unknown));
        }
        let of_entries = tables.0.iter().filter(|((number, _), _)| *number != id(Table::Marks));
        let bytes: usize = of_entries.map(|((_, key), value)| key.len() + value.len()).sum();
        self.0.largest.fetch_max(bytes as u64, Ordering::Relaxed);
        *self.0.tables.lock() = tables.0;
        self.0.commits.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    fn close(self: Box<Self>) -> Result<()> {
        std::thread::sleep(Duration::from_millis(self.0.slowness.load(Ordering::Relaxed)));
        Ok(())
    }
}
