//! Group commit, written by hand over what lies beneath: what a careful user of an engine, or of a file, would build.
//!
//! One thread takes what has queued, writes it in one piece, syncs once and answers everybody. Each entry is a
//! [record](super::record) as a store needs it.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::sync::mpsc;
use std::thread;

use ::redb::{Database, Durability};
use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use tokio::sync::oneshot;

use super::Peer;
use super::raw_redb::TABLE;
use super::record;
use crate::workload::Name;

/// At most so many writes in one piece.
const MAX_GROUP: usize = 1024;

/// Writes that wait, and whom to answer.
struct Request {
    key: String,
    record: Vec<u8>,
    reply: oneshot::Sender<Result<(), String>>,
}

/// The way to the thread that commits. Clones share it; the thread ends with the last of them.
#[derive(Clone, Debug)]
pub struct GroupCommit(mpsc::Sender<Request>);

impl GroupCommit {
    /// Over a redb file. A commit has two phases, as the adapter of tiered has it: after a crash a torn commit is told from a
    /// damaged one.
    pub fn over_redb(path: &Path) -> Result<Self> {
        let database = Database::create(path)?;
        Ok(Self::start(move |group| {
            let mut write = database.begin_write()?;
            write.set_durability(Durability::Immediate)?;
            write.set_two_phase_commit(true);
            {
                let mut table = write.open_table(TABLE)?;
                for request in group {
                    table.insert(request.key.as_str(), &*request.record)?;
                }
            }
            write.commit()?;
            Ok(())
        }))
    }

    /// Over a bare log: a file that has its size from the beginning, and one `fdatasync` for each group.
    pub fn over_log(path: &Path) -> Result<Self> {
        /// What is allocated at a time.
        const PIECE: u64 = 64 << 20;
        let mut file = File::create(path)?;
        let (mut written, mut allocated) = (0, 0);
        let mut buffer = Vec::new();
        Ok(Self::start(move |group| {
            buffer.clear();
            for request in group {
                buffer.extend_from_slice(&(request.record.len() as u64).to_le_bytes());
                buffer.extend_from_slice(request.key.as_bytes());
                buffer.extend_from_slice(&request.record);
            }
            written += buffer.len() as u64;
            while allocated < written {
                allocated += PIECE;
                // Zeros and not a hole: then a sync has no metadata to write.
                let zeros = vec![0; 1 << 20];
                for at in (allocated - PIECE..allocated).step_by(zeros.len()) {
                    std::os::unix::fs::FileExt::write_all_at(&file, &zeros, at)?;
                }
                file.sync_all()?;
            }
            file.write_all(&buffer)?;
            file.sync_data()?;
            Ok(())
        }))
    }

    /// Over a RocksDB folder: a batch and a sync of its log for each group.
    #[cfg(feature = "rocksdb")]
    pub fn over_rocksdb(path: &Path) -> Result<Self> {
        let database = super::raw_rocksdb::open(path)?;
        Ok(Self::start(move |group| {
            let mut batch = ::rocksdb::WriteBatch::default();
            for request in group {
                batch.put(request.key.as_bytes(), &request.record);
            }
            let mut options = ::rocksdb::WriteOptions::default();
            options.set_sync(true);
            database.write_opt(batch, &options)?;
            Ok(())
        }))
    }

    fn start(mut commit: impl FnMut(&[Request]) -> Result<()> + Send + 'static) -> Self {
        let (requests, queue) = mpsc::channel::<Request>();
        thread::spawn(move || {
            while let Ok(first) = queue.recv() {
                let mut group = vec![first];
                group.extend(queue.try_iter().take(MAX_GROUP - 1));
                let committed = commit(&group).map_err(|error| format!("{error:#}"));
                for request in group {
                    // Whoever has gone needs no answer.
                    request.reply.send(committed.clone()).ok();
                }
            }
        });
        Self(requests)
    }
}

impl Peer for GroupCommit {
    async fn get(&self, _: &Name) -> Result<Option<usize>> {
        bail!("it is only written to")
    }

    async fn put(&self, name: &Name, value: Bytes) -> Result<()> {
        let (reply, answer) = oneshot::channel();
        let record = record::write(&name.text, &value)?;
        self.0
            .send(Request { key: name.text.clone(), record, reply })
            .ok()
            .context("the thread has ended")?;
        answer.await.context("the thread has ended")?.map_err(anyhow::Error::msg)
    }
}
