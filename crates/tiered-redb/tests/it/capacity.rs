//! A file with a capacity: what it may hold, how large it becomes, and what a killed process leaves.

use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;

use parking_lot::Mutex;
use redb::StorageBackend;
use redb::backends::InMemoryBackend;
use tempfile::TempDir;
use tiered_conformance::{Factory, Place};
use tiered_core::adapter::{Stamp, VersionMint};
use tiered_core::testing::ManualClock;
use tiered_core::{
    Batch, ErrorKind, Feature, Key, MemoryStore, Put, Result, Store, StoreExt as _, TieredStore, Timestamp,
    WritePolicy,
};
use tiered_redb::{Executor, RedbConfig, RedbStore, WriteDurability};

/// A database with a capacity in a folder of its own, on a manual clock.
struct Bounded {
    folder: TempDir,
    stamp: Stamp,
    clock: Arc<ManualClock>,
    store: RedbStore,
}

const CAPACITY: u64 = 2 << 20;

impl Bounded {
    async fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let clock = Arc::new(ManualClock::new(Timestamp::from_millis(1_000_000_000_000)));
        let stamp = Stamp::new(clock.clone(), Arc::new(VersionMint::from_entropy()));
        let config = RedbConfig::new(folder.path().join("suite.redb")).stamp(stamp.clone());
        let store = config.cache(8 << 20).capacity(CAPACITY).open().await.expect("opens");
        Self { folder, stamp, clock, store }
    }
}

struct Room(TempDir, Stamp);

#[async_trait::async_trait]
impl Place for Room {
    async fn open(&self) -> Result<Arc<dyn Store>> {
        let config = RedbConfig::new(self.0.path().join("place.redb")).stamp(self.1.clone());
        Ok(Arc::new(config.cache(1 << 20).capacity(CAPACITY).open().await?))
    }
}

#[async_trait::async_trait]
impl Factory for Bounded {
    async fn open(&self) -> Result<Arc<dyn Store>> {
        Ok(Arc::new(self.store.clone()))
    }

    async fn place(&self) -> Option<Arc<dyn Place>> {
        let folder = tempfile::tempdir_in(self.folder.path()).ok()?;
        Some(Arc::new(Room(folder, self.stamp.clone())))
    }

    fn clock(&self) -> Option<Arc<ManualClock>> {
        Some(Arc::clone(&self.clock))
    }
}

mod suite {
    //! Entries vanish meanwhile: the suite writes more than there is room for.
    tiered_conformance::suite!(super::Bounded::new().await);
}

fn len(path: &Path) -> u64 {
    fs::metadata(path).expect("there").len()
}

/// Writes ten times the capacity, in no order of keys. The longest that the file was.
async fn overfill(path: &Path, durability: WriteDurability, size: Size) -> u64 {
    let config = RedbConfig::new(path).durability(durability).capacity(FILE_CAPACITY);
    let store = config.open().await.expect("opens");
    let (mut written, mut number, mut longest) = (0, 0_u64, 0);
    while written < 10 * FILE_CAPACITY {
        let (mut batch, mut bytes) = (Batch::new(), 0);
        while bytes < BATCH && batch.len() < 16 {
            number += 1;
            let size = size(number);
            bytes += size as u64;
            let name =
                Key::new(format!("{:016x}", number.wrapping_mul(0x9E37_79B9_7F4A_7C15))).expect("valid");
            batch = batch.put(name, vec![7; size]);
        }
        written += bytes;
        store.apply(batch).await.expect("written");
        longest = longest.max(len(path));
    }
    let usage = store.usage().expect("it has a capacity");
    assert!(usage.bytes <= FILE_CAPACITY && usage.bytes > FILE_CAPACITY / 2, "{usage:?}");
    store.close().await.expect("closes");
    longest.max(len(path))
}

/// The size of the value of a number.
type Size = fn(u64) -> usize;

const FILE_CAPACITY: u64 = 8 << 20;

/// What is written at once.
const BATCH: u64 = 256 << 10;

/// redb rounds chunks to powers of two, splits pages, keeps what a transaction replaces until the next is on disk, and lets
/// the file grow in steps.
#[tokio::test]
async fn ten_times_the_capacity_makes_no_file_of_more_than_four_times_and_a_little() {
    let folder = tempfile::tempdir().expect("a folder");
    let sizes: [(&str, Size); 4] = [
        ("900 B", |_| 900),
        ("33 KiB", |_| 33 << 10),
        ("1 MiB", |_| 1 << 20),
        ("mixed", |number| [100, 1_000, 5_000, 70_000, 300_000][usize::try_from(number % 5).expect("small")]),
    ];
    let buffered = sizes.map(|size| (size, WriteDurability::Buffer));
    // Where each commit is on disk, small ones make as large a file as these.
    let synced = [(sizes[1], WriteDurability::Sync), (sizes[3], WriteDurability::Sync)];
    for ((name, size), durability) in buffered.into_iter().chain(synced) {
        let path = folder.path().join(format!("{name} {durability:?}"));
        let longest = overfill(&path, durability, size).await;
        assert!(longest <= 4 * FILE_CAPACITY + 8 * BATCH, "{name}: {longest} bytes");
    }
}

/// A disk in memory that keeps what it has at each sync: what a process leaves that is killed there.
#[derive(Clone, Debug, Default)]
struct Disk {
    memory: Arc<InMemoryBackend>,
    images: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl Disk {
    fn holding(bytes: &[u8]) -> Self {
        let disk = Self::default();
        disk.memory.set_len(bytes.len() as u64).expect("memory");
        disk.memory.write(0, bytes).expect("memory");
        disk
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        self.memory.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.memory.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.memory.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut bytes = vec![0; usize::try_from(self.memory.len()?).expect("small")];
        self.memory.read(0, &mut bytes)?;
        self.images.lock().push(bytes);
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.memory.write(offset, data)
    }

    fn close(&self) -> io::Result<()> {
        Ok(())
    }
}

async fn open_on(disk: &Disk, capacity: u64) -> RedbStore {
    let disk = disk.clone();
    let config = RedbConfig::new("simulated").cache(1 << 20).executor(Executor::Inline).capacity(capacity);
    config.open_on(move || Ok(disk.clone())).await.expect("opens")
}

#[tokio::test]
async fn a_process_that_is_killed_anywhere_leaves_what_is_within_the_capacity_and_counts_it_anew() {
    const CAPACITY: u64 = 100_000;
    let disk = Disk::default();
    let store = open_on(&disk, CAPACITY).await;
    let mut acknowledged = Vec::new();
    for number in 0..120_usize {
        let name = Key::new(format!("k{}", number * 7 % 60)).expect("valid");
        store.put(&name, Put::new(vec![7; [50, 2_000, 20_000][number % 3]])).await.expect("written");
        acknowledged.push((disk.images.lock().len(), store.usage().expect("it has a capacity")));
    }
    assert!(acknowledged.last().expect("some").1.evictions > 50);
    let images = disk.images.lock().clone();
    let mut opened = 0;
    for (taken, image) in images.iter().enumerate().skip(images.len() / 2).step_by(5) {
        let killed = Disk::holding(image);
        let store = open_on(&killed, CAPACITY).await;
        let usage = store.usage().expect("it has a capacity");
        assert!(usage.bytes <= CAPACITY, "image {taken}: {usage:?}");
        // Killed between two syncs of one commit it is as before or after.
        let expected = |usage: &&tiered_redb::Usage| usage.bytes;
        let before = acknowledged.iter().rfind(|(images, _)| *images <= taken + 1).map(|(_, usage)| usage);
        let after = acknowledged.iter().find(|(images, _)| *images > taken).map(|(_, usage)| usage);
        let possible = [before.as_ref().map(expected), after.as_ref().map(expected)];
        assert!(possible.contains(&Some(usage.bytes)), "image {taken}: {usage:?}, not {possible:?}");
        assert_eq!(usage.entries, store.keys("").await.expect("lists").len() as u64);
        for number in 0..20 {
            let name = Key::new(format!("after/{number}")).expect("valid");
            store.put(&name, Put::new(vec![1; 20_000])).await.expect("written");
            assert!(store.usage().expect("it has a capacity").bytes <= CAPACITY);
        }
        store.close().await.expect("closes");
        opened += 1;
    }
    assert!(opened > 20, "{opened} images");
}

#[tokio::test]
async fn it_is_a_frontend_and_no_backend() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = RedbConfig::new(folder.path().join("cache.redb")).capacity(200_000);
    let cache = config.clone().open().await.expect("opens");
    assert!(cache.capabilities().has(Feature::Evicts));
    let refused = TieredStore::builder(MemoryStore::new(), cache.clone()).build().await.expect_err("refused");
    assert_eq!(refused.kind(), ErrorKind::Config);
    assert!(refused.to_string().contains("make it the frontend"), "{refused}");
    cache.close().await.expect("closes");
    let backend = MemoryStore::new();
    for policy in [WritePolicy::WriteThrough, WritePolicy::WriteAround] {
        let cache = config.clone().open().await.expect("opens");
        let stack =
            TieredStore::builder(cache.clone(), backend.clone()).write_policy(policy).backend_id("memory");
        let stack = stack.build().await.expect("builds");
        assert!(!stack.capabilities().has(Feature::Evicts));
        for number in 0..100_u32 {
            let name = Key::new(format!("k{number}")).expect("valid");
            stack.put(&name, Put::new(vec![number.to_le_bytes()[0]; 9_000])).await.expect("written");
        }
        for round in 0..2 {
            for number in 0..100_u32 {
                let found =
                    stack.get(format!("k{number}").as_str()).await.expect("reads").expect("in the backend");
                assert_eq!(found.value(), &vec![number.to_le_bytes()[0]; 9_000], "{policy} {round}");
            }
        }
        let usage = cache.usage().expect("it has a capacity");
        assert!(usage.bytes <= 200_000, "{usage:?}");
        // Fills go on after the last answer.
        assert!(usage.evictions > 50 || policy == WritePolicy::WriteAround, "{usage:?}");
        stack.detach().await.expect("detaches");
    }
}
