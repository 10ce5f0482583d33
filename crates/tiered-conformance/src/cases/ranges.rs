//! Reading parts of a value.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bytes::Bytes;
use tiered_core::{Entry, ErrorKind, Key, Known, Lookup, Read, ReadOptions, Slices};

use crate::bench::{Bench, describe, same_metadata};
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
    ranges_of_one_version ["read.ranges"];
    ranges_conditional ["read.ranges", "read.if", "read.unless"];
    race_ranges ["read.ranges"];
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
        same_metadata("read.range", "the metadata of a part", whole.metadata(), part.metadata())?;
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

/// Several ranges, or nothing where the store evicts.
async fn slices(
    bench: &Bench,
    key: &Key,
    ranges: &[Range<u64>],
    options: &ReadOptions,
) -> Verdict<Option<Slices>> {
    match bench.store.get_ranges(key, ranges, options).await?.lookup {
        Lookup::Found(slices) => Ok(Some(slices)),
        Lookup::Absent if bench.evicts => Ok(None),
        other => fail("read.ranges", format!("{ranges:?}: expected parts of the value, saw {other:?}")),
    }
}

async fn ranges_of_one_version(bench: Bench) -> Verdict {
    let (key, none) = (bench.key("k")?, bench.key("none")?);
    let value = bytes(bench.largest(300 * 1024), 11);
    bench.put(&key, value.clone()).await?;
    let Some(entry) = bench.present("read.whole", &key).await? else { return Ok(()) };
    let size = value.len() as u64;
    // Out of order, apart, overlapping, twice, empty, and beyond the end.
    let (middle, last) = (size / 2, size.saturating_sub(3));
    let ranges =
        [last..size + 9, 0..1, middle..size, 0..1, middle..middle, 0..middle + 1, size..size + 1, 0..size];
    let options = ReadOptions::new();
    let Some(seen) = slices(&bench, &key, &ranges, &options).await? else { return Ok(()) };
    check_equal("read.ranges", "the number of parts", &ranges.len(), &seen.values.len())?;
    check_equal("read.ranges", "the version", entry.version(), &seen.metadata.version)?;
    check_equal("read.ranges", "the size", &size, &seen.metadata.size)?;
    for (range, part) in ranges.iter().zip(&seen.values) {
        check("read.ranges", entry.slice(range)?.value() == part, || {
            format!("{range:?}: expected this part of {size} bytes, saw {} other ones", part.len())
        })?;
    }
    // A range of the options is that of another call.
    let Some(seen) = slices(&bench, &key, &[], &options.clone().range(0..1)).await? else { return Ok(()) };
    check_equal("read.ranges", "the parts of no range", &0, &seen.values.len())?;
    check_equal("read.ranges", "the size beside no range", &size, &seen.metadata.size)?;
    for beyond in [vec![0..1, size + 1..size + 2], vec![size + 1..size + 2, 0..1]] {
        match bench.store.get_ranges(&key, &beyond, &options).await {
            Err(error) if error.kind() == ErrorKind::InvalidRange => {}
            Ok(read) if bench.evicts && read.lookup == Lookup::Absent => {}
            other => return fail("read.ranges", format!("{beyond:?}: expected a refusal, saw {other:?}")),
        }
    }
    let read = bench.store.get_ranges(&none, &[0..1, 5..6], &options).await?;
    check_equal("read.ranges", "an absent key", &Lookup::Absent, &read.lookup)
}

async fn ranges_conditional(bench: Bench) -> Verdict {
    let key = bench.key("k")?;
    bench.put(&key, "the old value").await?;
    let Some(old) = bench.present("read.whole", &key).await? else { return Ok(()) };
    let ranges = [0..1, 0..0];
    let same = ReadOptions::new().if_version(Known::of(&old));
    if let Some(seen) = slices(&bench, &key, &ranges, &same).await? {
        check_equal("read.if", "the version", old.version(), &seen.metadata.version)?;
    }
    let unless = ReadOptions::new().unless(Known::of(&old));
    let read = bench.store.get_ranges(&key, &ranges, &unless).await?;
    check("read.unless", read.lookup == Lookup::Unchanged || bench.evicts, || {
        format!("expected Unchanged for the known version, saw {:?}", read.lookup)
    })?;
    bench.put(&key, "new").await?;
    // Neither range is judged against another version.
    let read = bench.store.get_ranges(&key, &[7..8, 9..10], &same).await?;
    check("read.if", read.lookup == Lookup::Changed || bench.evicts, || {
        format!("expected Changed for a replaced version, saw {:?}", read.lookup)
    })?;
    slices(&bench, &key, &[0..1, 0..1], &unless).await.map(drop)
}

async fn race_ranges(bench: Bench) -> Verdict {
    let key = bench.key("k")?;
    let rounds = bench.rounds(100);
    // Every byte of a value is the same.
    let size = bench.largest(200 * 1024);
    let value = move |round: u64| vec![u8::try_from(round % 251).unwrap_or(0); size];
    bench.put(&key, value(0)).await?;
    let (writer, reader, target) = (bench.clone(), bench.clone(), key.clone());
    let race = Arc::new(Race::default());
    let (of_writer, of_reader) = (Side(Arc::clone(&race)), Side(race));
    let writing = Bench::part(async move {
        for round in 1.. {
            writer.put(&target, value(round)).await?;
            of_writer.0.writes.fetch_add(1, Ordering::Relaxed);
            Bench::breathe().await;
            if of_writer.0.is_over(rounds) {
                break;
            }
        }
        Ok(())
    });
    let reading = Bench::part(async move {
        let end = size as u64;
        loop {
            let read =
                reader.store.get_ranges(&key, &[end.saturating_sub(1)..end, 0..1], &ReadOptions::new()).await;
            match read {
                Ok(Read { lookup: Lookup::Found(seen), .. }) => {
                    let alike = seen.values.first() == seen.values.last();
                    check("read.ranges", alike, || format!("parts of two versions in one answer: {seen:?}"))?;
                }
                Ok(Read { lookup: Lookup::Absent, .. }) if reader.evicts => {}
                // It is replaced faster than it is read.
                Err(error) if error.kind() == ErrorKind::Unavailable => {}
                other => return fail("read.ranges", format!("expected parts of the value, saw {other:?}")),
            }
            of_reader.0.reads.fetch_add(1, Ordering::Relaxed);
            if of_reader.0.is_over(rounds) {
                return Ok(());
            }
            Bench::breathe().await;
        }
    });
    bench.all(vec![writing, reading]).await.map(drop)
}

/// Writes and reads of one key at the same time.
#[derive(Debug, Default)]
struct Race {
    writes: AtomicU64,
    reads: AtomicU64,
    over: AtomicBool,
}

impl Race {
    /// Whether both sides have made so many rounds, or one has ended. A side that waits for a processor does not end the race.
    fn is_over(&self, rounds: u64) -> bool {
        let made = |count: &AtomicU64| count.load(Ordering::Relaxed) >= rounds;
        self.over.load(Ordering::Relaxed) || (made(&self.writes) && made(&self.reads))
    }
}

/// A side of a race. The race is over when it ends, also where it fails.
struct Side(Arc<Race>);

impl Drop for Side {
    fn drop(&mut self) {
        self.0.over.store(true, Ordering::Relaxed);
    }
}
