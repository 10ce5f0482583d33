//! The small things, on every stack.

use tiered_core::{Attributes, Expiry, Key, Put, StoreExt as _, Timestamp};
use tiered_values::StoreTools as _;

use crate::stacks;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_prefix_is_deleted_and_nothing_else() {
    for stack in stacks::all().await {
        let store = &stack.store;
        for number in 0..600 {
            store.set(format!("tmp/{number}"), "x").await.expect("written");
        }
        for key in ["tmp", "tmp0", "a"] {
            store.set(key, "x").await.expect("written");
        }
        assert_eq!(store.delete_prefix("tmp/").await.expect("deleted"), 600, "{}", stack.name);
        assert_eq!(store.delete_prefix("tmp/").await.expect("nothing"), 0, "{}", stack.name);
        assert_eq!(store.keys("").await.expect("listed").len(), 3, "{}", stack.name);
        stack.close().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn copies_touches_and_unchanged_puts_keep_what_they_should() {
    for stack in stacks::all().await {
        let store = &stack.store;
        let attributes = Attributes::new().with("lang", "en").expect("valid");
        let at = Timestamp::from_millis(4_102_444_800_000);
        let put = Put::new("text").attributes(attributes.clone()).expires_at(at);
        store.set("a", put.clone()).await.expect("written");
        store.copy("a", "b").await.expect("copied").expect("there");
        let (a, b) = (store.get("a").await.expect("read"), store.get("b").await.expect("read"));
        let (a, b) = (a.expect("there"), b.expect("there"));
        assert_eq!((a.value(), &a.metadata().attributes), (b.value(), &b.metadata().attributes));
        assert_eq!(b.metadata().expires_at, Some(at), "{}", stack.name);
        assert_ne!(a.version(), b.version(), "a write of its own");

        assert!(store.put_if_changed("a", put.clone()).await.expect("compared").is_none(), "{}", stack.name);
        assert!(store.put_if_changed("a", put.value("other")).await.expect("written").is_some());
        assert!(store.put_if_changed("a", "other").await.expect("written").is_some(), "other attributes");

        store.touch("b", Expiry::Never).await.expect("touched").expect("there");
        let b = store.get("b").await.expect("read").expect("there");
        assert_eq!((b.metadata().expires_at, &b.metadata().attributes), (None, &attributes));
        assert!(store.touch("absent", Expiry::Never).await.expect("nothing").is_none());

        let keys = ["absent", "b", "a", "absent"].map(|key| Key::new(key).expect("valid"));
        assert_eq!(
            store.contains_many(&keys).await.expect("read"),
            [false, true, true, false],
            "{}",
            stack.name
        );
        let found = store.get_existing(&keys).await.expect("read");
        assert_eq!(found.iter().map(|(key, _)| key.as_str()).collect::<Vec<_>>(), ["b", "a"]);
        stack.close().await;
    }
}

#[tokio::test]
async fn an_unchanged_value_keeps_its_expiry_unless_the_put_sets_one() {
    let store = tiered_core::MemoryStore::new();
    let at = tiered_core::Timestamp::from_millis(u64::MAX / 2);
    store.set("a", Put::new("same").expires_at(at)).await.expect("written");
    assert!(store.put_if_changed("a", "same").await.expect("compared").is_none());
    let read = store.get("a").await.expect("read").expect("there");
    assert_eq!(read.metadata().expires_at, Some(at));
    let later = tiered_core::Timestamp::from_millis(u64::MAX / 2 + 1);
    assert!(store.put_if_changed("a", Put::new("same").expires_at(later)).await.expect("written").is_some());
}
