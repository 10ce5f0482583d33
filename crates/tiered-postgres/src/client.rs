//! Connections: had in the caller's time, used in a task that nobody drops, given back whole or closed.
//!
//! The pool is not the driver's own: that asks each connection for a sign of life when it is given back, which costs a
//! round trip for every call, and on a way that was cut without a word never ends, the connection's place with it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use deadpool::Runtime;
use deadpool::managed::{Manager, Metrics, Object, Pool, RecycleResult};
use futures_util::future::BoxFuture;
use sqlx::postgres::PgConnectOptions;
use sqlx::{Connection as _, PgConnection};
use tiered_core::{Error, ErrorKind, Outcome, Result};
use tokio::runtime::Handle;
use tokio::time::Instant;

use crate::config::PostgresConfig;
use crate::error;

/// An idle connection is tried before it is used when it has rested so long: a server that restarted is then
/// noticed before a write, and a busy pool pays nothing.
const RESTED: Duration = Duration::from_secs(1);

/// How often a statement that others undid is tried again.
const CONFLICTS: u32 = 8;

/// How often a read is tried again on another connection when one turns out to be broken.
const BROKEN: u32 = 3;

/// Whether a call may be repeated when its answer was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    Read,
    Write,
}

/// How the pool makes a connection, and tries one that has rested.
#[derive(Debug)]
struct Connections(PgConnectOptions);

impl Manager for Connections {
    type Type = PgConnection;
    type Error = sqlx::Error;

    async fn create(&self) -> Result<PgConnection, sqlx::Error> {
        PgConnection::connect_with(&self.0).await
    }

    async fn recycle(&self, connection: &mut PgConnection, metrics: &Metrics) -> RecycleResult<sqlx::Error> {
        if metrics.last_used() >= RESTED {
            connection.ping().await?;
        }
        Ok(())
    }
}

/// The pool, and what bounds its use.
pub(crate) struct Client {
    pool: Pool<Connections>,
    timeout: Duration,
    clock: ServerClock,
    runtime: Handle,
}

/// What happened to one attempt.
enum Attempt<T> {
    Done(T),
    Failed(sqlx::Error),
    Late,
}

impl Client {
    pub(crate) fn new(config: &PostgresConfig) -> Result<Self> {
        let pool = Pool::builder(Connections(config.connection()))
            .max_size(config.connections as usize)
            .runtime(Runtime::Tokio1)
            .wait_timeout(Some(config.timeout))
            .create_timeout(Some(config.timeout))
            .recycle_timeout(Some(config.timeout));
        let pool = pool.build().map_err(|error| {
            Error::new(ErrorKind::Config, "the pool of connections cannot be made").with_source(error)
        })?;
        Ok(Self { pool, timeout: config.timeout, clock: ServerClock::new(), runtime: Handle::current() })
    }

    /// Longest time that a statement can take effect after its call returned: it may arrive until the deadline that
    /// it carries, and then run for the server's `statement_timeout`; a second is for the clocks.
    pub(crate) fn lifetime(timeout: Duration) -> Duration {
        timeout + timeout * 4 / 5 + Duration::from_secs(1)
    }

    /// The runtime that the store was opened in.
    pub(crate) fn runtime(&self) -> &Handle {
        &self.runtime
    }

    pub(crate) fn clock(&self) -> &ServerClock {
        &self.clock
    }

    /// The moment of the server's clock after which a statement sent now must not take effect any more.
    pub(crate) fn deadline(&self) -> f64 {
        self.clock.now() + self.timeout.as_secs_f64()
    }

    /// Runs `work` on a connection. Dropping the call leaves `work` to run to its end, so that no connection is
    /// given back in the middle of an answer.
    pub(crate) async fn run<T, F>(&self, purpose: Purpose, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: for<'c> Fn(&'c mut PgConnection) -> BoxFuture<'c, Result<T, sqlx::Error>> + Clone + Send + 'static,
    {
        let (mut conflicts, mut broken) = (0, 0);
        loop {
            let connection = self.pool.get().await.map_err(error::connecting)?;
            let attempt = self.runtime.spawn(attempt(connection, self.timeout, work.clone()));
            match attempt.await.map_err(gone)? {
                Attempt::Done(value) => return Ok(value),
                Attempt::Late => return Err(error::late()),
                Attempt::Failed(error) if error::is_conflict(&error) && conflicts < CONFLICTS => {
                    conflicts += 1;
                    tokio::time::sleep(Duration::from_millis(1 << conflicts)).await;
                }
                Attempt::Failed(error)
                    if purpose == Purpose::Read && error::is_lost(&error) && broken < BROKEN =>
                {
                    broken += 1;
                    tracing::debug!(%error, "a read is tried again on another connection");
                }
                Attempt::Failed(error) => return Err(error::sent(error)),
            }
        }
    }

    /// Closes every connection: the idle ones now, the others when what uses them has ended.
    pub(crate) fn close(&self) {
        self.pool.close();
    }
}

async fn attempt<T, F>(mut connection: Object<Connections>, timeout: Duration, work: F) -> Attempt<T>
where
    F: for<'c> Fn(&'c mut PgConnection) -> BoxFuture<'c, Result<T, sqlx::Error>>,
{
    let ended = tokio::time::timeout(timeout, work(&mut connection)).await;
    let (attempt, usable) = match ended {
        Ok(Ok(value)) => return Attempt::Done(value),
        Ok(Err(error)) => {
            let lost = error::is_lost(&error);
            (Attempt::Failed(error), !lost)
        }
        // Nobody waits for the rest of its answer.
        Err(_) => (Attempt::Late, false),
    };
    // What failed within a transaction is rolled back with the next words: they are sent now.
    let settled = usable && matches!(tokio::time::timeout(timeout, connection.ping()).await, Ok(Ok(())));
    if !settled {
        // The socket is closed, and the pool makes another.
        drop(Object::take(connection));
    }
    attempt
}

fn gone(error: tokio::task::JoinError) -> Error {
    Error::new(ErrorKind::Other, "the runtime shut down, or the driver panicked")
        .with_source(error)
        .outcome_is(Outcome::Unknown)
}

/// An estimate of the server's clock, for deadlines that the server itself keeps. It runs on this process's
/// monotonic clock and is set by each answer, so that it is late by the way of an answer at most.
#[derive(Debug)]
pub(crate) struct ServerClock {
    base: Instant,
    /// The server's seconds since the epoch at `base`, as bits.
    offset: AtomicU64,
}

impl ServerClock {
    fn new() -> Self {
        Self { base: Instant::now(), offset: AtomicU64::new(0) }
    }

    /// Sets it to what the server just said.
    pub(crate) fn set(&self, server: f64) {
        let offset = server - self.base.elapsed().as_secs_f64();
        self.offset.store(offset.to_bits(), Ordering::Relaxed);
    }

    fn now(&self) -> f64 {
        f64::from_bits(self.offset.load(Ordering::Relaxed)) + self.base.elapsed().as_secs_f64()
    }
}
