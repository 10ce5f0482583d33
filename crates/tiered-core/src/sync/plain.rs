//! A plain store as the target of a sync.

use std::sync::Arc;

use async_trait::async_trait;

use super::options::{Races, SyncOptions};
use super::run::{Copied, Removed, Target, Theirs, without_absences};
use super::strategy::Changes;
use crate::capability::Feature;
use crate::entry::{Note, Tombstones};
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

/// Copies between two stores, each overwrite and removal conditional on what was listed.
#[derive(Debug)]
pub(crate) struct PlainTarget<'s> {
    source: &'s dyn Store,
    target: &'s dyn Store,
    puts: bool,
    deletes: bool,
    races: Races,
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
        Ok(Self { source, target, puts, deletes, races: options.races })
    }

    /// The condition for replacing what the target has; `None` where that could have changed unseen.
    async fn condition(&self, key: &Key, theirs: Theirs<'_>) -> Result<Precondition> {
        let listed = match theirs {
            _ if !self.puts => return Ok(Precondition::None),
            Theirs::Nothing => return Ok(Precondition::Absent),
            Theirs::Damaged => return self.condition_of_repair(key),
            Theirs::Listed(listed) => listed,
        };
        if let Some(version) = &listed.version {
            return Ok(Precondition::Matches(version.clone()));
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
        without_absences(self.target.list(options.tombstones(Tombstones::Show)))
    }

    async fn copy(&self, key: &Key, ours: Option<&Listed>, theirs: Theirs<'_>) -> Result<Copied> {
        let condition = self.condition(key, theirs).await?;
        let (size, version) = self.look(key, ours, &condition).await?;
        if let (Precondition::Matches(theirs), Some(ours)) = (&condition, &version)
            && theirs == ours
        {
            // Neither listing told: the target has it already.
            return Ok(Copied::Same);
        }
        let fresh = ReadOptions::new().authoritative();
        let overtaken = |error: Error| match error.kind() {
            ErrorKind::PreconditionFailed => Ok(Copied::Overtaken),
            _ => Err(error),
        };
        if size >= STREAM_FROM {
            let Some((metadata, body)) = self.source.read_stream(key, &fresh).await? else {
                return Ok(Copied::Vanished);
            };
            let empty = crate::entry::Entry::from_parts(bytes::Bytes::new(), Arc::clone(&metadata));
            let put = Put::verbatim(&empty.with_note(Note::default())).precondition(condition);
            return match self.target.put_stream(key, put, body).await {
                Ok(_) => Ok(Copied::Done(metadata.size)),
                Err(error) => overtaken(error),
            };
        }
        let Some(entry) = self.source.load(key, &fresh).await?.into_entry() else {
            return Ok(Copied::Vanished);
        };
        let put = Put::verbatim(&entry.clone().with_note(Note::default())).precondition(condition);
        match self.target.put(key, put).await {
            Ok(_) => Ok(Copied::Done(entry.size())),
            Err(error) => overtaken(error),
        }
    }

    async fn remove(&self, key: &Key, theirs: Theirs<'_>) -> Result<Removed> {
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
            Err(error) if error.kind() == ErrorKind::PreconditionFailed => Ok(Removed::Overtaken),
            Err(error) => Err(error),
        }
    }
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
}
