//! Streams under a precondition: sent in parts, and completed under it where the server can.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use tiered_core::{
    ByteStream, ErrorKind, Feature, Key, Outcome, Put, Result, Store as _, StoreExt as _, Timestamp, Written,
};
use tiered_s3::{Conditional, Layout, S3Store};
use tiered_services::{Mode, Proxy, Service};
use tokio::sync::oneshot;

use crate::place::{BUCKET, client, config, prefix};
use crate::shelf::shelf;
use crate::stub::{Answer, Request, Stub};

const PART: usize = 5 << 20;

fn key(text: &str) -> Key {
    Key::new(text).expect("valid")
}

fn value(seed: u8) -> Bytes {
    (0..=250_u8).cycle().take(PART * 2 + 77).map(|byte| byte ^ seed).collect()
}

fn body(value: &Bytes) -> ByteStream {
    let parts: Vec<_> = value.chunks(700_001).map(|part| Ok(Bytes::copy_from_slice(part))).collect();
    Box::pin(stream::iter(parts))
}

/// A value whose last byte comes when it is told to.
fn waiting(value: &Bytes) -> (ByteStream, oneshot::Sender<()>) {
    let (release, released) = oneshot::channel();
    let last = value.slice(value.len() - 1..);
    let rest = stream::once(async move {
        released.await.ok();
        Ok(last)
    });
    (Box::pin(body(&value.slice(..value.len() - 1)).chain(rest)), release)
}

/// A put that has sent a part, and goes on when it is told to.
type Begun<'p> = (Pin<Box<dyn Future<Output = Result<Written>> + Send + 'p>>, oneshot::Sender<()>);

/// Polls a put until `sent` says that a part of it was sent.
async fn begin<'p>(store: &'p S3Store, key: &'p Key, put: Put, sent: impl AsyncFn() -> bool) -> Begun<'p> {
    let (body, release) = waiting(&value(1));
    let mut put = store.put_stream(key, put, body);
    for _ in 0..400 {
        let ended = tokio::time::timeout(Duration::from_millis(25), &mut put).await;
        assert!(ended.is_err(), "it ended before its body: {ended:?}");
        if sent().await {
            break;
        }
    }
    assert!(sent().await, "no part was sent");
    (put, release)
}

/// The server that is at hand, which keeps one of the two conditions.
struct Moto {
    store: S3Store,
    prefix: String,
}

impl Moto {
    async fn new() -> Self {
        let prefix = prefix();
        let config = config(&Service::S3.required(), &prefix).await.multipart(PART as u64);
        Self { store: config.open().await.expect("opens"), prefix }
    }

    /// Uploads of keys that begin so that are under way.
    async fn uploads(&self, keys: &str) -> usize {
        let other = client(&Service::S3.required());
        let uploads = other.list_multipart_uploads().bucket(BUCKET).send().await.expect("lists");
        let wanted = format!("{}{keys}", self.prefix);
        let own = |key: Option<&str>| key.is_some_and(|key| key.starts_with(&wanted));
        uploads.uploads().iter().filter(|upload| own(upload.key())).count()
    }

    async fn has_no_uploads(&self) {
        for _ in 0..200 {
            if self.uploads("").await == 0 {
                return;
            }
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
        assert_eq!(self.uploads("").await, 0, "uploads are left");
    }

    /// Whether an object was sent in parts.
    async fn is_of_parts(&self, name: &str) -> bool {
        let other = client(&Service::S3.required());
        let head = other.head_object().bucket(BUCKET).key(format!("{}{name}", self.prefix)).send().await;
        head.expect("there").e_tag().expect("an ETag").contains('-')
    }
}

#[tokio::test]
async fn a_stream_that_is_to_find_nothing_is_sent_in_parts() {
    let moto = Moto::new().await;
    let (k, first, second) = (key("k"), value(1), value(2));
    moto.store.put_stream(&k, Put::new("").if_absent(), body(&first)).await.expect("written");
    assert!(moto.is_of_parts("k").await);
    let error = moto.store.put_stream(&k, Put::new("").if_absent(), body(&second)).await.expect_err("there");
    assert_eq!((error.kind(), error.write_outcome()), (ErrorKind::PreconditionFailed, Outcome::NotApplied));
    assert!(moto.store.get(&k).await.expect("reads").is_some_and(|entry| entry.value() == &first));
    moto.has_no_uploads().await;
}

#[tokio::test]
async fn its_condition_is_judged_at_the_end() {
    let moto = Moto::new().await;
    let k = key("k");
    let sent = async || moto.uploads("k").await == 1;
    let (put, release) = begin(&moto.store, &k, Put::new("").if_absent(), sent).await;
    moto.store.put(&k, Put::new("other")).await.expect("written");
    release.send(()).expect("it waits");
    let error = put.await.expect_err("it is there");
    assert_eq!((error.kind(), error.write_outcome()), (ErrorKind::PreconditionFailed, Outcome::NotApplied));
    assert_eq!(moto.store.get(&k).await.expect("reads").expect("there").value(), "other");
    moto.has_no_uploads().await;
}

#[tokio::test]
async fn a_condition_that_uploads_do_not_keep_is_kept_by_a_put() {
    let moto = Moto::new().await;
    let k = key("k");
    let version = moto.store.put(&k, Put::new("old")).await.expect("written").version;
    let put = Put::new("").if_version(version);
    moto.store.put_stream(&k, put.clone(), body(&value(1))).await.expect("replaced");
    assert!(!moto.is_of_parts("k").await, "the server ignores If-Match at the end of an upload");
    let error = moto.store.put_stream(&k, put, body(&value(2))).await.expect_err("another version");
    assert_eq!((error.kind(), error.write_outcome()), (ErrorKind::PreconditionFailed, Outcome::NotApplied));
    assert!(moto.store.get(&k).await.expect("reads").is_some_and(|entry| entry.value() == &value(1)));
    // An object that has expired is replaced under its ETag as well.
    let expired = key("expired");
    let put = Put::new("old").expires_at(Timestamp::from_millis(1));
    moto.store.put(&expired, put).await.expect("written");
    moto.store.put_stream(&expired, Put::new("").if_absent(), body(&value(3))).await.expect("replaced");
    assert!(moto.store.get(&expired).await.expect("reads").is_some_and(|entry| entry.value() == &value(3)));
    moto.has_no_uploads().await;
}

#[tokio::test]
async fn a_server_that_ignores_conditions_of_uploads_gets_none() {
    let prefix = prefix();
    let proxy = Proxy::start(&Service::S3.address()).await.expect("listens");
    let config = config(&format!("http://{}", proxy.address()), &prefix).await.multipart(PART as u64);
    let store = config.open().await.expect("opens");
    assert!(store.capabilities().has(Feature::ConditionalPut));
    proxy.set(Mode::WithoutConditions);
    store.put_stream(&key("k"), Put::new("").if_absent(), body(&value(1))).await.expect("written");
    // It was probed by then: a put keeps the condition.
    proxy.set(Mode::Pass);
    let error = store.put_stream(&key("k"), Put::new("").if_absent(), body(&value(2))).await;
    assert_eq!(error.expect_err("there").kind(), ErrorKind::PreconditionFailed);
    store.put_stream(&key("l"), Put::new("").if_absent(), body(&value(2))).await.expect("written");
    let other = client(&Service::S3.required());
    let head = other.head_object().bucket(BUCKET).key(format!("{prefix}l")).send().await.expect("there");
    assert!(!head.e_tag().expect("an ETag").contains('-'), "it was sent as a whole");
}

async fn opened(stub: &Stub, layout: Layout) -> S3Store {
    let config = stub.config().conditional(Conditional::Probe).multipart(PART as u64).layout(layout);
    let store = config.open().await.expect("opens");
    assert!(store.capabilities().has(Feature::ConditionalPut));
    store
}

fn completions(stub: &Stub, path: &str) -> Vec<Request> {
    let is_one = |request: &Request| request.method == "POST" && request.parameter("uploadId").is_some();
    stub.asked().into_iter().filter(|request| is_one(request) && request.path.ends_with(path)).collect()
}

#[tokio::test]
async fn where_the_server_keeps_both_conditions_all_streams_are_sent_in_parts() {
    for layout in [Layout::Raw, Layout::Enveloped] {
        let stub = shelf(|_, answer| answer).await;
        let store = opened(&stub, layout).await;
        let k = key("k");
        let is = async |seed| {
            store.get(&k).await.expect("reads").is_some_and(|entry| entry.value() == &value(seed))
        };
        let first = Put::new("").if_absent().expires_at(Timestamp::from_millis(1));
        store.put_stream(&k, first, body(&value(1))).await.expect("written");
        // It has expired.
        let second = store.put_stream(&k, Put::new("").if_absent(), body(&value(2))).await.expect("replaced");
        assert!(is(2).await);
        let put = Put::new("").if_version(second.version);
        let third = store.put_stream(&k, put.clone(), body(&value(3))).await.expect("replaced").version;
        assert!(is(3).await);
        let error = store.put_stream(&k, put, body(&value(4))).await.expect_err("another version");
        assert_eq!(
            (error.kind(), error.write_outcome()),
            (ErrorKind::PreconditionFailed, Outcome::NotApplied)
        );
        let sent = async || stub.asked().iter().any(|request| request.parameter("partNumber").is_some());
        let (put, release) = begin(&store, &k, Put::new("").if_version(third), sent).await;
        store.put(&k, Put::new("other")).await.expect("written");
        release.send(()).expect("it waits");
        let error = put.await.expect_err("another version");
        assert_eq!(
            (error.kind(), error.write_outcome()),
            (ErrorKind::PreconditionFailed, Outcome::NotApplied)
        );
        assert_eq!(store.get(&k).await.expect("reads").expect("there").value(), "other");
        let conditions: Vec<_> = completions(&stub, "/k")
            .iter()
            .map(|request| (request.header("if-none-match").is_some(), request.header("if-match").is_some()))
            .collect();
        // The second met the expired object, and was completed in its place. The fourth and the fifth never got so far.
        assert_eq!(conditions, [(true, false), (true, false), (false, true), (false, true)]);
    }
}

#[tokio::test]
async fn a_completion_whose_answer_is_lost_is_looked_for() {
    let failing = Arc::new(AtomicU16::new(0));
    let status = Arc::clone(&failing);
    let stub = shelf(move |request, answer| {
        let completes = request.method == "POST" && request.parameter("uploadId").is_some();
        match status.load(Ordering::Relaxed) {
            0 => answer,
            _ if !completes || request.path.contains(".tiered/") => answer,
            status => Answer::new(status),
        }
    })
    .await;
    let store = opened(&stub, Layout::Raw).await;
    // It was carried out, and the answer says that the server failed.
    failing.store(500, Ordering::Relaxed);
    store.put_stream(&key("k"), Put::new("").if_absent(), body(&value(1))).await.expect("recognised");
    assert_eq!(completions(&stub, "/k").len(), 1);
    assert!(store.get(&key("k")).await.expect("reads").is_some_and(|entry| entry.value() == &value(1)));
    // S3 wants all parts again, and they are gone.
    failing.store(409, Ordering::Relaxed);
    let error = store.put_stream(&key("l"), Put::new("").if_absent(), body(&value(1))).await;
    let error = error.expect_err("another write is under way");
    assert_eq!(
        (error.kind(), error.write_outcome()),
        (ErrorKind::Unavailable, Outcome::NotApplied),
        "{error}"
    );
    assert_eq!(completions(&stub, "/l").len(), 1);
}
