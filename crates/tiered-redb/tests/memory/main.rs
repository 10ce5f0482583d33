//! A streamed value of any size takes the same memory, written and read, in a tier on disk and in a stack over one.
//!
//! `TIERED_STREAM_BYTES` takes another size of the value. With `--nocapture` the figures are printed.

mod measure;

use tempfile::TempDir;
use tiered_core::{Store as _, TieredStore};
use tiered_quick::QuickConfig;
use tiered_redb::{RedbConfig, RedbStore};

use measure::{ALONE, measure};

/// Bytes of the value, unless a variable says otherwise.
const SIZE: u64 = 256 << 20;

/// A database for values of any size, with the default cache.
async fn open(folder: &TempDir) -> RedbStore {
    let config = RedbConfig::new(folder.path().join("data.redb")).max_value(64 << 30);
    config.open().await.expect("made")
}

#[tokio::test]
async fn a_stream_through_redb_takes_the_same_memory_at_any_size() {
    let _alone = ALONE.lock().await;
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(&folder).await;
    measure("redb", &store, SIZE).await;
    store.close().await.expect("closes");
}

/// The frontend in memory has as many blocks of it as it has room for.
#[tokio::test]
async fn a_stream_through_a_stack_over_redb_takes_the_same_memory_at_any_size() {
    let _alone = ALONE.lock().await;
    let folder = tempfile::tempdir().expect("a folder");
    let frontend = QuickConfig::new(16 << 20).build().expect("made");
    let store = TieredStore::builder(frontend, open(&folder).await).build().await.expect("built");
    measure("quick_cache of 16 MiB over redb", &store, SIZE).await;
    store.close().await.expect("closes");
}
