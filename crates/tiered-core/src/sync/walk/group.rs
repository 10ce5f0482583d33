//! Keys that are published together.

use std::collections::{HashMap, HashSet};

use super::discover::{Sides, read};
use super::ledger::{Id, Ledger, Node};
use crate::entry::Entry;
use crate::error::{Error, Result};
use crate::key::Key;
use crate::list::Listed;
use crate::read::{Read, ReadOptions};
use crate::sync::options::DryRun;
use crate::sync::run::copy_named;
use crate::sync::target::{Copied, Target, Task};

/// How a target takes keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Taking {
    /// Many, all or nothing: some of them may refer to others.
    Together,
    /// Many, each by itself: none of them may refer to another.
    Apart,
    /// One by one.
    Singly,
}

impl Taking {
    pub(super) fn of(target: &dyn Target, dry_run: DryRun) -> Self {
        match (target.batches(), target.takes_entries(), dry_run) {
            (true, true, _) | (_, _, DryRun::Yes) => Self::Together,
            (true, false, DryRun::No) => Self::Apart,
            (false, _, DryRun::No) => Self::Singly,
        }
    }
}

/// A key, and what was found under it.
#[derive(Debug)]
pub(super) struct Item {
    id: Id,
    key: Key,
    node: Node,
}

impl Item {
    pub(super) const fn new(id: Id, key: Key, node: Node) -> Self {
        Self { id, key, node }
    }

    pub(super) const fn id(&self) -> Id {
        self.id
    }

    pub(super) const fn size(&self) -> u64 {
        self.node.size()
    }

    pub(super) fn children(&self) -> &[Id] {
        self.node.children()
    }
}

/// What a source has of a key now.
#[derive(Debug)]
pub(super) enum Fetched {
    Entry(Entry),
    /// The target reads it itself, or it is a leaf, which may be large.
    Unread,
    Vanished,
    /// It refers to something that was not walked.
    Changed,
    Failed(Error),
}

/// How the copy of a key ended.
#[derive(Debug)]
pub(super) enum Ended {
    Copied(Copied),
    Failed(Error),
    Changed,
    /// Something that it refers to is not in the target.
    HeldBack,
}

/// A key with its value.
#[derive(Debug)]
pub(super) struct Parcel {
    item: Item,
    fetched: Fetched,
}

/// Components in the order in which they may be published.
#[derive(Debug)]
pub(super) struct Group<T> {
    components: Vec<Vec<T>>,
}

impl<T> Group<T> {
    pub(super) const fn of(components: Vec<Vec<T>>) -> Self {
        Self { components }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &T> {
        self.components.iter().flatten()
    }
}

impl Group<Item> {
    /// References within cycles.
    pub(super) fn cycles(&self) -> u64 {
        let within = |component: &Vec<Item>| {
            let members: HashSet<Id> = component.iter().map(Item::id).collect();
            let children = component.iter().flat_map(Item::children);
            children.filter(|child| members.contains(child)).count() as u64
        };
        self.components.iter().map(within).sum()
    }

    /// Reads the values. One of another version than was walked must not refer to more.
    pub(super) async fn fetch(self, sides: Sides<'_>, ledger: &Ledger) -> Result<Group<Parcel>> {
        let is_read = |item: &Item| {
            sides.options().sync().dry_run == DryRun::No
                && sides.target().takes_entries()
                && !(sides.walk().is_leaf(&item.key) && item.size() >= sides.options().sync().share())
        };
        let asked: Vec<Key> = self.iter().filter(|item| is_read(item)).map(|item| item.key.clone()).collect();
        let mut reads = read(sides.source(), &asked).await.into_iter();
        let mut components = Vec::with_capacity(self.components.len());
        for component in self.components {
            let mut parcels = Vec::with_capacity(component.len());
            for item in component {
                let read = if is_read(&item) { reads.next() } else { None };
                let fetched = match read.map(|read| read.map(Read::into_entry)) {
                    None => Fetched::Unread,
                    Some(Ok(None)) => Fetched::Vanished,
                    Some(Err(error)) => Fetched::Failed(error),
                    Some(Ok(Some(entry))) => as_walked(sides, ledger, &item, entry).await?,
                };
                parcels.push(Parcel { item, fetched });
            }
            components.push(parcels);
        }
        Ok(Group { components })
    }
}

async fn as_walked(sides: Sides<'_>, ledger: &Ledger, item: &Item, entry: Entry) -> Result<Fetched> {
    if ledger.fingerprint(entry.version()) == item.node.version() || sides.walk().is_leaf(&item.key) {
        return Ok(Fetched::Entry(entry));
    }
    let references = match sides.walk().references(&item.key, &entry).await {
        Ok(references) => references,
        Err(error) => return Ok(Fetched::Failed(error)),
    };
    let walked: HashSet<Key> = ledger.keys(item.children()).await?.into_iter().collect();
    let is_walked = references.iter().all(|reference| walked.contains(reference));
    Ok(if is_walked { Fetched::Entry(entry) } else { Fetched::Changed })
}

impl Parcel {
    pub(super) const fn item(&self) -> &Item {
        &self.item
    }

    fn listed(&self) -> Listed {
        match &self.fetched {
            Fetched::Entry(entry) => {
                let listed = Listed::with_metadata(self.item.key.clone(), entry.metadata().clone());
                listed.with_value(Some(entry.value().clone()))
            }
            _ => Listed::new(self.item.key.clone(), self.item.size()),
        }
    }
}

/// Keys that are not in the target.
#[derive(Debug)]
struct Lost(HashSet<Id>);

impl Lost {
    fn has_any(&self, of: &[Id]) -> bool {
        of.iter().any(|id| self.0.contains(id))
    }
}

impl Group<Parcel> {
    /// Copies the keys. What they refer to outside of the group has ended; `lost` of it is not in the target.
    pub(super) async fn publish(
        self,
        sides: Sides<'_>,
        taking: Taking,
        lost: HashSet<Id>,
    ) -> Vec<(Id, Key, Ended)> {
        let (mut lost, mut ended) = (Lost(lost), Vec::new());
        let mut components = Vec::with_capacity(self.components.len());
        for component in self.components {
            components.extend(unbroken(component, &mut lost, &mut ended));
        }
        let whole = Group { components };
        let done = if sides.options().sync().dry_run == DryRun::Yes {
            whole.pretend(sides).await
        } else {
            whole.at_once(sides.target(), taking).await.unwrap_or_default()
        };
        for component in whole.components {
            publish_rest(component, sides.target(), &done, &mut lost, &mut ended).await;
        }
        ended
    }

    /// Copies many as one, if the target can: how they ended, as far as they did.
    async fn at_once(&self, target: &dyn Target, taking: Taking) -> Option<HashMap<Id, Result<Copied>>> {
        // One key is no batch.
        self.iter().nth(1)?;
        let ids = self.iter().map(|parcel| parcel.item.id);
        match taking {
            Taking::Singly => None,
            Taking::Together => {
                let entries: Option<Vec<(Key, Entry)>> = self
                    .iter()
                    .map(|parcel| match &parcel.fetched {
                        Fetched::Entry(entry) => Some((parcel.item.key.clone(), entry.clone())),
                        _ => None,
                    })
                    .collect();
                let copied = target.add_together(entries?).await?;
                Some(ids.zip(copied.into_iter().map(Ok)).collect())
            }
            Taking::Apart => {
                let keys: Vec<Key> = self.iter().map(|parcel| parcel.item.key.clone()).collect();
                let lacks = target.lacks(&keys).await;
                let lacking: Vec<&Parcel> =
                    self.iter().zip(lacks).filter(|(_, lacks)| *lacks).map(|(parcel, _)| parcel).collect();
                let tasks: Vec<Task> =
                    lacking.iter().map(|parcel| Task::Copy(parcel.listed(), None)).collect();
                let answers = if tasks.is_empty() { Vec::new() } else { target.carry_out(&tasks).await };
                let ended = lacking.iter().zip(answers);
                let ended = ended.filter_map(|(parcel, answer)| Some((parcel.item.id, answer.copied()?)));
                Some(ended.collect())
            }
        }
    }

    /// What a dry run counts: the target has the same version, or it does not.
    async fn pretend(&self, sides: Sides<'_>) -> HashMap<Id, Result<Copied>> {
        let keys: Vec<Key> = self.iter().map(|parcel| parcel.item.key.clone()).collect();
        let heads = sides.source().get_many(&keys, &ReadOptions::new().authoritative().range(0..0)).await;
        let theirs = sides.target().versions(&keys).await;
        let ended = self.iter().zip(heads.into_iter().zip(theirs)).map(|(parcel, (ours, theirs))| {
            let copied = ours.map(|ours| match ours.into_entry() {
                None => Copied::Vanished,
                Some(ours) if theirs.as_ref() == Some(ours.version()) => Copied::Same,
                Some(ours) => Copied::Done(ours.metadata().size),
            });
            (parcel.item.id, copied)
        });
        ended.collect()
    }
}

/// A component of which everything can be copied. Otherwise all of it is lost.
fn unbroken(
    component: Vec<Parcel>,
    lost: &mut Lost,
    ended: &mut Vec<(Id, Key, Ended)>,
) -> Option<Vec<Parcel>> {
    let is_there = |parcel: &Parcel| matches!(parcel.fetched, Fetched::Entry(_) | Fetched::Unread);
    let is_whole = component.iter().all(|parcel| is_there(parcel) && !lost.has_any(parcel.item.children()));
    if is_whole {
        return Some(component);
    }
    for Parcel { item, fetched } in component {
        lost.0.insert(item.id);
        let how = match fetched {
            Fetched::Entry(_) | Fetched::Unread => Ended::HeldBack,
            Fetched::Vanished => Ended::Copied(Copied::Vanished),
            Fetched::Changed => Ended::Changed,
            Fetched::Failed(error) => Ended::Failed(error),
        };
        ended.push((item.id, item.key, how));
    }
    None
}

/// Copies what is not done, key by key. Once one has failed, those that refer to it are held back, and so is the rest of its
/// cycle.
async fn publish_rest(
    component: Vec<Parcel>,
    target: &dyn Target,
    done: &HashMap<Id, Result<Copied>>,
    lost: &mut Lost,
    ended: &mut Vec<(Id, Key, Ended)>,
) {
    let mut is_held = component.iter().any(|parcel| lost.has_any(parcel.item.children()));
    for parcel in component {
        let how = match done.get(&parcel.item.id) {
            Some(copied) => copied.clone(),
            None if is_held => {
                lost.0.insert(parcel.item.id);
                ended.push((parcel.item.id, parcel.item.key, Ended::HeldBack));
                continue;
            }
            None => copy_named(target, &parcel.item.key, Some(&parcel.listed())).await,
        };
        if matches!(how, Err(_) | Ok(Copied::Vanished)) {
            lost.0.insert(parcel.item.id);
            is_held = true;
        }
        ended.push((parcel.item.id, parcel.item.key, how.map_or_else(Ended::Failed, Ended::Copied)));
    }
}
