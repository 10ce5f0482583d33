//! What went wrong in the tiered store that this one started from. A store without tiers passes them as well.

use tiered_core::{Batch, Delete, Entry, Feature, Read, ReadOptions, StoreExt as _};

use super::concurrency::number;
use super::life::reopen_volatile;
use super::preconditions::put_condition_refused;
use crate::bench::Bench;
use crate::case::{Need, Verdict, check, check_equal, declare, fail};
use crate::dice::bytes;

declare! {
    tier_range_first ["read.range", "read.whole"];
    tier_deleted_everywhere ["delete.existed", "read.whole"];
    tier_absent_then_written ["read.whole"];
    tier_same_hot_and_cold ["read.whole", "read.head"];
    tier_update_cold ["put.matches", "read.whole"] needs [Need::Has(Feature::ConditionalPut)] else put_condition_refused;
    tier_list_counts ["list.complete"];
    tier_write_order ["put.replace"];
    tier_empty_value ["read.whole"];
    tier_batch_order ["batch.last", "put.replace"];
    tier_cold_reads ["read.range", "read.whole", "read.head", "read.many"] needs [Need::Place, Need::Lasting] else reopen_volatile;
    tier_cold_update ["put.matches", "read.whole"] needs [Need::Place, Need::Lasting, Need::Has(Feature::ConditionalPut)] else cold_refused;
}

/// Reading a fragment first must not make the fragment the whole value.
async fn tier_range_first(bench: Bench) -> Verdict {
    let key = bench.key("k")?;
    let value = bench.fit(b"the whole value");
    let (start, end) = (value.len() / 4, value.len() / 2 + 1);
    let end = end.min(value.len());
    bench.put(&key, value.clone()).await?;
    for _ in 0..2 {
        if let Some(part) = bench.store.get_range(&key, start as u64..end as u64).await? {
            check_equal("read.range", "the range", &value.slice(start..end), part.value())?;
        }
        bench.store.flush().await?;
        bench.expect("read.whole", &key, b"the whole value").await?;
    }
    Ok(())
}

/// A deleted key must not come back from any tier.
async fn tier_deleted_everywhere(bench: Bench) -> Verdict {
    let key = bench.key("k")?;
    bench.put(&key, "value").await?;
    bench.load(&key).await?;
    bench.store.delete(&key, Delete::new()).await?;
    bench.expect_absent("read.whole", &key).await?;
    bench.store.flush().await?;
    bench.expect_absent("read.whole", &key).await?;
    let read = bench.store.load(&key, &ReadOptions::new().authoritative()).await?;
    check("read.whole", read.entry().is_none(), || {
        format!("expected the authority to have nothing, saw {read:?}")
    })
}

/// An absence that was read must not be remembered as a value.
async fn tier_absent_then_written(bench: Bench) -> Verdict {
    let key = bench.key("k")?;
    bench.expect_absent("read.whole", &key).await?;
    bench.put(&key, "value").await?;
    bench.expect("read.whole", &key, b"value").await
}

/// Metadata must not tell which tier answered.
async fn tier_same_hot_and_cold(bench: Bench) -> Verdict {
    let key = bench.key("k")?;
    let attributes = Bench::attributes(&[("kind", "test")])?;
    let kept = bench.has(Feature::KeepsMetadata);
    let put = if kept { bench.of("value").attributes(attributes) } else { bench.of("value") };
    bench.put(&key, put).await?;
    let mut seen = Vec::new();
    for _ in 0..3 {
        seen.extend(bench.load(&key).await?);
        bench.store.flush().await?;
    }
    seen.extend(bench.store.load(&key, &ReadOptions::new().authoritative()).await?.into_entry());
    let same = seen.windows(2).all(|pair| matches!(pair, [a, b] if a == b));
    check("read.whole", same, || format!("expected the same entry each time, saw {seen:?}"))?;
    let head = bench.store.head(&key, &ReadOptions::new()).await?;
    let agrees = match (&head, seen.first()) {
        (Some(head), Some(entry)) => head.agrees_with(entry.metadata()),
        _ => bench.evicts,
    };
    check("read.head", agrees, || format!("expected head to agree with load, saw {head:?}"))
}

/// An update must start from the authority's value and reach every tier.
async fn tier_update_cold(bench: Bench) -> Verdict {
    let key = bench.key("k")?;
    bench.put(&key, "1").await?;
    for _ in 2..5 {
        bench.store.update(&key, |old| Some(bench.of((number(old) + 1).to_string()))).await?;
    }
    if bench.evicts {
        return Ok(());
    }
    bench.expect("read.whole", &key, b"4").await
}

/// Listings must know what was just written and deleted, wherever it is by now.
async fn tier_list_counts(bench: Bench) -> Verdict {
    for round in 0..20_u64 {
        let name = format!("k{}", round % 5);
        if round % 3 == 2 {
            bench.store.delete(&bench.key(&name)?, Delete::new()).await?;
        } else {
            bench.put(&bench.key(&name)?, "v").await?;
        }
        let listed = bench.names(bench.everything()).await?;
        let (here, deleted) = (listed.contains(&name), round % 3 == 2);
        check("list.complete", here != deleted || (bench.evicts && !here), || {
            format!("{name} in the listing: expected {}, saw {here}", !deleted)
        })?;
    }
    Ok(())
}

/// Writes of one key must land in the order in which they were acknowledged.
async fn tier_write_order(bench: Bench) -> Verdict {
    let key = bench.key("k")?;
    for round in 0..50 {
        bench.put(&key, format!("{round}")).await?;
        if round % 7 == 3 {
            bench.store.delete(&key, Delete::new()).await?;
        }
    }
    bench.expect("put.replace", &key, b"49").await?;
    bench.store.flush().await?;
    let read = bench.store.load(&key, &ReadOptions::new().authoritative()).await?;
    let last = bench.is(read.entry(), b"49");
    check("put.replace", last, || format!("expected the last write in the authority, saw {read:?}"))
}

/// An empty value is a value, and not a miss.
async fn tier_empty_value(bench: Bench) -> Verdict {
    let key = bench.key("k")?;
    bench.put(&key, "").await?;
    for _ in 0..2 {
        bench.expect("read.whole", &key, b"").await?;
        bench.store.flush().await?;
    }
    Ok(())
}

/// Batches must land in the order in which they were acknowledged, and the operations of one in theirs.
async fn tier_batch_order(bench: Bench) -> Verdict {
    let (leaf, root) = (bench.key("leaf")?, bench.key("root")?);
    for round in 0..20 {
        let batch = Batch::new()
            .best_effort()
            .put(leaf.clone(), bench.of(format!("leaf {round}, too early")))
            .delete(root.clone(), Delete::new())
            .put(leaf.clone(), bench.of(format!("leaf {round}")))
            .put(root.clone(), bench.of(format!("root {round}")));
        for outcome in bench.store.apply(batch).await? {
            outcome?;
        }
        bench.expect("batch.last", &leaf, format!("leaf {round}").as_bytes()).await?;
        bench.expect("batch.last", &root, format!("root {round}").as_bytes()).await?;
    }
    bench.store.flush().await?;
    for (key, last) in [(&leaf, "leaf 19"), (&root, "root 19")] {
        let read = bench.store.load(key, &ReadOptions::new().authoritative()).await?;
        let right = bench.is(read.entry(), last.as_bytes());
        check("put.replace", right, || format!("expected {last:?} in the authority, saw {read:?}"))?;
    }
    Ok(())
}

/// A place of the case's own that holds `small` and `large` and was closed: opened again, a tier of memory is cold.
async fn cold(bench: &Bench) -> Verdict<(Bench, Entry, Entry)> {
    let place = bench.place()?;
    let warm = Bench { store: place.open().await?, ..bench.clone() };
    let size = bench.largest(150_000);
    let (small, large) = (bench.key("small")?, bench.key("large")?);
    warm.put(&small, "1").await?;
    warm.put(&large, bytes(size, bench.seed)).await?;
    let before = (warm.load(&small).await?, warm.load(&large).await?);
    warm.store.close().await?;
    let cold = Bench { store: place.open().await?, ..warm };
    match before {
        (Some(small), Some(large)) => Ok((cold, small, large)),
        _ => fail("read.whole", "expected the entries just written, saw none"),
    }
}

/// Without a cold tier to update, or a way to do it.
async fn cold_refused(bench: Bench) -> Verdict {
    if bench.has(Feature::ConditionalPut) {
        reopen_volatile(bench).await
    } else {
        put_condition_refused(bench).await
    }
}

fn size_of(entry: &Entry) -> usize {
    entry.value().len()
}

/// The first reads after opening must neither truncate what they fill, nor change its metadata.
async fn tier_cold_reads(bench: Bench) -> Verdict {
    let (bench, small, large) = cold(&bench).await?;
    let keys = [bench.key("large")?, bench.key("absent")?, bench.key("small")?];
    let [key, absent, other] = &keys;
    let range = size_of(&large).min(3)..size_of(&large).min(9);
    let part = bench.store.get_range(key, range.start as u64..range.end as u64).await?;
    let right = part.as_ref().is_some_and(|part| *part.value() == large.value().slice(range));
    check("read.range", right, || format!("expected bytes 3 to 9, saw {part:?}"))?;
    bench.expect_absent("read.whole", absent).await?;
    for _ in 0..3 {
        // One of them is warm by now, another is not.
        let many = bench.get_many(&keys, &ReadOptions::new()).await?;
        let found: Vec<Option<&Entry>> = many.iter().map(Read::entry).collect();
        check_equal(
            "read.many",
            "a warm, an absent and a cold key",
            &vec![Some(&large), None, Some(&small)],
            &found,
        )?;
        check_equal("read.whole", "the whole value", &Some(large.clone()), &bench.load(key).await?)?;
        let head = bench.store.head(other, &ReadOptions::new()).await?;
        let agrees = head.as_ref().is_some_and(|head| head.agrees_with(small.metadata()));
        check("read.head", agrees, || format!("expected {:?}, saw {head:?}", small.metadata()))?;
        bench.store.flush().await?;
    }
    Ok(bench.store.close().await?)
}

/// An update of a cold key starts from the stored value, and runs on it once and not once in each tier.
async fn tier_cold_update(bench: Bench) -> Verdict {
    let (bench, small, _) = cold(&bench).await?;
    let key = bench.key("small")?;
    let (old, written) =
        bench.store.update(&key, |old| Some(bench.of((number(old) + 1).to_string()))).await?;
    check_equal("put.matches", "the entry before the update", &Some(small), &old)?;
    check("put.matches", written.is_some(), || "expected the update to be written".to_owned())?;
    bench.expect("read.whole", &key, b"2").await?;
    let read = bench.store.load(&key, &ReadOptions::new().authoritative()).await?;
    let right = read.entry().is_some() && bench.is(read.entry(), b"2");
    check("read.whole", right, || format!("expected the update in the authority, saw {read:?}"))?;
    Ok(bench.store.close().await?)
}
