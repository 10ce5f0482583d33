//! Loads: one backend read for all readers of a key, then a fill.

use std::sync::Arc;
use std::time::Duration;

use super::Reader;
use crate::error::Result;
use crate::frontend::Replaceable;
use crate::key::Key;
use crate::observe::Count;
use crate::policy::Freshness;
use crate::read::{Known, Lookup, Read, ReadOptions, Source};
use crate::sent::Sent;
use crate::settings::FillTiming;
use crate::slot::{Joined, Joining, Leader, Load};
use crate::store::answer;

impl Reader {
    /// Joins the load of `key`, or leads one; `None` when the key's state changed under it.
    pub(super) async fn load_shared(
        self: &Arc<Self>,
        key: &Key,
        options: &ReadOptions,
        replaces: Replaceable,
    ) -> Result<Option<Read>> {
        let sent = self.frontend.sent();
        let joining = match options.freshness {
            Freshness::Cached => self.joining(sent),
            Freshness::MaxStale(_) | Freshness::Authoritative => Joining::OnlyNew,
        };
        let load = match Joined::load_of(&self.slots, key, sent, joining) {
            Joined::LookAgain => return Ok(None),
            Joined::Following(load) => {
                self.recorder.count(Count::Joined);
                load
            }
            Joined::Leading(load, leader) => {
                self.lead(leader, key.clone(), replaces, options.freshness);
                load
            }
        };
        self.answer_loaded(load, sent, options).await.map(Some)
    }

    /// Which loads a cached read that is about to ask the backend may follow: those that were sent no longer ago than a hit
    /// may be old, and after the frontend was last put in doubt.
    pub(super) fn joining(&self, sent: Sent) -> Joining {
        Joining::SentSince(sent.earlier_by(Duration::from_millis(self.plan.max_stale_of_hits())))
    }

    /// Leads a load to its end: others may follow it, and the reader that began it may be dropped. What the tiers answer at
    /// once takes no task.
    fn lead(self: &Arc<Self>, leader: Leader, key: Key, replaces: Replaceable, freshness: Freshness) {
        let reader = Arc::clone(self);
        self.tasks.begin(async move { reader.read_and_fill(leader, key, replaces, freshness).await });
    }

    /// Waits for the load that a reader joined when it would have `sent` a request of its own, and answers the reader.
    pub(super) async fn answer_loaded(&self, load: Load, sent: Sent, options: &ReadOptions) -> Result<Read> {
        let joined_after = sent.since(load.sent());
        let Read { lookup, age, stale, .. } = answer_of(load).await?;
        let entry = match lookup {
            Lookup::Found(entry) => Some(entry),
            Lookup::Unchanged | Lookup::Changed | Lookup::Absent => None,
        };
        let read = answer(entry, self.stamp.now(), options)?;
        Ok(Read { source: Source::Backend, age: age + joined_after, stale, ..read })
    }

    /// Loads `key` from the backend into the frontend whatever the frontend has, for a sync; waits for the fill. `None`: a
    /// write is under way or pending, which updates the frontend itself.
    pub(crate) async fn refill(self: &Arc<Self>, key: &Key, replaces: Replaceable) -> Option<Result<Lookup>> {
        let Joined::Leading(load, leader) =
            Joined::load_of(&self.slots, key, self.frontend.sent(), Joining::OnlyNew)
        else {
            return None;
        };
        self.lead(leader, key.clone(), replaces, Freshness::Authoritative);
        let answer = answer_of(load.clone()).await;
        load.ended().await;
        Some(answer.map(|read| read.lookup))
    }

    /// Reads the backend for all who wait, then fills the frontend if the load still has the fill token.
    async fn read_and_fill(
        self: Arc<Self>,
        leader: Leader,
        key: Key,
        replaces: Replaceable,
        freshness: Freshness,
    ) {
        let mut options = ReadOptions::new().freshness(freshness);
        if let Replaceable::Doubtful(entry) = &replaces
            && entry.is_whole()
        {
            options = options.unless(Known::of(entry));
        }
        self.recorder.count(Count::BackendRead);
        let read = self.backend.load(&key, &options).await;
        self.answer_and_fill(&leader, &key, read, &replaces).await;
    }

    /// Tells the followers of a load what the backend answered, and fills the frontend.
    pub(super) async fn answer_and_fill(
        &self,
        leader: &Leader,
        key: &Key,
        read: Result<Read>,
        replaces: &Replaceable,
    ) {
        let (lookup, age, stale) = match read {
            Ok(Read { lookup, age, stale, .. }) => (lookup, age, stale),
            Err(error) => return leader.announce(Err(Arc::new(error))),
        };
        // What a nested store answered from its own cache is as old there as it says.
        let sent = leader.sent().earlier_by(age);
        let entry = match (lookup, replaces) {
            (Lookup::Found(entry), _) => Some(entry),
            (Lookup::Unchanged, Replaceable::Doubtful(entry)) => {
                self.recorder.count(Count::Revalidated);
                Some(entry.clone())
            }
            (Lookup::Unchanged | Lookup::Changed | Lookup::Absent, _) => None,
        };
        let (lookup, fill) = if let Some(entry) = entry {
            let note = sent.note(entry.metadata());
            let entry = entry.with_note(note);
            let fill = self.frontend.fill_with(key, &entry, replaces);
            (Lookup::Found(entry), fill)
        } else {
            (Lookup::Absent, self.frontend.fill_with_absence(sent, replaces))
        };
        let answer = Read { lookup, source: Source::Backend, age, stale };
        match self.plan.settings().fill {
            FillTiming::AfterAnswer => {
                leader.announce(Ok(answer));
                self.frontend.fill(leader, key, fill).await;
            }
            FillTiming::BeforeAnswer => {
                self.frontend.fill(leader, key, fill).await;
                leader.announce(Ok(answer));
            }
        }
    }
}

/// Waits for the answer of a load.
pub(super) async fn answer_of(load: Load) -> Result<Read> {
    load.answer().await.map_err(|error| (*error).clone())
}
