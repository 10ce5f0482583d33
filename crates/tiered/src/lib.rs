//! A key-value store in tiers: a fast frontend over an authoritative backend, with explicit policies.
//!
//! [`open`] opens a store by URL. [`Stack`] builds a stack of any depth from data. Everything else is re-exported from
//! `tiered-core`, and the adapters by feature:
//!
//! | feature | adds |
//! |---|---|
//! | `blocking` | the same API without async, in the module `blocking` |
//! | `quick` (default) | the memory tier, over `quick_cache` |
//! | `moka` | a memory tier over moka |
//! | `journal` (default) | durable write-behind |
//! | `redb` | the embedded disk tier in pure Rust |
//! | `rocksdb` | the embedded disk tier over RocksDB; builds C++ |
//! | `postgres` | the Postgres tier |
//! | `s3` | the S3 tier |
//! | `values` | typed values, JSON documents, append logs and a garbage sweep, in the module `values` |
//! | `msgpack`, `postcard` | codecs of typed values, beside JSON |
//! | `wrap` | a prefix of a store, stores that are only read, and stores that are exchanged while they are used |
//! | `lz4`, `zstd`, `encryption` | values that are compressed or encrypted; `zstd` builds C |
//! | `toml` | stacks that a TOML file describes (`Stack::from_toml`) |
//! | `test-util` | test doubles, in the module `testing`; for dev-dependencies alone |
//!
//! A whole service over it, with tests that kill it, is `examples/service` of the repository.
//!
//! # Examples
//! ```
//! # #[cfg(feature = "quick")]
//! # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
//! use tiered::{Create, Store, StoreExt, TieredStore};
//!
//! let frontend = tiered::quick::QuickConfig::new(16 << 20).build()?;
//! let backend = tiered::open("memory:", Create::IfAbsent).await?;
//! let store = TieredStore::builder(frontend, backend).build().await?;
//! store.set("greeting", "hello").await?;
//! assert_eq!(store.get("greeting").await?.expect("just written").value(), "hello");
//! store.close().await?;
//! # Ok::<(), tiered::Error>(()) }).unwrap();
//! ```

#[cfg(feature = "blocking")]
pub mod blocking;
mod layer;
mod lifecycle;
mod namespace;
mod open;
mod place;
mod schemes;
mod stack;

/// The programs of the README and of the book, run as tests.
#[cfg(all(doctest, feature = "quick"))]
#[doc = include_str!("../../../README.md")]
#[doc = include_str!("../../../docs/src/errors.md")]
#[doc = include_str!("../../../docs/src/hooks.md")]
#[doc = include_str!("../../../docs/src/large-values.md")]
struct Pages;

#[cfg(all(doctest, feature = "quick", feature = "blocking", feature = "redb"))]
#[doc = include_str!("../../../docs/src/blocking.md")]
struct BlockingPage;
/// The programs of the pages on values and on sweeps, which need their feature.
#[cfg(all(doctest, feature = "values"))]
#[doc = include_str!("../../../docs/src/values.md")]
#[doc = include_str!("../../../docs/src/sweep.md")]
struct PagesOfValues;
/// The page for users of konserve.
#[cfg(all(doctest, feature = "values"))]
#[doc = include_str!("../../../docs/src/konserve.md")]
struct Konserve;
/// The page on creating and destroying.
#[cfg(all(doctest, feature = "redb"))]
#[doc = include_str!("../../../docs/src/lifecycle.md")]
struct Lifecycle;
/// The page on wrappers.
#[cfg(all(doctest, feature = "quick", feature = "lz4", feature = "encryption", feature = "toml"))]
#[doc = include_str!("../../../docs/src/wrappers.md")]
struct Wrappers;
/// The page on changing tiers.
#[cfg(all(doctest, feature = "quick", feature = "wrap"))]
#[doc = include_str!("../../../docs/src/changing-tiers.md")]
struct ChangingTiers;

/// Values are [`bytes::Bytes`].
pub use bytes;
pub use open::{SCHEMES, open, open_to_read};
pub use schemes::{Opener, Schemes};
pub use stack::Stack;
// By name, so that what core gains for adapters does not show here by itself. `adapter` has that.
#[cfg(feature = "test-util")]
#[doc(inline)]
pub use tiered_core::testing;
#[doc(inline)]
pub use tiered_core::{
    Action, Applied, AsKey, AsStore, Atomicity, Attributes, Batch, ByteStream, Capabilities, CommitLevel,
    Create, Delete, Deleted, Durability, Entry, Error, ErrorKind, Event, Events, Existed, Expiry, Feature,
    FlushOrder, Freshness, Guarantees, Key, Known, ListOptions, ListStream, Listed, Lookup, MemoryStore,
    Metadata, Operation, Outcome, ParkReason, Parked, Precondition, Put, Read, ReadOptions, ReadPolicy,
    Receipt, Requirement, Result, Sharing, Slices, Source, Staleness, Stats, Store, StoreExt, TieredBuilder,
    TieredSettings, TieredStore, Timestamp, Unflushed, Version, VolatileJournal, WriteDurability,
    WritePolicy, Written, adapter, hooks, ownership, settings, sync,
};

/// The journal of durable write-behind.
#[cfg(feature = "journal")]
pub use tiered_journal as journal;
/// A memory tier over moka.
#[cfg(feature = "moka")]
pub use tiered_moka as moka;
/// The bridge to the crate `object_store`, in both directions.
#[cfg(feature = "object-store")]
pub use tiered_object_store as object_store;
/// The Postgres tier.
#[cfg(feature = "postgres")]
pub use tiered_postgres as postgres;
/// The memory tier, over `quick_cache`.
#[cfg(feature = "quick")]
pub use tiered_quick as quick;
/// The embedded disk tier in pure Rust.
#[cfg(feature = "redb")]
pub use tiered_redb as redb;
/// The embedded disk tier over RocksDB.
#[cfg(feature = "rocksdb")]
pub use tiered_rocksdb as rocksdb;
/// The S3 tier.
#[cfg(feature = "s3")]
pub use tiered_s3 as s3;
/// Typed values, JSON documents and append logs.
#[cfg(feature = "values")]
pub use tiered_values as values;
/// Stores around a store.
#[cfg(feature = "wrap")]
pub use tiered_wrap as wrap;
