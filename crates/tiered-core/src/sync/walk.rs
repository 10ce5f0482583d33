//! Walks: copying what is reachable from roots, children before parents.

use std::collections::{HashMap, VecDeque};

use async_trait::async_trait;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt as _, StreamExt as _};

use super::options::SyncOptions;
use super::plain::PlainTarget;
use super::report::SyncReport;
use super::run::copy_named;
use super::strategy::Changes;
use super::target::{Copied, Target};
use crate::claim::Scope;
use crate::entry::Entry;
use crate::error::{Error, ErrorKind, Operation, Result};
use crate::key::Key;
use crate::read::ReadOptions;
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
    /// References that close a cycle. The entries of a cycle are copied after everything else they refer to.
    pub cycles: u64,
    /// Keys that were not copied since something they refer to could not be.
    pub held_back: u64,
    /// What was copied.
    pub sync: SyncReport,
}

/// Copies from `source` to `target` what is reachable from `roots`, each key once, a parent only after all of its
/// children, so that an interrupted walk never leaves a root whose parts are missing.
///
/// Keys are visited concurrently, within the options' concurrency. Memory grows with the number of reachable keys
/// (key, count of open children, parents), not with their values.
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
    /// The keys that refer to it.
    parents: Vec<usize>,
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
    climb(target, options, &mut graph, ready, &mut report).await?;
    // What is left and not broken waits for itself: cycles, copied last and in any order.
    let left: VecDeque<usize> = (0..graph.nodes.len())
        .filter(|index| graph.nodes.get(*index).is_some_and(|node| !node.done && !node.broken))
        .collect();
    for index in &left {
        if let Some(node) = graph.node(*index) {
            report.cycles += node.open as u64;
            node.open = 0;
        }
    }
    climb(target, options, &mut graph, left, &mut report).await?;
    report.held_back = graph.nodes.iter().filter(|node| node.broken).count() as u64;
    Ok(report)
}

impl Graph {
    /// Notes what a key refers to; those of its children that are new.
    fn link(&mut self, index: usize, mut references: Vec<Key>) -> Vec<usize> {
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
        }
        found
    }
}

fn is_ready(node: &Node) -> bool {
    node.open == 0 && node.visited && !node.broken
}

/// Reads every reachable value once, for its references.
async fn visit(
    source: &dyn Store,
    walk: &dyn Walk,
    options: &SyncOptions,
    graph: &mut Graph,
    mut queue: VecDeque<usize>,
    report: &mut WalkReport,
) -> Result<()> {
    let mut running = FuturesUnordered::new();
    let mut broken = Vec::new();
    loop {
        while running.len() < options.concurrency {
            let Some(index) = queue.pop_front() else { break };
            let Some(key) = graph.key(index) else { continue };
            running.push(
                async move {
                    let read = source.load(&key, &ReadOptions::new().authoritative()).await;
                    let found = match read.map(crate::Read::into_entry) {
                        Ok(Some(entry)) => walk.references(&key, &entry).await.map(Some),
                        Ok(None) => Ok(None),
                        Err(error) => Err(error),
                    };
                    (index, key, found)
                }
                .boxed(),
            );
        }
        let Some((index, key, found)) = running.next().await else { break };
        match found {
            Ok(Some(references)) => {
                queue.extend(graph.link(index, references));
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
    for index in broken {
        hold_back(graph, index);
    }
    Ok(())
}

/// Marks a key and everything that refers to it, however far.
fn hold_back(graph: &mut Graph, index: usize) {
    let mut stack = vec![index];
    while let Some(index) = stack.pop() {
        if let Some(node) = graph.node(index)
            && !std::mem::replace(&mut node.broken, true)
        {
            stack.extend(node.parents.iter().copied());
        }
    }
}

/// Copies what is ready, and what becomes ready by that.
async fn climb(
    target: &dyn Target,
    options: &SyncOptions,
    graph: &mut Graph,
    mut ready: VecDeque<usize>,
    report: &mut WalkReport,
) -> Result<()> {
    let mut running = FuturesUnordered::new();
    loop {
        while running.len() < options.concurrency {
            let Some(index) = ready.pop_front() else { break };
            let Some(key) = graph.key(index) else { continue };
            running.push(async move { (index, copy_named(target, &key).await, key) }.boxed());
        }
        let Some((index, copied, key)) = running.next().await else { return Ok(()) };
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
        let parents = graph.node(index).map(|node| {
            node.done = true;
            std::mem::take(&mut node.parents)
        });
        for parent in parents.unwrap_or_default() {
            if let Some(node) = graph.node(parent)
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
