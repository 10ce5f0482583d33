//! Reads of several keys keep the promises of reads of one: nothing of the frontend is served that a pending write, a write under
//! way or a quarantine stands before.

use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use tiered_conformance::{Intercept, Interceptor};
use tiered_core::{
    Delete, Entry, Error, ErrorKind, Feature, Key, MemoryStore, ReadOptions, Result, Store, StoreExt as _,
    TieredBuilder, TieredStore, VolatileJournal, WritePolicy,
};

/// A tier whose writes fail, or do not answer: before they take effect, or after it.
#[derive(Debug, Default)]
struct Troubled {
    fails: AtomicBool,
    hangs_before: AtomicBool,
    hangs_after: AtomicBool,
}

type Tier = Intercept<Troubled, MemoryStore>;

#[async_trait]
impl Interceptor for Troubled {
    async fn around_write<T, F>(&self, _: &dyn Store, _: Option<&Key>, call: F) -> Result<T>
    where
        T: Send,
        F: Future<Output = Result<T>> + Send,
    {
        if self.fails.load(Ordering::Relaxed) {
            return Err(Error::new(ErrorKind::Unavailable, "as planned"));
        }
        if self.hangs_before.load(Ordering::Relaxed) {
            std::future::pending::<()>().await;
        }
        let done = call.await;
        if self.hangs_after.load(Ordering::Relaxed) {
            std::future::pending::<()>().await;
        }
        done
    }

    fn peek(&self, inner: &dyn Store, key: &Key) -> Option<Entry> {
        if inner.capabilities().has(Feature::Peeks) { inner.peek(key) } else { None }
    }
}

fn key(name: &str) -> Key {
    Key::new(name).expect("valid")
}

/// A frontend that answers at once, and one that does not; each with a backend of its own.
fn pairs() -> [(Tier, Tier); 2] {
    let slow = MemoryStore::new().declaring(|all| all.without(Feature::Peeks));
    let tier = |inner| Intercept::new(inner, Troubled::default());
    [MemoryStore::new(), slow].map(|frontend| (tier(frontend), tier(MemoryStore::new())))
}

async fn stack(pair: &(Tier, Tier), with: impl FnOnce(TieredBuilder) -> TieredBuilder) -> TieredStore {
    with(TieredStore::builder(pair.0.clone(), pair.1.clone())).build().await.expect("builds")
}

/// The value of `k`, asked for together with other keys.
async fn together(store: &TieredStore) -> Option<String> {
    let keys = [key("none"), key("k"), key("other")];
    let read = store.get_many(&keys, &ReadOptions::new()).await.remove(1).expect("reads");
    read.into_entry().map(|entry| String::from_utf8_lossy(entry.value()).into_owned())
}

/// What the tier itself has under `k`.
async fn held(tier: &Tier) -> String {
    let entry = tier.get("k").await.expect("reads").expect("found");
    String::from_utf8_lossy(entry.value()).into_owned()
}

#[tokio::test]
async fn a_pending_write_is_seen_before_what_the_frontend_had() {
    for pair in pairs() {
        let behind = |stack: TieredBuilder| {
            stack.write_policy(WritePolicy::WriteBehind).journal(VolatileJournal::new())
        };
        let store = stack(&pair, behind).await;
        store.set("k", "old").await.expect("written");
        store.flush().await.expect("flushed");
        pair.1.hangs_before.store(true, Ordering::Relaxed);
        store.set("k", "new").await.expect("acknowledged");
        assert_eq!(held(&pair.0).await, "old", "the frontend follows the backend");
        assert_eq!(together(&store).await.as_deref(), Some("new"));
        store.delete(&key("k"), Delete::new()).await.expect("acknowledged");
        assert_eq!(together(&store).await, None);
    }
}

#[tokio::test]
async fn what_one_read_has_shown_is_not_older_in_the_next_while_a_write_is_under_way() {
    for pair in pairs() {
        let store = stack(&pair, |stack| stack).await;
        store.set("k", "old").await.expect("written");
        pair.1.hangs_after.store(true, Ordering::Relaxed);
        let writer = store.clone();
        #[expect(clippy::disallowed_methods, reason = "a test is in its own runtime")]
        let writing = tokio::spawn(async move { writer.set("k", "new").await });
        while held(&pair.1).await != "new" {
            tokio::task::yield_now().await;
        }
        assert_eq!(held(&pair.0).await, "old");
        let alone = store.get("k").await.expect("reads").expect("found");
        assert_eq!(alone.value(), "new");
        assert_eq!(together(&store).await.as_deref(), Some("new"));
        writing.abort();
    }
}

#[tokio::test]
async fn a_key_in_quarantine_is_read_from_the_backend() {
    for pair in pairs() {
        let store = stack(&pair, |stack| stack).await;
        store.set("k", "old").await.expect("written");
        pair.0.fails.store(true, Ordering::Relaxed);
        store.set("k", "new").await.expect("written, past the frontend");
        assert_eq!(held(&pair.0).await, "old");
        assert_eq!(store.stats().quarantined, 1);
        assert_eq!(together(&store).await.as_deref(), Some("new"));
    }
}

/// Counts the calls that read, and the keys of each.
#[derive(Debug, Default)]
struct Counted(parking_lot::Mutex<Vec<usize>>);

#[async_trait]
impl Interceptor for Counted {
    async fn load(&self, inner: &dyn Store, key: &Key, options: &ReadOptions) -> Result<tiered_core::Read> {
        self.0.lock().push(1);
        inner.load(key, options).await
    }

    async fn get_many(
        &self,
        inner: &dyn Store,
        keys: &[Key],
        options: &ReadOptions,
    ) -> tiered_core::adapter::Reads {
        assert_eq!(options.freshness, tiered_core::Freshness::Authoritative);
        self.0.lock().push(keys.len());
        inner.get_many(keys, options).await
    }
}

#[tokio::test]
async fn an_authoritative_read_of_many_keys_is_one_read_of_the_backend() {
    let backend = std::sync::Arc::new(Intercept::new(MemoryStore::new(), Counted::default()));
    let shared: std::sync::Arc<dyn Store> =
        std::sync::Arc::<Intercept<Counted, MemoryStore>>::clone(&backend);
    let store = TieredStore::builder(MemoryStore::new(), shared).build().await.expect("builds");
    store.set("a", "old").await.expect("written");
    backend.inner().set("a", "of others").await.expect("written");
    backend.0.lock().clear();
    let reads = store.get_many(&[key("a"), key("none")], &ReadOptions::new().authoritative()).await;
    let values: Vec<_> =
        reads.into_iter().map(|read| read.expect("reads").into_entry().map(Entry::into_value)).collect();
    assert_eq!(values, [Some("of others".into()), None]);
    assert_eq!(*backend.0.lock(), [2]);
    assert_eq!(store.get("a").await.expect("reads").expect("there").value(), "of others");
}
