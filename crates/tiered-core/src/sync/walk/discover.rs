//! Finding what is reachable: each key is looked at once, many at a time, in the order in which they are reached.

use std::collections::VecDeque;

use futures_util::FutureExt as _;
use futures_util::future::join;
use futures_util::stream::{FuturesUnordered, StreamExt as _};

use super::kept::Kept;
use super::ledger::Ledger;
use super::marks::Marks;
use super::node::{Id, Node};
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
use crate::sync::options::DryRun;
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

    /// Whether values that were read for their references are copied as they are, without another read: where the target takes them
    /// by batches that are all or nothing, each key only where it has nothing under it.
    fn keeps(&self) -> bool {
        let is_real = self.options.sync().dry_run == DryRun::No;
        is_real && self.target.takes_entries() && self.target.batches()
    }

    /// Room for such values: half of the bytes of values. Reads have the other half.
    pub(super) fn kept(&self) -> Kept {
        Kept::new(if self.keeps() { self.options.sync().byte_budget / 2 } else { 0 })
    }

    /// The bytes that the values of one look at keys may take.
    fn share(&self) -> u64 {
        let share = self.options.sync().share();
        if self.keeps() { (share / 2).max(1) } else { share }
    }
}

/// What was found under a key.
enum Found {
    /// A value of so many bytes, of a version, that refers to keys; and the value, where it was read.
    Node {
        size: u64,
        version: Version,
        references: Vec<Key>,
        entry: Option<Entry>,
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

/// Keys that are to be looked at, in the order in which they were reached.
struct Upcoming {
    /// The first that is not among those.
    next: Id,
    keys: VecDeque<(Id, Key)>,
}

impl Upcoming {
    const fn new() -> Self {
        Self { next: 0, keys: VecDeque::new() }
    }

    /// How many there are, those among them that an earlier walk has looked at.
    fn len(&self, ledger: &Ledger) -> usize {
        self.keys.len() + (ledger.reached() - self.next) as usize
    }

    /// Asks the ledger for more, if there are fewer than are wanted.
    async fn refill(&mut self, wanted: usize, ledger: &Ledger, marks: &Marks) -> Result<()> {
        while self.keys.len() < wanted && self.next < ledger.reached() {
            let new = (self.next..ledger.reached()).filter(|id| !marks.is_recalled(*id));
            let ids: Vec<Id> = new.take(TOGETHER).collect();
            self.next = ids.last().map_or(ledger.reached(), |last| last + 1);
            let keys = ledger.keys(&ids).await?;
            self.keys.extend(ids.into_iter().zip(keys));
        }
        Ok(())
    }
}

/// Visits everything that is reachable from what the ledger has.
pub(super) async fn discover(
    sides: Sides<'_>,
    ledger: &mut Ledger,
    marks: &mut Marks,
    kept: &mut Kept,
    report: &mut WalkReport,
) -> Result<()> {
    let at_a_time = sides.options.sync().at_a_time();
    let together = sides.source.capabilities().has(Feature::AtomicBatch);
    let mut running = FuturesUnordered::new();
    let (mut upcoming, mut not_kept) = (Upcoming::new(), 0);
    report.reached = ledger.reached().into();
    loop {
        while running.len() < at_a_time {
            let waiting = upcoming.len(ledger);
            // Each reader has some, rather than one all.
            let some = if together { (waiting / at_a_time).clamp(LEAST, MOST) } else { 1 };
            upcoming.refill(some, ledger, marks).await?;
            let keys: Vec<(Id, Key)> = upcoming.keys.drain(..some.min(upcoming.keys.len())).collect();
            if keys.is_empty() {
                break;
            }
            running.push(look(sides, keys).boxed());
        }
        let Some(mut looked_at) = running.next().await else { return Ok(()) };
        // What else has ended goes into the same look at the ledger.
        while looked_at.len() < TOGETHER
            && let Some(Some(more)) = running.next().now_or_never()
        {
            looked_at.extend(more);
        }
        not_kept += looked_at.len();
        take(looked_at, sides.options, ledger, marks, kept, report).await?;
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
    kept: &mut Kept,
    report: &mut WalkReport,
) -> Result<()> {
    let mut nodes = Vec::with_capacity(looked_at.len());
    let (mut all, mut one_too_many) = (Vec::new(), None);
    for (id, key, found) in looked_at {
        match found {
            Ok(Found::Node { size, version, mut references, entry }) => {
                if let Some(entry) = entry {
                    kept.keep(id, entry);
                }
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

/// A key, and what is known of it so far.
struct Head {
    id: Id,
    key: Key,
    size: u64,
    /// Where it is known and suffices.
    found: Option<Result<Found>>,
}

impl Head {
    const fn new(id: Id, key: Key) -> Self {
        Self { id, key, size: 0, found: None }
    }
}

/// Reads some keys, and asks what their values refer to. At most so many bytes of values at a time, or one larger value.
async fn look(sides: Sides<'_>, keys: Vec<(Id, Key)>) -> Vec<(Id, Key, Result<Found>)> {
    let mut looked_at = Vec::with_capacity(keys.len());
    let mut heads: Vec<Head> = keys.into_iter().map(|(id, key)| Head::new(id, key)).collect();
    let is_left = |head: &Head| sides.options.trusts() || sides.walk.is_leaf(&head.key);
    look_at_heads(sides, &mut heads, is_left).await;
    read_small(sides, &mut heads).await;
    let is_alone = heads.len() == 1;
    let mut heads = heads.into_iter().peekable();
    while heads.peek().is_some() {
        let (mut some, mut weight) = (Vec::new(), 0_u64);
        while let Some(head) =
            heads.next_if(|head| some.is_empty() || weight.saturating_add(head.size) <= sides.share())
        {
            if let Some(found) = head.found {
                looked_at.push((head.id, head.key, found));
            } else {
                weight = weight.saturating_add(head.size);
                some.push((head.id, head.key));
            }
        }
        let asked: Vec<Key> = some.iter().map(|(_, key)| key.clone()).collect();
        for ((id, key), read) in some.into_iter().zip(read(sides.source, &asked).await) {
            let found = match read.map(Read::into_entry) {
                Ok(Some(entry)) => {
                    let fits = is_alone && entry.size() <= sides.share();
                    node(sides, &key, entry, if fits { Afterwards::Kept } else { Afterwards::Dropped }).await
                }
                Ok(None) => Ok(Found::Missing),
                Err(error) => Err(error),
            };
            looked_at.push((id, key, found));
        }
    }
    looked_at
}

/// What becomes of a value that was read for its references.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Afterwards {
    /// It is copied as it is, if there is room for it until then.
    Kept,
    Dropped,
}

async fn node(sides: Sides<'_>, key: &Key, entry: Entry, afterwards: Afterwards) -> Result<Found> {
    let references = sides.walk.references(key, &entry).await?;
    let (size, version) = (entry.size(), entry.version().clone());
    let entry = Some(entry).filter(|_| afterwards == Afterwards::Kept && sides.keeps());
    Ok(Found::Node { size, version, references, entry })
}

/// Looks for what need not be read: leaves, and what the target has and is trusted for. What is wrong with a key that cannot be
/// looked at shows when it is read.
async fn look_at_heads(sides: Sides<'_>, heads: &mut [Head], is_looked_at: impl Fn(&Head) -> bool) {
    let mut heads: Vec<&mut Head> = heads.iter_mut().filter(|head| is_looked_at(head)).collect();
    if heads.is_empty() {
        return;
    }
    let asked: Vec<Key> = heads.iter().map(|head| head.key.clone()).collect();
    let options = ReadOptions::new().authoritative().range(0..0);
    let theirs =
        async { if sides.options.trusts() { sides.target.versions(&asked).await } else { Vec::new() } };
    let (ours, theirs) = join(sides.source.get_many(&asked, &options), theirs).await;
    let mut theirs = theirs.into_iter();
    for (head, ours) in heads.iter_mut().zip(ours) {
        let theirs = theirs.next().flatten();
        let Ok(ours) = ours else { continue };
        let Some(ours) = ours.into_entry() else {
            head.found = Some(Ok(Found::Missing));
            continue;
        };
        let Metadata { size, version, .. } = &**ours.metadata();
        head.size = *size;
        if theirs.as_ref() == Some(version) {
            head.found = Some(Ok(Found::Trusted));
        } else if sides.walk.is_leaf(&head.key) {
            let (size, version) = (*size, version.clone());
            head.found = Some(Ok(Found::Node { size, version, references: Vec::new(), entry: None }));
        }
    }
}

/// Reads of several keys what is not larger than their part of the bytes, by one request, and how large the others are. One key alone
/// is read as it is.
async fn read_small(sides: Sides<'_>, heads: &mut [Head]) {
    let mut heads: Vec<&mut Head> = heads.iter_mut().filter(|head| head.found.is_none()).collect();
    if heads.len() < 2 {
        return;
    }
    let asked: Vec<Key> = heads.iter().map(|head| head.key.clone()).collect();
    let part = sides.share() / asked.len() as u64;
    let options = ReadOptions::new().authoritative().range(0..part);
    for (head, read) in heads.iter_mut().zip(sides.source.get_many(&asked, &options).await) {
        // What is wrong with a key shows when it is read by itself.
        let Ok(read) = read else { continue };
        head.found = match read.into_entry() {
            None => Some(Ok(Found::Missing)),
            Some(entry) => {
                head.size = entry.metadata().size;
                // A part of a value is not compared with its checksum.
                if entry.verify().is_ok() {
                    Some(node(sides, &head.key, entry, Afterwards::Kept).await)
                } else {
                    None
                }
            }
        };
    }
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
