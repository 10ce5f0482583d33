//! Walks: copying what is reachable from roots, children before parents.

mod discover;
mod group;
mod header;
mod kept;
mod ledger;
mod marks;
mod node;
mod options;
mod order;
mod pages;
mod publish;
mod references;
mod report;
mod workspace;

use std::collections::BTreeSet;

use discover::{Sides, discover, recall};
use ledger::Ledger;
use marks::Marks;
use node::Id;
use publish::Publisher;

use super::plain::PlainTarget;
use super::strategy::Changes;
use super::target::Target;
use crate::claim::Scope;
use crate::error::{Error, ErrorKind, Operation, Result};
use crate::key::Key;
use crate::store::{AsStore, Store};

pub use options::{Present, WalkOptions};
pub use references::Walk;
pub use report::WalkReport;

/// Copies from `source` to `target` what is reachable from `roots`, each key once, a parent only after all of its
/// children, so that an interrupted walk never leaves a root whose parts are missing.
///
/// First all reachable keys are found: many are read at a time, within the options' concurrency, and by one request where the
/// source handles many keys as one. Then they are copied. Values are read in any order, many at a time; only their
/// publication waits for that of what they refer to. Where the target takes atomic batches, a batch has parents and
/// children, and the keys of a cycle become visible together. Elsewhere those of a cycle are copied one after the other.
///
/// Values that were read for their references are copied as they were then, as long as half of the
/// [`byte_budget`](WalkOptions::byte_budget) has room for them and the target has nothing under their key. All others are read again
/// when they are copied. One that others changed meanwhile, and that then refers to keys which were not walked, is not copied, and is
/// counted in [`WalkReport::changed`]. The frontend of a live store is the exception: it reads its backend itself.
///
/// Memory grows with the number of reachable keys, about 200 bytes each, not with their values.
/// [`WalkOptions::workspace`] keeps what is known of them in a store: then it is 6 bytes a key. With [`WalkOptions::resumable`] a later
/// walk goes on from there.
///
/// Several walks, of different roots, may copy to one target at the same time, each in a process of its own. What they have in common is
/// copied by one of them, and the others find it there. A parent waits for all of its children, whichever walk copies these.
///
/// # Errors
/// As [`sync`](super::sync) for the pair of stores; those of the workspace. Entries that fail are counted.
///
/// # Cancel safety
/// Dropping it stops it; every key in the target then has all that it refers to, cycles in a target without atomic batches
/// excepted.
///
/// # Examples
/// ```
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// use tiered_core::sync::{WalkOptions, walk_sync};
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
/// let report = walk_sync(&source, &target, &[Key::new("root")?], &references, &WalkOptions::new()).await?;
/// assert_eq!((report.reached, report.sync.copied), (3, 3));
/// # Ok::<(), tiered_core::Error>(()) }).unwrap();
/// ```
pub async fn walk_sync(
    source: &(impl AsStore + ?Sized),
    target: &(impl AsStore + ?Sized),
    roots: &[Key],
    walk: &dyn Walk,
    options: &WalkOptions,
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
    let target = PlainTarget::new(source, target, options.sync(), Changes::Overwrites)
        .map_err(|error| error.during(Operation::Sync))?;
    run_walk(source, &target, roots, walk, options).await.map_err(|error| error.during(Operation::Sync))
}

/// Finds what is reachable, then copies it from the leaves up.
pub(crate) async fn run_walk(
    source: &dyn Store,
    target: &dyn Target,
    roots: &[Key],
    walk: &dyn Walk,
    options: &WalkOptions,
) -> Result<WalkReport> {
    let sides = Sides::new(source, target, walk, options);
    let (mut report, mut marks) = (WalkReport::default(), Marks::default());
    let mut ledger = Ledger::open(options.working_place()).await?;
    report.resumed = recall(&ledger, &mut marks).await?;
    let roots: BTreeSet<Id> = ledger.reach(roots).await?.into_iter().collect();
    report.roots = roots.len() as u64;
    let mut kept = sides.kept();
    let found = discover(sides, &mut ledger, &mut marks, &mut kept, &mut report).await;
    // What was found before an error is there for a later walk.
    let is_kept = ledger.keep().await;
    found?;
    is_kept?;
    ledger.write().await?;
    Publisher::new(sides, &ledger, marks, kept).run(&mut report).await?;
    ledger.end().await?;
    Ok(report)
}
