//! What this process knows of the values that no record refers to: those that are uploaded, those that are read, and those
//! that can go.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::{Bound, ControlFlow};
use std::sync::Arc;

use parking_lot::Mutex;
use tiered_core::Result;

use crate::engine::{Engine, Table};
use crate::value::{END_OF_LOOSE, Place, ValueId};

/// A value of more chunks than these (4 MiB) is removed after the commit that replaces it, not by it.
const AT_ONCE: u64 = 64;

/// Chunks that a transaction removes where nobody waits for the next, and where somebody does.
const PIECE: u32 = 256;
const LITTLE: u32 = 16;

/// When replaced values are removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Removal {
    /// Always by the transaction that replaces them: room is made by removing.
    AtOnce,
    /// Large ones later, and those that are being read after that.
    Later,
}

/// How much of the loose values a transaction removes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pace {
    /// As much as a short transaction can.
    Idle,
    /// Little: others wait for the engine.
    Busy,
}

/// The values of a database that no record refers to.
#[derive(Debug)]
pub(crate) struct Values {
    removal: Removal,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Uploads under way.
    live: BTreeSet<ValueId>,
    /// Values that are being read, and by how many.
    pins: BTreeMap<ValueId, usize>,
    /// Loose values whose chunks are to be removed, and the number of the next chunk.
    loose: BTreeMap<Place, u32>,
    /// What the transaction under way has made loose.
    made: Vec<Place>,
    /// Whether `loose` has all that is on disk but the uploads.
    known: bool,
}

/// A part of a loose value that is to be removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Part {
    pub(crate) place: Place,
    /// Its first chunk.
    pub(crate) from: u32,
    /// Its chunks, at most.
    pub(crate) most: u32,
}

impl Values {
    pub(crate) fn new(removal: Removal) -> Self {
        Self { removal, state: Mutex::default() }
    }

    /// An upload begins.
    pub(crate) fn begin(&self, id: ValueId) {
        self.state.lock().live.insert(id);
    }

    pub(crate) fn is_live(&self, id: ValueId) -> bool {
        self.state.lock().live.contains(&id)
    }

    /// An upload has ended. What is left of it can go; nothing is, where it was published.
    pub(crate) fn end(&self, place: Place) {
        let mut state = self.state.lock();
        if state.live.remove(&place.id) {
            state.loose.insert(place, 0);
        }
    }

    /// The commit that published an upload has ended; where it failed, what is left of it is looked for.
    pub(crate) fn published(&self, id: ValueId) {
        self.state.lock().live.remove(&id);
    }

    /// Whether a value of so many chunks is removed by the transaction that replaces it. Otherwise it is noted as loose.
    pub(crate) fn goes_at_once(&self, place: Place, chunks: u64) -> bool {
        let mut state = self.state.lock();
        let at_once =
            self.removal == Removal::AtOnce || (chunks <= AT_ONCE && !state.pins.contains_key(&place.id));
        if !at_once {
            state.made.push(place);
        }
        at_once
    }

    /// A transaction has ended. Where it failed, what is on disk is not known.
    pub(crate) fn committed(&self, result: &Result<()>) {
        let mut state = self.state.lock();
        let made = std::mem::take(&mut state.made);
        if result.is_ok() {
            state.loose.extend(made.into_iter().map(|place| (place, 0)));
        } else {
            state.known = false;
        }
    }

    /// The engine was opened again, and may have lost what it had not written to disk.
    pub(crate) fn doubt(&self) {
        self.state.lock().known = false;
    }

    /// Looks for loose values on disk, where not all of them are known. Blocks.
    pub(crate) fn learn(&self, engine: &dyn Engine) -> Result<()> {
        if self.state.lock().known {
            return Ok(());
        }
        let mut found = Vec::new();
        engine.read(&mut |view| {
            found.clear();
            view.scan(Table::Chunks, Bound::Unbounded, Some(END_OF_LOOSE), &mut |name, _| {
                found.extend(Place::of_loose(name));
                Ok(ControlFlow::Continue(()))
            })
        })?;
        let mut state = self.state.lock();
        let live = std::mem::take(&mut state.live);
        state.loose =
            found.into_iter().filter(|place| !live.contains(&place.id)).map(|place| (place, 0)).collect();
        state.live = live;
        state.known = true;
        Ok(())
    }

    /// Whether something is to be removed, or to be looked for.
    pub(crate) fn has_work(&self) -> bool {
        let state = self.state.lock();
        !state.known || state.next().is_some()
    }

    /// What is to be removed next.
    pub(crate) fn next(&self, speed: Pace) -> Option<Part> {
        let (place, from) = self.state.lock().next()?;
        let most = match speed {
            Pace::Idle => PIECE,
            Pace::Busy => LITTLE,
        };
        Some(Part { place, from, most })
    }

    /// The chunks below `next` were removed; all of them where it is `None`.
    pub(crate) fn removed(&self, place: Place, next: Option<u32>) {
        let mut state = self.state.lock();
        match next {
            Some(chunk) => state.loose.insert(place, chunk),
            None => state.loose.remove(&place),
        };
    }

    fn unpin(&self, id: ValueId) {
        let mut state = self.state.lock();
        if let Some(readers) = state.pins.get_mut(&id) {
            *readers -= 1;
            if *readers == 0 {
                state.pins.remove(&id);
            }
        }
    }
}

impl State {
    fn next(&self) -> Option<(Place, u32)> {
        let mut free = self.loose.iter().filter(|(place, _)| !self.pins.contains_key(&place.id));
        free.next().map(|(place, next)| (*place, *next))
    }
}

/// Keeps a value from being removed, whatever becomes of its record.
#[derive(Debug)]
pub(crate) struct Pin {
    values: Arc<Values>,
    id: ValueId,
}

impl Pin {
    /// `None` where replaced values are removed at once.
    pub(crate) fn new(values: &Arc<Values>, id: ValueId) -> Option<Self> {
        if values.removal == Removal::AtOnce {
            return None;
        }
        *values.state.lock().pins.entry(id).or_default() += 1;
        Some(Self { values: Arc::clone(values), id })
    }
}

impl Drop for Pin {
    fn drop(&mut self) {
        self.values.unpin(self.id);
    }
}
