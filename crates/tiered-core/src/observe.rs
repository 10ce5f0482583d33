//! What a tiered store tells about itself: events and statistics.

mod lanes;

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_core::Stream;
use serde::{Deserialize, Serialize};
use tokio::sync::broadcast;
use tokio_util::sync::ReusableBoxFuture;

use crate::batch::Applied;
use crate::key::Key;
use crate::quantity;
use crate::version::Version;
use crate::write::Written;

use lanes::Lanes;

/// Something that happened in a tiered store. One per mutation.
///
/// # Examples
/// ```
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// use tiered_core::{Event, MemoryStore, StoreExt, TieredStore};
///
/// let store = TieredStore::builder(MemoryStore::new(), MemoryStore::new()).build().await?;
/// let mut events = store.subscribe();
/// store.set("users/42", "Ada").await?;
/// match events.next().await {
///     Some(Event::Written { key, version }) => println!("{key} is now {version}"),
///     Some(Event::Missed(number)) => println!("{number} events were dropped: this receiver is too slow"),
///     other => println!("{other:?}"),
/// }
/// # Ok::<(), tiered_core::Error>(()) }).unwrap();
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// A put took effect.
    Written {
        /// The key.
        key: Key,
        /// Its version now.
        version: Version,
    },
    /// A delete took effect.
    Deleted {
        /// The key.
        key: Key,
    },
    /// A miss was copied to the frontend.
    Filled {
        /// The key.
        key: Key,
    },
    /// The key was dropped from the frontend alone.
    Invalidated {
        /// The key.
        key: Key,
    },
    /// A journaled write reached the backend.
    Flushed {
        /// The key.
        key: Key,
    },
    /// The backend refused a journaled write, which waits for an operator.
    Parked {
        /// The key.
        key: Key,
    },
    /// A parked write was given up; the key is what the backend has.
    Dropped {
        /// The key.
        key: Key,
    },
    /// The oldest journaled write has waited for the backend longer than
    /// [`max_pending_age`](crate::TieredSettings::max_pending_age).
    Overdue {
        /// How long.
        age: Duration,
    },
    /// The frontend failed for the key; it serves no hits until a removal has succeeded.
    Quarantined {
        /// The key.
        key: Key,
    },
    /// A sync of the frontend could not handle so many entries; see its report.
    SyncFailed {
        /// How many.
        failed: u64,
    },
    /// The receiver was too slow: so many events before this one were dropped.
    Missed(u64),
}

/// A subscription to a store's events, from the moment of subscribing. It is a [`Stream`] as well.
///
/// # Examples
/// ```
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// use tiered_core::{Event, MemoryStore, StoreExt, TieredStore};
///
/// let (frontend, backend) = (MemoryStore::new(), MemoryStore::new());
/// let store = TieredStore::builder(frontend, backend).build().await?;
/// let mut events = store.subscribe();
/// store.set("greeting", "hello").await?;
/// assert!(matches!(events.next().await, Some(Event::Written { key, .. }) if key.as_str() == "greeting"));
/// # Ok::<(), tiered_core::Error>(()) }).unwrap();
/// ```
#[derive(Debug)]
pub struct Events(ReusableBoxFuture<'static, Received>);

type Received = (Result<Event, broadcast::error::RecvError>, broadcast::Receiver<Event>);

/// The receiver moves into the call and comes back with its answer, so that a dropped poll loses nothing.
async fn receive(mut receiver: broadcast::Receiver<Event>) -> Received {
    let event = receiver.recv().await;
    (event, receiver)
}

impl Events {
    fn new(receiver: broadcast::Receiver<Event>) -> Self {
        Self(ReusableBoxFuture::new(receive(receiver)))
    }

    /// The next event; `None` once the store was dropped.
    ///
    /// # Cancel safety
    /// No event is lost when it is dropped.
    pub async fn next(&mut self) -> Option<Event> {
        std::future::poll_fn(|context| Pin::new(&mut *self).poll_next(context)).await
    }
}

impl Stream for Events {
    type Item = Event;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Event>> {
        let (event, receiver) = ready!(self.0.poll(context));
        self.0.set(receive(receiver));
        Poll::Ready(match event {
            Ok(event) => Some(event),
            Err(broadcast::error::RecvError::Lagged(missed)) => Some(Event::Missed(missed)),
            Err(broadcast::error::RecvError::Closed) => None,
        })
    }
}

/// The sending side.
#[derive(Debug)]
pub(crate) struct EventSender(broadcast::Sender<Event>);

impl EventSender {
    /// How many events a slow subscriber may lag behind before it misses some: a few milliseconds of a busy store,
    /// in under 100 KiB.
    const CAPACITY: usize = 1024;

    pub(crate) fn new() -> Self {
        Self(broadcast::Sender::new(Self::CAPACITY))
    }

    pub(crate) fn subscribe(&self) -> Events {
        Events::new(self.0.subscribe())
    }
}

/// Counts what a store does and tells its subscribers.
#[derive(Debug)]
pub(crate) struct Recorder {
    counts: Lanes<{ Count::ALL }>,
    events: EventSender,
}

impl Recorder {
    pub(crate) fn new(events: EventSender) -> Self {
        Self { counts: Lanes::new(), events }
    }

    /// Counts one.
    #[inline]
    pub(crate) fn count(&self, what: Count) {
        self.add(what, 1);
    }

    /// Counts `number` at once.
    #[inline]
    pub(crate) fn add(&self, what: Count, number: u64) {
        self.counts.add(what as usize, number);
    }

    /// Counts a write that took effect, and tells of it: under the version that the answer names.
    pub(crate) fn took_effect(&self, key: &Key, applied: &Applied) {
        match applied {
            Applied::Put(Written { version, .. }) => {
                self.count(Count::Put);
                self.send(|| Event::Written { key: key.clone(), version: version.clone() });
            }
            Applied::Delete(_) => {
                self.count(Count::Delete);
                self.send(|| Event::Deleted { key: key.clone() });
            }
        }
    }

    /// Sends what `event` makes, if there is a subscriber.
    pub(crate) fn send(&self, event: impl FnOnce() -> Event) {
        if self.events.0.receiver_count() > 0 {
            // A subscriber that left in between misses nothing.
            self.events.0.send(event()).ok();
        }
    }

    pub(crate) fn subscribe(&self) -> Events {
        self.events.subscribe()
    }

    fn get(&self, what: Count) -> u64 {
        self.counts.get(what as usize)
    }
}

/// A store's statistics: counts since it was built, and gauges of now.
///
/// Serialises with the names of its fields, a duration as a text such as `"1m 30s"`. A count that is missing
/// reads as 0.
///
/// # Examples
/// ```
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// use tiered_core::{MemoryStore, Stats, StoreExt, TieredStore};
///
/// /// The share of reads that the frontend answered.
/// fn hit_rate(stats: &Stats) -> f64 {
///     stats.hits as f64 / (stats.hits + stats.misses).max(1) as f64
/// }
///
/// let store = TieredStore::builder(MemoryStore::new(), MemoryStore::new()).build().await?;
/// store.set("users/42", "Ada").await?;
/// store.get("users/42").await?;
/// assert_eq!(hit_rate(&store.stats()), 1.0);
/// # Ok::<(), tiered_core::Error>(()) }).unwrap();
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct Stats {
    /// Reads that the frontend answered.
    pub hits: u64,
    /// Reads that the frontend could not answer.
    pub misses: u64,
    /// Reads that a pending write answered.
    pub pending_hits: u64,
    /// Reads sent to the backend.
    pub backend_reads: u64,
    /// Reads that joined the load of another reader.
    pub joined: u64,
    /// Entries copied to the frontend on a miss.
    pub fills: u64,
    /// Blocks of large values that the frontend had for a range read.
    pub block_hits: u64,
    /// Blocks of large values that were copied to the frontend.
    pub block_fills: u64,
    /// Blocks of large values that were read and not kept, because the frontend does not take their key.
    pub blocks_refused_by_size: u64,
    /// Loads of large values that were not kept, because a write came in between.
    pub blocks_refused_by_token: u64,
    /// Reads answered by the frontend's note that the backend has no such entry.
    pub absence_hits: u64,
    /// Reads answered by an entry older than it should be, because the backend could not be asked.
    pub stale_answers: u64,
    /// Calls that were not made because the circuit breaker of their tier was open.
    pub rejected_by_breaker: u64,
    /// Entries compared with the backend and found unchanged.
    pub revalidated: u64,
    /// Puts that took effect.
    pub puts: u64,
    /// Deletes that took effect.
    pub deletes: u64,
    /// Keys dropped from the frontend alone.
    pub invalidations: u64,
    /// Times that changes of others may have been missed, after which every entry is compared with the backend.
    pub resyncs: u64,
    /// Writes whose outcome was unknown.
    pub unknowns: u64,
    /// Entries that syncs of the frontend could not handle.
    pub sync_failures: u64,
    /// Journaled writes that reached the backend.
    pub flushed: u64,
    /// Flush attempts that failed and are retried.
    pub flush_retries: u64,
    /// Calls to the frontend that failed or were late.
    pub frontend_errors: u64,
    /// Damaged entries met in the frontend, served from the backend instead.
    pub frontend_corruptions: u64,
    /// Writes that a [hook](crate::hooks) refused.
    pub hook_refusals: u64,
    /// Calls of [hooks](crate::hooks) that panicked.
    pub hook_panics: u64,
    /// Gauge: keys with exceptional state (gated, being loaded, quarantined, pending).
    pub slots: u64,
    /// Gauge: keys for which a write is past its gate.
    pub gated: u64,
    /// Gauge: backend reads under way that may fill the frontend.
    pub loads: u64,
    /// Gauge: keys that serve no hits until the frontend has recovered.
    pub quarantined: u64,
    /// Gauge: keys whose latest write is acknowledged and not yet in the backend.
    pub pending: u64,
    /// Gauge: journaled writes that are not yet in the backend, parked ones included.
    pub backlog: u64,
    /// Gauge: journaled writes that the backend refused and that wait for an operator.
    pub parked: u64,
    /// Gauge: how long the oldest journaled write has waited for the backend; parked writes do not count. Zero if
    /// none waits.
    #[serde(with = "quantity")]
    pub oldest_pending: Duration,
}

/// Counts, and the fields of [`Stats`] that show them.
macro_rules! counts {
    ($($count:ident => $name:ident),* $(,)?) => {
        /// What is counted.
        #[derive(Clone, Copy, Debug)]
        pub(crate) enum Count {
            $($count,)*
        }

        impl Count {
            const ALL: usize = [$(Self::$count),*].len();
        }

        impl Recorder {
            /// The counts; all gauges are 0.
            pub(crate) fn read(&self) -> Stats {
                Stats { $($name: self.get(Count::$count),)* ..Stats::default() }
            }
        }
    };
}

counts! {
    Hit => hits,
    Miss => misses,
    PendingHit => pending_hits,
    BackendRead => backend_reads,
    Joined => joined,
    Fill => fills,
    BlockHit => block_hits,
    BlockFill => block_fills,
    BlocksRefusedBySize => blocks_refused_by_size,
    BlocksRefusedByToken => blocks_refused_by_token,
    AbsenceHit => absence_hits,
    StaleAnswer => stale_answers,
    RejectedByBreaker => rejected_by_breaker,
    Revalidated => revalidated,
    Put => puts,
    Delete => deletes,
    Invalidation => invalidations,
    Resync => resyncs,
    Unknown => unknowns,
    SyncFailure => sync_failures,
    Flushed => flushed,
    FlushRetry => flush_retries,
    FrontendError => frontend_errors,
    FrontendCorruption => frontend_corruptions,
    HookRefusal => hook_refusals,
    HookPanic => hook_panics,
}
