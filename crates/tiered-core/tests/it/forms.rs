//! Text forms, conversions and streams of the public types.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures_util::{FutureExt as _, StreamExt as _};
use tiered_core::{
    Action, Attributes, Batch, Delete, Error, Event, Key, MemoryStore, Put, Stats, Store, StoreExt as _,
    TieredStore, Timestamp, Version,
};

fn key(text: &str) -> Key {
    Key::new(text).expect("valid")
}

fn round_trip<T: serde::Serialize + serde::de::DeserializeOwned>(value: &T) -> (String, T) {
    let text = serde_json::to_string(value).expect("writes");
    let read = serde_json::from_str(&text).expect("reads");
    (text, read)
}

#[test]
fn keys_versions_times_and_statistics_serialise_to_text() {
    assert_eq!(round_trip(&key("users/é")), ("\"users/é\"".to_owned(), key("users/é")));
    for version in [Version::from_u128(7), Version::from_token("\"etag\"").expect("valid")] {
        assert_eq!(round_trip(&version).1, version);
    }
    assert_eq!(round_trip(&Timestamp::from_millis(5)).0, "5");
    let stats = Stats::default();
    assert_eq!(round_trip(&stats).1, stats);
    let some: Stats = serde_json::from_str("{\"hits\":3}").expect("reads what an older version wrote");
    assert_eq!((some.hits, some.misses), (3, 0));
    assert!(
        serde_json::from_str::<Key>("\"\"").is_err() && serde_json::from_str::<Version>("\"7\"").is_err()
    );
}

#[test]
fn times_convert_at_both_ends_of_their_range() {
    assert_eq!(Timestamp::from(SystemTime::UNIX_EPOCH - Duration::from_secs(1)), Timestamp::from_millis(0));
    assert!(SystemTime::from(Timestamp::from_millis(u64::MAX)) > SystemTime::UNIX_EPOCH);
}

#[test]
fn batches_and_attributes_are_collected_from_iterators() {
    let mut batch: Batch =
        [(key("a"), Action::from(Put::new("1"))), (key("b"), Delete::new().into())].into_iter().collect();
    batch.extend([(key("c"), Delete::new())]);
    let keys: Vec<&str> = batch.operations().iter().map(|(key, _)| key.as_str()).collect();
    assert_eq!(keys, ["a", "b", "c"]);
    let attributes = Attributes::try_from_iter([("a", "1"), ("a", "2")]).expect("valid");
    assert_eq!((attributes.len(), attributes.get("a")), (1, Some("2")));
    assert!(Attributes::try_from_iter([("Upper", "1")]).is_err());
}

#[tokio::test]
async fn the_event_stream_loses_no_event() -> Result<(), Error> {
    let store = TieredStore::builder(MemoryStore::new(), MemoryStore::new());
    let store = store.build().await?;
    let mut events = store.subscribe();
    assert!(events.next().now_or_never().is_none(), "nothing happened yet");
    for text in ["a", "b"] {
        store.set(text, "value").await?;
    }
    let written = |event: &Event| matches!(event, Event::Written { .. });
    assert!(events.next().await.as_ref().is_some_and(written));
    drop(store);
    // The store ends in its own tasks.
    let rest: Vec<Event> =
        tokio::time::timeout(Duration::from_mins(1), events.by_ref().collect()).await.expect("it ends");
    assert_eq!(rest.iter().filter(|event| written(event)).count(), 1);
    assert_eq!(events.next().await, None);
    Ok(())
}

#[tokio::test]
async fn a_store_that_is_shared_already_is_taken_as_it_is() {
    let by_itself = MemoryStore::new();
    let concrete = Arc::new(MemoryStore::new());
    let dynamic: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let store =
        TieredStore::builder(Arc::clone(&concrete), Arc::clone(&dynamic)).build().await.expect("builds");
    assert!(Arc::ptr_eq(store.backend(), &dynamic), "no second pointer stands before it");
    assert!(std::ptr::addr_eq(Arc::as_ptr(store.frontend()), Arc::as_ptr(&concrete)));
    store.close().await.expect("closes");
    TieredStore::builder(by_itself, MemoryStore::new()).build().await.expect("builds");
}
