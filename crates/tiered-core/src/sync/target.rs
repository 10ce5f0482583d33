//! What a sync writes to, and what it asks of it.

use async_trait::async_trait;

use crate::entry::Entry;
use crate::error::{Error, ErrorKind, Result};
use crate::key::Key;
use crate::list::{ListOptions, ListStream, Listed};
use crate::version::Version;

/// How copying one entry ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Copied {
    /// So many bytes were copied.
    Done(u64),
    /// Nothing is to be done: the target has this version already, which neither listing told, or a write under way
    /// brings it in step, or it takes no such entry.
    Same,
    /// The source has no such entry any more.
    Vanished,
    /// The target has another entry than the one listed: another process wrote it meanwhile.
    Overtaken,
}

/// How removing one entry ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Removed {
    Done,
    /// The source has the key again, or the target another entry than the one listed.
    Overtaken,
}

/// What the target has of a key.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Theirs<'l> {
    Nothing,
    Listed(&'l Listed),
    /// Something that cannot be read, which only a repair replaces.
    Damaged,
}

impl Theirs<'_> {
    /// The size of the value, where it is listed.
    pub(crate) const fn size(&self) -> Option<u64> {
        match self {
            Self::Listed(listed) => Some(listed.size),
            Self::Nothing | Self::Damaged => None,
        }
    }
}

/// What was tried before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Attempt {
    /// Nothing that can have taken effect.
    First,
    /// A batch with the same write, which may have taken effect.
    Again,
}

/// What a copy may replace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Over {
    Anything,
    /// The target has nothing under the key, or the same.
    Nothing,
}

/// What is to be done about a key.
#[derive(Debug)]
pub(crate) enum Task {
    Copy(Listed, Option<Listed>),
    /// The target's entry is damaged.
    Repair(Listed),
    Remove(Listed),
    RemoveDamaged(Key),
    /// Nothing can be done: the source's entry, or an extra one of the target, is damaged.
    Fail(Key, Error),
}

/// How a task ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Done {
    Copied(Copied),
    Removed(Removed),
}

impl Task {
    pub(crate) const fn key(&self) -> &Key {
        match self {
            Self::Copy(listed, _) | Self::Repair(listed) | Self::Remove(listed) => &listed.key,
            Self::RemoveDamaged(key) | Self::Fail(key, _) => key,
        }
    }

    /// What the source lists of an entry that is to be copied, and what the target has of it.
    pub(crate) const fn copies(&self) -> Option<(&Listed, Theirs<'_>)> {
        match self {
            Self::Copy(ours, Some(theirs)) => Some((ours, Theirs::Listed(theirs))),
            Self::Copy(ours, None) => Some((ours, Theirs::Nothing)),
            Self::Repair(ours) => Some((ours, Theirs::Damaged)),
            Self::Remove(_) | Self::RemoveDamaged(_) | Self::Fail(..) => None,
        }
    }

    /// What the target has of an entry that is to be removed.
    pub(crate) const fn removes(&self) -> Option<Theirs<'_>> {
        match self {
            Self::Remove(theirs) => Some(Theirs::Listed(theirs)),
            Self::RemoveDamaged(_) => Some(Theirs::Damaged),
            Self::Copy(..) | Self::Repair(_) | Self::Fail(..) => None,
        }
    }

    /// Bytes of the value that it moves, as the source lists it.
    pub(crate) fn weight(&self) -> u64 {
        self.copies().map_or(0, |(ours, _)| ours.size)
    }

    /// What a dry run counts.
    pub(crate) fn pretend(&self) -> Result<Done> {
        match self {
            Self::Copy(ours, _) | Self::Repair(ours) => Ok(Done::Copied(Copied::Done(ours.size))),
            Self::Remove(_) | Self::RemoveDamaged(_) => Ok(Done::Removed(Removed::Done)),
            Self::Fail(_, error) => Err(error.clone()),
        }
    }

    /// Carries it out by itself.
    pub(crate) async fn carry_out(&self, target: &dyn Target, attempt: Attempt) -> Result<Done> {
        match (self, self.copies(), self.removes()) {
            (Self::Fail(_, error), ..) => Err(error.clone()),
            (_, Some((ours, theirs)), _) => {
                target.copy(self.key(), Some(ours), theirs, attempt).await.map(Done::Copied)
            }
            (_, None, theirs) => {
                let theirs = theirs.unwrap_or(Theirs::Nothing);
                target.remove(self.key(), theirs, attempt).await.map(Done::Removed)
            }
        }
    }
}

/// What a batch did about one of its tasks.
#[derive(Debug)]
pub(crate) enum Batched {
    Ended(Result<Done>),
    /// It is to be carried out by itself.
    Alone(Attempt),
}

impl Batched {
    /// How the copy of a key that the target lacked has ended; `None` where the key is to be looked at by itself.
    fn copied(self) -> Option<Result<Copied>> {
        match self {
            Self::Ended(Ok(Done::Copied(copied))) if copied != Copied::Overtaken => Some(Ok(copied)),
            Self::Ended(Err(error)) if error.kind() != ErrorKind::Corrupt => Some(Err(error)),
            _ => None,
        }
    }
}

/// What a sync writes to: a plain store, or the frontend of a live tiered store.
#[async_trait]
pub(crate) trait Target: Send + Sync {
    /// Lists what the target has, local entries of a frontend included.
    fn list(&self, options: ListOptions) -> ListStream;
    /// Values up to this size are of use where the source lists them with their keys.
    fn takes_listed_values(&self) -> Option<u64>;
    /// Whether it carries out many tasks at once better than one by one.
    fn batches(&self) -> bool;
    /// Whether an entry has the version of its copy. Otherwise its version says nothing about what it was copied from.
    fn keeps_versions(&self) -> bool;
    /// Whether a copy takes the entry that a task carries. Otherwise it reads the source itself.
    fn takes_entries(&self) -> bool;
    /// The version that the target has of each key; `None` where that is not known.
    async fn versions(&self, keys: &[Key]) -> Vec<Option<Version>>;
    /// Copies entries, all or nothing, over what may be replaced. `None` where it cannot, or where it is not known whether it
    /// did: each is to be copied by itself.
    async fn add_together(&self, entries: Vec<(Key, Entry)>, over: Over) -> Option<Vec<Copied>>;
    /// Of each key, whether it surely has nothing under it, a tombstone included.
    async fn lacks(&self, keys: &[Key]) -> Vec<bool>;
    /// Carries out what it can at once; one answer for each task.
    async fn carry_out(&self, tasks: &[Task]) -> Vec<Batched>;
    /// Copies `key` from the source, as that listed it where it did, over what the target has.
    async fn copy(
        &self,
        key: &Key,
        ours: Option<&Listed>,
        theirs: Theirs<'_>,
        attempt: Attempt,
    ) -> Result<Copied>;
    /// Removes what the target has.
    async fn remove(&self, key: &Key, theirs: Theirs<'_>, attempt: Attempt) -> Result<Removed>;
}

/// Copies together those of some entries that the target surely lacks: how they ended. `None` for an entry that is to be copied by
/// itself.
pub(crate) async fn add_lacking(target: &dyn Target, entries: Vec<Listed>) -> Vec<Option<Result<Copied>>> {
    let keys: Vec<Key> = entries.iter().map(|listed| listed.key.clone()).collect();
    let lacks = target.lacks(&keys).await;
    let (mut places, mut tasks) = (Vec::with_capacity(keys.len()), Vec::with_capacity(keys.len()));
    for (place, (listed, lacks)) in entries.into_iter().zip(lacks).enumerate() {
        if lacks {
            places.push(place);
            tasks.push(Task::Copy(listed, None));
        }
    }
    let answers = if tasks.is_empty() { Vec::new() } else { target.carry_out(&tasks).await };
    let mut ended: Vec<Option<Result<Copied>>> = keys.iter().map(|_| None).collect();
    for (place, answer) in places.into_iter().zip(answers) {
        if let Some(ended) = ended.get_mut(place) {
            *ended = answer.copied();
        }
    }
    ended
}
