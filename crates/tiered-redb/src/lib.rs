//! Embedded disk tier for `tiered`, over [redb]: pure Rust, ACID, one file. The zero-setup default.
//!
//! # Layout
//! Four tables: `tiered` marks the file as ours and names the format; `meta` has one record a key (metadata, and
//! values up to 1 KiB inline); `chunks` has larger values in pieces just under 64 KiB; `marks` has the store's marks.
//! Records and chunks carry a CRC-32C over key, position and content. A listing never reads values of `chunks`, and a
//! range read only the chunks that it needs.
//!
//! # Durability
//! With [`RedbDurability::Sync`] (the default) a write is on disk when it returns, by a two-phase commit: after a
//! crash redb can tell a torn commit from a damaged one. Concurrent writes share a commit. With
//! [`RedbDurability::Buffer`] a write is in memory when it returns; it is on disk after `flush`, `close`, or every
//! 256 commits. **What was not flushed is lost when the process is killed**, not only when power is lost.
//!
//! # Damage
//! On opening, the whole file is checked up to 256 MiB ([`Verify::Auto`]). What is found damaged is
//! [`ErrorKind::Corrupt`](tiered_core::ErrorKind::Corrupt), never other data.
//!
//! # Files
//! A database is created under a temporary name beside its own and linked into place, since redb's creation is not
//! atomic: a kill leaves at most a `FILE.new-…` behind, which the next creation removes. The file is locked while it
//! is open; it shrinks only when compacted.

mod codec;
mod config;
mod create;
mod error;
mod list;
mod store;
mod writer;

pub use config::{Create, RedbConfig, RedbDurability, Verify};
pub use store::RedbStore;
