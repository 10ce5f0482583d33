//! Memory tier for `tiered`, over [moka]: a bounded cache as a [`Store`](tiered_core::Store).
//!
//! Preconditions, listings, marks and expiry are those of [`tiered_memory`].
//!
//! * **Eviction.** Bounded by the bytes of keys, values and bookkeeping. [`Policy::Lru`] (the default) evicts the least
//!   recently used entry. [`Policy::TinyLfu`] keeps what is used often, and may refuse an entry that was just written: it
//!   is then not here, and the next read asks the backend.
//! * **Expiry.** An entry's own expiry goes by the injected clock. The tier's [`ttl`](MokaConfig::ttl) is moka's, in real
//!   time.
//! * **Hits.** [`peek`](tiered_core::Store::peek) is one look-up in the cache and two reference counts. Keys are
//!   hashed by foldhash with a random seed: several times as fast as moka's default `SipHash` on short keys.
//! * **Durability.** None: the data is lost when the process ends.

mod cache;
mod config;

pub use cache::MokaCache;
pub use config::{MokaConfig, Policy};
use tiered_memory::CacheStore;

/// A bounded cache in memory. Cloning shares the data.
pub type MokaStore = CacheStore<MokaCache>;
