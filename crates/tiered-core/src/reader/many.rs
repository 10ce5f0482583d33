//! Reads of several keys: one look at the frontend for all, and one read of the backend for the misses. Refills of several
//! keys for a sync.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use futures_util::{StreamExt as _, stream};

use super::Reader;
use super::load::answer_of;
use crate::error::Result;
use crate::frontend::{Found, Replaceable};
use crate::key::Key;
use crate::observe::Count;
use crate::policy::Freshness;
use crate::read::{Lookup, Read, ReadOptions, Reads, Source};
use crate::slot::{Glance, Joined, Joining, Leader, Load};

/// A load that this read leads.
struct Led {
    key: Key,
    leader: Leader,
    replaces: Replaceable,
}

/// What one look at the frontend told of a key.
enum Looked {
    /// The answer.
    Here(Read),
    /// The backend is asked, together with others.
    Loading(Load),
}

impl Reader {
    pub(crate) async fn get_many(self: &Arc<Self>, keys: &[Key], options: &ReadOptions) -> Reads {
        let looked = self.look_at_all(keys, options).await;
        let mut reads = Vec::with_capacity(keys.len());
        for key in keys {
            reads.push(match looked.get(key) {
                Some(Looked::Here(read)) => Ok(read.clone()),
                Some(Looked::Loading(load)) => {
                    self.recorder.count(Count::Miss);
                    self.bounded(self.answer_loaded(load.clone(), load.sent(), options)).await
                }
                None => self.load(key, options).await,
            });
        }
        reads
    }

    /// Looks once at each key in the frontend, and leads a load for each that it does not have. A key that is left out is to
    /// be read by itself.
    async fn look_at_all<'k>(
        self: &Arc<Self>,
        keys: &'k [Key],
        options: &ReadOptions,
    ) -> HashMap<&'k Key, Looked> {
        let mut seen = HashSet::with_capacity(keys.len());
        let is_clear = |key: &Key| matches!(self.slots.glance(key), Glance::Clear);
        let asked: Vec<&Key> = keys.iter().filter(|key| seen.insert(*key) && is_clear(key)).collect();
        let found = self.frontend.look_many(&asked, options).await;
        let plain = options.range.is_none() && !matches!(options.freshness, Freshness::MaxStale(_));
        let together = plain && self.plan.loads_together();
        let (mut looked, mut missing) = (HashMap::with_capacity(asked.len()), Vec::new());
        for (key, found) in asked.into_iter().zip(found) {
            match found {
                Some(Found::Fresh(entry))
                    if !options.excludes(entry.version()) || self.is_last_word(&entry) =>
                {
                    looked.insert(key, Looked::Here(self.answer_hit(entry, options)));
                }
                // A failure is answered where the key is read by itself; a doubtful entry is compared there.
                Some(Found::Stale(replaces @ (Replaceable::Nothing | Replaceable::Damaged))) if together => {
                    missing.push((key, replaces));
                }
                Some(Found::Stale(_)) if self.plan.frontend_answers_alone(options.freshness) => {
                    self.recorder.count(Count::Miss);
                    looked.insert(key, Looked::Here(Read::fresh(Lookup::Absent, Source::Frontend)));
                }
                Some(_) | None => {}
            }
        }
        looked.extend(self.lead_together(missing, options.freshness));
        looked
    }

    /// Leads a load for each of these keys; one read of the backend serves them all.
    fn lead_together<'k>(
        self: &Arc<Self>,
        missing: Vec<(&'k Key, Replaceable)>,
        freshness: Freshness,
    ) -> Vec<(&'k Key, Looked)> {
        // No load waits for this call: others may follow it, and the call may be dropped.
        let (mut loads, mut led) = (Vec::with_capacity(missing.len()), Vec::new());
        for (key, replaces) in missing {
            let sent = self.frontend.sent();
            let joining = match freshness {
                Freshness::Cached => self.joining(sent),
                Freshness::MaxStale(_) | Freshness::Authoritative => Joining::OnlyNew,
            };
            if let Joined::Leading(load, leader) = Joined::load_of(&self.slots, key, sent, joining) {
                loads.push((key, Looked::Loading(load)));
                led.push(Led { key: key.clone(), leader, replaces });
            }
        }
        self.load_together(led, ReadOptions::new().freshness(freshness), usize::MAX);
        loads
    }

    /// Loads `keys` from the backend into the frontend whatever the frontend has, by one read; each key as by
    /// [`refill`](Self::refill).
    pub(crate) async fn refill_many(
        self: &Arc<Self>,
        keys: Vec<(Key, Replaceable)>,
    ) -> Vec<Option<Result<Lookup>>> {
        /// Fills at a time: a frontend on disk commits them together, and none of them runs out of patience.
        const FILLS: usize = 128;
        let sent = self.frontend.sent();
        let (mut loads, mut led) = (Vec::with_capacity(keys.len()), Vec::with_capacity(keys.len()));
        for (key, replaces) in keys {
            loads.push(match Joined::load_of(&self.slots, &key, sent, Joining::OnlyNew) {
                Joined::Leading(load, leader) => {
                    led.push(Led { key, leader, replaces });
                    Some(load)
                }
                Joined::Following(_) | Joined::LookAgain => None,
            });
        }
        self.load_together(led, ReadOptions::new().authoritative(), FILLS);
        let mut answers = Vec::with_capacity(loads.len());
        for load in loads {
            answers.push(match load {
                Some(load) => {
                    let answer = answer_of(load.clone()).await;
                    load.ended().await;
                    Some(answer.map(|read| read.lookup))
                }
                None => None,
            });
        }
        answers
    }

    /// Leads loads to their ends, at most so many fills at a time: others may follow them, and the reader that began them may
    /// be dropped.
    fn load_together(self: &Arc<Self>, led: Vec<Led>, options: ReadOptions, fills: usize) {
        if !led.is_empty() {
            let reader = Arc::clone(self);
            self.tasks.begin(async move { reader.read_and_fill_together(led, &options, fills).await });
        }
    }

    async fn read_and_fill_together(self: Arc<Self>, led: Vec<Led>, options: &ReadOptions, fills: usize) {
        let keys: Vec<Key> = led.iter().map(|led| led.key.clone()).collect();
        self.recorder.count(Count::BackendRead);
        match self.backend.get_many(&keys, options).await {
            Ok(reads) => {
                let filled = led.into_iter().zip(reads).map(|(led, read)| {
                    let reader = &self;
                    async move {
                        reader.answer_and_fill(&led.leader, &led.key, read, &led.replaces).await;
                    }
                });
                stream::iter(filled).for_each_concurrent(fills, |filled| filled).await;
            }
            Err(error) => {
                let error = Arc::new(error);
                for led in led {
                    led.leader.announce(Err(Arc::clone(&error)));
                }
            }
        }
    }
}
