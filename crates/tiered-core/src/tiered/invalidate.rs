//! Dropping a key from the frontend alone.

use std::sync::Arc;

use super::Rooms;
use crate::error::{Error, ErrorKind, Outcome, Result};
use crate::frontend::Changed;
use crate::key::Key;
use crate::observe::{Count, Event};
use crate::slot::Gate;

impl Rooms {
    pub(super) async fn invalidate(self: &Arc<Self>, key: &Key) -> Result<()> {
        let gate = Gate::close(&self.slots, key).await;
        let (rooms, key) = (Arc::clone(self), key.clone());
        self.tasks
            .run_to_end(async move {
                let changed = match rooms.frontend.reserve(&key).await {
                    Some(call) => rooms.frontend.change(&key, None, call).await,
                    None => Changed::Quarantined,
                };
                drop(gate);
                if changed == Changed::Quarantined {
                    return Err(Error::new(
                        ErrorKind::Unavailable,
                        "the frontend did not drop the key; it serves no hits until it has",
                    )
                    .in_tier(rooms.frontend.tier().name())
                    .outcome_is(Outcome::Unknown));
                }
                rooms.recorder.count(Count::Invalidation);
                rooms.recorder.send(|| Event::Invalidated { key: key.clone() });
                Ok(())
            })
            .await
    }
}
