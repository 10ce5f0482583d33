//! Syncs and walks between two stores, while others write and calls fail: what a sync must not take away, and what a walk
//! must not leave.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tiered_conformance::{Dice, Fault, FaultStore, Faults};
use tiered_core::sync::{FullSync, SyncOptions, WalkOptions, sync, sync_keys, walk_sync};
use tiered_core::{Entry, Error, Feature, Key, MemoryStore, Put, Result, Store, StoreExt as _, Version};

/// Keys of a transfer.
const KEYS: u64 = 24;

/// Everything a key refers to: some of those behind it.
fn references(number: u64) -> impl Iterator<Item = u64> {
    [2 * number + 1, 2 * number + 2].into_iter().filter(|child| *child < KEYS)
}

fn keys() -> Vec<Key> {
    (0..KEYS).filter_map(|number| Key::new(format!("node-{number:02}")).ok()).collect()
}

fn number(key: &Key) -> u64 {
    key.as_str().rsplit('-').next().and_then(|digits| digits.parse().ok()).unwrap_or(0)
}

fn options(dice: &mut Dice) -> SyncOptions {
    let batch = usize::try_from(1 + dice.below(8)).unwrap_or(1);
    SyncOptions::new().concurrency(4).batch(batch).max_failures(KEYS)
}

/// A value: one that listings bring with its key, or one that is read.
fn value(dice: &mut Dice, word: &str) -> String {
    if dice.below(2) == 0 { word.to_owned() } else { word.repeat(300) }
}

fn faulty(dice: &mut Dice, name: &str, inner: &MemoryStore) -> Arc<dyn Store> {
    let faults = Faults::new(dice.roll())
        .with(Fault::Slow, 3)
        .with(Fault::SlowList, 2)
        .with(Fault::ErrorBefore, 20)
        .with(Fault::ErrorAfter, 20);
    Arc::new(FaultStore::new(name, Arc::new(inner.clone()), Arc::new(faults)).remote())
}

/// Runs a few syncs and one walk.
///
/// # Errors
/// What was wrong.
pub(crate) async fn run(dice: &mut Dice) -> std::result::Result<(), String> {
    let failed = |error: tiered_core::Error| format!("a transfer: {}", error.chain());
    full_sync(dice).await.map_err(failed)??;
    resumed(dice).await.map_err(failed)??;
    told(dice).await.map_err(failed)??;
    by_name(dice).await.map_err(failed)??;
    walk(dice).await.map_err(failed)?
}

type Checked = Result<std::result::Result<(), String>>;

/// What is written to the target after it was listed is neither removed nor replaced.
async fn full_sync(dice: &mut Dice) -> Checked {
    let (source, target) = (MemoryStore::new(), MemoryStore::new());
    let keys = keys();
    for key in &keys {
        for store in [&source, &target] {
            if dice.below(2) == 0 {
                store.put(key, Put::new(value(dice, "before"))).await?;
            }
        }
    }
    let (from, to) = (faulty(dice, "source", &source), faulty(dice, "target", &target));
    let mut written: BTreeMap<Key, Version> = BTreeMap::new();
    let options = options(dice);
    let writing = async {
        // When the listings have begun: each is of one moment, since all keys fit a page.
        tokio::time::sleep(Duration::from_millis(170)).await;
        for _ in 0..8 {
            tokio::time::sleep(Duration::from_millis(dice.below(80))).await;
            let at = usize::try_from(dice.below(KEYS)).unwrap_or(0);
            let Some(key) = keys.get(at) else { continue };
            // A writer of the target alone: the source knows nothing of it.
            written.insert(key.clone(), target.put(key, Put::new("meanwhile")).await?.version);
        }
        Ok::<_, Error>(())
    };
    let (_, wrote) = futures_util::future::join(sync(&from, &to, &FullSync, &options), writing).await;
    wrote?;
    for (key, version) in written {
        let found = target.get(&key).await?;
        if found.as_ref().map(Entry::version) != Some(&version) {
            return Ok(Err(format!("{key}: a full sync left {found:?} of a key that was written meanwhile")));
        }
    }
    Ok(Ok(()))
}

/// Two stores that differ in some of the keys.
async fn sides(dice: &mut Dice, keys: &[Key], target: MemoryStore) -> Result<(MemoryStore, MemoryStore)> {
    let source = MemoryStore::new();
    for key in keys {
        if dice.below(3) > 0 {
            source.put(key, Put::new(value(dice, "source"))).await?;
        }
        if dice.below(2) == 0 {
            target.put(key, Put::new("target")).await?;
        }
    }
    Ok((source, target))
}

/// A sync that is dropped and resumed behind its checkpoint leaves out nothing.
async fn resumed(dice: &mut Dice) -> Checked {
    let keys = keys();
    let (source, target) = sides(dice, &keys, MemoryStore::new()).await?;
    let (from, to) = (faulty(dice, "source", &source), faulty(dice, "target", &target));
    let last = Arc::new(Mutex::new(None));
    let seen = Arc::clone(&last);
    let options = options(dice).on_progress(move |progress| *seen.lock() = Some(progress.checkpoint.clone()));
    let syncing = sync(&from, &to, &FullSync, &options);
    tokio::time::timeout(Duration::from_millis(dice.below(900)), syncing).await.ok();
    // What was sent already arrives.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let mut rest = SyncOptions::new();
    rest.resume.clone_from(&last.lock());
    let report = sync(&source, &target, &FullSync, &rest).await?;
    let from = rest.resume;
    if report.failed > 0 || source.snapshot() != target.snapshot() {
        return Ok(Err(format!("a sync that was resumed from {from:?} left the target different")));
    }
    let listed = source.snapshot().len() as u64;
    if report.listed_from != listed {
        let counted = report.listed_from;
        return Ok(Err(format!("a sync that was resumed from {from:?} counted {counted} keys of {listed}")));
    }
    Ok(Ok(()))
}

/// Each key that a sync could not bring in step is counted as failed.
async fn told(dice: &mut Dice) -> Checked {
    let keys = keys();
    // Long values are refused.
    let narrow = MemoryStore::new().declaring(|all| all.with_max_value(1_000));
    let (source, target) = sides(dice, &keys, narrow).await?;
    let (from, to) = (faulty(dice, "source", &source), faulty(dice, "target", &target));
    let options = options(dice);
    let Ok(report) = sync(&from, &to, &FullSync, &options).await else { return Ok(Ok(())) };
    let (ours, theirs) = (source.snapshot(), target.snapshot());
    let different = keys.iter().filter(|key| ours.get(*key) != theirs.get(*key)).count() as u64;
    if different > report.failed {
        return Ok(Err(format!("a sync left {different} keys different, and told of {}", report.failed)));
    }
    Ok(Ok(()))
}

/// Named keys are copied, those alone, although others begin with their names.
async fn by_name(dice: &mut Dice) -> Checked {
    let (source, target) = (MemoryStore::new(), MemoryStore::new());
    let mut keys = Vec::new();
    for number in 0..KEYS {
        keys.push(Key::new(format!("node{}", "/x".repeat(usize::try_from(number % 6).unwrap_or(0))))?);
    }
    keys.sort_unstable();
    keys.dedup();
    for key in &keys {
        source.put(key, Put::new("source")).await?;
        if dice.below(2) == 0 {
            target.put(key, Put::new("target")).await?;
        }
    }
    let named: Vec<Key> = keys.iter().filter(|_| dice.below(2) == 0).cloned().collect();
    let before = target.snapshot();
    let (from, to) = (faulty(dice, "source", &source), faulty(dice, "target", &target));
    let options = options(dice);
    let syncing = sync_keys(&from, &to, &named, &options);
    let Ok(report) = tokio::time::timeout(Duration::from_mins(10), syncing).await else {
        return Ok(Err(format!("{named:?} were not copied by name within ten minutes")));
    };
    let failed = report.map_or(true, |report| report.failed > 0);
    for key in &keys {
        let found = target.get(key).await?;
        let copied = found.as_ref().is_some_and(|entry| entry.value() == "source");
        if named.contains(key) && !copied && !failed {
            return Ok(Err(format!("{key}: it was to be copied by name, and is {found:?}")));
        }
        if !named.contains(key) && found.as_ref() != before.get(key) {
            return Ok(Err(format!("{key}: it was not named, and is {found:?}")));
        }
    }
    Ok(Ok(()))
}

/// Whenever a walk ends, each key in the target has all that it refers to.
async fn walk(dice: &mut Dice) -> Checked {
    let source = MemoryStore::new();
    // Batches with parents and children, or one key after the other.
    let one_by_one = dice.below(2) == 0;
    let target =
        MemoryStore::new().declaring(|all| if one_by_one { all.without(Feature::AtomicBatch) } else { all });
    let keys = keys();
    for key in &keys {
        source.put(key, Put::new(key.as_str().to_owned())).await?;
    }
    let (from, to) = (faulty(dice, "source", &source), faulty(dice, "target", &target));
    let follow = |key: &Key, _: &Entry| -> Result<Vec<Key>> {
        references(number(key)).map(|child| Key::new(format!("node-{child:02}"))).collect()
    };
    let root = keys.get(..1).unwrap_or_default();
    let batch = usize::try_from(1 + dice.below(8)).unwrap_or(1);
    let mut options = WalkOptions::new().concurrency(4).batch(batch).max_failures(KEYS);
    if dice.below(2) == 0 {
        options = options.workspace(MemoryStore::new());
    }
    let walking = walk_sync(&from, &to, root, &follow, &options);
    // Most are dropped before they are done.
    tokio::time::timeout(Duration::from_millis(dice.below(700)), walking).await.ok();
    // What was sent already arrives.
    tokio::time::sleep(Duration::from_secs(2)).await;
    for key in &keys {
        if target.get(key).await?.is_none() {
            continue;
        }
        for child in references(number(key)) {
            let child = Key::new(format!("node-{child:02}"))?;
            if target.get(&child).await?.is_none() {
                return Ok(Err(format!("{key}: a walk left it without {child}, to which it refers")));
            }
        }
    }
    Ok(Ok(()))
}
