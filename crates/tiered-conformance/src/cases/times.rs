//! Times that are no whole seconds, and what is left of entries that have ended.

use std::sync::Arc;
use std::time::Duration;

use tiered_core::adapter::{Clock as _, Stamp};
use tiered_core::{
    Attributes, Batch, Delete, Entry, ErrorKind, Feature, Known, Lookup, Metadata, Precondition, ReadOptions,
    Timestamp, adapter,
};

use super::batches::batch_condition_refused;
use super::expiry::expired;
use super::preconditions::delete_condition_refused;
use super::writing::put_metadata_refused;
use crate::bench::{Bench, refusal};
use crate::case::{Need, Verdict, check, check_equal, declare};

declare! {
    put_times_to_the_millisecond ["put.replace"] needs [Need::Has(Feature::KeepsMetadata)] else put_metadata_refused;
    delete_removes_metadata ["put.replace", "delete.existed"];
    expiry_to_the_millisecond ["read.expired"] needs [Need::Clock] pace Alone;
    expiry_removes_metadata ["put.replace", "read.expired"] pace Alone;
    expiry_delete_conditions ["delete.matches", "read.expired"] needs [Need::Has(Feature::ConditionalDelete)] pace Alone else delete_condition_refused;
    expiry_batch_conditions ["batch.judged", "read.expired"] needs [Need::Has(Feature::ConditionalPut)] pace Alone else batch_condition_refused;
}

async fn put_times_to_the_millisecond(bench: Bench) -> Verdict {
    let key = bench.key("k")?;
    let far = bench.now().saturating_add(Duration::from_secs(1 << 32));
    for millis in [1, 999, 981_173_106_001, 981_173_106_999] {
        let modified = Timestamp::from_millis(millis);
        let at = far.saturating_add(Duration::from_millis(millis % 1_000));
        let entry = Stamp::system().entry(&bench.of("value").expires_at(at));
        let metadata = Arc::new((**entry.metadata()).clone().with_modified(modified));
        let entry = Entry::from_parts(entry.into_value(), metadata);
        bench.put(&key, adapter::verbatim(&entry)).await?;
        let Some(seen) = bench.present("put.replace", &key).await? else { continue };
        let times = |metadata: &Metadata| (metadata.modified, metadata.expires_at);
        check_equal("put.replace", "modified and expiry", &(modified, Some(at)), &times(seen.metadata()))?;
        if let Some(head) = bench.store.head(&key, &ReadOptions::new()).await? {
            check_equal("read.head", "modified and expiry", &(modified, Some(at)), &times(&head))?;
        }
        for listed in bench.list(bench.everything()).await? {
            if let Some(metadata) = &listed.metadata {
                check_equal("list.metadata", "modified and expiry", &(modified, Some(at)), &times(metadata))?;
            }
        }
    }
    Ok(())
}

/// A put of an entry that leaves traces, if the store forgets to remove them.
fn marked(bench: &Bench) -> Verdict<tiered_core::Put> {
    let put = bench.of("old");
    Ok(if bench.has(Feature::KeepsMetadata) {
        put.attributes(Bench::attributes(&[("colour", "red")])?)
    } else {
        put
    })
}

/// Nothing of an entry that has ended comes back with the next one of its key.
async fn forgotten(bench: &Bench, key: &tiered_core::Key, old: tiered_core::Version) -> Verdict {
    let written = bench.put(key, "new").await?;
    check("put.version", written.version != old, || format!("expected a new version, saw {old} again"))?;
    let Some(entry) = bench.present("put.replace", key).await? else { return Ok(()) };
    check_equal("put.version", "the version that load shows", &written.version, entry.version())?;
    check_equal("put.replace", "attributes", &Attributes::new(), &entry.metadata().attributes)?;
    check_equal("put.replace", "the expiry", &None, &entry.metadata().expires_at)?;
    let known = Known::from(old);
    let read = bench.store.load(key, &ReadOptions::new().unless(known)).await?;
    check("read.unless", read.lookup != Lookup::Unchanged, || {
        "expected the entry to differ from the one before, saw Unchanged".to_owned()
    })
}

async fn delete_removes_metadata(bench: Bench) -> Verdict {
    let key = bench.key("k")?;
    for _ in 0..2 {
        let old = bench.put(&key, marked(&bench)?).await?.version;
        bench.store.delete(&key, Delete::new()).await?;
        forgotten(&bench, &key, old).await?;
    }
    // The same by a batch.
    let old = bench.put(&key, marked(&bench)?).await?.version;
    let batch = Batch::new().best_effort().delete(key.clone(), Delete::new());
    for outcome in bench.store.apply(batch).await? {
        outcome?;
    }
    forgotten(&bench, &key, old).await
}

async fn expiry_removes_metadata(bench: Bench) -> Verdict {
    let key = bench.key("k")?;
    let old = bench.put_expiring(&key, marked(&bench)?.expires_at(bench.now())).await?.version;
    bench.expect_absent("read.expired", &key).await?;
    forgotten(&bench, &key, old).await
}

async fn expiry_to_the_millisecond(bench: Bench) -> Verdict {
    let Some(clock) = bench.clock.clone() else { return Ok(()) };
    let key = bench.key("k")?;
    for (ahead, ttl) in [(457, 1_234), (1, 999), (998, 1), (500, 60_499)] {
        clock.advance(Duration::from_millis(ahead));
        let at = clock.now().saturating_add(Duration::from_millis(ttl));
        bench.put_expiring(&key, bench.of("value").expires_at(at)).await?;
        clock.advance(Duration::from_millis(ttl - 1));
        bench.expect("read.expired", &key, b"value").await?;
        clock.advance(Duration::from_millis(1));
        bench.expect_absent("read.expired", &key).await?;
        bench.put_expiring(&key, bench.of("value").expires_in(Duration::from_millis(ttl))).await?;
        clock.advance(Duration::from_millis(ttl - 1));
        bench.expect("read.expired", &key, b"value").await?;
        clock.advance(Duration::from_millis(1));
        bench.expect_absent("read.expired", &key).await?;
    }
    Ok(())
}

async fn expiry_delete_conditions(bench: Bench) -> Verdict {
    let key = bench.key("k")?;
    let version = expired(&bench, &key).await?;
    let result = bench.store.delete(&key, Delete::new().if_version(version)).await;
    bench.refused("delete.matches", ErrorKind::PreconditionFailed, result)?;
    bench.store.delete(&key, Delete::new().precondition(Precondition::Absent)).await?;
    bench.expect_absent("delete.matches", &key).await
}

async fn expiry_batch_conditions(bench: Bench) -> Verdict {
    let key = bench.key("k")?;
    let version = expired(&bench, &key).await?;
    let batch = Batch::new().best_effort().put(key.clone(), bench.of("resurrected").if_version(version));
    let failed = ErrorKind::PreconditionFailed;
    match bench.store.apply(batch).await {
        Ok(outcomes) => {
            for outcome in outcomes {
                bench.refused("batch.judged", failed, outcome)?;
            }
        }
        Err(error) => refusal("batch.judged", failed, &error)?,
    }
    bench.expect_absent("batch.judged", &key).await?;
    let batch = Batch::new().best_effort().put(key.clone(), bench.of("new").if_absent());
    for outcome in bench.store.apply(batch).await? {
        outcome?;
    }
    bench.expect("batch.judged", &key, b"new").await
}
