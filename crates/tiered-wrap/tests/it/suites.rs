//! The conformance suite over each wrapper, and over nested ones.

use std::sync::Arc;

use tiered_core::adapter::Stamp;
use tiered_core::{Result, Store};
use tiered_wrap::Prefix;

use crate::places::{Inside, Wrapped};
use crate::read_only::reads;

fn prefix(inside: Arc<dyn Store>, _: &Stamp) -> Result<Arc<dyn Store>> {
    Ok(Arc::new(Prefix::new(inside, "tenants/größe/")?))
}

#[expect(clippy::unnecessary_wraps, reason = "other wrappers can refuse a store")]
fn read_only(inside: Arc<dyn Store>, _: &Stamp) -> Result<Arc<dyn Store>> {
    Ok(Arc::new(reads(inside)))
}

mod prefix_memory {
    tiered_conformance::suite!(super::Wrapped::new(super::Inside::Memory, super::prefix).await);
}

mod prefix_plain {
    tiered_conformance::suite!(super::Wrapped::new(super::Inside::Plain, super::prefix).await);
}

mod prefix_moka {
    tiered_conformance::suite!(super::Wrapped::new(super::Inside::Moka, super::prefix).await);
}

mod prefix_redb {
    tiered_conformance::suite!(super::Wrapped::new(super::Inside::Redb, super::prefix).await);
}

mod read_only_memory {
    tiered_conformance::suite!(super::Wrapped::new(super::Inside::Memory, super::read_only).await);
}

mod read_only_redb {
    tiered_conformance::suite!(super::Wrapped::new(super::Inside::Redb, super::read_only).await);
}
