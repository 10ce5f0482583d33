//! The bounds on pending writes.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::error::{Error, ErrorKind, Outcome, Result};
use crate::settings::{OnFull, TieredSettings};

/// Room for operations and for their bytes.
#[derive(Debug)]
pub(super) struct Room {
    operations: Arc<Semaphore>,
    kibibytes: Arc<Semaphore>,
    max_operations: u32,
    max_kibibytes: u32,
    on_full: OnFull,
}

/// A part of the room, given back when its records are flushed or dropped.
#[derive(Debug)]
pub(super) struct Taken {
    _operations: OwnedSemaphorePermit,
    _kibibytes: OwnedSemaphorePermit,
}

impl Room {
    pub(super) fn new(settings: &TieredSettings) -> Self {
        let limit = |wanted: u64| u32::try_from(wanted).unwrap_or(u32::MAX).clamp(1, 1 << 28);
        let max_operations = limit(settings.max_pending_operations as u64);
        let max_kibibytes = limit(settings.max_pending_bytes / 1024);
        Self {
            operations: Arc::new(Semaphore::new(max_operations as usize)),
            kibibytes: Arc::new(Semaphore::new(max_kibibytes as usize)),
            max_operations,
            max_kibibytes,
            on_full: settings.on_full,
        }
    }

    /// Takes room for so many operations and bytes; more than all there is counts as all there is.
    pub(super) async fn take(&self, operations: usize, bytes: u64) -> Result<Arc<Taken>> {
        let operations = u32::try_from(operations).unwrap_or(u32::MAX).min(self.max_operations);
        let kibibytes = u32::try_from(bytes.div_ceil(1024)).unwrap_or(u32::MAX).min(self.max_kibibytes);
        let full = || {
            Error::new(ErrorKind::Full, "too many writes wait for the backend; try again later, or raise max-pending-operations and max-pending-bytes")
                .outcome_is(Outcome::NotApplied)
        };
        let (operations_left, kibibytes_left) = (Arc::clone(&self.operations), Arc::clone(&self.kibibytes));
        let taken = match self.on_full {
            OnFull::Block => (
                operations_left.acquire_many_owned(operations).await.map_err(|_| full())?,
                kibibytes_left.acquire_many_owned(kibibytes).await.map_err(|_| full())?,
            ),
            OnFull::Fail => (
                operations_left.try_acquire_many_owned(operations).map_err(|_| full())?,
                kibibytes_left.try_acquire_many_owned(kibibytes).map_err(|_| full())?,
            ),
        };
        Ok(Arc::new(Taken { _operations: taken.0, _kibibytes: taken.1 }))
    }
}
