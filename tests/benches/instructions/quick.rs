//! Hits over `quick_cache`, beside the raw cache: of an idle store, by reference to any store, while a thousand other keys wait
//! for the backend, where entries get old, and through a store that can be exchanged.

use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use tiered::blocking::Runtime;
use tiered::wrap::Swappable;
use tiered::{
    Create, Entry, Key, MemoryStore, Put, Result, Store, StoreExt as _, TieredStore, VolatileJournal,
    WritePolicy,
};
use tiered_conformance::{Intercept, Interceptor};

use crate::{counted, ready};

/// The hits that can be counted. The first is what the others are compared with.
pub(crate) const KINDS: [&str; 7] =
    ["quick", "quick-store", "quick-dyn", "quick-text", "quick-pending", "quick-max-stale", "quick-seam"];

const KEY: &str = "users/42/profile";

type Raw = quick_cache::sync::Cache<Key, Entry, quick_cache::UnitWeighter, foldhash::fast::RandomState>;

/// A backend that stops answering writes.
#[derive(Debug, Default)]
pub(crate) struct Stuck(Arc<AtomicBool>);

impl Stuck {
    /// A backend that stops when `stuck` is set.
    pub(crate) fn new(stuck: &Arc<AtomicBool>) -> Self {
        Self(Arc::clone(stuck))
    }
}

#[async_trait]
impl Interceptor for Stuck {
    async fn before_write(&self) -> Result<()> {
        if self.0.load(Ordering::Acquire) {
            std::future::pending::<()>().await;
        }
        Ok(())
    }
}

struct Hits {
    key: Key,
    raw: Raw,
    plain: TieredStore,
    shared: Arc<dyn Store>,
    pending: TieredStore,
    bounded: TieredStore,
    seam: Swappable,
}

impl Hits {
    async fn new() -> Result<Self> {
        let key = Key::new(KEY)?;
        let frontend = async || tiered::open("quick:", Create::IfAbsent).await;
        let plain = TieredStore::builder(frontend().await?, MemoryStore::new()).build().await?;
        let bounded = TieredStore::builder(frontend().await?, MemoryStore::new())
            .max_stale(Duration::from_hours(1))
            .build()
            .await?;
        let stuck = Arc::new(AtomicBool::new(false));
        let backend = Intercept::new(MemoryStore::new(), Stuck::new(&stuck));
        let pending = TieredStore::builder(frontend().await?, backend)
            .write_policy(WritePolicy::WriteBehind)
            .journal(VolatileJournal::new())
            .build()
            .await?;
        for store in [&plain, &bounded, &pending] {
            store.put(&key, Put::new(vec![1; 100])).await?;
            store.flush().await?;
        }
        stuck.store(true, Ordering::Release);
        for index in 0..1_000 {
            pending.put(&Key::new(format!("users/{index}/visits"))?, Put::new("one more")).await?;
        }
        let shared: Arc<dyn Store> = Arc::new(plain.clone());
        let seam = Swappable::new(plain.clone());
        let raw = Raw::with(
            1 << 16,
            1 << 16,
            quick_cache::UnitWeighter,
            foldhash::fast::RandomState::default(),
            quick_cache::sync::DefaultLifecycle::default(),
        );
        let entry = plain.get(&key).await?.expect("just written");
        raw.insert(key.clone(), entry);
        Ok(Self { key, raw, plain, shared, pending, bounded, seam })
    }

    fn hit(&self, kind: &str) {
        let key = black_box(&self.key);
        match kind {
            "quick" => drop(black_box(self.raw.get(key))),
            "quick-store" => drop(black_box(ready(self.plain.get(key)))),
            "quick-dyn" => drop(black_box(ready(self.shared.get(key)))),
            "quick-text" => drop(black_box(ready(self.plain.get(black_box(KEY))))),
            "quick-pending" => drop(black_box(ready(self.pending.get(key)))),
            "quick-max-stale" => drop(black_box(ready(self.bounded.get(key)))),
            "quick-seam" => drop(black_box(ready(self.seam.get(key)))),
            _ => unreachable!("no such hit: {kind}"),
        }
    }
}

/// Makes so many hits.
pub(crate) fn hit(kind: &str, number: usize) {
    let runtime = Runtime::new().expect("starts");
    let hits = runtime.wait(Hits::new()).expect("builds");
    assert!(hits.raw.get(&hits.key).is_some() && hits.pending.stats().pending >= 1_000);
    counted(|| (0..number).for_each(|_| hits.hit(kind)));
    // The backend answers no write, so nothing could be closed.
    std::process::exit(0);
}
