//! Copying what was found. Values are read in any order, many at a time; only their publication waits for that of what they refer
//! to.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use futures_util::stream::{FuturesUnordered, StreamExt as _};

use super::discover::Sides;
use super::group::{Ended, Group, Item, Look, Parcel, Taking};
use super::kept::Kept;
use super::ledger::Ledger;
use super::marks::Marks;
use super::node::Id;
use super::order::Order;
use super::report::WalkReport;
use crate::entry::Entry;
use crate::error::Result;
use crate::key::Key;
use crate::sync::options::DryRun;
use crate::sync::pace::Pace;
use crate::sync::target::Copied;

/// Keys that are taken from the order together. The more they are, the fewer groups wait for others.
const TOGETHER: usize = 8_192;
/// Keys that wait for others or for their turn: at most about so many. Of keys that are copied singly, many wait so that
/// some of them can go.
const WAITING: usize = 16_384;

/// A group that was formed, and has not ended.
struct Waiting {
    bytes: u64,
    /// Groups with keys to which it refers.
    waits_for: BTreeSet<u64>,
    needed_by: Vec<u64>,
    stage: Stage,
}

enum Stage {
    Formed(Group<Item>),
    Fetching,
    Fetched(Group<Parcel>),
    Publishing,
}

enum Step {
    Fetched(u64, Result<Group<Parcel>>),
    Published(u64, Result<Vec<(Id, Key, Ended)>>),
}

/// Bytes of the values. A size may be anything that a source says.
fn total<'i>(items: impl IntoIterator<Item = &'i Item>) -> u64 {
    items.into_iter().fold(0, |sum, item| sum.saturating_add(item.size()))
}

/// Whether it is of use to look at the target first. A frontend is filled anew all the same, which validates what it has.
fn look(sides: Sides<'_>) -> Look {
    let is_of_use = sides.target().takes_entries() && sides.options().sync().dry_run == DryRun::No;
    if is_of_use { Look::First } else { Look::No }
}

/// Sorts components, each of which comes after what it refers to, so that it does so still, and those come first that refer to
/// nothing else of them.
fn sort_by_height(components: &mut [Vec<Item>]) {
    let mut heights: HashMap<Id, u32> = HashMap::with_capacity(components.len());
    for component in components.iter() {
        let below = component.iter().flat_map(Item::children).filter_map(|child| heights.get(child));
        let height = below.max().map_or(0, |below| below + 1);
        heights.extend(component.iter().map(|item| (item.id(), height)));
    }
    let height = |component: &Vec<Item>| component.first().and_then(|item| heights.get(&item.id()).copied());
    components.sort_by_key(height);
}

/// Waits for the end of a pause.
async fn pass(pause: &mut Option<BoxFuture<'_, ()>>) {
    if let Some(running) = pause {
        running.await;
    }
    *pause = None;
}

/// Publishes in the order that the graph asks for.
pub(super) struct Publisher<'a> {
    sides: Sides<'a>,
    ledger: &'a Ledger,
    marks: Marks,
    order: Order,
    taking: Taking,
    kept: Kept,
    /// First, while the last group that ended had keys which the target has: so it is where a walk goes on, or is one of several.
    look: Look,
    pace: Pace,
    /// Components that are in no group yet.
    upcoming: VecDeque<Vec<Item>>,
    has_more: bool,
    groups: BTreeMap<u64, Waiting>,
    next: u64,
    /// Keys of groups, and which.
    group_of: HashMap<Id, u64>,
    to_fetch: VecDeque<u64>,
    to_publish: VecDeque<u64>,
    /// Bytes of the values that were read, or are being read.
    bytes: u64,
    /// Ends when more bytes may go, where they must wait.
    pause: Option<BoxFuture<'a, ()>>,
    running: FuturesUnordered<BoxFuture<'a, Step>>,
}

impl<'a> Publisher<'a> {
    pub(super) fn new(sides: Sides<'a>, ledger: &'a Ledger, marks: Marks, kept: Kept) -> Self {
        let options = sides.options().sync();
        Self {
            look: look(sides),
            sides,
            ledger,
            marks,
            order: Order::new(ledger.reached()),
            taking: Taking::of(sides.target(), options.dry_run),
            kept,
            pace: Pace::new(options.bytes_per_second),
            upcoming: VecDeque::new(),
            has_more: true,
            groups: BTreeMap::new(),
            next: 0,
            group_of: HashMap::new(),
            to_fetch: VecDeque::new(),
            to_publish: VecDeque::new(),
            bytes: 0,
            pause: None,
            running: FuturesUnordered::new(),
        }
    }

    /// Copies everything that can be.
    pub(super) async fn run(mut self, report: &mut WalkReport) -> Result<()> {
        loop {
            while self.group_of.len() < WAITING {
                let Some(group) = self.form().await? else { break };
                self.add(group, report);
            }
            self.begin();
            let step = tokio::select! {
                biased;
                step = self.running.next(), if !self.running.is_empty() => step,
                () = pass(&mut self.pause), if self.pause.is_some() => continue,
                else => break,
            };
            match step {
                None => {}
                Some(Step::Fetched(number, group)) => self.fetched(number, group?),
                Some(Step::Published(number, ended)) => {
                    self.ended(number, ended?, report)?;
                    self.sides.options().report_progress(report);
                }
            }
        }
        report.held_back = self.marks.broken();
        Ok(())
    }

    /// Takes more components from the order. They come by their height above those that refer to nothing else of these, so that most
    /// groups need not wait for one another.
    async fn refill(&mut self) -> Result<()> {
        let (mut sizes, mut ids) = (Vec::new(), Vec::new());
        while self.has_more && ids.len() < TOGETHER {
            match self.order.next(self.ledger, &self.marks).await? {
                Some(component) => {
                    sizes.push(component.len());
                    ids.extend(component);
                }
                None => self.has_more = false,
            }
        }
        let (keys, nodes) = (self.ledger.keys(&ids).await?, self.ledger.nodes(&ids).await?);
        let mut items =
            ids.into_iter().zip(keys).zip(nodes).map(|((id, key), node)| Item::new(id, key, node));
        self.upcoming.extend(sizes.into_iter().map(|size| items.by_ref().take(size).collect()));
        sort_by_height(self.upcoming.make_contiguous());
        Ok(())
    }

    /// The next group: components up to the bounds of a batch, and at least one.
    async fn form(&mut self) -> Result<Option<Group<Item>>> {
        let options = self.sides.options().sync();
        let most = if self.taking == Taking::Singly { 1 } else { options.in_a_batch() };
        if self.upcoming.len() < most {
            self.refill().await?;
        }
        let (mut components, mut keys, mut bytes) = (Vec::new(), BTreeSet::new(), 0_u64);
        while let Some(component) = self.upcoming.front() {
            let weight = total(component);
            let refers = |item: &Item| item.children().iter().any(|child| keys.contains(child));
            let is_apart = component.len() == 1 && !component.iter().any(refers);
            let fits = keys.len() + component.len() <= most
                && bytes.saturating_add(weight) <= options.paced_share()
                && (self.taking == Taking::Together || is_apart);
            if !components.is_empty() && !fits {
                break;
            }
            bytes = bytes.saturating_add(weight);
            keys.extend(component.iter().map(Item::id));
            components.extend(self.upcoming.pop_front());
            if !fits {
                break;
            }
        }
        Ok(Some(Group::of(components)).filter(|_| !keys.is_empty()))
    }

    fn add(&mut self, group: Group<Item>, report: &mut WalkReport) {
        report.cycles += group.cycles();
        let number = self.next;
        self.next += 1;
        self.group_of.extend(group.iter().map(|item| (item.id(), number)));
        let children = group.iter().flat_map(Item::children);
        let waits_for: BTreeSet<u64> = children
            .filter_map(|child| self.group_of.get(child))
            .copied()
            .filter(|of| *of != number)
            .collect();
        for other in &waits_for {
            if let Some(other) = self.groups.get_mut(other) {
                other.needed_by.push(number);
            }
        }
        let bytes = total(group.iter());
        let stage = Stage::Formed(group);
        self.groups.insert(number, Waiting { bytes, waits_for, needed_by: Vec::new(), stage });
        self.to_fetch.push_back(number);
    }

    /// Begins what can be: first publications, which make room, then reads in the order of the groups, so that the first group
    /// never waits for room.
    fn begin(&mut self) {
        let options = self.sides.options().sync();
        while self.running.len() < options.at_a_time() {
            if let Some(number) = self.to_publish.pop_front() {
                self.publish(number);
                continue;
            }
            let Some(number) = self.to_fetch.front().copied() else { return };
            let Some(waiting) = self.groups.get_mut(&number) else { return };
            let bytes = waiting.bytes;
            let others = self.bytes.saturating_add(self.kept.bytes());
            if self.bytes > 0 && others.saturating_add(bytes) > options.byte_budget {
                return;
            }
            if let Some(waits) = self.pace.waits() {
                self.pause.get_or_insert_with(|| waits.boxed());
                return;
            }
            self.pace.spend(bytes);
            self.bytes = self.bytes.saturating_add(bytes);
            self.to_fetch.pop_front();
            if let Stage::Formed(group) = std::mem::replace(&mut waiting.stage, Stage::Fetching) {
                let (sides, ledger, look) = (self.sides, self.ledger, self.look);
                let kept = group.iter().filter_map(|item| Some((item.id(), self.kept.take(item.id())?)));
                let kept: HashMap<Id, Entry> = kept.collect();
                let fetch =
                    async move { Step::Fetched(number, group.fetch(sides, ledger, look, kept).await) };
                self.running.push(fetch.boxed());
            }
        }
    }
}

impl Publisher<'_> {
    /// The values of a group were read.
    fn fetched(&mut self, number: u64, group: Group<Parcel>) {
        let Some(waiting) = self.groups.get_mut(&number) else { return };
        let present = total(group.iter().filter(|parcel| parcel.is_present()).map(Parcel::item));
        if present > 0 {
            self.pace.give_back(present);
            self.pause = None;
        }
        waiting.stage = Stage::Fetched(group);
        if waiting.waits_for.is_empty() {
            self.to_publish.push_back(number);
        }
    }

    /// All that a group refers to has ended. What refers to something that is not in the target is held back.
    fn publish(&mut self, number: u64) {
        let Some(waiting) = self.groups.get_mut(&number) else { return };
        let Stage::Fetched(group) = std::mem::replace(&mut waiting.stage, Stage::Publishing) else { return };
        let lost = group.iter().flat_map(|parcel| parcel.item().children()).copied();
        let lost = lost.filter(|child| self.marks.is_broken(*child)).collect();
        let (sides, ledger, taking) = (self.sides, self.ledger, self.taking);
        let publish =
            async move { Step::Published(number, group.publish(sides, ledger, taking, lost).await) };
        self.running.push(publish.boxed());
    }

    /// Counts how the copies of a group ended, and lets go what waited for it.
    fn ended(&mut self, number: u64, ended: Vec<(Id, Key, Ended)>, report: &mut WalkReport) -> Result<()> {
        let is_present = |(.., ended): &(Id, Key, Ended)| matches!(ended, Ended::Copied(Copied::Same));
        self.look = if ended.iter().any(is_present) { look(self.sides) } else { Look::No };
        for (id, key, ended) in ended {
            self.group_of.remove(&id);
            let is_there = match ended {
                Ended::Copied(copied) => {
                    report.sync.count(copied);
                    copied != Copied::Vanished
                }
                Ended::Changed => {
                    report.changed += 1;
                    false
                }
                Ended::HeldBack => false,
                Ended::Failed(error) => {
                    report.sync.fail(&key, &error);
                    if report.sync.failed > self.sides.options().sync().max_failures {
                        return Err(error);
                    }
                    false
                }
            };
            if is_there {
                self.marks.settle(id);
            } else {
                self.marks.break_off(id);
            }
        }
        let Some(waiting) = self.groups.remove(&number) else { return Ok(()) };
        self.bytes = self.bytes.saturating_sub(waiting.bytes);
        for other in waiting.needed_by {
            let Some(needing) = self.groups.get_mut(&other) else { continue };
            needing.waits_for.remove(&number);
            if needing.waits_for.is_empty() && matches!(needing.stage, Stage::Fetched(_)) {
                self.to_publish.push_back(other);
            }
        }
        Ok(())
    }
}
