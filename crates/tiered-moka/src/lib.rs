//! Memory tier for `tiered`, over [moka]: a bounded cache as a [`Store`](tiered_core::Store).
//!
//! * **Eviction.** Least recently used, bounded by the bytes of keys, values and bookkeeping. moka's own default
//!   (`TinyLFU`) may reject the key that was just written, which is unsuitable for a frontend. Entries may vanish at
//!   any time ([`Feature::Evicts`](tiered_core::Feature::Evicts)): an absence means "not here", never a wrong value.
//! * **Expiry.** Every read checks an entry's own expiry against the injected clock, because moka's clock cannot be
//!   injected. The tier's [`ttl`](MokaConfig::ttl) is moka's, in real time.
//! * **Hits.** [`peek`](tiered_core::Store::peek) is one look-up in the cache and two reference counts. Keys are
//!   hashed by foldhash with a random seed: several times as fast as moka's default `SipHash` on short keys.
//! * **Listing.** moka has no order, so a listing collects the keys under the prefix and sorts them: O(n log n) time
//!   and 16 bytes a key. Entries are looked up as the listing proceeds, which counts as a use.
//! * **Durability.** None: the data is lost when the process ends.

mod config;
mod store;

pub use config::MokaConfig;
pub use store::MokaStore;
