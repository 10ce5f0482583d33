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
mod entry;
mod error;
mod journal;
mod key;
mod list;
mod memory;
mod observe;
pub mod opening;
#[cfg_attr(not(feature = "planted"), allow(unreachable_pub, reason = "public only with the feature"))]
mod planted;
mod policy;
mod ranges;
mod read;
mod slot;
pub mod store;
pub mod sync;
mod sync_primitives;
mod tiered;
pub mod url;
mod version;
mod write;

pub use batch::{Action, Applied, Atomicity, Batch, BatchOutcomes};
pub use capability::{Capabilities, Durability, Feature, Sharing};
pub use claim::{Claim, Claims, Scope};
pub use clock::{Clock, ManualClock, Stamp, SystemClock, Timestamp};
pub use entry::{Attributes, Checksum, Entry, Metadata, Note, Origin, Tombstones, clamp_range};
pub use error::{Error, ErrorKind, Operation, Outcome, Result};
pub use journal::{Aside, Journal, JournalRecord, Parked, Recovered, Sequence, VolatileJournal};
pub use key::{AsKey, Key};
pub use list::{ListOptions, ListStream, Listed, is_damaged_key, prefix_end};
pub use memory::MemoryStore;
pub use observe::{Event, Events, Stats};
#[cfg(feature = "planted")]
pub use planted::Plant;
pub use policy::{Freshness, ReadPolicy, WritePolicy};
pub use ranges::Slices;
pub use read::{Known, Lookup, Read, ReadOptions, Reads, Source};
pub use store::{ByteStream, Change, ChangeStream, Store, StoreExt};
pub use tiered::ownership;
pub use tiered::{
    BreakerSettings, FillTiming, FlushOrder, FrontendFailure, Guarantees, JournalsSeen, Lease, MaxStale,
    OnConnectFailure, OnFull, OnOverdue, OnPark, OnUnknown, Reopen, Requirement, ServeStale, TieredBuilder,
    TieredSettings, TieredStore,
};
pub use version::{Precondition, Validator, Version, VersionMint};
pub use write::{Delete, Deleted, Existed, Expiry, Level, Put, Receipt, Written};
