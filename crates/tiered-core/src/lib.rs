//! Traits, policies and the tiering engine of `tiered`: a key-value store in tiers.
//!
//! A [`TieredStore`] puts a fast *frontend* before an authoritative *backend*. Both are [`Store`]s, and so is the
//! tiered store itself, so tiers nest to any depth. This crate names no driver; adapters live in crates of their
//! own (`tiered-moka`, `tiered-redb`, …) and prove themselves with `tiered-conformance`.
//!
//! | to | see |
//! |---|---|
//! | read and write | [`Store`], [`StoreExt`] |
//! | build a tiered store | [`TieredStore::builder`], [`settings`] |
//! | handle a failure | [`Error`] |
//! | synchronise stores | [`sync`] |
//! | run code before and after each write | [`hooks`] |
//! | hand a backend to another owner, or give a journal up | [`ownership`] |
//! | write an adapter, a wrapper or a journal | [`adapter`] |
//!
//! # Features
//!
//! `test-util` adds the module `testing`: a clock that a test moves by hand, and more methods of [`MemoryStore`]. Turn it
//! on in dev-dependencies alone.

pub mod adapter;
mod attributes;
mod backoff;
mod batch;
mod blocks;
mod breaker;
mod capability;
mod claim;
mod clock;
mod door;
mod effect;
mod entry;
mod error;
mod frontend;
pub mod hooks;
#[cfg(all(test, shuttle))]
mod interleavings;
mod journal;
mod key;
mod list;
mod marks;
mod memory;
mod observe;
mod opening;
pub mod ownership;
mod panics;
mod parts;
mod plan;
mod policy;
mod quantity;
mod ranges;
mod read;
mod reader;
mod sent;
pub mod settings;
mod slot;
mod store;
pub mod sync;
mod sync_primitives;
mod tasks;
#[cfg(feature = "test-util")]
pub mod testing;
mod tier;
mod tiered;
mod turn;
mod version;
mod write;
mod write_behind;
mod writer;

pub use attributes::Attributes;
pub use batch::{Action, Applied, Atomicity, Batch};
pub use capability::{Capabilities, Durability, Feature, Sharing};
pub use clock::Timestamp;
pub use entry::{Entry, Metadata};
pub use error::{Error, ErrorKind, Operation, Outcome, Result};
pub use journal::{ParkReason, Parked, VolatileJournal};
pub use key::{AsKey, Key};
pub use list::{ListOptions, ListStream, Listed};
pub use memory::MemoryStore;
pub use observe::{Event, Events, Stats};
pub use opening::{Create, Unflushed, WriteDurability};
pub use plan::guarantee::{FlushOrder, Guarantees, Requirement, Staleness};
pub use policy::{Freshness, ReadPolicy, WritePolicy};
pub use ranges::Slices;
pub use read::{Known, Lookup, Read, ReadOptions, Source};
pub use settings::TieredSettings;
pub use store::{AsStore, ByteStream, Store, StoreExt};
pub use tiered::TieredStore;
pub use tiered::builder::TieredBuilder;
pub use version::{Precondition, Version};
pub use write::{CommitLevel, Delete, Deleted, Existed, Expiry, Put, Receipt, Written};
