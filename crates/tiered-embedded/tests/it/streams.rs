//! Streamed puts and reads: what others see of them, what they leave, and what becomes of a value that is replaced.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use futures_util::future::join_all;
use futures_util::{FutureExt as _, StreamExt as _, TryStreamExt as _, stream};
use tiered_core::{
    ByteStream, Delete, Error, ErrorKind, ListOptions, Outcome, Precondition, Put, ReadOptions, Result,
    Store, StoreExt as _, Written,
};
use tiered_embedded::{EmbeddedStore, Executor, Table};
use tokio::sync::mpsc;

use super::engine::Disk;
use super::{Maps, key, open, settings};

const MEBI: usize = 1 << 20;

/// A value that differs everywhere from one of another seed, and at each place from others.
fn value(seed: u64, size: usize) -> Vec<u8> {
    let word = |index: u64| (index ^ (seed << 32)).wrapping_mul(0x9E37_79B9_7F4A_7C15).to_le_bytes();
    (0..size.div_ceil(8) as u64).flat_map(word).take(size).collect()
}

fn body(value: &[u8]) -> ByteStream {
    let parts: Vec<_> = value.chunks(100_000).map(|part| Ok(Bytes::copy_from_slice(part))).collect();
    Box::pin(stream::iter(parts))
}

async fn upload(store: &EmbeddedStore, name: &str, value: &[u8]) -> Result<Written> {
    store.put_stream(&key(name), Put::new(""), body(value)).await
}

/// A body that is sent from outside; it fails where it is dropped before its end.
fn piped() -> (mpsc::Sender<Option<Bytes>>, ByteStream) {
    let (sender, receiver) = mpsc::channel(1);
    let body = stream::unfold(Some(receiver), |receiver| async move {
        let mut receiver: mpsc::Receiver<Option<Bytes>> = receiver?;
        match receiver.recv().await {
            Some(Some(part)) => Some((Ok(part), Some(receiver))),
            Some(None) => None,
            None => Some((Err(Error::new(ErrorKind::Other, "the source broke")), None)),
        }
    });
    (sender, Box::pin(body))
}

async fn read(store: &EmbeddedStore, name: &str) -> Result<Option<Vec<u8>>> {
    let Some((metadata, body)) = store.read_stream(&key(name), &ReadOptions::new()).await? else {
        return Ok(None);
    };
    let read: Vec<Bytes> = body.try_collect().await?;
    let read = read.concat();
    assert_eq!(read.len() as u64, metadata.size);
    Ok(Some(read))
}

/// Waits until the table of chunks has so many pairs.
async fn chunks_become(disk: &Disk, pairs: usize) {
    let mut seen = disk.pairs(Table::Chunks);
    for _ in 0..400 {
        if seen == pairs {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        seen = disk.pairs(Table::Chunks);
    }
    assert_eq!(seen, pairs, "chunks and marks");
}

const BOTH: [Executor; 2] = [Executor::Threads, Executor::Inline];

#[tokio::test]
async fn a_streamed_value_is_whole_in_every_kind_of_read() {
    for executor in BOTH {
        let maps = Maps::new(executor).await;
        for size in [0, 1, 1_024, 1_025, 65_231, 65_232, MEBI, 16 * 65_231, 16 * 65_231 + 1, 3 * MEBI + 17] {
            let value = value(size as u64, size);
            let written = upload(&maps.store, "film", &value).await.expect("written");
            let entry = maps.store.get("film").await.expect("reads").expect("found");
            assert_eq!((entry.value().len(), entry.version()), (size, &written.version));
            assert!(entry.value() == &value, "{size}");
            assert_eq!(read(&maps.store, "film").await.expect("reads"), Some(value.clone()));
            let range = (size / 3) as u64..(size / 2) as u64;
            let part = maps.store.get_range("film", range).await.expect("reads").expect("found");
            assert!(part.value() == &value[size / 3..size / 2]);
        }
        chunks_become(&maps.disk, (3 * MEBI + 17_usize).div_ceil(65_231)).await;
    }
}

#[tokio::test]
async fn nothing_is_seen_before_the_end_and_one_commit_publishes() {
    for executor in BOTH {
        let maps = Maps::new(executor).await;
        upload(&maps.store, "old", &value(1, 2 * MEBI)).await.expect("written");
        for name in ["old", "new"] {
            let before = read(&maps.store, name).await.expect("reads");
            let (sender, body) = piped();
            let key = key(name);
            let put = maps.store.put_stream(&key, Put::new(""), body);
            let watch = async {
                for part in value(2, 3 * MEBI).chunks(MEBI / 2) {
                    sender.send(Some(Bytes::copy_from_slice(part))).await.expect("received");
                    assert_eq!(read(&maps.store, name).await.expect("reads"), before);
                    assert_eq!(maps.store.contains(name).await.expect("reads"), before.is_some());
                    let listed = maps.store.list(ListOptions::new().prefix(name)).count().await;
                    assert_eq!(listed, usize::from(before.is_some()));
                }
                sender.send(None).await.expect("received");
            };
            let (written, ()) = futures_util::join!(put, watch);
            written.expect("written");
            assert_eq!(read(&maps.store, name).await.expect("reads"), Some(value(2, 3 * MEBI)));
        }
        chunks_become(&maps.disk, 2 * (3 * MEBI).div_ceil(65_231)).await;
    }
}

#[tokio::test]
async fn an_upload_that_ends_early_leaves_nothing() {
    for executor in BOTH {
        let maps = Maps::new(executor).await;
        upload(&maps.store, "old", &value(1, 2 * MEBI)).await.expect("written");
        let chunks = maps.disk.pairs(Table::Chunks);
        for name in ["old", "new"] {
            let before = read(&maps.store, name).await.expect("reads");
            // An error in the source.
            let broken = Error::new(ErrorKind::Unavailable, "the source broke");
            let failing = body(&value(2, 3 * MEBI)).chain(stream::iter([Err(broken)]));
            let error = maps.store.put_stream(&key(name), Put::new(""), Box::pin(failing)).await;
            let error = error.expect_err("it broke");
            assert_eq!((error.kind(), error.outcome()), (ErrorKind::Unavailable, Some(Outcome::NotApplied)));
            // A value beyond the limit.
            let error = upload(&maps.store, name, &value(2, 5 * MEBI)).await.expect_err("too large");
            assert_eq!((error.kind(), error.outcome()), (ErrorKind::TooLarge, Some(Outcome::NotApplied)));
            // A precondition that does not hold.
            let put = Put::new("").precondition(Precondition::Damaged);
            let error = maps.store.put_stream(&key(name), put, body(&value(2, 3 * MEBI))).await;
            assert_eq!(error.expect_err("refused").kind(), ErrorKind::PreconditionFailed);
            // A dropped future.
            let (sender, body) = piped();
            let owned = key(name);
            let mut put = maps.store.put_stream(&owned, Put::new(""), body);
            sender.send(Some(value(2, 3 * MEBI).into())).await.expect("received");
            while maps.disk.pairs(Table::Chunks) == chunks {
                assert!((&mut put).now_or_never().is_none());
                tokio::task::yield_now().await;
            }
            drop(put);
            chunks_become(&maps.disk, chunks).await;
            assert_eq!(read(&maps.store, name).await.expect("reads"), before);
        }
    }
}

#[tokio::test]
async fn what_a_killed_process_leaves_goes_after_the_next_opening() {
    for executor in BOTH {
        let Maps { disk, clock, store, .. } = Maps::new(executor).await;
        upload(&store, "old", &value(1, 2 * MEBI)).await.expect("written");
        let chunks = disk.pairs(Table::Chunks);
        let (sender, body) = piped();
        let name = key("new");
        let mut put = store.put_stream(&name, Put::new(""), body);
        sender.send(Some(value(2, 3 * MEBI).into())).await.expect("received");
        while disk.pairs(Table::Chunks) < chunks + 17 {
            assert!((&mut put).now_or_never().is_none());
            tokio::task::yield_now().await;
        }
        // The disk as a process leaves it that is killed now.
        let left = Arc::new(disk.copy());
        drop(put);
        drop(store);
        assert!(left.pairs(Table::Chunks) > chunks, "parts of it are there");
        let store = open(&left, &clock, executor).await.expect("opens");
        chunks_become(&left, chunks).await;
        assert!(!store.contains("new").await.expect("reads"));
        assert_eq!(read(&store, "old").await.expect("reads"), Some(value(1, 2 * MEBI)));
        store.close().await.expect("closes");
    }
}

#[tokio::test]
async fn a_reader_of_a_replaced_value_reads_it_to_its_end_and_then_it_goes() {
    for executor in BOTH {
        for replace in ["put", "stream", "delete"] {
            let maps = Maps::new(executor).await;
            let old = value(1, 4 * MEBI);
            upload(&maps.store, "film", &old).await.expect("written");
            let (_, mut parts) = maps
                .store
                .read_stream(&key("film"), &ReadOptions::new())
                .await
                .expect("reads")
                .expect("found");
            let mut read_of_it = parts.next().await.expect("a part").expect("reads").to_vec();
            match replace {
                "put" => drop(maps.store.put(&key("film"), Put::new(vec![7; 2_000])).await.expect("written")),
                "stream" => drop(upload(&maps.store, "film", &value(2, 3 * MEBI)).await.expect("written")),
                _ => drop(maps.store.delete(&key("film"), Delete::new()).await.expect("deleted")),
            }
            for _ in 0..20 {
                maps.store.put(&key("other"), Put::new("v")).await.expect("written");
            }
            while let Some(part) = parts.next().await {
                read_of_it.extend_from_slice(&part.expect("the old value is kept"));
            }
            assert!(read_of_it == old, "{executor:?} {replace}");
            drop(parts);
            let left = match replace {
                "put" => 1,
                "stream" => (3 * MEBI).div_ceil(65_231),
                _ => 0,
            };
            chunks_become(&maps.disk, left).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn uploads_of_one_key_at_the_same_time_leave_one_of_their_values_and_readers_see_no_mixture() {
    let maps = Maps::new(Executor::Threads).await;
    let values: Vec<Vec<u8>> = (0..4).map(|seed| value(seed, 2 * MEBI + 1_000)).collect();
    upload(&maps.store, "film", &values[0]).await.expect("written");
    let reads = async {
        for _ in 0..12 {
            match read(&maps.store, "film").await {
                Ok(read) => assert!(values.contains(&read.expect("always there"))),
                Err(error) => assert!(error.is_retryable(), "{}", error.chain()),
            }
        }
    };
    let uploads = async {
        for _ in 0..3 {
            let all = values.iter().map(|value| upload(&maps.store, "film", value));
            join_all(all).await.into_iter().for_each(|written| drop(written.expect("written")));
        }
    };
    futures_util::join!(reads, uploads);
    let last = read(&maps.store, "film").await.expect("reads").expect("there");
    assert!(values.contains(&last));
    chunks_become(&maps.disk, (2 * MEBI + 1_000_usize).div_ceil(65_231)).await;
}

#[tokio::test]
async fn other_writes_of_the_key_meanwhile_are_judged_and_the_last_one_stays() {
    let maps = Maps::new(Executor::Threads).await;
    let (sender, body) = piped();
    let name = key("film");
    let put = maps.store.put_stream(&name, Put::new("").if_absent(), body);
    let meanwhile = async {
        sender.send(Some(value(1, 2 * MEBI).into())).await.expect("received");
        maps.store.put(&name, Put::new("first").if_absent()).await.expect("nothing is there yet");
        sender.send(None).await.expect("received");
    };
    let (refused, ()) = futures_util::join!(put, meanwhile);
    assert_eq!(refused.expect_err("another came first").kind(), ErrorKind::PreconditionFailed);
    assert_eq!(maps.store.get("film").await.expect("reads").expect("there").value(), "first");
    chunks_become(&maps.disk, 0).await;
}

/// The disk fails, and the engine is opened anew: what was uploaded before may be lost.
#[tokio::test]
async fn an_upload_does_not_outlive_the_engine_that_has_its_parts() {
    for executor in BOTH {
        let maps = Maps::new(executor).await;
        let (sender, body) = piped();
        let name = key("film");
        let put = maps.store.put_stream(&name, Put::new(""), body);
        let meanwhile = async {
            sender.send(Some(value(1, 2 * MEBI).into())).await.expect("received");
            tokio::task::yield_now().await;
            while maps.disk.pairs(Table::Chunks) == 0 {
                tokio::time::sleep(std::time::Duration::from_millis(1)).await;
            }
            maps.disk.failures.store(1, Ordering::Relaxed);
            maps.store.put(&key("other"), Put::new("v")).await.expect_err("the disk fails");
            sender.send(Some(value(1, 2 * MEBI).into())).await.ok();
            sender.send(None).await.ok();
        };
        let (lost, ()) = futures_util::join!(put, meanwhile);
        let lost = lost.expect_err("a part may be lost");
        assert_eq!((lost.kind(), lost.outcome()), (ErrorKind::Unavailable, Some(Outcome::NotApplied)));
        maps.store.put(&key("other"), Put::new("v")).await.expect("the disk works again");
        chunks_become(&maps.disk, 0).await;
        upload(&maps.store, "film", &value(2, 2 * MEBI)).await.expect("written");
    }
}

/// Where the commit that publishes fails, the entry is there or not, and nothing else is left.
#[tokio::test]
async fn a_failed_publication_leaves_no_chunk_without_a_record() {
    let maps = Maps::new(Executor::Threads).await;
    let (sender, body) = piped();
    let name = key("film");
    let put = maps.store.put_stream(&name, Put::new(""), body);
    let meanwhile = async {
        sender.send(Some(value(1, 16 * 65_231).into())).await.expect("received");
        sender.send(Some(vec![1; 10].into())).await.expect("received");
        while maps.disk.pairs(Table::Chunks) < 17 {
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
        // Its last ten bytes are a part of their own: that one fails, or the publication does.
        maps.disk.failures.store(1, Ordering::Relaxed);
        sender.send(None).await.expect("received");
    };
    let (failed, ()) = futures_util::join!(put, meanwhile);
    assert_eq!(failed.expect_err("the disk fails").kind(), ErrorKind::Unavailable);
    maps.store.put(&key("other"), Put::new("v")).await.expect("the disk works again");
    assert!(!maps.store.contains("film").await.expect("reads"));
    chunks_become(&maps.disk, 0).await;
}

#[tokio::test]
async fn damage_of_a_streamed_value_is_an_error_and_no_chunk_is_left_behind() {
    for table in [Table::Meta, Table::Chunks] {
        let maps = Maps::new(Executor::Threads).await;
        upload(&maps.store, "film", &value(1, 3 * MEBI)).await.expect("written");
        maps.disk.damage(table);
        assert_eq!(maps.store.get("film").await.expect_err("damaged").kind(), ErrorKind::Corrupt);
        assert_eq!(read(&maps.store, "film").await.expect_err("damaged").kind(), ErrorKind::Corrupt);
        let repair = Put::new("").precondition(Precondition::Damaged);
        maps.store.put_stream(&key("film"), repair, body(&value(2, 2 * MEBI))).await.expect("repaired");
        assert_eq!(read(&maps.store, "film").await.expect("reads"), Some(value(2, 2 * MEBI)));
        chunks_become(&maps.disk, (2 * MEBI).div_ceil(65_231)).await;
    }
}

/// A leftover whose mark is damaged goes as well.
#[tokio::test]
async fn what_is_left_goes_although_its_mark_is_damaged() {
    let Maps { disk, clock, store, .. } = Maps::new(Executor::Threads).await;
    let (sender, body) = piped();
    let name = key("film");
    let mut put = store.put_stream(&name, Put::new(""), body);
    sender.send(Some(value(1, 2 * MEBI).into())).await.expect("received");
    while disk.pairs(Table::Chunks) == 0 {
        assert!((&mut put).now_or_never().is_none());
        tokio::task::yield_now().await;
    }
    let left = Arc::new(disk.copy());
    left.damage(Table::Chunks);
    drop(put);
    drop(store);
    let store = open(&left, &clock, Executor::Threads).await.expect("opens");
    chunks_become(&left, 0).await;
    drop(store);
}

/// In a store with a capacity, parts count as entries do, and room is made for them.
#[tokio::test]
async fn uploads_count_towards_the_capacity() {
    const CAPACITY: u64 = 16 << 20;
    let Maps { disk, clock, store, .. } = Maps::new(Executor::Threads).await;
    store.close().await.expect("closes");
    drop(store);
    let opened = |disk: &Arc<Disk>| {
        let (disk, settings) = (Arc::clone(disk), settings(&clock).capacity(CAPACITY));
        async move { EmbeddedStore::open(settings, move |opening| disk.open(opening)).await.expect("opens") }
    };
    let store = opened(&disk).await;
    let held = |store: &EmbeddedStore| store.usage().expect("it has a capacity").bytes;
    for number in 0..20 {
        store.put(&key(&format!("k{number}")), Put::new(vec![1; MEBI])).await.expect("written");
    }
    let (sender, body) = piped();
    let name = key("film");
    let mut put = store.put_stream(&name, Put::new(""), body);
    let chunks = disk.pairs(Table::Chunks);
    sender.send(Some(value(1, 3 * MEBI).into())).await.expect("received");
    while disk.pairs(Table::Chunks) <= chunks - 16 {
        assert!((&mut put).now_or_never().is_none());
        tokio::task::yield_now().await;
    }
    upload(&store, "beside", &value(9, 4 * MEBI - 9)).await.expect("there is room for two");
    // More at a time would take more than half of it. Which of them go on is left to chance.
    let (_kept, other) = piped();
    let others = (0..3).map(|number| {
        let store = store.clone();
        async move { upload(&store, &format!("other/{number}"), &value(number, 4 * MEBI - 9)).await.map(drop) }
    });
    let ended = join_all(others).await;
    for error in ended.into_iter().filter_map(Result::err) {
        assert_eq!((error.kind(), error.outcome()), (ErrorKind::Full, Some(Outcome::NotApplied)));
    }
    drop(other);
    assert!(held(&store) <= CAPACITY);
    let left = Arc::new(disk.copy());
    drop(put);
    store.put(&key("any"), Put::new("v")).await.expect("written");
    store.flush().await.expect("flushed");
    assert!(held(&store) <= CAPACITY);
    assert!(disk.largest.load(Ordering::Relaxed) <= CAPACITY, "{}", disk.largest.load(Ordering::Relaxed));
    // What a killed process leaves is gone when the store is open.
    let reopened = opened(&left).await;
    let counted = reopened.usage().expect("it has a capacity");
    assert!(counted.bytes <= CAPACITY);
    let entries = reopened.list(ListOptions::new()).count().await as u64;
    assert_eq!(counted.entries, entries);
    assert!(left.pairs(Table::Chunks) < disk.pairs(Table::Chunks) + 40);
}
