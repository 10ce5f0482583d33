//! The conformance suite over each wrapper, and over nested ones.

use std::sync::Arc;

use tiered_core::adapter::Stamp;
use tiered_core::{Result, Store};
use tiered_wrap::{Compressed, Compression, Encrypted, EncryptionKey, Keys, Prefix};

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
