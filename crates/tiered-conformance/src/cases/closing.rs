//! Writes beside a close: what was acknowledged is there afterwards, what was refused is not.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tiered_core::{Outcome, Put};

use super::life::life_close_busy;
use crate::bench::Bench;
use crate::case::{Need, Verdict, check, declare};
use crate::watch::pause;

declare! {
    close_keeps_acknowledged ["close", "write.outcome"] needs [Need::Place, Need::Lasting] else life_close_busy;
    close_drops_refused ["close", "write.outcome"] needs [Need::Place, Need::Lasting] else life_close_busy;
}

/// Most puts of one writer: no store is as fast as to reach it before it is closed.
const MOST: u32 = 20_000;

/// Which keys were acknowledged, refused, and are there after the store was closed beside the writers and opened again.
struct Ledger {
    acknowledged: BTreeSet<String>,
    refused: BTreeSet<String>,
    there: BTreeSet<String>,
}

async fn close_beside_writers(bench: &Bench) -> Verdict<Ledger> {
    let place = bench.place()?;
    let mut ledger =
        Ledger { acknowledged: BTreeSet::new(), refused: BTreeSet::new(), there: BTreeSet::new() };
    for round in 0..bench.rounds(4) {
        let store = place.open().await?;
        let written = Arc::new(AtomicU32::new(0));
        let writers = (0..4)
            .map(|writer| {
                let (bench, store, written) = (bench.clone(), Arc::clone(&store), Arc::clone(&written));
                Bench::part(async move {
                    let (mut acknowledged, mut refused) = (Vec::new(), Vec::new());
                    for index in 0..MOST {
                        let name = format!("{round}{writer}-{index}");
                        match store.put(&bench.key(&name)?, Put::new("")).await {
                            Ok(_) => acknowledged.push(name),
                            Err(error) => {
                                if error.write_outcome() == Outcome::NotApplied {
                                    refused.push(name);
                                }
                                break;
                            }
                        }
                        written.fetch_add(1, Ordering::Relaxed);
                        tokio::task::yield_now().await;
                    }
                    Ok((acknowledged, refused))
                })
            })
            .collect();
        let writers = bench.begin(writers);
        while written.load(Ordering::Relaxed) < 8 {
            pause(Duration::from_millis(1)).await;
        }
        Bench::in_time("close", "close beside running writes", store.close()).await??;
        let ended = Bench::in_time("close", "a write beside close", writers.join()).await??;
        drop(store);
        for (acknowledged, refused) in ended {
            ledger.acknowledged.extend(acknowledged);
            ledger.refused.extend(refused);
        }
    }
    let bench = Bench { store: place.open().await?, ..bench.clone() };
    ledger.there = bench.names(bench.everything()).await?.into_iter().collect();
    bench.store.close().await?;
    Ok(ledger)
}

async fn close_keeps_acknowledged(bench: Bench) -> Verdict {
    let ledger = close_beside_writers(&bench).await?;
    let lost: Vec<&String> = ledger.acknowledged.difference(&ledger.there).collect();
    check("close", lost.is_empty() || bench.evicts, || {
        format!(
            "expected every acknowledged put after reopening, {} are lost: {:?} first",
            lost.len(),
            lost.first()
        )
    })
}

async fn close_drops_refused(bench: Bench) -> Verdict {
    let ledger = close_beside_writers(&bench).await?;
    let applied: Vec<&String> = ledger.refused.intersection(&ledger.there).collect();
    check("write.outcome", applied.is_empty(), || {
        format!("expected nothing of a put that ended as not applied, {applied:?} are there after reopening")
    })
}
