//! Values in chunks: stored as they come, published at the end, removed when no row refers to them.

use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use tiered_core::adapter::{Change, Checksum};
use tiered_core::{
    Attributes, Batch, ByteStream, Delete, Error, ErrorKind, Key, ListOptions, Lookup, Outcome, Put,
    ReadOptions, Result, Store as _, StoreExt as _, Version, Written, adapter,
};
use tiered_postgres::{Feed, PostgresStore};
use tokio::sync::oneshot;

use crate::place::Schema;

const MIB: usize = 1 << 20;

fn key(text: &str) -> Key {
    Key::new(text).expect("valid")
}

/// A value of which no two parts are equal.
fn value(size: usize, seed: u64) -> Bytes {
    let mut random = fastrand::Rng::with_seed(seed);
    std::iter::repeat_with(|| random.u8(..)).take(size).collect()
}

/// A value in parts whose size divides nothing.
fn body(value: &Bytes) -> ByteStream {
    let value = value.clone();
    let starts = stream::iter((0..value.len()).step_by(300_007));
    Box::pin(starts.map(move |start| Ok(value.slice(start..value.len().min(start + 300_007)))))
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

/// Streams `value` under `key`.
async fn streamed(store: &PostgresStore, key: &Key, value: &Bytes) -> Written {
    store.put_stream(key, Put::new(""), body(value)).await.expect("written")
}

async fn chunks(schema: &Schema) -> i64 {
    schema.number("SELECT count(*) FROM {}.tiered_chunks").await
}

async fn loose(schema: &Schema) -> i64 {
    schema.number("SELECT count(*) FROM {}.tiered_loose").await
}

/// Waits until no more than so many chunks are left.
async fn falls_to(schema: &Schema, most: i64) {
    for _ in 0..400 {
        if chunks(schema).await <= most {
            break;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    assert_eq!(chunks(schema).await, most);
}

/// All the time passes that a value without an owner is left alone for.
async fn time_passes(schema: &Schema) {
    schema.execute("UPDATE {}.tiered_loose SET ends = 0").await;
}

/// A put that has stored chunks, and goes on when it is told to.
type Begun<'p> = (Pin<Box<dyn Future<Output = Result<Written>> + Send + 'p>>, oneshot::Sender<()>);

/// Polls a put of `value` until `count` chunks are there.
async fn begin<'p>(
    schema: &Schema,
    store: &'p PostgresStore,
    key: &'p Key,
    put: Put,
    value: &Bytes,
    count: i64,
) -> Begun<'p> {
    let (body, release) = waiting(value);
    let mut put = store.put_stream(key, put, body);
    for _ in 0..400 {
        let ended = tokio::time::timeout(Duration::from_millis(25), &mut put).await;
        assert!(ended.is_err(), "it ended before its body: {ended:?}");
        if chunks(schema).await >= count {
            break;
        }
    }
    assert!(chunks(schema).await >= count, "the upload does not get on");
    (put, release)
}

#[tokio::test]
async fn a_streamed_value_is_read_as_any_other() {
    let schema = Schema::new();
    let store = schema.open().await;
    let (film, small, bytes) = (key("film"), key("small"), value(5 * MIB + 77, 1));
    store.put(&small, Put::new("small")).await.expect("written");
    let attributes = Attributes::new().with("kind", "film").expect("valid");
    let put = Put::new("").attributes(attributes.clone()).expires_in(Duration::from_hours(1));
    let version = store.put_stream(&film, put, body(&bytes)).await.expect("written").version;
    assert_eq!((chunks(&schema).await, loose(&schema).await), (6, 0));
    assert_eq!(schema.number("SELECT count(*) FROM {}.tiered WHERE value IS NULL").await, 1);
    let entry = store.get(&film).await.expect("reads").expect("there");
    assert!(entry.value() == &bytes, "the whole value");
    let metadata = entry.metadata();
    assert_eq!((&metadata.version, metadata.size), (&version, bytes.len() as u64));
    assert_eq!((metadata.checksum, &metadata.attributes), (Some(Checksum::of(&bytes)), &attributes));
    let head = store.head(&film, &ReadOptions::new()).await.expect("reads").expect("there");
    assert_eq!(&head, metadata);
    let mib = MIB as u64;
    for range in [0..1, mib - 1..mib + 1, 5..5, mib..3 * mib + 5, 0..u64::MAX, 5 * mib..9 * mib] {
        let part = store.get_range(&film, range.clone()).await.expect("reads").expect("there");
        let end = usize::try_from(range.end).expect("small").min(bytes.len());
        let expected = &bytes[usize::try_from(range.start).expect("small")..end];
        assert!(part.value() == expected && part.metadata() == metadata, "{range:?}");
    }
    let beyond = store.get_range(&film, 9 * mib..9 * mib).await.expect_err("beyond the end");
    assert_eq!(beyond.kind(), ErrorKind::InvalidRange);
    let ranges = [4 * mib - 3..4 * mib + 3, 0..2, 7..7, 0..2];
    let read = store.get_ranges(&film, &ranges, &ReadOptions::new()).await.expect("reads");
    let Lookup::Found(slices) = read.lookup else { panic!("just written") };
    let expected = [&bytes[4 * MIB - 3..4 * MIB + 3], &bytes[..2], &[], &bytes[..2]];
    assert_eq!(slices.values, expected);
    let reads =
        store.get_many(&[film.clone(), small, key("absent"), film.clone()], &ReadOptions::new()).await;
    let sizes = reads.into_iter().map(|read| read.expect("reads").into_entry().map(|e| e.value().len()));
    assert_eq!(sizes.collect::<Vec<_>>(), [Some(bytes.len()), Some(5), None, Some(bytes.len())]);
    let listed: Vec<_> = store.list(ListOptions::new().values(u64::MAX)).try_collect().await.expect("lists");
    assert_eq!(listed[0].metadata.as_ref(), Some(metadata));
    assert!(listed[0].value.is_none() && listed[1].value.is_some(), "a listing reads no chunks");
    let other = Version::from_u128(7);
    for (options, expected) in [
        (ReadOptions::new().unless(version.clone().into()), Lookup::Unchanged),
        (ReadOptions::new().if_version(other.clone()), Lookup::Changed),
    ] {
        assert_eq!(store.load(&film, &options).await.expect("reads").lookup, expected);
    }
    for options in [ReadOptions::new().unless(other.into()), ReadOptions::new().if_version(version)] {
        let read = store.load(&film, &options).await.expect("reads");
        assert!(read.entry().is_some_and(|entry| entry.value() == &bytes));
    }
}

#[tokio::test]
async fn what_replaces_or_deletes_a_value_frees_its_chunks() {
    let schema = Schema::new();
    let store = schema.config().sweep(None).open().await.expect("opens");
    let (k, bytes) = (key("k"), value(3 * MIB, 1));
    for how in 0..6 {
        streamed(&store, &k, &bytes).await;
        assert_eq!(chunks(&schema).await, 3, "{how}");
        match how {
            0 => store.put(&k, Put::new("small")).await.map(drop).expect("written"),
            1 => {
                let put = Put::new("small").if_version(version(&store, &k).await);
                store.put(&k, put).await.map(drop).expect("written");
            }
            2 => store.apply(Batch::new().put(k.clone(), "small")).await.map(drop).expect("written"),
            3 => store.delete(&k, Delete::new()).await.map(drop).expect("deleted"),
            4 => {
                // As it was written before there were chunks: the other columns stay.
                let checksum = Checksum::of(b"small").as_u32();
                let update = format!("UPDATE {{}}.tiered SET value = 'small', checksum = {checksum}");
                schema.execute(&update).await;
            }
            _ => {
                schema.execute("UPDATE {}.tiered SET expires_at = 1").await;
                assert_eq!(store.sweep().await.expect("swept"), 1);
            }
        }
        let left = store.get(&k).await.expect("reads");
        let expected = (![3, 5].contains(&how)).then(|| Bytes::from("small"));
        assert_eq!(left.map(|entry| entry.value().clone()), expected, "{how}");
        store.sweep().await.expect("swept");
        assert_eq!(chunks(&schema).await, 3, "{how}: readers have a minute");
        time_passes(&schema).await;
        store.sweep().await.expect("swept");
        assert_eq!((chunks(&schema).await, loose(&schema).await), (0, 0), "{how}");
    }
}

async fn version(store: &PostgresStore, key: &Key) -> Version {
    store.get(key).await.expect("reads").expect("there").version().clone()
}

#[tokio::test]
async fn what_a_broken_or_dropped_upload_has_stored_is_removed_at_once() {
    let schema = Schema::new();
    let store = schema.config().sweep(None).open().await.expect("opens");
    let (k, kept, bytes) = (key("k"), value(2 * MIB, 1), value(70 * MIB, 2));
    streamed(&store, &k, &kept).await;
    let broken = Error::new(ErrorKind::Other, "the source failed");
    let broken: ByteStream = Box::pin(body(&bytes).chain(stream::iter([Err(broken)])));
    let error = store.put_stream(&k, Put::new(""), broken).await.expect_err("broken");
    assert_eq!(error.write_outcome(), Outcome::NotApplied, "{error}");
    falls_to(&schema, 2).await;
    let (put, _release) = begin(&schema, &store, &k, Put::new(""), &bytes, 5).await;
    drop(put);
    falls_to(&schema, 2).await;
    let refused = store.put_stream(&k, Put::new("").if_absent(), body(&bytes)).await.expect_err("there");
    assert_eq!(refused.kind(), ErrorKind::PreconditionFailed, "{refused}");
    falls_to(&schema, 2).await;
    let limited = schema.config().max_value(3 << 20).open().await.expect("opens");
    let error = limited.put_stream(&k, Put::new(""), body(&bytes)).await.expect_err("too large");
    assert_eq!((error.kind(), error.write_outcome()), (ErrorKind::TooLarge, Outcome::NotApplied));
    falls_to(&schema, 2).await;
    assert!(store.get(&k).await.expect("reads").is_some_and(|entry| entry.value() == &kept));
}

#[tokio::test]
async fn the_upload_of_a_killed_process_is_swept_and_a_live_one_left_alone() {
    let schema = Schema::new();
    let (store, other) = (schema.open().await, schema.config().sweep(None).open().await.expect("opens"));
    let (k, l, bytes) = (key("k"), key("l"), value(3 * MIB, 1));
    let (killed, _release) = begin(&schema, &store, &k, Put::new(""), &bytes, 2).await;
    // It is never polled again, and never dropped.
    std::mem::forget(killed);
    let (mut live, release) = begin(&schema, &store, &l, Put::new(""), &bytes, 4).await;
    other.sweep().await.expect("swept");
    assert_eq!(chunks(&schema).await, 4, "both may be alive");
    // The killed one gives no sign for as long as it may. The first chunk came with the mark.
    schema
        .execute("UPDATE {}.tiered_loose SET ends = 0 WHERE ends = (SELECT min(ends) FROM {}.tiered_loose)")
        .await;
    other.sweep().await.expect("swept");
    assert_eq!((chunks(&schema).await, loose(&schema).await), (2, 1));
    release.send(()).expect("it waits");
    (&mut live).await.expect("written");
    assert_eq!((chunks(&schema).await, loose(&schema).await), (3, 0));
    assert!(other.get(&l).await.expect("reads").is_some_and(|entry| entry.value() == &bytes));
    assert!(other.get(&k).await.expect("reads").is_none());
}

#[tokio::test]
async fn an_upload_that_was_taken_for_abandoned_is_never_published() {
    let schema = Schema::new();
    let (store, other) = (schema.open().await, schema.config().sweep(None).open().await.expect("opens"));
    let (k, bytes) = (key("k"), value(3 * MIB, 1));
    other.put(&k, Put::new("kept")).await.expect("written");
    for staged_after in [false, true] {
        // The last MiB is stored when the body has ended.
        let (mut put, release) = begin(&schema, &store, &k, Put::new(""), &bytes, 2).await;
        if staged_after {
            // Only doomed: its chunks are there yet.
            schema.execute("UPDATE {}.tiered_loose SET doomed = true").await;
        } else {
            time_passes(&schema).await;
            other.sweep().await.expect("swept");
            assert_eq!(chunks(&schema).await, 0);
        }
        release.send(()).expect("it waits");
        let error = (&mut put).await.expect_err("its parts are gone");
        assert_eq!((error.kind(), error.write_outcome()), (ErrorKind::Unavailable, Outcome::NotApplied));
        assert!(error.is_retryable() && error.message().contains("send the value again"), "{error}");
        assert_eq!(other.get(&k).await.expect("reads").expect("kept").value(), "kept");
        falls_to(&schema, 0).await;
    }
}

#[tokio::test]
async fn an_upload_whose_parts_the_server_lost_is_never_published() {
    let schema = Schema::new();
    let store = schema.open().await;
    let (k, bytes) = (key("k"), value(3 * MIB, 1));
    let (mut put, release) = begin(&schema, &store, &k, Put::new(""), &bytes, 2).await;
    // As after a failure of the server: the last commit did not wait for the disk.
    let lose = "DELETE FROM {}.tiered_chunks WHERE start > 0; UPDATE {}.tiered_loose SET bytes = 1048576";
    schema.execute(lose).await;
    release.send(()).expect("it waits");
    let error = (&mut put).await.expect_err("a part is gone");
    assert_eq!((error.kind(), error.write_outcome()), (ErrorKind::Unavailable, Outcome::NotApplied));
    assert!(store.get(&k).await.expect("reads").is_none());
    falls_to(&schema, 0).await;
}

#[tokio::test]
async fn an_upload_whose_source_stands_still_says_that_it_goes_on() {
    let schema = Schema::new();
    let store = schema.open().await;
    let (k, bytes) = (key("k"), value(3 * MIB, 1));
    let (mut put, release) = begin(&schema, &store, &k, Put::new(""), &bytes, 2).await;
    schema.execute("UPDATE {}.tiered_loose SET ends = 1").await;
    let ends = "SELECT min(ends)::bigint FROM {}.tiered_loose";
    // Twenty seconds pass for the put at once: nothing of it is under way but that wait.
    tokio::time::pause();
    assert!(futures_util::poll!(&mut put).is_pending());
    tokio::time::advance(Duration::from_secs(21)).await;
    tokio::time::resume();
    for _ in 0..400 {
        tokio::time::timeout(Duration::from_millis(25), &mut put).await.expect_err("its body goes on");
        if schema.number(ends).await > 1 {
            break;
        }
    }
    assert!(schema.number(ends).await > 1, "it gives no sign");
    release.send(()).expect("it waits");
    put.await.expect("written");
    assert!(store.get(&k).await.expect("reads").is_some_and(|entry| entry.value() == &bytes));
}

#[tokio::test]
async fn streams_of_one_key_are_puts_of_their_own() {
    let schema = Schema::new();
    let (one, two) = (schema.config().sweep(None).open().await.expect("opens"), schema.open().await);
    let k = key("k");
    let values: Vec<Bytes> = (0..4).map(|seed| value(2 * MIB + 99, seed)).collect();
    let puts = values.iter().zip([&one, &two, &one, &two]);
    let puts = puts.map(|(value, store)| store.put_stream(&k, Put::new(""), body(value)));
    let versions: Vec<Version> =
        join_all(puts).await.into_iter().map(|written| written.expect("written").version).collect();
    let entry = one.get(&k).await.expect("reads").expect("there");
    let last = versions.iter().position(|version| version == entry.version()).expect("one of them");
    assert!(entry.value() == &values[last], "one of them as a whole");
    assert_eq!((chunks(&schema).await, loose(&schema).await), (12, 3));
    time_passes(&schema).await;
    one.sweep().await.expect("swept");
    assert_eq!((chunks(&schema).await, loose(&schema).await), (3, 0));
    assert!(two.get(&k).await.expect("reads").is_some_and(|entry| entry.value() == &values[last]));
}

#[tokio::test]
async fn a_reader_has_its_version_to_the_end_or_is_told() {
    let schema = Schema::new();
    let store = schema.config().sweep(None).open().await.expect("opens");
    let (k, old, new) = (key("k"), value(9 * MIB, 1), value(9 * MIB, 2));
    let read = async || store.read_stream(&k, &ReadOptions::new()).await.expect("opens").expect("there").1;
    streamed(&store, &k, &old).await;
    let (mut first, mut second) = (read().await, read().await);
    let begun = first.try_next().await.expect("reads").expect("a part");
    second.try_next().await.expect("reads").expect("a part");
    streamed(&store, &k, &new).await;
    store.sweep().await.expect("swept");
    let rest: Vec<Bytes> = first.try_collect().await.expect("its version is there for a minute");
    assert!([&[begun], &rest[..]].concat().concat() == old, "one version to the end");
    time_passes(&schema).await;
    store.sweep().await.expect("swept");
    let error = second.try_next().await.expect_err("its version is gone");
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.is_retryable() && error.message().contains("replaced"), "{error}");
    let parts: Vec<Bytes> = read().await.try_collect().await.expect("reads");
    assert!(parts.concat() == new);
}

#[tokio::test]
async fn reads_beside_writers_and_sweeps_are_of_one_version() {
    let schema = Schema::new();
    let store = schema.config().connections(8).open().await.expect("opens");
    let k = key("k");
    let values: Vec<Bytes> = (0..3).map(|seed| value(5 * MIB, seed)).collect();
    streamed(&store, &k, &values[0]).await;
    let is_one = |whole: &[u8]| values.iter().any(|value| value == whole);
    let writing = async {
        for round in 0..12 {
            streamed(&store, &k, &values[round % 3]).await;
            time_passes(&schema).await;
            store.sweep().await.expect("swept");
        }
    };
    let reading = async {
        for _ in 0..25 {
            let entry = store.get(&k).await.expect("reads").expect("there");
            assert!(is_one(entry.value()), "parts of several versions");
            let ranges = [0..10, 3 << 20..(3 << 20) + 10];
            let read = store.get_ranges(&k, &ranges, &ReadOptions::new()).await.expect("reads");
            let Lookup::Found(slices) = read.lookup else { panic!("it is always there") };
            let same = |value: &&Bytes| {
                value[..10] == slices.values[0] && value[3 * MIB..3 * MIB + 10] == slices.values[1]
            };
            assert_eq!(values.iter().filter(same).count(), 1);
            let (_, mut body) =
                store.read_stream(&k, &ReadOptions::new()).await.expect("reads").expect("there");
            let mut seen = Vec::new();
            let ended = loop {
                match body.try_next().await {
                    Ok(Some(part)) => seen.extend_from_slice(&part),
                    Ok(None) => break Ok(()),
                    Err(error) => break Err(error),
                }
            };
            match ended {
                Ok(()) => assert!(is_one(&seen), "parts of several versions"),
                Err(error) => assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}"),
            }
        }
    };
    tokio::join!(writing, reading);
}

#[tokio::test]
async fn the_precondition_of_a_stream_is_judged_at_its_end() {
    let schema = Schema::new();
    let (store, other) = (schema.open().await, schema.open().await);
    let (k, bytes) = (key("k"), value(3 * MIB, 1));
    let (mut put, release) = begin(&schema, &store, &k, Put::new("").if_absent(), &bytes, 2).await;
    let theirs = other.put(&k, Put::new("theirs")).await.expect("written").version;
    release.send(()).expect("it waits");
    let error = (&mut put).await.expect_err("it is there");
    assert_eq!((error.kind(), error.write_outcome()), (ErrorKind::PreconditionFailed, Outcome::NotApplied));
    falls_to(&schema, 0).await;
    let (mut put, release) =
        begin(&schema, &store, &k, Put::new("").if_version(theirs.clone()), &bytes, 2).await;
    other.put(&k, Put::new("again")).await.expect("written");
    release.send(()).expect("it waits");
    let error = (&mut put).await.expect_err("another version");
    assert_eq!((error.kind(), error.write_outcome()), (ErrorKind::PreconditionFailed, Outcome::NotApplied));
    falls_to(&schema, 0).await;
    // What did not hold when it began holds at its end.
    let (mut put, release) = begin(&schema, &store, &k, Put::new("").if_absent(), &bytes, 2).await;
    other.delete(&k, Delete::new()).await.expect("deleted");
    release.send(()).expect("it waits");
    let ours = (&mut put).await.expect("written").version;
    let next = value(2 * MIB + 5, 2);
    let put = || adapter::with_version(Put::new("").if_version(ours.clone()), Version::from_u128(77));
    store.put_stream(&k, put(), body(&next)).await.expect("replaced");
    // The same write again, as after a lost answer; and another value under its version.
    store.put_stream(&k, put(), body(&next)).await.expect("recognised");
    let error = store.put_stream(&k, put(), body(&value(2 * MIB + 5, 3))).await.expect_err("another value");
    assert_eq!(error.kind(), ErrorKind::PreconditionFailed);
    let absent = adapter::with_version(Put::new("").if_absent(), Version::from_u128(77));
    store.put_stream(&k, absent, body(&next)).await.expect("recognised");
    assert!(store.get(&k).await.expect("reads").is_some_and(|entry| entry.value() == &next));
}

#[tokio::test]
async fn a_damaged_value_is_an_error_and_never_wrong_data() {
    let schema = Schema::new();
    let store = schema.open().await;
    let (k, bytes) = (key("k"), value(5 * MIB, 1));
    for damage in [
        "DELETE FROM {}.tiered_chunks WHERE start = 2097152",
        "DELETE FROM {}.tiered_chunks WHERE start = 4194304",
        "UPDATE {}.tiered_chunks SET data = substr(data, 2) WHERE start = 1048576",
        "UPDATE {}.tiered_chunks SET data = set_byte(data, 7, 255 - get_byte(data, 7)) WHERE start = 0",
        "UPDATE {}.tiered SET content = 'x'",
        "UPDATE {}.tiered SET size = -1",
        "UPDATE {}.tiered SET size = NULL",
        "UPDATE {}.tiered SET size = size - 1",
    ] {
        streamed(&store, &k, &bytes).await;
        schema.execute(damage).await;
        let error = store.get(&k).await.expect_err(damage);
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{damage}: {error}");
        let read = match store.read_stream(&k, &ReadOptions::new()).await {
            Ok(Some((_, body))) => body.try_collect::<Vec<Bytes>>().await,
            Ok(None) => Ok(Vec::new()),
            Err(error) => Err(error),
        };
        assert_eq!(read.expect_err(damage).kind(), ErrorKind::Corrupt, "{damage}");
        store.delete(&k, Delete::new()).await.expect("deleted");
    }
    streamed(&store, &k, &bytes).await;
    assert!(store.get(&k).await.expect("reads").is_some_and(|entry| entry.value() == &bytes));
}

#[tokio::test]
async fn a_put_that_is_too_large_for_a_statement_is_sent_in_chunks() {
    let schema = Schema::new();
    let store = schema.open().await;
    let (k, bytes) = (key("k"), value(33 * MIB, 1));
    let version = store.put(&k, Put::new(bytes.clone())).await.expect("written").version;
    assert_eq!((chunks(&schema).await, loose(&schema).await), (33, 0));
    let entry = store.get(&k).await.expect("reads").expect("there");
    assert!(entry.value() == &bytes && *entry.version() == version);
    let error = store.put(&k, Put::new(bytes.clone()).if_absent()).await.expect_err("there");
    assert_eq!((error.kind(), error.write_outcome()), (ErrorKind::PreconditionFailed, Outcome::NotApplied));
    falls_to(&schema, 33).await;
    store.apply(Batch::new().put(key("row"), bytes.clone())).await.expect("written");
    assert_eq!(chunks(&schema).await, 33, "in a batch it is a row");
    assert!(store.get(&key("row")).await.expect("reads").is_some_and(|entry| entry.value() == &bytes));
}

#[tokio::test]
async fn a_published_stream_is_announced() {
    let schema = Schema::new();
    let store = schema.config().feed(Feed::On).open().await.expect("opens");
    let mut changes = store.changes().expect("a feed");
    assert_eq!(changes.next().await, Some(Change::Resync));
    let (k, bytes) = (key("k"), value(3 * MIB, 1));
    let error = store.put_stream(&k, Put::new("").if_version(Version::from_u128(1)), body(&bytes)).await;
    assert_eq!(error.expect_err("absent").kind(), ErrorKind::PreconditionFailed);
    let version = Some(streamed(&store, &k, &bytes).await.version);
    // Nothing was said of what did not take effect.
    assert_eq!(changes.next().await, Some(Change::Key { key: k, version }));
}
