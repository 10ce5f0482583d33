//! Objects of other clients, and ours as they see them.

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use tiered_core::adapter::Checksum;
use tiered_core::{
    Applied, Attributes, Batch, ByteStream, Delete, Entry, Error, ErrorKind, Feature, Key, Outcome, Put,
    ReadOptions, Store as _, StoreExt as _, Timestamp, Version, adapter,
};
use tiered_s3::aws_sdk_s3::Client;
use tiered_s3::{BulkDelete, Layout, S3Store};
use tiered_services::Service;

use crate::place::{BUCKET, client, config, prefix};

fn key(text: &str) -> Key {
    Key::new(text).expect("valid")
}

/// A store under a prefix of its own, and another client of the same server.
async fn beside(layout: Layout) -> (S3Store, Client, String) {
    let endpoint = Service::S3.required();
    let prefix = prefix();
    let store = config(&endpoint, &prefix).await.layout(layout).open().await.expect("opens");
    (store, client(&endpoint), prefix)
}

#[tokio::test]
async fn a_value_is_byte_for_byte_what_another_client_fetches() {
    let (store, other, prefix) = beside(Layout::Raw).await;
    let value: Vec<u8> = (0..=255).cycle().take(100_000).collect();
    let attributes =
        Attributes::new().with("content-type", "image/png").and_then(|all| all.with("owner", "é"));
    let put = adapter::with_version(
        Put::new(value.clone()).attributes(attributes.expect("valid")),
        Version::from_u128(255),
    );
    store.put(&key("a/picture 1+2.png"), put).await.expect("written");
    let name = format!("{prefix}a/picture 1+2.png");
    let got = other.get_object().bucket(BUCKET).key(name).send().await.expect("there");
    assert_eq!(got.content_type(), Some("image/png"));
    let metadata = got.metadata().expect("metadata").clone();
    // As docs/src/s3.md has it.
    assert_eq!(metadata["tiered-version"], "000000000000000000000000000000ff");
    assert_eq!(metadata["owner"], "%C3%A9");
    assert_eq!(got.body.collect().await.expect("body").into_bytes(), value);
}

#[tokio::test]
async fn an_object_of_another_client_is_an_entry() {
    let (store, other, prefix) = beside(Layout::Raw).await;
    let put = other.put_object().bucket(BUCKET).key(format!("{prefix}k")).body(b"theirs".to_vec().into());
    let put = put.content_type("text/plain").metadata("colour", "red").metadata("Upper", "50%");
    let etag = put.send().await.expect("written").e_tag().expect("an ETag").to_owned();
    let entry = store.get(&key("k")).await.expect("reads").expect("there");
    let metadata = entry.metadata();
    assert_eq!(entry.value(), "theirs");
    assert_eq!(metadata.version.as_token(), Some(etag.as_str()));
    assert_eq!(metadata.attributes.get("content-type"), Some("text/plain"));
    assert_eq!(metadata.attributes.get("colour"), Some("red"));
    assert_eq!(metadata.attributes.get("upper"), Some("50%"));
    assert_eq!(metadata.checksum, Some(Checksum::of(b"theirs")));
    assert!(metadata.modified > Timestamp::from_millis(1_700_000_000_000), "{:?}", metadata.modified);
    let head = store.head(&key("k"), &ReadOptions::new()).await.expect("reads").expect("there");
    // No object is read whole to learn its checksum.
    assert!(head.agrees_with(metadata) && head.checksum.is_none());
    let part = store.get_range(&key("k"), 2..4).await.expect("reads").expect("there");
    assert_eq!((part.value().as_ref(), part.metadata()), (&b"ei"[..], &head));
    // It can be replaced by its version, once.
    let replaced = Put::new("ours").if_version(metadata.version.clone());
    store.put(&key("k"), replaced.clone()).await.expect("replaced");
    let error = store.put(&key("k"), replaced).await.expect_err("another version");
    assert_eq!(error.kind(), ErrorKind::PreconditionFailed, "{error}");
}

#[tokio::test]
async fn an_envelope_makes_every_write_distinguishable() {
    let (raw, ..) = beside(Layout::Raw).await;
    let (store, other, prefix) = beside(Layout::Enveloped).await;
    assert!(store.capabilities().has(Feature::UniqueValidators));
    assert!(!raw.capabilities().has(Feature::UniqueValidators));
    let etag = |entry: Option<Entry>| entry.and_then(|entry| entry.metadata().note.validator.clone());
    for (store, differ) in [(&raw, false), (&store, true)] {
        store.put(&key("k"), Put::new("equal")).await.expect("written");
        let first = etag(store.get(&key("k")).await.expect("reads"));
        store.put(&key("k"), Put::new("equal")).await.expect("written");
        let second = etag(store.get(&key("k")).await.expect("reads"));
        assert_eq!(first != second, differ);
    }
    other
        .put_object()
        .bucket(BUCKET)
        .key(format!("{prefix}theirs"))
        .body(b"not in an envelope, and longer than one".to_vec().into())
        .send()
        .await
        .expect("written");
    assert_eq!(store.get(&key("theirs")).await.expect_err("foreign").kind(), ErrorKind::Corrupt);
}

#[tokio::test]
async fn a_large_value_is_uploaded_in_parts_and_read_whole() {
    for layout in [Layout::Raw, Layout::Enveloped] {
        let endpoint = Service::S3.required();
        let config = config(&endpoint, &prefix()).await.layout(layout).multipart(5 << 20);
        let store = config.open().await.expect("opens");
        let value: Vec<u8> = (0..12_000_000_u32).map(|index| (index % 251) as u8).collect();
        let parts =
            value.chunks(700_000).map(|part| Ok(bytes::Bytes::copy_from_slice(part))).collect::<Vec<_>>();
        let body: ByteStream = Box::pin(stream::iter(parts));
        store.put_stream(&key("streamed"), Put::new(""), body).await.expect("written");
        store.put(&key("whole"), Put::new(value.clone())).await.expect("written");
        for name in ["streamed", "whole"] {
            let entry = store.get(&key(name)).await.expect("reads").expect("there");
            assert!(entry.value() == &value, "{name} {layout:?}");
            entry.verify().expect("its checksum");
            let head = store.head(&key(name), &ReadOptions::new()).await.expect("reads").expect("there");
            let known = (name == "whole").then(|| Checksum::of(&value));
            assert_eq!((head.size, head.checksum), (12_000_000, known), "{name} {layout:?}");
            let part =
                store.get_range(&key(name), 5_000_000..5_000_010).await.expect("reads").expect("there");
            assert_eq!(part.value().as_ref(), &value[5_000_000..5_000_010]);
            let (_, body) =
                store.read_stream(&key(name), &ReadOptions::new()).await.expect("reads").expect("there");
            let parts: Vec<_> = body.try_collect().await.expect("streams");
            assert!(parts.concat() == value);
        }
    }
}

#[tokio::test]
async fn an_upload_that_is_dropped_is_aborted() {
    let endpoint = Service::S3.required();
    let prefix = prefix();
    let store = config(&endpoint, &prefix).await.multipart(5 << 20).open().await.expect("opens");
    let large = || stream::iter((0..3).map(|_| Ok(bytes::Bytes::from(vec![7_u8; 4 << 20]))));
    let failing: ByteStream =
        Box::pin(large().chain(stream::iter([Err(Error::new(ErrorKind::Other, "the source failed"))])));
    let error = store.put_stream(&key("k"), Put::new(""), failing).await.expect_err("failed");
    assert_eq!(error.write_outcome(), Outcome::NotApplied, "{error}");
    let hanging: ByteStream = Box::pin(large().chain(stream::pending()));
    let k = key("k");
    let dropped = store.put_stream(&k, Put::new(""), hanging);
    tokio::time::timeout(std::time::Duration::from_secs(3), dropped).await.expect_err("hangs");
    let other = client(&endpoint);
    let mut left = usize::MAX;
    for _ in 0..100 {
        let uploads = other.list_multipart_uploads().bucket(BUCKET).send().await.expect("lists");
        left = uploads
            .uploads()
            .iter()
            .filter(|upload| upload.key().is_some_and(|key| key.starts_with(&prefix)))
            .count();
        if left == 0 {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    assert_eq!(left, 0, "uploads are left");
    assert!(store.get(&key("k")).await.expect("reads").is_none());
}

#[tokio::test]
async fn many_keys_are_deleted_in_bulk_and_one_by_one() {
    for way in [BulkDelete::Auto, BulkDelete::Crc, BulkDelete::Md5, BulkDelete::Single] {
        let config = config(&Service::S3.required(), &prefix()).await.bulk_delete(way);
        let store = config.open().await.expect("opens");
        let names = ["a", "b&<c>", "d e+f", "é", "\u{ffff}"];
        for asks in [true, false] {
            for name in names {
                store.put(&key(name), Put::new("x")).await.expect("written");
            }
            let delete = || if asks { Delete::new().report_existed() } else { Delete::new() };
            let keys = names.iter().copied().chain(["absent"]);
            let batch =
                keys.fold(Batch::new().best_effort(), |batch, name| batch.delete(key(name), delete()));
            let outcomes = store.apply(batch).await.expect("applies").into_iter();
            let existed: Vec<Option<bool>> = outcomes
                .map(|outcome| match outcome.expect("deleted") {
                    Applied::Delete(deleted) => deleted.existed.known(),
                    Applied::Put(_) => None,
                })
                .collect();
            let known = [Some(true), Some(true), Some(true), Some(true), Some(true), Some(false)];
            assert_eq!(existed, if asks { known } else { [None; 6] }, "{way:?}");
            assert!(store.keys("").await.expect("lists").is_empty(), "{way:?}");
        }
    }
}

#[tokio::test]
async fn a_second_sync_copies_nothing_although_listings_have_no_versions() {
    use std::sync::Arc;
    use tiered_core::sync::{Refresh, SyncOptions, sync};
    use tiered_core::{MemoryStore, Store};
    let (store, ..) = beside(Layout::Raw).await;
    let (here, there): (Arc<dyn Store>, Arc<dyn Store>) = (Arc::new(MemoryStore::new()), Arc::new(store));
    for name in ["a", "b", "c"] {
        here.put(&key(name), Put::new(name)).await.expect("written");
    }
    let run = async |from, to| sync(from, to, &Refresh, &SyncOptions::default()).await.expect("syncs");
    assert_eq!(run(&here, &there).await.copied, 3);
    here.put(&key("b"), Put::new("x")).await.expect("written");
    // One each way differs: what was written since.
    let report = run(&here, &there).await;
    assert_eq!((report.copied, report.skipped), (1, 2));
    let report = run(&there, &here).await;
    assert_eq!((report.copied, report.skipped), (0, 3));
}

#[tokio::test]
async fn object_names_reserved_for_the_store_are_not_keys() {
    let (store, other, prefix) = beside(Layout::Raw).await;
    store.set_mark("identity", Some("x".into())).await.expect("marked");
    let error = store.put(&key(".tiered/marks/identity"), Put::new("y")).await.expect_err("reserved");
    assert_eq!(error.kind(), ErrorKind::InvalidKey, "{error}");
    assert!(store.keys("").await.expect("lists").is_empty());
    let objects = other.list_objects_v2().bucket(BUCKET).prefix(&prefix).send().await.expect("lists");
    let names: Vec<&str> = objects.contents().iter().filter_map(|object| object.key()).collect();
    assert_eq!(names, [format!("{prefix}.tiered/marks/identity")], "nothing is left of the probe");
}

#[tokio::test]
async fn another_value_under_the_same_version_does_not_count_as_a_repeated_write() {
    let (store, ..) = beside(Layout::Raw).await;
    let (version, before) = (Version::from_u128(7), Version::from_u128(6));
    let put = |value: &'static str| adapter::with_version(Put::new(value), version.clone());
    for put in [put("one").if_absent(), put("one").if_absent()] {
        // The second is the first once more, as after a lost answer.
        store.put(&key("k"), put).await.expect("written");
    }
    store.put(&key("k"), put("one").if_version(before.clone())).await.expect("the same write");
    // The first has another size, the second another checksum.
    for value in ["three", "two"] {
        for put in [put(value).if_absent(), put(value).if_version(before.clone())] {
            let error = store.put(&key("k"), put).await.expect_err(value);
            assert_eq!(error.kind(), ErrorKind::PreconditionFailed, "{error}");
        }
    }
    let entry = store.get(&key("k")).await.expect("reads").expect("there");
    assert_eq!((entry.value().as_ref(), entry.version()), (&b"one"[..], &version));
}
