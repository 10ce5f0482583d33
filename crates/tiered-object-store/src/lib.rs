//! A bridge between `tiered` and the [`object_store`](https://docs.rs/object_store) crate, in both directions.
//!
//! | direction | type | use it for |
//! |---|---|---|
//! | a [`Store`](tiered_core::Store) as an `ObjectStore` | `ObjectView` | a stack below `DataFusion`, parquet, Lance, `SlateDB` |
//! | an `ObjectStore` as a [`Store`](tiered_core::Store) | `ObjectTier` | a tier in Google Cloud Storage, Azure, `WebDAV`, a folder |
//!
//! Both exist for two versions of the trait, which are the same source: [`v0_14`] and [`v0_13`].
//!
//! # Features
//!
//! * `v0_14` (default): the module [`v0_14`], for `object_store` 0.14.
//! * `v0_13`: the module [`v0_13`], for `object_store` 0.13.
//!
//! # Examples
//! ```
//! # #[cfg(feature = "v0_14")]
//! # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
//! use tiered_core::{MemoryStore, StoreExt, TieredStore};
//! use tiered_object_store::v0_14::ObjectView;
//! use tiered_object_store::v0_14::object_store::{ObjectStoreExt, path::Path};
//!
//! let stack = TieredStore::builder(MemoryStore::new(), MemoryStore::new()).build().await?;
//! let objects = ObjectView::new(stack.clone());
//! objects.put(&Path::from("tables/1.parquet"), "PAR1".into()).await?;
//! assert_eq!(stack.get("tables/1.parquet").await?.expect("just written").value(), "PAR1");
//! # Ok::<(), Box<dyn std::error::Error>>(()) }).unwrap();
//! ```

#![cfg_attr(
    not(any(feature = "v0_13", feature = "v0_14")),
    allow(dead_code, reason = "without a version of the trait there is nothing to bridge")
)]

mod answer;
mod etag;
mod names;
mod options;
mod record;
#[cfg(feature = "v0_13")]
pub mod v0_13;
#[cfg(feature = "v0_14")]
pub mod v0_14;

pub use answer::Answer;
pub use options::{Conditional, Keys, Order};

/// The programs of the book.
#[cfg(doctest)]
#[doc = include_str!("../../../docs/src/object-store.md")]
#[doc = include_str!("../../../docs/src/engines.md")]
struct Book;
