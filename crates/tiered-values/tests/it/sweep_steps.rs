//! Sweeps and writers under a fault at every single call of the store.

use std::sync::Arc;

use tiered_conformance::Intercept;
use tiered_core::{MemoryStore, StoreExt as _};
use tiered_values::sweep::{Sweep, SweepOutcome};

use crate::steps::{At, STRIKES, Struck};
use crate::sweep::{keys, roots, set};

const LIVE: [&str; 3] = ["leaves/2", "leaves/new", "roots/1"];

/// Two generations of garbage, with small chunks.
async fn prepared() -> Arc<MemoryStore> {
    let store = Arc::new(MemoryStore::new());
    for number in 0..5 {
        set(&*store, &format!("leaves/{number}"), "").await;
    }
    set(&*store, "leaves/new", "").await;
    set(&*store, "roots/1", "leaves/2\nleaves/new").await;
    sweep(store.clone()).run(&roots()).await.expect("runs");
    for number in 5..8 {
        set(&*store, &format!("leaves/{number}"), "").await;
    }
    store
}

fn sweep(store: impl tiered_core::AsStore) -> Sweep {
    Sweep::builder(store).chunk_bytes(100).build().expect("builds")
}

#[tokio::test]
async fn a_run_struck_at_any_call_loses_nothing_live_and_can_be_repeated() {
    let (mut completed, mut failed, mut superseded) = (0, 0, 0);
    for strike in STRIKES {
        for step in 0.. {
            let store = prepared().await;
            let at = At::new(step, strike);
            let answer = sweep(Intercept::new(store.clone(), Struck(at.clone()))).run(&roots()).await;
            let what = format!("{at:?}: {answer:?}");
            match &answer {
                Ok(report) if report.outcome == SweepOutcome::Completed => completed += 1,
                Ok(_) => superseded += 1,
                Err(_) => failed += 1,
            }
            let left = keys(&*store).await;
            assert!(LIVE.iter().all(|key| left.iter().any(|left| left == key)), "{what}: {left:?}");
            assert!(
                (5..8).all(|number| left.contains(&format!("leaves/{number}"))),
                "{what}: observed by no run"
            );
            // The next process goes on, whatever was left.
            let next = sweep(store.clone());
            let mut deleted = 0;
            for _ in 0..3 {
                let report = next.run(&roots()).await.expect("runs");
                assert_eq!(report.outcome, SweepOutcome::Completed, "{what}");
                deleted += report.deleted;
            }
            assert!(deleted >= 3, "{what}");
            assert_eq!(keys(&*store).await, LIVE, "{what}");
            let records = store.keys("tiered.gc/").await.expect("listed");
            assert_eq!(records.len(), 1, "the head alone: {what}: {records:?}");
            if at.is_over() {
                break;
            }
        }
    }
    assert!(completed > 20 && failed > 40 && superseded < completed, "{completed} {failed} {superseded}");
}

#[tokio::test]
async fn a_writer_struck_at_any_call_publishes_a_whole_root_or_none() {
    for strike in STRIKES {
        for step in 0.. {
            let store = prepared().await;
            let at = At::new(step, strike);
            let struck = Arc::new(Intercept::new(store.clone(), Struck(at.clone())));
            let writing = sweep(struck.clone());
            let write = async {
                let write = writing.begin_write("struck").await?;
                struck.set("leaves/0", "again").await?;
                struck.set("leaves/9", "").await?;
                // Other runs come in between.
                for _ in 0..3 {
                    sweep(store.clone()).run(&roots()).await?;
                }
                struck.set("roots/2", "leaves/0\nleaves/9").await?;
                write.end().await
            };
            let answer: tiered_values::Result<()> = write.await;
            let what = format!("{at:?}: {answer:?}");
            let next = sweep(store.clone());
            for _ in 0..3 {
                next.run(&roots()).await.expect("runs");
            }
            let is_published = store.contains("roots/2").await.expect("read");
            for key in ["leaves/0", "leaves/9"] {
                assert!(!is_published || store.contains(key).await.expect("read"), "{what}: {key}");
            }
            // An operator forgets what is left of it.
            for writer in next.writers().await.expect("read") {
                assert_eq!(writer.label, "struck");
                next.forget_writer(writer.id).await.expect("forgotten");
            }
            next.run(&roots()).await.expect("runs");
            let expected = if is_published { 6 } else { 3 };
            assert_eq!(keys(&*store).await.len(), expected, "{what}");
            if at.is_over() {
                break;
            }
        }
    }
}
