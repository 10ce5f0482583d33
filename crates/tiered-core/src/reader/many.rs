//! Reads of several keys: hits one by one, the misses in one read of the backend.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::Reader;
use crate::frontend::{Found, Replaceable};
use crate::key::Key;
use crate::observe::Count;
use crate::policy::Freshness;
use crate::read::{ReadOptions, Reads};
use crate::slot::{Glance, Joined, Leader, Load};

/// A load that this read leads.
struct Led {
    key: Key,
    leader: Leader,
    replaces: Replaceable,
}

impl Reader {
    pub(crate) async fn get_many(self: &Arc<Self>, keys: &[Key], options: &ReadOptions) -> Reads {
        let plain = options.range.is_none() && options.freshness == Freshness::Cached;
        let loads = if plain && self.plan.loads_together() {
            self.lead_misses(keys, options).await
        } else {
            HashMap::new()
        };
        let mut reads = Vec::with_capacity(keys.len());
        for key in keys {
            reads.push(match loads.get(key) {
                Some(load) => {
                    self.recorder.count(Count::Miss);
                    self.bounded(self.answer_loaded(load.clone(), load.sent(), options)).await
                }
                None => self.load(key, options).await,
            });
        }
        reads
    }

    /// Leads a load for each key that the frontend does not have; one read of the backend serves them all.
    async fn lead_misses(self: &Arc<Self>, keys: &[Key], options: &ReadOptions) -> HashMap<Key, Load> {
        let (mut missing, mut seen) = (Vec::new(), HashSet::new());
        for key in keys {
            if !seen.insert(key) || !matches!(self.slots.glance(key), Glance::Clear) {
                continue;
            }
            // Fresh entries are read later; doubtful ones are compared one by one, and a failure answers there.
            if let Ok(Found::Stale(replaces @ (Replaceable::Nothing | Replaceable::Damaged))) =
                self.frontend.look(key, options).await
            {
                missing.push((key, replaces));
            }
        }
        // No load waits for this call: others may follow it, and the call may be dropped.
        let (mut loads, mut led) = (HashMap::new(), Vec::new());
        for (key, replaces) in missing {
            let sent = self.frontend.sent();
            if let Joined::Leading(load, leader) = Joined::load_of(&self.slots, key, sent, self.joining(sent))
            {
                loads.insert(key.clone(), load);
                led.push(Led { key: key.clone(), leader, replaces });
            }
        }
        if !led.is_empty() {
            let reader = Arc::clone(self);
            self.tasks.spawn(async move { reader.read_and_fill_together(led).await });
        }
        loads
    }

    async fn read_and_fill_together(self: Arc<Self>, led: Vec<Led>) {
        let keys: Vec<Key> = led.iter().map(|led| led.key.clone()).collect();
        self.recorder.count(Count::BackendRead);
        match self.backend.get_many(&keys, &ReadOptions::new()).await {
            Ok(reads) => {
                let fills = led.into_iter().zip(reads).map(|(led, read)| {
                    let reader = &self;
                    async move {
                        reader.answer_and_fill(&led.leader, &led.key, read, &led.replaces).await;
                    }
                });
                futures_util::future::join_all(fills).await;
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
