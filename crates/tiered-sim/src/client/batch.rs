//! Batches: some with several operations on one key, puts and deletes, with preconditions and without.

use tiered_core::{
    Action, Applied, Batch, Error, Feature, Key, Outcome, Precondition, Result, Store, TieredStore,
};

use super::{Begun, Clients};
use crate::history::{Effect, Value};

/// An operation of a batch.
struct Part {
    key: usize,
    begun: Begun,
    /// What the key is to have for it; `None` where it is unconditional.
    expects: Option<Value>,
    /// What it leaves.
    leaves: Value,
}

impl Part {
    /// What a refusal of its precondition says.
    fn refusal(&self) -> Option<Effect> {
        self.expects.map(|expected| if expected == 0 { Effect::Present } else { Effect::Unlike(expected) })
    }
}

impl Clients {
    pub(super) async fn batch(&self, store: &TieredStore) {
        let mut batch = Batch::new();
        if !store.capabilities().has(Feature::AtomicBatch) || self.below(2) == 0 {
            batch = if self.below(2) == 0 { batch.per_item() } else { batch.best_effort() };
        }
        let mut parts = Vec::new();
        // Each key in its turn, and some of them again after all others.
        for one_in in [8, 16] {
            for (key, name) in self.keys.iter().enumerate() {
                if self.below(one_in) < 5 {
                    self.push(&mut batch, &mut parts, key, name);
                }
            }
        }
        match store.apply(batch).await {
            Ok(outcomes) if outcomes.len() == parts.len() => self.end_batch(parts, outcomes),
            Ok(outcomes) => {
                self.fault(
                    0,
                    &format!("{} answers to {} operations of a batch", outcomes.len(), parts.len()),
                );
            }
            Err(error) if error.write_outcome() == Outcome::Applied => {
                let outcomes = parts.iter().map(|_| Err(error.clone())).collect();
                self.end_batch(parts, outcomes);
            }
            Err(error) => {
                for part in parts {
                    // Which of its preconditions failed is not said.
                    let effect = part.begun_as();
                    self.end_failed(part.begun, &error, effect, None);
                }
            }
        }
    }

    fn push(&self, batch: &mut Batch, parts: &mut Vec<Part>, key: usize, name: &Key) {
        let seen = self.seen_of(key);
        let (expects, precondition) = match (self.below(5), seen) {
            (0, _) => (Some(0), Precondition::Absent),
            (1, Some((seen, version))) => (Some(seen), Precondition::Matches(version)),
            _ => (None, Precondition::None),
        };
        let deletes = self.below(3) == 0;
        let (action, leaves) = if deletes {
            (Action::Delete(self.new_delete().precondition(precondition)), 0)
        } else {
            let value = self.next_value();
            (Action::Put(self.new_put(value).precondition(precondition)), value)
        };
        batch.push(name.clone(), action);
        let begun = self.begin(key, effect_of(expects, leaves));
        parts.push(Part { key, begun, expects, leaves });
    }

    /// Notes how a batch ended. All its operations on a key were judged against the same state, so those that ended well
    /// are one: the last of them wins.
    fn end_batch(&self, parts: Vec<Part>, outcomes: Vec<Result<Applied>>) {
        let mut ended: Vec<(Part, Result<Applied>)> = parts.into_iter().zip(outcomes).collect();
        for key in 0..self.keys.len() {
            let (of_key, rest): (Vec<_>, Vec<_>) = ended.into_iter().partition(|(part, _)| part.key == key);
            ended = rest;
            let mut well = Vec::new();
            let took_effect = |outcome: &Result<Applied>| match outcome {
                Ok(_) => true,
                Err(error) => error.write_outcome() == Outcome::Applied,
            };
            let any_well = of_key.iter().any(|(_, outcome)| took_effect(outcome));
            for (part, outcome) in of_key {
                match outcome {
                    // It was judged before the others of its key, and may lie over them.
                    Err(error) if any_well && error.write_outcome() == Outcome::Unknown => {
                        self.leave_open(&part.begun, effect_of(None, part.leaves));
                    }
                    Ok(applied) => well.push((part, Some(applied))),
                    Err(error) if error.write_outcome() == Outcome::Applied => well.push((part, None)),
                    Err(error) => self.end_part(part, &error),
                }
            }
            if let Err(why) = self.end_together(well) {
                self.fault(key, &why);
            }
        }
    }

    fn end_part(&self, part: Part, error: &Error) {
        let (refusal, effect) = (part.refusal(), part.begun_as());
        self.end_failed(part.begun, error, effect, refusal);
    }

    fn end_together(&self, well: Vec<(Part, Option<Applied>)>) -> std::result::Result<(), String> {
        let expects = well.iter().find_map(|(part, _)| part.expects);
        if well.iter().any(|(part, _)| part.expects.is_some() && part.expects != expects) {
            return Err("two preconditions of a batch held that exclude each other".to_owned());
        }
        // Deletes tell what was before the batch.
        let existed = well.iter().find_map(|(_, applied)| match applied {
            Some(Applied::Delete(deleted)) => deleted.existed.known(),
            _ => None,
        });
        let mut well = well.into_iter().rev();
        let Some((last, applied)) = well.next() else { return Ok(()) };
        for (earlier, _) in well {
            if self.config.is_local() {
                // The frontend has them one after the other, where a read that has begun may meet each.
                self.leave_open(&earlier.begun, effect_of(None, earlier.leaves));
            } else {
                self.forget(earlier.begun);
            }
        }
        if let Some(Applied::Put(written)) = applied {
            self.versions.lock().insert((last.key, last.leaves), written.version);
            self.acknowledged(Effect::Write(last.leaves));
        }
        let effect = match (expects, existed) {
            (Some(expected), Some(existed)) if existed != (expected != 0) => {
                return Err(format!("a delete says it existed: {existed}, where {expected} was expected"));
            }
            (None, Some(existed)) if last.leaves == 0 => Effect::Delete(existed),
            _ => effect_of(expects, last.leaves),
        };
        self.end(last.begun, effect);
        Ok(())
    }
}

impl Part {
    /// What it does where it takes effect.
    fn begun_as(&self) -> Effect {
        effect_of(self.expects, self.leaves)
    }
}

/// A delete's answer is not in it.
fn effect_of(expects: Option<Value>, leaves: Value) -> Effect {
    match (expects, leaves) {
        (Some(expected), leaves) => Effect::Swap(expected, leaves),
        (None, 0) => Effect::Erase,
        (None, value) => Effect::Write(value),
    }
}
