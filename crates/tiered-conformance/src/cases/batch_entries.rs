//! Batches of full entries, beside other writes, and dropped half-way.

use std::collections::HashSet;
use std::future::{Future as _, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use tiered_core::adapter::Stamp;
use tiered_core::{
    Applied, Batch, Delete, Entry, ErrorKind, Feature, ListOptions, Precondition, Timestamp, adapter,
};

use super::batches::{batch, batch_atomic_refused, batch_failure_refused};
use super::preconditions::delete_condition_refused;
use super::writing::put_metadata_refused;
use crate::bench::{Bench, refusal};
use crate::case::{Need, Verdict, check, check_equal, declare, fail};
use crate::watch::pause;

declare! {
    batch_metadata ["batch.last", "put.replace"] needs [Need::Has(Feature::KeepsMetadata)] else put_metadata_refused;
    batch_versions ["put.version"];
    batch_delete_conditions ["batch.judged", "delete.matches"] needs [Need::Has(Feature::ConditionalDelete)] else delete_condition_refused;
    batch_dropped ["batch.atomic", "cancel"] needs [Need::Has(Feature::AtomicBatch)] else batch_atomic_refused;
    race_batch_and_put ["batch.atomic", "put.absent"] needs [Need::Has(Feature::AtomicBatch), Need::Has(Feature::ConditionalPut)] else batch_failure_refused;
}

/// A put in a batch keeps all that a single one keeps.
async fn batch_metadata(bench: Bench) -> Verdict {
    let (plain, copy) = (bench.key("plain")?, bench.key("copy")?);
    let at = bench.now().saturating_add(Duration::from_millis((1 << 33) + 457));
    let put = bench.of("value").attributes(Bench::attributes(&[("colour", "red")])?).expires_at(at);
    let stamped = Stamp::system().entry(&put);
    let modified = Timestamp::from_millis(981_173_106_123);
    let metadata = Arc::new((**stamped.metadata()).clone().with_modified(modified));
    let original = Entry::from_parts(stamped.into_value(), metadata);
    let version = Bench::version();
    let operations = batch(&bench)
        .put(plain.clone(), adapter::with_version(put.clone(), version.clone()))
        .put(copy.clone(), adapter::verbatim(&original));
    for outcome in bench.store.apply(operations).await? {
        outcome?;
    }
    if let Some(entry) = bench.present("put.replace", &plain).await? {
        check_equal("put.version", "the version of a put in a batch", &version, entry.version())?;
        check_equal(
            "put.replace",
            "the expiry of a put in a batch",
            &Some(at),
            &entry.metadata().expires_at,
        )?;
        check_equal("put.replace", "the attributes", &put.attributes, &entry.metadata().attributes)?;
        bench.same_value("put.replace", &plain, b"value", &entry)?;
    }
    let Some(entry) = bench.present("put.replace", &copy).await? else { return Ok(()) };
    check_equal("put.replace", "the entry copied by a batch", &original, &entry)
}

/// Every put of a batch has a version of its own, and the outcome tells it.
async fn batch_versions(bench: Bench) -> Verdict {
    let keys = [bench.key("a")?, bench.key("b")?, bench.key("c")?];
    let mut seen = HashSet::new();
    for _ in 0..2 {
        let operations = keys.iter().fold(batch(&bench), |all, key| all.put(key.clone(), bench.of("same")));
        for (key, outcome) in keys.iter().zip(bench.store.apply(operations).await?) {
            let Applied::Put(written) = outcome? else {
                return fail("batch.atomic", "expected the outcome of a put, saw that of a delete");
            };
            check("put.version", seen.insert(written.version.clone()), || {
                format!(
                    "expected a version of its own for each put of a batch, saw {} twice",
                    written.version
                )
            })?;
            let Some(entry) = bench.present("put.version", key).await? else { continue };
            check_equal("put.version", "the version that load shows", &written.version, entry.version())?;
        }
    }
    Ok(())
}

async fn batch_delete_conditions(bench: Bench) -> Verdict {
    let (key, other) = (bench.key("k")?, bench.key("other")?);
    let stale = bench.put(&key, "old").await?.version;
    let current = bench.put(&key, "current").await?.version;
    for precondition in [Precondition::Matches(stale), Precondition::Absent] {
        let delete = Delete::new().precondition(precondition);
        let operations = batch(&bench).put(other.clone(), bench.of("new")).delete(key.clone(), delete);
        match bench.store.apply(operations).await {
            Ok(mut outcomes) => {
                let last = outcomes.pop();
                match last {
                    Some(Err(error)) => refusal("batch.judged", ErrorKind::PreconditionFailed, &error)?,
                    _ if bench.evicts => return Ok(()),
                    _ => {
                        return fail(
                            "batch.judged",
                            "a delete under a precondition that does not hold: expected a refusal, saw success",
                        );
                    }
                }
            }
            Err(error) => refusal("batch.judged", ErrorKind::PreconditionFailed, &error)?,
        }
        bench.expect("batch.judged", &key, b"current").await?;
    }
    let operations = batch(&bench).delete(key.clone(), Delete::new().if_version(current));
    for outcome in bench.store.apply(operations).await? {
        match outcome {
            Err(error) if bench.evicts && error.kind() == ErrorKind::PreconditionFailed => {}
            outcome => drop(outcome?),
        }
    }
    bench.expect_absent("batch.judged", &key).await
}

/// A batch whose future is dropped took effect as a whole, or not at all.
async fn batch_dropped(bench: Bench) -> Verdict {
    for polls in 0..8 {
        let part = format!("{polls}/");
        let keys = ["a", "b", "c"].map(|name| bench.key(&format!("{part}{name}")));
        let keys = keys.into_iter().collect::<Verdict<Vec<_>>>()?;
        let operations = keys.iter().fold(Batch::new(), |all, key| all.put(key.clone(), bench.of("new")));
        {
            let mut apply = pin!(bench.store.apply(operations));
            for _ in 0..polls {
                if poll_fn(|context| Poll::Ready(apply.as_mut().poll(context).is_ready())).await {
                    break;
                }
                tokio::task::yield_now().await;
            }
        }
        // A reader may see a part of it while it takes effect, which it may still do for a while.
        let mut there = 0;
        for _ in 0..200 {
            there = bench.names(ListOptions::new().prefix(format!("{}{part}", bench.prefix))).await?.len();
            if there == 0 || there == keys.len() {
                break;
            }
            pause(Duration::from_millis(5)).await;
        }
        check("batch.atomic", there == 0 || there == keys.len() || bench.evicts, || {
            format!("dropped after {polls} polls: expected all of a batch of 3 or nothing, saw {there}")
        })?;
    }
    Ok(())
}

async fn race_batch_and_put(bench: Bench) -> Verdict {
    for round in 0..bench.rounds(8) {
        let (a, b) = (bench.key(&format!("a{round}"))?, bench.key(&format!("b{round}"))?);
        let parts = (0..8)
            .map(|index| {
                let (bench, a, b) = (bench.clone(), a.clone(), b.clone());
                Bench::part(async move {
                    let put = || bench.of(format!("{index}")).if_absent();
                    if round % 2 == 1 && index % 2 == 1 {
                        // A batch that is judged and then applied leaves a moment in between.
                        pause(Duration::from_millis(1)).await;
                    }
                    let written = if index % 2 == 0 {
                        bench.store.apply(Batch::new().put(a, put()).put(b, put())).await.map(drop)
                    } else {
                        bench.store.put(&b, put()).await.map(drop)
                    };
                    match written {
                        Ok(()) => Ok(Some(index)),
                        Err(error) => {
                            refusal("batch.atomic", ErrorKind::PreconditionFailed, &error)?;
                            Ok(None)
                        }
                    }
                })
            })
            .collect();
        let winners: Vec<i32> = bench.all(parts).await?.into_iter().flatten().collect();
        if bench.evicts {
            continue;
        }
        let [winner] = winners.as_slice() else {
            return fail(
                "batch.atomic",
                format!("expected one of 4 batches and 4 puts to create the entry, saw {winners:?}"),
            );
        };
        bench.expect("batch.atomic", &b, winner.to_string().as_bytes()).await?;
        if winner % 2 == 0 {
            bench.expect("batch.atomic", &a, winner.to_string().as_bytes()).await?;
        } else {
            bench.expect_absent("batch.atomic", &a).await?;
        }
    }
    Ok(())
}
