//! Writes that hooks see.

use std::sync::Arc;

use super::mutation::{Body, Mutation};
use super::registry::{Hooks, Registered};
use crate::batch::{Applied, Atomicity, BatchOutcomes, Refused};
use crate::effect::{Effect, Write};
use crate::error::{Error, Outcome, Result};
use crate::key::Key;
use crate::observe::Count;
use crate::panics;

/// A write, and the hooks that see it. Empty where the store has none.
#[derive(Debug)]
pub(crate) struct Watched(Option<Box<Seen>>);

#[derive(Debug)]
struct Seen {
    hooks: Arc<Hooks>,
    by: Arc<[Arc<Registered>]>,
    mutation: Mutation,
}

/// The writes of a batch that every hook let pass.
#[derive(Debug)]
pub(crate) struct Admitted {
    writes: Vec<Write>,
    watched: Vec<Watched>,
    refused: Refused,
}

/// The hooks that see a write or a batch, fixed when it begins.
#[derive(Debug)]
pub(crate) struct Watching {
    hooks: Arc<Hooks>,
    by: Arc<[Arc<Registered>]>,
}

impl Hooks {
    /// A write that is about to wait for its gate.
    pub(crate) fn watch(self: &Arc<Self>, write: &Write, body: Body) -> Watched {
        self.watching().watch(write, body)
    }

    /// A batch that is about to wait for its gates.
    pub(crate) fn watching(self: &Arc<Self>) -> Watching {
        Watching { hooks: Arc::clone(self), by: self.now() }
    }
}

impl Watching {
    fn watch(&self, write: &Write, body: Body) -> Watched {
        if self.by.is_empty() {
            return Watched(None);
        }
        let mutation = Mutation::new(write.clone(), body);
        let (hooks, by) = (Arc::clone(&self.hooks), Arc::clone(&self.by));
        Watched(Some(Box::new(Seen { hooks, by, mutation })))
    }

    /// Calls the hooks before a batch, whose keys are gated. `at_hand` says what a key has, if that is known without asking a tier. What they refuse is taken out of a batch per item.
    ///
    /// # Errors
    /// The first refusal, with its key and [`Outcome::NotApplied`], unless the batch is judged per item.
    pub(crate) async fn admit(
        self,
        writes: Vec<Write>,
        atomicity: Atomicity,
        at_hand: impl Fn(&Key) -> Option<Effect> + Send + Sync,
    ) -> Result<Admitted> {
        if self.by.is_empty() {
            return Ok(Admitted { writes, watched: Vec::new(), refused: Refused::default() });
        }
        let (mut admitted, mut watched) =
            (Vec::with_capacity(writes.len()), Vec::with_capacity(writes.len()));
        let mut refused = Vec::new();
        for (index, write) in writes.into_iter().enumerate() {
            match self.watch(&write, Body::AtHand).before(&at_hand).await {
                Ok(seen) => {
                    admitted.push(write);
                    watched.push(seen);
                }
                Err(error) if atomicity == Atomicity::PerItem => refused.push((index, error)),
                Err(error) => return Err(error),
            }
        }
        Ok(Admitted { writes: admitted, watched, refused: Refused::new(refused) })
    }
}

impl Watched {
    /// Calls the hooks before the write, whose key is gated. `at_hand` says what it has, if that is known without asking a tier.
    ///
    /// # Errors
    /// The first refusal, with the key and [`Outcome::NotApplied`].
    pub(crate) async fn before(mut self, at_hand: impl Fn(&Key) -> Option<Effect> + Send) -> Result<Self> {
        if let Some(seen) = &mut self.0 {
            let old = at_hand(seen.mutation.key());
            seen.mutation.over(old);
            seen.before().await?;
        }
        Ok(self)
    }

    /// Calls the hooks after the write, whose key is still gated.
    pub(crate) async fn after(self, ended: &Result<Applied>) {
        if let Some(mut seen) = self.0 {
            seen.mutation.learn(ended);
            seen.after(ended).await;
        }
    }
}

impl Seen {
    async fn before(&self) -> Result<()> {
        for registered in self.by.iter() {
            let Some(hook) = registered.get() else { continue };
            let call = async { hook.before(&self.mutation).await };
            let passed = panics::contained("a hook panicked before the write", self.hooks.inside(call)).await;
            if let Err(error) = passed {
                if panics::is_panic(&error) {
                    self.panicked(&error);
                }
                self.hooks.count(Count::HookRefusal);
                return Err(error.for_key(self.mutation.key()).outcome_is(Outcome::NotApplied));
            }
        }
        Ok(())
    }

    async fn after(&self, ended: &Result<Applied>) {
        let known = ended.clone().map_err(|error| {
            let outcome = error.write_outcome();
            error.for_key(self.mutation.key()).outcome_is(outcome)
        });
        for registered in self.by.iter() {
            let Some(hook) = registered.get() else { continue };
            let call = async {
                hook.after(&self.mutation, &known).await;
                Ok(())
            };
            let called = panics::contained("a hook panicked after the write", self.hooks.inside(call)).await;
            if let Err(error) = called {
                self.panicked(&error);
            }
        }
    }

    fn panicked(&self, error: &Error) {
        self.hooks.count(Count::HookPanic);
        tracing::error!(key = %self.mutation.key(), error = %error.chain(), "a hook panicked");
    }
}

impl Admitted {
    /// The writes that passed, what the hooks see of them, and what was refused.
    pub(crate) fn into_parts(self) -> (Vec<Write>, Vec<Watched>, Refused) {
        (self.writes, self.watched, self.refused)
    }
}

/// Calls the hooks after a batch, in its order. Its keys are still gated.
pub(crate) async fn after_all(watched: Vec<Watched>, ended: &Result<BatchOutcomes>) {
    for (index, watched) in watched.into_iter().enumerate() {
        match ended {
            Err(error) => watched.after(&Err(error.clone())).await,
            // Each operation has an outcome.
            Ok(outcomes) => {
                if let Some(outcome) = outcomes.get(index) {
                    watched.after(outcome).await;
                }
            }
        }
    }
}
