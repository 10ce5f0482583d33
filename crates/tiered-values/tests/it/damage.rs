//! Logs that are damaged, and the bytes of format 1.

use std::sync::Arc;

use bytes::Bytes;
use tiered_core::{MemoryStore, Store, StoreExt as _};
use tiered_values::{Error, Log, ordered};

use crate::logs::log_of;

async fn nine() -> (Arc<MemoryStore>, Log) {
    let store = Arc::new(MemoryStore::new());
    let log = log_of(store.clone(), 3);
    for number in 0..9_u64 {
        log.append(number.to_string()).await.expect("appended");
    }
    (store, log)
}

fn damaged_key<T: std::fmt::Debug>(answer: Result<T, Error>) -> String {
    let error = answer.expect_err("damaged");
    assert!(matches!(error, Error::Damaged { .. }), "{error}");
    tiered_core::Error::from(error).damaged_key().expect("it names the key").to_string()
}

const MIDDLE: &str = "log/segments/0000000000000003";

#[tokio::test]
async fn a_damaged_segment_is_an_error_that_names_it_and_the_rest_is_read() {
    for damage in [b"".as_slice(), b"something else", b"TLOG\x02 of a later version", b"TLOG\x01 cut"] {
        let (store, _) = nine().await;
        store.set(MIDDLE, Bytes::from_static(damage)).await.expect("written");
        let log = log_of(store.clone(), 3);
        assert_eq!(damaged_key(log.read(0, 9).await), MIDDLE);
        assert_eq!(damaged_key(log.read(4, 1).await), MIDDLE);
        assert_eq!(log.read(0, 3).await.expect("before it").len(), 3);
        assert_eq!(log.read(6, 9).await.expect("behind it").len(), 3);
        assert_eq!(log.append("9").await.expect("appended"), 9);
        assert_eq!(log.trim(6).await.expect("a damaged segment can be trimmed"), 6);
        assert_eq!(log.read(6, 9).await.expect("read").len(), 4);
    }
}

#[tokio::test]
async fn a_missing_segment_is_an_error_that_names_it_and_is_never_filled() {
    let (store, _) = nine().await;
    store.delete(&MIDDLE.parse().expect("valid"), tiered_core::Delete::new()).await.expect("deleted");
    let log = log_of(store.clone(), 3);
    assert_eq!(damaged_key(log.read(0, 9).await), MIDDLE);
    assert_eq!(damaged_key(log.read(4, 9).await), MIDDLE);
    assert_eq!(log.append("9").await.expect("at the end"), 9);

    let (store, log) = nine().await;
    log.trim(3).await.expect("trimmed");
    store.delete(&MIDDLE.parse().expect("valid"), tiered_core::Delete::new()).await.expect("deleted");
    assert_eq!(damaged_key(log_of(store, 3).read(3, 9).await), MIDDLE, "the first one");

    let (store, log) = nine().await;
    log.trim(6).await.expect("trimmed");
    store
        .delete(&"log/segments/0000000000000006".parse().expect("valid"), tiered_core::Delete::new())
        .await
        .expect("deleted");
    assert_eq!(damaged_key(log_of(store.clone(), 3).append("x").await), "log/head", "the only one");
    assert_eq!(damaged_key(log_of(store, 3).read(6, 1).await), "log/segments/0000000000000006");
}

#[tokio::test]
async fn a_head_that_is_none_is_an_error_that_names_it() {
    let (store, log) = nine().await;
    store.set("log/head", "not a head").await.expect("written");
    assert_eq!(damaged_key(log.read(0, 1).await), "log/head");
    assert_eq!(damaged_key(log.trim(3).await), "log/head");
    assert_eq!(damaged_key(log.range().await), "log/head");
    assert_eq!(store.get("log/head").await.expect("read").expect("there").value(), "not a head");
}

/// A log as format 1 has it: read, and gone on with, by every later version.
#[tokio::test]
async fn a_log_in_the_bytes_of_format_1_is_read() {
    let store = Arc::new(MemoryStore::new());
    let golden = [
        ("log/head", "544c474801000000000000012c3722456e"),
        (
            "log/segments/000000000000012c",
            "544c4f4701010000000000000000000000000000abcd000000000000012c00000002\
             00000000000000000000000000000001000000036f6e650000000000000000000000000000000200000000804ffdee",
        ),
    ];
    for (key, hex) in golden {
        store.set(key, ordered::to_bytes(hex).expect("hexadecimal")).await.expect("written");
    }
    let log = log_of(store.clone(), 3);
    assert_eq!(log.range().await.expect("a range"), 300..302);
    assert_eq!(log.read(300, 9).await.expect("read"), [(300, "one".into()), (301, "".into())]);
    assert_eq!(log.append("three").await.expect("appended"), 302);
    let keys: Vec<String> =
        store.keys("log/").await.expect("listed").iter().map(ToString::to_string).collect();
    assert_eq!(keys, ["log/head", "log/segments/000000000000012c", "log/segments/000000000000012e"]);
}
