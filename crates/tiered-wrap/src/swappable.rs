//! A store that can be exchanged while it is used.

mod calls;
mod claims;
mod feed;
mod listing;
mod moving;
mod options;
mod swap;
mod writes;

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::StreamExt as _;
use tiered_core::adapter::{BatchOutcomes, ChangeStream, Claim, Reads, Scope};
use tiered_core::{
    AsStore, Batch, ByteStream, Capabilities, Delete, Deleted, Entry, Error, ErrorKind, Feature, Key,
    ListOptions, ListStream, Metadata, Operation, Put, Read, ReadOptions, Result, Slices, Store, Written,
};

use calls::Calls;
use claims::Lent;
use writes::Writes;

pub use options::{MoveOptions, Moved};

/// A store that can be exchanged for another while it is used: a seam in a stack at which tiers are attached and detached, and
/// data moves to another backend. Callers see one store throughout. During an exchange their calls wait; `peek`, which is a hit in
/// memory, is answered.
///
/// | to | do |
/// |---|---|
/// | attach a frontend | [`swap`](Self::swap) the store inside for a [`TieredStore`](tiered_core::TieredStore) over it, then warm it up with [`TieredStore::sync`](tiered_core::TieredStore::sync) |
/// | detach a frontend | [`detach`](Self::detach) the stack inside, which is drained first |
/// | replace a backend | [`move_to`](Self::move_to), which copies everything while calls go on |
///
/// Put it wherever that is to happen: around the whole stack, or as the backend of another one, to attach a disk tier between
/// memory and a server. It costs a hit what it takes to find the store inside, which is no lock and no shared counter.
///
/// * **What it declares** are the capabilities of the first store inside, without [`Feature::KeepsNotes`], so it is no frontend
///   of another stack. Whatever follows must have all of them. Where one to come has less, declare less from the start:
///   [`declaring`](Self::declaring).
/// * **Calls** that are under way end at the store that they began at. A write whose outcome stayed unknown, or that was
///   dropped, may take effect later ([`Capabilities::request_lifetime`]): an exchange waits for that too, while calls go on.
/// * **Streams** in both directions are waited for, for as long as [`patience`](Self::patience) lasts. After that nothing is
///   exchanged.
/// * **Listings** go on at the new store, behind the last key.
/// * **The feed of changes** goes on at the new store, after [`Change::Resync`](tiered_core::adapter::Change::Resync).
/// * **Claims** stand: an exclusive store inside is claimed for as long as this one is, and the next one after it.
/// * **`close`** closes the store inside.
///
/// # Examples
/// ```
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// use tiered_core::sync::{PopulateMissing, SyncOptions};
/// use tiered_core::{MemoryStore, StoreExt, TieredStore};
/// use tiered_wrap::Swappable;
///
/// let store = Swappable::new(MemoryStore::new());
/// store.set("users/42", "Ada").await?;
///
/// // A frontend is attached, and warms up.
/// let stack = store.swap(|backend| TieredStore::builder(MemoryStore::new(), backend).build()).await?;
/// stack.sync(&PopulateMissing, &SyncOptions::new()).await?;
/// assert_eq!(store.get("users/42").await?.expect("still there").value(), "Ada");
/// assert_eq!(stack.stats().hits, 1);
///
/// // And detached again.
/// store.detach(&stack).await?;
/// assert_eq!(store.get("users/42").await?.expect("still there").value(), "Ada");
/// # Ok::<(), tiered_core::Error>(()) }).unwrap();
/// ```
#[derive(Clone)]
pub struct Swappable(Arc<Shared>);

struct Shared {
    capabilities: Capabilities,
    calls: Calls,
    writes: Writes,
    lent: Lent,
}

impl fmt::Debug for Swappable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Swappable").field("inside", &self.0.calls.inside().store).finish_non_exhaustive()
    }
}

impl Swappable {
    /// A store that can be exchanged, with `store` inside at first.
    pub fn new(store: impl AsStore) -> Self {
        let inside = store.into_store();
        let capabilities = inside.capabilities().clone().without(Feature::KeepsNotes);
        Self::of(inside, capabilities)
    }

    /// As [`new`](Self::new), declaring less than the store inside has, so that one that has less can stand in for it later.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] where `change` declares what the store inside does not have.
    ///
    /// # Examples
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// use std::time::Duration;
    /// use tiered_core::{Feature, MemoryStore, Store};
    /// use tiered_wrap::Swappable;
    ///
    /// // A store that asks a server may follow: what it is asked takes a while, and nothing of it is in memory.
    /// let store = Swappable::declaring(MemoryStore::new(), |all| {
    ///     all.without(Feature::Peeks).with_request_lifetime(Duration::from_secs(30))
    /// })?;
    /// assert!(!store.capabilities().has(Feature::Peeks));
    /// # Ok::<(), tiered_core::Error>(()) }).unwrap();
    /// ```
    pub fn declaring(store: impl AsStore, change: impl FnOnce(Capabilities) -> Capabilities) -> Result<Self> {
        let inside = store.into_store();
        let declared = change(inside.capabilities().clone()).without(Feature::KeepsNotes);
        swap::check_capabilities(inside.capabilities(), &declared)?;
        Ok(Self::of(inside, declared))
    }

    fn of(inside: Arc<dyn Store>, capabilities: Capabilities) -> Self {
        Self(Arc::new(Shared {
            capabilities,
            calls: Calls::new(inside),
            writes: Writes::default(),
            lent: Lent::default(),
        }))
    }

    /// How long an exchange waits for streams that are under way, and for writes that may still take effect, before it gives up
    /// and leaves everything as it was. 30 s by default. It holds for all clones of this store.
    ///
    /// # Examples
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// use std::time::Duration;
    /// use tiered_core::{MemoryStore, StoreExt};
    /// use tiered_wrap::Swappable;
    ///
    /// // Uploads of an hour are to end first.
    /// let store = Swappable::new(MemoryStore::new()).patience(Duration::from_secs(3_600));
    /// # let _ = store;
    /// # });
    /// ```
    #[must_use]
    pub fn patience(self, patience: Duration) -> Self {
        self.0.calls.be_patient(patience);
        self
    }

    /// The store inside, as it is now. Write through this store, not through that one: an exchange does not know of writes that
    /// go past it.
    ///
    /// # Examples
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// use tiered_core::{MemoryStore, Store};
    /// use tiered_wrap::Swappable;
    ///
    /// let store = Swappable::new(MemoryStore::new());
    /// assert_eq!(store.inside().capabilities().name(), "memory");
    /// # });
    /// ```
    pub fn inside(&self) -> Arc<dyn Store> {
        Arc::clone(&self.0.calls.inside().store)
    }
}

#[deny(clippy::missing_trait_methods, reason = "no provided body may shadow the store's own")]
#[async_trait]
impl Store for Swappable {
    fn capabilities(&self) -> &Capabilities {
        &self.0.capabilities
    }

    async fn load(&self, key: &Key, options: &ReadOptions) -> Result<Read> {
        self.0.calls.begin().await.store.load(key, options).await
    }

    async fn put(&self, key: &Key, put: Put) -> Result<Written> {
        let inside = self.0.calls.begin().await;
        let write = self.0.writes.begin(&inside.store, [key]);
        write.ended(inside.store.put(key, put).await)
    }

    async fn delete(&self, key: &Key, delete: Delete) -> Result<Deleted> {
        let inside = self.0.calls.begin().await;
        let write = self.0.writes.begin(&inside.store, [key]);
        write.ended(inside.store.delete(key, delete).await)
    }

    fn list(&self, options: ListOptions) -> ListStream {
        listing::list(Arc::clone(&self.0), options)
    }

    fn peek(&self, key: &Key) -> Option<Entry> {
        if !self.0.capabilities.has(Feature::Peeks) {
            return None;
        }
        self.0.calls.inside().store.peek(key)
    }

    fn peek_hidden(&self, key: &Key) -> Option<Entry> {
        if !self.0.capabilities.has(Feature::Peeks) {
            return None;
        }
        self.0.calls.inside().store.peek_hidden(key)
    }

    async fn head(&self, key: &Key, options: &ReadOptions) -> Result<Option<Arc<Metadata>>> {
        self.0.calls.begin().await.store.head(key, options).await
    }

    async fn get_many(&self, keys: &[Key], options: &ReadOptions) -> Reads {
        self.0.calls.begin().await.store.get_many(keys, options).await
    }

    async fn get_ranges(
        &self,
        key: &Key,
        ranges: &[Range<u64>],
        options: &ReadOptions,
    ) -> Result<Read<Slices>> {
        self.0.calls.begin().await.store.get_ranges(key, ranges, options).await
    }

    async fn apply(&self, batch: Batch) -> Result<BatchOutcomes> {
        let inside = self.0.calls.begin().await;
        let keys = batch.operations().iter().map(|(key, _)| key);
        let write = self.0.writes.begin(&inside.store, keys);
        write.all_ended(inside.store.apply(batch).await)
    }

    async fn read_stream(
        &self,
        key: &Key,
        options: &ReadOptions,
    ) -> Result<Option<(Arc<Metadata>, ByteStream)>> {
        let stream = self.0.calls.begin_stream().await;
        let read = self.0.calls.begin().await.store.read_stream(key, options).await?;
        Ok(read.map(|(metadata, body)| {
            // Until the body is dropped, the stream is under way.
            let body: ByteStream = Box::pin(body.map(move |part| {
                let _ = &stream;
                part
            }));
            (metadata, body)
        }))
    }

    async fn put_stream(&self, key: &Key, put: Put, body: ByteStream) -> Result<Written> {
        // Not as a call: a slow body would hold up an exchange, which holds up every call.
        let _stream = self.0.calls.begin_stream().await;
        let inside = self.0.calls.inside();
        let write = self.0.writes.begin(&inside.store, [key]);
        write.ended(inside.store.put_stream(key, put, body).await)
    }

    async fn claim(&self, scope: &Scope) -> Result<Claim> {
        let inside = self.0.calls.begin().await;
        self.0.lent.claim(&self.0.capabilities, &inside.store, scope).await
    }

    fn changes(&self) -> Option<ChangeStream> {
        feed::changes(&self.0)
    }

    async fn mark(&self, name: &str) -> Result<Option<Bytes>> {
        self.0.calls.begin().await.store.mark(name).await
    }

    async fn mark_names(&self, prefix: &str) -> Result<Vec<String>> {
        self.0.calls.begin().await.store.mark_names(prefix).await
    }

    async fn set_mark(&self, name: &str, value: Option<Bytes>) -> Result<()> {
        self.0.calls.begin().await.store.set_mark(name, value).await
    }

    async fn flush(&self) -> Result<()> {
        self.0.calls.begin().await.store.flush().await
    }

    async fn close(&self) -> Result<()> {
        let inside = self.0.calls.begin().await;
        self.0.calls.close();
        inside.store.close().await
    }
}

/// Nothing was exchanged.
fn refused(kind: ErrorKind, message: impl Into<String>) -> Error {
    Error::new(kind, message.into()).during(Operation::Open)
}
