//! The small things, on every stack.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use futures_util::{StreamExt as _, TryStreamExt as _};
use tiered_conformance::{Intercept, Interceptor};
use tiered_core::{
    Attributes, Error, ErrorKind, Expiry, Key, ListOptions, ListStream, MemoryStore, Outcome, Put, Store,
    StoreExt as _, Timestamp,
};
use tiered_values::{Child, StoreTools as _};

use crate::stacks;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_prefix_is_deleted_and_nothing_else() {
    for stack in stacks::all().await {
        let store = &stack.store;
        for number in 0..600 {
            store.set(format!("tmp/{number}"), "x").await.expect("written");
        }
        for key in ["tmp", "tmp0", "a"] {
            store.set(key, "x").await.expect("written");
        }
        assert_eq!(store.delete_prefix("tmp/").await.expect("deleted"), 600, "{}", stack.name);
        assert_eq!(store.delete_prefix("tmp/").await.expect("nothing"), 0, "{}", stack.name);
        assert_eq!(store.keys("").await.expect("listed").len(), 3, "{}", stack.name);
        stack.close().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn copies_touches_and_unchanged_puts_keep_what_they_should() {
    for stack in stacks::all().await {
        let store = &stack.store;
        let attributes = Attributes::new().with("lang", "en").expect("valid");
        let at = Timestamp::from_millis(4_102_444_800_000);
        let put = Put::new("text").attributes(attributes.clone()).expires_at(at);
        store.set("a", put.clone()).await.expect("written");
        store.copy("a", "b").await.expect("copied").expect("there");
        let (a, b) = (store.get("a").await.expect("read"), store.get("b").await.expect("read"));
        let (a, b) = (a.expect("there"), b.expect("there"));
        assert_eq!((a.value(), &a.metadata().attributes), (b.value(), &b.metadata().attributes));
        assert_eq!(b.metadata().expires_at, Some(at), "{}", stack.name);
        assert_ne!(a.version(), b.version(), "a write of its own");

        assert!(store.put_if_changed("a", put.clone()).await.expect("compared").is_none(), "{}", stack.name);
        assert!(store.put_if_changed("a", put.value("other")).await.expect("written").is_some());
        assert!(store.put_if_changed("a", "other").await.expect("written").is_some(), "other attributes");

        store.touch("b", Expiry::Never).await.expect("touched").expect("there");
        let b = store.get("b").await.expect("read").expect("there");
        assert_eq!((b.metadata().expires_at, &b.metadata().attributes), (None, &attributes));
        assert!(store.touch("absent", Expiry::Never).await.expect("nothing").is_none());

        let keys = ["absent", "b", "a", "absent"].map(|key| Key::new(key).expect("valid"));
        assert_eq!(
            store.contains_many(&keys).await.expect("read"),
            [false, true, true, false],
            "{}",
            stack.name
        );
        let found = store.get_existing(&keys).await.expect("read");
        assert_eq!(found.iter().map(|(key, _)| key.as_str()).collect::<Vec<_>>(), ["b", "a"]);
        stack.close().await;
    }
}

#[tokio::test]
async fn an_unchanged_value_keeps_its_expiry_unless_the_put_sets_one() {
    let store = tiered_core::MemoryStore::new();
    let at = tiered_core::Timestamp::from_millis(u64::MAX / 2);
    store.set("a", Put::new("same").expires_at(at)).await.expect("written");
    assert!(store.put_if_changed("a", "same").await.expect("compared").is_none());
    let read = store.get("a").await.expect("read").expect("there");
    assert_eq!(read.metadata().expires_at, Some(at));
    let later = tiered_core::Timestamp::from_millis(u64::MAX / 2 + 1);
    assert!(store.put_if_changed("a", Put::new("same").expires_at(later)).await.expect("written").is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attributes_change_alone() {
    for stack in stacks::all().await {
        let store = &stack.store;
        let at = Timestamp::from_millis(4_102_444_800_000);
        let attributes = Attributes::new().with("lang", "en").expect("valid");
        store
            .set("a", Put::new("text").attributes(attributes.clone()).expires_at(at))
            .await
            .expect("written");
        let written = store.update_attributes("a", |found| found.with("by", "Ada")).await.expect("updated");
        let entry = store.get("a").await.expect("read").expect("there");
        assert_eq!(Some(entry.version()), written.as_ref().map(|written| &written.version), "{}", stack.name);
        assert_eq!((entry.value().as_ref(), entry.metadata().expires_at), (&b"text"[..], Some(at)));
        assert_eq!(entry.metadata().attributes.iter().collect::<Vec<_>>(), [("by", "Ada"), ("lang", "en")]);

        assert!(store.set_attributes("a", attributes.clone()).await.expect("set").is_some());
        assert!(store.set_attributes("a", attributes.clone()).await.expect("the same").is_none());
        assert!(store.set_attributes("absent", attributes).await.expect("nothing").is_none());
        let before = store.get("a").await.expect("read").expect("there");
        let error = store.update_attributes("a", |found| found.with("", "x")).await.expect_err("no name");
        assert_eq!(error.write_outcome(), Outcome::NotApplied);
        assert_eq!(store.get("a").await.expect("read").expect("there").version(), before.version());
        stack.close().await;
    }
}

#[tokio::test]
async fn a_change_of_attributes_keeps_a_value_that_is_written_meanwhile() {
    let store = MemoryStore::new();
    store.set("a", "old").await.expect("written");
    let mut runs = 0;
    store
        .update_attributes("a", |found| {
            runs += 1;
            if runs == 1 {
                let (store, put) = (&store, store.set("a", "new"));
                futures_util::FutureExt::now_or_never(put).expect("at once").expect("written");
                assert!(store.peek(&"a".parse().expect("valid")).is_some());
            }
            found.with("lang", "en")
        })
        .await
        .expect("updated");
    let entry = store.get("a").await.expect("read").expect("there");
    assert_eq!((runs, entry.value().as_ref()), (2, &b"new"[..]));
    assert_eq!(entry.metadata().attributes.get("lang"), Some("en"));
}

fn names(children: &[Child]) -> Vec<String> {
    let name = |child: &Child| match child {
        Child::Key(listed) => listed.key.as_str().to_owned(),
        Child::Folder(prefix) => format!("{prefix} >"),
        _ => String::new(),
    };
    children.iter().map(name).collect()
}

/// What a listing of one level should be, from all keys.
fn expected(keys: &[Key], prefix: &str, delimiter: &str) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    for key in keys {
        let Some(rest) = key.as_str().strip_prefix(prefix) else { continue };
        let name = match rest.find(delimiter) {
            Some(at) => format!("{prefix}{}{delimiter} >", &rest[..at]),
            None => key.as_str().to_owned(),
        };
        if found.last() != Some(&name) {
            found.push(name);
        }
    }
    found
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_level_is_listed_as_the_whole_listing_has_it() {
    for stack in stacks::all().await {
        let store = &stack.store;
        let long = format!("d/{}/x", "n".repeat(1018));
        let mut all = vec![
            "a", "d", "d.", "d/", "d/a", "d/b/", "d/b/c/d", "d/b0", "d/ü/1", "d0", "d::e", "e/f/g", &long,
        ];
        let many: Vec<String> = (0..60).map(|number| format!("d/many/{number:02}")).collect();
        let greatest: Vec<String> = (0..30).map(|number| format!("d/many/\u{10ffff}{number:02}")).collect();
        let folders: Vec<String> = (0..40).map(|number| format!("w/{number:02}/x")).collect();
        let keys: Vec<String> = (0..40).map(|number| format!("w/{number:02}")).collect();
        for more in [&many, &greatest, &folders, &keys] {
            all.extend(more.iter().map(String::as_str));
        }
        for key in all {
            store.set(key, "x").await.expect("written");
        }
        let all = store.keys("").await.expect("listed");
        for prefix in ["", "d", "d/", "d/b", "d/b/", "d/many/", "w/", "none"] {
            for delimiter in ["/", "::", "many/", "\u{10ffff}", "0"] {
                let found: Vec<Child> =
                    store.list_folder(prefix, delimiter).try_collect().await.expect("listed");
                assert_eq!(
                    names(&found),
                    expected(&all, prefix, delimiter),
                    "{}: {prefix:?} {delimiter:?}",
                    stack.name
                );
            }
        }
        let error = store.list_folder("d/", "").try_next().await.expect_err("no delimiter");
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        stack.close().await;
    }
}

/// Counts the keys that are listed; one of them is damaged.
#[derive(Debug)]
struct Counted(Arc<AtomicUsize>, Option<Key>);

#[async_trait]
impl Interceptor for Counted {
    fn list(&self, inner: &dyn Store, options: ListOptions) -> ListStream {
        let (count, damaged) = (self.0.clone(), self.1.clone());
        Box::pin(inner.list(options).map(move |listed| {
            count.fetch_add(1, Ordering::Relaxed);
            let listed = listed?;
            match &damaged {
                Some(key) if listed.key == *key => {
                    Err(Error::new(ErrorKind::Corrupt, "it is damaged").for_key(key))
                }
                _ => Ok(listed),
            }
        }))
    }
}

#[tokio::test]
async fn keys_of_a_folder_are_skipped() {
    let store = Arc::new(MemoryStore::new());
    for folder in ["a", "b", "c"] {
        for number in 0..2_000 {
            store.set(format!("{folder}/{number}"), "x").await.expect("written");
        }
    }
    store.set("d", "x").await.expect("written");
    let count = Arc::new(AtomicUsize::new(0));
    let counted = Intercept::new(store, Counted(count.clone(), None));
    let found: Vec<Child> = counted.list_folder("", "/").try_collect().await.expect("listed");
    assert_eq!(names(&found), ["a/ >", "b/ >", "c/ >", "d"]);
    let count = count.load(Ordering::Relaxed);
    assert!(count < 40, "{count} of 6,001 keys were listed");
}

#[tokio::test]
async fn a_damaged_key_of_a_level_stands_in_its_place() {
    for (damaged, is_error) in [("b", true), ("c/1", false), ("d", true)] {
        let store = Arc::new(MemoryStore::new());
        for key in ["a", "b", "c/1", "c/2", "d"] {
            store.set(key, "x").await.expect("written");
        }
        let damaged = Key::new(damaged).expect("valid");
        let counted = Intercept::new(store, Counted(Arc::default(), Some(damaged.clone())));
        let found: Vec<_> = counted.list_folder("", "/").collect().await;
        assert_eq!(found.len(), 4);
        let errors: Vec<_> = found.into_iter().filter_map(Result::err).collect();
        assert_eq!(errors.len(), usize::from(is_error));
        assert!(errors.iter().all(|error| error.damaged_key() == Some(&damaged)));
    }
}

/// Lists pages that are short before the end: some keys are gone when they are looked up.
#[derive(Debug)]
struct Short;

#[async_trait]
impl Interceptor for Short {
    fn list(&self, inner: &dyn Store, options: ListOptions) -> ListStream {
        let kept = inner.list(options).filter(|listed| {
            let gone = listed.as_ref().is_ok_and(|listed| listed.key.as_str().ends_with('0'));
            std::future::ready(!gone)
        });
        Box::pin(kept)
    }
}

#[tokio::test]
async fn a_short_page_is_not_the_end_of_a_level() {
    let store = Arc::new(MemoryStore::new());
    for number in 0..200 {
        store.set(format!("{number:03}"), "x").await.expect("written");
    }
    let short = Intercept::new(store, Short);
    let found: Vec<Child> = short.list_folder("", "/").try_collect().await.expect("listed");
    assert_eq!(found.len(), 180);
}
