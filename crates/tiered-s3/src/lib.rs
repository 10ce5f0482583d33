//! S3 tier for `tiered`, over aws-sdk-s3: a backend in S3, or in what speaks like it.
//!
//! An object for each entry. In the [raw](Layout::Raw) layout, the default, its body is the value and nothing else, so
//! any other tool can read and write it; in the [enveloped](Layout::Enveloped) one, 28 bytes more make every write
//! distinguishable by its `ETag`. The book's chapter on S3 shows both, and what servers are known to do.
//!
//! # Examples
//! ```no_run
//! # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
//! use tiered_core::{Key, Put, Store, StoreExt};
//! use tiered_s3::S3Config;
//!
//! let store = S3Config::new("my-bucket").prefix("settings/").region("eu-central-1").open().await?;
//! store.put(&Key::new("greeting")?, Put::new("hello")).await?;
//! store.close().await?;
//! # Ok::<(), tiered_core::Error>(()) }).unwrap();
//! ```

mod batch;
mod client;
mod completion;
mod config;
mod error;
mod head;
mod header;
mod layout;
mod lifecycle;
mod list;
mod multipart;
mod parts;
mod probe;
mod read;
mod store;
mod write;

/// The driver, for [`S3Config::sdk_config`].
pub use aws_sdk_s3;
pub use config::{Addressing, BulkDelete, Conditional, Layout, S3Config, Tls};
pub use store::S3Store;
pub use tiered_core::Create;
