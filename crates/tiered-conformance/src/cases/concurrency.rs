//! What holds when several write and read at once.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::future::join_all;
use tiered_core::{
    Batch, Delete, Entry, ErrorKind, Existed, Feature, Key, Put, ReadOptions, StoreExt as _, adapter,
};

use super::batches::batch_failure_refused;
use super::preconditions::{delete_condition_refused, put_condition_refused};
use super::reading::read_peek_refused;
use crate::bench::{Bench, describe};
use crate::case::{Need, Verdict, check, check_equal, declare, fail};
use crate::dice::{Dice, bytes};

declare! {
    race_create ["put.absent"] needs [Need::Has(Feature::ConditionalPut)] else put_condition_refused;
    race_replace ["put.matches"] needs [Need::Has(Feature::ConditionalPut)] else put_condition_refused;
    race_counter ["put.matches"] needs [Need::Has(Feature::ConditionalPut)] else put_condition_refused;
    race_delete ["delete.matches"] needs [Need::Has(Feature::ConditionalDelete)] else delete_condition_refused;
    race_batches ["batch.atomic", "put.absent"] needs [Need::Has(Feature::AtomicBatch), Need::Has(Feature::ConditionalPut)] else batch_failure_refused;
    race_values ["read.whole", "put.replace"];
    race_versions ["put.version", "read.whole"];
    race_acknowledged_visible ["put.replace"];
    race_peek ["read.peek"] needs [Need::Has(Feature::Peeks)] else read_peek_refused;
    race_list ["list.complete", "list.order"];
    race_reads ["read.whole"];
}

/// Each of 16 tasks puts `put` of its number at once. Exactly one must win, and its value be there.
async fn one_winner(
    bench: &Bench,
    clause: &'static str,
    key: &Key,
    put: fn(&Bench, String) -> Put,
) -> Verdict {
    let tasks: Vec<_> = (0..16)
        .map(|index| {
            let (bench, key) = (bench.clone(), key.clone());
            Bench::part(async move {
                let value = format!("writer {index}");
                match bench.store.put(&key, put(&bench, value.clone())).await {
                    Ok(_) => Ok(Some(value)),
                    Err(error) => {
                        crate::bench::refusal(clause, ErrorKind::PreconditionFailed, &error)?;
                        Ok(None)
                    }
                }
            })
        })
        .collect();
    let winners: Vec<String> = bench.all(tasks).await?.into_iter().flatten().collect();
    if bench.evicts {
        return Ok(());
    }
    match winners.as_slice() {
        [winner] => bench.expect(clause, key, winner.as_bytes()).await,
        other => fail(clause, format!("expected exactly one of 16 racing writers to succeed, saw {other:?}")),
    }
}

async fn race_create(bench: Bench) -> Verdict {
    for round in 0..bench.rounds(8) {
        let key = bench.key(&format!("k{round}"))?;
        one_winner(&bench, "put.absent", &key, |bench, value| bench.of(value).if_absent()).await?;
    }
    Ok(())
}

async fn race_replace(bench: Bench) -> Verdict {
    let version = tiered_core::Version::from_u128(7);
    let key = bench.key("k")?;
    if !bench.has(Feature::KeepsMetadata) {
        return race_replace_stamped(bench).await;
    }
    for _ in 0..bench.rounds(8) {
        bench.put(&key, adapter::with_version(bench.of("before"), version.clone())).await?;
        one_winner(&bench, "put.matches", &key, |bench, value| {
            bench.of(value).if_version(tiered_core::Version::from_u128(7))
        })
        .await?;
    }
    Ok(())
}

/// The same where the store chooses the versions.
async fn race_replace_stamped(bench: Bench) -> Verdict {
    let key = bench.key("k")?;
    let version = bench.put(&key, "before").await?.version;
    let puts = (0..16).map(|index| {
        let put = bench.of(format!("writer {index}")).if_version(version.clone());
        bench.store.put(&key, put)
    });
    let winners = join_all(puts).await.iter().filter(|put| put.is_ok()).count();
    check("put.matches", winners == 1 || bench.evicts, || format!("expected one winner of 16, saw {winners}"))
}

async fn race_counter(bench: Bench) -> Verdict {
    const TASKS: u64 = 8;
    let rounds = bench.rounds(12).min(bench.count(TASKS * 12) / TASKS);
    let key = bench.key("counter")?;
    let tasks: Vec<_> = (0..TASKS)
        .map(|_| {
            let (bench, key) = (bench.clone(), key.clone());
            Bench::part(async move {
                for _ in 0..rounds {
                    bench.store.update(&key, |old| Some(bench.of((number(old) + 1).to_string()))).await?;
                }
                Ok(())
            })
        })
        .collect();
    bench.all(tasks).await?;
    if bench.evicts {
        return Ok(());
    }
    let last = bench.load(&key).await?;
    check_equal("put.matches", "a counter after every increment", &(TASKS * rounds), &number(last.as_ref()))
}

pub(super) fn number(entry: Option<&Entry>) -> u64 {
    let text = entry.and_then(|entry| std::str::from_utf8(entry.value()).ok());
    text.and_then(|text| text.parse().ok()).unwrap_or(0)
}

async fn race_delete(bench: Bench) -> Verdict {
    for round in 0..bench.rounds(8) {
        let key = bench.key(&format!("k{round}"))?;
        let version = bench.put(&key, "value").await?.version;
        let tasks: Vec<_> = (0..8)
            .map(|_| {
                let (bench, key, version) = (bench.clone(), key.clone(), version.clone());
                Bench::part(async move {
                    match bench.store.delete(&key, Delete::new().if_version(version).report_existed()).await {
                        Ok(deleted) => Ok(u32::from(deleted.existed == Existed::Yes)),
                        Err(error) => {
                            crate::bench::refusal("delete.matches", ErrorKind::PreconditionFailed, &error)?;
                            Ok(0)
                        }
                    }
                })
            })
            .collect();
        let winners: u32 = bench.all(tasks).await?.into_iter().sum();
        check("delete.matches", winners == 1 || bench.evicts, || {
            format!("expected exactly one of 8 racing deletes to succeed, saw {winners}")
        })?;
        bench.expect_absent("delete.matches", &key).await?;
    }
    Ok(())
}

async fn race_batches(bench: Bench) -> Verdict {
    for round in 0..6 {
        let keys = [bench.key(&format!("a{round}"))?, bench.key(&format!("b{round}"))?];
        let tasks: Vec<_> = (0..8)
            .map(|index| {
                let (bench, keys) = (bench.clone(), keys.clone());
                Bench::part(async move {
                    let put = || bench.of(format!("writer {index}")).if_absent();
                    let mut batch = Batch::new();
                    // Opposite orders, in which naive locking deadlocks.
                    let [a, b] = keys;
                    for key in if index % 2 == 0 { [a, b] } else { [b, a] } {
                        batch = batch.put(key, put());
                    }
                    match bench.store.apply(batch).await {
                        Ok(_) => Ok(Some(format!("writer {index}"))),
                        Err(error) => {
                            crate::bench::refusal("batch.atomic", ErrorKind::PreconditionFailed, &error)?;
                            Ok(None)
                        }
                    }
                })
            })
            .collect();
        let racing = Bench::in_time("batch.atomic", "racing batches", bench.all(tasks));
        let winners: Vec<String> = racing.await??.into_iter().flatten().collect();
        if bench.evicts {
            continue;
        }
        let [winner] = winners.as_slice() else {
            return fail(
                "batch.atomic",
                format!("expected one of 8 racing batches to succeed, saw {winners:?}"),
            );
        };
        for key in &keys {
            bench.expect("batch.atomic", key, winner.as_bytes()).await?;
        }
    }
    Ok(())
}

/// How many tasks and rounds `race_values` has.
const WRITERS: u64 = 9;
const ROUNDS: u64 = 25;

/// Smallest size of a value that tells itself whose it is.
const SIGNED: usize = 48;

/// A value that says whose it is: torn or mixed values are no such value. Small stores take a part of it.
fn signed(bench: &Bench, key: u64, writer: u64, round: u64) -> Bytes {
    let seed = key << 40 | writer << 20 | round;
    if bench.largest(SIGNED) < SIGNED {
        return bench.fit(&bytes(SIGNED, seed));
    }
    let mut value = seed.to_le_bytes().to_vec();
    let size = 40 + Dice::new(seed).below(3) * 66_000;
    value.extend_from_slice(&bytes(bench.largest(usize::try_from(size).unwrap_or(0) + 8) - 8, seed));
    value.into()
}

fn check_signed(bench: &Bench, key: u64, entry: &Entry) -> Verdict {
    let value = entry.value();
    let is = |writer, round| signed(bench, key, writer, round) == *value;
    let intact = if bench.largest(SIGNED) < SIGNED {
        // Too short to tell whose it is: it is one of all.
        (0..WRITERS).any(|writer| (0..ROUNDS).any(|round| is(writer, round)))
    } else {
        let seed = value.first_chunk::<8>().map(|chunk| u64::from_le_bytes(*chunk));
        seed.is_some_and(|seed| seed >> 40 == key && is(seed >> 20 & 0xf_ffff, seed & 0xf_ffff))
    };
    check("read.whole", intact, || {
        format!("key {key}: expected a value that was written to it as a whole, saw {}", describe(value))
    })?;
    entry.verify().or_else(|error| fail("read.whole", format!("key {key}: {error}")))
}

async fn race_values(bench: Bench) -> Verdict {
    let keys: Arc<Vec<Key>> =
        Arc::new((0..4).map(|index| bench.key(&format!("k{index}"))).collect::<Verdict<_>>()?);
    let tasks: Vec<_> = (0..WRITERS)
        .map(|task| {
            let (bench, keys) = (bench.clone(), Arc::clone(&keys));
            Bench::part(async move {
                let mut dice = Dice::new(bench.seed ^ task);
                for round in 0..bench.rounds(ROUNDS) {
                    let index = dice.below(4);
                    let Some(key) = keys.get(usize::try_from(index).unwrap_or(0)) else { continue };
                    let value = signed(&bench, index, task, round);
                    match task % 3 {
                        0 => {
                            bench.store.put(key, Put::new(value)).await?;
                        }
                        1 if dice.below(4) == 0 => {
                            bench.store.delete(key, Delete::new()).await?;
                        }
                        _ => {
                            if let Some(entry) = bench.store.get(key).await? {
                                check_signed(&bench, index, &entry)?;
                            }
                        }
                    }
                }
                Ok(())
            })
        })
        .collect();
    bench.all(tasks).await?;
    for (index, key) in (0..).zip(keys.iter()) {
        if let Some(entry) = bench.load(key).await? {
            check_signed(&bench, index, &entry)?;
        }
    }
    Ok(())
}

async fn race_versions(bench: Bench) -> Verdict {
    // The metadata of one write beside the value of another is a torn entry, too.
    let key = bench.key("k")?;
    let tasks: Vec<_> = (0..6u64)
        .map(|task| {
            let (bench, key) = (bench.clone(), key.clone());
            Bench::part(async move {
                let mut written = Vec::new();
                let mut read = Vec::new();
                for round in 0..bench.rounds(20) {
                    let value = bench.fit(format!("{task}-{round}").as_bytes());
                    if task % 2 == 0 {
                        written.push((bench.put(&key, value.clone()).await?.version, value));
                    } else if let Some(entry) = bench.load(&key).await? {
                        read.push((entry.version().clone(), entry.into_value()));
                    }
                }
                Ok((written, read))
            })
        })
        .collect();
    let (written, read): (Vec<_>, Vec<_>) = bench.all(tasks).await?.into_iter().unzip();
    let written: std::collections::HashMap<_, _> = written.into_iter().flatten().collect();
    for (version, value) in read.into_iter().flatten() {
        check_equal(
            "read.whole",
            "the value of the version that was read",
            &written.get(&version),
            &Some(&value),
        )?;
    }
    Ok(())
}

async fn race_acknowledged_visible(bench: Bench) -> Verdict {
    let last = bench.count(150);
    let key = bench.key("k")?;
    let (acknowledged, done) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
    bench.put(&key, "0").await?;
    let readers: Vec<_> = (0..4)
        .map(|reader| {
            let (bench, key) = (bench.clone(), key.clone());
            let (acknowledged, done) = (Arc::clone(&acknowledged), Arc::clone(&done));
            Bench::part(async move {
                while !done.load(Ordering::Acquire) {
                    let floor = acknowledged.load(Ordering::Acquire);
                    let seen =
                        if reader % 2 == 0 { bench.store.get(&key).await? } else { bench.load(&key).await? };
                    if seen.is_some() || !bench.evicts {
                        let seen = number(seen.as_ref());
                        check("put.replace", seen >= floor, || {
                            format!(
                                "expected {floor}, acknowledged before the read began, or later; saw {seen}"
                            )
                        })?;
                    }
                    Bench::breathe().await;
                }
                Ok(())
            })
        })
        .collect();
    let readers = bench.begin(readers);
    let mut written = Ok(());
    for round in 1..=last {
        written = bench.put(&key, round.to_string()).await.map(|_| ());
        if written.is_err() {
            break;
        }
        acknowledged.store(round, Ordering::Release);
        tokio::task::yield_now().await;
    }
    // Told in any case: the readers go on until then.
    done.store(true, Ordering::Release);
    readers.join().await?;
    written
}

/// What is peeked beside a writer is whole, and no older than what was acknowledged before.
async fn race_peek(bench: Bench) -> Verdict {
    let last = bench.count(200);
    let key = bench.key("k")?;
    let (acknowledged, done) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
    bench.put(&key, "0").await?;
    let readers: Vec<_> = (0..3)
        .map(|_| {
            let (bench, key) = (bench.clone(), key.clone());
            let (acknowledged, done) = (Arc::clone(&acknowledged), Arc::clone(&done));
            Bench::part(async move {
                while !done.load(Ordering::Acquire) {
                    let floor = acknowledged.load(Ordering::Acquire);
                    if let Some(entry) = bench.store.peek(&key) {
                        let seen = number(Some(&entry));
                        check("read.peek", seen >= floor, || {
                            format!("expected {floor}, acknowledged before, or later; peek saw {seen}")
                        })?;
                        check("read.peek", entry.is_whole() && entry.verify().is_ok(), || {
                            format!("expected a whole entry, peek saw {entry:?}")
                        })?;
                    }
                    Bench::breathe().await;
                }
                Ok(())
            })
        })
        .collect();
    let readers = bench.begin(readers);
    let mut written = Ok(());
    for round in 1..=last {
        written = bench.put(&key, round.to_string()).await.map(|_| ());
        if written.is_err() {
            break;
        }
        acknowledged.store(round, Ordering::Release);
        tokio::task::yield_now().await;
    }
    done.store(true, Ordering::Release);
    readers.join().await?;
    written
}

async fn race_list(bench: Bench) -> Verdict {
    let untouched: BTreeSet<String> = (0..300).map(|index| format!("k{index:03}")).collect();
    let mut batch = Batch::new().best_effort();
    for name in &untouched {
        batch = batch.put(bench.key(name)?, bench.of("stays"));
    }
    for outcome in bench.store.apply(batch).await? {
        outcome?;
    }
    let done = Arc::new(AtomicBool::new(false));
    let writers: Vec<_> = (0..3)
        .map(|writer| {
            let (bench, done) = (bench.clone(), Arc::clone(&done));
            Bench::part(async move {
                let mut dice = Dice::new(bench.seed ^ writer);
                while !done.load(Ordering::Acquire) {
                    let key = bench.key(&format!("k{:03}+", dice.below(300)))?;
                    if dice.below(2) == 0 {
                        bench.put(&key, "comes and goes").await?;
                    } else {
                        bench.store.delete(&key, Delete::new()).await?;
                    }
                    Bench::breathe().await;
                }
                Ok(())
            })
        })
        .collect();
    let writers = bench.begin(writers);
    let mut verdict = Ok(());
    for _ in 0..10 {
        verdict = one_listing(&bench, &untouched).await;
        if verdict.is_err() {
            break;
        }
    }
    done.store(true, Ordering::Release);
    writers.join().await?;
    verdict
}

async fn one_listing(bench: &Bench, untouched: &BTreeSet<String>) -> Verdict {
    let mut listing = bench.store.list(bench.everything());
    let (mut last, mut seen) = (None::<Key>, 0);
    while let Some(listed) = listing.next().await {
        let key = listed?.key;
        check("list.order", last.as_ref().is_none_or(|last| *last < key), || {
            format!("expected rising keys, saw {key:?} after {last:?}")
        })?;
        let name = key.as_str().strip_prefix(&bench.prefix).unwrap_or_default();
        seen += usize::from(untouched.contains(name));
        let known = untouched.contains(name.trim_end_matches('+'));
        check("list.complete", known, || format!("expected only keys that were written, saw {key:?}"))?;
        last = Some(key);
        // Lets the writers in between two keys.
        if seen % 32 == 0 {
            tokio::task::yield_now().await;
        }
    }
    let expected = untouched.len();
    check("list.complete", seen == expected || bench.evicts, || {
        format!("expected all {expected} keys that are not written meanwhile, saw {seen}")
    })
}

async fn race_reads(bench: Bench) -> Verdict {
    let (key, absent) = (bench.key("k")?, bench.key("absent")?);
    let value = bytes(bench.largest(100_000), bench.seed);
    let part = value.slice(value.len().min(1)..value.len().min(9));
    bench.put(&key, value.clone()).await?;
    let tasks: Vec<_> = (0..48)
        .map(|index| {
            let (bench, key, absent) = (bench.clone(), key.clone(), absent.clone());
            let (value, expected) = (value.clone(), part.clone());
            Bench::part(async move {
                match index % 4 {
                    0 => bench.expect_absent("read.whole", &absent).await,
                    1 => {
                        let range = value.len().min(1) as u64..9;
                        let part = bench.store.load(&key, &ReadOptions::new().range(range)).await?;
                        let right = part.entry().map_or(bench.evicts, |part| *part.value() == expected);
                        check("read.range", right, || format!("expected bytes 1 to 9, saw {part:?}"))
                    }
                    _ => bench.expect("read.whole", &key, &value).await,
                }
            })
        })
        .collect();
    bench.all(tasks).await.map(|_| ())
}
