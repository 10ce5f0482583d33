//! Wrappers for `tiered`: stores around a store.
//!
//! | wrapper | feature | what it does |
//! |---|---|---|
//! | [`Prefix`] | | a namespace: the keys that begin with a prefix |
//! | [`ReadOnly`] | | refuses every write |
//! | [`Swappable`] | | can be exchanged for another store while it is used |
//! | `Compressed` | `lz4` (default), `zstd` (builds C) | keeps values compressed |
//! | `Encrypted` | `encryption` (default) | keeps values encrypted; keys and attributes stay readable |
//!
//! Each is a [`Store`](tiered_core::Store) and takes any other, so they nest. Compress before you encrypt: encrypted values
//! do not shrink. So `Compressed` stands around `Encrypted`.
//!
//! # Examples
//! ```
//! # #[cfg(all(feature = "lz4", feature = "encryption"))]
//! # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
//! use tiered_core::{MemoryStore, StoreExt};
//! use tiered_wrap::{Compressed, Compression, Encrypted, EncryptionKey, Keys, Prefix};
//!
//! let keys = Keys::new(EncryptionKey::from_hex("2026-a", &EncryptionKey::generate_hex())?);
//! let encrypted = Encrypted::new(MemoryStore::new(), keys)?;
//! let store = Prefix::new(Compressed::new(encrypted, Compression::Lz4)?, "users/")?;
//! store.set("42", "Ada").await?;
//! assert_eq!(store.get("42").await?.expect("just written").value(), "Ada");
//! # Ok::<(), tiered_core::Error>(()) }).unwrap();
//! ```

#[cfg(any(feature = "lz4", feature = "zstd"))]
mod compressed;
#[cfg(any(feature = "lz4", feature = "zstd", feature = "encryption"))]
mod delegate;
#[cfg(feature = "encryption")]
mod encrypted;
#[cfg(any(feature = "lz4", feature = "zstd", feature = "encryption"))]
mod facts;
mod prefix;
mod read_only;
#[cfg(any(feature = "lz4", feature = "zstd", feature = "encryption"))]
mod sealed;
mod swappable;

use tiered_core::{Atomicity, Batch, Capabilities, Feature};

#[cfg(any(feature = "lz4", feature = "zstd"))]
pub use compressed::{Compressed, Compression};
#[cfg(feature = "encryption")]
pub use encrypted::{Encrypted, EncryptionKey, KeyProvider, Keys, Rotated};
pub use prefix::Prefix;
pub use read_only::ReadOnly;
pub use swappable::{MoveOptions, Moved, Swappable};

/// A batch of which the operations that a wrapper refuses fail alone where those that the store inside refuses would.
fn alike(capabilities: &Capabilities, batch: Batch) -> Batch {
    // Without the feature, best effort gives one outcome for each operation, as per item does.
    let is_apart = batch.atomicity() == Atomicity::BestEffort && !capabilities.has(Feature::AtomicBatch);
    if is_apart { batch.per_item() } else { batch }
}
