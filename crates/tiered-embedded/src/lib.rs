//! The shared part of `tiered`'s adapters for embedded engines.
//!
//! An embedded engine (redb, RocksDB, LMDB, fjall …) is ordered tables of bytes with transactions. An adapter says
//! how those are opened, read, written and closed ([`Engine`]); [`EmbeddedStore`] makes a
//! [`Store`](tiered_core::Store) of it:
//!
//! * **Layout.** Table [`Meta`](Table::Meta) has one record a key (metadata, and a value up to 1 KiB inline);
//!   [`Chunks`](Table::Chunks) has larger values in pieces just under 64 KiB, each value under an id of its own;
//!   [`Marks`](Table::Marks) has the store's marks. A listing never reads values of chunks, and a range read only the chunks
//!   that it needs.
//! * **Streams.** A streamed put stores its parts as they come, without a sync, where nobody sees them. One small transaction
//!   makes an entry of them. What is replaced is removed later, by parts; a reader that streams it reads it to its end. What a
//!   put that did not end has left is removed at once, or after the next opening.
//! * **Damage.** Records and chunks carry a CRC-32C over key, value, position and content: neither a flipped bit nor
//!   a record that strayed to another key is returned as data.
//! * **Group commit.** One writer takes what has queued into one transaction, and judges preconditions in it.
//! * **Expiry.** Each commit looks at a few records behind a cursor and removes those that have expired; a store
//!   without writes does not shrink.
//! * **Reads** of up to 64 KiB run on the caller's thread while that is quick, else on threads for blocking work, a bounded
//!   number at a time ([`ReadMode`]). Reads of many keys give way to the runtime every 100 µs. Listings run page by page on
//!   fresh views, so that none is held between pages.
//! * **Access.** With [`Access::ReadOnly`] every write is refused before it reaches the engine.
//! * **Locks.** An opening waits for a place that its own process is releasing, never for one that another process
//!   holds.
//! * **Capacity.** A store with a [capacity](Settings::capacity) keeps its entries within so many bytes: each commit removes
//!   what it makes room for, by S3-FIFO over a table in memory. A use sets a counter there and writes nothing.
//! * **Failure.** An engine that reports a failing disk is closed, and reopened by the next use.

mod access;
mod answer;
mod bound;
mod disk;
mod engine;
mod gather;
mod inline;
mod layout;
mod list;
mod many;
mod policy;
mod reading;
mod reclaim;
mod record;
mod request;
mod settings;
mod shared;
mod staged;
mod store;
mod stream;
mod sweep;
mod time;
mod unused;
mod upload;
mod value;
mod values;
mod writer;

pub use access::Access;
pub use bound::Usage;
pub use disk::{io_error, io_kind};
pub use engine::{Engine, Opening, Table, Transaction, View, Visit};
pub use inline::ReadMode;
pub use settings::{Executor, Settings};
pub use store::EmbeddedStore;
pub use unused::is_unused;
