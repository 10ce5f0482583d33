//! Writes of 100 bytes to a few keys over `quick_cache`, by policy, beside an insert into the raw cache. The tiers are in memory, so
//! that what is counted is the stack. Of write-behind it is the acknowledgement: the backend answers no write meanwhile.

use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use tiered::{
    Create, Entry, Key, MemoryStore, Put, Result, Store, StoreExt as _, TieredStore, VolatileJournal,
    WritePolicy,
};
use tiered_conformance::Intercept;
use tokio::runtime::Runtime;

use crate::counted;
use crate::quick::Stuck;

/// The writes that can be counted. The first is what the others are compared with.
pub(crate) const KINDS: [&str; 5] = ["quick-insert", "put-local", "put-through", "put-around", "put-behind"];

/// Keys that are written in turns.
const KEYS: usize = 64;

type Raw = quick_cache::sync::Cache<Key, Entry, quick_cache::UnitWeighter, foldhash::fast::RandomState>;

struct Writes {
    keys: Vec<Key>,
    value: Bytes,
    raw: Raw,
    entry: Entry,
    store: TieredStore,
}

impl Writes {
    async fn new(policy: WritePolicy) -> Result<Self> {
        let stuck = Arc::new(AtomicBool::new(false));
        let backend: Arc<dyn Store> = match policy {
            WritePolicy::WriteBehind => Arc::new(Intercept::new(MemoryStore::new(), Stuck::new(&stuck))),
            _ => Arc::new(MemoryStore::new()),
        };
        let mut builder = TieredStore::builder(tiered::open("quick:", Create::IfAbsent).await?, backend);
        if policy == WritePolicy::WriteBehind {
            builder = builder.journal(VolatileJournal::new()).max_pending_operations(1 << 20);
        }
        let store = builder.write_policy(policy).build().await?;
        let names = (0..KEYS).map(|index| Key::new(format!("users/{index}/visits")));
        let keys = names.collect::<Result<Vec<Key>>>()?;
        let value = Bytes::from(vec![1; 100]);
        for key in &keys {
            store.put(key, Put::new(value.clone())).await?;
        }
        store.flush().await?;
        stuck.store(policy == WritePolicy::WriteBehind, Ordering::Release);
        let entry = store.get(keys.first().expect("some")).await?.expect("just written");
        let raw = Raw::with(
            1 << 16,
            1 << 16,
            quick_cache::UnitWeighter,
            foldhash::fast::RandomState::default(),
            quick_cache::sync::DefaultLifecycle::default(),
        );
        Ok(Self { keys, value, raw, entry, store })
    }

    async fn write(&self, kind: &str, key: &Key) {
        if kind == "quick-insert" {
            self.raw.insert(black_box(key).clone(), black_box(&self.entry).clone());
        } else {
            let put = Put::new(black_box(&self.value).clone());
            drop(black_box(self.store.put(black_box(key), put).await.expect("written")));
        }
    }
}

/// Makes so many writes, all tasks on this thread.
pub(crate) fn write(kind: &str, number: usize) {
    let policy = match kind {
        "quick-insert" | "put-through" => WritePolicy::WriteThrough,
        "put-local" => WritePolicy::FrontendOnly,
        "put-around" => WritePolicy::WriteAround,
        "put-behind" => WritePolicy::WriteBehind,
        _ => unreachable!("no such write: {kind}"),
    };
    let runtime: Runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().expect("starts");
    let writes = runtime.block_on(Writes::new(policy)).expect("builds");
    let keys: Vec<&Key> = writes.keys.iter().cycle().take(number).collect();
    counted(|| {
        runtime.block_on(async {
            for key in keys {
                writes.write(kind, key).await;
            }
        });
    });
    // The backend of write-behind answers no write, so nothing could be closed.
    std::process::exit(0);
}
