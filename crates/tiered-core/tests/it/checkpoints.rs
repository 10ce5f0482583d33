//! Checkpoints of a sync against what was really copied: copies that fail, are slow, and end out of order.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use parking_lot::Mutex;
use tiered_core::sync::{FullSync, SyncOptions, SyncProgress, sync, sync_keys};
use tiered_core::{Key, MemoryStore, Put, Sharing, Store};

use crate::scripted::{Scripted, Trouble, key, over};

fn names() -> Vec<Key> {
    (0..24).map(|index| key(&format!("{index:02}"))).collect()
}

/// A source with all keys, and a target with old, extra and missing ones, some of whose writes are slow or fail.
async fn sides(seed: u64) -> (MemoryStore, Scripted) {
    let (source, target) = (MemoryStore::new(), over(MemoryStore::new(), Sharing::Exclusive));
    for (index, name) in (0..).zip(names()) {
        if index % 5 != 4 {
            source.put(&name, Put::new("new")).await.expect("written");
        }
        if index % 2 == 0 {
            target.inner().put(&name, Put::new("old")).await.expect("written");
        }
        match (index * 7 + seed * 13 + (seed * index) % 11) % 9 {
            0 => target.trouble(&name, Trouble::Fails(Duration::from_millis(index))),
            troubled @ 1..5 => target.trouble(&name, Trouble::Slow(Duration::from_millis(troubled * 37))),
            _ => {}
        }
    }
    (source, target)
}

/// Whether the key is as the source has it.
fn is_done(source: &MemoryStore, target: &Scripted, name: &Key) -> bool {
    let version = |store: &MemoryStore| store.snapshot().get(name).map(|entry| entry.version().clone());
    version(source) == version(target.inner())
}

fn check(source: &MemoryStore, target: &Scripted, progress: &SyncProgress) {
    let checkpoint = &progress.checkpoint;
    let Some(after) = &checkpoint.after else { return };
    for name in names().iter().filter(|name| *name <= after && !checkpoint.failed.contains(name)) {
        assert!(is_done(source, target, name), "{name} is before {after}, and was not copied");
    }
}

#[tokio::test(start_paused = true)]
async fn a_resumed_sync_skips_no_key_that_was_not_copied() {
    let (mut stopped, mut failed, mut went_past) = (0, 0, 0);
    for seed in 0..40 {
        let (source, target) = sides(seed).await;
        let last = Arc::new(Mutex::new(None));
        let (seen, from, to) = (Arc::clone(&last), source.clone(), target.clone());
        let options = SyncOptions::new()
            .concurrency(1 + usize::try_from(seed % 6).expect("small"))
            .batch(1 + usize::try_from(seed % 5).expect("small"))
            .max_failures(if seed % 3 == 0 { 0 } else { 100 })
            .on_progress(move |progress| {
                check(&from, &to, progress);
                *seen.lock() = Some(progress.checkpoint.clone());
            });
        let stores: (Arc<dyn Store>, Arc<dyn Store>) = (Arc::new(source.clone()), Arc::new(target.clone()));
        let syncing = sync(&stores.0, &stores.1, &FullSync, &options);
        match tokio::time::timeout(Duration::from_millis(40 + seed * 11), syncing).await {
            Err(_) => stopped += 1,
            Ok(ended) => failed += u64::from(ended.map_or(1, |report| report.failed) > 0),
        }
        target.untroubled();
        let listed = source.snapshot().len() as u64;
        let mut options = SyncOptions::new();
        if let Some(checkpoint) = last.lock().take() {
            went_past += u64::from(!checkpoint.failed.is_empty());
            options = options.resume(checkpoint);
        }
        let report = sync(&stores.0, &stores.1, &FullSync, &options).await.expect("syncs");
        assert_eq!(report.failed, 0);
        assert_eq!(source.snapshot(), target.inner().snapshot(), "seed {seed}");
        // Each key once, by whichever run: the same as one run that nothing stopped.
        assert_eq!(report.listed_from, listed, "seed {seed}");
        assert_eq!(report.copied + report.skipped, listed, "seed {seed}: {report:?}");
    }
    assert!(
        stopped > 5 && failed > 5 && went_past > 3,
        "{stopped} stopped, {failed} failed, {went_past} past"
    );
}

/// In the order in which they were named.
#[tokio::test(start_paused = true)]
async fn the_checkpoint_of_named_keys_has_no_gap_before_it() {
    for seed in 0..20 {
        let (source, target) = sides(seed).await;
        let mut named: Vec<Key> = source.snapshot().into_keys().collect();
        named.reverse();
        let (from, to, order) = (source.clone(), target.clone(), named.clone());
        let options = SyncOptions::new().concurrency(4).on_progress(move |progress| {
            let checkpoint = &progress.checkpoint;
            let Some(after) = &checkpoint.after else { return };
            let reached = order.iter().position(|name| name == after).expect("one of them");
            for name in order.iter().take(reached + 1).filter(|name| !checkpoint.failed.contains(name)) {
                assert!(is_done(&from, &to, name), "{name} is before {after}, and was not copied");
            }
        });
        let stores: (Arc<dyn Store>, Arc<dyn Store>) = (Arc::new(source.clone()), Arc::new(target.clone()));
        let report = sync_keys(&stores.0, &stores.1, &named, &options).await.expect("syncs");
        assert!(report.copied > 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_checkpoint_names_a_thousand_failed_keys_and_then_stays() {
    let (source, target) = (MemoryStore::new(), over(MemoryStore::new(), Sharing::Exclusive));
    for index in 0..3_000 {
        let name = key(&format!("{index:04}"));
        source.put(&name, Put::new("v")).await.expect("written");
        if index >= 1_000 {
            target.trouble(&name, Trouble::Fails(Duration::ZERO));
        }
    }
    let last = Arc::new(Mutex::new(None));
    let seen = Arc::clone(&last);
    let options = SyncOptions::new()
        .max_failures(u64::MAX)
        .on_progress(move |progress| *seen.lock() = Some(progress.checkpoint.clone()));
    let report = sync(&source, &target, &FullSync, &options).await.expect("syncs");
    assert_eq!((report.copied, report.failed), (1_000, 2_000));
    let checkpoint = last.lock().take().expect("told");
    assert_eq!(checkpoint.failed.len(), 1_000);
    assert_eq!(checkpoint.after, Some(key("1999")));
    target.untroubled();
    let text = serde_json::to_string(&checkpoint).expect("serialised");
    let kept = serde_json::from_str(&text).expect("parsed");
    let report = sync(&source, &target, &FullSync, &SyncOptions::new().resume(kept)).await.expect("syncs");
    assert_eq!((report.listed_from, report.copied, report.failed), (3_000, 3_000, 0));
}

#[tokio::test(start_paused = true)]
async fn a_sync_that_ends_with_one_failure_too_many_tells_how_far_it_came() {
    let (source, target) = (MemoryStore::new(), over(MemoryStore::new(), Sharing::Exclusive));
    for index in 0..10 {
        source.put(&key(&index.to_string()), Put::new("v")).await.expect("written");
    }
    target.trouble(&key("3"), Trouble::Fails(Duration::ZERO));
    target.trouble(&key("7"), Trouble::Fails(Duration::ZERO));
    let (options, mut progress) = SyncOptions::new().batch(2).concurrency(1).max_failures(1).progress();
    let error = sync(&source, &target, &FullSync, &options).await.expect_err("two failed");
    assert_eq!(error.key(), Some(&key("7")));
    drop(options);
    let last = progress.next().await.expect("the last state").checkpoint;
    assert_eq!((last.after.clone(), last.failed.clone()), (Some(key("7")), vec![key("3"), key("7")]));
    assert!(progress.next().await.is_none(), "the stream ends with its sync");
    target.untroubled();
    let report = sync(&source, &target, &FullSync, &SyncOptions::new().resume(last)).await.expect("syncs");
    assert_eq!((report.listed_from, report.copied + report.skipped, report.failed), (10, 10, 0));
}

#[tokio::test(start_paused = true)]
async fn bytes_move_no_faster_than_they_may() {
    let (source, target) = (MemoryStore::new(), MemoryStore::new());
    for index in 0..100 {
        source.put(&key(&format!("{index:02}")), Put::new(vec![7; 1_000])).await.expect("written");
    }
    let options = SyncOptions::new().batch(1).bytes_per_second(10_000);
    let begun = tokio::time::Instant::now();
    let report = sync(&source, &target, &FullSync, &options).await.expect("syncs");
    let taken = begun.elapsed();
    assert_eq!(report.bytes, 100_000);
    assert!((9.5..10.5).contains(&taken.as_secs_f64()), "{taken:?} for ten seconds' bytes");
    // A value of many seconds moves at once; what follows waits for it.
    let large = key("large");
    source.put(&large, Put::new(vec![7; 100_000])).await.expect("written");
    source.put(&key("less"), Put::new("small")).await.expect("written");
    let begun = tokio::time::Instant::now();
    let options = options.after(key("99"));
    assert_eq!(sync(&source, &target, &FullSync, &options).await.expect("syncs").copied, 2);
    assert!((9.5..10.5).contains(&begun.elapsed().as_secs_f64()), "{:?}", begun.elapsed());
}
