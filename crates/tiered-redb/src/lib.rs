//! Embedded disk tier for `tiered`, over [redb]: pure Rust, ACID, one file. The zero-setup default.
//!
//! Layout, group commit, damage of single entries and expiry are those of [`tiered_embedded`]; a fourth table,
//! `tiered`, marks the file as ours and names the format.
//!
//! # Durability
//! With [`WriteDurability::Sync`] (the default) a write is on disk when it returns, by a two-phase commit: after a
//! crash redb can tell a torn commit from a damaged one. Concurrent writes share a commit. With
//! [`WriteDurability::Buffer`] a write is in memory when it returns; it is on disk after `flush`, `close`, or every
//! 256 commits. **What was not flushed is lost when the process is killed**, not only when power is lost.
//!
//! # Damage
//! On opening, the whole file is checked up to 256 MiB ([`Verify::Auto`]). What is found damaged is
//! [`ErrorKind::Corrupt`](tiered_core::ErrorKind::Corrupt), never other data.
//!
//! # Files
//! The database is the one file that was named. A new one is made under that name, with the rights that the umask
//! leaves; an empty file is filled where it is, so that links to it, its rights and its owner stay. What an interrupted
//! creation leaves behind is told by its content, and filled again by the next opening. A file that holds anything else
//! is never touched. The file is locked while it is open; it shrinks only when compacted.
//!
//! [`RedbConfig::destroy`] removes the file, and only one that is known to be a database of this adapter.
//!
//! With [`Access::ReadOnly`] a write-protected file, or one on a read-only mount, can be read.
//!
//! # Capacity
//! With [`RedbConfig::capacity`] the store is a cache that evicts: what is counted is at most the capacity after each
//! commit. The file is longer: redb rounds chunks to powers of two, leaves room in its pages, keeps what a transaction
//! replaces until the next one is on disk, and lets the file grow in steps. It stays below four times the capacity and
//! eight times what is written at once. With [`WriteDurability::Buffer`] commits go to disk more often for this. What has
//! become free is used again. The file shrinks only when it is compacted, or [destroyed](RedbConfig::destroy) and made
//! anew.
//!
//! # Reads
//! A read of up to 64 KiB runs on the caller's thread: from redb's cache or the page cache it takes a few microseconds. redb
//! has no read that refuses to wait for the disk, so a read that took more than 100 µs sends those after it to threads for
//! blocking work for a while. [`RedbConfig::reads`] fixes either way.

mod config;
mod create;
mod destroy;
mod engine;
mod error;
mod open;
mod system;

pub use config::{RedbConfig, Verify};
pub use tiered_core::{Create, WriteDurability};
use tiered_embedded::EmbeddedStore;
pub use tiered_embedded::{Access, Executor, ReadMode, Usage};

/// A store in one redb file. Cloning shares it.
pub type RedbStore = EmbeddedStore;
