//! A store that is the reference but for what a fault bends.

use std::sync::Arc;

use tiered_conformance::{Intercept, Interceptor};
use tiered_core::adapter::Stamp;
use tiered_core::{MemoryStore, Store};

/// Largest value and longest key that the stores declare, in bytes.
pub(super) const LARGEST: u64 = 2 << 20;
pub(super) const LONGEST: usize = 200;

/// The reference with the limits of these tests.
pub(super) fn reference(stamp: &Stamp) -> MemoryStore {
    MemoryStore::with_stamp(stamp.clone()).declaring(|all| all.with_max_key(LONGEST).with_max_value(LARGEST))
}

/// A store that is `inner` but for what `fault` bends.
pub(super) fn bent(inner: &MemoryStore, fault: impl Interceptor) -> Arc<dyn Store> {
    Arc::new(Intercept::new(inner.clone(), fault))
}
