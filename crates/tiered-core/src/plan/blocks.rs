//! Whether the frontend keeps blocks of large values.

use crate::blocks::{Grid, LONGEST};
use crate::capability::{Capabilities, Durability, Feature};
use crate::policy::ReadPolicy;
use crate::settings::TieredSettings;

/// How values are cut. `None` where blocks are not wanted, where a version may come back with other bytes, where the backend is
/// never read for the frontend, where the frontend cannot hold a block, and where it lasts and would keep each of them.
pub(super) fn grid(
    settings: &TieredSettings,
    frontend: &Capabilities,
    backend: &Capabilities,
) -> Option<Grid> {
    let size = settings.block_size?;
    let reads_backend = settings.read_policy == ReadPolicy::FrontendFirst;
    let holds = frontend.max_key() >= LONGEST && frontend.max_value() >= size;
    // Scans of large values would fill a disk.
    let bounded = frontend.durability() == Durability::Volatile || frontend.has(Feature::Evicts);
    let kept = reads_backend && holds && bounded && !backend.has(Feature::RepeatsVersions);
    kept.then(|| Grid::new(size))
}
