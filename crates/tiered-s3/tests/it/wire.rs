//! Faults on the wire, between the adapter and the real server, and answers that no server gives on demand.

use std::time::Duration;

use tiered_core::{Applied, Batch, Delete, ErrorKind, Feature, Key, Outcome, Put, Store as _, StoreExt as _};
use tiered_s3::{BulkDelete, S3Store};
use tiered_services::{Mode, Proxy, Service};

use crate::place::{config, prefix};

/// Long enough for a server that serves one request after the other, beside other programs.
const TIMEOUT: Duration = Duration::from_secs(5);

/// A store behind a proxy, and one beside it.
struct Wire {
    proxy: Proxy,
    store: S3Store,
    beside: S3Store,
}

impl Wire {
    async fn new() -> Self {
        Self::with(BulkDelete::Auto).await
    }

    async fn with(bulk: BulkDelete) -> Self {
        let prefix = prefix();
        let beside = config(&Service::S3.required(), &prefix).await.open().await.expect("opens");
        let proxy = Proxy::start(&Service::S3.address()).await.expect("listens");
        let endpoint = format!("http://{}", proxy.address());
        let store =
            config(&endpoint, &prefix).await.timeout(TIMEOUT).bulk_delete(bulk).open().await.expect("opens");
        Self { proxy, store, beside }
    }

    async fn value(&self, name: &str) -> Option<String> {
        let entry = self.beside.get(&key(name)).await.expect("reads")?;
        Some(String::from_utf8_lossy(entry.value()).into_owned())
    }

    async fn is_usable(&self) {
        self.proxy.set(Mode::Pass);
        self.store.put(&key("after"), Put::new("after")).await.expect("the store works again");
        assert_eq!(self.value("after").await.as_deref(), Some("after"));
    }
}

fn key(text: &str) -> Key {
    Key::new(text).expect("valid")
}

const SLOW_DOWN: &str = "HTTP/1.1 503 Slow Down\r\ncontent-type: application/xml\r\ncontent-length: 81\r\nconnection: close\r\n\r\n<Error><Code>SlowDown</Code><Message>Please reduce your rate.</Message></Error>\r\n";
const BROKEN: &str = "HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
const CONFLICT: &str = "HTTP/1.1 409 Conflict\r\ncontent-type: application/xml\r\ncontent-length: 61\r\nconnection: close\r\n\r\n<Error><Code>ConditionalRequestConflict</Code></Error>       ";
const UNKNOWN_WAY: &str = "HTTP/1.1 400 Bad Request\r\ncontent-type: application/xml\r\ncontent-length: 49\r\nconnection: close\r\n\r\n<Error><Code>MissingContentMD5</Code></Error>    ";

/// A gateway's word, which the server may not share.
const GATEWAY: &str = "HTTP/1.1 499 Client Closed Request\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
const LATE: &str = "HTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";

#[tokio::test]
async fn a_conditional_write_whose_answer_was_lost_recognises_its_own_version() {
    let wire = Wire::new().await;
    // The write takes effect, its answer is swallowed, the second attempt is refused with 412.
    wire.proxy.next(Mode::SwallowAnswers);
    wire.store.put(&key("k"), Put::new("first").if_absent()).await.expect("recognised");
    assert_eq!(wire.value("k").await.as_deref(), Some("first"));
    let version = wire.store.get(&key("k")).await.expect("reads").expect("there").version().clone();
    // One look, then the write.
    wire.proxy.next(Mode::Pass);
    wire.proxy.next(Mode::SwallowAnswers);
    wire.store.put(&key("k"), Put::new("second").if_version(version)).await.expect("recognised");
    assert_eq!(wire.value("k").await.as_deref(), Some("second"));
    wire.proxy.next(Mode::Pass);
    wire.proxy.next(Mode::SwallowAnswers);
    assert_eq!(
        wire.store.delete(&key("k"), Delete::new().report_existed()).await.expect("recognised").existed,
        tiered_core::Existed::Yes
    );
    assert_eq!(wire.value("k").await, None);
}

#[tokio::test]
async fn a_conditional_write_overwritten_before_it_is_recognised_has_an_unknown_outcome() {
    let wire = Wire::new().await;
    wire.proxy.next(Mode::SwallowAnswers);
    let (ours, theirs) =
        tokio::join!(async { wire.store.put(&key("k"), Put::new("ours").if_absent()).await }, async {
            while wire.value("k").await.is_none() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            wire.beside.put(&key("k"), Put::new("theirs")).await
        });
    theirs.expect("written");
    // It took effect and was removed again: neither `Ok` nor `NotApplied` would be true.
    let error = ours.expect_err("another one is there");
    assert_eq!(
        (error.kind(), error.write_outcome()),
        (ErrorKind::PreconditionFailed, Outcome::Unknown),
        "{error}"
    );
}

#[tokio::test]
async fn a_write_that_another_process_undid_is_not_sent_again() {
    let wire = Wire::new().await;
    wire.proxy.next(Mode::SwallowAnswers);
    let (ours, ()) =
        tokio::join!(async { wire.store.put(&key("k"), Put::new("ours").if_absent()).await }, async {
            while wire.value("k").await.is_none() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            wire.beside.delete(&key("k"), Delete::new()).await.expect("deleted");
        });
    assert_eq!(ours.expect_err("unknown outcome").write_outcome(), Outcome::Unknown);
    assert_eq!(wire.value("k").await, None, "their delete stands");
}

#[tokio::test]
async fn a_delete_followed_by_another_processs_write_is_not_sent_again() {
    let wire = Wire::new().await;
    wire.beside.put(&key("k"), Put::new("first")).await.expect("written");
    // One look, then the delete.
    wire.proxy.next(Mode::Pass);
    wire.proxy.next(Mode::SwallowAnswers);
    let (ours, ()) =
        tokio::join!(async { wire.store.delete(&key("k"), Delete::new().report_existed()).await }, async {
            while wire.value("k").await.is_some() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            wire.beside.put(&key("k"), Put::new("theirs")).await.expect("written");
        });
    assert_eq!(ours.expect("it was ours, or would have been").existed, tiered_core::Existed::Yes);
    assert_eq!(wire.value("k").await.as_deref(), Some("theirs"));
}

#[tokio::test]
async fn an_unconditional_write_whose_answer_was_lost_has_an_unknown_outcome_and_is_not_sent_again() {
    let wire = Wire::new().await;
    wire.proxy.set(Mode::SwallowAnswers);
    let error = wire.store.put(&key("k"), Put::new("x")).await.expect_err("no answer");
    assert_eq!((error.kind(), error.write_outcome()), (ErrorKind::TimedOut, Outcome::Unknown));
    assert_eq!(wire.value("k").await.as_deref(), Some("x"));
    wire.is_usable().await;
}

#[tokio::test]
async fn an_unconditional_delete_whose_answer_was_lost_has_an_unknown_outcome_and_is_not_sent_again() {
    let wire = Wire::new().await;
    wire.beside.put(&key("k"), Put::new("x")).await.expect("written");
    wire.proxy.next(Mode::Truncate(0));
    let error = wire.store.delete(&key("k"), Delete::new()).await.expect_err("no answer");
    assert_eq!((error.kind(), error.write_outcome()), (ErrorKind::Unavailable, Outcome::Unknown), "{error}");
    assert_eq!(wire.value("k").await, None, "it took effect");
    wire.proxy.next(Mode::Answer(SLOW_DOWN));
    wire.store.delete(&key("k"), Delete::new()).await.expect("sent again, since nothing was done");
    assert_eq!(wire.proxy.left(), 0);
}

#[tokio::test]
async fn a_delayed_conditional_write_does_not_overtake_a_later_one() {
    let wire = Wire::new().await;
    let version = wire.beside.put(&key("k"), Put::new("before")).await.expect("written").version;
    // The look passes, every attempt to write is held.
    wire.proxy.next(Mode::Pass);
    wire.proxy.set(Mode::HoldRequests);
    let error = wire.store.put(&key("k"), Put::new("delayed").if_version(version)).await.expect_err("held");
    assert_eq!(error.write_outcome(), Outcome::Unknown, "{error}");
    wire.beside.put(&key("k"), Put::new("later")).await.expect("written");
    wire.proxy.set(Mode::Pass);
    tokio::time::sleep(TIMEOUT).await;
    assert_eq!(wire.value("k").await.as_deref(), Some("later"));
    wire.is_usable().await;
}

#[tokio::test]
async fn a_request_answered_by_slow_down_or_conflict_is_retried() {
    let wire = Wire::new().await;
    for answer in [SLOW_DOWN, CONFLICT] {
        wire.proxy.next(Mode::Answer(answer));
        wire.store.put(&key("k"), Put::new(answer)).await.expect("written in the end");
        wire.proxy.next(Mode::Answer(answer));
        wire.store
            .put(&key(answer.get(9..12).expect("a status")), Put::new("x").if_absent())
            .await
            .expect("written");
        assert_eq!(wire.proxy.left(), 0);
    }
    wire.proxy.next(Mode::Answer(BROKEN));
    assert!(wire.store.get(&key("k")).await.expect("read in the end").is_some());
    // It may have taken effect before the server broke.
    wire.proxy.next(Mode::Answer(BROKEN));
    let error = wire.store.put(&key("k"), Put::new("x")).await.expect_err("broken");
    assert_eq!((error.kind(), error.write_outcome()), (ErrorKind::Unavailable, Outcome::Unknown), "{error}");
    for _ in 0..3 {
        wire.proxy.next(Mode::Answer(SLOW_DOWN));
    }
    let error = wire.store.put(&key("k"), Put::new("y")).await.expect_err("for too long");
    assert_eq!(
        (error.kind(), error.write_outcome()),
        (ErrorKind::Unavailable, Outcome::NotApplied),
        "{error}"
    );
    assert!(error.chain().contains("SlowDown"), "{}", error.chain());
    wire.is_usable().await;
}

#[tokio::test]
async fn an_unfamiliar_answer_to_a_write_has_an_unknown_outcome() {
    let wire = Wire::new().await;
    for (answer, outcome) in
        [(UNKNOWN_WAY, Outcome::NotApplied), (GATEWAY, Outcome::Unknown), (LATE, Outcome::Unknown)]
    {
        wire.proxy.next(Mode::Answer(answer));
        let error = wire.store.put(&key("k"), Put::new("x")).await.expect_err("refused");
        assert_eq!(error.write_outcome(), outcome, "{error}");
    }
}

#[tokio::test]
async fn a_truncated_body_is_read_again() {
    let wire = Wire::new().await;
    let value = "x".repeat(100_000);
    wire.store.put(&key("k"), Put::new(value.clone())).await.expect("written");
    // More often than a failed request is repeated.
    for _ in 0..5 {
        wire.proxy.next(Mode::Truncate(5_000));
    }
    assert_eq!(
        wire.store.get(&key("k")).await.expect("read in the end").expect("there").value(),
        value.as_str()
    );
    wire.proxy.set(Mode::Truncate(5_000));
    let error = wire.store.get(&key("k")).await.expect_err("always cut off");
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{}", error.chain());
    wire.is_usable().await;
}

#[tokio::test]
async fn resets_lost_connections_and_slow_networks_end_within_the_deadline() {
    let wire = Wire::new().await;
    wire.store.put(&key("k"), Put::new("x")).await.expect("written");
    wire.proxy.set(Mode::Silent);
    let error = wire.store.get(&key("k")).await.expect_err("nothing gets through");
    assert_eq!(error.kind(), ErrorKind::TimedOut, "{error}");
    let error = wire.store.put(&key("k"), Put::new("y")).await.expect_err("nothing gets through");
    assert_eq!(error.write_outcome(), Outcome::Unknown, "{error}");
    wire.proxy.set(Mode::Drip(64));
    assert_eq!(wire.store.get(&key("k")).await.expect("slow").expect("there").value(), "x");
    wire.proxy.set(Mode::Pass);
    wire.proxy.refuse(true);
    wire.proxy.cut();
    let error = wire.store.put(&key("k"), Put::new("y")).await.expect_err("down");
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    wire.proxy.refuse(false);
    wire.is_usable().await;
}

#[tokio::test]
async fn a_write_whose_connection_breaks_has_an_unknown_outcome() {
    let wire = Wire::new().await;
    // The request arrives, and the connection is closed instead of an answer.
    wire.proxy.next(Mode::Truncate(0));
    let error = wire.store.put(&key("k"), Put::new("x")).await.expect_err("no answer");
    assert_eq!((error.kind(), error.write_outcome()), (ErrorKind::Unavailable, Outcome::Unknown), "{error}");
    assert!(error.message().contains("the answer is lost"), "{}", error.chain());
    assert!(!error.chain().contains("credentials"), "{}", error.chain());
    assert_eq!(wire.value("k").await.as_deref(), Some("x"));
    wire.proxy.next(Mode::Truncate(20));
    let error = wire.store.put(&key("k"), Put::new("y")).await.expect_err("half an answer");
    assert_eq!((error.kind(), error.write_outcome()), (ErrorKind::Unavailable, Outcome::Unknown), "{error}");
    assert!(error.message().contains("the answer is lost"), "{}", error.chain());
    wire.is_usable().await;
}

#[tokio::test]
async fn a_server_that_ignores_conditions_is_detected_at_opening() {
    let proxy = Proxy::start(&Service::S3.address()).await.expect("listens");
    proxy.set(Mode::WithoutConditions);
    let endpoint = format!("http://{}", proxy.address());
    let store = config(&endpoint, &prefix()).await.open().await.expect("opens");
    let capabilities = store.capabilities();
    assert!(!capabilities.has(Feature::ConditionalPut) && !capabilities.has(Feature::ConditionalDelete));
    store.put(&key("k"), Put::new("x")).await.expect("written");
    let error = store.put(&key("k"), Put::new("y").if_absent()).await.expect_err("unsupported");
    assert_eq!(
        (error.kind(), error.write_outcome()),
        (ErrorKind::Unsupported, Outcome::NotApplied),
        "{error}"
    );
    assert_eq!(
        store.delete(&key("k"), Delete::new().report_existed()).await.expect("deleted").existed,
        tiered_core::Existed::Yes
    );
    assert!(store.keys("").await.expect("lists").is_empty(), "nothing is left of the probe");
}

#[tokio::test]
async fn a_server_that_refuses_bulk_deletes_gets_single_deletes() {
    for refusals in [1, 2] {
        let wire = Wire::new().await;
        for name in ["a", "b"] {
            wire.store.put(&key(name), Put::new("x")).await.expect("written");
        }
        for _ in 0..refusals {
            wire.proxy.next(Mode::Answer(UNKNOWN_WAY));
        }
        let batch =
            Batch::new().best_effort().delete(key("a"), Delete::new()).delete(key("b"), Delete::new());
        for outcome in wire.store.apply(batch).await.expect("applies") {
            assert!(
                matches!(outcome, Ok(Applied::Delete(deleted)) if deleted.existed == tiered_core::Existed::Unknown)
            );
        }
        assert_eq!((wire.proxy.left(), wire.value("a").await), (0, None));
    }
}

#[tokio::test]
async fn the_error_of_a_key_in_a_bulk_delete_is_reported() {
    const DENIED: &str = "HTTP/1.1 200 OK\r\ncontent-type: application/xml\r\ncontent-length: 121\r\nconnection: close\r\n\r\n<DeleteResult><Error><Key>KEY</Key><Code>AccessDenied</Code><Message>No.</Message></Error></DeleteResult>                ";
    let wire = Wire::with(BulkDelete::Crc).await;
    for name in ["a", "b"] {
        wire.store.put(&key(name), Put::new("x")).await.expect("written");
    }
    let shown = format!("{:?}", wire.store);
    let prefix =
        shown.split("s3://tiered-tests/").nth(1).and_then(|rest| rest.split('"').next()).expect("a prefix");
    let body = format!(
        "<DeleteResult><Error><Key>{prefix}b</Key><Code>AccessDenied</Code><Message>No.</Message></Error></DeleteResult>"
    );
    let (head, _) = DENIED.split_once("content-length").expect("a header");
    let answer = format!("{head}content-length: {}\r\nconnection: close\r\n\r\n{body}", body.len());
    wire.proxy.next(Mode::Answer(Box::leak(answer.into_boxed_str())));
    let batch = Batch::new().best_effort().delete(key("a"), Delete::new()).delete(key("b"), Delete::new());
    let outcomes = wire.store.apply(batch).await.expect("applies");
    assert!(matches!(outcomes.first(), Some(Ok(_))));
    let Some(Err(error)) = outcomes.get(1) else {
        return assert!(outcomes.get(1).is_none(), "b was not deleted");
    };
    assert_eq!((error.kind(), error.key()), (ErrorKind::PermissionDenied, Some(&key("b"))), "{error}");
    assert_eq!(error.write_outcome(), Outcome::NotApplied);
}
