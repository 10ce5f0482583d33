//! Conditional puts and deletes.

use tiered_core::{Delete, ErrorKind, Existed, Feature, Precondition, adapter};

use super::writing::put_metadata_refused;
use crate::bench::Bench;
use crate::case::{Need, Verdict, check, check_equal, declare};

declare! {
    put_if_absent ["put.absent"] needs [Need::Has(Feature::ConditionalPut)] else put_condition_refused;
    put_if_absent_present ["put.absent", "write.outcome"] needs [Need::Has(Feature::ConditionalPut)] else put_condition_refused;
    put_if_absent_deleted ["put.absent"] needs [Need::Has(Feature::ConditionalPut)] else put_condition_refused;
    put_if_matches ["put.matches"] needs [Need::Has(Feature::ConditionalPut)] else put_condition_refused;
    put_if_matches_stale ["put.matches", "write.outcome"] needs [Need::Has(Feature::ConditionalPut)] else put_condition_refused;
    put_if_matches_absent ["put.matches", "write.outcome"] needs [Need::Has(Feature::ConditionalPut)] else put_condition_refused;
    put_retry ["write.retry"] needs [Need::Has(Feature::ConditionalPut), Need::Has(Feature::KeepsMetadata)] else put_retry_refused;
    delete_if_matches ["delete.matches"] needs [Need::Has(Feature::ConditionalDelete)] else delete_condition_refused;
    delete_if_matches_stale ["delete.matches", "write.outcome"] needs [Need::Has(Feature::ConditionalDelete)] else delete_condition_refused;
    delete_if_absent ["delete.matches"] needs [Need::Has(Feature::ConditionalDelete)] else delete_condition_refused;
}

const FAILED: ErrorKind = ErrorKind::PreconditionFailed;

async fn put_if_absent(bench: Bench) -> Verdict {
    let key = bench.key("k")?;
    // A neighbour that begins with the key is another key.
    bench.put(&bench.key("k2")?, "x").await?;
    let written = bench.put(&key, bench.of("value").if_absent()).await?;
    bench.expect("put.absent", &key, b"value").await?;
    let Some(entry) = bench.present("put.absent", &key).await? else { return Ok(()) };
    check_equal("put.version", "the version that load shows", &written.version, entry.version())
}

async fn put_if_absent_present(bench: Bench) -> Verdict {
    let key = bench.key("k")?;
    for value in ["value", ""] {
        bench.put(&key, value).await?;
        let result = bench.store.put(&key, bench.of("other").if_absent()).await;
        if bench.refused("put.absent", FAILED, result)? {
            bench.expect("put.absent", &key, value.as_bytes()).await?;
        }
    }
    Ok(())
}

async fn put_if_absent_deleted(bench: Bench) -> Verdict {
    let key = bench.key("k")?;
    bench.put(&key, "old").await?;
    bench.store.delete(&key, Delete::new()).await?;
    bench.put(&key, bench.of("new").if_absent()).await?;
    bench.expect("put.absent", &key, b"new").await
}

async fn put_if_matches(bench: Bench) -> Verdict {
    let key = bench.key("k")?;
    let mut version = bench.put(&key, "0").await?.version;
    for round in 1..=5 {
        let value = round.to_string();
        match bench.store.put(&key, bench.of(value.clone()).if_version(version)).await {
            Ok(written) => version = written.version,
            Err(error) if bench.evicts && error.kind() == FAILED => return Ok(()),
            Err(error) => return Err(error.into()),
        }
        bench.expect("put.matches", &key, value.as_bytes()).await?;
    }
    Ok(())
}

async fn put_if_matches_stale(bench: Bench) -> Verdict {
    let key = bench.key("k")?;
    let first = bench.put(&key, "same").await?.version;
    // Equal bytes: only the version tells the two writes apart.
    bench.put(&key, "same").await?;
    bench.put(&key, "current").await?;
    for stale in [first, Bench::version()] {
        let result = bench.store.put(&key, bench.of("lost update").if_version(stale)).await;
        bench.refused("put.matches", FAILED, result)?;
        bench.expect("put.matches", &key, b"current").await?;
    }
    Ok(())
}

async fn put_if_matches_absent(bench: Bench) -> Verdict {
    let key = bench.key("k")?;
    let result = bench.store.put(&key, bench.of("x").if_version(Bench::version())).await;
    bench.refused("put.matches", FAILED, result)?;
    bench.expect_absent("put.matches", &key).await?;
    let version = bench.put(&key, "value").await?.version;
    bench.store.delete(&key, Delete::new()).await?;
    let result = bench.store.put(&key, bench.of("resurrected").if_version(version)).await;
    bench.refused("put.matches", FAILED, result)?;
    bench.expect_absent("put.matches", &key).await
}

pub(super) async fn put_condition_refused(bench: Bench) -> Verdict {
    let key = bench.key("k")?;
    let unsupported = ErrorKind::Unsupported;
    let result = bench.store.put(&key, bench.of("new").if_absent()).await;
    bench.refused("put.absent", unsupported, result)?;
    bench.expect_absent("put.absent", &key).await?;
    let version = bench.put(&key, "old").await?.version;
    for version in [version, Bench::version()] {
        let result = bench.store.put(&key, bench.of("new").if_version(version)).await;
        bench.refused("put.matches", unsupported, result)?;
    }
    bench.expect("put.matches", &key, b"old").await
}

async fn put_retry(bench: Bench) -> Verdict {
    let key = bench.key("k")?;
    let version = Bench::version();
    let put = adapter::with_version(bench.of("value"), version.clone()).if_absent();
    bench.put(&key, put.clone()).await?;
    match bench.store.put(&key, put).await {
        Ok(written) => {
            check_equal("write.retry", "the version of the retried put", &version, &written.version)?;
        }
        Err(error) => crate::bench::refusal("write.retry", FAILED, &error)?,
    }
    bench.expect("write.retry", &key, b"value").await?;
    let Some(entry) = bench.present("write.retry", &key).await? else { return Ok(()) };
    check_equal("write.retry", "the version that load shows", &version, entry.version())
}

/// A retry that cannot be told: under a precondition, or under a version of the writer's own.
pub(super) async fn put_retry_refused(bench: Bench) -> Verdict {
    if bench.has(Feature::ConditionalPut) {
        put_metadata_refused(bench).await
    } else {
        put_condition_refused(bench).await
    }
}

async fn delete_if_matches(bench: Bench) -> Verdict {
    let key = bench.key("k")?;
    let version = bench.put(&key, "value").await?.version;
    match bench.store.delete(&key, Delete::new().report_existed().if_version(version)).await {
        Ok(deleted) => check_equal("delete.existed", "existed", &Existed::Yes, &deleted.existed)?,
        Err(error) if bench.evicts && error.kind() == FAILED => {}
        Err(error) => return Err(error.into()),
    }
    bench.expect_absent("delete.matches", &key).await
}

async fn delete_if_matches_stale(bench: Bench) -> Verdict {
    let key = bench.key("k")?;
    let result = bench.store.delete(&key, Delete::new().if_version(Bench::version())).await;
    bench.refused("delete.matches", FAILED, result)?;
    let stale = bench.put(&key, "same").await?.version;
    bench.put(&key, "same").await?;
    let result = bench.store.delete(&key, Delete::new().if_version(stale)).await;
    bench.refused("delete.matches", FAILED, result)?;
    bench.expect("delete.matches", &key, b"same").await
}

async fn delete_if_absent(bench: Bench) -> Verdict {
    let key = bench.key("k")?;
    let absent = Delete::new().report_existed().precondition(Precondition::Absent);
    let deleted = bench.store.delete(&key, absent.clone()).await?;
    check("delete.existed", deleted.existed != Existed::Yes, || {
        "expected existed to be false, saw true".to_owned()
    })?;
    bench.put(&key, "value").await?;
    if bench.refused("delete.matches", FAILED, bench.store.delete(&key, absent).await)? {
        bench.expect("delete.matches", &key, b"value").await?;
    }
    Ok(())
}

pub(super) async fn delete_condition_refused(bench: Bench) -> Verdict {
    let key = bench.key("k")?;
    let version = bench.put(&key, "value").await?.version;
    for precondition in [Precondition::Matches(version), Precondition::Absent] {
        let result = bench.store.delete(&key, Delete::new().precondition(precondition)).await;
        bench.refused("delete.matches", ErrorKind::Unsupported, result)?;
    }
    bench.expect("delete.matches", &key, b"value").await
}
