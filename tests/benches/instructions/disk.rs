//! Reads of 1 KB from redb: raw, by the adapter, and through a stack.

use std::hint::black_box;

use redb::{Database, ReadableDatabase as _, TableDefinition};
use tempfile::TempDir;
use tiered::moka::MokaConfig;
use tiered::redb::{ReadMode, RedbConfig, RedbStore};
use tiered::{Batch, Entry, Key, Put, ReadOptions, Store, TieredStore};
use tokio::runtime::Runtime;

use crate::counted;

/// The reads that can be counted. The first is what the others are compared with. What reads many keys at once counts for
/// each key.
pub(crate) const KINDS: [&str; 6] = ["redb", "load", "redb-many", "get-many", "insert", "miss"];

/// Keys of the database: no key is read twice in a run.
const KEYS: usize = 10_000;

/// Keys of one read of many.
const MANY: usize = 1_000;

const RAW: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("raw");

/// The databases.
struct Disk {
    _folder: TempDir,
    keys: Vec<Key>,
    raw: Database,
    store: RedbStore,
}

impl Disk {
    async fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let keys: Vec<Key> =
            (0..KEYS).map(|index| Key::new(format!("users/{index:08}")).expect("valid")).collect();
        let value = vec![7_u8; 1000];
        let raw = Database::create(folder.path().join("raw.redb")).expect("made");
        let writing = raw.begin_write().expect("begins");
        {
            let mut table = writing.open_table(RAW).expect("opens");
            for key in &keys {
                table.insert(key.as_str().as_bytes(), value.as_slice()).expect("written");
            }
        }
        writing.commit().expect("committed");
        // Under valgrind every read takes longer than what sends reads to threads.
        let config = RedbConfig::new(folder.path().join("data.redb")).reads(ReadMode::Inline);
        let store = config.open().await.expect("opens");
        for keys in keys.chunks(MANY) {
            let batch =
                keys.iter().fold(Batch::new(), |batch, key| batch.put(key.clone(), Put::new(value.clone())));
            store.apply(batch).await.expect("written");
        }
        Self { _folder: folder, keys, raw, store }
    }

    /// As the adapter does it: a transaction for each piece, a copy and a checksum of each value, and all values at the end.
    fn read_raw(&self, keys: &[Key]) {
        let reading = self.raw.begin_read().expect("begins");
        let table = reading.open_table(RAW).expect("opens");
        let mut values = Vec::with_capacity(keys.len());
        for key in keys {
            let value = table.get(key.as_str().as_bytes()).expect("reads").expect("found").value().to_vec();
            black_box(crc32c::crc32c(&value));
            values.push(value);
        }
        drop(black_box(values));
    }
}

/// Makes `number` reads of one kind.
pub(crate) fn read(kind: &str, number: usize) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("starts");
    let disk = runtime.block_on(Disk::new());
    let keys = black_box(disk.keys.get(..number).expect("as many keys"));
    match kind {
        "redb" => counted(|| keys.chunks(1).for_each(|keys| disk.read_raw(keys))),
        "redb-many" => counted(|| keys.chunks(MANY).for_each(|keys| disk.read_raw(keys))),
        "load" => counted(|| {
            runtime.block_on(async {
                for key in keys {
                    drop(black_box(disk.store.load(key, &ReadOptions::new()).await.expect("reads")));
                }
            });
        }),
        "get-many" => counted(|| {
            runtime.block_on(async {
                for keys in keys.chunks(MANY) {
                    drop(black_box(disk.store.get_many(keys, &ReadOptions::new()).await));
                }
            });
        }),
        "insert" => insert(&runtime, &disk, keys),
        _ => miss(&runtime, &disk, keys),
    }
}

/// Puts what a fill puts.
fn insert(runtime: &Runtime, disk: &Disk, keys: &[Key]) {
    let frontend = MokaConfig::new(64 << 20).build().expect("builds");
    let first = keys.first().expect("some keys");
    let read = runtime.block_on(disk.store.load(first, &ReadOptions::new())).expect("reads");
    let entry: Entry = read.into_entry().expect("found");
    counted(|| {
        runtime.block_on(async {
            for key in keys {
                frontend.put(key, Put::replacing(&entry, entry.value().clone())).await.expect("written");
            }
        });
    });
}

fn miss(runtime: &Runtime, disk: &Disk, keys: &[Key]) {
    let frontend = MokaConfig::new(64 << 20).build().expect("builds");
    let building = async { TieredStore::builder(frontend, disk.store.clone()).build().await };
    let store = runtime.block_on(building).expect("builds");
    counted(|| {
        runtime.block_on(async {
            for key in keys {
                drop(black_box(store.load(key, &ReadOptions::new()).await.expect("reads")));
            }
            tokio::task::yield_now().await;
        });
    });
    assert_eq!(store.stats().fills, keys.len() as u64, "each miss fills");
}
