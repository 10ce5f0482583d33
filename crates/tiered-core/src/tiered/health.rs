//! Calls of the tiers: a panic is an error, and circuit breakers keep calls from tiers that fail.

use std::any::Any;
use std::error::Error as _;
use std::fmt;
use std::future::Future;
use std::panic::AssertUnwindSafe;

use futures_util::FutureExt as _;
use parking_lot::Mutex;

use super::engine::Engine;
use super::settings::BreakerSettings;
use crate::breaker::{Breaker, Limits, is_outage};
use crate::error::{Error, ErrorKind, Result};
use crate::store::Store;

/// The breaker of a tier; without settings it lets everything through and costs nothing.
#[derive(Debug)]
pub(super) struct Health(Option<(Limits, Mutex<Breaker>)>);

impl Health {
    pub(super) fn new(settings: Option<BreakerSettings>) -> Self {
        Self(settings.map(|settings| {
            let limits = Limits { failures: settings.failures, pause: settings.pause_millis };
            (limits, Mutex::new(Breaker::new()))
        }))
    }

    /// Lets a call through at `now` (uptime in milliseconds), or refuses it.
    fn admit(&self, now: u64) -> Result<()> {
        self.0.as_ref().map_or(Ok(()), |(limits, breaker)| breaker.lock().admit(now, *limits))
    }

    fn learn(&self, error: Option<&Error>, now: u64) {
        if let Some((limits, breaker)) = &self.0 {
            let failed = error.is_some_and(|error| is_outage(error.kind()) || is_panic(error));
            breaker.lock().learn(failed, now, *limits);
        }
    }
}

impl Engine {
    /// Makes a call of the backend, unless its breaker is open.
    pub(super) async fn ask_backend<T>(&self, call: impl Future<Output = Result<T>>) -> Result<T> {
        self.behind_breaker(&self.backend_health, self.backend.as_ref(), call).await
    }

    /// Makes a call of the frontend, unless its breaker is open.
    pub(super) async fn ask_frontend<T>(&self, call: impl Future<Output = Result<T>>) -> Result<T> {
        self.behind_breaker(&self.frontend_health, self.frontend.as_ref(), call).await
    }

    async fn behind_breaker<T>(
        &self,
        health: &Health,
        tier: &dyn Store,
        call: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        if health.0.is_none() {
            return contained(tier, call).await;
        }
        health.admit(self.uptime_millis()).map_err(|error| {
            self.counters.spared.add(1);
            error.in_tier(tier.capabilities().name())
        })?;
        let result = contained(tier, call).await;
        health.learn(result.as_ref().err(), self.uptime_millis());
        result
    }

    /// Whether the frontend's breaker lets a call through, which is then to be made.
    pub(super) fn frontend_takes_calls(&self) -> bool {
        self.frontend_health.admit(self.uptime_millis()).is_ok()
    }

    /// Learns of a call of the frontend that was made in any case.
    pub(super) fn learn_of_frontend(&self, error: Option<&Error>) {
        self.frontend_health.learn(error, self.uptime_millis());
    }
}

/// Makes a call of a tier. A panic in it is an error, after which a write may have taken effect: what hangs on the call
/// (a gate, a flight, the flush) ends as after any other failure.
pub(super) async fn contained<T>(tier: &dyn Store, call: impl Future<Output = Result<T>>) -> Result<T> {
    // A tier answers for its own state; nothing of the engine is borrowed mutably by a call.
    AssertUnwindSafe(call).catch_unwind().await.unwrap_or_else(|panic| {
        let panicked = Panicked(message_of(panic.as_ref()).to_owned());
        let error = Error::new(ErrorKind::Other, "the store panicked").with_source(panicked);
        Err(error.in_tier(tier.capabilities().name()))
    })
}

/// Whether an error stands for a panic, which is not to be asked for again and again.
pub(super) fn is_panic(error: &Error) -> bool {
    error.source().is_some_and(<dyn std::error::Error>::is::<Panicked>)
}

/// What a store said as it panicked.
#[derive(Debug)]
struct Panicked(String);

impl fmt::Display for Panicked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Panicked {}

fn message_of(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("without a message")
}
