//! Walks: copying what is reachable from roots, children before parents.

use std::collections::{HashMap, VecDeque};

use async_trait::async_trait;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt as _, StreamExt as _};

use super::cycles::components;
use super::merge::{Seen, look_at};
use super::options::{DryRun, SyncOptions};
use super::plain::PlainTarget;
use super::report::SyncReport;
use super::run::copy_named;
use super::strategy::Changes;
use super::target::{Batched, Copied, Done, Target, Task};
use crate::capability::Feature;
use crate::claim::Scope;
use crate::entry::Entry;
use crate::error::{Error, ErrorKind, Operation, Result};
use crate::key::Key;
use crate::list::{ListOptions, Listed};
use crate::read::{Read, ReadOptions, Reads};
use crate::store::{AsStore, Store};

/// What a value refers to.
///
/// # Examples
/// ```
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// use tiered_core::adapter::{Stamp, async_trait};
/// use tiered_core::sync::Walk;
/// use tiered_core::{Entry, Key, Put, Result};
///
/// /// Follows the keys that a value lists, one on a line.
/// struct Lines;
///
/// #[async_trait]
/// impl Walk for Lines {
///     async fn references(&self, _key: &Key, entry: &Entry) -> Result<Vec<Key>> {
///         String::from_utf8_lossy(entry.value()).lines().map(Key::new).collect()
///     }
/// }
///
/// let entry = Stamp::system().entry(&Put::new("left\nright"));
/// assert_eq!(Lines.references(&Key::new("root")?, &entry).await?.len(), 2);
/// # Ok::<(), tiered_core::Error>(()) }).unwrap();
/// ```
#[async_trait]
pub trait Walk: Send + Sync {
    /// The keys that `entry`, found under `key`, refers to. Duplicates are harmless.
    ///
    /// # Errors
    /// Any error ends the branch: the entry is counted as failed and neither it nor its ancestors are copied.
    async fn references(&self, key: &Key, entry: &Entry) -> Result<Vec<Key>>;
}

#[async_trait]
impl<F> Walk for F
where
    F: Fn(&Key, &Entry) -> Result<Vec<Key>> + Send + Sync,
{
    async fn references(&self, key: &Key, entry: &Entry) -> Result<Vec<Key>> {
        self(key, entry)
    }
}

/// What a walk did.
///
/// # Examples
/// ```
/// use tiered_core::sync::WalkReport;
///
/// /// Whether everything that was reached is in the target.
/// fn is_complete(report: &WalkReport) -> bool {
///     report.missing == 0 && report.held_back == 0 && report.sync.failed == 0
/// }
///
/// assert!(is_complete(&WalkReport::default()));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct WalkReport {
    /// Roots given, each once.
    pub roots: u64,
    /// Keys reached, the roots among them.
    pub reached: u64,
    /// Keys that were referred to and do not exist. An entry that refers to one is not copied.
    pub missing: u64,
    /// References within cycles. The entries of a cycle are copied in any order, after what they refer to outside of it where
    /// that is in no cycle, and before what refers to them from outside.
    pub cycles: u64,
    /// Keys that were not copied since something they refer to could not be.
    pub held_back: u64,
    /// What was copied.
    pub sync: SyncReport,
}

/// Copies from `source` to `target` what is reachable from `roots`, each key once, a parent only after all of its
/// children, so that an interrupted walk never leaves a root whose parts are missing.
///
/// Values that others change while they are walked are the exception: each is read for its references, and again when it is
/// copied. What was written in between may refer to keys that were not walked; walk again then.
///
/// Keys are visited concurrently, within the options' concurrency: many by one read, and many by one batch, where the
/// stores handle them as one request. Memory grows with the number of reachable keys (key, count of open children,
/// parents), not with their values.
///
/// # Errors
/// As [`sync`](super::sync) for the pair of stores. Entries that fail are counted.
///
/// # Cancel safety
/// Dropping it stops it; every key in the target then has all that it refers to, cycles excepted.
///
/// # Examples
/// ```
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// use tiered_core::sync::{SyncOptions, walk_sync};
/// use tiered_core::{Entry, Key, MemoryStore, Result, StoreExt};
///
/// let (source, target) = (MemoryStore::new(), MemoryStore::new());
/// source.set("root", "left right").await?;
/// source.set("left", "").await?;
/// source.set("right", "").await?;
/// // A value lists the keys that it refers to.
/// let references = |_: &Key, entry: &Entry| -> Result<Vec<Key>> {
///     String::from_utf8_lossy(entry.value()).split_whitespace().map(Key::new).collect()
/// };
/// let report = walk_sync(&source, &target, &[Key::new("root")?], &references, &SyncOptions::new()).await?;
/// assert_eq!((report.reached, report.sync.copied), (3, 3));
/// # Ok::<(), tiered_core::Error>(()) }).unwrap();
/// ```
pub async fn walk_sync(
    source: &(impl AsStore + ?Sized),
    target: &(impl AsStore + ?Sized),
    roots: &[Key],
    walk: &dyn Walk,
    options: &SyncOptions,
) -> Result<WalkReport> {
    let (source, target) = (source.as_store(), target.as_store());
    if std::ptr::addr_eq(source, target) {
        return Err(Error::new(
            ErrorKind::Config,
            "source and target are the same store; name two different ones",
        )
        .during(Operation::Sync));
    }
    let _claim = target.claim(&Scope::Whole).await?;
    let target = PlainTarget::new(source, target, options, Changes::Overwrites)
        .map_err(|error| error.during(Operation::Sync))?;
    run_walk(source, &target, roots, walk, options).await.map_err(|error| error.during(Operation::Sync))
}

/// The state of a reached key.
#[derive(Debug, Default)]
struct Node {
    /// Children that are not copied yet.
    open: usize,
    /// The keys that refer to it, and must wait for it.
    parents: Vec<usize>,
    /// Those of its cycle, which do not wait.
    fellows: Vec<usize>,
    /// Bytes of its value.
    size: u64,
    /// Whether it and everything below it is in the target.
    done: bool,
    /// Whether something below it, or it itself, cannot be copied.
    broken: bool,
    /// Whether its references are known.
    visited: bool,
}

#[derive(Debug, Default)]
struct Graph {
    keys: Vec<Key>,
    nodes: Vec<Node>,
    index: HashMap<Key, usize>,
}

impl Graph {
    /// The node of `key`, and whether it is new.
    fn reach(&mut self, key: &Key) -> (usize, bool) {
        if let Some(index) = self.index.get(key) {
            return (*index, false);
        }
        let index = self.nodes.len();
        self.nodes.push(Node::default());
        self.keys.push(key.clone());
        self.index.insert(key.clone(), index);
        (index, true)
    }

    fn node(&mut self, index: usize) -> Option<&mut Node> {
        self.nodes.get_mut(index)
    }

    fn key(&self, index: usize) -> Option<Key> {
        self.keys.get(index).cloned()
    }
}

/// Visits, then copies from the leaves up.
pub(crate) async fn run_walk(
    source: &dyn Store,
    target: &dyn Target,
    roots: &[Key],
    walk: &dyn Walk,
    options: &SyncOptions,
) -> Result<WalkReport> {
    let mut report = WalkReport::default();
    let mut graph = Graph::default();
    let mut queue = VecDeque::new();
    for root in roots {
        let (index, new) = graph.reach(root);
        if new {
            report.roots += 1;
            queue.push_back(index);
        }
    }
    visit(source, walk, options, &mut graph, queue, &mut report).await?;
    report.reached = graph.nodes.len() as u64;
    let ready: VecDeque<usize> =
        (0..graph.nodes.len()).filter(|index| graph.nodes.get(*index).is_some_and(is_ready)).collect();
    let walked = Walked { source, target, options };
    climb(&walked, &mut graph, ready, &mut report).await?;
    // What is left and not broken waits for itself, or for what does: cycles.
    let left: Vec<usize> = (0..graph.nodes.len())
        .filter(|index| graph.nodes.get(*index).is_some_and(|node| !node.done && !node.broken))
        .collect();
    report.cycles = graph.open_cycles(&left);
    let ready = left.into_iter().filter(|index| graph.nodes.get(*index).is_some_and(is_ready)).collect();
    climb(&walked, &mut graph, ready, &mut report).await?;
    report.held_back = graph.nodes.iter().filter(|node| node.broken).count() as u64;
    Ok(report)
}

impl Graph {
    /// Notes the size of a key's value and what it refers to; those of its children that are new.
    fn link(&mut self, index: usize, size: u64, mut references: Vec<Key>) -> Vec<usize> {
        references.sort_unstable();
        references.dedup();
        let mut found = Vec::new();
        for child in references {
            let (child, new) = self.reach(&child);
            if new {
                found.push(child);
            }
            if let Some(node) = self.node(child) {
                node.parents.push(index);
            }
            if let Some(node) = self.node(index) {
                node.open += 1;
            }
        }
        if let Some(node) = self.node(index) {
            node.visited = true;
            node.size = size;
        }
        found
    }
}

fn is_ready(node: &Node) -> bool {
    node.open == 0 && node.visited && !node.broken
}

/// Keys that are looked at by one read: at most so many, and fewer than [`LEAST`] only where there are no more.
const LOOKED_AT: usize = 100;
const LEAST: usize = 32;

/// What was found under a key: the size of its value and what that refers to.
type Found = Result<Option<(u64, Vec<Key>)>>;

/// Reads every reachable value once, for its references.
async fn visit(
    source: &dyn Store,
    walk: &dyn Walk,
    options: &SyncOptions,
    graph: &mut Graph,
    mut queue: VecDeque<usize>,
    report: &mut WalkReport,
) -> Result<()> {
    let together = source.capabilities().has(Feature::AtomicBatch);
    let mut running = FuturesUnordered::new();
    let mut broken = Vec::new();
    loop {
        while running.len() < options.at_a_time() && !queue.is_empty() {
            // Each reader has some, rather than one all.
            let some = (queue.len() / options.at_a_time()).clamp(LEAST, LOOKED_AT).min(queue.len());
            let keys = queue.drain(..if together { some } else { 1 });
            let keys = keys.filter_map(|index| Some((index, graph.key(index)?)));
            running.push(look(source, walk, keys.collect(), options.share()).boxed());
        }
        let Some(looked_at) = running.next().await else { break };
        for (index, key, found) in looked_at {
            match found {
                Ok(Some((size, references))) => {
                    queue.extend(graph.link(index, size, references));
                }
                Ok(None) => {
                    report.missing += 1;
                    broken.push(index);
                }
                Err(error) => {
                    report.sync.fail(&key, &error);
                    if report.sync.failed > options.max_failures {
                        return Err(error);
                    }
                    broken.push(index);
                }
            }
        }
    }
    for index in broken {
        hold_back(graph, index);
    }
    Ok(())
}

/// Reads some keys, and asks what their values refer to. At most so many bytes of values at a time, or one larger value.
async fn look(
    source: &dyn Store,
    walk: &dyn Walk,
    keys: Vec<(usize, Key)>,
    bytes: u64,
) -> Vec<(usize, Key, Found)> {
    let mut looked_at = Vec::with_capacity(keys.len());
    let sizes = sizes_of(source, &keys).await;
    let mut rest = keys.into_iter().zip(sizes).peekable();
    while rest.peek().is_some() {
        let (mut some, mut weight) = (Vec::new(), 0_u64);
        while let Some((key, size)) =
            rest.next_if(|(_, size)| some.is_empty() || weight.saturating_add(*size) <= bytes)
        {
            weight = weight.saturating_add(size);
            some.push(key);
        }
        let reads = read(source, &some).await;
        for ((index, key), read) in some.into_iter().zip(reads) {
            let found = match read.map(Read::into_entry) {
                Ok(Some(entry)) => {
                    walk.references(&key, &entry).await.map(|references| Some((entry.size(), references)))
                }
                Ok(None) => Ok(None),
                Err(error) => Err(error),
            };
            looked_at.push((index, key, found));
        }
    }
    looked_at
}

/// How large the values are. For one key alone it does not matter. One whose size cannot be told counts as empty: what is wrong
/// with it shows when it is read.
async fn sizes_of(source: &dyn Store, keys: &[(usize, Key)]) -> Vec<u64> {
    if keys.len() <= 1 {
        return vec![0; keys.len()];
    }
    let asked: Vec<Key> = keys.iter().map(|(_, key)| key.clone()).collect();
    let heads = source.get_many(&asked, &ReadOptions::new().authoritative().range(0..0)).await;
    let size =
        |head: Result<Read>| head.ok().and_then(Read::into_entry).map_or(0, |entry| entry.metadata().size);
    heads.into_iter().map(size).collect()
}

/// Reads keys together, and alone what could not be read together.
async fn read(source: &dyn Store, keys: &[(usize, Key)]) -> Reads {
    let fresh = ReadOptions::new().authoritative();
    if let [(_, key)] = keys {
        return vec![source.load(key, &fresh).await];
    }
    let asked: Vec<Key> = keys.iter().map(|(_, key)| key.clone()).collect();
    let mut reads = source.get_many(&asked, &fresh).await;
    for (read, key) in reads.iter_mut().zip(&asked) {
        // It may be that all were out of reach for a moment.
        if read.as_ref().is_err_and(|error| error.kind() != ErrorKind::Corrupt) {
            *read = source.load(key, &fresh).await;
        }
    }
    reads
}

/// Marks a key and everything that refers to it, however far.
fn hold_back(graph: &mut Graph, index: usize) {
    let mut stack = vec![index];
    while let Some(index) = stack.pop() {
        if let Some(node) = graph.node(index)
            && !std::mem::replace(&mut node.broken, true)
        {
            stack.extend(node.parents.iter().chain(&node.fellows).copied());
        }
    }
}

/// Copies what is ready, and what becomes ready by that.
async fn climb(
    walked: &Walked<'_>,
    graph: &mut Graph,
    mut ready: VecDeque<usize>,
    report: &mut WalkReport,
) -> Result<()> {
    let options = walked.options;
    let mut running = FuturesUnordered::new();
    loop {
        while running.len() < options.at_a_time() && !ready.is_empty() {
            let group = graph.group(&mut ready, walked.most(), options.share());
            running.push(walked.copy(group).boxed());
        }
        let Some(copied) = running.next().await else { return Ok(()) };
        for (index, key, copied) in copied {
            match copied {
                Ok(Copied::Vanished) => {
                    report.sync.vanished += 1;
                    hold_back(graph, index);
                    continue;
                }
                Ok(Copied::Done(bytes)) => {
                    report.sync.copied += 1;
                    report.sync.bytes += bytes;
                }
                Ok(Copied::Overtaken | Copied::Same) => report.sync.skipped += 1,
                Err(error) => {
                    report.sync.fail(&key, &error);
                    if report.sync.failed > options.max_failures {
                        return Err(error);
                    }
                    hold_back(graph, index);
                    continue;
                }
            }
            graph.settle(index, &mut ready);
        }
    }
}

impl Graph {
    /// Lets the keys of a cycle wait for each other no longer: only for what is outside of it. How many references are within
    /// cycles.
    fn open_cycles(&mut self, left: &[usize]) -> u64 {
        let nodes = &self.nodes;
        // References backwards.
        let component =
            components(nodes.len(), left, |index, nth| nodes.get(index)?.parents.get(nth).copied());
        let is_same = |one: usize, other: usize| component.get(one) == component.get(other);
        let mut within = 0;
        for child in left {
            let Some(node) = self.node(*child) else { continue };
            let (fellows, parents): (Vec<usize>, Vec<usize>) =
                std::mem::take(&mut node.parents).into_iter().partition(|parent| is_same(*parent, *child));
            node.parents = parents;
            node.fellows.clone_from(&fellows);
            for fellow in fellows {
                within += 1;
                if let Some(fellow) = self.node(fellow) {
                    fellow.open -= 1;
                }
            }
        }
        within
    }

    /// Takes keys that are ready: at most so many, with at most so many bytes, and at least one.
    fn group(&self, ready: &mut VecDeque<usize>, most: usize, bytes: u64) -> Vec<(usize, Key, u64)> {
        let (mut group, mut weight) = (Vec::new(), 0_u64);
        while let Some(index) = ready.front().copied() {
            let size = self.nodes.get(index).map_or(0, |node| node.size);
            weight = weight.saturating_add(size);
            if group.len() >= most || (weight > bytes && !group.is_empty()) {
                break;
            }
            ready.pop_front();
            group.extend(self.key(index).map(|key| (index, key, size)));
        }
        group
    }

    /// Notes that a key is in the target; those that refer to it may be ready by that.
    fn settle(&mut self, index: usize, ready: &mut VecDeque<usize>) {
        let parents = self.node(index).map(|node| {
            node.done = true;
            std::mem::take(&mut node.parents)
        });
        for parent in parents.unwrap_or_default() {
            if let Some(node) = self.node(parent)
                && node.open > 0
            {
                node.open -= 1;
                if is_ready(node) && !node.done {
                    ready.push_back(parent);
                }
            }
        }
    }
}

/// The two sides of a walk.
struct Walked<'a> {
    source: &'a dyn Store,
    target: &'a dyn Target,
    options: &'a SyncOptions,
}

impl Walked<'_> {
    /// How many keys are copied together.
    fn most(&self) -> usize {
        let together = self.target.batches() && self.options.dry_run == DryRun::No;
        if together { self.options.in_a_batch() } else { 1 }
    }

    /// Copies keys of which all that they refer to is in the target: together those that it lacks. What it has, a tombstone or
    /// something damaged among it, is looked at by itself.
    async fn copy(&self, group: Vec<(usize, Key, u64)>) -> Vec<(usize, Key, Result<Copied>)> {
        let keys: Vec<Key> = group.iter().map(|(_, key, _)| key.clone()).collect();
        let lacks = if keys.len() > 1 { self.target.lacks(&keys).await } else { vec![false; keys.len()] };
        let lacking = group.iter().zip(&lacks).filter(|(_, lacks)| **lacks);
        let tasks: Vec<Task> =
            lacking.map(|((_, key, size), _)| Task::Copy(Listed::new(key.clone(), *size), None)).collect();
        let added = if tasks.is_empty() { Vec::new() } else { self.target.carry_out(&tasks).await };
        let mut added = added.into_iter();
        let mut copied = Vec::with_capacity(group.len());
        for ((index, key, size), lacks) in group.into_iter().zip(lacks) {
            let ended = match if lacks { added.next() } else { None } {
                Some(Batched::Ended(Ok(Done::Copied(done)))) if done != Copied::Overtaken => Ok(done),
                Some(Batched::Ended(Err(error))) if error.kind() != ErrorKind::Corrupt => Err(error),
                _ => self.copy_alone(&key, size).await,
            };
            copied.push((index, key, ended));
        }
        copied
    }

    async fn copy_alone(&self, key: &Key, size: u64) -> Result<Copied> {
        if self.options.dry_run == DryRun::No {
            return copy_named(self.target, key).await;
        }
        let theirs = look_at(key, self.target.list(ListOptions::new().prefix(key.as_str()).limit(1))).await?;
        let Some(Seen::Listed(Listed { version: Some(theirs), .. })) = theirs else {
            return Ok(Copied::Done(size));
        };
        let ours = self.source.head(key, &ReadOptions::new().authoritative()).await?;
        let is_same = ours.is_some_and(|ours| ours.version == theirs);
        Ok(if is_same { Copied::Same } else { Copied::Done(size) })
    }
}
