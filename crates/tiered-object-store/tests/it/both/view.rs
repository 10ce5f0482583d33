//! What a view promises, and the integration tests do not try.

use std::time::Duration;

use futures_util::TryStreamExt as _;
use tiered_core::{
    Capabilities, Error as StoreError, ErrorKind, Feature, Freshness, ListOptions, MemoryStore, Store,
    StoreExt as _, TieredStore,
};

use super::bridge::ObjectView;
use super::bridge::object_store::multipart::MultipartStore as _;
use super::bridge::object_store::path::Path;
use super::bridge::object_store::{
    Attribute, Attributes, Error, GetOptions, GetRange, ObjectStore, ObjectStoreExt as _, PutMode,
    PutOptions, UpdateVersion,
};

fn path(text: &str) -> Path {
    Path::parse(text).expect("a path")
}

async fn text(view: &ObjectView, at: &str) -> String {
    let bytes = view.get(&path(at)).await.expect("gets").bytes().await.expect("reads");
    String::from_utf8(bytes.to_vec()).expect("text")
}

async fn listed(view: &ObjectView) -> Vec<String> {
    let all: Vec<_> = view.list(None).try_collect().await.expect("lists");
    all.into_iter().map(|object| object.location.to_string()).collect()
}

/// The keys of the store that are not listed by the view.
async fn staged(store: &dyn Store) -> usize {
    let all: Vec<_> =
        store.list(ListOptions::new().prefix(".tiered-uploads/")).try_collect().await.expect("lists");
    all.len()
}

/// A view whose uploads are staged from the first byte.
fn staging() -> (MemoryStore, ObjectView) {
    let store = MemoryStore::new();
    (store.clone(), ObjectView::new(store).held_up_to(0))
}

#[tokio::test]
async fn an_object_renamed_onto_itself_stays() {
    for stack in crate::stacks::all().await {
        let view = ObjectView::new(stack.store.clone());
        view.put(&path("a"), "value".into()).await.expect("puts");
        view.rename(&path("a"), &path("a")).await.expect("renames");
        let error = view.rename_if_not_exists(&path("a"), &path("a")).await.expect_err("exists");
        assert!(matches!(error, Error::AlreadyExists { .. }), "{error}");
        assert_eq!(text(&view, "a").await, "value");
    }
}

#[tokio::test]
async fn a_rename_that_must_not_replace_leaves_both() {
    for stack in crate::stacks::all().await {
        let view = ObjectView::new(stack.store.clone());
        view.put(&path("a"), "one".into()).await.expect("puts");
        view.put(&path("b"), "two".into()).await.expect("puts");
        let error = view.rename_if_not_exists(&path("a"), &path("b")).await.expect_err("exists");
        assert!(matches!(error, Error::AlreadyExists { .. }), "{error}");
        assert_eq!((text(&view, "a").await, text(&view, "b").await), ("one".to_owned(), "two".to_owned()));
        view.delete(&path("b")).await.expect("deletes");
        view.rename_if_not_exists(&path("a"), &path("b")).await.expect("renames");
        assert_eq!((listed(&view).await, text(&view, "b").await), (vec!["b".to_owned()], "one".to_owned()));
    }
}

/// Writers of the source race with renames of it: each value that was written is at the source, or was moved, and none is
/// lost in between.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rename_loses_no_write_of_its_source() {
    for stack in crate::stacks::all().await {
        // One way with batches, and one without.
        for whole in [8 << 20, 0] {
            let view = ObjectView::new(stack.store.clone()).whole_up_to(whole);
            let writer = view.clone();
            let writing = async move {
                for number in 0..40_u32 {
                    let from = Path::from("from");
                    let put = || writer.put_opts(&from, number.to_string().into(), PutMode::Create.into());
                    while let Err(error) = put().await {
                        assert!(matches!(error, Error::AlreadyExists { .. }), "{error}");
                        tokio::task::yield_now().await;
                    }
                }
            };
            let renaming = view.clone();
            let moving = async move {
                let mut moved = Vec::new();
                while moved.len() < 40 {
                    match renaming.rename(&Path::from("from"), &Path::from("to")).await {
                        Ok(()) => moved.push(text(&renaming, "to").await),
                        Err(Error::NotFound { .. }) => tokio::task::yield_now().await,
                        Err(error) => panic!("{error}"),
                    }
                }
                moved
            };
            let both = async { tokio::join!(writing, moving) };
            let ((), moved) = tokio::time::timeout(Duration::from_mins(1), both).await.expect("in time");
            let expected: Vec<String> = (0..40).map(|number: u32| number.to_string()).collect();
            assert_eq!(moved, expected);
        }
    }
}

/// Some files of a program are replaced and others are not: each is read as fresh as its path says.
#[tokio::test]
async fn paths_say_how_fresh_a_read_must_be() {
    let backend = MemoryStore::new();
    let stack = TieredStore::builder(MemoryStore::new(), backend.clone()).build().await.expect("builds");
    let view = ObjectView::new(stack).freshness_of(|path| {
        if path.extension() == Some("sst") { Freshness::Cached } else { Freshness::Authoritative }
    });
    for name in ["1.sst", "manifest"] {
        view.put(&path(name), "old".into()).await.expect("puts");
        backend.set(name, "newer").await.expect("puts");
    }
    assert_eq!((text(&view, "1.sst").await, text(&view, "manifest").await), ("old".into(), "newer".into()));
    let ranges = [0..1, 1..3];
    let ranges_of = async |name| view.get_ranges(&path(name), &ranges).await.expect("reads").concat();
    assert_eq!((ranges_of("1.sst").await, ranges_of("manifest").await), (b"old".into(), b"new".into()));
    let size_of = async |name| view.head(&path(name)).await.expect("is there").size;
    assert_eq!((size_of("1.sst").await, size_of("manifest").await), (3, 5));
    for name in ["1.sst", "manifest"] {
        view.copy(&path(name), &path("copy")).await.expect("copies");
        assert_eq!(text(&view, "copy").await, text(&view, name).await);
    }
    // What a view says of all paths replaces what it said of each.
    let view = view.freshness(Freshness::Authoritative);
    assert_eq!(text(&view, "1.sst").await, "newer");
}

/// A cache may be behind its backend: what it has is not what is moved.
#[tokio::test]
async fn a_rename_moves_what_the_backend_has() {
    for whole in [8 << 20, 0] {
        let backend = MemoryStore::new();
        let stack = TieredStore::builder(MemoryStore::new(), backend.clone()).build().await.expect("builds");
        let view = ObjectView::new(stack).whole_up_to(whole);
        view.put(&path("a"), "old".into()).await.expect("puts");
        backend.set("a", "of another process").await.expect("puts");
        assert_eq!(text(&view, "a").await, "old", "the cache is behind");
        view.rename(&path("a"), &path("b")).await.expect("renames");
        assert_eq!(
            (listed(&view).await, text(&view, "b").await),
            (vec!["b".to_owned()], "of another process".to_owned())
        );
    }
}

#[tokio::test]
async fn parts_of_an_upload_are_staged_hidden_and_removed() {
    let (store, view) = staging();
    let mut upload = view.put_multipart(&path("a")).await.expect("begins");
    let (first, second) = (upload.put_part("one,".into()), upload.put_part("two".into()));
    second.await.expect("written");
    first.await.expect("written");
    assert_eq!((staged(&store).await, listed(&view).await), (2, vec![]));
    assert!(view.list_with_delimiter(None).await.expect("lists").common_prefixes.is_empty());
    let reserved = view.get(&Path::from(".tiered-uploads/x/0000000000")).await.expect_err("reserved");
    assert!(matches!(reserved, Error::NotSupported { .. }), "{reserved}");
    upload.complete().await.expect("completes");
    assert_eq!((text(&view, "a").await, staged(&store).await), ("one,two".to_owned(), 0));
    assert!(upload.complete().await.is_err() && upload.put_part("x".into()).await.is_err());
}

#[tokio::test]
async fn an_upload_that_is_given_up_leaves_nothing() {
    let (store, view) = staging();
    let mut upload = view.put_multipart(&path("a")).await.expect("begins");
    upload.put_part("one".into()).await.expect("written");
    upload.abort().await.expect("aborts");
    assert_eq!(staged(&store).await, 0);
    let mut dropped = view.put_multipart(&path("a")).await.expect("begins");
    dropped.put_part("one".into()).await.expect("written");
    assert_eq!(staged(&store).await, 1);
    drop(dropped);
    while staged(&store).await > 0 {
        tokio::task::yield_now().await;
    }
    let mut whole = view.put_multipart(&path("a")).await.expect("begins");
    drop(whole.put_part("never polled".into()));
    assert!(whole.complete().await.is_err(), "a part is missing");
    assert_eq!(listed(&view).await, Vec::<String>::new());
}

#[tokio::test]
async fn an_upload_larger_than_the_store_takes_is_refused() {
    let store = MemoryStore::new().declaring(|capabilities| capabilities.with_max_value(8));
    for held in [0, 1 << 20] {
        let view = ObjectView::new(store.clone()).held_up_to(held);
        let mut upload = view.put_multipart(&path("a")).await.expect("begins");
        upload.put_part("12345".into()).await.expect("written");
        let error = upload.put_part("6789".into()).await.expect_err("too large");
        assert_eq!(kind(&error), Some(ErrorKind::TooLarge), "{error}");
        upload.abort().await.expect("aborts");
    }
    assert_eq!(staged(&store).await, 0);
}

#[tokio::test]
async fn an_upload_by_its_id_is_of_one_path() {
    let (store, view) = staging();
    let id = view.create_multipart(&path("a")).await.expect("begins");
    // Another handle goes on with it.
    let other = ObjectView::new(store.clone());
    let old = other.put_part(&path("a"), &id, 0, "old".into()).await.expect("written");
    let new = other.put_part(&path("a"), &id, 0, "new".into()).await.expect("written");
    assert!(other.put_part(&path("b"), &id, 0, "x".into()).await.is_err());
    assert!(view.complete_multipart(&path("a"), &id, vec![old]).await.is_err(), "it was replaced");
    view.complete_multipart(&path("a"), &id, vec![new]).await.expect("completes");
    assert_eq!((text(&view, "a").await, staged(&store).await), ("new".to_owned(), 0));
    assert!(view.complete_multipart(&path("a"), &id, vec![]).await.is_err());
    let id = view.create_multipart(&path("b")).await.expect("begins");
    view.put_part(&path("b"), &id, 0, "x".into()).await.expect("written");
    view.abort_multipart(&path("b"), &id).await.expect("aborts");
    assert_eq!((staged(&store).await, listed(&view).await), (0, vec!["a".to_owned()]));
}

#[tokio::test]
async fn keys_that_are_no_path_are_not_listed() {
    let store = MemoryStore::new();
    for key in ["a//b", "a/", "/a", "..", "a/./b", "a/b", "é %2F~"] {
        store.set(key, "x").await.expect("puts");
    }
    let view = ObjectView::new(store);
    assert_eq!(listed(&view).await, ["a/b", "é %2F~"]);
    let level = view.list_with_delimiter(None).await.expect("lists");
    assert_eq!((level.objects.len(), level.common_prefixes), (1, vec![path("a")]));
}

#[tokio::test]
async fn a_level_is_listed_without_reading_its_folders() {
    let store = MemoryStore::new();
    for folder in ["a", "b"] {
        for number in 0..50 {
            store.set(format!("{folder}/{number:02}"), "x").await.expect("puts");
        }
    }
    store.set("b/\u{10ffff}\u{10ffff}", "behind the end of a folder").await.expect("puts");
    store.set("b0", "behind").await.expect("puts");
    let view = ObjectView::new(store);
    let level = view.list_with_delimiter(None).await.expect("lists");
    let objects: Vec<_> = level.objects.iter().map(|object| object.location.to_string()).collect();
    assert_eq!((objects, level.common_prefixes), (vec!["b0".to_owned()], vec![path("a"), path("b")]));
}

#[tokio::test]
async fn what_a_store_lacks_is_not_supported() {
    let without = |features: &'static [Feature]| {
        MemoryStore::new().declaring(move |all: Capabilities| {
            features.iter().fold(all, |all, feature| all.without(*feature))
        })
    };
    let view = ObjectView::new(without(&[Feature::ConditionalPut, Feature::ConditionalDelete]));
    let put = view.put(&path("a"), "x".into()).await.expect("puts");
    let update = PutMode::Update(UpdateVersion { e_tag: put.e_tag, version: None });
    let refused = [
        view.put_opts(&path("b"), "x".into(), PutMode::Create.into()).await.map(drop),
        view.put_opts(&path("a"), "x".into(), update.into()).await.map(drop),
        view.copy_if_not_exists(&path("a"), &path("b")).await,
        view.rename(&path("a"), &path("b")).await,
        view.get_opts(&path("a"), GetOptions { version: Some("1".into()), ..GetOptions::default() })
            .await
            .map(drop),
    ];
    for refused in refused {
        assert!(matches!(refused, Err(Error::NotSupported { .. })), "{refused:?}");
    }
    let view = ObjectView::new(MemoryStore::new());
    for name in ["Upper", "content-type", "tiered-x", ""] {
        let attributes = Attributes::from_iter([(Attribute::Metadata(name.into()), "x")]);
        let options = PutOptions { attributes, ..PutOptions::default() };
        let refused = view.put_opts(&path("a"), "x".into(), options).await;
        assert!(matches!(refused, Err(Error::NotSupported { .. })), "{name}: {refused:?}");
    }
    assert_eq!(listed(&view).await, Vec::<String>::new());
}

fn kind(error: &Error) -> Option<ErrorKind> {
    let mut source = std::error::Error::source(error);
    while let Some(next) = source {
        if let Some(error) = next.downcast_ref::<StoreError>() {
            return Some(error.kind());
        }
        source = next.source();
    }
    None
}

#[tokio::test]
async fn errors_of_the_store_are_their_source() {
    let store = MemoryStore::new();
    let view = ObjectView::new(store.clone());
    store.close().await.expect("closes");
    let error = view.get(&path("a")).await.expect_err("closed");
    assert_eq!(kind(&error), Some(ErrorKind::Closed), "{error}");
    let deleted = view.delete(&path("a")).await.expect_err("closed");
    assert_eq!(kind(&deleted), Some(ErrorKind::Closed), "{deleted}");
}

#[tokio::test]
async fn values_are_streamed_beyond_a_size_and_ranges_are_the_same() {
    for stack in crate::stacks::all().await {
        for whole in [0, 4, 1 << 20] {
            let view = ObjectView::new(stack.store.clone()).whole_up_to(whole);
            view.put(&path("a"), "0123456789".into()).await.expect("puts");
            let etag = view.head(&path("a")).await.expect("there").e_tag;
            let asked = [
                (None, Some("0123456789")),
                (Some(GetRange::Bounded(2..5)), Some("234")),
                (Some(GetRange::Bounded(8..50)), Some("89")),
                (Some(GetRange::Bounded(10..11)), None),
                (Some(GetRange::Bounded(5..5)), None),
                (Some(GetRange::Offset(3)), Some("3456789")),
                (Some(GetRange::Offset(10)), None),
                (Some(GetRange::Suffix(3)), Some("789")),
                (Some(GetRange::Suffix(30)), Some("0123456789")),
            ];
            for (range, expected) in asked {
                let options =
                    GetOptions { range: range.clone(), if_match: etag.clone(), ..GetOptions::default() };
                let got = match view.get_opts(&path("a"), options).await {
                    Ok(got) => {
                        assert_eq!((got.meta.size, &got.meta.e_tag), (10, &etag));
                        let length = got.range.end - got.range.start;
                        let bytes = got.bytes().await.expect("reads");
                        assert_eq!(bytes.len() as u64, length);
                        Some(bytes)
                    }
                    Err(Error::Generic { .. }) => None,
                    Err(error) => panic!("{range:?}: {error}"),
                };
                assert_eq!(got.as_deref(), expected.map(str::as_bytes), "{range:?} up to {whole}");
            }
            let refused = GetOptions {
                if_none_match: etag,
                range: Some(GetRange::Bounded(0..2)),
                ..GetOptions::default()
            };
            let refused = view.get_opts(&path("a"), refused).await.expect_err("not modified");
            assert!(matches!(refused, Error::NotModified { .. }), "{refused}");
            let parts = view.get_ranges(&path("a"), &[7..9, 0..2, 9..20]).await.expect("reads");
            assert_eq!(parts, ["78", "01", "9"]);
            assert!(view.get_ranges(&path("a"), &[0..1, 10..12]).await.is_err());
        }
    }
}
