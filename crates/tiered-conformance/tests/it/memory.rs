//! The reference store passes, in every declared shape.

use std::sync::Arc;

use async_trait::async_trait;
use tiered_conformance::{Case, Ending, Factory, Place, RunOptions, cases, run};
use tiered_core::adapter::{Stamp, VersionMint};
use tiered_core::testing::ManualClock;
use tiered_core::{Capabilities, Feature, MemoryStore, Result, Store, Timestamp};

/// Memory on a manual clock, with places of its own.
struct Memory {
    store: MemoryStore,
    stamp: Stamp,
    clock: Arc<ManualClock>,
}

impl Memory {
    fn new() -> Self {
        let clock = Arc::new(ManualClock::new(Timestamp::from_millis(1_000_000_000_000)));
        let stamp = Stamp::new(clock.clone(), Arc::new(VersionMint::from_entropy()));
        let store = MemoryStore::with_stamp(stamp.clone())
            .declaring(|capabilities| capabilities.with_max_value(2 << 20).with_max_key(200));
        Self { store, stamp, clock }
    }

    fn without(mut self, features: &[Feature]) -> Self {
        self.store = self.store.declaring(|capabilities| {
            features.iter().fold(capabilities, |capabilities, feature| capabilities.without(*feature))
        });
        self
    }
}

/// Memory is new each time that it is opened.
struct Room(Stamp, Capabilities);

#[async_trait]
impl Place for Room {
    async fn open(&self) -> Result<Arc<dyn Store>> {
        Ok(Arc::new(MemoryStore::with_stamp(self.0.clone()).declaring(|_| self.1.clone())))
    }
}

#[async_trait]
impl Factory for Memory {
    async fn open(&self) -> Result<Arc<dyn Store>> {
        Ok(Arc::new(self.store.clone()))
    }

    async fn place(&self) -> Option<Arc<dyn Place>> {
        Some(Arc::new(Room(self.stamp.clone(), self.store.capabilities().clone())))
    }

    fn clock(&self) -> Option<Arc<ManualClock>> {
        Some(Arc::clone(&self.clock))
    }
}

mod suite {
    //! One test per case, none of them skipped.
    tiered_conformance::suite!(super::Memory::new());
}

/// A case needs something of the factory, which is to be given, or of the store, which then does without as specified.
#[test]
fn the_refusal_of_a_missing_feature_is_checked_and_not_skipped() {
    let unchecked =
        |case: &&Case| !case.has_refusal() && case.needs.iter().any(|need| !need.is_of_the_factory());
    let names: Vec<&str> = cases().filter(unchecked).map(|case| case.name).collect();
    assert!(names.is_empty(), "no refusal: {names:?}");
}

#[test]
fn the_macro_and_the_list_name_the_same_cases() {
    let names: Vec<&str> = cases().map(|case| case.name).collect();
    assert_eq!(tiered_conformance::__catalogue!(names).as_slice(), names);
    let mut unique = names.clone();
    unique.sort_unstable();
    unique.dedup();
    assert_eq!(unique.len(), names.len(), "names are unique");
}

#[tokio::test]
async fn memory_passes_without_clock_and_places() {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let shared = Arc::clone(&store);
    let report = run(
        move || {
            let store = Arc::clone(&shared);
            async move { store }
        },
        RunOptions::new(),
    )
    .await;
    assert!(report.is_ok(), "{report}");
    let last = report.to_string().lines().last().map(str::to_owned);
    let counts = format!("{} passed, 0 failed, {} skipped", report.passed(), report.skipped());
    assert_eq!(last, Some(counts));
}

/// The suite works within the limits that a store declares, however small.
#[tokio::test]
async fn memory_with_small_limits_passes() {
    for (value, key) in [(5, 1024), (1, 1024), (0, 1024), (48, 40), (100, 24), (5, 17)] {
        let mut small = Memory::new();
        small.store =
            small.store.declaring(|capabilities| capabilities.with_max_value(value).with_max_key(key));
        let report = run(small, RunOptions::new()).await;
        assert!(report.is_ok(), "values of {value} bytes, keys of {key}\n{report}");
        assert_eq!(report.skipped(), 0, "values of {value} bytes, keys of {key}\n{report}");
    }
}

/// Whatever a store does not declare, it refuses as specified.
#[tokio::test]
async fn memory_with_fewer_features_refuses_what_it_lacks() {
    for feature in [
        Feature::ConditionalPut,
        Feature::ConditionalDelete,
        Feature::AtomicBatch,
        Feature::KeepsMetadata,
        Feature::KeepsNotes,
        Feature::KeepsMarks,
        Feature::ListsMetadata,
        Feature::ListsExpiry,
        Feature::Peeks,
    ] {
        let report = run(Memory::new().without(&[feature]), RunOptions::new()).await;
        assert!(report.is_ok(), "without {feature:?}\n{report}");
        let refused = report.cases.iter().filter(|case| matches!(case.ending, Ending::Refused(_))).count();
        assert!(refused > 0 || feature == Feature::Peeks, "without {feature:?} nothing was refused");
    }
}
