//! Fills: what a load brought is copied to the frontend, if its fill token has not been revoked.

use std::sync::Arc;

use super::{Changed, Filled, Frontend, Replaceable};
use crate::blocks::Stub;
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
        if self.fits(key, entry.size()) {
            return Fill::Install(entry.clone());
        }
        match replaces {
            // What does not fit as a whole is kept in blocks all the same.
            Replaceable::Stub(_) => self.fill_with_stub(key, entry, replaces),
            Replaceable::Nothing | Replaceable::Damaged | Replaceable::Doubtful(_) => removal(replaces),
        }
    }

    /// The fill for a value that the frontend keeps in blocks. `entry` need not have the value.
    pub(crate) fn fill_with_stub(&self, key: &Key, entry: &Entry, replaces: &Replaceable) -> Fill {
        if self.plan.grid().is_none() || !self.fits(key, Stub::LEN) {
            return removal(replaces);
        }
        Fill::Install(Stub::new(entry.metadata(), entry.metadata().note.clone()).entry())
    }

    /// The fill for a key that the backend does not have: a note of absence where that is wanted.
    pub(crate) fn fill_with_absence(&self, sent: Sent, replaces: &Replaceable) -> Fill {
        if self.plan.settings().negative_ttl.is_none() {
            return removal(replaces);
        }
        Fill::Install(self.stamp.entry(&Put::new("")).with_note(sent.note_of_absence()))
    }

    /// Changes the frontend as a load found it to be needed, if the load still has the fill token.
    pub(crate) async fn fill(self: &Arc<Self>, leader: &Leader, key: &Key, fill: Fill) -> Filled {
        let copy = match fill {
            Fill::Nothing => return Filled::Not,
            Fill::Install(entry) => Some(entry),
            Fill::Remove => None,
        };
        let Some(call) = leader.begin_fill() else { return Filled::Revoked };
        // While the call is held nothing else changes the key here.
        if self.keeps_locally(key).await.unwrap_or(true) {
            return Filled::Not;
        }
        // Last, since a breaker that lets one call through expects to hear of it. Without a fill the frontend stays in step
        // as well.
        if !self.tier.admits() {
            return Filled::Not;
        }
        let filled = copy.as_ref().is_some_and(|copy| copy.metadata().note.origin == Origin::Backend);
        if self.call(key, copy, call).await != Changed::Done {
            return Filled::Not;
        }
        if filled {
            self.recorder.count(Count::Fill);
            self.recorder.send(|| Event::Filled { key: key.clone() });
        }
        Filled::Done
    }
}

/// What to do where the backend has nothing to fill with.
fn removal(replaces: &Replaceable) -> Fill {
    if matches!(replaces, Replaceable::Nothing) { Fill::Nothing } else { Fill::Remove }
}
