//! The stacks: memory, disk, two tiers under each write policy, three tiers.

use std::sync::Arc;

use tempfile::TempDir;
use tiered_core::{MemoryStore, Store, TieredStore, WritePolicy};
use tiered_journal::JournalConfig;
use tiered_moka::{MokaConfig, MokaStore};
use tiered_redb::{RedbConfig, RedbStore};

/// A stack, and the folder that it lies in.
pub(crate) struct Stack {
    pub(crate) name: &'static str,
    pub(crate) store: Arc<dyn Store>,
    folder: TempDir,
}

impl Stack {
    pub(crate) async fn close(self) {
        self.store.close().await.expect("closes");
        drop(self.folder);
    }
}

pub(crate) fn cache() -> MokaStore {
    MokaConfig::new(64 << 20).build().expect("builds")
}

pub(crate) async fn disk(folder: &TempDir) -> RedbStore {
    RedbConfig::new(folder.path().join("data.redb")).cache(8 << 20).open().await.expect("opens")
}

pub(crate) async fn two_tiers(folder: &TempDir, policy: WritePolicy) -> TieredStore {
    let builder = match policy {
        // What is written there is nowhere else: a cache that evicts would lose it.
        WritePolicy::FrontendOnly => TieredStore::builder(MemoryStore::new(), disk(folder).await),
        _ => TieredStore::builder(cache(), disk(folder).await),
    };
    let builder = builder.write_policy(policy);
    let builder = match policy {
        WritePolicy::WriteBehind => {
            let journal = JournalConfig::new(folder.path().join("journal")).open().await.expect("opens");
            builder.journal(journal)
        }
        _ => builder,
    };
    builder.build().await.expect("builds")
}

/// All of them, each new.
pub(crate) async fn all() -> Vec<Stack> {
    let folder = || tempfile::tempdir().expect("a folder");
    let mut stacks = vec![Stack { name: "memory", store: Arc::new(MemoryStore::new()), folder: folder() }];
    let at = folder();
    stacks.push(Stack { name: "redb", store: Arc::new(disk(&at).await), folder: at });
    for (name, policy) in [
        ("write-through", WritePolicy::WriteThrough),
        ("write-behind", WritePolicy::WriteBehind),
        ("write-around", WritePolicy::WriteAround),
        ("frontend-only", WritePolicy::FrontendOnly),
    ] {
        let at = folder();
        stacks.push(Stack { name, store: Arc::new(two_tiers(&at, policy).await), folder: at });
    }
    let at = folder();
    let below = two_tiers(&at, WritePolicy::WriteBehind).await;
    let three = TieredStore::builder(MemoryStore::new(), below).build().await.expect("builds");
    stacks.push(Stack { name: "three tiers", store: Arc::new(three), folder: at });
    stacks
}
