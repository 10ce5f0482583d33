//! Exchanges beneath an open store with a durable journal, which counts the stacks between it and its backend.

use std::path::Path;

use async_trait::async_trait;
use tiered_conformance::{Intercept, Interceptor};
use tiered_core::{
    AsStore, ErrorKind, MemoryStore, Result, Store, StoreExt as _, TieredStore, WritePolicy, ownership,
};
use tiered_journal::JournalConfig;
use tiered_wrap::{MoveOptions, Swappable};

use super::attach;

/// A server, which goes on when its client is closed.
#[derive(Debug)]
struct Server;

#[async_trait]
impl Interceptor for Server {
    async fn close(&self, _: &dyn Store) -> Result<()> {
        Ok(())
    }
}

fn client_of(server: &MemoryStore) -> Intercept<Server, MemoryStore> {
    Intercept::new(server.clone(), Server)
}

/// A service whose acknowledged writes outlive it.
async fn service(folder: &Path, backend: impl AsStore) -> Result<TieredStore> {
    let journal = JournalConfig::new(folder.join("journal")).open().await?;
    let builder = TieredStore::builder(MemoryStore::new(), backend).write_policy(WritePolicy::WriteBehind);
    builder.journal(journal).build().await
}

#[tokio::test]
async fn no_stack_comes_beneath_a_durable_journal_that_is_open_and_the_error_says_what_to_do() {
    let folder = tempfile::tempdir().expect("a folder");
    let backend = MemoryStore::new();
    let seam = Swappable::new(client_of(&backend));
    let store = service(folder.path(), seam.clone()).await.expect("opens");
    store.set("a", "1").await.expect("acknowledged");
    let [journal] = <[_; 1]>::try_from(ownership::journals(&seam).await.expect("marks")).expect("one");
    let refused = attach(&seam).await.expect_err("the journal would not count it");
    assert_eq!(refused.kind(), ErrorKind::Locked);
    let text = refused.to_string();
    assert!(text.contains(&journal.to_string()) && text.contains("Close the store above"), "{text}");
    assert!(!text.contains("abandon"), "its writes are not to be given up: {text}");
    // Everything is as before.
    store.set("b", "2").await.expect("acknowledged");
    store.close().await.expect("closes");
    assert_eq!(backend.keys("").await.expect("lists").len(), 2);
    // As the error says: attached while it is closed, and open again over the stack.
    let seam = Swappable::new(client_of(&backend));
    let stack = attach(&seam).await.expect("attached");
    let store = service(folder.path(), seam.clone()).await.expect("opens");
    store.set("c", "3").await.expect("acknowledged");
    let refused = seam.detach(&stack).await.expect_err("the journal counts it");
    assert_eq!(refused.kind(), ErrorKind::Locked);
    store.set("d", "4").await.expect("acknowledged");
    store.close().await.expect("closes");
    assert_eq!(backend.keys("").await.expect("lists").len(), 4);
}

#[tokio::test]
async fn data_move_beneath_a_durable_journal_which_is_known_at_the_target() {
    let folder = tempfile::tempdir().expect("a folder");
    let (from, to) = (MemoryStore::new(), MemoryStore::new());
    let seam = Swappable::new(client_of(&from));
    let store = service(folder.path(), seam.clone()).await.expect("opens");
    store.set("a", "1").await.expect("acknowledged");
    let journals = ownership::journals(&seam).await.expect("marks");
    seam.move_to(client_of(&to), &MoveOptions::new()).await.expect("moved");
    assert_eq!(ownership::journals(&to).await.expect("marks"), journals);
    assert!(ownership::journals(&from).await.expect("marks").is_empty(), "nothing waits for that one");
    store.set("b", "2").await.expect("acknowledged");
    store.close().await.expect("closes");
    // The next process opens the target with the journal.
    let store = service(folder.path(), client_of(&to)).await.expect("opens");
    store.set("c", "3").await.expect("acknowledged");
    store.close().await.expect("closes");
    assert_eq!((from.keys("").await.expect("lists").len(), to.keys("").await.expect("lists").len()), (1, 3));
}
