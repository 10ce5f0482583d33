//! The conformance suite over each wrapper, and over nested ones.

use std::sync::Arc;
use std::time::Duration;

use tiered_core::adapter::Stamp;
use tiered_core::{Feature, MemoryStore, Result, Store, TieredStore};
use tiered_wrap::{Compressed, Compression, Encrypted, EncryptionKey, Keys, Prefix, Swappable};
use tokio::runtime::Handle;

use crate::places::{Inside, Wrapped};
use crate::read_only::reads;

type Shared = Arc<dyn Store>;

fn prefix(inside: Shared, _: &Stamp) -> Result<Shared> {
    Ok(Arc::new(Prefix::new(inside, "tenants/größe/")?))
}

/// A place of memory is new each time, so that nothing holds what is left open.
fn left_open(inside: Shared, _: &Stamp) -> Result<Shared> {
    Ok(Arc::new(Prefix::new(inside, "p")?.leave_open()))
}

#[expect(clippy::unnecessary_wraps, reason = "other wrappers can refuse a store")]
fn read_only(inside: Shared, _: &Stamp) -> Result<Shared> {
    Ok(Arc::new(reads(inside)))
}

fn lz4(inside: Shared, _: &Stamp) -> Result<Shared> {
    Ok(Arc::new(Compressed::new(inside, Compression::Lz4)?))
}

#[cfg(feature = "zstd")]
fn zstd(inside: Shared, _: &Stamp) -> Result<Shared> {
    Ok(Arc::new(Compressed::new(inside, Compression::Zstd { level: 3 })?))
}

fn encrypted(inside: Shared, stamp: &Stamp) -> Result<Shared> {
    let keys = Keys::new(EncryptionKey::new("suite", [7; 32])?);
    Ok(Arc::new(Encrypted::with_stamp(inside, keys, stamp.clone())?))
}

#[expect(clippy::unnecessary_wraps, reason = "other wrappers can refuse a store")]
fn swappable(inside: Shared, _: &Stamp) -> Result<Shared> {
    Ok(Arc::new(Swappable::new(inside)))
}

/// A frontend comes and goes for as long as the store is open.
fn restless(inside: Shared, stamp: &Stamp) -> Result<Shared> {
    // A frontend that has just come finds nothing in memory.
    let store = Swappable::declaring(inside, |all| all.without(Feature::Peeks))?;
    let (restless, stamp) = (store.clone(), stamp.clone());
    Handle::current().spawn(async move {
        loop {
            let frontend = MemoryStore::with_stamp(stamp.clone());
            let stamp = stamp.clone();
            let attach = |backend| TieredStore::builder(frontend, backend).stamp(stamp).build();
            let Ok(stack) = restless.swap(attach).await else { return };
            tokio::time::sleep(Duration::from_millis(2)).await;
            if restless.detach(&stack).await.is_err() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    });
    Ok(Arc::new(store))
}

/// Prefix over compressed over encrypted.
fn nested(inside: Shared, stamp: &Stamp) -> Result<Shared> {
    prefix(lz4(encrypted(inside, stamp)?, stamp)?, stamp)
}

/// The same wrapper twice, around the others.
fn deep(inside: Shared, stamp: &Stamp) -> Result<Shared> {
    let within = lz4(prefix(encrypted(inside, stamp)?, stamp)?, stamp)?;
    Ok(Arc::new(Prefix::new(encrypted(lz4(within, stamp)?, stamp)?, "outer/")?))
}

/// One test for each case, over this store in this wrapper.
macro_rules! suites {
    ($($name:ident: $inside:ident, $wrap:ident;)+) => {$(
        mod $name {
            tiered_conformance::suite!(super::Wrapped::new(super::Inside::$inside, super::$wrap).await);
        }
    )+};
}

suites! {
    prefix_memory: Memory, prefix;
    prefix_plain: Plain, prefix;
    prefix_left_open: Memory, left_open;
    prefix_moka: Moka, prefix;
    prefix_redb: Redb, prefix;
    read_only_memory: Memory, read_only;
    read_only_redb: Redb, read_only;
    lz4_memory: Memory, lz4;
    lz4_plain: Plain, lz4;
    lz4_bare: Bare, lz4;
    lz4_moka: Moka, lz4;
    lz4_redb: Redb, lz4;
    encrypted_memory: Memory, encrypted;
    encrypted_plain: Plain, encrypted;
    encrypted_bare: Bare, encrypted;
    encrypted_moka: Moka, encrypted;
    encrypted_redb: Redb, encrypted;
    swappable_memory: Memory, swappable;
    swappable_plain: Plain, swappable;
    swappable_redb: Redb, swappable;
    restless_memory: Memory, restless;
    restless_plain: Plain, restless;
    nested_memory: Memory, nested;
    nested_bare: Bare, nested;
    nested_moka: Moka, nested;
    nested_redb: Redb, nested;
    deep_memory: Memory, deep;
}

#[cfg(feature = "zstd")]
suites! {
    zstd_memory: Memory, zstd;
}
