//! A tier over an object store: the conformance suite, and what it cannot see.

use std::sync::Arc;
use std::time::Duration;

use futures_util::TryStreamExt as _;
use tempfile::TempDir;
use tiered_conformance::{Factory, Place};
use tiered_core::adapter::{Stamp, VersionMint, async_trait};
use tiered_core::testing::ManualClock;
use tiered_core::{
    Create, Durability, Error, ErrorKind, Feature, Key, ListOptions, Outcome, Put, Result, Store,
    StoreExt as _, Timestamp,
};
use tiered_object_store::{Conditional, Keys, Order};

use super::bridge::object_store::local::LocalFileSystem;
use super::bridge::object_store::memory::InMemory;
use super::bridge::object_store::path::Path;
use super::bridge::object_store::{ObjectStore, ObjectStoreExt as _};
use super::bridge::{ObjectTier, ObjectTierConfig};
use super::odd::Odd;

/// The limits of the suite.
const LARGEST: u64 = 4 << 20;

/// An object store, and the folder that it is in.
struct Objects(Arc<dyn ObjectStore>, Option<TempDir>);

/// Object stores of a kind, on a manual clock.
struct Kind {
    make: fn() -> Objects,
    config: fn(ObjectTierConfig) -> ObjectTierConfig,
    objects: Objects,
    clock: Arc<ManualClock>,
    stamp: Stamp,
}

impl Kind {
    fn new(make: fn() -> Objects, config: fn(ObjectTierConfig) -> ObjectTierConfig) -> Self {
        let clock = Arc::new(ManualClock::new(Timestamp::from_millis(1_000_000_000_000)));
        let stamp = Stamp::new(clock.clone(), Arc::new(VersionMint::from_entropy()));
        Self { make, config, objects: make(), clock, stamp }
    }

    /// Paths as they stand.
    fn paths() -> Self {
        Self::new(|| Objects(Arc::new(InMemory::new()), None), |config| config)
    }

    /// Every key.
    fn flat() -> Self {
        Self::new(|| Objects(Arc::new(InMemory::new()), None), |config| config.keys(Keys::Flat))
    }

    /// Files, which have no attributes, no conditions and no order.
    fn files() -> Self {
        Self::new(
            || {
                let folder = tempfile::tempdir().expect("a folder");
                Objects(files(&folder), Some(folder))
            },
            // A write that is dropped goes on in a thread.
            |config| {
                let lifetime = Duration::from_secs(10);
                config.keys(Keys::Flat).max_key(120).order(Order::Sorted).request_lifetime(lifetime)
            },
        )
    }

    fn config(&self, objects: &Objects) -> ObjectTierConfig {
        let config = ObjectTierConfig::new(Arc::clone(&objects.0)).prefix("suite/").max_value(LARGEST);
        let config = config.request_lifetime(Duration::ZERO).durability(Durability::ProcessKill);
        (self.config)(config.stamp(self.stamp.clone()))
    }
}

/// A place of its own.
struct Room(ObjectTierConfig, Objects);

impl Drop for Room {
    fn drop(&mut self) {
        drop(self.1.1.take());
    }
}

#[async_trait]
impl Place for Room {
    async fn open(&self) -> Result<Arc<dyn Store>> {
        Ok(Arc::new(self.0.clone().open().await?))
    }
}

#[async_trait]
impl Factory for Kind {
    async fn open(&self) -> Result<Arc<dyn Store>> {
        Ok(Arc::new(self.config(&self.objects).open().await?))
    }

    async fn place(&self) -> Option<Arc<dyn Place>> {
        let objects = (self.make)();
        Some(Arc::new(Room(self.config(&objects), objects)))
    }

    fn clock(&self) -> Option<Arc<ManualClock>> {
        Some(Arc::clone(&self.clock))
    }
}

mod memory {
    //! These write keys that are no path, which are refused (below).
    tiered_conformance::suite!(super::Kind::paths(), skips: [
        delete_neighbours = "writes `a/`",
        list_combined = "writes `/`",
        model_listing = "writes `bb/`",
        read_key_shortest = "writes `/`",
        read_keys = "writes `a/`",
    ]);
}

mod flat {
    //! Every case runs.
    tiered_conformance::suite!(super::Kind::flat());
}

mod folder {
    tiered_conformance::suite!(super::Kind::files(), skips: [
        put_stamped = "the time of an entry is that of its file, by the system's clock",
    ]);
}

fn files(folder: impl AsRef<std::path::Path>) -> Arc<dyn ObjectStore> {
    let files = LocalFileSystem::new_with_prefix(folder).expect("a folder");
    Arc::new(files.with_automatic_cleanup(true))
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
    // The e-tag of a file is made of its time and size.
    let repeats = |tier: &ObjectTier| tier.capabilities().has(Feature::RepeatsVersions);
    assert_eq!((repeats(&tier), repeats(&plain)), (false, true));
    let left = |objects: Arc<dyn ObjectStore>| async move {
        objects.list(None).try_collect::<Vec<_>>().await.expect("lists").len()
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

#[tokio::test]
async fn a_folder_cannot_hold_a_key_below_another() {
    let folder = tempfile::tempdir().expect("a folder");
    let tier = ObjectTierConfig::new(files(&folder)).order(Order::Sorted).open().await.expect("opens");
    tier.set("a", "file").await.expect("puts");
    tier.set("b/c", "file").await.expect("puts");
    for key in ["a/b", "b"] {
        let error = tier.set(key, "x").await.expect_err(key);
        assert_eq!(
            (error.kind(), error.write_outcome()),
            (ErrorKind::Unsupported, Outcome::NotApplied),
            "{error}"
        );
        assert!(tier.get(key).await.expect("reads").is_none());
    }
    assert_eq!(tier.get("a").await.expect("reads").expect("there").value(), "file");
    let attributes = tiered_core::Attributes::new().with("a", "b").expect("valid");
    let expiring = Put::new("x").expires_in(Duration::from_mins(1));
    for put in [Put::new("x").attributes(attributes), expiring, Put::new("x").if_absent()] {
        let error = tier.set("new", put).await.expect_err("refused");
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
    }
    assert!(tier.get("new").await.expect("reads").is_none());
}

#[tokio::test]
async fn a_write_whose_answer_was_lost_is_found() {
    let odd = Arc::new(Odd::default());
    let tier = over(odd.clone()).await;
    odd.lose_an_answer();
    let first = tier.set("a", "one").await.expect("found");
    odd.lose_an_answer();
    let second = tier.set("a", Put::new("two").if_version(first.version)).await.expect("found");
    odd.lose_an_answer();
    tier.set("b", Put::new("new").if_absent()).await.expect("found");
    let read = tier.get("a").await.expect("reads").expect("there");
    assert_eq!((read.version(), &read.value()[..]), (&second.version, &b"two"[..]));
    // What was not applied may yet be.
    odd.lose_a_request();
    let error = tier.set("a", "three").await.expect_err("lost");
    assert_eq!((error.kind(), error.write_outcome()), (ErrorKind::Unavailable, Outcome::Unknown), "{error}");
    assert_eq!(tier.get("a").await.expect("reads").expect("there").value(), "two");
}

#[tokio::test]
async fn conditions_that_are_ignored_are_not_declared() {
    let tier = over(Odd::ignoring_conditions()).await;
    assert!(!tier.capabilities().has(Feature::ConditionalPut));
    let error = tier.set("a", Put::new("x").if_absent()).await.expect_err("refused");
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    let off =
        ObjectTierConfig::new(InMemory::new()).conditional(Conditional::Off).open().await.expect("opens");
    assert!(!off.capabilities().has(Feature::ConditionalPut));
}

#[tokio::test]
async fn a_listing_out_of_order_is_an_error_or_sorted() {
    let listed = |tier: ObjectTier| async move {
        for key in ["a", "b", "c"] {
            tier.set(key, "x").await?;
        }
        let keys: Vec<_> = tier.list(ListOptions::new()).try_collect().await?;
        Ok::<_, Error>(keys.into_iter().map(|listed| listed.key.to_string()).collect::<Vec<_>>())
    };
    let error = listed(over(Odd::listing_backwards()).await).await.expect_err("out of order");
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
    let sorted =
        ObjectTierConfig::new(Odd::listing_backwards()).order(Order::Sorted).open().await.expect("opens");
    assert_eq!(listed(sorted).await.expect("sorted"), ["a", "b", "c"]);
}

#[tokio::test]
async fn a_place_is_made_once_and_found_again() {
    let folder = tempfile::tempdir().expect("a folder");
    let place = format!("file://{}/a b", folder.path().display());
    let config = || ObjectTierConfig::at(&place).expect("a place").keys(Keys::Flat).max_key(120);
    assert!(!config().exists().await.expect("looks"));
    let error = config().create(Create::Never).open().await.map(drop).expect_err("absent");
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
    assert!(!folder.path().join("a b").exists(), "nothing was made");
    config().create(Create::New).open().await.expect("makes").set("a/b", "x").await.expect("puts");
    assert!(folder.path().join("a b/a.~b").exists() && config().exists().await.expect("looks"));
    let error = config().create(Create::New).open().await.map(drop).expect_err("there");
    assert_eq!(error.kind(), ErrorKind::AlreadyExists, "{error}");
    let found = config().create(Create::Never).open().await.expect("opens");
    assert_eq!(found.get("a/b").await.expect("reads").expect("there").value(), "x");
}

#[test]
fn urls_of_object_stores_say_what_is_wrong_and_show_no_secret() {
    for place in ["", "here", "file://host/a", "ftp://host/a", "https://me:hunter2@host/a", "gs://bucket/a"] {
        let error = ObjectTierConfig::at(place).expect_err(place);
        assert_eq!(error.kind(), ErrorKind::Config, "{place}");
        assert!(!format!("{} {error:?}", error.chain()).contains("hunter2"), "{error:?}");
    }
}
