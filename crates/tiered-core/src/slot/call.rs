//! Calls that change the frontend: at most one per key at a time, never dropped half-way.

use std::sync::Arc;

use tokio::sync::watch;

use super::Slots;
use crate::key::Key;

/// A call to the frontend that is under way. Dropped when it has returned.
#[derive(Debug)]
pub(crate) struct Call {
    pub(super) slots: Arc<Slots>,
    pub(super) key: Key,
    pub(super) _ended: watch::Sender<()>,
}

impl Drop for Call {
    fn drop(&mut self) {
        self.slots.with(&self.key, |slot| slot.call = None);
    }
}

impl Slots {
    /// Begins a call that changes `key` in the frontend, or gives the one to wait for.
    pub(crate) fn begin_call(self: &Arc<Self>, key: &Key) -> Result<Call, watch::Receiver<()>> {
        self.with(key, |slot| {
            if let Some(call) = &slot.call {
                return Err(call.clone());
            }
            let (ended, call) = watch::channel(());
            slot.call = Some(call);
            Ok(Call { slots: Arc::clone(self), key: key.clone(), _ended: ended })
        })
    }
}

/// Waits until the call has returned.
pub(crate) async fn wait_for_end(mut call: watch::Receiver<()>) {
    while call.changed().await.is_ok() {}
}
