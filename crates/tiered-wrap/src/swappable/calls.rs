//! Which store is inside, and the calls that are under way in it.

use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arc_swap::{ArcSwap, Guard};
use parking_lot::Mutex;
use tiered_core::adapter::closed;
use tiered_core::{ErrorKind, Operation, Result, Store};
use tokio::sync::{MutexGuard, OwnedRwLockReadGuard, OwnedRwLockWriteGuard, RwLock, RwLockReadGuard, watch};
use tokio::time::{sleep, timeout};

use super::refused;

/// A store, and which one it is in the row of those that were inside.
#[derive(Debug)]
pub(super) struct Inside {
    pub(super) store: Arc<dyn Store>,
    pub(super) number: u64,
}

/// The store inside and the calls that are under way in it.
#[derive(Debug)]
pub(super) struct Calls {
    inside: ArcSwap<Inside>,
    /// Tells of an exchange.
    number: watch::Sender<u64>,
    /// Held for reading by a call that ends by itself, for writing by an exchange.
    short: Arc<RwLock<()>>,
    /// The same for streams, which may take as long as their callers like.
    streams: Arc<RwLock<()>>,
    patience: Mutex<Duration>,
    /// Held by an exchange from its begin to its end.
    exchange: tokio::sync::Mutex<()>,
    closed: AtomicBool,
}

/// A call that is under way: the store that it began at.
pub(super) struct Call<'c> {
    inside: Arc<Inside>,
    _calls: RwLockReadGuard<'c, ()>,
}

impl Deref for Call<'_> {
    type Target = Inside;

    fn deref(&self) -> &Inside {
        &self.inside
    }
}

/// No stream is under way, and none begins.
pub(super) struct WithoutStreams(#[expect(dead_code, reason = "held")] OwnedRwLockWriteGuard<()>);

/// Neither calls nor streams are under way, and none begin.
pub(super) struct Quiet(#[expect(dead_code, reason = "held")] OwnedRwLockWriteGuard<()>);

impl Calls {
    const PATIENCE: Duration = Duration::from_secs(30);

    pub(super) fn new(store: Arc<dyn Store>) -> Self {
        Self {
            inside: ArcSwap::from_pointee(Inside { store, number: 0 }),
            number: watch::Sender::new(0),
            short: Arc::default(),
            streams: Arc::default(),
            patience: Mutex::new(Self::PATIENCE),
            exchange: tokio::sync::Mutex::default(),
            closed: AtomicBool::new(false),
        }
    }

    pub(super) fn be_patient(&self, patience: Duration) {
        *self.patience.lock() = patience;
    }

    pub(super) fn patience(&self) -> Duration {
        *self.patience.lock()
    }

    /// The store inside at this moment.
    pub(super) fn inside(&self) -> Guard<Arc<Inside>> {
        self.inside.load()
    }

    /// Begins a call, after an exchange that is under way.
    pub(super) async fn begin(&self) -> Call<'_> {
        let calls = self.short.read().await;
        Call { inside: self.inside.load_full(), _calls: calls }
    }

    /// Begins a stream, after an exchange that is under way.
    pub(super) async fn begin_stream(&self) -> OwnedRwLockReadGuard<()> {
        Arc::clone(&self.streams).read_owned().await
    }

    /// Begins an exchange, of which there is one at a time.
    pub(super) fn begin_exchange(&self) -> Result<MutexGuard<'_, ()>> {
        self.exchange.try_lock().map_err(|_| {
            refused(ErrorKind::Locked, "another exchange of this store is under way; wait until it has ended")
        })
    }

    /// Waits until no stream is under way, while calls go on and streams begin, and lets no new one begin from then on.
    pub(super) async fn without_streams(&self) -> Result<WithoutStreams> {
        /// How often it looks. It does not stand in line: a caller that reads one stream into another would wait for it.
        const LOOK: Duration = Duration::from_millis(5);
        let patience = self.patience();
        let none = async {
            loop {
                match Arc::clone(&self.streams).try_write_owned() {
                    Ok(streams) => return streams,
                    Err(_) => sleep(LOOK).await,
                }
            }
        };
        match timeout(patience, none).await {
            Ok(streams) => Ok(WithoutStreams(streams)),
            Err(_) => Err(refused(
                ErrorKind::TimedOut,
                format!(
                    "streams under way did not end within {patience:?}, and nothing was exchanged; try again later, or raise patience(…)"
                ),
            )),
        }
    }

    /// Waits until no call is under way, and lets no new one begin.
    pub(super) async fn quiet(&self, _: &WithoutStreams) -> Quiet {
        Quiet(Arc::clone(&self.short).write_owned().await)
    }

    /// Puts another store inside.
    pub(super) fn exchange(&self, store: Arc<dyn Store>, _: &Quiet) {
        let number = self.inside.load().number + 1;
        self.inside.store(Arc::new(Inside { store, number }));
        self.number.send_replace(number);
    }

    /// Says that the store was closed: nothing is exchanged any more.
    pub(super) fn close(&self) {
        self.closed.store(true, Ordering::Release);
    }

    /// Refuses an exchange of a store that was closed.
    pub(super) fn check_open(&self, _: &Quiet) -> Result<()> {
        if self.closed.load(Ordering::Acquire) { Err(closed(Operation::Open)) } else { Ok(()) }
    }

    /// Tells of exchanges from now on.
    pub(super) fn exchanges(&self) -> watch::Receiver<u64> {
        self.number.subscribe()
    }
}
