//! A key-value store in tiers: a fast frontend over an authoritative backend, with explicit policies.
//!
//! This crate gathers the others by feature: `moka` and `journal` (defaults), `redb`, `rocksdb`, `postgres`, `s3`. [`open`] opens a
//! store by URL, [`Stack`] builds a stack of any depth from data (TOML); everything else is re-exported from `tiered-core`.
//! A whole service over it, with tests that kill it, is `examples/service` of the repository.
//!
//! # Examples
//! ```
//! # #[cfg(feature = "moka")]
//! # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
//! use tiered::{Create, Store, StoreExt, TieredStore};
//!
//! let frontend = tiered::open("moka:?capacity=16MiB", Create::IfAbsent).await?;
//! let backend = tiered::open("memory:", Create::IfAbsent).await?;
//! let store = TieredStore::builder(frontend, backend).build().await?;
//! store.set("greeting", "hello").await?;
//! assert_eq!(store.get("greeting").await?.expect("just written").value(), "hello");
//! store.close().await?;
//! # Ok::<(), tiered::Error>(()) }).unwrap();
//! ```

mod open;
mod stack;

/// For implementations of [`Store`], whose asynchronous methods it writes out.
pub use async_trait;
/// Values are [`bytes::Bytes`].
pub use bytes;
pub use open::{SCHEMES, open, open_to_read};
pub use stack::Stack;
pub use tiered_core::opening::Create;
// By name, so that what core gains for adapters does not show here by itself. `adapter` has that.
#[doc(inline)]
pub use tiered_core::{
    Action, Applied, AsKey, Atomicity, Attributes, Batch, BatchOutcomes, BreakerSettings, ByteStream,
    Capabilities, Change, ChangeStream, Checksum, Clock, Delete, Deleted, Durability, Entry, Error,
    ErrorKind, Event, Events, Existed, Expiry, Feature, FillTiming, FlushOrder, Freshness, FrontendFailure,
    Guarantees, Journal, JournalsSeen, Key, Known, Lease, Level, ListOptions, ListStream, Listed, Lookup,
    ManualClock, MaxStale, MemoryStore, Metadata, OnConnectFailure, OnFull, OnOverdue, OnPark, OnUnknown,
    Operation, Outcome, ParkReason, Parked, Precondition, Put, Read, ReadOptions, ReadPolicy, Reads, Receipt,
    Reopen, Requirement, Result, Sequence, ServeStale, Sharing, Slices, Source, Staleness, Stamp, Stats,
    Store, StoreExt, SystemClock, TieredBuilder, TieredSettings, TieredStore, Timestamp, Validator, Version,
    VersionMint, VolatileJournal, WritePolicy, Written, adapter, codec, is_damaged_key, opening, ownership,
    store, sync, url,
};

/// The journal of durable write-behind.
#[cfg(feature = "journal")]
pub use tiered_journal as journal;
/// The memory tier.
#[cfg(feature = "moka")]
pub use tiered_moka as moka;
/// The Postgres tier.
#[cfg(feature = "postgres")]
pub use tiered_postgres as postgres;
/// The embedded disk tier in pure Rust.
#[cfg(feature = "redb")]
pub use tiered_redb as redb;
/// The embedded disk tier over RocksDB.
#[cfg(feature = "rocksdb")]
pub use tiered_rocksdb as rocksdb;
/// The S3 tier.
#[cfg(feature = "s3")]
pub use tiered_s3 as s3;
