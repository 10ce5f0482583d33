//! Memory tier for `tiered`, over [`quick_cache`]: a bounded cache as a [`Store`](tiered_core::Store).
//!
//! Preconditions, listings, marks and expiry are those of [`tiered_memory`].
//!
//! * **Eviction.** Bounded by the bytes of keys, values and bookkeeping. The policy is a modified CLOCK-Pro, close to
//!   S3-FIFO: what is used again stays, and a scan does not push it out. An entry that was just written is there, whatever
//!   it replaces.
//! * **Shards.** The cache is divided into parts, each with its share of the capacity, and an entry must fit into one:
//!   [`max_value`](tiered_core::Capabilities::max_value) says how large a value may be, and a larger one is refused with
//!   [`ErrorKind::TooLarge`](tiered_core::ErrorKind::TooLarge). By default a part has at least 16 MiB. A cache that is to
//!   take larger values has fewer parts ([`QuickConfig::max_value`]).
//! * **Expiry.** An entry's own expiry and the tier's [`ttl`](QuickConfig::ttl) go by the injected clock. What has expired
//!   is not served; its memory is used again when it is evicted.
//! * **Hits.** [`peek`](tiered_core::Store::peek) is one look-up in the cache under a shared lock of its part, and two
//!   reference counts. Keys are hashed by foldhash with a random seed.
//! * **Durability.** None: the data is lost when the process ends.

mod cache;
mod config;

pub use cache::QuickCache;
pub use config::QuickConfig;
use tiered_memory::CacheStore;

/// A bounded cache in memory. Cloning shares the data.
pub type QuickStore = CacheStore<QuickCache>;
