//! Databases, and what is written to them.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use slatedb::Db;
use slatedb::config::{ObjectStoreCacheOptions, Settings};
use slatedb::object_store::ObjectStore;

/// Bytes of a value.
const VALUE: usize = 400;

/// Writes that wait to be durable at a time.
const WRITERS: usize = 256;

/// Reads at a time.
const READERS: usize = 16;

/// Opens a database. Its own cache of blocks is off: what it reads, it asks for. `cache` is a folder for SlateDB's own cache of objects.
pub(crate) async fn open(
    path: &str,
    store: Arc<dyn ObjectStore>,
    cache: Option<PathBuf>,
) -> anyhow::Result<Db> {
    let settings = Settings {
        flush_interval: Some(Duration::from_millis(50)),
        // Tables in S3, and compactions of them, in a short run as well.
        l0_sst_size_bytes: 1 << 20,
        object_store_cache_options: ObjectStoreCacheOptions {
            root_folder: cache,
            ..ObjectStoreCacheOptions::default()
        },
        ..Settings::default()
    };
    let db = Db::builder(path, store).with_settings(settings).with_db_cache_disabled().build().await;
    db.with_context(|| format!("{path} cannot be opened"))
}

pub(crate) fn key(number: u64) -> [u8; 8] {
    number.to_be_bytes()
}

/// The value of a key, which is no other's.
pub(crate) fn value(number: u64) -> Vec<u8> {
    let mut dice = fastrand::Rng::with_seed(number);
    std::iter::repeat_with(|| dice.u8(..)).take(VALUE).collect()
}

/// Writes a key, and waits until it is durable.
pub(crate) async fn put(db: &Db, number: u64) -> Result<(), slatedb::Error> {
    db.put(key(number), value(number)).await?.await_durable().await
}

/// Writes keys, many at a time.
pub(crate) async fn put_all(db: &Db, numbers: impl Iterator<Item = u64>) -> anyhow::Result<()> {
    let puts = stream::iter(numbers.map(|number| put(db, number)));
    Ok(puts.buffer_unordered(WRITERS).try_collect().await?)
}

/// Reads keys, each of which must be there as it was written.
pub(crate) async fn check_all(db: &Db, numbers: impl Iterator<Item = u64>) -> anyhow::Result<()> {
    let reads = numbers.map(|number| async move {
        let found = db.get(key(number)).await?.with_context(|| format!("key {number} is lost"))?;
        ensure!(found == value(number), "key {number} has another value");
        Ok(())
    });
    stream::iter(reads).buffer_unordered(READERS).try_collect().await
}
