//! Settings of a tiered store: plain data, apart from its components.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::policy::{ReadPolicy, WritePolicy};
use crate::sync::StrategyName;

/// For how long an entry of the frontend may be served before it is compared with the backend again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MaxStale {
    /// 60 s where other processes can write to the backend, unlimited where they cannot.
    #[default]
    Auto,
    /// For ever: nobody else writes, or stale answers do no harm.
    Unlimited,
    /// So many milliseconds.
    Millis(u64),
}

/// What a persistent frontend's entries are worth when the store is opened again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reopen {
    /// Each is compared with the backend, by version, on its first use.
    #[default]
    Revalidate,
    /// They are served as they are after a clean close, and compared otherwise. For when nobody else writes.
    Trust,
    /// They are removed.
    Clear,
}

/// What a write-behind store does with a write for which there is no room.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnFull {
    /// The write waits for room.
    #[default]
    Block,
    /// The write fails with [`ErrorKind::Full`](crate::ErrorKind::Full).
    Fail,
}

/// What a write-behind store does when the backend refuses a journaled write for good.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnPark {
    /// [`Halt`](Self::Halt) where the backend's batches are atomic, else [`Skip`](Self::Skip).
    #[default]
    Auto,
    /// Nothing after it is flushed until somebody retries or drops it: the backend holds a prefix of history.
    Halt,
    /// The rest goes on: the backend holds a prefix of each key's history. A later write of the key replaces it.
    Skip,
}

/// What a failure of the frontend means for a call that the backend can serve.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FrontendFailure {
    /// Nothing: the key is quarantined and the call succeeds.
    #[default]
    Skip,
    /// The call fails, with [`Outcome::Applied`](crate::Outcome::Applied) for a write.
    Fail,
}

/// How a tiered store behaves. Every field has a default; unknown fields are refused.
///
/// # Examples
/// ```
/// use tiered_core::{TieredSettings, WritePolicy};
///
/// let settings = TieredSettings { write_policy: WritePolicy::WriteAround, ..TieredSettings::default() };
/// assert_eq!(settings.max_pending_operations, 10_000);
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "kebab-case", deny_unknown_fields)]
pub struct TieredSettings {
    /// How it writes.
    pub write_policy: WritePolicy,
    /// How it reads.
    pub read_policy: ReadPolicy,
    /// How stale a hit may be.
    pub max_stale: MaxStale,
    /// What a persistent frontend's entries are worth after opening.
    pub reopen: Reopen,
    /// A strategy to run from backend to frontend when the store is built.
    pub on_connect: Option<StrategyName>,
    /// Values larger than this many bytes are not copied to the frontend; none means the frontend's own limit.
    pub max_fill: Option<u64>,
    /// At most so many acknowledged writes wait for the backend (write-behind). 10,000 by default: a few seconds
    /// of a fast writer, in memory that a process can spare.
    pub max_pending_operations: usize,
    /// At most so many bytes of values wait for the backend (write-behind). 64 MiB by default.
    pub max_pending_bytes: u64,
    /// What happens to a write for which there is no room.
    pub on_full: OnFull,
    /// Keys in quarantine beyond this number put the whole frontend in doubt: each of its entries is compared
    /// with the backend on its next use. 1,024 by default, since each key in quarantine is a task that retries.
    pub max_quarantined: usize,
    /// What a failure of the frontend means.
    pub frontend_failure: FrontendFailure,
    /// What happens to the writes after one that the backend refuses.
    pub on_park: OnPark,
    /// How long a journaled write may wait for the backend before an alarm goes off
    /// ([`Event::Overdue`](crate::Event::Overdue), and a warning), in milliseconds; none means no alarm. Five
    /// minutes by default.
    pub max_pending_age_millis: Option<u64>,
    /// How long a call waits for the frontend before it goes on without it, in milliseconds. 2 s by default.
    pub frontend_patience_millis: u64,
    /// How long a write waits for the backend before it answers that its outcome is unknown, in milliseconds;
    /// none means without limit. The write itself goes on.
    pub write_deadline_millis: Option<u64>,
    /// How long closing waits for pending writes to reach the backend, in milliseconds. 30 s by default.
    pub close_deadline_millis: u64,
}

impl Default for TieredSettings {
    fn default() -> Self {
        Self {
            write_policy: WritePolicy::default(),
            read_policy: ReadPolicy::default(),
            max_stale: MaxStale::default(),
            reopen: Reopen::default(),
            on_connect: None,
            max_fill: None,
            max_pending_operations: 10_000,
            max_pending_bytes: 64 << 20,
            on_full: OnFull::default(),
            on_park: OnPark::default(),
            max_pending_age_millis: Some(300_000),
            max_quarantined: 1024,
            frontend_failure: FrontendFailure::default(),
            frontend_patience_millis: 2_000,
            write_deadline_millis: None,
            close_deadline_millis: 30_000,
        }
    }
}

impl TieredSettings {
    pub(crate) fn frontend_patience(&self) -> Duration {
        Duration::from_millis(self.frontend_patience_millis)
    }

    pub(crate) fn max_pending_age(&self) -> Option<Duration> {
        self.max_pending_age_millis.map(Duration::from_millis)
    }

    pub(crate) fn write_deadline(&self) -> Option<Duration> {
        self.write_deadline_millis.map(Duration::from_millis)
    }

    pub(crate) fn close_deadline(&self) -> Duration {
        Duration::from_millis(self.close_deadline_millis)
    }
}
