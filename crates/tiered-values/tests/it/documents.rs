//! Documents: each change is one write of the whole; the faults of the original.

use std::sync::Arc;

use serde_json::{Value, json};
use tiered_core::{MemoryStore, Store, StoreExt as _, TieredStore};
use tiered_values::{Documents, Error, Json, MAX_DOCUMENT_DEPTH, Typed};

use crate::stacks;

fn count(old: Option<&Value>) -> Value {
    json!(old.and_then(Value::as_u64).unwrap_or(0) + 1)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_times_twenty_increments_give_a_hundred_on_every_stack() {
    for stack in stacks::all().await {
        let documents = Documents::new(stack.store.clone()).expect("valid");
        let tasks = (0..5).map(|_| {
            let documents = documents.clone();
            tokio::runtime::Handle::current().spawn(async move {
                for _ in 0..20 {
                    documents.update_in("d", "/deep/n", count).await.expect("updated");
                }
            })
        });
        for task in tasks.collect::<Vec<_>>() {
            task.await.expect("no panic");
        }
        assert_eq!(documents.get_in("d", "/deep/n").await.expect("read"), Some(json!(100)), "{}", stack.name);
        assert_eq!(
            documents.values().get_authoritative("d").await.expect("read"),
            Some(json!({ "deep": { "n": 100 } })),
            "{}",
            stack.name
        );
        stack.close().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changes_of_different_parts_never_undo_each_other() {
    let documents = Documents::new(MemoryStore::new()).expect("valid");
    let tasks = (0..8).map(|task: u32| {
        let documents = documents.clone();
        tokio::runtime::Handle::current().spawn(async move {
            for round in 0..10_u32 {
                documents
                    .assoc_in("d", [task.to_string(), round.to_string()], json!(round))
                    .await
                    .expect("set");
                if round % 2 == 1 {
                    let gone = documents.dissoc_in("d", [task.to_string(), (round - 1).to_string()]).await;
                    assert_eq!(gone.expect("removed"), Some(json!(round - 1)));
                }
            }
        })
    });
    for task in tasks.collect::<Vec<_>>() {
        task.await.expect("no panic");
    }
    let document = documents.get("d").await.expect("read").expect("there");
    for task in 0..8 {
        let part = document.get(task.to_string()).expect("there");
        assert_eq!(*part, json!({ "1": 1, "3": 3, "5": 5, "7": 7, "9": 9 }));
    }
}

/// A frontend over a backend that has a document already.
async fn cold() -> (Arc<MemoryStore>, Arc<MemoryStore>, Documents) {
    let (front, back) = (Arc::new(MemoryStore::new()), Arc::new(MemoryStore::new()));
    let before = Documents::new(back.clone()).expect("valid");
    before.assoc_in("d", "", json!({ "a": { "b": 1 }, "c": false, "n": null })).await.expect("written");
    let store = TieredStore::builder(front.clone(), back.clone()).build().await.expect("builds");
    (front, back, Documents::new(store).expect("valid"))
}

async fn whole(store: &Arc<MemoryStore>) -> Option<Value> {
    Typed::<Value>::new(store.clone(), Json).expect("valid").get("d").await.expect("read")
}

/// konserve: "reading one nested field caches the fragment as the whole value".
#[tokio::test]
async fn reading_a_field_caches_the_whole_document() {
    let (front, back, documents) = cold().await;
    assert_eq!(documents.get_in("d", "/a/b").await.expect("read"), Some(json!(1)));
    assert_eq!(documents.get("d").await.expect("read"), whole(&back).await);
    documents.values().store().flush().await.expect("flushed");
    assert_eq!(whole(&front).await, whole(&back).await);
}

/// konserve: "reading an absent one caches nil".
#[tokio::test]
async fn reading_an_absent_path_or_document_caches_nothing() {
    let (front, back, documents) = cold().await;
    assert_eq!(documents.get_in("d", "/a/x").await.expect("read"), None);
    assert_eq!(documents.get("d").await.expect("read"), whole(&back).await);
    assert_eq!(documents.get_in("absent", "/a").await.expect("read"), None);
    assert!(front.get("absent").await.expect("read").is_none());
    let beside = Documents::new(back).expect("valid");
    beside.assoc_in("absent", "/a", json!(1)).await.expect("written");
    assert_eq!(documents.get_in("absent", "/a").await.expect("read"), Some(json!(1)));
}

/// konserve: "a nested write to a cold frontend truncates the value".
#[tokio::test]
async fn a_nested_write_over_a_cold_frontend_keeps_the_rest() {
    let (front, back, documents) = cold().await;
    assert_eq!(documents.assoc_in("d", "/a/x", json!(2)).await.expect("written"), None);
    let expected = Some(json!({ "a": { "b": 1, "x": 2 }, "c": false, "n": null }));
    assert_eq!(documents.get("d").await.expect("read"), expected);
    assert_eq!((whole(&front).await, whole(&back).await), (expected.clone(), expected));
}

/// konserve: "`update-in` runs its function on both tiers and they diverge".
#[tokio::test]
async fn an_update_runs_its_function_once_and_the_tiers_agree() {
    let (front, back, documents) = cold().await;
    for round in 1..=3 {
        let mut calls = 0;
        let change = |_: Option<&Value>| {
            calls += 1;
            json!(format!("{round}, call {calls}"))
        };
        let (_, new) = documents.update_in("d", "/a/b", change).await.expect("updated");
        assert_eq!((calls, new), (1, json!(format!("{round}, call 1"))));
        assert_eq!(whole(&front).await, whole(&back).await);
    }
}

/// konserve: "stored nil or false counts as a miss".
#[tokio::test]
async fn null_and_false_at_a_path_are_values() {
    let (_, _, documents) = cold().await;
    assert_eq!(documents.get_in("d", "/c").await.expect("read"), Some(json!(false)));
    assert_eq!(documents.get_in("d", "/n").await.expect("read"), Some(Value::Null));
    let (old, _) = documents.update_in("d", "/n", |old| json!([old.cloned()])).await.expect("updated");
    assert_eq!(old, Some(Value::Null));
    assert_eq!(documents.dissoc_in("d", "/c").await.expect("removed"), Some(json!(false)));
    assert_eq!(documents.dissoc_in("d", "/c").await.expect("absent"), None);
}

#[tokio::test]
async fn a_path_through_a_scalar_is_an_error_that_says_where_and_nothing_is_written() {
    let store = Arc::new(MemoryStore::new());
    let documents = Documents::new(store.clone()).expect("valid");
    documents.assoc_in("d", "", json!({ "a": { "b": "text" }, "n": null })).await.expect("written");
    let version = store.get("d").await.expect("read").expect("there").version().clone();
    let errors = [
        documents.get_in("d", "/a/b/c").await.map(drop),
        documents.assoc_in("d", "/a/b/c", json!(1)).await.map(drop),
        documents.update_in("d", "/a/b/c/d", |_| json!(1)).await.map(drop),
        documents.dissoc_in("d", "/a/b/c").await.map(drop),
    ];
    for error in errors {
        let error = error.expect_err("a text has no members");
        assert!(matches!(&error, Error::Path { at, .. } if at == "/a/b"), "{error}");
        assert!(
            error.to_string().contains("\"d\"") && error.to_string().contains("through a text"),
            "{error}"
        );
        assert!(!error.to_string().contains("text\""), "values stay out of errors");
    }
    assert!(documents.assoc_in("d", "/n/x", json!(1)).await.is_err(), "null has no members");
    assert_eq!(*store.get("d").await.expect("read").expect("there").version(), version);
}

#[tokio::test]
async fn a_document_that_could_not_be_read_back_is_not_written() {
    let documents = Documents::new(MemoryStore::new()).expect("valid");
    let segments = |depth| vec!["x"; depth];
    documents.assoc_in("d", segments(MAX_DOCUMENT_DEPTH), json!(1)).await.expect("written");
    assert_eq!(documents.get_in("d", segments(MAX_DOCUMENT_DEPTH)).await.expect("read"), Some(json!(1)));
    let deeper = documents.assoc_in("d", segments(MAX_DOCUMENT_DEPTH), json!([])).await;
    assert!(matches!(deeper, Err(Error::Path { .. })), "{deeper:?}");
    let patch = segments(MAX_DOCUMENT_DEPTH + 1).iter().fold(json!(1), |inner, name| json!({ *name: inner }));
    assert!(documents.merge_patch("e", &patch).await.is_err());
    assert_eq!(documents.get("e").await.expect("read"), None);
    // Longer than a stack could drop what would be made on the way.
    let long = "/a".repeat(200_000);
    let assoc = documents.assoc_in("e", long.as_str(), json!(1)).await;
    assert!(matches!(assoc, Err(Error::Path { .. })), "{assoc:?}");
    let update = documents.update_in("e", long.as_str(), |_| json!(1)).await;
    assert!(matches!(update, Err(Error::Path { .. })), "{update:?}");
    assert_eq!(documents.get("e").await.expect("read"), None);
}

#[tokio::test]
async fn numbers_are_the_same_after_a_change_of_another_part() {
    let documents = Documents::new(MemoryStore::new()).expect("valid");
    let number = 31.245_270_191_439_438_f64;
    documents.assoc_in("d", "/x", json!(number)).await.expect("written");
    documents.assoc_in("d", "/y", json!(1)).await.expect("written");
    let read = documents.get_in("d", "/x").await.expect("read").and_then(|read| read.as_f64());
    assert_eq!(read.map(f64::to_bits), Some(number.to_bits()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_merge_patch_and_a_removal_work_on_every_stack() {
    for stack in stacks::all().await {
        let documents = Documents::new(stack.store.clone()).expect("valid");
        let (old, new) =
            documents.merge_patch("d", &json!({ "a": { "b": 1, "c": null } })).await.expect("patched");
        assert_eq!((old, new), (None, json!({ "a": { "b": 1 } })), "{}", stack.name);
        let (old, _) = documents.merge_patch("d", &json!({ "a": { "b": null } })).await.expect("patched");
        assert_eq!(old, Some(json!({ "a": { "b": 1 } })), "{}", stack.name);
        assert_eq!(documents.dissoc_in("d", "").await.expect("removed"), Some(json!({ "a": {} })));
        assert_eq!(documents.dissoc_in("d", "").await.expect("absent"), None, "{}", stack.name);
        assert_eq!(documents.get("d").await.expect("read"), None, "{}", stack.name);
        stack.close().await;
    }
}
