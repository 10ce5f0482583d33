//! Connections: acquired within the caller's time limit, used in a task that is never cancelled, and returned intact or
//! closed.
//!
//! The pool is not the driver's. The driver's pool pings each connection when it is returned. That costs a round trip
//! per call, and on a silently cut network it hangs and leaks the connection's slot.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use deadpool::Runtime;
use deadpool::managed::{Manager, Metrics, Object, Pool, RecycleResult};
use futures_util::future::BoxFuture;
use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};
use tiered_core::{Error, ErrorKind, Outcome, Result};
use tokio::runtime::Handle;
use tokio::time::Instant;

use crate::config::PostgresConfig;
use crate::error::{self, Phase};

/// An idle connection is tried before it is used when it has rested so long: a server that restarted is then
/// noticed before a write, and a busy pool pays nothing.
const RESTED: Duration = Duration::from_secs(1);

/// How often a statement is retried after the server rolled it back because of a conflict.
const CONFLICTS: u32 = 8;

/// How often a call without effects is retried on another connection after one turns out to be broken.
const BROKEN: u32 = 3;

/// Whether a call may be repeated when its answer was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    Read,
    Write,
    /// A write that is the same however often it is carried out, and overtakes none.
    Repeatable,
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
    /// What makes each piece of work a transaction, behind a pooler that may give each transaction another session. The
    /// driver parses a statement in one exchange and runs it in the next: without a transaction around both, the second
    /// could reach a session where the statement without a name is another client's.
    transaction: Option<Arc<str>>,
    clock: ServerClock,
    runtime: Handle,
    /// Whether the store was opened.
    opened: AtomicBool,
}

/// The result of one attempt.
enum Attempt<T> {
    Done(T),
    /// The transaction did not begin, so none of the work was sent.
    NotBegun(Option<sqlx::Error>),
    Failed(sqlx::Error),
    Late,
}

impl Client {
    pub(crate) fn new(config: &PostgresConfig) -> Result<Self> {
        let runtime = tiered_core::adapter::opening::runtime()?;
        let pool = Pool::builder(Connections(config.connection()))
            .max_size(config.connections as usize)
            .runtime(Runtime::Tokio1)
            .wait_timeout(Some(config.timeout))
            .create_timeout(Some(config.timeout))
            .recycle_timeout(Some(config.timeout));
        let pool = pool.build().map_err(|error| {
            Error::new(ErrorKind::Config, "the pool of connections cannot be made").with_source(error)
        })?;
        Ok(Self {
            pool,
            timeout: config.timeout,
            transaction: config.transaction(),
            clock: ServerClock::new(),
            runtime,
            opened: AtomicBool::new(false),
        })
    }

    /// Longest time that a statement can take effect after its call returned: it may arrive until the deadline that
    /// it carries, and then run for the server's `statement_timeout`; a second is for the clocks.
    pub(crate) fn request_lifetime(timeout: Duration) -> Duration {
        timeout.saturating_mul(9).saturating_add(Duration::from_secs(5)) / 5
    }

    /// The store was opened: its settings work.
    pub(crate) fn opened(&self) {
        self.opened.store(true, Ordering::Relaxed);
    }

    fn phase(&self) -> Phase {
        if self.opened.load(Ordering::Relaxed) { Phase::Open } else { Phase::Opening }
    }

    /// The runtime that the store was opened in.
    pub(crate) fn runtime(&self) -> &Handle {
        &self.runtime
    }

    pub(crate) fn clock(&self) -> &ServerClock {
        &self.clock
    }

    /// The time on the server's clock after which a statement that is sent now must not take effect.
    pub(crate) fn deadline(&self) -> f64 {
        self.clock.now() + self.timeout.as_secs_f64()
    }

    /// Runs `work` on a connection, behind a pooler in a transaction. Dropping the call leaves `work` to run to its end,
    /// so that no connection is given back in the middle of an answer.
    pub(crate) async fn run<T, F>(&self, purpose: Purpose, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: for<'c> Fn(&'c mut PgConnection) -> BoxFuture<'c, Result<T, sqlx::Error>> + Clone + Send + 'static,
    {
        let (mut conflicts, mut broken) = (0, 0);
        loop {
            let connection = self.pool.get().await.map_err(|error| error::connecting(error, self.phase()))?;
            let attempt = attempt(connection, self.timeout, self.transaction.clone(), work.clone());
            match self.runtime.spawn(attempt).await.map_err(gone)? {
                Attempt::Done(value) => return Ok(value),
                Attempt::Late => return Err(error::late()),
                Attempt::NotBegun(Some(error)) if error::is_lost(&error) && broken < BROKEN => {
                    broken += 1;
                    tracing::debug!(%error, "a transaction is begun again on another connection");
                }
                Attempt::NotBegun(error) => return Err(error::beginning(error)),
                Attempt::Failed(error) if error::is_conflict(&error) && conflicts < CONFLICTS => {
                    conflicts += 1;
                    tokio::time::sleep(Duration::from_millis(1 << conflicts)).await;
                }
                Attempt::Failed(error)
                    if purpose != Purpose::Write && error::is_lost(&error) && broken < BROKEN =>
                {
                    broken += 1;
                    tracing::debug!(%error, "a statement is sent again on another connection");
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

async fn attempt<T, F>(
    mut connection: Object<Connections>,
    timeout: Duration,
    transaction: Option<Arc<str>>,
    work: F,
) -> Attempt<T>
where
    F: for<'c> Fn(&'c mut PgConnection) -> BoxFuture<'c, Result<T, sqlx::Error>>,
{
    let begun = AtomicBool::new(false);
    let ended = tokio::time::timeout(timeout, carry_out(&mut connection, transaction, work, &begun)).await;
    let begun = begun.into_inner();
    let (attempt, usable) = match ended {
        Ok(Ok(value)) => return Attempt::Done(value),
        Ok(Err(error)) => {
            let lost = error::is_lost(&error);
            (if begun { Attempt::Failed(error) } else { Attempt::NotBegun(Some(error)) }, !lost)
        }
        // The rest of its answer is never read.
        Err(_) => (if begun { Attempt::Late } else { Attempt::NotBegun(None) }, false),
    };
    // What failed within a transaction is rolled back with the next words: they are sent now.
    let settled = usable && matches!(tokio::time::timeout(timeout, connection.ping()).await, Ok(Ok(())));
    if !settled {
        // The socket is closed, and the pool opens another connection.
        drop(Object::take(connection));
    }
    attempt
}

/// Runs the work, in a transaction if `transaction` is set. `begun` is set once a part of it may have reached the
/// server.
async fn carry_out<T, F>(
    connection: &mut PgConnection,
    transaction: Option<Arc<str>>,
    work: F,
    begun: &AtomicBool,
) -> Result<T, sqlx::Error>
where
    F: for<'c> Fn(&'c mut PgConnection) -> BoxFuture<'c, Result<T, sqlx::Error>>,
{
    let Some(first) = transaction else {
        begun.store(true, Ordering::Relaxed);
        return work(connection).await;
    };
    let mut transaction = connection.begin_with(AssertSqlSafe(first)).await?;
    begun.store(true, Ordering::Relaxed);
    let done = work(&mut transaction).await?;
    transaction.commit().await?;
    Ok(done)
}

pub(crate) fn gone(error: tokio::task::JoinError) -> Error {
    let message = if error.is_panic() {
        "the driver panicked; report it"
    } else {
        "the runtime that the store was opened in has shut down; keep it until the store is closed"
    };
    Error::new(ErrorKind::Other, message).with_source(error).outcome_is(Outcome::Unknown)
}

/// An estimate of the server's clock, for deadlines that the server enforces. It runs on this process's monotonic clock
/// and is set by each answer: its error is at most the transit time of one answer.
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
