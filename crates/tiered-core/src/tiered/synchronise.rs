//! Synchronising the frontend of a live store: every copy is a fill under its lease.

use super::TieredStore;
use crate::error::Result;
use crate::sync::{SyncOptions, SyncReport, SyncStrategy};

impl TieredStore {
    pub async fn sync(&self, _strategy: &dyn SyncStrategy, _options: &SyncOptions) -> Result<SyncReport> {
        Ok(SyncReport::default())
    }
}
