//! A journal that panics may hold a part of what it was to append. Nothing is appended after it.

use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use tiered_core::adapter::journal::{Aside, Journal, JournalRecord, Recovered, Sequence};
use tiered_core::{
    Durability, ErrorKind, MemoryStore, Outcome, Result, StoreExt as _, TieredStore, VolatileJournal,
    WritePolicy,
};

/// Panics at the second append, and only there.
#[derive(Debug, Default)]
struct Panics(VolatileJournal, AtomicU64);

#[async_trait]
impl Journal for Panics {
    fn durability(&self) -> Durability {
        self.0.durability()
    }
    async fn append(&self, records: &[JournalRecord]) -> Result<Sequence> {
        assert_ne!(self.1.fetch_add(1, Ordering::Relaxed), 1, "the second append panics");
        self.0.append(records).await
    }
    async fn trim(&self, sequence: Sequence) -> Result<()> {
        self.0.trim(sequence).await
    }
    async fn set_aside(&self, aside: &Aside) -> Result<()> {
        self.0.set_aside(aside).await
    }
    async fn recover(&self, backend: &[u8]) -> Result<Recovered> {
        self.0.recover(backend).await
    }
    async fn close(&self) -> Result<()> {
        self.0.close().await
    }
}

#[tokio::test]
async fn nothing_is_appended_after_an_append_that_panicked() {
    let store = TieredStore::builder(MemoryStore::new(), MemoryStore::new())
        .write_policy(WritePolicy::WriteBehind)
        .journal(Panics::default())
        .build()
        .await
        .expect("builds");
    store.set("a", "one").await.expect("journaled");
    let panicked = store.set("b", "two").await.expect_err("the journal panicked");
    assert_eq!(panicked.write_outcome(), Outcome::Unknown);
    for key in ["a", "b", "c"] {
        let refused = store.set(key, "three").await.expect_err("nothing follows");
        assert_eq!((refused.kind(), refused.write_outcome()), (ErrorKind::Unavailable, Outcome::NotApplied));
        assert!(refused.to_string().contains("the journal failed earlier"), "{refused}");
    }
    assert_eq!(store.get("a").await.expect("reads").expect("acknowledged").value(), "one");
}
