//! Recovery: what an earlier session journaled and did not flush, and what it parked.

use std::collections::{HashMap, HashSet};

use tokio::sync::watch;

use super::parking::{Parking, Why};
use super::queue::{Queued, Unit};
use super::{NotLookedUp, WriteBehind};
use crate::breaker::is_outage;
use crate::capability::Feature;
use crate::effect::Write;
use crate::error::{Error, ErrorKind, Operation, Result};
use crate::journal::{Aside, JournalRecord, ParkReason, Parked, Recovered, Sequence};
use crate::key::Key;
use crate::ownership::{self, Lease, Registration, Standing, Tenure, Tolerates};
use crate::slot::Pending;
use crate::sync_primitives::atomic::Ordering;
use crate::write::Progress;

/// Attempts to take a lease whose owner goes on flushing.
const TAKE_ATTEMPTS: usize = 32;

type Records = Vec<(Sequence, JournalRecord)>;

impl WriteBehind {
    /// Takes over what an earlier session left in the journal of this backend, and the right to flush it. `backend` is the
    /// identity of the backend.
    pub(crate) async fn recover(&self, backend: &[u8], tolerates: Tolerates) -> Result<()> {
        let mut recovered = self.journal.recover(backend).await?;
        let journal = (recovered.journal != 0).then_some(recovered.journal);
        let mut flushed = 0;
        match ownership::check(self.backend.past_breaker(), journal, tolerates).await {
            Ok(_) => match self.plan.lease() {
                Some(lease) => flushed = self.take_lease(lease, &mut recovered).await?,
                None => self.enter_mark(&mut recovered).await?,
            },
            Err(error) if self.plan.lease().is_none() => {
                let late = may_be_looked_up_later(&recovered, &error)
                    .then_some(NotLookedUp { journal: recovered.journal, tolerates });
                // Recovery runs once.
                self.late.set(late.ok_or(error)?).ok();
            }
            Err(error) => return Err(error),
        }
        let superseded = leave_out_flushed(&mut recovered, flushed);
        self.queue_recovered(recovered);
        if superseded {
            // The journal's list still has what was left out.
            self.parking.lock().changed();
        }
        self.queued.notify_one();
        Ok(())
    }

    /// Shows what is recovered to readers, and queues or parks it.
    fn queue_recovered(&self, recovered: Recovered) {
        let Aside { parked, dropped } = recovered.aside;
        // Where the flush halts, opening again is a reason to try again; but not over another owner's writes.
        let halts = self.plan.halts_when_parked();
        let (again, parked): (Vec<Parked>, Vec<Parked>) =
            parked.into_iter().partition(|unit| halts && unit.reason.may_be_over());
        let aside: HashSet<Sequence> =
            again.iter().chain(&parked).flat_map(sequences).chain(dropped.iter().copied()).collect();
        let waiting = recovered.records.into_iter().filter(|(sequence, _)| !aside.contains(sequence));
        let mut units = in_units(waiting.collect());
        units.extend(again.iter().map(|unit| unit.records.clone()));
        units.sort_by_key(|records| records.first().map(|(sequence, _)| *sequence));
        let units: Vec<Unit> = units.into_iter().map(|records| self.unit_of(records)).collect();
        let parked: Vec<(Unit, Why)> = parked
            .into_iter()
            .map(|unit| (self.unit_of(unit.records), Why::recovered(unit.reason)))
            .collect();
        // A later write of a key lies over an earlier one, parked or not.
        let parked_units = parked.iter().map(|(unit, _)| unit);
        let mut all: Vec<&Queued> = units.iter().chain(parked_units).flat_map(Unit::writes).collect();
        all.sort_by_key(|queued| queued.sequence());
        for queued in &all {
            let pending = Pending::new(queued.sequence(), queued.write().effect().clone());
            self.slots.set_pending(queued.key(), pending);
        }
        self.backlog.fetch_add(all.len() as u64, Ordering::Relaxed);
        let next = all.last().map_or(0, |last| last.sequence() + 1);
        *self.parking.lock() = Parking::recovered(parked, again, dropped);
        self.queue.lock().recover(units);
        self.flushed.send_modify(|flushed| flushed.journaled = next);
        self.move_barrier();
    }

    fn unit_of(&self, records: Records) -> Unit {
        let queued = records.into_iter().map(|(sequence, record)| {
            let write = Write::of_record(record, &self.stamp);
            Queued::new(sequence, write, watch::Sender::new(Progress::Journaled))
        });
        Unit::new(queued.collect(), self.stamp.uptime_millis(), None)
    }

    /// Takes the lease; how far the journal has been flushed under it. Where another owner came in between, everything that
    /// the journal holds is parked first.
    async fn take_lease(&self, lease: Lease, recovered: &mut Recovered) -> Result<Sequence> {
        let journal = match recovered.journal {
            // A journal that does not outlive its process is a new one each time.
            0 => self.stamp.versions().mint().as_u128().unwrap_or_default(),
            journal => journal,
        };
        let backend = self.backend.past_breaker();
        // The owner that is taken over may be flushing.
        for _ in 0..TAKE_ATTEMPTS {
            let mut tenure = Tenure::of(backend, journal, lease).await?;
            tenure.believe_until(recovered.records.last().map_or(0, |(last, _)| last + 1));
            if tenure.has_passed_on() && park_all(recovered, &ParkReason::LeaseLost) {
                self.journal.set_aside(&recovered.aside).await?;
            }
            let flushed = tenure.flushed();
            if let Some(held) = tenure.take(backend, &self.stamp).await? {
                // Recovery runs once.
                self.lease.set(held).ok();
                return Ok(flushed);
            }
        }
        let message = "other stores took the lease at the same time, again and again; open it when they have";
        Err(Error::new(ErrorKind::Locked, message).during(Operation::Open))
    }

    /// Enters the journal in the backend's mark. Where it was abandoned, everything that it holds is parked first.
    async fn enter_mark(&self, recovered: &mut Recovered) -> Result<()> {
        let backend = self.backend.past_breaker();
        // Without an identity it does not outlive its process; the user vouches for a backend without marks.
        if recovered.journal == 0 || !self.backend.capabilities().has(Feature::KeepsMarks) {
            return Ok(());
        }
        let registration = Registration::of(backend, recovered.journal, recovered.marked).await?;
        if registration.standing() == Standing::Abandoned && park_all(recovered, &ParkReason::Abandoned) {
            tracing::error!("the journal was abandoned by name; everything that it holds is parked");
            self.journal.set_aside(&recovered.aside).await?;
        }
        registration.write(backend).await?;
        if registration.standing() == Standing::OlderThanMarks {
            self.journal.note_marked().await?;
        }
        self.id.set(recovered.journal).ok();
        Ok(())
    }

    /// Takes the empty journal out of the backend's mark.
    pub(super) async fn leave_mark(&self, journal: u128) {
        if let Err(error) = ownership::leave(self.backend.past_breaker(), journal).await {
            // The backend then refuses others until the journal was opened again, which is safe.
            tracing::warn!(error = %error.chain(), "the journal was not taken out of the backend's mark");
        }
    }
}

/// A journal that holds writes has not left the mark, which was durable before the first of them. Only an operator can
/// have taken it out, and the first flush waits until that is known.
fn may_be_looked_up_later(recovered: &Recovered, error: &Error) -> bool {
    is_outage(error.kind()) && recovered.marked && !recovered.records.is_empty()
}

fn sequences(unit: &Parked) -> impl Iterator<Item = Sequence> {
    unit.records.iter().map(|(sequence, _)| *sequence)
}

/// Leaves out what is in the backend: what was flushed under the lease, and of what is parked the records that a flushed
/// one of their key has superseded. Whether there was any of the latter.
fn leave_out_flushed(recovered: &mut Recovered, flushed: Sequence) -> bool {
    let Recovered { records, aside, .. } = recovered;
    let parked: HashSet<Sequence> = aside.parked.iter().flat_map(sequences).collect();
    let mut in_backend: HashMap<Key, Sequence> = HashMap::new();
    for (sequence, record) in records.iter() {
        if *sequence < flushed && !parked.contains(sequence) && !aside.dropped.contains(sequence) {
            in_backend.insert(record.key.clone(), *sequence);
        }
    }
    records.retain(|(sequence, _)| *sequence >= flushed);
    let before = parked.len();
    for unit in &mut aside.parked {
        unit.records
            .retain(|(sequence, record)| in_backend.get(&record.key).is_none_or(|later| later < sequence));
    }
    aside.parked.retain(|unit| !unit.records.is_empty());
    before != aside.parked.iter().flat_map(sequences).count()
}

/// Parks everything that a journal holds; whether there was anything.
fn park_all(recovered: &mut Recovered, reason: &ParkReason) -> bool {
    let Recovered { records, aside, .. } = recovered;
    let set_aside: HashSet<Sequence> =
        aside.parked.iter().flat_map(sequences).chain(aside.dropped.iter().copied()).collect();
    let rest = std::mem::take(records).into_iter().filter(|(sequence, _)| !set_aside.contains(sequence));
    let units = in_units(rest.collect()).into_iter();
    aside.parked.extend(units.map(|records| Parked { records, reason: reason.clone() }));
    aside.parked.sort_by_key(Parked::sequence);
    for unit in &mut aside.parked {
        unit.reason = reason.clone();
    }
    !aside.parked.is_empty()
}

/// The records of each write or batch together.
fn in_units(records: Records) -> Vec<Records> {
    let mut units: Vec<Records> = Vec::new();
    for (sequence, record) in records {
        // What was between two records may have been set aside.
        let goes_on = |unit: &&mut Records| {
            unit.last().is_some_and(|(last, record)| record.continues && last + 1 == sequence)
        };
        match units.last_mut().filter(goes_on) {
            Some(unit) => unit.push((sequence, record)),
            None => units.push(vec![(sequence, record)]),
        }
    }
    units
}
