//! What a delete sends: nothing but itself, unless it is asked whether the key existed.

use tiered_core::{Batch, Delete, Existed, Key, Store as _};

use crate::stub::{Answer, Request, Stub};

fn key(text: &str) -> Key {
    Key::new(text).expect("valid")
}

/// A bucket whose every object is there, and is deleted.
async fn full() -> Stub {
    let answer = |request: &Request, _| match request.method.as_str() {
        "HEAD" => Answer::new(200).header("etag", "\"e\""),
        "POST" => Answer::new(200).body("<DeleteResult></DeleteResult>"),
        _ => Answer::new(204),
    };
    Stub::new(answer).await
}

fn methods(stub: &Stub) -> Vec<String> {
    stub.asked().into_iter().map(|request| request.method).collect()
}

#[tokio::test]
async fn a_delete_looks_up_the_key_only_when_asked_whether_it_existed() {
    let stub = full().await;
    let store = stub.store().await;
    let deleted = store.delete(&key("k"), Delete::new()).await.expect("deleted");
    assert_eq!((deleted.existed, methods(&stub)), (Existed::Unknown, vec!["DELETE".to_owned()]));
    let stub = full().await;
    let deleted =
        stub.store().await.delete(&key("k"), Delete::new().report_existed()).await.expect("deleted");
    assert_eq!(
        (deleted.existed, methods(&stub)),
        (Existed::Yes, vec!["HEAD".to_owned(), "DELETE".to_owned()])
    );
}

#[tokio::test]
async fn a_batch_of_deletes_looks_up_keys_only_when_asked_whether_they_existed() {
    let stub = full().await;
    let keys = ["a", "b", "c"];
    let batch =
        keys.iter().fold(Batch::new().best_effort(), |batch, name| batch.delete(key(name), Delete::new()));
    // One of them twice: the first is replaced by the second.
    let batch = batch.delete(key("a"), Delete::new());
    let outcomes = stub.store().await.apply(batch).await.expect("applies");
    assert!(outcomes.len() == 4 && outcomes.iter().all(Result::is_ok));
    assert_eq!(methods(&stub), ["POST"]);
    let stub = full().await;
    let batch = Batch::new().best_effort().delete(key("a"), Delete::new().report_existed());
    let batch = batch.delete(key("b"), Delete::new());
    stub.store().await.apply(batch).await.expect("applies");
    assert_eq!(methods(&stub), ["HEAD", "POST"]);
}
