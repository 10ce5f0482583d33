//! Stacks of this project that write: under each policy, over redb.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use tiered::journal::JournalConfig;
use tiered::{Durability, Store, TieredStore, VolatileJournal, WritePolicy};

use super::tiered::{DEFAULT, Stack, redb};

/// What keeps acknowledged writes until the backend has them.
#[derive(Clone, Copy, Debug)]
pub enum Log {
    /// None: the backend has them.
    Through,
    /// None: the backend has them, and the frontend drops the key.
    Around,
    /// A journal on disk, synced before the acknowledgement.
    Synced,
    /// A journal on disk, left to the operating system.
    Unsynced,
    /// A journal in memory.
    Volatile,
}

impl Log {
    /// The name of a stack over redb that has it.
    pub fn stack(self) -> String {
        let how = match self {
            Self::Through => "write-through",
            Self::Around => "write-around",
            Self::Synced => "write-behind",
            Self::Unsynced => "write-behind, journal not synced",
            Self::Volatile => "write-behind, journal in memory",
        };
        format!("{}, {how}", DEFAULT.stack("redb"))
    }
}

/// Bytes of the frontend.
const FRONTEND: u64 = 1 << 30;

/// Opens a stack in `folder`, over `data.redb` there.
pub async fn open(folder: &Path, log: Log) -> Result<Stack> {
    open_over(folder, log, redb(&folder.join("data.redb")).await?, |builder| builder).await
}

/// The same over another backend, with further settings.
pub async fn open_over(
    folder: &Path,
    log: Log,
    backend: Arc<dyn Store>,
    further: impl FnOnce(tiered::TieredBuilder) -> tiered::TieredBuilder + Send,
) -> Result<Stack> {
    let builder = TieredStore::builder((DEFAULT.open)(FRONTEND)?, backend);
    let journal = JournalConfig::new(folder.join("journal"));
    let builder = match log {
        Log::Through => builder,
        Log::Around => builder.write_policy(WritePolicy::WriteAround),
        Log::Synced => builder.write_policy(WritePolicy::WriteBehind).journal(journal.open().await?),
        Log::Unsynced => {
            let journal = journal.durability(Durability::ProcessKill).open().await?;
            builder.write_policy(WritePolicy::WriteBehind).journal(journal)
        }
        Log::Volatile => builder.write_policy(WritePolicy::WriteBehind).journal(VolatileJournal::new()),
    };
    Ok(Stack(further(builder.close_deadline(Duration::from_mins(10))).build().await?))
}
