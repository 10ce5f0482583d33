//! Embedded disk tier for `tiered`, over RocksDB: for services that write much, and for data far larger than memory.
//!
//! Building it takes a C++ compiler, libclang and several minutes. `tiered-redb` is the alternative in pure Rust.
//!
//! # Layout
//! Layout, group commit, damage of single entries and expiry are those of [`tiered_embedded`]. Column families
//! `tiered-meta`, `tiered-chunks` (in blob files, which compaction does not rewrite) and `tiered-marks`; the default
//! one names the format. One block cache, with indexes and filters in it, serves all of them.
//!
//! # Durability
//! With [`WriteDurability::Sync`] (the default) a write is on disk when it returns; concurrent writes share one
//! `fdatasync` of the log. With [`WriteDurability::Buffer`] it is in the operating system's hands: it survives a
//! killed process, and **what was not flushed is lost when power is**. `close` writes everything into tables, so that
//! the next opening replays no log.
//!
//! # Damage
//! Tables, blobs and logs have checksums. A log that is damaged anywhere but at its torn end, as a loss of power leaves
//! it, refuses to open with [`ErrorKind::Corrupt`](tiered_core::ErrorKind::Corrupt); a torn end is ignored with a
//! warning in the log of the process (`tracing`, target `rocksdb`, which receives RocksDB's whole log).
//!
//! A clean close seals the manifest, so that damage to its end, which RocksDB takes for torn, is noticed as well.
//!
//! # Files
//! The folder holds RocksDB's files and three of ours: `tiered-seal` is the seal; `tiered-making` is there while the
//! database is being made, from before RocksDB has made anything, so that an interrupted creation differs from a
//! foreign folder. `tiered-removing` is there while it is being removed ([`RocksdbConfig::destroy`]): the folder is not
//! opened then. A folder that holds something else is refused as
//! [`ErrorKind::Foreign`](tiered_core::ErrorKind::Foreign), and not touched.
//!
//! With [`Access::ReadOnly`] a write-protected folder, or one on a read-only mount, can be read. RocksDB takes no lock
//! then: nothing else must write to the folder meanwhile.
//!
//! # Capacity
//! With [`RocksdbConfig::capacity`] the store is a cache that evicts: what is counted is at most the capacity after each
//! commit. What has left takes room in the folder until a compaction drops it, and in blob files until their garbage is
//! collected. On the other hand tables and blobs are compressed, which the count does not see.
//!
//! # Reads
//! A read of up to 64 KiB runs on the caller's thread: from memory or the page cache it takes a few microseconds. A read that
//! took more than 100 µs sends those after it to threads for blocking work for a while; meanwhile only what is in memory
//! (memtables and block cache) is read on the caller's thread. [`RocksdbConfig::reads`] fixes either way.

mod config;
mod destroy;
mod engine;
mod error;
mod marker;
mod open;
mod seal;

pub use config::RocksdbConfig;
pub use tiered_core::{Create, WriteDurability};
use tiered_embedded::EmbeddedStore;
pub use tiered_embedded::{Access, ReadMode, Usage};

/// A store in one folder of RocksDB. Cloning shares it.
pub type RocksdbStore = EmbeddedStore;
