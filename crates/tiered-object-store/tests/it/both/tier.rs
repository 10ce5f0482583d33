//! A tier over an object store: the conformance suite, and what it cannot see.

use std::sync::Arc;
use std::time::Duration;

use tempfile::TempDir;
use tiered_conformance::{Factory, Place};
use tiered_core::adapter::{Stamp, VersionMint, async_trait};
use tiered_core::testing::ManualClock;
use tiered_core::{Durability, Error, ErrorKind, Feature, Key, Result, Store, StoreExt as _, Timestamp};
use tiered_object_store::Order;

use super::bridge::object_store::local::LocalFileSystem;
use super::bridge::object_store::memory::InMemory;
use super::bridge::object_store::path::Path;
use super::bridge::object_store::{ObjectStore, ObjectStoreExt as _};
use super::bridge::{ObjectTier, ObjectTierConfig};

/// The limits of the suite.
const LARGEST: u64 = 4 << 20;

/// Objects in memory, on a manual clock.
struct Memory {
    objects: Arc<InMemory>,
    clock: Arc<ManualClock>,
    stamp: Stamp,
}

impl Memory {
    fn new() -> Self {
        let clock = Arc::new(ManualClock::new(Timestamp::from_millis(1_000_000_000_000)));
        let stamp = Stamp::new(clock.clone(), Arc::new(VersionMint::from_entropy()));
        Self { objects: Arc::default(), clock, stamp }
    }
}

/// A place of its own.
struct Room(Arc<dyn ObjectStore>, Option<Stamp>, Order, Option<TempDir>);

impl Room {
    fn config(&self) -> ObjectTierConfig {
        let config = ObjectTierConfig::new(Arc::clone(&self.0)).prefix("suite/").order(self.2);
        let config =
            config.max_value(LARGEST).request_lifetime(Duration::ZERO).durability(Durability::ProcessKill);
        match &self.1 {
            Some(stamp) => config.stamp(stamp.clone()),
            None => config,
        }
    }
}

#[async_trait]
impl Place for Room {
    async fn open(&self) -> Result<Arc<dyn Store>> {
        Ok(Arc::new(self.config().open().await?))
    }
}

#[async_trait]
impl Factory for Memory {
    async fn open(&self) -> Result<Arc<dyn Store>> {
        Room(self.objects.clone(), Some(self.stamp.clone()), Order::Checked, None).open().await
    }

    async fn place(&self) -> Option<Arc<dyn Place>> {
        let objects = Arc::new(InMemory::new());
        Some(Arc::new(Room(objects, Some(self.stamp.clone()), Order::Checked, None)))
    }

    fn clock(&self) -> Option<Arc<ManualClock>> {
        Some(Arc::clone(&self.clock))
    }
}

/// Objects as files, whose times are the system's.
struct Files(TempDir);

fn files(folder: &TempDir) -> Arc<dyn ObjectStore> {
    Arc::new(LocalFileSystem::new_with_prefix(folder.path()).expect("a folder"))
}

#[async_trait]
impl Factory for Files {
    async fn open(&self) -> Result<Arc<dyn Store>> {
        Room(files(&self.0), None, Order::Sorted, None).open().await
    }

    async fn place(&self) -> Option<Arc<dyn Place>> {
        let folder = tempfile::tempdir().ok()?;
        Some(Arc::new(Room(files(&folder), None, Order::Sorted, Some(folder))))
    }
}

mod memory {
    tiered_conformance::suite!(super::Memory::new());
}

mod files {
    tiered_conformance::suite!(super::Files(tempfile::tempdir().expect("a folder")));
}

async fn over(objects: impl ObjectStore) -> ObjectTier {
    ObjectTierConfig::new(objects).open().await.expect("opens")
}

#[tokio::test]
async fn what_an_object_store_can_do_is_found_out_and_nothing_is_left() {
    let objects = Arc::new(InMemory::new());
    let tier = over(objects.clone()).await;
    for feature in [Feature::ConditionalPut, Feature::KeepsMetadata, Feature::KeepsMarks] {
        assert!(tier.capabilities().has(feature), "{feature:?}");
    }
    let folder = tempfile::tempdir().expect("a folder");
    let plain = over(files(&folder)).await;
    for feature in [Feature::ConditionalPut, Feature::KeepsMetadata, Feature::ConditionalDelete] {
        assert!(!plain.capabilities().has(feature), "{feature:?}");
    }
    let left = |objects: Arc<dyn ObjectStore>| async move {
        futures_util::TryStreamExt::try_collect::<Vec<_>>(objects.list(None)).await.expect("lists").len()
    };
    assert_eq!((left(objects).await, left(files(&folder)).await), (0, 0));
}

#[tokio::test]
async fn objects_of_others_are_entries() {
    let objects = Arc::new(InMemory::new());
    objects.put(&Path::from("settings/a"), "theirs".into()).await.expect("puts");
    let tier = ObjectTierConfig::new(objects.clone()).prefix("settings/").open().await.expect("opens");
    let entry = tier.get("a").await.expect("reads").expect("there");
    assert_eq!((&entry.value()[..], entry.version().as_token().is_some()), (&b"theirs"[..], true));
    tier.set("a", tiered_core::Put::new("ours").if_version(entry.version().clone())).await.expect("puts");
    let got = objects.get(&Path::from("settings/a")).await.expect("gets").bytes().await.expect("reads");
    assert_eq!(got, "ours");
}

#[tokio::test]
async fn keys_that_are_no_path_are_refused() {
    let tier = over(InMemory::new()).await;
    for key in ["a//b", "a/", "/a", "..", "a/./b", ".tiered/x"] {
        let error = tier.set(key, "x").await.expect_err(key);
        assert_eq!(error.kind(), ErrorKind::InvalidKey, "{key}");
        let key = Key::new(key).expect("valid");
        let error: Error = tier.load(&key, &tiered_core::ReadOptions::new()).await.expect_err("refused");
        assert_eq!(error.kind(), ErrorKind::InvalidKey);
    }
    for prefix in ["settings", "/", "a//", "/a/", "../"] {
        let error =
            ObjectTierConfig::new(InMemory::new()).prefix(prefix).open().await.map(drop).expect_err(prefix);
        assert_eq!(error.kind(), ErrorKind::Config, "{prefix}");
    }
}
