//! Checkpoints of a sync against what was really copied: copies that fail, are slow, and end out of order.

use std::sync::Arc;
use std::time::Duration;

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
    let Some(checkpoint) = &progress.checkpoint else { return };
    for name in names().iter().filter(|name| *name <= checkpoint) {
        assert!(is_done(source, target, name), "{name} is before {checkpoint}, and was not copied");
    }
}

#[tokio::test(start_paused = true)]
async fn a_resumed_sync_skips_no_key_that_was_not_copied() {
    let (mut stopped, mut failed) = (0, 0);
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
                *seen.lock() = progress.checkpoint.clone();
            });
        let stores: (Arc<dyn Store>, Arc<dyn Store>) = (Arc::new(source.clone()), Arc::new(target.clone()));
        let syncing = sync(&stores.0, &stores.1, &FullSync, &options);
        match tokio::time::timeout(Duration::from_millis(40 + seed * 11), syncing).await {
            Err(_) => stopped += 1,
            Ok(ended) => failed += u64::from(ended.map_or(1, |report| report.failed) > 0),
        }
        target.untroubled();
        let mut options = SyncOptions::new();
        if let Some(checkpoint) = last.lock().take() {
            options = options.resume_after(checkpoint);
        }
        let report = sync(&stores.0, &stores.1, &FullSync, &options).await.expect("syncs");
        assert_eq!(report.failed, 0);
        assert_eq!(source.snapshot(), target.inner().snapshot(), "seed {seed}");
    }
    assert!(stopped > 5 && failed > 5, "{stopped} were stopped, {failed} failed");
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
            let Some(checkpoint) = &progress.checkpoint else { return };
            let reached = order.iter().position(|name| name == checkpoint).expect("one of them");
            for name in order.iter().take(reached + 1) {
                assert!(is_done(&from, &to, name), "{name} is before {checkpoint}, and was not copied");
            }
        });
        let stores: (Arc<dyn Store>, Arc<dyn Store>) = (Arc::new(source.clone()), Arc::new(target.clone()));
        let report = sync_keys(&stores.0, &stores.1, &named, &options).await.expect("syncs");
        assert!(report.copied > 0);
    }
}
