//! Batches: outcomes, order, atomicity.

use tiered_core::adapter::BatchOutcomes;
use tiered_core::{Applied, Batch, Delete, ErrorKind, Existed, Feature};

use crate::bench::{Bench, refusal};
use crate::case::{Need, Verdict, check, check_equal, declare, fail};

declare! {
    batch_empty ["batch.empty"];
    batch_applies ["batch.last", "delete.existed", "put.version"];
    batch_last_operation_wins ["batch.last"];
    batch_last_conditional ["batch.last", "batch.judged"] needs [Need::Has(Feature::ConditionalPut)] else batch_condition_refused;
    batch_preconditions_see_state_before ["batch.judged"] needs [Need::Has(Feature::ConditionalPut)] else batch_condition_refused;
    batch_atomic ["batch.atomic"] needs [Need::Has(Feature::AtomicBatch)] else batch_atomic_refused;
    batch_atomic_failure ["batch.atomic", "write.outcome"] needs [Need::Has(Feature::AtomicBatch), Need::Has(Feature::ConditionalPut)] else batch_failure_refused;
    batch_atomic_limits ["batch.atomic", "put.limits"] needs [Need::Has(Feature::AtomicBatch)] else batch_atomic_refused;
    batch_outcomes ["batch.atomic"] needs [Need::Has(Feature::ConditionalPut), Need::Lacks(Feature::AtomicBatch)] else batch_outcomes_together;
    batch_per_item ["batch.item"] needs [Need::Has(Feature::ConditionalPut)] else batch_condition_refused;
    batch_per_item_twice ["batch.item", "batch.last"] needs [Need::Has(Feature::ConditionalPut)] else batch_condition_refused;
    batch_per_item_limits ["batch.item", "put.limits"];
    batch_large ["batch.atomic"];
}

/// A batch that is atomic where the store can make it so.
pub(super) fn batch(bench: &Bench) -> Batch {
    if bench.has(Feature::AtomicBatch) { Batch::new() } else { Batch::new().best_effort() }
}

async fn batch_empty(bench: Bench) -> Verdict {
    for batch in [Batch::new(), Batch::new().best_effort()] {
        let outcomes = bench.store.apply(batch).await?;
        check("batch.empty", outcomes.is_empty(), || format!("expected no outcomes, saw {outcomes:?}"))?;
    }
    Ok(())
}

/// All operations were applied, puts as puts and deletes as deletes with these `existed`.
fn applied(bench: &Bench, expected: &[Option<bool>], outcomes: BatchOutcomes) -> Verdict {
    check_equal("batch.atomic", "the number of outcomes", &expected.len(), &outcomes.len())?;
    for (index, (expected, outcome)) in expected.iter().zip(outcomes).enumerate() {
        match (expected, outcome?) {
            (None, Applied::Put(_)) => {}
            (Some(existed), Applied::Delete(deleted)) => {
                let evicted = bench.evicts && deleted.existed == Existed::No;
                check("delete.existed", Existed::from(*existed) == deleted.existed || evicted, || {
                    format!("operation {index}: expected existed {existed}, saw {:?}", deleted.existed)
                })?;
            }
            (_, other) => {
                return fail("batch.atomic", format!("operation {index}: saw the outcome {other:?}"));
            }
        }
    }
    Ok(())
}

async fn batch_applies(bench: Bench) -> Verdict {
    let (a, b, c, d) = (bench.key("a")?, bench.key("b")?, bench.key("c")?, bench.key("d")?);
    bench.put(&b, "old").await?;
    bench.put(&c, "gone").await?;
    let batch = batch(&bench)
        .put(a.clone(), bench.of("1"))
        .put(b.clone(), bench.of("2"))
        .delete(c.clone(), Delete::new().report_existed())
        .delete(d.clone(), Delete::new().report_existed());
    let outcomes = bench.store.apply(batch).await?;
    if let Some(Ok(Applied::Put(written))) = outcomes.first()
        && let Some(entry) = bench.present("put.version", &a).await?
    {
        check_equal("put.version", "the version of a put in a batch", entry.version(), &written.version)?;
    }
    applied(&bench, &[None, None, Some(true), Some(false)], outcomes)?;
    bench.expect("batch.atomic", &a, b"1").await?;
    bench.expect("batch.atomic", &b, b"2").await?;
    bench.expect_absent("batch.atomic", &c).await?;
    bench.expect_absent("batch.atomic", &d).await?;
    bench.expect_names("list.complete", bench.everything(), &["a", "b"]).await
}

async fn batch_last_operation_wins(bench: Bench) -> Verdict {
    let (a, b, c) = (bench.key("a")?, bench.key("b")?, bench.key("c")?);
    bench.put(&b, "old").await?;
    let batch = batch(&bench)
        .put(a.clone(), bench.of("1"))
        .put(b.clone(), bench.of("1"))
        .put(a.clone(), bench.of("2"))
        .delete(b.clone(), Delete::new().report_existed())
        .delete(c.clone(), Delete::new().report_existed())
        .put(a.clone(), bench.of("3"))
        .put(c.clone(), bench.of("1"));
    let outcomes = bench.store.apply(batch).await?;
    check_equal("batch.last", "the number of outcomes", &7, &outcomes.len())?;
    for outcome in outcomes {
        outcome?;
    }
    bench.expect("batch.last", &a, b"3").await?;
    bench.expect_absent("batch.last", &b).await?;
    bench.expect("batch.last", &c, b"1").await
}

async fn batch_last_conditional(bench: Bench) -> Verdict {
    let key = bench.key("k")?;
    // Both are judged against the absent key of before, so both hold, and the last one wins.
    let batch =
        batch(&bench).put(key.clone(), bench.of("1").if_absent()).put(key.clone(), bench.of("2").if_absent());
    for outcome in bench.store.apply(batch).await? {
        outcome?;
    }
    bench.expect("batch.last", &key, b"2").await
}

async fn batch_preconditions_see_state_before(bench: Bench) -> Verdict {
    let (a, b) = (bench.key("a")?, bench.key("b")?);
    let version = bench.put(&a, "old").await?.version;
    if bench.load(&a).await?.is_none() {
        return Ok(());
    }
    // The delete does not make the key absent, nor the put make it present, to the preconditions beside them.
    let batch = batch(&bench)
        .delete(a.clone(), Delete::new().report_existed())
        .put(b.clone(), bench.of("1"))
        .put(b.clone(), bench.of("2").if_absent())
        .put(a.clone(), bench.of("new").if_version(version));
    for outcome in bench.store.apply(batch).await? {
        outcome?;
    }
    bench.expect("batch.judged", &a, b"new").await?;
    bench.expect("batch.judged", &b, b"2").await
}

async fn batch_atomic(bench: Bench) -> Verdict {
    let (a, b) = (bench.key("a")?, bench.key("b")?);
    let outcomes =
        bench.store.apply(Batch::new().put(a.clone(), bench.of("1")).put(b.clone(), bench.of("2"))).await?;
    applied(&bench, &[None, None], outcomes)?;
    bench.expect("batch.atomic", &a, b"1").await?;
    bench.expect("batch.atomic", &b, b"2").await
}

pub(super) async fn batch_atomic_refused(bench: Bench) -> Verdict {
    let (a, b) = (bench.key("a")?, bench.key("b")?);
    bench.put(&b, "old").await?;
    let batch = Batch::new().put(a.clone(), bench.of("1")).delete(b.clone(), Delete::new().report_existed());
    bench.refused("batch.atomic", ErrorKind::Unsupported, bench.store.apply(batch).await)?;
    bench.expect_absent("batch.atomic", &a).await?;
    bench.expect("batch.atomic", &b, b"old").await
}

pub(super) async fn batch_failure_refused(bench: Bench) -> Verdict {
    if bench.has(Feature::AtomicBatch) {
        let (a, b) = (bench.key("a")?, bench.key("b")?);
        let batch = Batch::new().put(a.clone(), bench.of("1")).put(b.clone(), bench.of("2").if_absent());
        bench.refused("batch.atomic", ErrorKind::Unsupported, bench.store.apply(batch).await)?;
        bench.expect_absent("batch.atomic", &a).await?;
        return bench.expect_absent("batch.atomic", &b).await;
    }
    batch_atomic_refused(bench).await
}

async fn batch_atomic_failure(bench: Bench) -> Verdict {
    let (a, b, c, d) = (bench.key("a")?, bench.key("b")?, bench.key("c")?, bench.key("d")?);
    bench.put(&b, "old").await?;
    bench.put(&c, "old").await?;
    for first in [true, false] {
        let stale = bench.of("never").if_version(Bench::version());
        let mut batch = Batch::new();
        if first {
            batch = batch.put(d.clone(), stale.clone());
        }
        batch = batch
            .put(a.clone(), bench.of("new"))
            .put(b.clone(), bench.of("new"))
            .delete(c.clone(), Delete::new().report_existed());
        if !first {
            batch = batch.put(d.clone(), stale);
        }
        bench.refused("batch.atomic", ErrorKind::PreconditionFailed, bench.store.apply(batch).await)?;
        bench.expect_absent("batch.atomic", &a).await?;
        bench.expect("batch.atomic", &b, b"old").await?;
        bench.expect("batch.atomic", &c, b"old").await?;
        bench.expect_absent("batch.atomic", &d).await?;
    }
    bench.expect_names("batch.atomic", bench.everything(), &["b", "c"]).await
}

async fn batch_atomic_limits(bench: Bench) -> Verdict {
    let a = bench.key("a")?;
    let limit = bench.capabilities.max_value();
    let max_key = bench.capabilities.max_key();
    if max_key < tiered_core::Key::MAX_LEN {
        let long = bench.key(&"k".repeat(max_key + 1 - bench.prefix.len()))?;
        let batch = Batch::new().put(a.clone(), bench.of("1")).put(long, "2");
        bench.refused("batch.atomic", ErrorKind::InvalidKey, bench.store.apply(batch).await)?;
        bench.expect_absent("batch.atomic", &a).await?;
    }
    if limit <= super::writing::LARGEST_TRIED {
        let size = usize::try_from(limit).unwrap_or(0) + 1;
        let batch = Batch::new().put(a.clone(), bench.of("1")).put(bench.key("b")?, vec![0; size]);
        bench.refused("batch.atomic", ErrorKind::TooLarge, bench.store.apply(batch).await)?;
        bench.expect_absent("batch.atomic", &a).await?;
    }
    // An atomic batch whose operations are all fine still goes through.
    bench.store.apply(Batch::new().put(a.clone(), bench.of("1"))).await?;
    bench.expect("batch.atomic", &a, b"1").await
}

async fn batch_outcomes(bench: Bench) -> Verdict {
    let (a, b, c) = (bench.key("a")?, bench.key("b")?, bench.key("c")?);
    bench.put(&c, "old").await?;
    let batch = Batch::new()
        .best_effort()
        .put(a.clone(), bench.of("1"))
        .put(b.clone(), bench.of("never").if_version(Bench::version()))
        .delete(c.clone(), Delete::new().report_existed());
    let outcomes = bench.store.apply(batch).await?;
    match outcomes.as_slice() {
        [Ok(Applied::Put(_)), Err(error), Ok(Applied::Delete(_))] => {
            refusal("batch.atomic", ErrorKind::PreconditionFailed, error)?;
        }
        other => return fail("batch.atomic", format!("expected put, refusal and delete, saw {other:?}")),
    }
    bench.expect("batch.atomic", &a, b"1").await?;
    bench.expect_absent("batch.atomic", &b).await?;
    bench.expect_absent("batch.atomic", &c).await
}

/// A batch that need not be atomic is so all the same where the store can.
async fn batch_outcomes_together(bench: Bench) -> Verdict {
    if !bench.has(Feature::ConditionalPut) {
        return batch_condition_refused(bench).await;
    }
    let (a, b, c) = (bench.key("a")?, bench.key("b")?, bench.key("c")?);
    bench.put(&c, "old").await?;
    let batch = Batch::new()
        .best_effort()
        .put(a.clone(), bench.of("1"))
        .put(b.clone(), bench.of("never").if_version(Bench::version()))
        .delete(c.clone(), Delete::new());
    bench.refused("batch.atomic", ErrorKind::PreconditionFailed, bench.store.apply(batch).await)?;
    bench.expect_absent("batch.atomic", &a).await?;
    bench.expect_absent("batch.atomic", &b).await?;
    bench.expect("batch.atomic", &c, b"old").await
}

/// A precondition that a single put refuses is refused in a batch as well.
pub(super) async fn batch_condition_refused(bench: Bench) -> Verdict {
    let (a, b) = (bench.key("a")?, bench.key("b")?);
    bench.put(&b, "old").await?;
    let batch = Batch::new()
        .best_effort()
        .put(a.clone(), bench.of("new").if_absent())
        .put(b.clone(), bench.of("new").if_version(Bench::version()));
    match bench.store.apply(batch).await {
        Ok(outcomes) => {
            check_equal("batch.judged", "the number of outcomes", &2, &outcomes.len())?;
            for outcome in outcomes {
                bench.refused("batch.judged", ErrorKind::Unsupported, outcome)?;
            }
        }
        Err(error) => refusal("batch.judged", ErrorKind::Unsupported, &error)?,
    }
    bench.expect_absent("batch.judged", &a).await?;
    bench.expect("batch.judged", &b, b"old").await
}

/// Each outcome is a success, or a refusal of this kind without effect.
fn judged_alone(expected: &[Option<ErrorKind>], outcomes: BatchOutcomes) -> Verdict {
    check_equal("batch.item", "the number of outcomes", &expected.len(), &outcomes.len())?;
    for (index, (expected, outcome)) in expected.iter().zip(outcomes).enumerate() {
        match (expected, outcome) {
            (None, Ok(_)) => {}
            (Some(kind), Err(error)) => refusal("batch.item", *kind, &error)?,
            (expected, outcome) => {
                let saw = format!("operation {index}: expected the refusal {expected:?}, saw {outcome:?}");
                return fail("batch.item", saw);
            }
        }
    }
    Ok(())
}

async fn batch_per_item(bench: Bench) -> Verdict {
    let (a, b, c, d) = (bench.key("a")?, bench.key("b")?, bench.key("c")?, bench.key("d")?);
    bench.put(&b, "old").await?;
    bench.put(&c, "old").await?;
    if bench.load(&b).await?.is_none() {
        return Ok(());
    }
    // The refused ones stand first, in the middle and last.
    let refused = Some(ErrorKind::PreconditionFailed);
    let batch = Batch::new()
        .per_item()
        .put(d.clone(), bench.of("never").if_version(Bench::version()))
        .put(a.clone(), bench.of("1").if_absent())
        .put(b.clone(), bench.of("never").if_absent())
        .delete(c.clone(), Delete::new())
        .put(d.clone(), bench.of("never").if_version(Bench::version()));
    judged_alone(&[refused, None, refused, None, refused], bench.store.apply(batch).await?)?;
    bench.expect("batch.item", &a, b"1").await?;
    bench.expect("batch.item", &b, b"old").await?;
    bench.expect_absent("batch.item", &c).await?;
    bench.expect_absent("batch.item", &d).await?;
    // None of them holds now.
    let batch = Batch::new().per_item().put(b.clone(), bench.of("never").if_absent());
    judged_alone(&[refused], bench.store.apply(batch).await?)?;
    bench.expect("batch.item", &b, b"old").await
}

/// Of two operations on a key, the last one is refused: the first has taken effect, or fails as well.
async fn batch_per_item_twice(bench: Bench) -> Verdict {
    let (a, b) = (bench.key("a")?, bench.key("b")?);
    let batch = Batch::new()
        .per_item()
        .put(a.clone(), bench.of("1"))
        .put(a.clone(), bench.of("never").if_version(Bench::version()))
        .put(b.clone(), bench.of("2"));
    let outcomes = bench.store.apply(batch).await?;
    let [first, Err(error), Ok(Applied::Put(_))] = outcomes.as_slice() else {
        return fail("batch.item", format!("expected an outcome, a refusal and a put, saw {outcomes:?}"));
    };
    refusal("batch.item", ErrorKind::PreconditionFailed, error)?;
    match first {
        Ok(_) => bench.expect("batch.last", &a, b"1").await?,
        Err(_) => bench.expect_absent("batch.last", &a).await?,
    }
    bench.expect("batch.item", &b, b"2").await
}

async fn batch_per_item_limits(bench: Bench) -> Verdict {
    let (a, b) = (bench.key("a")?, bench.key("b")?);
    let mut batch = Batch::new().per_item();
    let mut expected = Vec::new();
    let max_key = bench.capabilities.max_key();
    if max_key < tiered_core::Key::MAX_LEN {
        batch = batch.put(bench.key(&"k".repeat(max_key + 1 - bench.prefix.len()))?, "1");
        expected.push(Some(ErrorKind::InvalidKey));
    }
    batch = batch.put(a.clone(), bench.of("1"));
    expected.push(None);
    let limit = bench.capabilities.max_value();
    if limit <= super::writing::LARGEST_TRIED {
        let size = usize::try_from(limit).unwrap_or(0) + 1;
        batch = batch.put(b.clone(), vec![0; size]);
        expected.push(Some(ErrorKind::TooLarge));
    }
    judged_alone(&expected, bench.store.apply(batch).await?)?;
    bench.expect("batch.item", &a, b"1").await?;
    bench.expect_absent("batch.item", &b).await
}

async fn batch_large(bench: Bench) -> Verdict {
    // More operations than a statement has parameters or a request has keys.
    let count = usize::try_from(bench.rounds(1100)).unwrap_or(1100);
    let mut puts = batch(&bench);
    let mut deletes = batch(&bench);
    for index in 0..count {
        let key = bench.key(&format!("{index:04}"))?;
        puts = puts.put(key.clone(), bench.of(format!("value {index}")));
        deletes = deletes.delete(key, Delete::new().report_existed());
    }
    let outcomes = bench.store.apply(puts).await?;
    applied(&bench, &vec![None; count], outcomes)?;
    for index in [0, 255, 256, 999, 1000, 1099].into_iter().filter(|index| *index < count) {
        let key = bench.key(&format!("{index:04}"))?;
        bench.expect("batch.atomic", &key, format!("value {index}").as_bytes()).await?;
    }
    let listed = bench.list(bench.everything()).await?.len();
    check("list.complete", listed == count || bench.evicts, || {
        format!("expected {count} keys, saw {listed}")
    })?;
    let outcomes = bench.store.apply(deletes).await?;
    applied(&bench, &vec![Some(true); count], outcomes)?;
    bench.expect_names("delete.existed", bench.everything(), &[]).await
}
