//! Postgres tier for `tiered`, through sqlx: a backend that several services share.
//!
//! One table holds the entries, a row each; a second one, `<table>_meta`, the schema's version and the store's
//! marks. Every write is one statement (or one transaction, for batches with preconditions), so it is atomic, and
//! conditional writes are decided by Postgres itself. A value that is streamed, or larger than 32 MiB, lies in chunks
//! in a third table, `<table>_chunks`: they are stored as they come, seen by nobody, and the one statement that writes
//! the row publishes them. A fourth table, `<table>_loose`, names the values in chunks that no row refers to. The
//! book's chapter on Postgres shows the schema and how to look at it with `psql`.
//!
//! # Examples
//! ```no_run
//! # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
//! use tiered_core::{Key, Put, Store, StoreExt};
//! use tiered_postgres::{Feed, PostgresConfig};
//!
//! let config = PostgresConfig::from_url("postgres://app@db.example.com/app")?;
//! let store = config.table("settings").feed(Feed::On).open().await?;
//! store.put(&Key::new("greeting")?, Put::new("hello")).await?;
//! store.close().await?;
//! # Ok::<(), tiered_core::Error>(()) }).unwrap();
//! ```

mod batch;
mod chunks;
mod client;
mod config;
mod error;
mod feed;
mod list;
mod read;
mod reclaim;
mod row;
mod schema;
mod sql;
mod store;
mod stream;
mod sweep;
mod upload;
mod write;

pub use config::{Feed, PostgresConfig};
/// The driver, for [`PostgresConfig::from_options`].
pub use sqlx;
pub use store::PostgresStore;
pub use tiered_core::Create;
