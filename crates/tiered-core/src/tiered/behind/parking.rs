//! Parked writes: refused by the backend, kept for a person to decide.
//!
//! What is parked is in the journal's own list before the journal forgets its records, and leaves the list before
//! the journal forgets what superseded it. In between a restart finds both, and the later one wins.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::queue::{Queued, Unit};
use super::{Behind, Engine};
use crate::error::{Error, ErrorKind, Result};
use crate::journal::{Aside, Parked, Sequence};
use crate::key::Key;
use crate::observe::Event;
use crate::slot::Pending;
use crate::tiered::engine::Change;
use crate::write::Progress;

/// What is set aside.
#[derive(Debug, Default)]
pub(super) struct Parking {
    /// By the sequence of their first record.
    parked: BTreeMap<Sequence, ParkedUnit>,
    /// Those that are in line again. The journal may have forgotten their records, so they stay in its list until the
    /// backend has them.
    retried: BTreeMap<Sequence, Parked>,
    dropped: Vec<Sequence>,
    /// The journal's list is not this one.
    dirty: bool,
    /// The journal is being given the list: which one it has is not known.
    being_written: bool,
}

#[derive(Debug)]
struct ParkedUnit {
    unit: Unit,
    error: Arc<Error>,
}

impl Parking {
    /// What an earlier owner left: parked still, and in line again.
    pub(super) fn recovered(
        parked: Vec<(Unit, Error)>,
        retried: Vec<Parked>,
        dropped: Vec<Sequence>,
        dirty: bool,
    ) -> Self {
        let parked = parked.into_iter().map(|(unit, error)| {
            let error = Arc::new(error);
            (unit.first(), ParkedUnit { unit, error })
        });
        Self {
            parked: parked.collect(),
            retried: retried.into_iter().map(|parked| (parked.sequence(), parked)).collect(),
            dropped,
            dirty,
            being_written: false,
        }
    }

    /// Whether the journal's list is behind.
    pub(super) fn is_dirty(&self) -> bool {
        self.dirty || self.being_written
    }

    pub(super) fn count(&self) -> u64 {
        let parked = self.parked.values().filter(|parked| !self.is_being_dropped(parked));
        parked.map(|parked| parked.unit.records.len() as u64).sum()
    }

    /// Why the first unit parked before `sequence` was refused.
    pub(super) fn refusal_before(&self, sequence: Sequence) -> Option<Error> {
        let (_, first) = self.parked.range(..sequence).next()?;
        let message = format!(
            "the backend refused journaled writes, {} of which are parked; list them, then retry or drop each",
            self.parked.range(..sequence).count()
        );
        let mut error = Error::new(first.error.kind(), message).with_source(first.error.duplicate());
        if let Some(queued) = first.unit.records.first() {
            error = error.for_key(&queued.record.key);
        }
        Some(error)
    }

    /// Begins to give a unit up; its records. It is parked until the journal's list says so: what comes after it waits, and
    /// what supersedes it meanwhile takes it away.
    fn begin_drop(&mut self, sequence: Sequence) -> Option<Vec<Sequence>> {
        let unit = &self.parked.get(&sequence).filter(|parked| !self.is_being_dropped(parked))?.unit;
        let sequences: Vec<Sequence> = unit.records.iter().map(|queued| queued.sequence).collect();
        self.dropped.extend(&sequences);
        self.dirty = true;
        Some(sequences)
    }

    fn is_being_dropped(&self, parked: &ParkedUnit) -> bool {
        self.dropped.contains(&parked.unit.first())
    }

    /// Takes out what is left of a unit that is given up.
    fn end_drop(&mut self, sequences: &[Sequence]) -> Vec<Queued> {
        let first = self.parked.keys().copied().find(|first| sequences.contains(first));
        first
            .and_then(|first| self.parked.remove(&first))
            .map(|parked| parked.unit.records)
            .unwrap_or_default()
    }

    /// Whether the unit was parked for `reason` and is in line again.
    pub(super) fn is_retried(&self, first: Sequence, reason: &str) -> bool {
        self.retried.get(&first).is_some_and(|parked| parked.reason.contains(reason))
    }

    /// The latest record of a key that is parked and stays so.
    fn latest(&self, key: &Key) -> Option<&Queued> {
        let parked = self.parked.values().filter(|parked| !self.is_being_dropped(parked));
        let of_key =
            parked.flat_map(|parked| &parked.unit.records).filter(|queued| queued.record.key == *key);
        of_key.max_by_key(|queued| queued.sequence)
    }

    fn list(&self) -> Vec<Parked> {
        let parked = self.parked.values().filter(|parked| !self.is_being_dropped(parked));
        parked.map(ParkedUnit::listed).collect()
    }

    /// What the journal's list is to be.
    fn aside(&self) -> Aside {
        let parked = self.retried.values().cloned().chain(self.list()).collect();
        Aside { parked, dropped: self.dropped.clone() }
    }

    /// The backend has a unit: in line or not, it is set aside no more.
    fn arrived(&mut self, first: Sequence) {
        self.dirty |= self.retried.remove(&first).is_some();
    }

    /// Takes out the records that later flushed ones have superseded.
    fn supersede(&mut self, flushed: &[&Queued]) -> Vec<Queued> {
        let is_superseded = |sequence: Sequence, key: &Key| {
            flushed.iter().any(|by| by.record.key == *key && by.sequence > sequence)
        };
        let mut superseded = Vec::new();
        for parked in self.parked.values_mut() {
            let is_superseded = |queued: &mut Queued| is_superseded(queued.sequence, &queued.record.key);
            superseded.extend(parked.unit.records.extract_if(.., is_superseded));
        }
        self.dirty |= !superseded.is_empty();
        // What is left of a unit is known by another sequence than before.
        let left = std::mem::take(&mut self.parked).into_values();
        let left = left.filter(|parked| !parked.unit.records.is_empty());
        self.parked = left.map(|parked| (parked.unit.first(), parked)).collect();
        for retried in self.retried.values_mut() {
            let before = retried.records.len();
            retried.records.retain(|(sequence, record)| !is_superseded(*sequence, &record.key));
            self.dirty |= retried.records.len() < before;
        }
        self.retried.retain(|_, retried| !retried.records.is_empty());
        superseded
    }
}

impl ParkedUnit {
    fn listed(&self) -> Parked {
        let records = self.unit.records.iter().map(|queued| (queued.sequence, queued.record.clone()));
        Parked { records: records.collect(), reason: self.error.chain() }
    }
}

impl Behind {
    /// Whether nothing is flushed until somebody has decided on what is parked.
    pub(super) fn is_halted(&self) -> bool {
        self.halts && !self.parking.lock().parked.is_empty()
    }

    /// Says how far the backend is. Whatever takes records out of line or puts them back calls it afterwards. Under the lock
    /// of what is parked, so that what is put back in line meanwhile is not passed over.
    pub(super) fn move_barrier(&self) {
        let parking = self.parking.lock();
        let halted = self.halts && !parking.parked.is_empty();
        let queue = self.queue.lock();
        let in_flight = self.in_flight.lock().map(|units| units.first);
        self.flushed.send_modify(|flushed| {
            let waiting = in_flight.into_iter().chain(queue.first()).min();
            flushed.before = waiting.unwrap_or(flushed.journaled);
            flushed.halted = halted;
        });
    }

    /// The backend has these units: what they supersede is parked no more.
    pub(super) fn unpark(&self, flushed: &[Unit]) {
        let superseded = {
            let mut parking = self.parking.lock();
            if parking.parked.is_empty() && parking.retried.is_empty() {
                return;
            }
            for unit in flushed {
                parking.arrived(unit.first());
            }
            let records: Vec<&Queued> = flushed.iter().flat_map(|unit| &unit.records).collect();
            parking.supersede(&records)
        };
        self.backlog.fetch_sub(superseded.len() as u64, Ordering::Relaxed);
        for queued in superseded {
            queued.progress.send_replace(Progress::Committed);
        }
    }
}

impl Engine {
    /// Parks a unit. The caller advances afterwards, which writes the journal's list.
    pub(super) fn park(&self, behind: &Behind, unit: Unit, error: Error) {
        let error = Arc::new(error);
        tracing::error!(
            sequence = unit.first(), records = unit.records.len(), error = %error.chain(),
            "the backend refuses a journaled write; it is parked until somebody retries or drops it"
        );
        for queued in &unit.records {
            queued.progress.send_replace(Progress::Parked(Arc::clone(&error)));
            self.events.send(|| Event::Parked { key: queued.record.key.clone() });
        }
        let first = unit.first();
        let mut parking = behind.parking.lock();
        parking.retried.remove(&first);
        parking.parked.insert(first, ParkedUnit { unit, error });
        parking.dirty = true;
    }

    /// Brings the journal's list in step; `false` where that failed.
    pub(super) async fn write_aside(&self, behind: &Behind) -> bool {
        // One at a time, so that the last list written is the latest.
        let _turn = behind.aside_turn.lock().await;
        let aside = {
            let mut parking = behind.parking.lock();
            if !parking.dirty {
                return true;
            }
            (parking.dirty, parking.being_written) = (false, true);
            parking.aside()
        };
        let written = behind.journal.set_aside(&aside).await;
        behind.parking.lock().being_written = false;
        let Err(error) = written else { return true };
        tracing::warn!(error = %error.chain(), "the list of parked writes could not be written; the journal keeps their records");
        behind.parking.lock().dirty = true;
        false
    }

    /// What is parked, in the journal's order.
    pub(in crate::tiered) fn parked(&self) -> Vec<Parked> {
        self.behind.as_ref().map(|behind| behind.parking.lock().list()).unwrap_or_default()
    }

    /// Puts a parked unit back in line.
    pub(in crate::tiered) fn retry_parked(&self, sequence: Sequence) -> Result<()> {
        let behind = self.behind()?;
        {
            let mut parking = behind.parking.lock();
            if parking.parked.get(&sequence).is_some_and(|parked| parking.is_being_dropped(parked)) {
                return Err(not_parked(sequence));
            }
            let Some(mut parked) = parking.parked.remove(&sequence) else {
                return Err(not_parked(sequence));
            };
            if !behind.halts {
                // A later write of the key must not be undone.
                let is_superseded =
                    |queued: &mut Queued| !self.slots.is_latest(&queued.record.key, queued.sequence);
                let superseded: Vec<Queued> = parked.unit.records.extract_if(.., is_superseded).collect();
                parking.dirty |= !superseded.is_empty();
                behind.backlog.fetch_sub(superseded.len() as u64, Ordering::Relaxed);
                for queued in superseded {
                    queued.progress.send_replace(Progress::Committed);
                }
            }
            let unit = parked.unit;
            for queued in &unit.records {
                queued.progress.send_replace(Progress::Journaled);
            }
            if !unit.records.is_empty() {
                let reason = parked.error.chain();
                let records = unit.records.iter().map(|queued| (queued.sequence, queued.record.clone()));
                parking.retried.insert(unit.first(), Parked { records: records.collect(), reason });
                behind.queue.lock().insert(unit);
            }
        }
        behind.move_barrier();
        behind.queued.notify_one();
        Ok(())
    }

    /// Gives a parked unit up: its keys are again what the backend has.
    pub(in crate::tiered) async fn drop_parked(self: &Arc<Self>, sequence: Sequence) -> Result<()> {
        let behind = self.behind()?;
        let begun = behind.parking.lock().begin_drop(sequence);
        let sequences = begun.ok_or_else(|| not_parked(sequence))?;
        if !self.write_aside(behind).await {
            let mut parking = behind.parking.lock();
            parking.dropped.retain(|dropped| !sequences.contains(dropped));
            return Err(Error::new(
                ErrorKind::Unavailable,
                "the journal could not be written, and the write stays parked; see the log",
            ));
        }
        let records = {
            // Before the flush goes on: it asks whether a write of its is what readers see.
            let mut parking = behind.parking.lock();
            let records = parking.end_drop(&sequences);
            for queued in &records {
                self.uncover_older(behind, &parking, queued);
            }
            records
        };
        behind.backlog.fetch_sub(records.len() as u64, Ordering::Relaxed);
        for queued in records {
            let (key, sequence) = (&queued.record.key, queued.sequence);
            if self.slots.is_latest(key, sequence) {
                // What was flushed while this lay over it was not brought to the frontend.
                self.settle_frontend(key, Change::Remove).await;
                self.slots.clear_pending(key, sequence);
            }
            queued.progress.send_replace(Progress::Dropped);
            self.events.send(|| Event::Dropped { key: queued.record.key.clone() });
        }
        behind.move_barrier();
        behind.queued.notify_one();
        Ok(())
    }

    /// Shows the write that a dropped one had hidden: one that is parked, or in line again.
    fn uncover_older(&self, behind: &Behind, parking: &Parking, dropped: &Queued) {
        let key = &dropped.record.key;
        let queue = behind.queue.lock();
        let older = parking.latest(key).into_iter().chain(queue.latest(key));
        let older =
            older.filter(|older| older.sequence < dropped.sequence).max_by_key(|older| older.sequence);
        let pending = older.and_then(|older| {
            let state = self.state_after(&older.record)?;
            Some(Pending { sequence: older.sequence, state })
        });
        if pending.is_some() {
            self.slots.replace_pending(key, dropped.sequence, pending);
        }
    }
}

fn not_parked(sequence: Sequence) -> Error {
    Error::new(ErrorKind::InvalidInput, format!("no write is parked under {sequence}; list what is parked"))
}
