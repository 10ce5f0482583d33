//! Reads: the key's slot first, then the frontend, then one backend read for all who wait.

mod blocks;
mod list;
mod load;
mod many;
mod part;
mod stale;
mod stream;

use std::sync::Arc;

use crate::clock::Stamp;
use crate::effect::Effect;
use crate::entry::{Entry, Metadata, Origin, Tombstones};
use crate::error::Result;
use crate::frontend::{Found, Frontend, Replaceable};
use crate::key::Key;
use crate::observe::{Count, Recorder};
use crate::parts::Parts;
use crate::plan::Plan;
use crate::read::{Lookup, Read, ReadOptions, Source};
use crate::slot::{Fetches, Gate, Glance, Slots};
use crate::store::answer;
use crate::tasks::Tasks;
use crate::tier::Tier;

/// The reading side of a tiered store.
#[derive(Debug)]
pub(crate) struct Reader {
    plan: Arc<Plan>,
    slots: Arc<Slots>,
    fetches: Arc<Fetches>,
    frontend: Arc<Frontend>,
    backend: Arc<Tier>,
    stamp: Stamp,
    tasks: Tasks,
    recorder: Arc<Recorder>,
}

impl Reader {
    pub(crate) fn new(parts: &Parts, frontend: Arc<Frontend>, backend: Arc<Tier>) -> Arc<Self> {
        Arc::new(Self {
            plan: parts.plan(),
            slots: parts.slots(),
            fetches: Fetches::new(),
            frontend,
            backend,
            stamp: parts.stamp(),
            tasks: parts.tasks(),
            recorder: parts.recorder(),
        })
    }

    /// A hit: the entry of a pending write, else the frontend's if it is in memory and fresh.
    #[inline]
    pub(crate) fn peek(&self, key: &Key) -> Option<Entry> {
        if !self.slots.is_clear(key) {
            return self.peek_past_slot(key);
        }
        let entry = self.frontend.peek(key);
        if entry.is_some() {
            self.recorder.count(Count::Hit);
        }
        entry
    }

    /// A hit of a key that may have a slot.
    #[cold]
    fn peek_past_slot(&self, key: &Key) -> Option<Entry> {
        match self.slots.glance(key) {
            Glance::Clear => {}
            Glance::Pending(Effect::Put(entry)) => {
                self.recorder.count(Count::PendingHit);
                return Some(entry).filter(|entry| self.is_live(entry.metadata()));
            }
            Glance::Pending(Effect::Delete(_)) | Glance::Gated | Glance::Quarantined => return None,
        }
        let entry = self.frontend.peek(key)?;
        self.recorder.count(Count::Hit);
        Some(entry)
    }

    /// Whether the entry has not expired. Reads the clock only where that matters.
    fn is_live(&self, metadata: &Metadata) -> bool {
        metadata.expires_at.is_none() || metadata.is_live(self.stamp.now())
    }

    pub(crate) async fn load(self: &Arc<Self>, key: &Key, options: &ReadOptions) -> Result<Read> {
        loop {
            match self.slots.glance(key) {
                Glance::Pending(effect) => return self.answer_pending(effect, options),
                Glance::Gated if self.plan.frontend_decides(options.freshness) => {
                    Gate::wait_until_open(&self.slots, key).await;
                    continue;
                }
                Glance::Quarantined if !self.plan.revalidates() => {
                    return Ok(Read::fresh(Lookup::Absent, Source::Frontend));
                }
                // The write under way may overtake what the backend answers now, so it is shared with no other reader.
                Glance::Gated => return self.load_alone(key, options).await,
                Glance::Clear | Glance::Quarantined => {}
            }
            if let Some(read) = self.load_in_time(key, options).await? {
                return Ok(read);
            }
        }
    }

    /// One attempt; `None` when the key's state changed under it.
    async fn load_once(self: &Arc<Self>, key: &Key, options: &ReadOptions) -> Result<Option<Read>> {
        if let Some(grid) = self.grid_for(key, options) {
            return self.load_part(key, options, grid).await;
        }
        let replaces = match self.frontend.look(key, options).await? {
            // A copy of another version than the one that is asked for does not tell what the backend has.
            Found::Fresh(entry) if options.excludes(entry.version()) && !self.is_last_word(&entry) => {
                Replaceable::Nothing
            }
            Found::Fresh(entry) => return Ok(Some(self.answer_hit(entry, options))),
            // The value is not there.
            Found::Stub(stub) => match self.answer_no_bytes(&stub, options) {
                Some(read) => return Ok(Some(read)),
                None => Replaceable::Stub(stub),
            },
            Found::Stale(replaces) => replaces,
        };
        self.recorder.count(Count::Miss);
        if self.plan.frontend_answers_alone(options.freshness) {
            return Ok(Some(Read::fresh(Lookup::Absent, Source::Frontend)));
        }
        if options.range.is_some() || options.if_version.is_some() {
            // A part of a value is no entry of the frontend, nor is a version that was asked for: it is not kept.
            return self.load_alone(key, options).await.map(Some);
        }
        self.load_shared(key, options, replaces).await
    }

    /// Whether no tier is asked that could know better than this entry of the frontend.
    fn is_last_word(&self, entry: &Entry) -> bool {
        !self.plan.revalidates() || entry.metadata().note.origin.is_local()
    }

    /// Reads the backend for one reader, past the frontend.
    async fn load_alone(&self, key: &Key, options: &ReadOptions) -> Result<Read> {
        self.recorder.count(Count::BackendRead);
        let options = ReadOptions { tombstones: Tombstones::Hide, ..options.clone() };
        let read = self.bounded(self.backend.load(key, &options)).await?;
        Ok(Read { source: Source::Backend, ..read })
    }

    fn answer_pending(&self, effect: Effect, options: &ReadOptions) -> Result<Read> {
        self.recorder.count(Count::PendingHit);
        let entry = match effect {
            Effect::Put(entry) => Some(entry),
            Effect::Delete(_) => None,
        };
        let read = answer(entry, self.stamp.now(), options)?;
        Ok(Read { source: Source::Pending, ..read })
    }

    fn answer_hit(&self, entry: Entry, options: &ReadOptions) -> Read {
        let absent = entry.metadata().note.origin == Origin::Absence;
        self.recorder.count(if absent { Count::AbsenceHit } else { Count::Hit });
        self.answer_from_frontend(entry, options)
    }

    fn answer_from_frontend(&self, entry: Entry, options: &ReadOptions) -> Read {
        let age = self.frontend.age(entry.metadata());
        let unchanged = options.unless.as_ref().is_some_and(|known| known.version == *entry.version());
        let lookup = if entry.metadata().note.origin.is_hidden() {
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

    pub(crate) async fn head(&self, key: &Key, options: &ReadOptions) -> Result<Option<Arc<Metadata>>> {
        loop {
            match self.slots.glance(key) {
                Glance::Pending(Effect::Put(entry)) => {
                    return Ok(Some(Arc::clone(entry.metadata())).filter(|metadata| self.is_live(metadata)));
                }
                Glance::Pending(Effect::Delete(_)) => return Ok(None),
                Glance::Gated if self.plan.frontend_decides(options.freshness) => {
                    Gate::wait_until_open(&self.slots, key).await;
                }
                Glance::Quarantined if !self.plan.revalidates() => return Ok(None),
                // What is local is in the frontend alone, and is no wrong copy.
                Glance::Quarantined if self.plan.is_local() => break,
                Glance::Gated | Glance::Quarantined => return self.head_of_backend(key, options).await,
                Glance::Clear => break,
            }
        }
        let options = ReadOptions { unless: None, if_version: None, range: Some(0..0), ..options.clone() };
        match self.frontend.look(key, &options).await? {
            Found::Fresh(entry) if entry.metadata().note.origin.is_hidden() => Ok(None),
            Found::Fresh(entry) => Ok(Some(Arc::clone(entry.metadata()))),
            Found::Stub(stub) => Ok(Some(Arc::clone(stub.metadata()))),
            Found::Stale(_) if self.plan.frontend_answers_alone(options.freshness) => Ok(None),
            Found::Stale(_) => {
                let options = ReadOptions { range: None, tombstones: Tombstones::Hide, ..options };
                self.head_of_backend(key, &options).await
            }
        }
    }

    async fn head_of_backend(&self, key: &Key, options: &ReadOptions) -> Result<Option<Arc<Metadata>>> {
        self.bounded(self.backend.head(key, options)).await
    }
}
