//! Where reads run.

use std::future::Future;
use std::ops::Range;
use std::pin::pin;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, Waker};
use std::thread;

use tiered_core::{Entry, Key, Put, ReadOptions, Store, StoreExt as _};
use tiered_embedded::{Executor, ReadMode};

use super::{Maps, key};

/// Polls once.
fn ready<T>(future: impl Future<Output = T>) -> Option<T> {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => Some(value),
        Poll::Pending => None,
    }
}

impl Maps {
    /// Whether all that was read since the last call was read on this thread, if anything was.
    fn read_here(&self) -> bool {
        let readers = self.disk.take_readers();
        assert!(!readers.is_empty(), "nothing was read");
        readers.iter().all(|reader| *reader == thread::current().id())
    }

    /// A store with `keys` of this size.
    async fn filled(reads: ReadMode, keys: &[Key], size: usize) -> Self {
        let maps = Self::reading(Executor::Threads, reads).await;
        for key in keys {
            maps.store.put(key, Put::new(vec![7; size])).await.expect("written");
        }
        maps
    }
}

fn keys(range: Range<usize>) -> Vec<Key> {
    range.map(|index| key(&format!("k{index:04}"))).collect()
}

/// The runtime does not run, so nothing that was spawned would end: the first poll has the answer.
#[test]
fn a_read_on_the_callers_thread_spawns_nothing() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("starts");
    let keys = keys(0..1);
    let maps = runtime.block_on(Maps::filled(ReadMode::Inline, &keys, 30_000));
    let _inside = runtime.enter();
    let (key, options) = (&keys[0], ReadOptions::new());
    let read = ready(maps.store.load(key, &options)).expect("at once").expect("reads");
    assert_eq!(read.entry().expect("found").size(), 30_000);
    ready(maps.store.head(key, &options)).expect("at once").expect("reads").expect("found");
    ready(maps.store.get_ranges(key, &[0..10, 20_000..30_000], &options)).expect("at once").expect("reads");
    ready(maps.store.mark("name")).expect("at once").expect("reads");
    assert_eq!(ready(maps.store.get_many(&keys, &options)).expect("at once").len(), 1);
    assert!(maps.read_here());
    drop(maps);
}

#[tokio::test]
async fn a_slow_read_sends_the_next_ones_to_threads_until_a_quick_one() {
    let keys = keys(0..1);
    let maps = Maps::filled(ReadMode::Adaptive, &keys, 1000).await;
    let get = || async { maps.store.get(&keys[0]).await.expect("reads").expect("found") };
    maps.disk.look_up.store(2, Ordering::Relaxed);
    let slow = || async {
        get().await;
        maps.disk.take_readers();
        get().await;
        !maps.read_here()
    };
    // The first of two is the slow one, unless the machine was busy before.
    while !slow().await {}
    maps.disk.look_up.store(0, Ordering::Relaxed);
    let quick = || async {
        get().await;
        maps.read_here()
    };
    while !quick().await {
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    }
}

#[tokio::test]
async fn large_values_are_read_on_threads_and_small_parts_of_them_are_not() {
    let keys = keys(0..1);
    let maps = Maps::filled(ReadMode::Inline, &keys, 200_000).await;
    let (key, options) = (&keys[0], ReadOptions::new());
    let read_elsewhere =
        || maps.disk.take_readers().last().is_some_and(|last| *last != thread::current().id());
    maps.store.load(key, &options).await.expect("reads");
    assert!(read_elsewhere());
    assert_eq!(maps.store.get_many(&keys, &options).await.len(), 1);
    assert!(read_elsewhere());
    maps.store.get_ranges(key, &[0..10, 100_000..100_010], &options).await.expect("reads");
    assert!(read_elsewhere(), "two chunks are more than 64 KiB");
    maps.store.get_range(key, 100_000..100_010).await.expect("reads").expect("found");
    assert!(maps.read_here());
    maps.store.head(key, &options).await.expect("reads").expect("found");
    assert!(maps.read_here());
}

#[tokio::test]
async fn fixed_modes_stay_fixed() {
    let keys = keys(0..10);
    for (mode, here) in [(ReadMode::Inline, true), (ReadMode::Threads, false)] {
        let maps = Maps::filled(mode, &keys, 1000).await;
        for look_up in [2, 0, 0] {
            maps.disk.look_up.store(look_up, Ordering::Relaxed);
            maps.store.get(&keys[0]).await.expect("reads").expect("found");
            assert_eq!(maps.read_here(), here, "{mode:?}");
            assert_eq!(maps.store.get_many(&keys, &ReadOptions::new()).await.len(), keys.len());
            assert_eq!(maps.read_here(), here, "{mode:?}");
        }
    }
}

#[tokio::test]
async fn a_read_of_many_gives_way_to_the_runtime_after_each_piece() {
    for (number, size, fewest) in [(300, 100, 300 / 64), (50, 40_000, 50 / 2 - 1)] {
        let keys = keys(0..number);
        let maps = Maps::filled(ReadMode::Inline, &keys, size).await;
        let options = ReadOptions::new();
        let mut reading = pin!(maps.store.get_many(&keys, &options));
        let mut given_way = 0;
        let reads = std::future::poll_fn(|context| {
            let polled = reading.as_mut().poll(context);
            given_way += usize::from(polled.is_pending());
            polled
        });
        let reads = reads.await;
        let is_whole = |entry: &Entry| entry.size() == size as u64;
        assert!(reads.iter().all(|read| read.as_ref().is_ok_and(|read| read.entry().is_some_and(is_whole))));
        assert!(given_way >= fewest, "{given_way} pauses for values of {size} bytes");
        assert!(maps.read_here());
    }
}

#[tokio::test]
async fn a_slow_key_of_many_sends_the_rest_to_a_thread() {
    let keys = keys(0..200);
    let maps = Maps::filled(ReadMode::Adaptive, &keys, 1000).await;
    maps.disk.look_up.store(1, Ordering::Relaxed);
    let reads = maps.store.get_many(&keys, &ReadOptions::new()).await;
    assert!(reads.iter().all(|read| read.as_ref().is_ok_and(|read| read.entry().is_some())));
    let readers = maps.disk.take_readers();
    assert!((1..=2).contains(&readers.len()), "one slow key, and the rest in one piece");
    assert_ne!(readers.last(), Some(&thread::current().id()));
}

#[tokio::test]
async fn damage_and_absence_are_told_for_each_key_of_a_piece() {
    let keys = keys(0..100);
    let maps = Maps::filled(ReadMode::Inline, &keys, 100).await;
    maps.disk.damage(tiered_embedded::Table::Meta);
    maps.store.put(&keys[70], Put::new("good")).await.expect("written");
    maps.store.delete(&keys[3], tiered_core::Delete::new()).await.expect("removed");
    let reads = maps.store.get_many(&keys, &ReadOptions::new()).await;
    for (index, (read, key)) in reads.iter().zip(&keys).enumerate() {
        match (index, read) {
            (70, Ok(read)) => assert_eq!(read.entry().expect("found").value(), "good"),
            (3, Ok(read)) => assert!(read.entry().is_none()),
            (_, Err(error)) => assert_eq!(error.key(), Some(key)),
            (_, Ok(read)) => panic!("{index}: {read:?}"),
        }
    }
}

#[tokio::test]
async fn a_task_that_reads_and_reads_lets_others_run() {
    let keys = keys(0..1);
    let maps = Maps::filled(ReadMode::Inline, &keys, 10).await;
    let other = async {
        tokio::task::yield_now().await;
        maps.disk.take_readers().len()
    };
    let reads = async {
        for _ in 0..1000 {
            maps.store.load(&keys[0], &ReadOptions::new()).await.expect("reads");
        }
    };
    let (before, ()) = futures_util::join!(other, reads);
    assert!(before < 1000, "the other ran after {before} reads");
}
