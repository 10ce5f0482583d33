//! redb on a disk of ours, in memory: failures, and replay.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures_util::FutureExt as _;
use redb::StorageBackend;
use redb::backends::InMemoryBackend;
use tiered_core::adapter::{Stamp, VersionMint};
use tiered_core::testing::ManualClock;
use tiered_core::{ErrorKind, Key, Outcome, Put, Store, StoreExt as _, Timestamp};
use tiered_redb::{Executor, RedbConfig};

/// A disk that lasts when the database is closed, and fails when told to.
#[derive(Clone, Debug)]
struct Disk {
    memory: Arc<InMemoryBackend>,
    fails: Arc<AtomicBool>,
}

impl Disk {
    fn new() -> Self {
        Self { memory: Arc::new(InMemoryBackend::new()), fails: Arc::default() }
    }

    fn check(&self) -> io::Result<()> {
        if self.fails.load(Ordering::Relaxed) {
            Err(io::Error::other("the platter is scratched"))
        } else {
            Ok(())
        }
    }

    fn bytes(&self) -> Vec<u8> {
        let len = usize::try_from(self.memory.len().expect("a length")).expect("small");
        let mut bytes = vec![0; len];
        self.memory.read(0, &mut bytes).expect("reads");
        bytes
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        self.check()?;
        self.memory.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.check()?;
        self.memory.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.check()?;
        self.memory.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.check()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.check()?;
        self.memory.write(offset, data)
    }

    fn close(&self) -> io::Result<()> {
        Ok(())
    }
}

fn config() -> RedbConfig {
    let clock = Arc::new(ManualClock::new(Timestamp::from_millis(1_000)));
    RedbConfig::new("simulated").cache(1 << 20).stamp(Stamp::new(clock, Arc::new(VersionMint::seeded(7))))
}

#[tokio::test]
async fn writes_fail_while_the_disk_fails_and_succeed_afterwards() {
    for executor in [Executor::Threads, Executor::Inline] {
        let disk = Disk::new();
        let given = disk.clone();
        let store = config().executor(executor).open_on(move || Ok(given.clone())).await.expect("opens");
        let (kept, lost) = (Key::new("kept").expect("valid"), Key::new("lost").expect("valid"));
        store.put(&kept, Put::new(vec![1; 100_000])).await.expect("written");
        disk.fails.store(true, Ordering::Relaxed);
        let error = store.put(&lost, Put::new("v")).await.expect_err("the disk fails");
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{}", error.chain());
        assert!(error.outcome().is_some(), "{}", error.chain());
        let error = store.put(&lost, Put::new("v")).await.expect_err("it still fails");
        assert_eq!(
            error.outcome(),
            Some(Outcome::NotApplied),
            "it could not even be opened: {}",
            error.chain()
        );
        disk.fails.store(false, Ordering::Relaxed);
        assert_eq!(store.get(&kept).await.expect("well again").expect("kept").value(), &vec![1; 100_000]);
        store.put(&lost, Put::new("v")).await.expect("written");
        store.close().await.expect("closes");
    }
}

#[test]
fn the_same_calls_give_the_same_bytes_without_a_runtime() {
    let run = || {
        let disk = Disk::new();
        let given = disk.clone();
        let work = async move {
            let open = move || Ok(given.clone());
            let store = config().executor(Executor::Inline).open_on(open).await.expect("opens");
            for index in 0..50_usize {
                let key = Key::new(format!("{}", index % 20)).expect("valid");
                store.put(&key, Put::new(vec![1; index * 400])).await.expect("written");
            }
            assert_eq!(store.keys("").await.expect("lists").len(), 20);
            store.close().await.expect("closes");
        };
        work.now_or_never().expect("nothing waits");
        disk.bytes()
    };
    assert!(run() == run(), "redb has no clock, thread or chance of its own");
}
