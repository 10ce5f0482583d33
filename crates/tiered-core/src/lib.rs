//! Traits, policies and the tiering engine of `tiered`: a key-value store in tiers.
//!
//! A [`TieredStore`] puts a fast *frontend* before an authoritative *backend*. Both are [`Store`]s, and so is the
//! tiered store itself, so tiers nest to any depth. This crate names no driver; adapters live in crates of their
//! own (`tiered-moka`, `tiered-redb`, …) and prove themselves with `tiered-conformance`.

pub mod adapter;
mod backoff;
mod batch;
mod breaker;
mod capability;
mod claim;
mod clock;
pub mod codec;
mod door;
mod effect;
mod entry;
mod error;
mod frontend;
#[cfg(all(test, shuttle))]
mod interleavings;
mod journal;
mod key;
mod list;
mod memory;
mod observe;
pub mod opening;
pub mod ownership;
mod parts;
mod plan;
mod policy;
mod ranges;
mod read;
mod reader;
mod settings;
mod slot;
pub mod store;
pub mod sync;
mod sync_primitives;
mod tasks;
mod tier;
mod tiered;
mod turn;
pub mod url;
mod version;
mod write;
mod write_behind;
mod writer;

pub use batch::{Action, Applied, Atomicity, Batch, BatchOutcomes};
pub use capability::{Capabilities, Durability, Feature, Sharing};
pub use claim::{Claim, Claims, Scope};
pub use clock::{Clock, ManualClock, Stamp, SystemClock, Timestamp};
pub use entry::{Attributes, Checksum, Entry, Metadata, Note, Origin, Tombstones, clamp_range};
pub use error::{Error, ErrorKind, Operation, Outcome, Result};
pub use journal::{Aside, Journal, JournalRecord, ParkReason, Parked, Recovered, Sequence, VolatileJournal};
pub use key::{AsKey, Key};
pub use list::{ListOptions, ListStream, Listed, is_damaged_key, prefix_end};
pub use memory::MemoryStore;
pub use observe::{Event, Events, Stats};
pub use ownership::{JournalsSeen, Lease};
pub use plan::guarantee::{FlushOrder, Guarantees, Requirement, Staleness};
pub use policy::{Freshness, ReadPolicy, WritePolicy};
pub use ranges::Slices;
pub use read::{Known, Lookup, Read, ReadOptions, Reads, Source};
pub use settings::{
    BreakerSettings, FillTiming, FrontendFailure, MaxStale, OnConnectFailure, OnFull, OnOverdue, OnPark,
    OnUnknown, Reopen, ServeStale, TieredSettings,
};
pub use store::{ByteStream, Change, ChangeStream, Store, StoreExt};
pub use tiered::TieredStore;
pub use tiered::builder::TieredBuilder;
pub use version::{Precondition, Validator, Version, VersionMint};
pub use write::{Delete, Deleted, Existed, Expiry, Level, Put, Receipt, Written};
