//! Whether the frontend keeps blocks of large values.

use super::guarantee::Staleness;
use crate::blocks::{Grid, LONGEST};
use crate::capability::{Capabilities, Durability, Feature};
use crate::policy::ReadPolicy;
use crate::settings::TieredSettings;

/// How values are cut. `None` where blocks are not wanted, where a version may come back with other bytes, where the backend is
/// never read for the frontend, where the frontend cannot hold a block, where it lasts and would keep each of them, and where nothing
/// ends what others have replaced: a sync, which ends it for entries, passes stubs by.
pub(super) fn grid(
    settings: &TieredSettings,
    staleness: Staleness,
    frontend: &Capabilities,
    backend: &Capabilities,
) -> Option<Grid> {
    let size = settings.block_size?;
    let reads_backend = settings.read_policy == ReadPolicy::FrontendFirst;
    let holds = frontend.max_key() >= LONGEST && frontend.max_value() >= size;
    // Scans of large values would fill a disk.
    let bounded = frontend.durability() == Durability::Volatile || frontend.has(Feature::Evicts);
    let ends = staleness != Staleness::Unlimited;
    let kept = reads_backend && holds && bounded && ends && !backend.has(Feature::RepeatsVersions);
    kept.then(|| Grid::new(size))
}
