//! RocksDB as an engine.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::ops::Bound;
use std::path::PathBuf;

use rocksdb::{
    BlockBasedOptions, Cache, ColumnFamily, DB, DBCompressionType, DBRecoveryMode, FlushOptions, InfoLogger,
    LogLevel, Options, ReadOptions, ReadTier, Snapshot, WriteBatch, WriteOptions,
};
use tiered_core::{Error, ErrorKind, Outcome, Result};
use tiered_embedded::{Access, Engine, Table, Transaction, View, Visit, io_error};

use crate::config::RocksdbConfig;
use crate::error::map;
use crate::seal;

pub(crate) const META: &str = "tiered-meta";
pub(crate) const CHUNKS: &str = "tiered-chunks";
pub(crate) const MARKS: &str = "tiered-marks";

/// Table files that are kept open at a time.
const OPEN_FILES: i32 = 1024;

/// Bits of bloom filter for each key: one absent key in a hundred reads a block.
const BLOOM_BITS: f64 = 10.0;

/// The whole database's options.
pub(crate) fn options(config: &RocksdbConfig) -> Options {
    let mut options = Options::default();
    options.create_if_missing(true);
    options.create_missing_column_families(true);
    // RocksDB's default silently ignores everything after the first damage in a log.
    options.set_wal_recovery_mode(DBRecoveryMode::TolerateCorruptedTailRecords);
    options.set_track_and_verify_wals_in_manifest(true);
    options.set_max_open_files(OPEN_FILES);
    options.set_db_write_buffer_size(config.write_buffer);
    options.set_bytes_per_sync(1 << 20);
    options.set_stats_dump_period_sec(0);
    options.set_info_logger(logger());
    options
}

/// The options of a column family; that of the chunks keeps its values in blob files.
pub(crate) fn family_options(cache: &Cache, blobs: bool) -> Options {
    let mut blocks = BlockBasedOptions::default();
    blocks.set_block_cache(cache);
    blocks.set_cache_index_and_filter_blocks(true);
    blocks.set_cache_index_and_filter_blocks_with_high_priority(true);
    blocks.set_pin_l0_filter_and_index_blocks_in_cache(true);
    blocks.set_bloom_filter(BLOOM_BITS, false);
    blocks.set_block_size(16 << 10);
    let mut options = Options::default();
    options.set_block_based_table_factory(&blocks);
    options.set_compression_type(DBCompressionType::Lz4);
    options.set_bottommost_compression_type(DBCompressionType::Zstd);
    if blobs {
        options.set_enable_blob_files(true);
        options.set_min_blob_size(4 << 10);
        options.set_blob_compression_type(DBCompressionType::Lz4);
        options.set_enable_blob_gc(true);
        options.set_blob_cache(cache);
    }
    options
}

/// Forwards RocksDB's log to `tracing`.
pub(crate) fn logger() -> InfoLogger {
    InfoLogger::new_callback_logger(LogLevel::Info, |level, message| {
        let message = message.trim_end();
        match level {
            LogLevel::Warn => tracing::warn!(target: "rocksdb", "{message}"),
            LogLevel::Error | LogLevel::Fatal => tracing::error!(target: "rocksdb", "{message}"),
            _ => tracing::debug!(target: "rocksdb", "{message}"),
        }
    })
}

/// An open database of ours.
pub(crate) struct RocksdbEngine {
    database: DB,
    folder: PathBuf,
    access: Access,
}

impl RocksdbEngine {
    pub(crate) fn new(database: DB, folder: PathBuf, access: Access) -> Self {
        Self { database, folder, access }
    }

    pub(crate) fn database(&self) -> &DB {
        &self.database
    }
}

fn family(database: &DB, table: Table) -> Result<&ColumnFamily> {
    let name = match table {
        Table::Meta => META,
        Table::Chunks => CHUNKS,
        Table::Marks => MARKS,
    };
    database.cf_handle(name).ok_or_else(|| {
        Error::new(ErrorKind::Corrupt, format!("the column family {name} is missing; restore the database"))
    })
}

/// What a view sees and how far it may go for it.
struct Reading<'e> {
    database: &'e DB,
    /// `None` for the writer, which is the only one.
    snapshot: Option<Snapshot<'e>>,
    options: ReadOptions,
    /// Whether something was not in memory, where nothing else was to be looked at.
    blocked: Cell<bool>,
}

impl<'e> Reading<'e> {
    fn new(database: &'e DB, snapshot: Option<Snapshot<'e>>, tier: ReadTier) -> Self {
        let mut options = ReadOptions::default();
        if let Some(snapshot) = &snapshot {
            options.set_snapshot(snapshot);
        }
        options.set_read_tier(tier);
        Self { database, snapshot, options, blocked: Cell::new(false) }
    }

    fn failed(&self, error: rocksdb::Error) -> Error {
        if error.kind() == rocksdb::ErrorKind::Incomplete {
            self.blocked.set(true);
        }
        map(error)
    }
}

impl View for Reading<'_> {
    fn get(&self, table: Table, key: &[u8], visit: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<bool> {
        let family = family(self.database, table)?;
        match self.database.get_pinned_cf_opt(family, key, &self.options) {
            Ok(Some(value)) => visit(&value).map(|()| true),
            Ok(None) => Ok(false),
            Err(error) => Err(self.failed(error)),
        }
    }

    fn get_many(
        &self,
        table: Table,
        keys: &[&[u8]],
        visit: &mut dyn FnMut(usize, &[u8]) -> Result<()>,
    ) -> Result<()> {
        let family = family(self.database, table)?;
        let found =
            self.database.batched_multi_get_cf_opt(family, keys.iter().copied(), false, &self.options);
        for (index, value) in found.into_iter().enumerate() {
            if let Some(value) = value.map_err(|error| self.failed(error))? {
                visit(index, &value)?;
            }
        }
        Ok(())
    }

    fn scan(&self, table: Table, from: Bound<&[u8]>, to: Option<&[u8]>, visit: &mut Visit<'_>) -> Result<()> {
        let mut options = ReadOptions::default();
        if let Some(snapshot) = &self.snapshot {
            options.set_snapshot(snapshot);
        }
        if let Some(to) = to {
            options.set_iterate_upper_bound(to);
        }
        let mut pairs = self.database.raw_iterator_cf_opt(family(self.database, table)?, options);
        match from {
            Bound::Unbounded => pairs.seek_to_first(),
            Bound::Included(from) => pairs.seek(from),
            Bound::Excluded(from) => {
                pairs.seek(from);
                if pairs.key() == Some(from) {
                    pairs.next();
                }
            }
        }
        while let Some((key, value)) = pairs.item() {
            if visit(key, value)?.is_break() {
                return Ok(());
            }
            pairs.next();
        }
        // The end, or an error that looks like it.
        pairs.status().map_err(|error| self.failed(error))
    }
}

/// What is to be written in one piece.
struct Writing<'e> {
    base: Reading<'e>,
    batch: WriteBatch,
    /// Records of this transaction; `None` where removed.
    records: BTreeMap<Vec<u8>, Option<Vec<u8>>>,
}

impl View for Writing<'_> {
    fn get(&self, table: Table, key: &[u8], visit: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<bool> {
        match self.records.get(key).filter(|_| table == Table::Meta) {
            Some(Some(value)) => visit(value).map(|()| true),
            Some(None) => Ok(false),
            None => self.base.get(table, key, visit),
        }
    }

    fn scan(&self, table: Table, from: Bound<&[u8]>, to: Option<&[u8]>, visit: &mut Visit<'_>) -> Result<()> {
        self.base.scan(table, from, to, visit)
    }
}

impl Transaction for Writing<'_> {
    fn put(&mut self, table: Table, key: &[u8], value: &[u8]) -> Result<()> {
        self.batch.put_cf(family(self.base.database, table)?, key, value);
        if table == Table::Meta {
            self.records.insert(key.to_vec(), Some(value.to_vec()));
        }
        Ok(())
    }

    fn delete(&mut self, table: Table, key: &[u8]) -> Result<()> {
        self.batch.delete_cf(family(self.base.database, table)?, key);
        if table == Table::Meta {
            self.records.insert(key.to_vec(), None);
        }
        Ok(())
    }
}

impl Engine for RocksdbEngine {
    fn read(&self, run: &mut dyn FnMut(&dyn View) -> Result<()>) -> Result<()> {
        run(&Reading::new(&self.database, Some(self.database.snapshot()), ReadTier::All))
    }

    fn read_cached(&self, run: &mut dyn FnMut(&dyn View) -> Result<()>) -> Option<Result<()>> {
        let view = Reading::new(&self.database, Some(self.database.snapshot()), ReadTier::BlockCache);
        let result = run(&view);
        (!view.blocked.get()).then_some(result)
    }

    fn write(&self, durable: bool, run: &mut dyn FnMut(&mut dyn Transaction) -> Result<()>) -> Result<()> {
        let base = Reading::new(&self.database, None, ReadTier::All);
        let mut writing = Writing { base, batch: WriteBatch::default(), records: BTreeMap::new() };
        run(&mut writing).map_err(|error| error.outcome_is(Outcome::NotApplied))?;
        let unknown = |error| map(error).outcome_is(Outcome::Unknown);
        if writing.batch.is_empty() {
            return if durable { self.database.flush_wal(true).map_err(unknown) } else { Ok(()) };
        }
        let mut options = WriteOptions::default();
        options.set_sync(durable);
        self.database.write_opt(writing.batch, &options).map_err(unknown)
    }

    fn close(self: Box<Self>) -> Result<()> {
        if self.access == Access::ReadOnly {
            self.database.cancel_all_background_work(true);
            return Ok(());
        }
        let families = [Table::Meta, Table::Chunks, Table::Marks].map(|table| family(&self.database, table));
        let families: Vec<&ColumnFamily> = families.into_iter().flatten().collect();
        let flushed = self.database.flush_cfs_opt(&families, &FlushOptions::default()).map_err(map);
        let synced = self.database.flush_wal(true).map_err(map);
        // Otherwise dropping it may abort the process, or leave the lock behind.
        self.database.cancel_all_background_work(true);
        let Self { database, folder, .. } = *self;
        drop(database);
        flushed.and(synced)?;
        seal::set(&folder).map_err(io_error)
    }
}
