//! What went wrong in the tiered store that this one started from. A store without tiers passes them as well.

use tiered_core::{Delete, Feature, Put, ReadOptions, StoreExt as _};

use crate::bench::Bench;
use crate::case::{Need, Verdict, check, check_equal, declare};

declare! {
    tier_range_first ["read.range", "read.whole"];
    tier_deleted_everywhere ["delete.existed", "read.whole"];
    tier_absent_then_written ["read.whole"];
    tier_same_hot_and_cold ["read.whole", "read.head"];
    tier_update_cold ["put.matches", "read.whole"] needs [Need::Has(Feature::ConditionalPut)];
    tier_list_counts ["list.complete"] needs [Need::Lacks(Feature::Evicts)];
    tier_write_order ["put.replace"];
    tier_empty_value ["read.whole"];
}

/// Reading a fragment first must not make the fragment the whole value.
async fn tier_range_first(bench: Bench) -> Verdict {
    let key = bench.key("k")?;
    bench.put(&key, "the whole value").await?;
    for _ in 0..2 {
        if let Some(part) = bench.store.get_range(&key, 4..9).await? {
            check_equal("read.range", "the range", &&b"whole"[..], &&part.value()[..])?;
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
    let put = if kept { Put::new("value").attributes(attributes) } else { Put::new("value") };
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
        (Some(head), Some(entry)) => head == entry.metadata(),
        _ => bench.evicts,
    };
    check("read.head", agrees, || format!("expected head to agree with load, saw {head:?}"))
}

/// An update must start from the authority's value and reach every tier.
async fn tier_update_cold(bench: Bench) -> Verdict {
    let key = bench.key("k")?;
    bench.put(&key, "1").await?;
    for round in 2..5 {
        bench
            .store
            .update(&key, |old| Some(Put::new(format!("{}{round}", old.map_or("", |old| utf8(old.value()))))))
            .await?;
    }
    if bench.evicts {
        return Ok(());
    }
    bench.expect("read.whole", &key, b"1234").await
}

fn utf8(value: &[u8]) -> &str {
    std::str::from_utf8(value).unwrap_or("(damaged)")
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
        let here = listed.contains(&name);
        check_equal("list.complete", &format!("{name} in the listing"), &(round % 3 != 2), &here)?;
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
    let last = read.entry().map_or(bench.evicts, |entry| entry.value() == "49");
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
