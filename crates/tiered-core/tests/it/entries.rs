//! Honest entries: what callers hand over is stamped, never believed; deletes ask only what they must.

use std::sync::Arc;
use std::time::Duration;

use tiered_core::adapter::{Checksum, Clock as _, Stamp, VersionMint};
use tiered_core::testing::ManualClock;
use tiered_core::{
    Attributes, Batch, Delete, Entry, ErrorKind, Existed, MemoryStore, Put, Store, StoreExt as _,
    TieredStore, Timestamp, VolatileJournal, WritePolicy, adapter,
};

use crate::promises::{Mood, moody};
use crate::scripted::key;

async fn stack() -> TieredStore {
    TieredStore::builder(MemoryStore::new(), MemoryStore::new()).build().await.expect("builds")
}

#[tokio::test]
async fn an_update_gets_its_own_version_and_keeps_the_metadata() {
    let inner = stack().await;
    let store = TieredStore::builder(MemoryStore::new(), inner).build().await.expect("builds");
    let attributes = Attributes::new().with("kind", "counter").expect("valid");
    let far = Timestamp::from_millis(u64::MAX / 2);
    let put = Put::new("one").attributes(attributes.clone()).expires_at(far);
    let first = store.put(&key("k"), put).await.expect("written");
    let (_, second) =
        store.update(&key("k"), |old| old.map(|old| Put::replacing(old, "two!"))).await.expect("updated");
    let second = second.expect("written");
    assert_ne!(first.version, second.version);
    store.invalidate(&key("k")).await.expect("dropped");
    let entry = store.get(&key("k")).await.expect("not corrupt").expect("there");
    entry.verify().expect("the checksum is the value's");
    assert_eq!((entry.value().as_ref(), entry.version()), (&b"two!"[..], &second.version));
    assert_eq!((&entry.metadata().attributes, entry.metadata().expires_at), (&attributes, Some(far)));
}

#[tokio::test]
async fn the_checksum_of_a_copy_is_computed_again() {
    let entry = Stamp::system().entry(&Put::new("good"));
    let mut lying = (**entry.metadata()).clone().with_checksum(Some(Checksum::of(b"bad")));
    lying.size = 99;
    let copy = adapter::verbatim(&Entry::from_parts(entry.value().clone(), Arc::new(lying)));
    let stores: [Arc<dyn Store>; 2] = [Arc::new(MemoryStore::new()), Arc::new(stack().await)];
    for store in stores {
        let written = store.put(&key("k"), copy.clone()).await.expect("written");
        assert_eq!(written.version, *entry.version());
        let read = store.get(&key("k")).await.expect("reads").expect("there");
        read.verify().expect("computed from the value");
        assert_eq!(read.size(), 4);
    }
    let metadata = adapter::metadata_of(&copy).expect("complete");
    assert_eq!(
        (metadata.size, metadata.checksum),
        (4, Some(Checksum::of(b"good"))),
        "what a journal would store"
    );
}

#[tokio::test]
async fn a_delete_reads_the_backend_only_when_asked_whether_the_key_existed() {
    let (front, back) = (moody(), moody());
    let store = TieredStore::builder(front, back.clone())
        .write_policy(WritePolicy::WriteBehind)
        .journal(VolatileJournal::new())
        .build()
        .await
        .expect("builds");
    back.be(Mood::Down);
    let deleted = store.delete(&key("k"), Delete::new()).await.expect("acknowledged");
    assert_eq!(deleted.existed, Existed::Unknown);
    store.put(&key("k"), Put::new("1")).await.expect("acknowledged");
    let batch = Batch::new().delete(key("k"), Delete::new()).delete(key("other"), Delete::new());
    let existed: Vec<_> = store
        .apply(batch)
        .await
        .expect("acknowledged")
        .into_iter()
        .map(|outcome| match outcome.expect("acknowledged") {
            tiered_core::Applied::Delete(deleted) => deleted.existed,
            tiered_core::Applied::Put(_) => Existed::Unknown,
        })
        .collect();
    assert_eq!(existed, [Existed::Yes, Existed::Unknown], "a pending write is known");
    let asked = store.delete(&key("other2"), Delete::new().report_existed()).await;
    assert_eq!(asked.expect_err("only the backend knows").kind(), ErrorKind::Unavailable);
    back.be(Mood::Well);
    store.close().await.expect("drains");
}

/// Ten years forward, and back.
#[tokio::test]
async fn versions_increase_after_the_clock_is_set_back() {
    let start = Timestamp::from_millis(1_000_000_000_000);
    let ten_years = Duration::from_hours(10 * 365 * 24);
    let clock = Arc::new(ManualClock::new(start));
    let stamp = Stamp::new(
        Arc::clone(&clock) as Arc<dyn tiered_core::adapter::Clock>,
        Arc::new(VersionMint::seeded(1)),
    );
    let store = MemoryStore::with_stamp(stamp);
    store.put(&key("hour"), Put::new("v").expires_in(Duration::from_hours(1))).await.expect("written");
    clock.set_wall(start.saturating_add(ten_years));
    assert!(store.get(&key("hour")).await.expect("reads").is_none(), "what lay in between has expired");
    clock.set_wall(start);
    assert_eq!(clock.now(), start.saturating_add(ten_years), "never backwards");
    store.put(&key("k"), Put::new("v").expires_in(Duration::from_millis(500))).await.expect("written");
    clock.advance(Duration::from_millis(499));
    assert!(store.get(&key("k")).await.expect("reads").is_some());
    clock.advance(Duration::from_millis(1));
    assert!(store.get(&key("k")).await.expect("reads").is_none(), "half a second by uptime");
}

#[test]
fn debug_output_shows_no_values() {
    let store = MemoryStore::new();
    let text = tokio::runtime::Builder::new_current_thread().build().expect("builds").block_on(async {
        for index in 0..1_000 {
            store.put(&key(&format!("key-{index}")), Put::new("hunter2")).await.expect("written");
        }
        format!("{store:?}")
    });
    assert!(text.len() < 1_000 && !text.contains("key-1"), "{text}");
    let put = Put::new("hunter2").attributes(Attributes::new().with("token", "s3cret").expect("valid"));
    let entry = Stamp::system().entry(&put);
    for text in [format!("{put:?}"), format!("{entry:?}"), format!("{:?}", entry.metadata())] {
        assert!(text.contains("token") && !text.contains("s3cret") && !text.contains("hunter2"), "{text}");
    }
}
