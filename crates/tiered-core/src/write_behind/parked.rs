//! Parking, and what an operator does with parked writes.

use std::sync::Arc;

use super::WriteBehind;
use super::parking::{Parking, Why};
use super::queue::{Queued, Unit};
use crate::error::{Error, ErrorKind, Result};
use crate::journal::{Parked, Sequence};
use crate::observe::Event;
use crate::slot::Pending;
use crate::sync_primitives::atomic::Ordering;
use crate::write::Progress;

impl WriteBehind {
    /// Parks a unit. The caller advances afterwards, which writes the journal's list.
    pub(super) fn park(&self, unit: Unit, why: Why) {
        tracing::error!(
            sequence = unit.first(), records = unit.len(), error = %why.error().chain(),
            "a journaled write cannot be flushed; it is parked until an operator retries or drops it"
        );
        unit.tell(&Progress::Parked(Arc::clone(why.error())));
        for queued in unit.writes() {
            self.recorder.send(|| Event::Parked { key: queued.key().clone() });
        }
        self.parking.lock().park(unit, why);
    }

    /// Whether nothing is flushed until an operator has decided on what is parked.
    pub(super) fn is_halted(&self) -> bool {
        self.plan.halts_when_parked() && self.parking.lock().holds_up()
    }

    /// The backend has these units: what they supersede is parked no more.
    pub(super) fn unpark(&self, flushed: &[Unit]) {
        let superseded = self.parking.lock().flushed(flushed);
        self.superseded(&superseded);
    }

    /// Tells the receipts of superseded writes, which count as committed.
    fn superseded(&self, writes: &[Queued]) {
        self.backlog.fetch_sub(writes.len() as u64, Ordering::Relaxed);
        for queued in writes {
            queued.tell(Progress::Committed);
        }
    }

    /// Writes the list of what is set aside to the journal; `false` where that failed.
    pub(super) async fn write_list(&self) -> bool {
        // One at a time, so that the last list written is the latest.
        let _turn = self.list_turn.lock().await;
        let Some(aside) = self.parking.lock().begin_writing() else { return true };
        let Err(error) = self.journal.set_aside(&aside).await else {
            self.parking.lock().written();
            return true;
        };
        self.parking.lock().not_written();
        tracing::warn!(error = %error.chain(), "the list of parked writes could not be written; the journal keeps their records");
        false
    }

    /// What is parked, in the journal's order.
    pub(crate) fn parked(&self) -> Vec<Parked> {
        self.parking.lock().list()
    }

    /// Puts a parked unit back in line.
    pub(crate) fn retry_parked(&self, sequence: Sequence) -> Result<()> {
        {
            let mut parking = self.parking.lock();
            // A later write of a key that is not seen yet comes behind the unit: it is pending before it is in line.
            let mut queue = self.queue.lock();
            let halts = self.plan.halts_when_parked();
            // Where the flush went on, a later write of the key must not be undone.
            let is_superseded =
                |queued: &Queued| !halts && !self.slots.is_latest(queued.key(), queued.sequence());
            let retried = parking.retry(sequence, is_superseded);
            let (unit, superseded) = retried.ok_or_else(|| not_parked(sequence))?;
            self.superseded(superseded.writes());
            unit.tell(&Progress::Journaled);
            if !unit.is_empty() {
                queue.insert(unit);
            }
        }
        self.move_barrier();
        self.queued.notify_one();
        Ok(())
    }

    /// Gives a parked unit up: its keys are again what the backend has.
    pub(crate) async fn drop_parked(&self, sequence: Sequence) -> Result<()> {
        let begun = self.parking.lock().begin_drop(sequence);
        let sequences = begun.ok_or_else(|| not_parked(sequence))?;
        if !self.write_list().await {
            self.parking.lock().cancel_drop(&sequences);
            return Err(Error::new(
                ErrorKind::Unavailable,
                "the journal could not be written, and the write stays parked; see the log",
            ));
        }
        let dropped = {
            // Before the flush goes on: it asks whether a write of its is what readers see.
            let mut parking = self.parking.lock();
            let dropped = parking.end_drop(&sequences);
            for queued in &dropped {
                self.uncover_older(&parking, queued);
            }
            dropped
        };
        self.backlog.fetch_sub(dropped.len() as u64, Ordering::Relaxed);
        for queued in dropped {
            let (key, sequence) = (queued.key(), queued.sequence());
            if self.slots.is_latest(key, sequence) {
                // What was flushed while this lay over it was not brought to the frontend.
                self.frontend.update_unreserved(key, None).await;
                self.slots.clear_pending(key, sequence);
            }
            queued.tell(Progress::Dropped);
            self.recorder.send(|| Event::Dropped { key: key.clone() });
        }
        self.move_barrier();
        self.queued.notify_one();
        Ok(())
    }

    /// Shows the write that a dropped one had hidden: one that is parked, or in line again.
    fn uncover_older(&self, parking: &Parking, dropped: &Queued) {
        let key = dropped.key();
        let queue = self.queue.lock();
        let older = parking.latest(key).into_iter().chain(queue.latest(key));
        let older =
            older.filter(|older| older.sequence() < dropped.sequence()).max_by_key(|older| older.sequence());
        if let Some(older) = older {
            let pending = Pending::new(older.sequence(), older.write().effect().clone());
            self.slots.replace_pending(key, dropped.sequence(), Some(pending));
        }
    }
}

fn not_parked(sequence: Sequence) -> Error {
    Error::new(ErrorKind::InvalidInput, format!("no write is parked under {sequence}; list what is parked"))
}
