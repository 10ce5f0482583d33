//! What tiered stores have beyond other stores.

use tiered_core::adapter::journal::Sequence;
use tiered_core::sync::{SyncOptions, SyncReport, SyncStrategy, Walk, WalkOptions, WalkReport};
use tiered_core::{AsKey, Key, Result, TieredStore};

use super::{BlockingStore, Events};

/// # Examples
/// ```
/// use tiered::blocking::{BlockingStore, Runtime};
/// use tiered::sync::{FullSync, SyncOptions, Walk, WalkOptions};
/// use tiered::{Entry, Event, Key, MemoryStore, Result, TieredStore};
///
/// let runtime = Runtime::new()?;
/// let tiers = TieredStore::builder(MemoryStore::new(), MemoryStore::new());
/// let store = BlockingStore::new(runtime.wait(tiers.build())?, runtime);
/// let mut events = store.subscribe();
/// store.set("root", "leaf")?;
/// store.set("leaf", "")?;
/// assert!(matches!(events.next(), Some(Event::Written { .. })));
///
/// // The frontend, from the backend.
/// store.invalidate("leaf")?;
/// store.sync(&FullSync, &SyncOptions::new())?;
/// store.sync_keys(&["leaf".parse()?], &SyncOptions::new())?;
/// let walk = |_key: &Key, entry: &Entry| -> Result<Vec<Key>> {
///     let text = String::from_utf8_lossy(entry.value());
///     text.split_whitespace().map(Key::new).collect()
/// };
/// assert_eq!(store.walk_sync(&["root".parse()?], &walk, &WalkOptions::new())?.reached, 2);
///
/// // Writes that a backend refused, under write-behind.
/// for parked in store.inner().parked() {
///     store.drop_parked(parked.sequence())?;
/// }
/// store.close()?;
/// # Ok::<(), tiered::Error>(())
/// ```
impl BlockingStore<TieredStore> {
    /// [`TieredStore::invalidate`].
    pub fn invalidate(&self, key: impl AsKey) -> Result<()> {
        self.runtime().wait(self.inner().invalidate(key))
    }

    /// [`TieredStore::drop_parked`].
    pub fn drop_parked(&self, sequence: Sequence) -> Result<()> {
        self.runtime().wait(self.inner().drop_parked(sequence))
    }

    /// [`TieredStore::subscribe`], as an iterator that waits.
    pub fn subscribe(&self) -> Events {
        Events::new(self.inner().subscribe(), self.runtime().clone())
    }

    /// [`TieredStore::sync`].
    pub fn sync(&self, strategy: &dyn SyncStrategy, options: &SyncOptions) -> Result<SyncReport> {
        self.runtime().wait(self.inner().sync(strategy, options))
    }

    /// [`TieredStore::sync_keys`].
    pub fn sync_keys(&self, keys: &[Key], options: &SyncOptions) -> Result<SyncReport> {
        self.runtime().wait(self.inner().sync_keys(keys, options))
    }

    /// [`TieredStore::walk_sync`].
    pub fn walk_sync(&self, roots: &[Key], walk: &dyn Walk, options: &WalkOptions) -> Result<WalkReport> {
        self.runtime().wait(self.inner().walk_sync(roots, walk, options))
    }
}
