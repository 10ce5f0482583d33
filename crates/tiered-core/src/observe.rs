//! What a tiered store tells about itself: events and statistics.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::broadcast;

use crate::key::Key;
use crate::version::Version;

/// Something that happened in a tiered store. One per mutation.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// A put was acknowledged.
    Written {
        /// The key.
        key: Key,
        /// Its version now.
        version: Version,
    },
    /// A delete was acknowledged.
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
    /// A journaled write was refused by the backend and waits for a person.
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
    /// [`max_pending_age_millis`](crate::TieredSettings::max_pending_age_millis).
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

/// A subscription to a store's events, from the moment of subscribing.
#[derive(Debug)]
pub struct Events(broadcast::Receiver<Event>);

impl Events {
    /// The next event; `None` when the store is gone.
    ///
    /// # Cancel safety
    /// No event is lost when it is dropped.
    pub async fn next(&mut self) -> Option<Event> {
        match self.0.recv().await {
            Ok(event) => Some(event),
            Err(broadcast::error::RecvError::Lagged(missed)) => Some(Event::Missed(missed)),
            Err(broadcast::error::RecvError::Closed) => None,
        }
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

    /// Sends what `event` makes, if anybody listens.
    pub(crate) fn send(&self, event: impl FnOnce() -> Event) {
        if self.0.receiver_count() > 0 {
            // A subscriber that left in between misses nothing.
            self.0.send(event()).ok();
        }
    }

    pub(crate) fn subscribe(&self) -> Events {
        Events(self.0.subscribe())
    }
}

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {
        /// Running counts of a store.
        #[derive(Debug, Default)]
        pub(crate) struct Counters {
            $(pub(crate) $name: Counter,)*
        }

        /// A store's statistics: counts since it was built, and gauges of now.
        #[derive(Clone, Debug, Default, PartialEq, Eq)]
        #[non_exhaustive]
        pub struct Stats {
            $($(#[$doc])* pub $name: u64,)*
            /// Gauge: keys with exceptional state (gated, in flight, quarantined, pending).
            pub slots: u64,
            /// Gauge: keys for which a write is past its gate.
            pub gated: u64,
            /// Gauge: backend reads under way that may fill the frontend.
            pub flights: u64,
            /// Gauge: keys that serve no hits until the frontend has recovered.
            pub quarantined: u64,
            /// Gauge: keys whose latest write is acknowledged and not yet in the backend.
            pub pending: u64,
            /// Gauge: journaled writes that are not yet in the backend, parked ones among them.
            pub backlog: u64,
            /// Gauge: journaled writes that the backend refused, and that wait for a person.
            pub parked: u64,
            /// Gauge: how long the oldest journaled write has waited for the backend, parked ones aside, in
            /// milliseconds; 0 where none waits.
            pub oldest_pending_millis: u64,
        }

        impl Counters {
            pub(crate) fn read(&self) -> Stats {
                Stats { $($name: self.$name.get(),)* ..Stats::default() }
            }
        }
    };
}

counters! {
    /// Reads that the frontend answered.
    hits,
    /// Reads that it could not answer.
    misses,
    /// Reads that were answered by a pending write.
    pending_hits,
    /// Reads sent to the backend.
    backend_reads,
    /// Reads that joined another's backend read.
    joined,
    /// Entries copied to the frontend on a miss.
    fills,
    /// Reads that were answered by the frontend's note that the backend has no such entry.
    absence_hits,
    /// Reads that were answered by an entry older than it should be, since the backend could not be asked.
    stale_answers,
    /// Calls that were not made, since their tier's circuit breaker was open.
    spared,
    /// Entries compared with the backend and found unchanged.
    revalidated,
    /// Puts acknowledged.
    puts,
    /// Deletes acknowledged.
    deletes,
    /// Keys dropped from the frontend alone.
    invalidations,
    /// Times that changes of others may have been missed, so that every entry was put in doubt.
    resyncs,
    /// Writes whose outcome was unknown.
    unknowns,
    /// Entries that syncs of the frontend could not handle.
    sync_failures,
    /// Journaled writes that reached the backend.
    flushed,
    /// Flush attempts that failed and are tried again.
    flush_retries,
    /// Failed or late calls to the frontend.
    frontend_errors,
    /// Damaged entries met in the frontend, served from the backend instead.
    frontend_corruptions,
}

/// A relaxed counter.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
