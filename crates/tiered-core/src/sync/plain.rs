//! A plain store as the target of a sync.

mod batch;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use tokio::sync::Semaphore;

use super::options::{Races, SyncOptions};
use super::past_blocks::without_parts;
use super::strategy::Changes;
use super::target::{Attempt, Batched, Copied, Over, Removed, Target, Task, Theirs};
use crate::capability::Feature;
use crate::entry::{Entry, Note, Tombstones};
use crate::error::{Error, ErrorKind, Result};
use crate::key::Key;
use crate::list::{ListOptions, ListStream, Listed};
use crate::read::ReadOptions;
use crate::store::Store;
use crate::version::{Precondition, Version};
use crate::write::{Delete, Put};

/// Values from this size on move as streams: a copy then holds parts, not the whole. 8 MiB, since below that a
/// whole value is cheaper than a second look at its version.
const STREAM_FROM: u64 = 8 << 20;

/// Values up to this size are listed with their keys where that is free: 1 KiB, what the embedded engines keep beside the
/// metadata. Larger ones would be a burden where little is to be copied.
const LISTED_VALUE: u64 = 1 << 10;

/// Copies between two stores, each overwrite and removal conditional on what was listed.
#[derive(Debug)]
pub(crate) struct PlainTarget<'s> {
    source: &'s dyn Store,
    target: &'s dyn Store,
    puts: bool,
    deletes: bool,
    races: Races,
    /// So many reads of one key at a time, from a source that reads no batches.
    reads: Semaphore,
    /// Whether many writes go to the target as one batch.
    batches: AtomicBool,
}

impl<'s> PlainTarget<'s> {
    pub(crate) fn new(
        source: &'s dyn Store,
        target: &'s dyn Store,
        options: &SyncOptions,
        changes: Changes,
    ) -> Result<Self> {
        let capabilities = target.capabilities();
        let puts = capabilities.has(Feature::ConditionalPut);
        let deletes = capabilities.has(Feature::ConditionalDelete);
        let safe = match changes {
            Changes::Adds => true,
            Changes::Overwrites => puts,
            Changes::Removes => puts && deletes,
        };
        if !safe && options.races == Races::Refuse {
            let message = format!(
                "{} has no conditional writes, so the sync could undo a write that happens meanwhile; allow races where no other process writes",
                capabilities.name()
            );
            return Err(Error::new(ErrorKind::Config, message));
        }
        let batches = puts && deletes && capabilities.has(Feature::AtomicBatch);
        Ok(Self {
            source,
            target,
            puts,
            deletes,
            races: options.races,
            reads: Semaphore::new(options.at_a_time()),
            batches: AtomicBool::new(batches),
        })
    }

    /// The condition for replacing what the target has, as far as the listing tells.
    fn listed_condition(&self, key: &Key, theirs: Theirs<'_>) -> Result<Option<Precondition>> {
        Ok(match theirs {
            _ if !self.puts => Some(Precondition::None),
            Theirs::Nothing => Some(Precondition::Absent),
            Theirs::Damaged => Some(self.condition_of_repair(key)?),
            Theirs::Listed(listed) => listed.version.clone().map(Precondition::Matches),
        })
    }

    /// The condition for replacing what the target has; `None` where that could have changed unseen.
    async fn condition(&self, key: &Key, theirs: Theirs<'_>) -> Result<Precondition> {
        if let Some(condition) = self.listed_condition(key, theirs)? {
            return Ok(condition);
        }
        // The listing does not carry versions: what is there now counts as listed.
        match self.target.head(key, &ReadOptions::new().authoritative()).await {
            Ok(Some(metadata)) => Ok(Precondition::Matches(metadata.version.clone())),
            Ok(None) => Ok(Precondition::Absent),
            Err(error) if error.kind() == ErrorKind::Corrupt => self.condition_of_repair(key),
            Err(error) => Err(error),
        }
    }

    /// The condition for replacing something damaged.
    fn condition_of_repair(&self, key: &Key) -> Result<Precondition> {
        let capabilities = self.target.capabilities();
        if capabilities.has(Feature::DetectsCorruption) {
            return Ok(Precondition::Damaged);
        }
        if self.races == Races::Allow {
            return Ok(Precondition::None);
        }
        let message = format!(
            "the entry is damaged, and {} cannot replace it only where it still is; allow races where no other process writes",
            capabilities.name()
        );
        Err(Error::new(ErrorKind::Corrupt, message).for_key(key))
    }
}

#[async_trait]
impl Target for PlainTarget<'_> {
    fn list(&self, options: ListOptions) -> ListStream {
        without_parts(self.target.list(options.tombstones(Tombstones::Show)))
    }

    fn takes_listed_values(&self) -> Option<u64> {
        self.batches().then_some(LISTED_VALUE)
    }

    fn batches(&self) -> bool {
        self.batches.load(Ordering::Relaxed)
    }

    fn keeps_versions(&self) -> bool {
        self.target.capabilities().has(Feature::KeepsMetadata)
    }

    fn takes_entries(&self) -> bool {
        true
    }

    async fn versions(&self, keys: &[Key]) -> Vec<Option<Version>> {
        let heads = self.target.get_many(keys, &ReadOptions::new().authoritative().range(0..0)).await;
        heads.into_iter().map(|head| Some(head.ok()?.entry()?.version().clone())).collect()
    }

    async fn add_together(&self, entries: Vec<(Key, Entry)>, over: Over) -> Option<Vec<Copied>> {
        self.copy_together(entries, over).await
    }

    async fn lacks(&self, keys: &[Key]) -> Vec<bool> {
        let shown = ReadOptions::new().authoritative().range(0..0).tombstones(Tombstones::Show);
        let heads = self.target.get_many(keys, &shown).await;
        heads.into_iter().map(|head| head.is_ok_and(|head| head.entry().is_none())).collect()
    }

    async fn carry_out(&self, tasks: &[Task]) -> Vec<Batched> {
        self.carry_out_together(tasks).await
    }

    async fn copy(
        &self,
        key: &Key,
        ours: Option<&Listed>,
        theirs: Theirs<'_>,
        attempt: Attempt,
    ) -> Result<Copied> {
        let condition = self.condition(key, theirs).await?;
        let (size, version) = self.look(key, ours, &condition).await?;
        if version.as_ref().is_some_and(|ours| is_of(&condition, ours)) {
            // Neither listing told: the target has it already.
            return Ok(Copied::Same);
        }
        let fresh = ReadOptions::new().authoritative();
        let (metadata, put) = if size >= STREAM_FROM {
            let Some((metadata, body)) = self.source.read_stream(key, &fresh).await? else {
                return Ok(Copied::Vanished);
            };
            let empty = Entry::from_parts(bytes::Bytes::new(), Arc::clone(&metadata));
            let put = copy_of(empty).precondition(condition);
            (metadata, self.target.put_stream(key, put, body).await)
        } else {
            let entry = match ours.and_then(listed_entry) {
                Some(entry) => entry,
                None => match self.source.load(key, &fresh).await?.into_entry() {
                    Some(entry) => entry,
                    None => return Ok(Copied::Vanished),
                },
            };
            let metadata = Arc::clone(entry.metadata());
            let put = copy_of(entry).precondition(condition);
            (metadata, self.target.put(key, put).await)
        };
        match put {
            Ok(_) => Ok(Copied::Done(metadata.size)),
            Err(error) if error.kind() != ErrorKind::PreconditionFailed => Err(error),
            // A batch may have written it, whose answer was lost.
            Err(_) if attempt == Attempt::Again && self.has(key, &metadata.version).await? => {
                Ok(Copied::Done(metadata.size))
            }
            Err(_) => Ok(Copied::Overtaken),
        }
    }

    async fn remove(&self, key: &Key, theirs: Theirs<'_>, attempt: Attempt) -> Result<Removed> {
        // The source may have got the key after its listing passed it.
        match self.source.head(key, &ReadOptions::new().authoritative()).await {
            Ok(None) => {}
            // What is damaged at the source is there.
            Ok(Some(_)) => return Ok(Removed::Overtaken),
            Err(error) if error.kind() == ErrorKind::Corrupt => return Ok(Removed::Overtaken),
            Err(error) => return Err(error),
        }
        let condition = if self.deletes { self.condition(key, theirs).await? } else { Precondition::None };
        match self.target.delete(key, Delete::new().precondition(condition)).await {
            Ok(_) => Ok(Removed::Done),
            Err(error) if error.kind() != ErrorKind::PreconditionFailed => Err(error),
            // A batch may have removed it, whose answer was lost.
            Err(_) if attempt == Attempt::Again && self.version_of(key).await?.is_none() => Ok(Removed::Done),
            Err(_) => Ok(Removed::Overtaken),
        }
    }
}

/// Whether the condition asks for this version: what has it already needs no copy.
fn is_of(condition: &Precondition, version: &Version) -> bool {
    matches!(condition, Precondition::Matches(theirs) if theirs == version)
}

/// The source's entry, where the listing has all of it. A value that differs from its checksum is read again: the store
/// says what is wrong with it.
fn listed_entry(listed: &Listed) -> Option<Entry> {
    let (value, metadata) = listed.value.clone().zip(listed.metadata.as_ref())?;
    let entry = Entry::from_parts(value, Arc::clone(metadata));
    entry.verify().is_ok().then_some(entry)
}

/// A put that copies `entry`, without what a frontend noted beside it.
fn copy_of(entry: Entry) -> Put {
    if entry.metadata().note.is_empty() {
        return Put::verbatim(&entry);
    }
    Put::verbatim(&entry.with_note(Note::default()))
}

impl PlainTarget<'_> {
    /// The size of the source's entry, and its version where that may spare a copy. One more look only where the listing
    /// does not say it.
    async fn look(
        &self,
        key: &Key,
        ours: Option<&Listed>,
        condition: &Precondition,
    ) -> Result<(u64, Option<Version>)> {
        let replaces = matches!(condition, Precondition::Matches(_));
        match ours {
            Some(ours) if ours.version.is_some() || !replaces => Ok((ours.size, ours.version.clone())),
            _ => {
                let head = self.source.head(key, &ReadOptions::new().authoritative()).await?;
                Ok(head.map_or((0, None), |metadata| (metadata.size, Some(metadata.version.clone()))))
            }
        }
    }

    /// The version that the target has now.
    async fn version_of(&self, key: &Key) -> Result<Option<Version>> {
        let head = self.target.head(key, &ReadOptions::new().authoritative()).await?;
        Ok(head.map(|metadata| metadata.version.clone()))
    }

    async fn has(&self, key: &Key, version: &Version) -> Result<bool> {
        Ok(self.version_of(key).await?.as_ref() == Some(version))
    }
}
