//! Reads and writes while tiers come and go.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use tiered_core::{
    Delete, ErrorKind, MemoryStore, Put, Result, Store as _, StoreExt as _, TieredStore, VolatileJournal,
    WritePolicy,
};
use tiered_wrap::{MoveOptions, Swappable};
use tokio::runtime::Handle;

use super::{detach, key};

const WRITERS: usize = 4;
const EXCHANGES: usize = 60;

/// A key with one writer, which counts up.
#[derive(Debug, Default)]
struct Counter {
    acknowledged: AtomicU64,
}

async fn write(store: Swappable, index: usize, counter: Arc<Counter>, over: Arc<AtomicBool>) -> Result<()> {
    let key = key(&format!("counter/{index}"));
    for value in 1_u64.. {
        if over.load(Ordering::Acquire) {
            break;
        }
        store.put(&key, Put::new(value.to_string())).await?;
        counter.acknowledged.store(value, Ordering::Release);
        // Keys that come and go, for listings and removals.
        let passing = super::key(&format!("passing/{index}/{}", value % 50));
        match value % 3 {
            0 => drop(store.delete(&passing, Delete::new()).await?),
            _ => drop(store.put(&passing, Put::new("here")).await?),
        }
        tokio::task::yield_now().await;
    }
    Ok(())
}

/// No read is older than what was acknowledged before it began.
async fn read(store: Swappable, index: usize, counter: Arc<Counter>, over: Arc<AtomicBool>) -> Result<u64> {
    let key = key(&format!("counter/{index}"));
    let mut reads = 0;
    while !over.load(Ordering::Acquire) {
        let before = counter.acknowledged.load(Ordering::Acquire);
        let read = store.get(&key).await?;
        let value = read.map_or(0, |entry| String::from_utf8_lossy(entry.value()).parse().expect("a number"));
        assert!(value >= before, "counter {index}: read {value} after {before} was acknowledged");
        reads += 1;
        tokio::task::yield_now().await;
    }
    Ok(reads)
}

/// Attaches a stack of each write policy in turn, moves to another backend, and detaches, for as long as it takes.
async fn exchange(store: &Swappable) -> Result<MemoryStore> {
    let mut backend = MemoryStore::new();
    for round in 0..EXCHANGES {
        let stack = match round % 3 {
            0 => {
                let build = |inside| TieredStore::builder(MemoryStore::new(), inside).build();
                store.swap(build).await?
            }
            1 => {
                let build = |inside| {
                    let builder = TieredStore::builder(MemoryStore::new(), inside);
                    builder.write_policy(WritePolicy::WriteBehind).journal(VolatileJournal::new()).build()
                };
                store.swap(build).await?
            }
            _ => {
                let next = MemoryStore::new();
                store.move_to(next.clone(), &MoveOptions::new()).await?;
                backend = next;
                continue;
            }
        };
        for _ in 0..20 {
            tokio::task::yield_now().await;
        }
        detach(store, stack).await?;
    }
    Ok(backend)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_read_is_stale_and_no_write_is_lost_while_tiers_come_and_go() {
    let store = Swappable::new(MemoryStore::new());
    let over = Arc::new(AtomicBool::new(false));
    let counters: Vec<Arc<Counter>> = (0..WRITERS).map(|_| Arc::default()).collect();
    let mut writers = Vec::new();
    let mut readers = Vec::new();
    for (index, counter) in counters.iter().enumerate() {
        writers.push(Handle::current().spawn(write(
            store.clone(),
            index,
            Arc::clone(counter),
            Arc::clone(&over),
        )));
        readers.push(Handle::current().spawn(read(
            store.clone(),
            index,
            Arc::clone(counter),
            Arc::clone(&over),
        )));
    }
    let exchanged = exchange(&store).await;
    over.store(true, Ordering::Release);
    for writer in writers {
        writer.await.expect("runs").expect("every write is acknowledged");
    }
    for reader in readers {
        assert!(reader.await.expect("runs").expect("every read is answered") > 0);
    }
    let backend = exchanged.expect("every exchange ends");
    for (index, counter) in counters.iter().enumerate() {
        let last = counter.acknowledged.load(Ordering::Acquire).to_string();
        let entry = backend.get(format!("counter/{index}").as_str()).await.expect("reads").expect("is there");
        assert_eq!(entry.value(), &last);
    }
    let inside: Vec<_> = store.keys("").await.expect("lists");
    assert_eq!(inside, backend.keys("").await.expect("lists"));
    store.close().await.expect("closes");
    assert!(store.get("a").await.is_err_and(|error| error.kind() == ErrorKind::Closed));
}
