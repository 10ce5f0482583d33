//! A streamed value of any size takes the same memory, written and read. What the engine allocates is counted, too.
//!
//! `TIERED_STREAM_BYTES` takes another size of the value. With `--nocapture` the figures are printed.
#![cfg(target_os = "linux")]

#[path = "../../../tiered-redb/tests/memory/measure.rs"]
mod measure;

use tiered_core::Store as _;
use tiered_rocksdb::RocksdbConfig;

use measure::{ALONE, measure_by, resident};

/// Bytes of the value, unless a variable says otherwise.
const SIZE: u64 = 256 << 20;

/// Bytes that a put may take at most: buffers that wait, compactions, and what the allocator keeps for each thread.
const MOST: usize = 192 << 20;

/// A database with a cache of 16 MiB and buffers of 8, of which it has several.
#[tokio::test]
async fn a_stream_through_rocksdb_takes_the_same_memory_at_any_size() {
    let _alone = ALONE.lock().await;
    let folder = tempfile::tempdir().expect("a folder");
    let config = RocksdbConfig::new(folder.path().join("data")).cache(16 << 20).write_buffer(8 << 20);
    let store = config.max_value(64 << 30).open().await.expect("made");
    measure_by(resident, MOST, "RocksDB", &store, SIZE).await;
    store.close().await.expect("closes");
}
