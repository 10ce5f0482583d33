//! Finding what is reachable: each key is looked at once, many at a time, in the order in which they are reached.

use futures_util::FutureExt as _;
use futures_util::future::join;
use futures_util::stream::{FuturesUnordered, StreamExt as _};

use super::ledger::{Id, Ledger, Node};
use super::marks::Marks;
use super::options::WalkOptions;
use super::references::Walk;
use super::report::WalkReport;
use super::workspace::TOGETHER;
use crate::capability::Feature;
use crate::entry::{Entry, Metadata};
use crate::error::{ErrorKind, Result};
use crate::key::Key;
use crate::read::{Read, ReadOptions, Reads};
use crate::store::Store;
use crate::sync::target::Target;
use crate::version::Version;

/// Keys that are looked at together: at most so many, and fewer than [`LEAST`] only where there are no more.
const MOST: usize = 100;
const LEAST: usize = 32;

/// After so many keys what was found is made to last: a later walk looks at no more than these again.
const KEPT_EVERY: usize = 4_096;

/// The two sides of a walk.
#[derive(Clone, Copy)]
pub(super) struct Sides<'a> {
    source: &'a dyn Store,
    target: &'a dyn Target,
    walk: &'a dyn Walk,
    options: &'a WalkOptions,
}

impl<'a> Sides<'a> {
    pub(super) const fn new(
        source: &'a dyn Store,
        target: &'a dyn Target,
        walk: &'a dyn Walk,
        options: &'a WalkOptions,
    ) -> Self {
        Self { source, target, walk, options }
    }

    pub(super) const fn source(&self) -> &'a dyn Store {
        self.source
    }

    pub(super) const fn target(&self) -> &'a dyn Target {
        self.target
    }

    pub(super) const fn walk(&self) -> &'a dyn Walk {
        self.walk
    }

    pub(super) const fn options(&self) -> &'a WalkOptions {
        self.options
    }
}

/// What was found under a key.
enum Found {
    /// A value of so many bytes, of a version, that refers to keys.
    Node {
        size: u64,
        version: Version,
        references: Vec<Key>,
    },
    /// The target has it, and is trusted.
    Trusted,
    Missing,
}

/// Takes over what an earlier walk found, and counts the keys that it has looked at. Those that were missing, that it trusted, or that
/// failed are looked at again.
pub(super) async fn recall(ledger: &Ledger, marks: &mut Marks) -> Result<u64> {
    let mut recalled = 0;
    let mut next: Id = 0;
    while next < ledger.reached() {
        let ids: Vec<Id> = (next..ledger.reached()).take(TOGETHER).collect();
        next = ids.last().map_or(next, |last| last + 1);
        for (id, node) in ids.iter().zip(ledger.visited(&ids).await?) {
            let Some(node) = node else { continue };
            recalled += 1;
            marks.recall(*id);
            if node.children().is_empty() {
                marks.leaf(*id);
            }
        }
    }
    Ok(recalled)
}

/// Visits everything that is reachable from what the ledger has.
pub(super) async fn discover(
    sides: Sides<'_>,
    ledger: &mut Ledger,
    marks: &mut Marks,
    report: &mut WalkReport,
) -> Result<()> {
    let at_a_time = sides.options.sync().at_a_time();
    let together = sides.source.capabilities().has(Feature::AtomicBatch);
    let mut running = FuturesUnordered::new();
    let (mut next, mut not_kept): (Id, usize) = (0, 0);
    report.reached = ledger.reached().into();
    loop {
        while running.len() < at_a_time && next < ledger.reached() {
            let waiting = (ledger.reached() - next) as usize;
            // Each reader has some, rather than one all.
            let some = if together { (waiting / at_a_time).clamp(LEAST, MOST).min(waiting) } else { 1 };
            let new = (next..ledger.reached()).filter(|id| !marks.is_recalled(*id));
            let ids: Vec<Id> = new.take(some).collect();
            next = ids.last().map_or(ledger.reached(), |last| last + 1);
            if ids.is_empty() {
                break;
            }
            let keys = ledger.keys(&ids).await?;
            running.push(look(sides, ids.into_iter().zip(keys).collect()).boxed());
        }
        let Some(looked_at) = running.next().await else { return Ok(()) };
        not_kept += looked_at.len();
        take(looked_at, sides.options, ledger, marks, report).await?;
        if not_kept >= KEPT_EVERY {
            ledger.keep().await?;
            not_kept = 0;
        }
        report.reached = ledger.reached().into();
        sides.options.report_progress(report);
    }
}

/// Notes what was found under some keys.
async fn take(
    looked_at: Vec<(Id, Key, Result<Found>)>,
    options: &WalkOptions,
    ledger: &mut Ledger,
    marks: &mut Marks,
    report: &mut WalkReport,
) -> Result<()> {
    let mut nodes = Vec::with_capacity(looked_at.len());
    let (mut all, mut one_too_many) = (Vec::new(), None);
    for (id, key, found) in looked_at {
        match found {
            Ok(Found::Node { size, version, mut references }) => {
                references.sort_unstable();
                references.dedup();
                let count = references.len();
                all.append(&mut references);
                nodes.push((id, size, ledger.fingerprint(&version), count));
            }
            Ok(Found::Trusted) => {
                report.trusted += 1;
                marks.settle(id);
            }
            Ok(Found::Missing) => {
                report.missing += 1;
                marks.break_off(id);
            }
            Err(error) => {
                report.sync.fail(&key, &error);
                marks.break_off(id);
                if report.sync.failed > options.sync().max_failures {
                    one_too_many.get_or_insert(error);
                }
            }
        }
    }
    let mut children = ledger.reach(&all).await?.into_iter();
    let mut noted = Vec::with_capacity(nodes.len());
    for (id, size, version, count) in nodes {
        if count == 0 {
            marks.leaf(id);
        }
        noted.push((id, Node::new(size, version, children.by_ref().take(count).collect())));
    }
    ledger.note(noted).await?;
    // What was found beside it is kept for a later walk.
    one_too_many.map_or(Ok(()), Err)
}

/// What is known of a key before its value is read.
struct Head {
    id: Id,
    key: Key,
    size: u64,
    /// Where it is known and suffices.
    found: Option<Found>,
}

/// Reads some keys, and asks what their values refer to. At most so many bytes of values at a time, or one larger value.
async fn look(sides: Sides<'_>, keys: Vec<(Id, Key)>) -> Vec<(Id, Key, Result<Found>)> {
    let mut looked_at = Vec::with_capacity(keys.len());
    let mut heads = heads(sides, keys).await.into_iter().peekable();
    while heads.peek().is_some() {
        let (mut some, mut weight) = (Vec::new(), 0_u64);
        while let Some(head) = heads.next_if(|head| {
            some.is_empty() || weight.saturating_add(head.size) <= sides.options.sync().share()
        }) {
            if let Some(found) = head.found {
                looked_at.push((head.id, head.key, Ok(found)));
            } else {
                weight = weight.saturating_add(head.size);
                some.push((head.id, head.key));
            }
        }
        let asked: Vec<Key> = some.iter().map(|(_, key)| key.clone()).collect();
        for ((id, key), read) in some.into_iter().zip(read(sides.source, &asked).await) {
            let found = match read.map(Read::into_entry) {
                Ok(Some(entry)) => node(sides.walk, &key, &entry).await,
                Ok(None) => Ok(Found::Missing),
                Err(error) => Err(error),
            };
            looked_at.push((id, key, found));
        }
    }
    looked_at
}

async fn node(walk: &dyn Walk, key: &Key, entry: &Entry) -> Result<Found> {
    let references = walk.references(key, entry).await?;
    Ok(Found::Node { size: entry.size(), version: entry.version().clone(), references })
}

/// How large the values are, and what need not be read. It does not matter for one key alone. What is wrong with a key that
/// cannot be looked at shows when it is read.
async fn heads(sides: Sides<'_>, keys: Vec<(Id, Key)>) -> Vec<Head> {
    let is_leaf = |key: &Key| sides.walk.is_leaf(key);
    if keys.len() == 1 && !sides.options.trusts() && !keys.iter().any(|(_, key)| is_leaf(key)) {
        return keys.into_iter().map(|(id, key)| Head { id, key, size: 0, found: None }).collect();
    }
    let asked: Vec<Key> = keys.iter().map(|(_, key)| key.clone()).collect();
    let options = ReadOptions::new().authoritative().range(0..0);
    let theirs =
        async { if sides.options.trusts() { sides.target.versions(&asked).await } else { Vec::new() } };
    let (ours, theirs) = join(sides.source.get_many(&asked, &options), theirs).await;
    let mut theirs = theirs.into_iter();
    let head = |((id, key), ours): ((Id, Key), Result<Read>)| {
        let theirs = theirs.next().flatten();
        let Ok(ours) = ours else { return Head { id, key, size: 0, found: None } };
        let Some(ours) = ours.into_entry() else {
            return Head { id, key, size: 0, found: Some(Found::Missing) };
        };
        let Metadata { size, version, .. } = &**ours.metadata();
        let found = if theirs.as_ref() == Some(version) {
            Some(Found::Trusted)
        } else if is_leaf(&key) {
            Some(Found::Node { size: *size, version: version.clone(), references: Vec::new() })
        } else {
            None
        };
        Head { id, key, size: *size, found }
    };
    keys.into_iter().zip(ours).map(head).collect()
}

/// Reads keys together, and alone what could not be read together.
pub(super) async fn read(source: &dyn Store, keys: &[Key]) -> Reads {
    let fresh = ReadOptions::new().authoritative();
    if let [key] = keys {
        return vec![source.load(key, &fresh).await];
    }
    if keys.is_empty() {
        return Vec::new();
    }
    let mut reads = source.get_many(keys, &fresh).await;
    for (read, key) in reads.iter_mut().zip(keys) {
        // It may be that all were out of reach for a moment.
        if read.as_ref().is_err_and(|error| error.kind() != ErrorKind::Corrupt) {
            *read = source.load(key, &fresh).await;
        }
    }
    reads
}
