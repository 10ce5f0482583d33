//! Reads: slot first, then frontend, then one backend read for all who wait.

use std::sync::Arc;
use std::time::Duration;

use super::engine::{Change, Engine};
use super::settings::{FillTiming, FrontendFailure};
use crate::adapter::all_failed;
use crate::breaker::is_outage;
use crate::entry::{Entry, Metadata, Note, Origin, Tombstones};
use crate::error::{Error, ErrorKind, Operation, Result};
use crate::key::Key;
use crate::observe::Event;
use crate::planted::Plant;
use crate::policy::{Freshness, ReadPolicy, WritePolicy};
use crate::read::{Known, Lookup, Read, ReadOptions, Reads, Source};
use crate::slot::{Boarding, Flight, Glance, PendingState, Pilot};
use crate::store::answer;
use crate::write::Put;

/// What the frontend had for a read.
#[derive(Debug)]
pub(super) enum Found {
    /// An entry that may be served, a tombstone, or a fresh note of absence.
    Fresh(Entry),
    /// An entry that is to be compared with the backend first.
    Doubtful(Entry),
    /// Something that cannot be read; a fill replaces it.
    Damaged,
    Nothing,
}

/// What a flight replaces in the frontend.
#[derive(Clone, Debug)]
pub(super) enum Replaces {
    Nothing,
    Damaged,
    Doubtful(Entry),
}

impl Engine {
    pub(super) fn peek(&self, key: &Key) -> Option<Entry> {
        if self.barred.load(std::sync::atomic::Ordering::Acquire) {
            return None;
        }
        match self.slots.glance(key) {
            Glance::Clear => {}
            Glance::Pending(PendingState::Written(entry)) => {
                self.counters.pending_hits.add(1);
                return Some(entry).filter(|entry| self.is_live(entry.metadata()));
            }
            Glance::Gated if self.planted.has(Plant::GatedKeyServesHits) => {}
            Glance::Pending(PendingState::Deleted) | Glance::Gated | Glance::Quarantined => return None,
        }
        let entry = self.frontend.peek(key)?;
        if !self.is_fresh(entry.metadata(), self.max_stale_millis) {
            return None;
        }
        self.counters.hits.add(1);
        Some(entry)
    }

    /// Whether the entry has not expired. Reads the clock only where that matters.
    fn is_live(&self, metadata: &Metadata) -> bool {
        metadata.expires_at.is_none() || metadata.is_live(self.stamp.now())
    }

    pub(super) async fn load(self: &Arc<Self>, key: &Key, options: &ReadOptions) -> Result<Read> {
        self.check_open(Operation::Load)?;
        loop {
            match self.slots.glance(key) {
                Glance::Pending(state) => return self.answer_pending(state, options),
                Glance::Gated if self.planted.has(Plant::GatedKeyServesHits) => {}
                Glance::Gated if self.reads_locally(options) => {
                    self.wait_for_gate(key).await;
                    continue;
                }
                Glance::Quarantined if self.settings.read_policy == ReadPolicy::FrontendOnly => {
                    return Ok(Read::fresh(Lookup::Absent, Source::Frontend));
                }
                // What the backend answers now may be overtaken by the write under way, so nobody shares it.
                Glance::Gated => return self.load_from_backend(key, options).await,
                Glance::Clear | Glance::Quarantined => {}
            }
            if let Some(read) = self.load_in_time(key, options).await? {
                return Ok(read);
            }
        }
    }

    /// Whether the frontend's entry is the last word on what the key has: where nothing else is read, or it is local.
    pub(super) fn is_word(&self, entry: &Entry) -> bool {
        self.settings.read_policy == ReadPolicy::FrontendOnly || entry.metadata().note.origin.is_local()
    }

    /// Whether the frontend alone answers this read.
    fn reads_locally(&self, options: &ReadOptions) -> bool {
        self.settings.write_policy == WritePolicy::FrontendOnly
            || (self.settings.read_policy == ReadPolicy::FrontendOnly
                && options.freshness != Freshness::Authoritative)
    }

    pub(super) async fn wait_for_gate(&self, key: &Key) {
        drop(self.slots.close_gate(key).await);
    }

    fn answer_pending(&self, state: PendingState, options: &ReadOptions) -> Result<Read> {
        self.counters.pending_hits.add(1);
        let entry = match state {
            PendingState::Written(entry) => Some(entry),
            PendingState::Deleted => None,
        };
        let read = answer(entry, self.stamp.now(), options)?;
        Ok(Read { source: Source::Pending, ..read })
    }

    async fn load_from_backend(&self, key: &Key, options: &ReadOptions) -> Result<Read> {
        self.counters.backend_reads.add(1);
        let options = ReadOptions { tombstones: Tombstones::Hide, ..options.clone() };
        let read = self.bounded(self.ask_backend(self.backend.load(key, &options))).await?;
        Ok(Read { source: Source::Backend, ..read })
    }

    /// One attempt; `None` when the key's state changed under it.
    pub(super) async fn load_once(
        self: &Arc<Self>,
        key: &Key,
        options: &ReadOptions,
    ) -> Result<Option<Read>> {
        let replaces = match self.look_in_frontend(key, options).await? {
            // A copy of another version than the one that is asked for does not tell what the backend has.
            Found::Fresh(entry) if options.excludes(entry.version()) && !self.is_word(&entry) => {
                Replaces::Nothing
            }
            Found::Fresh(entry) => return Ok(Some(self.answer_hit(entry, options))),
            _ if self.settings.read_policy == ReadPolicy::FrontendOnly
                && options.freshness != Freshness::Authoritative =>
            {
                self.counters.misses.add(1);
                return Ok(Some(Read::fresh(Lookup::Absent, Source::Frontend)));
            }
            Found::Doubtful(entry) => Replaces::Doubtful(entry),
            Found::Damaged => Replaces::Damaged,
            Found::Nothing => Replaces::Nothing,
        };
        self.counters.misses.add(1);
        if options.range.is_some() || options.if_version.is_some() {
            // A part of a value is no entry of the frontend: it is passed on and not kept.
            return self.load_from_backend(key, options).await.map(Some);
        }
        let flight = match self.slots.board(key, options.freshness != Freshness::Cached) {
            Boarding::Look if self.planted.has(Plant::GatedKeyServesHits) => {
                return self.load_from_backend(key, options).await.map(Some);
            }
            Boarding::Look => return Ok(None),
            Boarding::Join(flight) => {
                self.counters.joined.add(1);
                flight
            }
            Boarding::Lead(flight, pilot) => {
                let (engine, key, freshness) = (Arc::clone(self), key.clone(), options.freshness);
                self.runtime.spawn(async move { engine.fly(pilot, key, replaces, freshness).await });
                flight
            }
        };
        self.answer_flight(arrival(flight).await?, options).map(Some)
    }

    pub(super) async fn look_in_frontend(&self, key: &Key, options: &ReadOptions) -> Result<Found> {
        let local = self.settings.write_policy == WritePolicy::FrontendOnly;
        if self.slots.is_quarantined(key) && !local {
            return Ok(Found::Nothing);
        }
        let max_stale = match options.freshness {
            Freshness::Authoritative if !local => return Ok(Found::Nothing),
            Freshness::Authoritative => 0,
            Freshness::Cached => self.max_stale_millis,
            Freshness::MaxStale(age) => {
                u64::try_from(age.as_millis()).unwrap_or(u64::MAX - 1).min(self.max_stale_millis)
            }
        };
        let alone = local || self.settings.read_policy == ReadPolicy::FrontendOnly;
        let asked = match self.frontend.peek(key) {
            Some(entry) => match &options.range {
                Some(range) => entry.slice(range).map(Some),
                None => Ok(Some(entry)),
            },
            None => self.ask_frontend(self.load_from_frontend(key, options)).await,
        };
        let found = match asked {
            Ok(found) => found,
            Err(error)
                if error.kind() == ErrorKind::InvalidRange && (local || options.if_version.is_some()) =>
            {
                return self.beyond_the_local(key, options, error).await;
            }
            Err(error) if local => return Err(error),
            Err(error) if error.kind() == ErrorKind::Corrupt => {
                self.counters.frontend_corruptions.add(1);
                tracing::warn!(key = %key, error = %error.chain(), "damaged entry in the frontend");
                return Ok(Found::Damaged);
            }
            // Nobody else is asked: a failure must not pass for an absence.
            Err(error) if alone && options.freshness != Freshness::Authoritative => return Err(error),
            // The entry in the frontend may be of another size than the backend's: that one decides.
            Err(error) if error.kind() == ErrorKind::InvalidRange => return Ok(Found::Damaged),
            Err(error) => {
                self.counters.frontend_errors.add(1);
                return match self.settings.frontend_failure {
                    FrontendFailure::Fail => Err(error),
                    FrontendFailure::Skip => Ok(Found::Nothing),
                };
            }
        };
        Ok(match found {
            // Written under another policy: not the backend's, so a fill replaces it.
            Some(entry) if entry.metadata().note.origin.is_local() && !local => Found::Damaged,
            Some(entry) if entry.metadata().note.origin == Origin::Absence => {
                if self.is_fresh(entry.metadata(), max_stale) { Found::Fresh(entry) } else { Found::Damaged }
            }
            Some(entry) if self.is_fresh(entry.metadata(), max_stale) => Found::Fresh(entry),
            Some(entry) => Found::Doubtful(entry),
            None => Found::Nothing,
        })
    }

    /// What a range means that does not fit the frontend's entry, where writes stay there: a tombstone has no bytes and
    /// is absent, whatever the range; the size of a copy is not the backend's word. Nor is a range judged against another
    /// version than the one that is asked for.
    async fn beyond_the_local(&self, key: &Key, options: &ReadOptions, error: Error) -> Result<Found> {
        let bytes_aside = ReadOptions::new().range(0..0);
        let entry = self.ask_frontend(self.load_from_frontend(key, &bytes_aside)).await?;
        let alone = self.settings.read_policy == ReadPolicy::FrontendOnly;
        match entry {
            Some(entry) if entry.metadata().note.origin == Origin::Tombstone => Ok(Found::Fresh(entry)),
            Some(entry) if !entry.metadata().note.origin.is_local() && !alone => Ok(Found::Damaged),
            Some(entry) if options.excludes(entry.version()) => Ok(Found::Fresh(entry)),
            Some(_) => Err(error),
            None => Ok(Found::Nothing),
        }
    }

    /// Loads from the frontend, tombstones included, for as long as patience lasts.
    async fn load_from_frontend(&self, key: &Key, options: &ReadOptions) -> Result<Option<Entry>> {
        let options = ReadOptions {
            freshness: Freshness::Cached,
            unless: None,
            if_version: None,
            range: options.range.clone(),
            tombstones: Tombstones::Show,
        };
        let load = self.frontend.load(key, &options);
        match tokio::time::timeout(self.settings.frontend_patience(), load).await {
            Ok(read) => Ok(read?.into_entry()),
            Err(_) => Err(self.frontend_is_late()),
        }
    }

    pub(super) fn answer_hit(&self, entry: Entry, options: &ReadOptions) -> Read {
        match entry.metadata().note.origin {
            Origin::Absence => self.counters.absence_hits.add(1),
            _ => self.counters.hits.add(1),
        }
        self.answer_from_frontend(entry, options)
    }

    pub(super) fn answer_from_frontend(&self, entry: Entry, options: &ReadOptions) -> Read {
        let note = &entry.metadata().note;
        let age = if note.origin.is_local() {
            Duration::ZERO
        } else {
            Duration::from_millis(self.uptime_millis().saturating_sub(note.validated))
        };
        let unchanged = options.unless.as_ref().is_some_and(|known| known.version == *entry.version());
        let lookup = if note.origin.is_hidden() {
            Lookup::Absent
        } else if options.excludes(entry.version()) {
            Lookup::Changed
        } else if unchanged {
            Lookup::Unchanged
        } else {
            Lookup::Found(entry)
        };
        Read { lookup, source: Source::Frontend, age, stale: false }
    }

    fn answer_flight(&self, lookup: Lookup, options: &ReadOptions) -> Result<Read> {
        let entry = match lookup {
            Lookup::Found(entry) => Some(entry),
            Lookup::Unchanged | Lookup::Changed | Lookup::Absent => None,
        };
        let read = answer(entry, self.stamp.now(), options)?;
        Ok(Read { source: Source::Backend, ..read })
    }

    /// Reads the backend for everybody who waits, then fills the frontend if the lease still stands.
    pub(super) async fn fly(
        self: Arc<Self>,
        pilot: Pilot,
        key: Key,
        replaces: Replaces,
        freshness: Freshness,
    ) {
        let (session, sent) = (self.session(), self.uptime_millis());
        let mut options = ReadOptions::new().freshness(freshness);
        if let Replaces::Doubtful(entry) = &replaces
            && entry.is_whole()
        {
            options = options.unless(Known::of(entry));
        }
        self.counters.backend_reads.add(1);
        let read = self.ask_backend(self.backend.load(&key, &options)).await;
        self.land(&pilot, &key, read, &replaces, session, sent).await;
    }

    /// Tells the followers of a flight what the backend answered, and fills the frontend.
    pub(super) async fn land(
        self: &Arc<Self>,
        pilot: &Pilot,
        key: &Key,
        read: Result<Read>,
        replaces: &Replaces,
        session: u64,
        sent: u64,
    ) {
        let read = match read {
            Ok(read) => read,
            Err(error) => return pilot.announce(Err(Arc::new(error))),
        };
        // What a nested store answered from its own cache is as old there as it says.
        let validated = sent.saturating_sub(u64::try_from(read.age.as_millis()).unwrap_or(u64::MAX));
        let entry = match (read.lookup, replaces) {
            (Lookup::Found(entry), _) => Some(entry),
            (Lookup::Unchanged, Replaces::Doubtful(entry)) => {
                self.counters.revalidated.add(1);
                Some(entry.clone())
            }
            (Lookup::Unchanged | Lookup::Changed | Lookup::Absent, _) => None,
        };
        let (answer, change) = if let Some(entry) = entry {
            let note = Self::note(session, validated, entry.metadata());
            let entry = entry.with_note(note);
            let fits = self.fits_frontend(key, entry.size());
            let change = if fits { Some(Change::Install(entry.clone())) } else { removal(replaces) };
            (Lookup::Found(entry), change)
        } else {
            (Lookup::Absent, self.note_absence(session, validated).or_else(|| removal(replaces)))
        };
        match self.settings.fill {
            FillTiming::AfterAnswer => {
                pilot.announce(Ok(answer));
                self.fill(pilot, key, change).await;
            }
            FillTiming::BeforeAnswer => {
                self.fill(pilot, key, change).await;
                pilot.announce(Ok(answer));
            }
        }
    }

    /// Changes the frontend as a read found it to be needed, if the read's lease still stands.
    async fn fill(self: &Arc<Self>, pilot: &Pilot, key: &Key, change: Option<Change>) {
        let Some(change) = change else { return };
        let careless = self.planted.has(Plant::FillIgnoresLease)
            || (is_absence(&change) && self.planted.has(Plant::AbsenceOutlivesWrite));
        let call = if careless { self.begin_call(key).await } else { pilot.begin_fill() };
        let Some(call) = call else { return };
        // While the call is held nobody else changes the key here.
        if self.is_kept_locally(key).await.unwrap_or(true) {
            return;
        }
        // Last, since a breaker that lets one call through wants to hear of it. Without a fill the frontend stays in step
        // as well.
        if !self.frontend_takes_calls() {
            return self.counters.spared.add(1);
        }
        let filled = matches!(&change, Change::Install(_)) && !is_absence(&change);
        if self.call_frontend(key, change, call).await == super::engine::Changed::Done && filled {
            self.counters.fills.add(1);
            self.events.send(|| Event::Filled { key: key.clone() });
        }
    }

    /// What remembers that the backend has no such entry, where that is wanted.
    fn note_absence(&self, session: u64, validated: u64) -> Option<Change> {
        self.settings.negative_ttl_millis?;
        let note = Note { session, validated, origin: Origin::Absence, validator: None };
        Some(Change::Install(self.stamp.entry(&Put::new("")).with_note(note)))
    }

    pub(super) async fn head(&self, key: &Key, options: &ReadOptions) -> Result<Option<Arc<Metadata>>> {
        self.check_open(Operation::Load)?;
        loop {
            match self.slots.glance(key) {
                Glance::Pending(PendingState::Written(entry)) => {
                    return Ok(Some(Arc::clone(entry.metadata())).filter(|metadata| self.is_live(metadata)));
                }
                Glance::Pending(PendingState::Deleted) => return Ok(None),
                Glance::Gated if self.reads_locally(options) => self.wait_for_gate(key).await,
                Glance::Quarantined if self.settings.read_policy == ReadPolicy::FrontendOnly => {
                    return Ok(None);
                }
                // What is local is in the frontend alone, and is no wrong copy.
                Glance::Quarantined if self.settings.write_policy == WritePolicy::FrontendOnly => break,
                Glance::Gated | Glance::Quarantined => return self.head_of_backend(key, options).await,
                Glance::Clear => break,
            }
        }
        let options = ReadOptions { unless: None, if_version: None, range: Some(0..0), ..options.clone() };
        match self.look_in_frontend(key, &options).await? {
            Found::Fresh(entry) if entry.metadata().note.origin.is_hidden() => Ok(None),
            Found::Fresh(entry) => Ok(Some(Arc::clone(entry.metadata()))),
            _ if self.settings.read_policy == ReadPolicy::FrontendOnly
                && options.freshness != Freshness::Authoritative =>
            {
                Ok(None)
            }
            _ => {
                let options = ReadOptions { range: None, tombstones: Tombstones::Hide, ..options };
                self.head_of_backend(key, &options).await
            }
        }
    }

    async fn head_of_backend(&self, key: &Key, options: &ReadOptions) -> Result<Option<Arc<Metadata>>> {
        self.bounded(self.ask_backend(self.backend.head(key, options))).await
    }

    /// Several keys: hits one by one, the misses in one read of the backend.
    pub(super) async fn get_many(self: &Arc<Self>, keys: &[Key], options: &ReadOptions) -> Reads {
        if let Err(error) = self.check_open(Operation::LoadMany) {
            return all_failed(keys, &error);
        }
        let plain = options.range.is_none() && options.freshness == Freshness::Cached;
        let batched = plain
            && self.settings.read_policy == ReadPolicy::FrontendFirst
            && self.settings.write_policy != WritePolicy::FrontendOnly;
        let mut flights = std::collections::HashMap::new();
        if batched {
            let (mut missing, mut seen) = (Vec::new(), std::collections::HashSet::new());
            for key in keys {
                if !seen.insert(key) || !matches!(self.slots.glance(key), Glance::Clear) {
                    continue;
                }
                let replaces = match self.look_in_frontend(key, options).await {
                    Ok(Found::Nothing) => Replaces::Nothing,
                    Ok(Found::Damaged) => Replaces::Damaged,
                    // Fresh ones are read below; doubtful ones are compared one by one, and a failure answers there.
                    Ok(Found::Fresh(_) | Found::Doubtful(_)) | Err(_) => continue,
                };
                missing.push((key, replaces));
            }
            // No flight waits for this call: others may join it, and the call may be dropped.
            let mut leads = Vec::new();
            for (key, replaces) in missing {
                if let Boarding::Lead(flight, pilot) = self.slots.board(key, false) {
                    flights.insert(key.clone(), flight);
                    leads.push((key.clone(), pilot, replaces));
                }
            }
            if !leads.is_empty() {
                let engine = Arc::clone(self);
                self.runtime.spawn(async move { engine.fly_together(leads).await });
            }
        }
        let mut reads = Vec::with_capacity(keys.len());
        for key in keys {
            reads.push(match flights.get(key) {
                Some(flight) => match self.bounded(arrival(flight.clone())).await {
                    Ok(lookup) => {
                        self.counters.misses.add(1);
                        self.answer_flight(lookup, options)
                    }
                    Err(error) => Err(error),
                },
                None => self.load(key, options).await,
            });
        }
        reads
    }

    async fn fly_together(self: Arc<Self>, leads: Vec<(Key, Pilot, Replaces)>) {
        let (session, sent) = (self.session(), self.uptime_millis());
        let keys: Vec<Key> = leads.iter().map(|(key, ..)| key.clone()).collect();
        self.counters.backend_reads.add(1);
        let asked = self.ask_backend(async {
            let reads = self.backend.get_many(&keys, &ReadOptions::new()).await;
            match out_of_reach(&reads) {
                Some(error) => Err(error.duplicate()),
                None => Ok(reads),
            }
        });
        match asked.await {
            Ok(reads) => {
                let landings = leads.into_iter().zip(reads).map(|((key, pilot, replaces), read)| {
                    let engine = Arc::clone(&self);
                    async move { engine.land(&pilot, &key, read, &replaces, session, sent).await }
                });
                futures_util::future::join_all(landings).await;
            }
            Err(error) => {
                let error = Arc::new(error);
                for (_, pilot, _) in leads {
                    pilot.announce(Err(Arc::clone(&error)));
                }
            }
        }
    }
}

fn is_absence(change: &Change) -> bool {
    matches!(change, Change::Install(entry) if entry.metadata().note.origin == Origin::Absence)
}

/// Why no key at all could be read, where the tier was out of reach.
fn out_of_reach(reads: &Reads) -> Option<&Error> {
    let all_failed = reads.iter().all(|read| read.as_ref().is_err_and(|error| is_outage(error.kind())));
    reads.first().filter(|_| all_failed)?.as_ref().err()
}

async fn arrival(flight: Flight) -> Result<Lookup> {
    flight.answer().await.map_err(|error| error.duplicate())
}

/// What to do where the backend has nothing to fill with.
fn removal(replaces: &Replaces) -> Option<Change> {
    (!matches!(replaces, Replaces::Nothing)).then_some(Change::Remove)
}
