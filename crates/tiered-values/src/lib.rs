//! Typed values, JSON documents, append logs and a garbage sweep over any store of `tiered`.
//!
//! Each is a thin layer over a [`Store`](tiered_core::Store): one tier or a stack of them. It keeps nothing of its own beside
//! the entries; what it promises follows from the store's conditional writes, judged by the authority.
//!
//! | to | see | feature |
//! |---|---|---|
//! | read and write values of a type | [`Typed`] | |
//! | load what the store does not have | [`Typed::get_with`] | |
//! | use a type as key | [`TypedKey`] | |
//! | read and change JSON by path | `Documents` | `documents` |
//! | append elements and read them in order | `Log` | `logs` |
//! | delete what nothing refers to any more | [`sweep`] | |
//! | delete a prefix, copy, touch, and more | [`StoreTools`] | |
//!
//! # Features
//!
//! `json` (default), `msgpack` and `postcard` add a codec each: `Json`, `MessagePack`, `Postcard`. A codec of your own is a
//! small trait, [`Codec`]. `documents` includes `json`. `logs` needs no codec and no other dependency.
//!
//! # Lost answers
//!
//! A write whose answer was lost may have taken effect ([`Outcome::Unknown`](tiered_core::Outcome::Unknown)). An update, a
//! change of a document and an append find out: they look for their own write by its version or, in a log, by the element's
//! id, and send it again only where at most one of the two can take effect. Where another write has replaced what they look
//! for, a log still tells; a value or a document does not, and the error says `Unknown`. Nothing is ever applied twice.
//!
//! # Examples
//! ```
//! # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
//! use tiered_core::{MemoryStore, TieredStore};
//! use tiered_values::{Json, Typed};
//!
//! let store = TieredStore::builder(MemoryStore::new(), MemoryStore::new()).build().await?;
//! let scores = Typed::<Vec<u32>>::new(store, Json)?;
//! scores.put("ada", &vec![3, 5]).await?;
//! assert_eq!(scores.get("ada").await?, Some(vec![3, 5]));
//! # Ok::<(), tiered_values::Error>(()) }).unwrap();
//! ```

mod codec;
#[cfg(feature = "documents")]
mod documents;
mod error;
mod format;
mod keys;
mod loads;
#[cfg(feature = "logs")]
mod log;
pub mod sweep;
mod tools;
mod typed;
mod writer;

pub use codec::Codec;
#[cfg(feature = "json")]
pub use codec::Json;
#[cfg(feature = "msgpack")]
pub use codec::MessagePack;
#[cfg(feature = "postcard")]
pub use codec::Postcard;
#[cfg(feature = "documents")]
pub use documents::{Documents, MAX_DOCUMENT_DEPTH, Path, ToPath, merge_patch};
pub use error::{BoxError, Cause, Error, Result};
pub use format::FORMAT_ATTRIBUTE;
pub use keys::{AnyKey, ToKey, TypedKey, ordered};
#[cfg(feature = "logs")]
pub use log::{Log, LogBuilder};
pub use tools::{Child, StoreTools};
pub use typed::{Loaded, OnMismatch, Typed, TypedBuilder, TypedStats};
