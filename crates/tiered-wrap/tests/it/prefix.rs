//! A namespace within a store.

use futures_util::StreamExt as _;
use tiered_core::adapter::Scope;
use tiered_core::{
    Batch, ErrorKind, Key, ListOptions, MemoryStore, Put, ReadOptions, Store, StoreExt as _, TieredStore,
    VolatileJournal, WritePolicy,
};
use tiered_wrap::Prefix;

fn key(text: &str) -> Key {
    Key::new(text).expect("valid")
}

#[tokio::test]
async fn keys_of_others_are_never_seen() {
    let all = MemoryStore::new();
    for name in ["a", "users", "users/", "users/1", "users/2", "users0", "z"] {
        all.set(name, name.to_owned()).await.expect("written");
    }
    let users = Prefix::new(all.clone(), "users/").expect("wraps");
    let names = users.keys("").await.expect("lists");
    assert_eq!(names, [key("1"), key("2")], "the prefix itself is no key");
    let listed = |options: ListOptions| {
        users.list(options).map(|listed| listed.expect("lists").key).collect::<Vec<_>>()
    };
    assert_eq!(listed(ListOptions::new().limit(1)).await, [key("1")]);
    assert_eq!(listed(ListOptions::new().start_after(key("1"))).await, [key("2")]);
    users.apply(Batch::new().delete(key("1"), tiered_core::Delete::new())).await.expect("applied");
    assert_eq!(all.keys("").await.expect("lists").len(), 6);
}

#[tokio::test]
async fn a_listing_goes_on_after_a_key_that_is_longer_than_any_inside() {
    let all = MemoryStore::new();
    let users = Prefix::new(all, "users/").expect("wraps");
    let longest = users.capabilities().max_key();
    // Two bytes for each character, so that the cut falls between the two of one.
    let (low, high) = ("é".repeat(longest / 2), "z".repeat(longest));
    for name in ["a", low.as_str(), high.as_str(), "ü"] {
        users.set(name, "v").await.expect("written");
    }
    let after = key(&format!("{low}ab"));
    let listed: Vec<Key> = users
        .list(ListOptions::new().start_after(after).limit(1))
        .map(|listed| listed.expect("lists").key)
        .collect()
        .await;
    assert_eq!(listed, [key("ü")]);
    let all_after = ListOptions::new().start_after(key(&"y".repeat(Key::MAX_LEN)));
    let listed: Vec<Key> = users.list(all_after).map(|listed| listed.expect("lists").key).collect().await;
    assert_eq!(listed, [key(&high), key(&low), key("ü")]);
}

#[tokio::test]
async fn errors_name_the_key_of_the_caller() {
    let users = Prefix::new(MemoryStore::new(), "users/").expect("wraps");
    users.set("1", "v").await.expect("written");
    let taken = users.put(&key("1"), Put::new("w").if_absent()).await.expect_err("taken");
    assert_eq!((taken.kind(), taken.key()), (ErrorKind::PreconditionFailed, Some(&key("1"))));
    assert!(!taken.chain().contains("users/"), "{}", taken.chain());
    let batch = Batch::new().put(key("2"), "v").put(key("1"), Put::new("w").if_absent());
    let refused = users.apply(batch).await.expect_err("taken");
    assert_eq!(refused.key(), Some(&key("1")));
    let beyond = users.load(&key("1"), &ReadOptions::new().range(5..6)).await.expect_err("beyond");
    assert_eq!(beyond.key(), Some(&key("1")));
    let long = users.put(&key(&"k".repeat(Key::MAX_LEN)), Put::new("v")).await.expect_err("too long");
    assert_eq!((long.kind(), long.key().map(Key::len)), (ErrorKind::InvalidKey, Some(Key::MAX_LEN)));
}

#[tokio::test]
async fn marks_of_two_prefixes_are_apart() {
    let all = MemoryStore::new();
    let [users, orders] =
        ["users/", "orders/"].map(|prefix| Prefix::new(all.clone(), prefix).expect("wraps"));
    let long = "n".repeat(64);
    for name in ["m", long.as_str()] {
        users.set_mark(name, Some("users".into())).await.expect("set");
        assert_eq!(orders.mark(name).await.expect("read"), None);
        assert_eq!(all.mark(name).await.expect("read"), None);
    }
    assert_eq!(users.mark_names("").await.expect("names"), ["m", long.as_str()]);
    assert_eq!(users.mark_names("nn").await.expect("names"), [long.as_str()]);
    assert!(orders.mark_names("").await.expect("names").is_empty());
    users.set_mark(&long, None).await.expect("removed");
    users.set_mark("m", None).await.expect("removed");
    assert!(all.mark_names("").await.expect("names").is_empty(), "nothing is left behind");
}

#[tokio::test]
async fn disjoint_prefixes_are_backends_of_two_stacks() {
    let all = MemoryStore::new();
    let stack = |prefix: &str| {
        let backend = Prefix::new(all.clone(), prefix).expect("wraps").leave_open();
        TieredStore::builder(MemoryStore::new(), backend)
            .write_policy(WritePolicy::WriteBehind)
            .journal(VolatileJournal::new())
    };
    let users = stack("users/").build().await.expect("builds");
    let orders = stack("orders/").build().await.expect("builds");
    for (store, value) in [(&users, "Ada"), (&orders, "apples")] {
        store.set("1", value).await.expect("written");
        store.flush().await.expect("flushed");
    }
    assert_eq!(all.get("users/1").await.expect("read").expect("there").value(), "Ada");
    assert_eq!(all.get("orders/1").await.expect("read").expect("there").value(), "apples");
    let within = stack("users/old/").build().await.expect_err("part of what is lent");
    assert_eq!(within.kind(), ErrorKind::Locked);
    let whole = all.claim(&Scope::Whole).await.expect_err("parts are lent");
    assert_eq!(whole.kind(), ErrorKind::Locked);
    users.close().await.expect("closes");
    orders.set("2", "pears").await.expect("the other stack goes on");
    orders.close().await.expect("closes");
    assert_eq!(all.keys("orders/").await.expect("lists").len(), 2);
    drop(all.claim(&Scope::Whole).await.expect("both have given back what they claimed"));
}

#[tokio::test]
async fn a_short_key_is_peeked_at_and_a_long_one_is_loaded() {
    let users = Prefix::new(MemoryStore::new(), "users/").expect("wraps");
    let long = "k".repeat(Key::INLINE);
    for name in ["1", long.as_str()] {
        users.set(name, "v").await.expect("written");
        assert_eq!(users.get(name).await.expect("read").expect("there").value(), "v");
    }
    assert!(users.peek(&key("1")).is_some());
    assert!(users.peek(&key(&long)).is_none(), "it would allocate");
}

#[test]
fn a_prefix_that_is_no_namespace_is_refused() {
    for prefix in ["", "a\nb", &"p".repeat(Key::MAX_LEN)] {
        let error = Prefix::new(MemoryStore::new(), prefix).map(drop).expect_err("refused");
        assert_eq!(error.kind(), ErrorKind::Config);
    }
}
