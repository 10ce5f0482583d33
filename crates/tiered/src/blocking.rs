//! The same stores without async: for programs and threads that have no runtime.
//!
//! A [`Runtime`] is a few threads on which stores work; it opens stores and waits for futures. A [`BlockingStore`] has the
//! operations of [`Store`](crate::Store) and [`StoreExt`](crate::StoreExt) under the same names, and each returns when it
//! is done. Everything else of the async API runs under [`Runtime::wait`].
//!
//! # Where calls are allowed
//! On every thread that may block: threads of the program, `tokio::task::spawn_blocking`, `block_in_place`. From inside
//! an async task a call is refused with [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) before it does
//! anything: it would stop a thread that other tasks need. It never panics and never deadlocks. A read that memory
//! answers ([`Store::peek`](crate::Store::peek)) waits for nothing and touches no runtime; it is answered everywhere.
//! Dropping a store or a runtime is allowed everywhere and waits for nothing.
//!
//! The check sees tasks and `block_on` of tokio. Inside `tokio::task::unconstrained`, and on other executors, a call
//! blocks its thread until it is done.
//!
//! # Examples
//! ```
//! # #[cfg(feature = "quick")]
//! # fn main() -> Result<(), tiered::Error> {
//! use tiered::blocking::{BlockingStore, Runtime};
//! use tiered::{Create, TieredStore};
//!
//! let runtime = Runtime::new()?;
//! let frontend = runtime.open("quick:?capacity=64MiB", Create::IfAbsent)?;
//! let backend = runtime.open("memory:", Create::IfAbsent)?;
//! let tiers = TieredStore::builder(frontend.into_inner(), backend.into_inner());
//! let store = BlockingStore::new(runtime.wait(tiers.build())?, runtime);
//! store.set("users/42", "Ada")?;
//! assert_eq!(store.get("users/42")?.expect("just written").value(), "Ada");
//! store.close()
//! # }
//! # #[cfg(not(feature = "quick"))]
//! # fn main() {}
//! ```

mod runtime;
mod store;
mod streams;
mod tiers;

pub use runtime::Runtime;
pub use store::BlockingStore;
pub use streams::{Body, Entries, Events};
