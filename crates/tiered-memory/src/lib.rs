//! The shared part of `tiered`'s memory tiers.
//!
//! A cache in memory (moka, `quick_cache`, …) is a bounded map that evicts. An adapter says how entries get in and out of it
//! ([`Cache`]); [`CacheStore`] makes a [`Store`](tiered_core::Store) of it:
//!
//! * **Preconditions.** Writers of one key take turns, so that judging a precondition and writing are one step. Reads take
//!   no lock of ours.
//! * **Copies.** What is stored owns its buffer: a slice of a large one does not keep that in memory.
//! * **Limits.** A value that could never stay beside its key and bookkeeping is refused with
//!   [`ErrorKind::TooLarge`](tiered_core::ErrorKind::TooLarge), so that a frontend does not try.
//! * **Expiry.** Every read checks an entry's own expiry against the injected clock.
//! * **Eviction.** Entries may vanish at any time ([`Feature::Evicts`](tiered_core::Feature::Evicts)): an absence means "not
//!   here", never a wrong value.
//! * **Listing.** Such a cache has no order. A listing takes the smallest keys of a walk through the whole cache, a page of
//!   65,536 at a time: bounded memory, and no use of the entries.
//! * **Durability.** None: the data is lost when the process ends.

mod cache;
mod page;
mod store;

pub use cache::{Cache, weight};
pub use store::{CacheStore, Settings};
