//! Keys that are published together.

use std::collections::{HashMap, HashSet};

use super::discover::{Sides, read};
use super::ledger::Ledger;
use super::node::{Id, Node};
use crate::entry::Entry;
use crate::error::{Error, Result};
use crate::key::Key;
use crate::list::Listed;
use crate::read::{Read, ReadOptions};
use crate::sync::options::DryRun;
use crate::sync::run::copy_named;
use crate::sync::target::{Copied, Over, Target, add_lacking};
use crate::version::Version;

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

/// Whether the target is asked for what it has before values are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Look {
    First,
    No,
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
    /// What was walked, which was read earlier. It is copied only where the target has nothing: otherwise the source is asked again.
    Kept(Entry),
    /// The target reads it itself, or it is a leaf, which may be large.
    Unread,
    /// The target has what was walked.
    Present,
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

    /// Reads the values that are not in `kept`. One of another version than was walked must not refer to more. With
    /// [`Look::First`], those that the target has are not read.
    pub(super) async fn fetch(
        self,
        sides: Sides<'_>,
        ledger: &Ledger,
        look: Look,
        mut kept: HashMap<Id, Entry>,
    ) -> Result<Group<Parcel>> {
        let present = match look {
            Look::First => self.present(sides, ledger).await,
            Look::No => HashSet::new(),
        };
        kept.retain(|id, _| !present.contains(id));
        let is_read = |item: &Item, kept: &HashMap<Id, Entry>| {
            !present.contains(&item.id)
                && !kept.contains_key(&item.id)
                && sides.options().sync().dry_run == DryRun::No
                && sides.target().takes_entries()
                && !(sides.walk().is_leaf(&item.key) && item.size() >= sides.options().sync().share())
        };
        let asked = self.iter().filter(|item| is_read(item, &kept)).map(|item| item.key.clone());
        let asked: Vec<Key> = asked.collect();
        let mut reads = read(sides.source(), &asked).await.into_iter();
        let mut components = Vec::with_capacity(self.components.len());
        for component in self.components {
            let mut parcels = Vec::with_capacity(component.len());
            for item in component {
                let read = if is_read(&item, &kept) { reads.next() } else { None };
                let fetched = match (read, kept.remove(&item.id)) {
                    (Some(read), _) => as_read(sides, ledger, &item, read).await?,
                    (None, Some(entry)) => Fetched::Kept(entry),
                    (None, None) if present.contains(&item.id) => Fetched::Present,
                    (None, None) => Fetched::Unread,
                };
                parcels.push(Parcel { item, fetched });
            }
            components.push(parcels);
        }
        Ok(Group { components })
    }
}

impl Group<Item> {
    /// The keys that the target has as they were walked. Their children are there as well once those of this walk have ended.
    async fn present(&self, sides: Sides<'_>, ledger: &Ledger) -> HashSet<Id> {
        let keys: Vec<Key> = self.iter().map(|item| item.key.clone()).collect();
        let theirs = sides.target().versions(&keys).await;
        let is_walked = |(item, theirs): (&Item, Option<Version>)| {
            theirs.is_some_and(|theirs| ledger.fingerprint(&theirs) == item.node.version()).then_some(item.id)
        };
        self.iter().zip(theirs).filter_map(is_walked).collect()
    }
}

/// What a read told. An entry of another version than was walked must not refer to more.
async fn as_read(sides: Sides<'_>, ledger: &Ledger, item: &Item, read: Result<Read>) -> Result<Fetched> {
    let entry = match read.map(Read::into_entry) {
        Ok(Some(entry)) => entry,
        Ok(None) => return Ok(Fetched::Vanished),
        Err(error) => return Ok(Fetched::Failed(error)),
    };
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

    /// Whether the target has what was walked.
    pub(super) const fn is_present(&self) -> bool {
        matches!(self.fetched, Fetched::Present)
    }

    fn listed(&self) -> Listed {
        match &self.fetched {
            Fetched::Entry(entry) | Fetched::Kept(entry) => {
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
        ledger: &Ledger,
        taking: Taking,
        lost: HashSet<Id>,
    ) -> Result<Vec<(Id, Key, Ended)>> {
        let (mut lost, mut ended) = (Lost(lost), Vec::new());
        let mut whole = self.without_broken(&mut lost, &mut ended);
        let mut done = None;
        if whole.has_kept() {
            done = whole.as_kept(sides.target()).await;
            if done.is_none() {
                whole = whole.read_again(sides, ledger).await?.without_broken(&mut lost, &mut ended);
            }
        }
        let done = match done {
            Some(done) => done,
            None if sides.options().sync().dry_run == DryRun::Yes => whole.pretend(sides).await,
            None => whole.at_once(sides.target(), taking).await.unwrap_or_default(),
        };
        for component in whole.components {
            publish_rest(component, sides.target(), taking, &done, &mut lost, &mut ended).await;
        }
        Ok(ended)
    }

    /// The components of which everything can be copied.
    fn without_broken(self, lost: &mut Lost, ended: &mut Vec<(Id, Key, Ended)>) -> Self {
        let mut components = Vec::with_capacity(self.components.len());
        for component in self.components {
            components.extend(unbroken(component, lost, ended));
        }
        Self { components }
    }

    fn has_kept(&self) -> bool {
        self.iter().any(|parcel| matches!(parcel.fetched, Fetched::Kept(_)))
    }

    /// Copies all as one where the target has nothing, or the same: how they ended, if so.
    async fn as_kept(&self, target: &dyn Target) -> Option<HashMap<Id, Result<Copied>>> {
        let absent: Vec<&Parcel> = self.iter().filter(|parcel| !parcel.is_present()).collect();
        add_together(&absent, target, Over::Nothing, 1).await
    }

    /// Asks the source for what it has now of the values that were kept.
    async fn read_again(self, sides: Sides<'_>, ledger: &Ledger) -> Result<Self> {
        let is_kept = |parcel: &&Parcel| matches!(parcel.fetched, Fetched::Kept(_));
        let asked: Vec<Key> = self.iter().filter(is_kept).map(|parcel| parcel.item.key.clone()).collect();
        let mut reads = read(sides.source(), &asked).await.into_iter();
        let mut components = self.components;
        for parcel in components.iter_mut().flatten() {
            if matches!(parcel.fetched, Fetched::Kept(_))
                && let Some(read) = reads.next()
            {
                parcel.fetched = as_read(sides, ledger, &parcel.item, read).await?;
            }
        }
        Ok(Self { components })
    }

    /// Copies many as one, if the target can: how they ended, as far as they did.
    async fn at_once(&self, target: &dyn Target, taking: Taking) -> Option<HashMap<Id, Result<Copied>>> {
        let is_absent = |parcel: &&Parcel| !parcel.is_present();
        // One key is no batch.
        self.iter().filter(is_absent).nth(1)?;
        match taking {
            Taking::Singly => None,
            Taking::Together => {
                let absent: Vec<&Parcel> = self.iter().filter(is_absent).collect();
                add_together(&absent, target, Over::Anything, GROUP_ATTEMPTS).await
            }
            Taking::Apart => {
                let (ids, entries): (Vec<Id>, Vec<Listed>) =
                    self.iter().filter(is_absent).map(|parcel| (parcel.item.id, parcel.listed())).unzip();
                let ended = ids.into_iter().zip(add_lacking(target, entries).await);
                Some(ended.filter_map(|(id, ended)| Some((id, ended?))).collect())
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
    let is_there = |parcel: &Parcel| {
        !matches!(parcel.fetched, Fetched::Vanished | Fetched::Changed | Fetched::Failed(_))
    };
    let is_whole = component.iter().all(|parcel| is_there(parcel) && !lost.has_any(parcel.item.children()));
    if is_whole {
        return Some(component);
    }
    for Parcel { item, fetched } in component {
        lost.0.insert(item.id);
        let how = match fetched {
            Fetched::Entry(_) | Fetched::Kept(_) | Fetched::Unread | Fetched::Present => Ended::HeldBack,
            Fetched::Vanished => Ended::Copied(Copied::Vanished),
            Fetched::Changed => Ended::Changed,
            Fetched::Failed(error) => Ended::Failed(error),
        };
        ended.push((item.id, item.key, how));
    }
    None
}

/// How often a group is tried as one. Another walk may write one of its keys at the same moment, and then the second time finds it.
const GROUP_ATTEMPTS: usize = 2;
/// How often the keys of a cycle are. They become visible one by one only where nothing else is possible.
const CYCLE_ATTEMPTS: usize = 5;

/// Copies keys all or nothing: how they ended, unless none of the attempts did.
async fn add_together(
    parcels: &[&Parcel],
    target: &dyn Target,
    over: Over,
    attempts: usize,
) -> Option<HashMap<Id, Result<Copied>>> {
    let entry = |parcel: &&Parcel| match &parcel.fetched {
        Fetched::Entry(entry) | Fetched::Kept(entry) => Some((parcel.item.key.clone(), entry.clone())),
        _ => None,
    };
    for _ in 0..attempts {
        let entries: Option<Vec<(Key, Entry)>> = parcels.iter().map(entry).collect();
        if let Some(copied) = target.add_together(entries?, over).await {
            let ids = parcels.iter().map(|parcel| parcel.item.id);
            return Some(ids.zip(copied.into_iter().map(Ok)).collect());
        }
    }
    None
}

/// Copies what is not done: the keys of a cycle together where the target can, otherwise key by key. Once one has failed, those that
/// refer to it are held back, and so is the rest of its cycle.
async fn publish_rest(
    component: Vec<Parcel>,
    target: &dyn Target,
    taking: Taking,
    done: &HashMap<Id, Result<Copied>>,
    lost: &mut Lost,
    ended: &mut Vec<(Id, Key, Ended)>,
) {
    let mut is_held = component.iter().any(|parcel| lost.has_any(parcel.item.children()));
    let is_done = component.iter().all(|parcel| parcel.is_present() || done.contains_key(&parcel.item.id));
    let is_cycle = component.len() > 1 && taking == Taking::Together;
    let mut together = HashMap::new();
    if is_cycle && !is_done && !is_held {
        let absent: Vec<&Parcel> = component.iter().filter(|parcel| !parcel.is_present()).collect();
        together = add_together(&absent, target, Over::Anything, CYCLE_ATTEMPTS).await.unwrap_or_default();
    }
    for parcel in component {
        let how = match done.get(&parcel.item.id).or_else(|| together.get(&parcel.item.id)) {
            Some(copied) => copied.clone(),
            None if parcel.is_present() => Ok(Copied::Same),
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
