//! The write-behind journal of `tiered`: a segmented log on local disk.
//!
//! ```no_run
//! # async fn open() -> tiered_core::Result<()> {
//! use std::sync::Arc;
//! use tiered_core::{MemoryStore, TieredStore, WritePolicy};
//! use tiered_journal::JournalConfig;
//!
//! let journal = JournalConfig::new("journal").open().await?;
//! let (frontend, backend) = (MemoryStore::new(), MemoryStore::new());
//! let store = TieredStore::builder(frontend, backend)
//!     .write_policy(WritePolicy::WriteBehind)
//!     .journal(journal)
//!     .build()
//!     .await?;
//! # Ok(()) }
//! ```
//!
//! # Files
//! | name | what |
//! |---|---|
//! | `0000000000000001.segment` | records from that sequence (hexadecimal) on; its space is taken before it is used |
//! | `aside` | parked and dropped writes, replaced as a whole |
//! | `reserve` | space that is given up when the disk is full, so that parking still works |
//! | `removing` | there while the journal is being removed: it is not opened then, only removed |
//! | `lock` | held while the journal is open; its text says whose the folder is |
//!
//! Segments and `aside` are written under their name with `.new` behind it, then renamed.
//!
//! A folder that holds files and is no journal's is refused as [`ErrorKind::Foreign`](tiered_core::ErrorKind::Foreign),
//! and not touched. In a journal's folder, files of other names are not touched. A foreign file under one of these
//! names is refused and not replaced, except `reserve`: then the journal works without a reserve.
//!
//! # Durability
//! An append is one write and one `fdatasync` for all the records that were handed over together. Segments are
//! preallocated: on a full disk an append is refused and nothing is written. After a failed write or sync nothing more
//! is accepted until the journal is opened again; a sync is never repeated. Without syncs
//! ([`JournalConfig::durability`]) it survives a killed process, but not a power loss.
//!
//! # Damage
//! Every group of records has a CRC-32C that covers its place as well. A damaged end is cut off, with a warning and a
//! count ([`Report::cut_bytes`]): it cannot be distinguished from a group that was being written during a power loss.
//! If a valid group follows the damage, the journal refuses to open and says where.

mod config;
mod destroy;
mod folder;
mod format;
mod journal;
mod log;
mod memory;
mod ownership;
mod recovery;
mod report;
mod segment;
mod side;

pub use config::JournalConfig;
pub use folder::{File, Folder, OsFolder};
pub use journal::FileJournal;
pub use memory::MemoryFolder;
pub use report::Report;
