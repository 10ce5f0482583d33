//! Bodies that are cut short, values that change while they are read, and damage: what is read again, and what it is
//! called in the end.

use std::time::Duration;

use futures_util::TryStreamExt as _;
use tiered_core::adapter::Checksum;
use tiered_core::{ErrorKind, Key, ListOptions, ReadOptions, Store as _, StoreExt as _};
use tokio::time::Instant;

use crate::stub::{Answer, Request, Stub};

fn key() -> Key {
    Key::new("k").expect("valid")
}

/// An object of ours whose headers are of `headers` and whose body is `body`.
fn object(etag: &str, headers: &str, body: &str) -> Answer {
    let checksum = Checksum::of(headers.as_bytes());
    Answer::new(200)
        .header("etag", format!("\"{etag}\""))
        .header("x-amz-meta-tiered-version", "0000000000000000000000000000002a")
        .header("x-amz-meta-tiered-modified", "5")
        .header("x-amz-meta-tiered-crc32c", format!("{checksum:?}"))
        .body(body)
}

/// The part of `body` that `request` asks for.
fn part(request: &Request, answer: Answer) -> Answer {
    let Some(range) = request.header("range").and_then(|range| range.strip_prefix("bytes=")) else {
        return answer;
    };
    let (first, last) = range.split_once('-').expect("a range");
    let (first, last): (usize, usize) = (first.parse().expect("a number"), last.parse().expect("a number"));
    let total = answer.body.len();
    let last = last.min(total - 1);
    let body = answer.body.get(first..=last).expect("within").to_vec();
    let answer = Answer { status: 206, body, ..answer };
    answer.header("content-range", format!("bytes {first}-{last}/{total}"))
}

#[tokio::test]
async fn a_value_that_changes_while_it_is_read_is_read_again() {
    // Headers of one write and the body of the next, five different times; then both of one.
    let stub = Stub::new(|_, before| {
        let (this, next) = (format!("value {before}"), format!("value {}", before + 1));
        object(&this, &this, if before < 5 { &next } else { &this })
    });
    let stub = stub.await;
    let entry = stub.store().await.get(&key()).await.expect("read in the end").expect("there");
    assert_eq!(entry.value(), "value 5");
    entry.verify().expect("whole");
}

#[tokio::test]
async fn a_read_with_headers_of_two_writes_is_repeated() {
    let stub = Stub::new(|_, before| {
        let answer = object("e", "value", "value");
        if before == 0 { answer.header("x-amz-meta-tiered-expires", "hal") } else { answer }
    });
    let stub = stub.await;
    let store = stub.store().await;
    assert_eq!(store.get(&key()).await.expect("read in the end").expect("there").value(), "value");
}

#[tokio::test]
async fn damage_that_persists_is_reported() {
    let stub = Stub::new(|_, _| object("e", "written", "damaged")).await;
    let store = stub.store().await;
    let error = store.get(&key()).await.expect_err("damaged");
    assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
    assert_eq!(stub.asked().len(), 3, "three reads saw the same");
}

#[tokio::test]
async fn a_value_that_keeps_changing_is_not_reported_as_damaged() {
    let stub =
        Stub::new(|_, before| object(&before.to_string(), "written", &format!("other {before}"))).await;
    let timeout = Duration::from_millis(400);
    let store = stub.config().timeout(timeout).open().await.expect("opens");
    let begun = Instant::now();
    let error = store.get(&key()).await.expect_err("it changes all the time");
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    assert!(error.message().contains("replaced while it was read"), "{error}");
    assert!(begun.elapsed() >= timeout, "the time was used");
    assert!(stub.asked().len() > 3);
}

#[tokio::test]
async fn a_truncated_body_is_read_again_until_it_is_whole() {
    let stub = Stub::new(|_, before| {
        let answer = object("e", "a value", "a value");
        if before < 6 { answer.cut(before) } else { answer }
    });
    let stub = stub.await;
    let store = stub.store().await;
    assert_eq!(store.get(&key()).await.expect("read in the end").expect("there").value(), "a value");
    let stub = Stub::new(|_, _| object("e", "a value", "a value").cut(3)).await;
    let store = stub.config().timeout(Duration::from_millis(200)).open().await.expect("opens");
    let error = store.get(&key()).await.expect_err("always cut off");
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{}", error.chain());
    assert!(error.message().contains("within the value"), "{}", error.chain());
}

#[tokio::test]
async fn a_truncated_mark_is_read_again() {
    let stub = Stub::new(|_, before| {
        let answer = object("e", "a mark", "a mark");
        if before < 6 { answer.cut(before) } else { answer }
    });
    let stub = stub.await;
    let mark = stub.store().await.mark("m").await.expect("read in the end");
    assert_eq!(mark.as_deref(), Some(&b"a mark"[..]));
}

#[tokio::test]
async fn a_range_the_server_did_not_honour_is_not_returned() {
    // The whole object instead of a part of it.
    let whole = Stub::new(|_, _| object("e", "0123456789", "0123456789")).await;
    let entry = whole.store().await.get_range(&key(), 3..6).await.expect("reads").expect("there");
    assert_eq!(entry.value(), "345");
    // Another part, then a part that is too short, then the right one.
    let other = Stub::new(|request, before| {
        let answer = part(request, object("e", "0123456789", "0123456789"));
        match before {
            0 => Answer { headers: object("e", "0123456789", "").headers, ..answer }
                .header("content-range", "bytes 5-7/10"),
            1 => Answer { body: b"34".to_vec(), ..answer },
            _ => answer,
        }
    });
    let other = other.await;
    let entry = other.store().await.get_range(&key(), 3..6).await.expect("reads").expect("there");
    assert_eq!((entry.value().as_ref(), other.asked().len()), (&b"345"[..], 3));
}

#[tokio::test]
async fn an_object_without_a_checksum_is_not_read_whole_to_compute_one() {
    let value = "0123456789";
    let stub =
        Stub::new(move |request, _| part(request, Answer::new(200).header("etag", "\"e\"").body(value)));
    let stub = stub.await;
    let store = stub.store().await;
    let head = store.head(&key(), &ReadOptions::new()).await.expect("reads").expect("there");
    assert_eq!((head.version.as_token(), head.checksum), (Some("\"e\""), None));
    let part = store.get_range(&key(), 3..6).await.expect("reads").expect("there");
    assert_eq!((part.value().as_ref(), part.metadata().checksum), (&b"345"[..], None));
    let (metadata, _) = store.read_stream(&key(), &ReadOptions::new()).await.expect("reads").expect("there");
    assert_eq!(metadata.checksum, None);
    // One for the metadata, one for the part, two for the stream.
    assert_eq!(stub.asked().len(), 4);
    let whole = store.get(&key()).await.expect("reads").expect("there");
    assert_eq!(whole.metadata().checksum, Some(Checksum::of(value.as_bytes())));
}

#[tokio::test]
async fn an_interrupted_stream_continues_where_it_stopped() {
    let value = "0123456789".repeat(1_000);
    let served = value.clone();
    let stub = Stub::new(move |request, before| {
        let answer = part(request, object("e", &served, &served));
        // Each of them breaks off, until the rest is small.
        if before > 0 && answer.body.len() > 3_000 { answer.cut(2_500) } else { answer }
    });
    let stub = stub.await;
    let (_, body) =
        stub.store().await.read_stream(&key(), &ReadOptions::new()).await.expect("reads").expect("there");
    let parts: Vec<_> = body.try_collect().await.expect("streams to its end");
    assert!(parts.concat() == value.as_bytes());
    let asked = stub.asked();
    let ranges: Vec<_> = asked.iter().filter_map(|request| request.header("range")).collect();
    assert_eq!(ranges, ["bytes=0-9999", "bytes=2500-9999", "bytes=5000-9999", "bytes=7500-9999"]);
    assert!(asked.iter().skip(1).all(|request| request.header("if-match") == Some("\"e\"")), "{asked:?}");
}

#[tokio::test]
async fn a_stream_of_a_replaced_object_ends_with_an_error() {
    let stub = Stub::new(|request, before| {
        let answer = part(request, object("e", "0123456789", "0123456789"));
        match before {
            0 => answer,
            1 => answer.cut(4),
            _ => Answer::new(412),
        }
    });
    let stub = stub.await;
    let (_, body) =
        stub.store().await.read_stream(&key(), &ReadOptions::new()).await.expect("reads").expect("there");
    let error = body.try_collect::<Vec<_>>().await.expect_err("replaced");
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    assert!(error.message().contains("replaced while it was read"), "{error}");
}

#[tokio::test]
async fn a_stream_with_a_wrong_checksum_is_damaged_unless_the_object_was_replaced() {
    let stream = async |stub: &Stub| {
        let store = stub.store().await;
        let (_, body) = store.read_stream(&key(), &ReadOptions::new()).await.expect("reads").expect("there");
        body.try_collect::<Vec<_>>().await.expect_err("another checksum").kind()
    };
    let damaged = Stub::new(|request, _| part(request, object("e", "written", "damaged"))).await;
    assert_eq!(stream(&damaged).await, ErrorKind::Corrupt);
    let replaced = Stub::new(|request, before| {
        let etag = if before < 2 { "e" } else { "f" };
        part(request, object(etag, "written", "another"))
    });
    assert_eq!(stream(&replaced.await).await, ErrorKind::Unavailable);
    // Only the one answer was wrong.
    let once = Stub::new(|request, before| {
        part(request, object("e", "written", if before < 2 { "another" } else { "written" }))
    });
    assert_eq!(stream(&once.await).await, ErrorKind::Unavailable);
}

#[tokio::test]
async fn the_error_of_an_interrupted_answer_shows_no_header() {
    let listing = "<ListBucketResult><Name>bucket</Name></ListBucketResult>";
    let stub =
        Stub::new(move |_, _| Answer::new(200).header("set-cookie", "hunter2").body(listing).cut(20)).await;
    let store = stub.store().await;
    let mut listed = store.list(ListOptions::new().prefix("x"));
    let error = listed.try_next().await.expect_err("half a listing");
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    assert!(error.message().contains("it is truncated"), "{}", error.chain());
    let shown = format!("{} {error:?}", error.chain());
    assert!(!shown.contains("hunter2"), "{shown}");
}
