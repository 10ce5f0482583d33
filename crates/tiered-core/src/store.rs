//! The [`Store`] trait: the contract between adapters and the tiering engine.

mod answers;
mod changes;
mod convenience;
mod one_by_one;
mod shared;

use std::fmt;
use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures_core::Stream;
use futures_util::stream;

#[cfg(doc)]
use crate::batch::Atomicity;
use crate::batch::{Batch, BatchOutcomes};
use crate::capability::{Capabilities, Feature, Sharing};
use crate::claim::{Claim, Scope};
use crate::entry::{Entry, Metadata};
#[cfg(doc)]
use crate::error::Outcome;
use crate::error::{Error, ErrorKind, Operation, Result};
use crate::key::Key;
use crate::list::{ListOptions, ListStream};
use crate::ranges::{NEAR, Slices, load_ranges};
#[cfg(doc)]
use crate::read::Lookup;
use crate::read::{Read, ReadOptions, Reads};
use crate::write::{Delete, Deleted, Put, Written};

pub use answers::{answer, check_mark, closed, collect, precondition_failed};
pub use changes::{Change, ChangeStream};
pub use convenience::StoreExt;
use one_by_one::apply_one_by_one;
pub use shared::AsStore;

/// A value as a stream of parts, in order. An error ends it.
pub type ByteStream = Pin<Box<dyn Stream<Item = Result<Bytes>> + Send>>;

/// A key-value store: one tier, or a stack of them.
///
/// This documentation is the specification. Each clause has a name in brackets; the conformance suite
/// (`tiered-conformance`) has a case for each and cites it; the tiering engine relies on nothing else. Five
/// methods are required; the others have bodies that are correct for every store and that an adapter overrides
/// where its engine does better. A *wrapper* overrides all of them and denies `clippy::missing_trait_methods`, so
/// that no body given here shadows one of the store inside.
///
/// A store is shared as `Arc<dyn Store>`; every method takes `&self` and may be called concurrently.
///
/// # Reading
/// * **`[read.whole]`** [`load`](Store::load) of a key returns the entry of the last write that took effect:
///   value, and all metadata that the writer gave or the store stamped. A missing key is
///   [`Lookup::Absent`], never an error; an error is never an absence. A whole value comes with its checksum.
/// * **`[read.unless]`** With [`ReadOptions::unless`], an entry that is still the known one answers
///   [`Lookup::Unchanged`]; any other answers as without it.
/// * **`[read.if]`** With [`ReadOptions::if_version`], a live entry of another version answers [`Lookup::Changed`], and
///   an absent one `Absent`; otherwise the read answers as without it. The version is compared first: neither `unless`
///   nor the range is judged against another version. What is found is of that version as a whole, also where the
///   entry is replaced meanwhile. A cache whose own copy is of another version asks its backend before it answers.
/// * **`[read.range]`** With [`ReadOptions::range`], the entry's value is the bytes of the half-open range, its
///   end clamped to the value's; its metadata are the whole value's. A start equal to the size gives an empty
///   value; a start beyond it, or beyond the end, is [`ErrorKind::InvalidRange`]. On an absent key the answer is
///   `Absent`.
/// * **`[read.expired]`** No read returns an entry at or after its `expires_at`, by the store's clock. A store
///   without [`Feature::KeepsMetadata`] honours an expiry too, or refuses the put with [`ErrorKind::Unsupported`]; it
///   never forgets one.
/// * **`[read.peek]`** [`peek`](Store::peek) never blocks, does no I/O, allocates nothing; it answers the whole
///   live entry as `load` would, or `None`, which says nothing. Only a store with [`Feature::Peeks`] answers.
///   [`peek_hidden`](Store::peek_hidden) is the same for reads with
///   [`Tombstones::Show`](crate::adapter::Tombstones::Show).
/// * **`[read.head]`** [`head`](Store::head) returns the metadata that `load` would, without the value.
///   **`[read.checksum]`** Where the store would have to read the whole value to know its checksum, metadata that come
///   without it (of `head`, ranges, streams, listings) have none, and the value is not read. One that is given is right.
/// * **`[read.many]`** [`get_many`](Store::get_many) answers each key in the order asked, duplicates included, as
///   `load` would: a key that cannot be read fails alone. It is no snapshot.
/// * **`[read.ranges]`** [`get_ranges`](Store::get_ranges) answers each range in the order asked, as `load` would, all
///   of one version, the one whose metadata it carries. Conditions and freshness hold for all of them together;
///   [`ReadOptions::range`] is ignored. One range that does not fit is [`ErrorKind::InvalidRange`]. Without any range the
///   answer has metadata alone. A value that is replaced faster than it is read is [`ErrorKind::Unavailable`].
/// * **`[read.stream]`** [`read_stream`](Store::read_stream) gives the metadata and then the same bytes, in parts. All parts
///   are of the version that the metadata name. Where the entry is replaced or removed before the end, the stream goes on with
///   the same value or ends with an error that [is retryable](Error::is_retryable); it never goes on with another one.
///
/// # Writing
/// * **`[put.replace]`** [`put`](Store::put) stores the whole entry: nothing of an earlier one survives. It is stamped
///   ([`Stamp::entry`](crate::adapter::Stamp::entry)): a copy ([`adapter::verbatim`](crate::adapter::verbatim)) keeps the version,
///   the time of modification and the note of its entry; size and checksum are always computed from the value. A read
///   that begins after the put returned sees it, or a later write.
/// * **`[put.version]`** The version returned is the version that reads then show: the put's own, where it names one
///   ([`adapter::with_version`](crate::adapter::with_version)).
/// * **`[put.absent]`**, **`[put.matches]`** With a precondition, judging it and writing are one atomic step
///   ([`Feature::ConditionalPut`]); if it does not hold: [`ErrorKind::PreconditionFailed`], [`Outcome::NotApplied`].
///   An expired entry is absent. A store without the feature refuses every precondition but
///   [`Precondition::None`](crate::Precondition::None) with [`ErrorKind::Unsupported`], before it writes.
/// * **`[put.damaged]`** [`Precondition::Damaged`](crate::Precondition::Damaged) holds where reading the key answers
///   [`ErrorKind::Corrupt`], and never over an absent or a good entry. A store without [`Feature::DetectsCorruption`]
///   refuses it with [`ErrorKind::Unsupported`]. An unconditional write replaces what is damaged as well.
/// * **`[put.limits]`** A key longer than [`Capabilities::max_key`] is [`ErrorKind::InvalidKey`], a value larger
///   than [`Capabilities::max_value`] is [`ErrorKind::TooLarge`], and nothing was written. Empty values are values.
/// * **`[put.stream]`** [`put_stream`](Store::put_stream) is a put whose value arrives in parts. A stream that
///   ends in an error, or is dropped before its end, is [`Outcome::NotApplied`]; the limit holds while it streams. Nothing of
///   it is visible before the end, to no read and no listing, and its precondition is judged then. What arrived of a put that
///   did not take effect takes no room for long. Streams of one key do not disturb each other: each is a put of its own, and
///   the last that ends stays.
/// * **`[delete.existed]`** [`delete`](Store::delete) removes the entry. Where the caller
///   [asks](Delete::report_existed) it tells whether a *live* one existed; where not, it may answer
///   [`Existed::Unknown`](crate::Existed::Unknown), and does not wait for anything in order to know.
///   Deleting an absent key is no error. **`[delete.matches]`** Preconditions as with puts, under
///   [`Feature::ConditionalDelete`].
/// * **`[write.outcome]`** A write ends as exactly one of: `Ok`, then it took effect at the declared
///   [durability](Capabilities::durability); an error whose [`write_outcome`](Error::write_outcome) is
///   [`Outcome::NotApplied`], then it never takes effect; or [`Outcome::Unknown`], then it takes effect at most
///   once, at the latest [`Capabilities::request_lifetime`] after the call returned. An unfamiliar error of a driver is
///   `Unknown`, never `NotApplied`.
/// * **`[write.retry]`** A put under the version that the live entry has already, whose precondition would
///   otherwise have failed because of that, may answer `Ok`, where size and checksum match as well: the writer
///   recognises its own write.
///
/// # Batches
/// * **`[batch.judged]`** [`apply`](Store::apply) judges preconditions against the state before the batch.
///   **`[batch.last]`** The last operation on a key wins. Where a batch that is not atomic fails to carry out the last
///   one, an earlier one has taken effect, or fails as well.
/// * **`[batch.atomic]`** With [`Feature::AtomicBatch`] a batch is all-or-nothing, also under a crash: a failed
///   precondition fails the call and nothing was written. The error [names the key](Error::for_key) of
///   an operation that was refused, where the store can tell: without that the flush of journaled writes finds it slowly.
///   Without the feature a batch that [requires](Atomicity::Required) atomicity is [`ErrorKind::Unsupported`], and one
///   that does not gives one outcome per operation.
/// * **`[batch.item]`** In a batch [per item](Atomicity::PerItem) each operation is judged alone, with or without
///   the feature: one whose precondition does not hold, or that breaks a limit, fails alone with
///   [`Outcome::NotApplied`]; the others take effect. With the feature they do so as one: all of them or, where the call
///   fails, none, also under a crash. **`[batch.empty]`** An empty batch is `Ok`.
/// * All-or-nothing is not isolation: a reader may see a part of a batch while the call goes on, since neither
///   `get_many` nor a listing is a snapshot. Once the call has returned, every read sees all of it.
///
/// # Listing
/// A tiered store lists what it reads from: the backend and what is pending, or under
/// [`FrontendOnly`](crate::WritePolicy::FrontendOnly) the frontend alone.
/// * **`[list.order]`** [`list`](Store::list) yields keys in the order of their bytes, each at most once.
///   **`[list.prefix]`**, **`[list.after]`**, **`[list.limit]`** as [`ListOptions`] says.
/// * **`[list.complete]`** Every key that was live when the listing began and is not written during it is in it;
///   every key that was absent and is not written is not. A write during the listing may or may not show.
/// * **`[list.metadata]`** With [`Feature::ListsMetadata`] each key carries the metadata that `head` would return.
/// * **`[list.values]`** With [`ListOptions::values`], a listed value is the whole value of the version listed, and of
///   no more bytes than asked for. Any may be absent: a store lists what costs it no further read. Without the option
///   there are none.
/// * **`[list.expired]`** With [`Feature::ListsExpiry`] expired entries are hidden.
/// * **`[list.damaged]`** A key whose entry the listing finds damaged is an error [`ErrorKind::Corrupt`] that
///   [names the key](Error::for_key), in the key's place; it counts towards the limit, and the listing goes on. Any other
///   error, and one that names no key, ends the listing.
/// * A listing takes memory for a page, not for the whole.
///
/// # Tombstones
/// * **`[tombstone.hidden]`** With [`Feature::KeepsNotes`], an entry whose note says
///   [`Origin::is_hidden`](crate::adapter::Origin::is_hidden) is absent to every read, listing, precondition and delete,
///   unless the options say [`Tombstones::Show`](crate::adapter::Tombstones::Show).
///
/// # Marks
/// * **`[marks.names]`** [`mark_names`](Store::mark_names) answers the names of all marks that are set and begin with a
///   prefix, in the order of their bytes, each once: what [`mark`](Store::mark) answers for each of them is a value.
/// * **`[marks]`** With [`Feature::KeepsMarks`], a store keeps small named values of its own beside the entries
///   ([`mark`](Store::mark), [`set_mark`](Store::set_mark)). They are never listed, and are as durable as the store
///   can make them when the call returns, whatever the entries' durability.
///
/// # Several handles
/// * **`[handles]`** The handles of one place of a [shared](crate::Sharing::Shared) store are one store, in one process or
///   in several: what a write of one acknowledged and flushed is what an authoritative read and a listing of another
///   answer, and preconditions are judged against it, atomically for all of them. Two handles of an exclusive place
///   cannot be open at once where it lasts ([`ErrorKind::Locked`]), and share nothing where it is volatile.
/// * **`[changes]`** With [`Feature::Changes`], the feed of [`changes`](Store::changes) tells of every write of another
///   handle that is acknowledged after the feed began: by its key, or by a later [`Change::Resync`]. It does not end
///   while the store is open, and it is a hint: it may come late, twice, or for the store's own writes. Without the
///   feature there is none.
///
/// # Damage
/// With [`Feature::DetectsCorruption`], stored data that were damaged are answered with [`ErrorKind::Corrupt`], never as an
/// entry. The conformance suite has no case for this, since it cannot reach beneath a store: each adapter that declares
/// the feature tests it on its own files.
///
/// # Claims
/// * **`[claim]`** An [exclusive](crate::Sharing::Exclusive) store is lent to one owner per scope:
///   [`claim`](Store::claim) of a scope that overlaps one which is lent is [`ErrorKind::Locked`]; disjoint ones are
///   independent, and what is dropped can be claimed again. All handles of one place in this process share their
///   [`Claims`](crate::adapter::Claims). A tiered store claims its tiers, a sync its target: two owners that do not know of each
///   other would serve stale answers. A claim does not prevent calls of the store.
///
/// # Life
/// * **`[flush]`** [`flush`](Store::flush) returns when every write acknowledged before it is as durable as the
///   store can make it. **`[close]`** [`close`](Store::close) flushes and releases the place; every later call is
///   [`ErrorKind::Closed`]; closing twice is `Ok`. The bodies given here cannot know that a store was closed: an
///   adapter that can be closed overrides both.
///
/// # Cancel safety and panics
/// Dropping the future of a read has no effect. Dropping the future of a write leaves it as with
/// [`Outcome::Unknown`]; the store stays usable, and no lock, connection or permit leaks (**`[cancel]`**). A tiered store
/// takes a panic in a tier's call for an error, after which a write may have taken effect, and goes on to call the tier.
///
/// # Examples
/// ```
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// use tiered_core::{Key, MemoryStore, Put, Store, StoreExt};
///
/// let store = MemoryStore::new();
/// let key = Key::new("greeting")?;
/// store.put(&key, Put::new("hello")).await?;
/// let entry = store.get(&key).await?.expect("just written");
/// assert_eq!(entry.value(), "hello");
/// # Ok::<(), tiered_core::Error>(()) }).unwrap();
/// ```
#[async_trait]
pub trait Store: fmt::Debug + Send + Sync + 'static {
    /// What the store declares about itself. The same for as long as it is open.
    ///
    /// # Examples
    /// ```
    /// use tiered_core::{MemoryStore, Store};
    ///
    /// assert_eq!(MemoryStore::new().capabilities().name(), "memory");
    /// ```
    fn capabilities(&self) -> &Capabilities;

    /// Reads one key.
    ///
    /// # Examples
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
    /// use tiered_core::{Key, MemoryStore, ReadOptions, Store};
    ///
    /// let store = MemoryStore::new();
    /// let read = store.load(&Key::new("users/42")?, &ReadOptions::new().authoritative()).await?;
    /// assert!(read.entry().is_none());
    /// # Ok::<(), tiered_core::Error>(()) }).unwrap();
    /// ```
    async fn load(&self, key: &Key, options: &ReadOptions) -> Result<Read>;

    /// Writes one key.
    ///
    /// # Examples
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
    /// use tiered_core::{Key, MemoryStore, Put, Store};
    ///
    /// let store = MemoryStore::new();
    /// let written = store.put(&Key::new("users/42")?, Put::new("Ada").if_absent()).await?;
    /// println!("written as {}", written.version);
    /// # Ok::<(), tiered_core::Error>(()) }).unwrap();
    /// ```
    async fn put(&self, key: &Key, put: Put) -> Result<Written>;

    /// Deletes one key.
    ///
    /// # Examples
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
    /// use tiered_core::{Delete, Key, MemoryStore, Store};
    ///
    /// // Deleting what is not there is no error.
    /// MemoryStore::new().delete(&Key::new("users/42")?, Delete::new()).await?;
    /// # Ok::<(), tiered_core::Error>(()) }).unwrap();
    /// ```
    async fn delete(&self, key: &Key, delete: Delete) -> Result<Deleted>;

    /// Lists keys in order. The stream owns what it needs and may outlive the borrow.
    ///
    /// # Examples
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
    /// use futures_util::TryStreamExt;
    /// use tiered_core::{ListOptions, MemoryStore, Store, StoreExt};
    ///
    /// let store = MemoryStore::new();
    /// store.set("users/1", "Ada").await?;
    /// store.set("users/2", "Grace").await?;
    /// let listed: Vec<_> = store.list(ListOptions::new().prefix("users/")).try_collect().await?;
    /// assert_eq!(listed.len(), 2);
    /// # Ok::<(), tiered_core::Error>(()) }).unwrap();
    /// ```
    fn list(&self, options: ListOptions) -> ListStream;

    /// The whole live entry, if it can be had at once from memory.
    ///
    /// # Examples
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
    /// use tiered_core::{Key, MemoryStore, Store, StoreExt};
    ///
    /// let store = MemoryStore::new();
    /// store.set("users/42", "Ada").await?;
    /// assert!(store.peek(&Key::new("users/42")?).is_some());
    /// # Ok::<(), tiered_core::Error>(()) }).unwrap();
    /// ```
    fn peek(&self, _key: &Key) -> Option<Entry> {
        None
    }

    /// As [`peek`](Self::peek), entries included that are hidden from users: what the tiering engine keeps in a tier besides
    /// their values.
    ///
    /// A memory tier that has it answers ranges of large values without a call that waits. Without it they are as right, and
    /// slower.
    ///
    /// # Examples
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
    /// use tiered_core::adapter::{self, Note, Origin, Stamp};
    /// use tiered_core::{Key, MemoryStore, Put, Store};
    ///
    /// let (store, key) = (MemoryStore::new(), Key::new("users/42")?);
    /// let tombstone = Note::default().with_origin(Origin::Tombstone);
    /// let entry = Stamp::system().entry(&Put::new("")).with_note(tombstone);
    /// store.put(&key, adapter::verbatim(&entry)).await?;
    /// assert!(store.peek(&key).is_none() && store.peek_hidden(&key).is_some());
    /// # Ok::<(), tiered_core::Error>(()) }).unwrap();
    /// ```
    fn peek_hidden(&self, _key: &Key) -> Option<Entry> {
        None
    }

    /// Reads one key's metadata, whatever conditions and range the options name.
    ///
    /// # Examples
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
    /// use tiered_core::{Key, MemoryStore, ReadOptions, Store, StoreExt};
    ///
    /// let store = MemoryStore::new();
    /// store.set("film", "many bytes").await?;
    /// let head = store.head(&Key::new("film")?, &ReadOptions::new()).await?;
    /// assert_eq!(head.expect("just written").size, 10);
    /// # Ok::<(), tiered_core::Error>(()) }).unwrap();
    /// ```
    async fn head(&self, key: &Key, options: &ReadOptions) -> Result<Option<Arc<Metadata>>> {
        let options = ReadOptions { unless: None, if_version: None, range: Some(0..0), ..options.clone() };
        let read = self.load(key, &options).await?;
        Ok(read.entry().map(|entry| Arc::clone(entry.metadata())))
    }

    /// Reads several keys; one answer for each of them, in their order. Here: one after the other.
    ///
    /// # Examples
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
    /// use tiered_core::{Key, MemoryStore, ReadOptions, Store, StoreExt};
    ///
    /// let store = MemoryStore::new();
    /// store.set("a", "1").await?;
    /// let keys = [Key::new("a")?, Key::new("b")?];
    /// let reads = store.get_many(&keys, &ReadOptions::new()).await;
    /// let found: Vec<bool> = reads.iter().map(|read| read.as_ref().is_ok_and(|read| read.entry().is_some())).collect();
    /// assert_eq!(found, [true, false]);
    /// # Ok::<(), tiered_core::Error>(()) }).unwrap();
    /// ```
    async fn get_many(&self, keys: &[Key], options: &ReadOptions) -> Reads {
        let mut reads = Vec::with_capacity(keys.len());
        for key in keys {
            reads.push(self.load(key, options).await);
        }
        reads
    }

    /// Reads several ranges of one key's value, all of one version. Here: by one read, or some that are conditional on
    /// the version of the first, begun anew where it changes.
    ///
    /// # Examples
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
    /// use tiered_core::{Key, Lookup, MemoryStore, Put, ReadOptions, Store};
    ///
    /// let store = MemoryStore::new();
    /// let key = Key::new("file")?;
    /// store.put(&key, Put::new("header, body, footer")).await?;
    /// let read = store.get_ranges(&key, &[0..6, 14..20], &ReadOptions::new()).await?;
    /// let Lookup::Found(slices) = read.lookup else { panic!("just written") };
    /// assert_eq!(slices.values, ["header", "footer"]);
    /// assert_eq!(slices.metadata.size, 20);
    /// # Ok::<(), tiered_core::Error>(()) }).unwrap();
    /// ```
    async fn get_ranges(
        &self,
        key: &Key,
        ranges: &[Range<u64>],
        options: &ReadOptions,
    ) -> Result<Read<Slices>> {
        let load = |options: ReadOptions| async move { self.load(key, &options).await };
        load_ranges(ranges, options, NEAR, load).await.map_err(|error| error.for_key(key))
    }

    /// Applies a batch. Here: refuses to be atomic; otherwise judges every precondition first, then writes one
    /// after the other, unconditionally where a key occurs twice.
    ///
    /// # Examples
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
    /// use tiered_core::{Batch, Delete, Key, MemoryStore, Store, StoreExt};
    ///
    /// let store = MemoryStore::new();
    /// store.set("cart/1", "apple").await?;
    /// let batch = Batch::new()
    ///     .put(Key::new("order/1")?, "apple")
    ///     .delete(Key::new("cart/1")?, Delete::new());
    /// store.apply(batch).await?;
    /// assert!(!store.contains("cart/1").await?);
    /// # Ok::<(), tiered_core::Error>(()) }).unwrap();
    /// ```
    async fn apply(&self, batch: Batch) -> Result<BatchOutcomes> {
        apply_one_by_one(self, batch).await
    }

    /// Reads one key's value in parts, of one version, whatever conditions the options name. Here: loads it whole and yields it as one part.
    ///
    /// # Examples
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
    /// use futures_util::TryStreamExt;
    /// use tiered_core::{Key, MemoryStore, ReadOptions, Store, StoreExt};
    ///
    /// let store = MemoryStore::new();
    /// store.set("film", "many bytes").await?;
    /// let (metadata, mut body) =
    ///     store.read_stream(&Key::new("film")?, &ReadOptions::new()).await?.expect("just written");
    /// let mut received = 0;
    /// while let Some(part) = body.try_next().await? {
    ///     received += part.len() as u64;
    /// }
    /// assert_eq!(received, metadata.size);
    /// # Ok::<(), tiered_core::Error>(()) }).unwrap();
    /// ```
    async fn read_stream(
        &self,
        key: &Key,
        options: &ReadOptions,
    ) -> Result<Option<(Arc<Metadata>, ByteStream)>> {
        let options = ReadOptions { unless: None, if_version: None, ..options.clone() };
        Ok(self.load(key, &options).await?.into_entry().map(|entry| {
            let metadata = Arc::clone(entry.metadata());
            let body: ByteStream = Box::pin(stream::iter([Ok(entry.into_value())]));
            (metadata, body)
        }))
    }

    /// Writes one key from parts; `put.value` is ignored. Here: collects them, within the limit, and puts.
    ///
    /// # Examples
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
    /// use futures_util::stream;
    /// use tiered_core::{Key, MemoryStore, Put, Store, StoreExt};
    ///
    /// let store = MemoryStore::new();
    /// let parts = stream::iter(["many ", "bytes"].map(|part| Ok(part.into())));
    /// store.put_stream(&Key::new("film")?, Put::new(""), Box::pin(parts)).await?;
    /// assert_eq!(store.get("film").await?.expect("just written").value(), "many bytes");
    /// # Ok::<(), tiered_core::Error>(()) }).unwrap();
    /// ```
    async fn put_stream(&self, key: &Key, put: Put, body: ByteStream) -> Result<Written> {
        let value = collect(self.capabilities(), body).await.map_err(|error| error.for_key(key))?;
        self.put(key, put.value(value)).await
    }

    /// Lends `scope` to an owner; see `[claim]`. Here: a shared store grants every claim; an exclusive one
    /// is refused, since it must hold the [`Claims`](crate::adapter::Claims) of its place and answer with them.
    ///
    /// # Examples
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// use tiered_core::adapter::Scope;
    /// use tiered_core::{ErrorKind, MemoryStore, Store};
    ///
    /// let store = MemoryStore::new();
    /// let claim = store.claim(&Scope::Whole).await?;
    /// assert_eq!(store.claim(&Scope::prefix("users/")).await.unwrap_err().kind(), ErrorKind::Locked);
    /// drop(claim);
    /// # Ok::<(), tiered_core::Error>(()) }).unwrap();
    /// ```
    async fn claim(&self, _scope: &Scope) -> Result<Claim> {
        let capabilities = self.capabilities();
        match capabilities.sharing() {
            Sharing::Shared => Ok(Claim::shared()),
            Sharing::Exclusive => Err(Error::new(
                ErrorKind::Unsupported,
                "the store declares Sharing::Exclusive and does not implement claim; hold a Claims beside its data and return claims.claim(name, scope)",
            )
            .during(Operation::Open)
            .in_tier(capabilities.name())),
        }
    }

    /// What others change, where the backend tells ([`Feature::Changes`]).
    ///
    /// # Examples
    /// ```
    /// use tiered_core::{Feature, MemoryStore, Store};
    ///
    /// let store = MemoryStore::new();
    /// assert_eq!(store.changes().is_some(), store.capabilities().has(Feature::Changes));
    /// ```
    fn changes(&self) -> Option<ChangeStream> {
        None
    }

    /// A mark's value.
    ///
    /// # Examples
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
    /// use tiered_core::{MemoryStore, Store};
    ///
    /// let store = MemoryStore::new();
    /// store.set_mark("app.schema", Some("3".into())).await?;
    /// assert_eq!(store.mark("app.schema").await?.as_deref(), Some(&b"3"[..]));
    /// # Ok::<(), tiered_core::Error>(()) }).unwrap();
    /// ```
    async fn mark(&self, _name: &str) -> Result<Option<Bytes>> {
        self.capabilities().require(Feature::KeepsMarks).map_err(|e| e.during(Operation::Mark))?;
        Ok(None)
    }

    /// Sets or removes a mark. The name matches `[a-z0-9._-]{1,64}`; the value has at most 4 KiB.
    ///
    /// # Examples
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
    /// use tiered_core::{MemoryStore, Store};
    ///
    /// let store = MemoryStore::new();
    /// store.set_mark("app.schema", Some("3".into())).await?;
    /// store.set_mark("app.schema", None).await?;
    /// assert_eq!(store.mark("app.schema").await?, None);
    /// # Ok::<(), tiered_core::Error>(()) }).unwrap();
    /// ```
    async fn set_mark(&self, _name: &str, _value: Option<Bytes>) -> Result<()> {
        self.capabilities().require(Feature::KeepsMarks).map_err(|e| e.during(Operation::Mark))
    }

    /// The names of the marks that begin with `prefix`, in order; all of them for an empty one. A store has few marks: they
    /// are answered at once. Here: refused, since only the store knows what it keeps.
    ///
    /// # Examples
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
    /// use tiered_core::{MemoryStore, Store};
    ///
    /// let store = MemoryStore::new();
    /// store.set_mark("app.lease.b", Some("1".into())).await?;
    /// store.set_mark("app.lease.a", Some("1".into())).await?;
    /// assert_eq!(store.mark_names("app.lease.").await?, ["app.lease.a", "app.lease.b"]);
    /// # Ok::<(), tiered_core::Error>(()) }).unwrap();
    /// ```
    async fn mark_names(&self, _prefix: &str) -> Result<Vec<String>> {
        self.capabilities().require(Feature::KeepsMarks).map_err(|e| e.during(Operation::Mark))?;
        Err(Error::new(
            ErrorKind::Unsupported,
            "the store declares KeepsMarks and does not implement mark_names; answer the names of the marks it keeps",
        )
        .during(Operation::Mark)
        .in_tier(self.capabilities().name()))
    }

    /// Waits until what was acknowledged is as durable as the store can make it.
    ///
    /// # Examples
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
    /// use tiered_core::{MemoryStore, Store, StoreExt};
    ///
    /// let store = MemoryStore::new();
    /// store.set("users/42", "Ada").await?;
    /// store.flush().await?;
    /// # Ok::<(), tiered_core::Error>(()) }).unwrap();
    /// ```
    async fn flush(&self) -> Result<()> {
        Ok(())
    }

    /// Flushes and releases the place.
    ///
    /// # Examples
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
    /// use tiered_core::{ErrorKind, MemoryStore, Store, StoreExt};
    ///
    /// let store = MemoryStore::new();
    /// store.close().await?;
    /// assert_eq!(store.get("users/42").await.unwrap_err().kind(), ErrorKind::Closed);
    /// # Ok::<(), tiered_core::Error>(()) }).unwrap();
    /// ```
    async fn close(&self) -> Result<()> {
        self.flush().await
    }
}
