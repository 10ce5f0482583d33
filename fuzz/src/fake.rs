//! An embedded engine that is maps in memory, into which a target writes what it likes.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use parking_lot::Mutex;
use tiered_core::adapter::Stamp;
use tiered_core::{Durability, Outcome, Result};
use tiered_embedded::{EmbeddedStore, Engine, Executor, Settings, Table, Transaction, View, Visit};

/// One map for each table.
#[derive(Clone, Default)]
struct Tables([BTreeMap<Vec<u8>, Vec<u8>>; 3]);

impl Tables {
    fn of(&self, table: Table) -> &BTreeMap<Vec<u8>, Vec<u8>> {
        &self.0[table as usize]
    }
}

/// What the engine keeps. Cloning shares it.
#[derive(Clone, Default)]
pub(crate) struct Disk(Arc<Mutex<Tables>>);

impl Disk {
    /// Puts bytes under a key, past the store.
    pub(crate) fn set(&self, table: Table, key: &[u8], value: &[u8]) {
        self.0.lock().0[table as usize].insert(key.to_vec(), value.to_vec());
    }

    /// The keys of a table.
    pub(crate) fn keys(&self, table: Table) -> Vec<Vec<u8>> {
        self.0.lock().of(table).keys().cloned().collect()
    }

    /// A store over it, all of whose calls run in the caller's poll.
    pub(crate) async fn open(&self, stamp: Stamp) -> Result<EmbeddedStore> {
        let settings =
            Settings::new("fake", "memory", Durability::PowerLoss).stamp(stamp).executor(Executor::Inline);
        let disk = self.clone();
        EmbeddedStore::open(settings, move |_| Ok(Box::new(disk.clone()))).await
    }
}

impl View for Tables {
    fn get(&self, table: Table, key: &[u8], visit: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<bool> {
        match self.of(table).get(key) {
            Some(value) => visit(value).map(|()| true),
            None => Ok(false),
        }
    }

    fn scan(&self, table: Table, from: Bound<&[u8]>, to: Option<&[u8]>, visit: &mut Visit<'_>) -> Result<()> {
        let pairs = self.of(table).range::<[u8], _>((from, Bound::Unbounded));
        for (key, value) in pairs.take_while(|(key, _)| to.is_none_or(|to| key.as_slice() < to)) {
            if visit(key, value)?.is_break() {
                break;
            }
        }
        Ok(())
    }
}

impl Transaction for Tables {
    fn put(&mut self, table: Table, key: &[u8], value: &[u8]) -> Result<()> {
        self.0[table as usize].insert(key.to_vec(), value.to_vec());
        Ok(())
    }

    fn delete(&mut self, table: Table, key: &[u8]) -> Result<()> {
        self.0[table as usize].remove(key);
        Ok(())
    }
}

impl Engine for Disk {
    fn read(&self, run: &mut dyn FnMut(&dyn View) -> Result<()>) -> Result<()> {
        run(&*self.0.lock())
    }

    fn write(&self, _: bool, run: &mut dyn FnMut(&mut dyn Transaction) -> Result<()>) -> Result<()> {
        let mut tables = self.0.lock().clone();
        run(&mut tables).map_err(|error| error.outcome_is(Outcome::NotApplied))?;
        *self.0.lock() = tables;
        Ok(())
    }

    fn close(self: Box<Self>) -> Result<()> {
        Ok(())
    }
}
