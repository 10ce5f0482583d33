//! RocksDB, by itself, with the options of the adapter of tiered that matter for its speed.

use std::path::Path;
use std::sync::Arc;

use ::rocksdb::{BlockBasedOptions, Cache, DB, DBCompressionType, Options, WriteBatch, WriteOptions};
use anyhow::{Result, bail, ensure};
use bytes::Bytes;

use super::{Peer, record};
use crate::workload::{Name, Workload};

/// Bytes of the block cache and of the memtables, as the adapter has them without settings.
const MEMORY: usize = 64 << 20;

/// Opens a folder, and creates it where it is absent.
pub fn open(path: &Path) -> Result<DB> {
    let mut blocks = BlockBasedOptions::default();
    blocks.set_block_cache(&Cache::new_lru_cache(MEMORY));
    blocks.set_cache_index_and_filter_blocks(true);
    blocks.set_bloom_filter(10.0, false);
    blocks.set_block_size(16 << 10);
    let mut options = Options::default();
    options.create_if_missing(true);
    options.set_db_write_buffer_size(MEMORY);
    options.set_compression_type(DBCompressionType::Lz4);
    options.set_block_based_table_factory(&blocks);
    Ok(DB::open(&options, path)?)
}

/// A database of records that is read on the thread that asks.
#[derive(Clone, Debug)]
pub struct RawRocksdb(Arc<DB>);

impl RawRocksdb {
    /// A new database with every key of the workload.
    pub fn filled(path: &Path, workload: &Workload) -> Result<Self> {
        let database = open(path)?;
        for names in workload.names.chunks(1000) {
            let mut batch = WriteBatch::default();
            for name in names {
                batch.put(name.text.as_bytes(), record::write(&name.text, &workload.value)?);
            }
            database.write(batch)?;
        }
        Ok(Self(Arc::new(database)))
    }

    /// An empty database.
    pub fn create(path: &Path) -> Result<Self> {
        Ok(Self(Arc::new(open(path)?)))
    }

    /// Writes records as one batch, and syncs the log; how many they were.
    pub fn write(&self, entries: &mut dyn Iterator<Item = Result<(String, Bytes)>>) -> Result<u64> {
        let (mut batch, mut count) = (WriteBatch::default(), 0);
        for entry in entries {
            let (key, value) = entry?;
            batch.put(key.as_bytes(), record::write(&key, &value)?);
            count += 1;
        }
        let mut options = WriteOptions::default();
        options.set_sync(true);
        self.0.write_opt(batch, &options)?;
        Ok(count)
    }
}

impl Peer for RawRocksdb {
    async fn get(&self, name: &Name) -> Result<Option<usize>> {
        let value = self.0.get_pinned(name.text.as_bytes())?;
        Ok(value.map(|record| record::read(&name.text, &record)).transpose()?.map(|value| value.len()))
    }

    async fn put(&self, _: &Name, _: Bytes) -> Result<()> {
        bail!("it is only read")
    }

    async fn get_many(&self, names: &[&Name]) -> Result<usize> {
        let found = self.0.multi_get(names.iter().map(|name| name.text.as_bytes()));
        let mut count = 0;
        for (name, found) in names.iter().zip(found) {
            if let Some(record) = found? {
                ensure!(!record::read(&name.text, &record)?.is_empty(), "a value is empty");
                count += 1;
            }
        }
        Ok(count)
    }
}
