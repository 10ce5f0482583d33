//! Fills: what a load brought is copied to the frontend, if its fill token has not been revoked.

use std::sync::Arc;

use super::{Changed, Frontend, Replaceable};
use crate::entry::{Entry, Origin};
use crate::key::Key;
use crate::observe::{Count, Event};
use crate::sent::Sent;
use crate::slot::Leader;
use crate::write::Put;

/// What a read found the frontend to need.
#[derive(Debug)]
pub(crate) enum Fill {
    /// Nothing.
    Nothing,
    /// This entry, or note of absence.
    Install(Entry),
    /// A removal.
    Remove,
}

impl Frontend {
    /// The fill for an entry that the backend has.
    pub(crate) fn fill_with(&self, key: &Key, entry: &Entry, replaces: &Replaceable) -> Fill {
        if self.fits(key, entry.size()) { Fill::Install(entry.clone()) } else { removal(replaces) }
    }

    /// The fill for a key that the backend does not have: a note of absence where that is wanted.
    pub(crate) fn fill_with_absence(&self, sent: Sent, replaces: &Replaceable) -> Fill {
        if self.plan.settings().negative_ttl.is_none() {
            return removal(replaces);
        }
        Fill::Install(self.stamp.entry(&Put::new("")).with_note(sent.note_of_absence()))
    }

    /// Changes the frontend as a load found it to be needed, if the load still has the fill token.
    pub(crate) async fn fill(self: &Arc<Self>, leader: &Leader, key: &Key, fill: Fill) {
        let copy = match fill {
            Fill::Nothing => return,
            Fill::Install(entry) => Some(entry),
            Fill::Remove => None,
        };
        let Some(call) = leader.begin_fill() else { return };
        // While the call is held nothing else changes the key here.
        if self.keeps_locally(key).await.unwrap_or(true) {
            return;
        }
        // Last, since a breaker that lets one call through expects to hear of it. Without a fill the frontend stays in step
        // as well.
        if !self.tier.admits() {
            return;
        }
        let filled = copy.as_ref().is_some_and(|copy| copy.metadata().note.origin != Origin::Absence);
        if self.call(key, copy, call).await == Changed::Done && filled {
            self.recorder.count(Count::Fill);
            self.recorder.send(|| Event::Filled { key: key.clone() });
        }
    }
}

/// What to do where the backend has nothing to fill with.
fn removal(replaces: &Replaceable) -> Fill {
    if matches!(replaces, Replaceable::Nothing) { Fill::Nothing } else { Fill::Remove }
}
