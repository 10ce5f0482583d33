//! Reading parts of a value.

use std::ops::Range;

use bytes::Bytes;
use tiered_core::{Entry, ErrorKind, Key, Lookup, ReadOptions};

use crate::bench::{Bench, describe};
use crate::case::{Verdict, check, check_equal, declare, fail};
use crate::dice::bytes;

declare! {
    range_half_open ["read.range"];
    range_clamped ["read.range"];
    range_at_end ["read.range"];
    range_beyond ["read.range"];
    range_absent ["read.range"];
    range_empty_value ["read.range"];
    range_metadata ["read.range"];
    range_chunks ["read.range"];
}

async fn part(bench: &Bench, key: &Key, range: Range<u64>) -> Verdict<Option<Entry>> {
    match bench.store.load(key, &ReadOptions::new().range(range.clone())).await?.lookup {
        Lookup::Found(entry) => Ok(Some(entry)),
        Lookup::Absent if bench.evicts => Ok(None),
        other => fail("read.range", format!("range {range:?}: expected a part of the value, saw {other:?}")),
    }
}

/// The part of `value` in `range`, clamped at its end.
fn slice(value: &Bytes, range: &Range<u64>) -> Bytes {
    let index = |at: u64| usize::try_from(at.min(value.len() as u64)).unwrap_or(0);
    value.slice(index(range.start)..index(range.end))
}

/// The part in `range` is that of `value`. A range that begins beyond the value, as small stores have it, is not tried.
async fn expect_part(bench: &Bench, key: &Key, range: Range<u64>, value: &Bytes) -> Verdict {
    if range.start > value.len() as u64 {
        return Ok(());
    }
    let Some(entry) = part(bench, key, range.clone()).await? else { return Ok(()) };
    let expected = slice(value, &range);
    check("read.range", *entry.value() == expected, || {
        format!("range {range:?}: expected {}, saw {}", describe(&expected), describe(entry.value()))
    })
}

/// Puts ten bytes, or as many as the store takes.
async fn ten(bench: &Bench, key: &Key) -> Verdict<Bytes> {
    let value = bench.fit(b"0123456789");
    bench.put(key, value.clone()).await?;
    Ok(value)
}

async fn expect_invalid(bench: &Bench, key: &Key, range: Range<u64>) -> Verdict {
    match bench.store.load(key, &ReadOptions::new().range(range.clone())).await {
        Err(error) if error.kind() == ErrorKind::InvalidRange => Ok(()),
        Ok(read) if bench.evicts && read.lookup == Lookup::Absent => Ok(()),
        Ok(read) => {
            fail("read.range", format!("range {range:?}: expected the error invalid range, saw {read:?}"))
        }
        Err(error) => fail("read.range", format!("range {range:?}: expected invalid range, saw \"{error}\"")),
    }
}

async fn range_half_open(bench: Bench) -> Verdict {
    let key = bench.key("k")?;
    let value = ten(&bench, &key).await?;
    for range in [0..1, 1..2, 2..5, 9..10, 0..10, 4..4] {
        expect_part(&bench, &key, range, &value).await?;
    }
    Ok(())
}

async fn range_clamped(bench: Bench) -> Verdict {
    let key = bench.key("k")?;
    let value = ten(&bench, &key).await?;
    for range in [7..11, 1..11, 0..u64::MAX] {
        expect_part(&bench, &key, range, &value).await?;
    }
    Ok(())
}

async fn range_at_end(bench: Bench) -> Verdict {
    let key = bench.key("k")?;
    let value = ten(&bench, &key).await?;
    let end = value.len() as u64;
    expect_part(&bench, &key, end..end, &value).await?;
    expect_part(&bench, &key, end..end + 10, &value).await
}

async fn range_beyond(bench: Bench) -> Verdict {
    let key = bench.key("k")?;
    let value = ten(&bench, &key).await?;
    let beyond = value.len() as u64 + 1;
    expect_invalid(&bench, &key, beyond..beyond + 1).await?;
    expect_invalid(&bench, &key, beyond..beyond).await?;
    expect_invalid(&bench, &key, u64::MAX - 1..u64::MAX).await?;
    // The start is beyond the end.
    expect_invalid(&bench, &key, Range { start: 5, end: 4 }).await?;
    bench.expect("read.whole", &key, &value).await
}

async fn range_absent(bench: Bench) -> Verdict {
    let key = bench.key("never")?;
    for range in [0..0, 0..10, 5..6] {
        let read = bench.store.load(&key, &ReadOptions::new().range(range)).await?;
        check_equal("read.range", "a range of an absent key", &Lookup::Absent, &read.lookup)?;
    }
    bench.expect_absent("read.range", &key).await
}

async fn range_empty_value(bench: Bench) -> Verdict {
    let key = bench.key("k")?;
    bench.put(&key, "").await?;
    expect_part(&bench, &key, 0..0, &Bytes::new()).await?;
    expect_part(&bench, &key, 0..7, &Bytes::new()).await?;
    expect_invalid(&bench, &key, 1..7).await
}

async fn range_metadata(bench: Bench) -> Verdict {
    let key = bench.key("k")?;
    let end = ten(&bench, &key).await?.len() as u64;
    let Some(whole) = bench.present("read.whole", &key).await? else { return Ok(()) };
    for range in [end / 3..end / 2, 0..0, end..end] {
        let Some(part) = part(&bench, &key, range).await? else { continue };
        check_equal("read.range", "the metadata of a part", whole.metadata(), part.metadata())?;
    }
    Ok(())
}

async fn range_chunks(bench: Bench) -> Verdict {
    let key = bench.key("k")?;
    let value = bytes(bench.largest(200 * 1024), bench.seed);
    let size = value.len() as u64;
    bench.put(&key, value.clone()).await?;
    let mut dice = bench.dice();
    let mut ranges: Vec<Range<u64>> = [65_200, 65_279, 65_280, 65_535, 65_536, 130_560, 131_072]
        .into_iter()
        .flat_map(|start| [start..start + 1, start - 1..start + 2, start..start + 65_536, 0..start])
        .collect();
    ranges.extend((0..24).map(|_| {
        let start = dice.below(size + 1);
        start..start + dice.below(size)
    }));
    for range in ranges {
        expect_part(&bench, &key, range, &value).await?;
    }
    Ok(())
}
