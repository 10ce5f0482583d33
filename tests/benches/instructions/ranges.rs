//! Hits of ranges over `quick_cache`: of an entry that is there as a whole, of one block, and of two.

use std::hint::black_box;

use tiered::blocking::Runtime;
use tiered::{Create, Key, MemoryStore, ReadOptions, Result, Source, Store, StoreExt as _, TieredStore};

use crate::{counted, ready};

/// The hits that can be counted: a `load`, what ranges are compared with; a range within a block; one across two.
pub(crate) const KINDS: [&str; 3] = ["load-hit", "range-hit", "range-across"];

const BLOCK: u64 = 256 << 10;
const LEN: u64 = 4 << 10;

struct Hits {
    small: Key,
    large: Key,
    store: TieredStore,
}

impl Hits {
    async fn new() -> Result<Self> {
        let backend = MemoryStore::new();
        let (small, large) = (Key::new("films/42/title")?, Key::new("films/42")?);
        backend.set(&large, vec![1; 2 << 20]).await?;
        let frontend = tiered::open("quick:?capacity=64MiB", Create::IfAbsent).await?;
        let store = TieredStore::builder(frontend, backend).build().await?;
        store.set(&small, vec![1; usize::try_from(LEN).unwrap_or_default()]).await?;
        store.get_range(&large, 0..2 * BLOCK).await?;
        store.flush().await?;
        Ok(Self { small, large, store })
    }

    /// The tier that answered a hit of this kind.
    async fn hit(&self, kind: &str) -> Result<Source> {
        let plain = ReadOptions::new();
        let (key, options) = match kind {
            "load-hit" => (&self.small, plain),
            "range-hit" => (&self.large, plain.range(LEN..2 * LEN)),
            "range-across" => (&self.large, plain.range(BLOCK - LEN / 2..BLOCK + LEN / 2)),
            _ => unreachable!("no such hit: {kind}"),
        };
        let read = self.store.load(black_box(key), &options).await?;
        let source = read.source;
        assert!(black_box(read).into_entry().is_some());
        Ok(source)
    }
}

/// Makes so many hits.
pub(crate) fn hit(kind: &str, number: usize) {
    let runtime = Runtime::new().expect("starts");
    let hits = runtime.wait(Hits::new()).expect("builds");
    // Fills come after the answer.
    while runtime.wait(hits.hit(kind)).expect("reads") != Source::Frontend {
        std::thread::yield_now();
    }
    // A look at a frontend has a limit of time, which is of some runtime.
    let clock = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("starts");
    let entered = clock.enter();
    counted(|| {
        for _ in 0..number {
            black_box(ready(hits.hit(kind))).expect("reads");
        }
    });
    drop(entered);
    runtime.wait(hits.store.close()).expect("closes");
}
