//! redb, by itself: a transaction for each write, on the thread that asks.

use std::path::Path;
use std::sync::Arc;

use ::redb::{Database, Durability, ReadableDatabase as _, ReadableTable as _, TableDefinition};
use anyhow::{Result, bail};
use bytes::Bytes;

use super::{Peer, record};
use crate::workload::{Name, Workload};

/// The one table.
pub const TABLE: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("entries");

/// A database, every write of which is durable. Writes go through a blocking thread, as a service would have it.
#[derive(Clone, Debug)]
pub struct RawRedb(Arc<Database>);

impl RawRedb {
    /// Opens the file, and creates it where it is absent.
    pub fn open(path: &Path) -> Result<Self> {
        let database = Database::create(path)?;
        let write = database.begin_write()?;
        write.open_table(TABLE)?;
        write.commit()?;
        Ok(Self(Arc::new(database)))
    }

    /// Opens a file that is there.
    pub fn reopen(path: &Path) -> Result<Self> {
        Ok(Self(Arc::new(Database::open(path)?)))
    }

    /// Writes every key, in transactions of 1,000 keys.
    pub fn fill(&self, workload: &Workload) -> Result<()> {
        for names in workload.names.chunks(1000) {
            let write = self.0.begin_write()?;
            {
                let mut table = write.open_table(TABLE)?;
                for name in names {
                    table.insert(name.text.as_str(), &*workload.value)?;
                }
            }
            write.commit()?;
        }
        Ok(())
    }

    /// Reads every key in order; how many there are.
    pub fn scan(&self) -> Result<u64> {
        let mut count = 0;
        let read = self.0.begin_read()?;
        for entry in read.open_table(TABLE)?.iter()? {
            let (key, value) = entry?;
            std::hint::black_box((key.value(), value.value().len()));
            count += 1;
        }
        Ok(count)
    }

    /// Copies every entry into `other`, in transactions of 1,000 keys.
    pub fn copy_to(&self, other: &Self) -> Result<u64> {
        let read = self.0.begin_read()?;
        let table = read.open_table(TABLE)?;
        let mut entries = table.iter()?.peekable();
        let mut count = 0;
        while entries.peek().is_some() {
            let write = other.0.begin_write()?;
            {
                let mut target = write.open_table(TABLE)?;
                for entry in entries.by_ref().take(1000) {
                    let (key, value) = entry?;
                    target.insert(key.value(), value.value())?;
                    count += 1;
                }
            }
            write.commit()?;
        }
        Ok(count)
    }
}

impl Peer for RawRedb {
    async fn get(&self, name: &Name) -> Result<Option<usize>> {
        let read = self.0.begin_read()?;
        let value = read.open_table(TABLE)?.get(name.text.as_str())?;
        Ok(value.map(|value| Bytes::copy_from_slice(value.value()).len()))
    }

    async fn put(&self, name: &Name, value: Bytes) -> Result<()> {
        let (database, name) = (Arc::clone(&self.0), name.text.clone());
        let written = tokio::task::spawn_blocking(move || -> Result<()> {
            let mut write = database.begin_write()?;
            write.set_durability(Durability::Immediate)?;
            write.open_table(TABLE)?.insert(name.as_str(), &*value)?;
            write.commit()?;
            Ok(())
        });
        written.await?
    }
}

/// A database of [records](record), which is only read. Many keys are read in one transaction.
#[derive(Clone, Debug)]
pub struct Records(Arc<Database>);

impl Records {
    /// A new database with every key of the workload.
    pub fn filled(path: &Path, workload: &Workload) -> Result<Self> {
        let database = Database::create(path)?;
        for names in workload.names.chunks(1000) {
            let write = database.begin_write()?;
            {
                let mut table = write.open_table(TABLE)?;
                for name in names {
                    table.insert(name.text.as_str(), &*record::write(&name.text, &workload.value)?)?;
                }
            }
            write.commit()?;
        }
        Ok(Self(Arc::new(database)))
    }

    /// An empty database.
    pub fn create(path: &Path) -> Result<Self> {
        Ok(Self(Arc::new(Database::create(path)?)))
    }

    /// Copies every entry into `other`, in transactions of 1,000 keys: what is read is checked, and written as a record anew.
    pub fn copy_to(&self, other: &Self) -> Result<u64> {
        let mut writer = other.writer();
        self.batches(|entries| writer.write(entries))
    }

    /// Hands every entry over, checked, 1,000 at a time; the sum of the answers.
    pub fn batches(
        &self,
        mut take: impl FnMut(&mut dyn Iterator<Item = Result<(String, Bytes)>>) -> Result<u64>,
    ) -> Result<u64> {
        let read = self.0.begin_read()?;
        let table = read.open_table(TABLE)?;
        let mut entries = table.iter()?.peekable();
        let mut count = 0;
        while entries.peek().is_some() {
            count += take(&mut entries.by_ref().take(1000).map(|entry| {
                let (key, record) = entry?;
                Ok((key.value().to_owned(), record::read(key.value(), record.value())?))
            }))?;
        }
        Ok(count)
    }

    /// Writes records in transactions.
    pub fn writer(&self) -> RecordWriter {
        RecordWriter(Arc::clone(&self.0))
    }
}

/// Writes records.
#[derive(Debug)]
pub struct RecordWriter(Arc<Database>);

impl RecordWriter {
    /// Writes some in one transaction, as durable as the adapter of tiered writes a batch; how many they were.
    pub fn write(&mut self, entries: impl IntoIterator<Item = Result<(String, Bytes)>>) -> Result<u64> {
        let mut write = self.0.begin_write()?;
        write.set_durability(Durability::Immediate)?;
        write.set_two_phase_commit(true);
        let mut count = 0;
        {
            let mut table = write.open_table(TABLE)?;
            for entry in entries {
                let (key, value) = entry?;
                table.insert(key.as_str(), &*record::write(&key, &value)?)?;
                count += 1;
            }
        }
        write.commit()?;
        Ok(count)
    }
}

impl Peer for Records {
    async fn get(&self, name: &Name) -> Result<Option<usize>> {
        let value = self.0.begin_read()?.open_table(TABLE)?.get(name.text.as_str())?;
        Ok(value.map(|value| record::read(&name.text, value.value())).transpose()?.map(|value| value.len()))
    }

    async fn put(&self, _: &Name, _: Bytes) -> Result<()> {
        bail!("it is only read")
    }

    async fn get_many(&self, names: &[&Name]) -> Result<usize> {
        let table = self.0.begin_read()?.open_table(TABLE)?;
        let mut found = 0;
        for name in names {
            if let Some(value) = table.get(name.text.as_str())? {
                std::hint::black_box(record::read(&name.text, value.value())?);
                found += 1;
            }
        }
        Ok(found)
    }
}
