//! redb as an engine.

use std::cell::OnceCell;
use std::ops::Bound;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use redb::{
    Database, Durability, ReadOnlyDatabase, ReadOnlyTable, ReadTransaction, ReadableDatabase, ReadableTable,
    TableDefinition, WriteTransaction,
};
use tiered_core::{Error, ErrorKind, Outcome, Result};
use tiered_embedded::{Engine, Table, Transaction, View, Visit};

use crate::error::map;
use crate::open::contained;

type Definition = TableDefinition<'static, &'static [u8], &'static [u8]>;

const META: Definition = TableDefinition::new("meta");
const CHUNKS: Definition = TableDefinition::new("chunks");
const MARKS: Definition = TableDefinition::new("marks");

/// Without durability, one commit in this many goes to disk: only then can freed pages be reused.
const BUFFERED_COMMITS: u32 = 256;

/// With a capacity, so does the commit after as many new bytes as this part of it, and the file grows little beyond. Below the
/// limits syncs would be most of the work, and above them nothing is gained.
const PART: u64 = 16;
const LEAST_BUFFERED: u64 = 1 << 20;
const MOST_BUFFERED: u64 = 64 << 20;

/// Bytes of a page.
const PAGE: u64 = 4096;

/// An open database of ours.
pub(crate) struct RedbEngine {
    database: Database,
    /// Commits since the last that went to disk, and the bytes that they wrote anew.
    buffered: AtomicU32,
    buffered_bytes: AtomicU64,
    /// As many of these are enough for a commit that goes to disk.
    most_buffered: u64,
}

impl RedbEngine {
    /// With a capacity, commits go to disk before their pages are a large part of it.
    pub(crate) fn new(database: Database, capacity: Option<u64>) -> Self {
        let part = |capacity: u64| (capacity / PART).clamp(LEAST_BUFFERED, MOST_BUFFERED);
        Self {
            database,
            buffered: AtomicU32::new(0),
            buffered_bytes: AtomicU64::new(0),
            most_buffered: capacity.map_or(u64::MAX, part),
        }
    }
}

/// An open database of ours that is only read.
pub(crate) struct ReadOnlyEngine(ReadOnlyDatabase);

impl ReadOnlyEngine {
    pub(crate) fn new(database: ReadOnlyDatabase) -> Self {
        Self(database)
    }
}

/// Makes the tables, so that a read never finds them missing.
pub(crate) fn make_tables(transaction: &WriteTransaction) -> Result<()> {
    for table in [META, CHUNKS, MARKS] {
        transaction.open_table(table).map_err(map)?;
    }
    Ok(())
}

/// The three tables, open for writing.
struct Tables<T> {
    meta: T,
    chunks: T,
    marks: T,
}

impl<T> Tables<T> {
    fn open(open: impl Fn(Definition) -> Result<T>) -> Result<Self> {
        Ok(Self { meta: open(META)?, chunks: open(CHUNKS)?, marks: open(MARKS)? })
    }

    fn table(&self, table: Table) -> &T {
        match table {
            Table::Meta => &self.meta,
            Table::Chunks => &self.chunks,
            Table::Marks => &self.marks,
        }
    }

    fn table_mut(&mut self, table: Table) -> &mut T {
        match table {
            Table::Meta => &mut self.meta,
            Table::Chunks => &mut self.chunks,
            Table::Marks => &mut self.marks,
        }
    }
}

/// A transaction, and the bytes that it has written anew.
struct Writing<'t> {
    tables: Tables<redb::Table<'t, &'static [u8], &'static [u8]>>,
    /// Those of the pairs, and a page for each: a change of a pair makes a new page of the one it lies in.
    dirty: u64,
}

impl View for Writing<'_> {
    fn get(&self, table: Table, key: &[u8], visit: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<bool> {
        get(self.tables.table(table), key, visit)
    }

    fn scan(&self, table: Table, from: Bound<&[u8]>, to: Option<&[u8]>, visit: &mut Visit<'_>) -> Result<()> {
        scan(self.tables.table(table), from, to, visit)
    }
}

type ReadOnly = ReadOnlyTable<&'static [u8], &'static [u8]>;

/// What a read sees. Its tables are opened when they are used: opening one costs as much as a look-up.
struct Reading {
    transaction: ReadTransaction,
    meta: OnceCell<ReadOnly>,
    chunks: OnceCell<ReadOnly>,
    marks: OnceCell<ReadOnly>,
}

impl Reading {
    fn new(transaction: ReadTransaction) -> Self {
        Self { transaction, meta: OnceCell::new(), chunks: OnceCell::new(), marks: OnceCell::new() }
    }

    fn table(&self, table: Table) -> Result<&ReadOnly> {
        let (cell, definition) = match table {
            Table::Meta => (&self.meta, META),
            Table::Chunks => (&self.chunks, CHUNKS),
            Table::Marks => (&self.marks, MARKS),
        };
        if let Some(open) = cell.get() {
            return Ok(open);
        }
        let opened = self.transaction.open_table(definition).map_err(map)?;
        Ok(cell.get_or_init(|| opened))
    }
}

impl View for Reading {
    fn get(&self, table: Table, key: &[u8], visit: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<bool> {
        get(self.table(table)?, key, visit)
    }

    fn scan(&self, table: Table, from: Bound<&[u8]>, to: Option<&[u8]>, visit: &mut Visit<'_>) -> Result<()> {
        scan(self.table(table)?, from, to, visit)
    }
}

fn get(
    table: &impl ReadableTable<&'static [u8], &'static [u8]>,
    key: &[u8],
    visit: &mut dyn FnMut(&[u8]) -> Result<()>,
) -> Result<bool> {
    match table.get(key).map_err(map)? {
        Some(value) => visit(value.value()).map(|()| true),
        None => Ok(false),
    }
}

fn scan(
    table: &impl ReadableTable<&'static [u8], &'static [u8]>,
    from: Bound<&[u8]>,
    to: Option<&[u8]>,
    visit: &mut Visit<'_>,
) -> Result<()> {
    let to = to.map_or(Bound::Unbounded, Bound::Excluded);
    for found in table.range::<&[u8]>((from, to)).map_err(map)? {
        let (key, value) = found.map_err(map)?;
        if visit(key.value(), value.value())?.is_break() {
            break;
        }
    }
    Ok(())
}

impl Transaction for Writing<'_> {
    fn put(&mut self, table: Table, key: &[u8], value: &[u8]) -> Result<()> {
        self.dirty += PAGE + (key.len() + value.len()) as u64;
        self.tables.table_mut(table).insert(key, value).map_err(map)?;
        Ok(())
    }

    /// The engine has the old value at hand when it writes the new one.
    fn replace(
        &mut self,
        table: Table,
        key: &[u8],
        value: &[u8],
        visit: &mut dyn FnMut(&[u8]),
    ) -> Result<()> {
        self.dirty += PAGE + (key.len() + value.len()) as u64;
        if let Some(old) = self.tables.table_mut(table).insert(key, value).map_err(map)? {
            visit(old.value());
        }
        Ok(())
    }

    fn delete(&mut self, table: Table, key: &[u8]) -> Result<()> {
        self.dirty += PAGE;
        self.tables.table_mut(table).remove(key).map_err(map)?;
        Ok(())
    }
}

impl Engine for RedbEngine {
    fn read(&self, run: &mut dyn FnMut(&dyn View) -> Result<()>) -> Result<()> {
        read(&self.database, run)
    }

    fn write(&self, durable: bool, run: &mut dyn FnMut(&mut dyn Transaction) -> Result<()>) -> Result<()> {
        let buffered = self.buffered.load(Ordering::Relaxed);
        let bytes = self.buffered_bytes.load(Ordering::Relaxed);
        let durable = durable || buffered >= BUFFERED_COMMITS || bytes >= self.most_buffered;
        let mut dirty = 0;
        contained(|| {
            let mut before = || -> Result<WriteTransaction> {
                let mut transaction = self.database.begin_write().map_err(map)?;
                let durability = if durable { Durability::Immediate } else { Durability::None };
                transaction.set_durability(durability).map_err(map)?;
                // After a crash a torn commit can be told from a damaged one.
                transaction.set_two_phase_commit(durable);
                let tables = Tables::open(|table| transaction.open_table(table).map_err(map))?;
                let mut writing = Writing { tables, dirty: 0 };
                run(&mut writing)?;
                dirty = writing.dirty;
                drop(writing);
                Ok(transaction)
            };
            // Nothing is written before the commit: a failure until then leaves no trace.
            let transaction = before().map_err(|error: Error| error.outcome_is(Outcome::NotApplied))?;
            transaction.commit().map_err(|error| map(error).outcome_is(Outcome::Unknown))
        })?;
        self.buffered.store(if durable { 0 } else { buffered + 1 }, Ordering::Relaxed);
        self.buffered_bytes.store(if durable { 0 } else { bytes + dirty }, Ordering::Relaxed);
        Ok(())
    }

    fn close(self: Box<Self>) -> Result<()> {
        contained(|| self.database.close().map_err(map))
    }
}

impl Engine for ReadOnlyEngine {
    fn read(&self, run: &mut dyn FnMut(&dyn View) -> Result<()>) -> Result<()> {
        read(&self.0, run)
    }

    fn write(&self, _: bool, _: &mut dyn FnMut(&mut dyn Transaction) -> Result<()>) -> Result<()> {
        // The store refuses writes before.
        Err(Error::new(ErrorKind::PermissionDenied, "the database is open for reading only")
            .outcome_is(Outcome::NotApplied))
    }

    fn close(self: Box<Self>) -> Result<()> {
        contained(|| self.0.close().map_err(map))
    }
}

fn read(database: &impl ReadableDatabase, run: &mut dyn FnMut(&dyn View) -> Result<()>) -> Result<()> {
    contained(|| run(&Reading::new(database.begin_read().map_err(map)?)))
}
