//! Loads under way: one for all readers of a key, and what they found absent.
//!
//! A load is a shared future: whichever of its readers is polled carries it on. A leader that is dropped leaves it to the
//! followers, and no runtime is needed. The last reader that goes away ends it.
//!
//! A write of the same handle *revokes* the load of its key: what the load read at its source may be older than the write.
//! It still answers its readers, and stores nothing. A load that has begun to store is waited for instead.

use std::collections::HashMap;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, Shared, WeakShared};
use parking_lot::Mutex;
use tiered_core::Key;

use crate::error::{Error, Result};

/// Most absences that are remembered. One takes about 100 bytes.
const MAX_ABSENCES: usize = 65_536;

/// What a load answers: the encoded value.
pub(crate) type Answer = Result<Option<Bytes>>;

type Future_ = BoxFuture<'static, Answer>;

/// How far a load is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// It reads its source, and may be revoked.
    Loading,
    /// It stores what it found.
    Storing,
    /// A write came in between: it stores nothing.
    Revoked,
}

#[derive(Debug)]
struct Load {
    id: u64,
    future: WeakShared<Future_>,
    phase: Arc<Mutex<Phase>>,
}

#[derive(Debug, Default)]
struct Table {
    loads: HashMap<Key, Load>,
    /// Until when a key counts as absent at the source, in uptime.
    absences: HashMap<Key, Duration>,
    next_id: u64,
}

/// The loads of a handle. Cloning shares them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Loads(Arc<Mutex<Table>>);

/// What a reader that missed is to do.
pub(crate) enum Joined {
    /// Wait for the load that it leads.
    Leads(Shared<Future_>),
    /// Wait for the load of another reader.
    Follows(Shared<Future_>),
    /// The source was found to have nothing, not long ago.
    Absent,
}

impl Loads {
    /// Joins the load of `key`, or leads the one that `lead` makes. `lead` must not poll anything.
    pub(crate) fn join<F>(&self, key: &Key, uptime: Duration, lead: impl FnOnce(Lead) -> F) -> Joined
    where
        F: Future<Output = Answer> + Send + 'static,
    {
        let mut table = self.0.lock();
        if table.absences.get(key).is_some_and(|until| uptime < *until) {
            return Joined::Absent;
        }
        if let Some(shared) = table.loads.get(key).and_then(|load| load.future.upgrade()) {
            return Joined::Follows(shared);
        }
        let id = table.next_id;
        table.next_id += 1;
        let phase = Arc::new(Mutex::new(Phase::Loading));
        let lead_of = Lead { loads: self.clone(), key: key.clone(), id, phase: Arc::clone(&phase) };
        let key_of_panic = key.clone();
        let guarded = AssertUnwindSafe(lead(lead_of)).catch_unwind();
        let future =
            guarded.map(move |ended| ended.unwrap_or_else(|panic| Err(panicked(&key_of_panic, &*panic))));
        let shared = future.boxed().shared();
        if let Some(weak) = shared.downgrade() {
            table.loads.insert(key.clone(), Load { id, future: weak, phase });
        }
        Joined::Leads(shared)
    }

    /// Forgets that `key` is absent, and revokes its load. Returns a load that stores already: the caller waits for it.
    fn revoke(&self, key: &Key) -> Option<Shared<Future_>> {
        let mut table = self.0.lock();
        table.absences.remove(key);
        let load = table.loads.get(key)?;
        let mut phase = load.phase.lock();
        if *phase == Phase::Storing {
            return load.future.upgrade();
        }
        *phase = Phase::Revoked;
        drop(phase);
        table.loads.remove(key);
        None
    }

    /// Begins a write of `key`: nothing that was loaded before it is stored after it. Loads that begin during the write are
    /// revoked when the returned guard is dropped.
    pub(crate) async fn write(&self, key: &Key) -> WriteGuard {
        // Declared first: dropping this future revokes as well.
        let guard = WriteGuard { loads: self.clone(), key: key.clone() };
        while let Some(storing) = self.revoke(key) {
            // Carried on by this writer, where no reader is polled. Its answer is for the readers.
            drop(storing.await);
        }
        guard
    }
}

/// Revokes what was loaded during a write, when it ends.
#[derive(Debug)]
pub(crate) struct WriteGuard {
    loads: Loads,
    key: Key,
}

impl Drop for WriteGuard {
    fn drop(&mut self) {
        // A load that stores already is conditional on an absent key: it never replaces the write.
        drop(self.loads.revoke(&self.key));
    }
}

/// What a load may do to the table. Dropped with the load, whether that has ended or was left by all readers.
#[derive(Debug)]
pub(crate) struct Lead {
    loads: Loads,
    key: Key,
    id: u64,
    phase: Arc<Mutex<Phase>>,
}

impl Lead {
    pub(crate) fn key(&self) -> &Key {
        &self.key
    }

    /// Whether the load may store what it found: no write came in between.
    pub(crate) fn begin_storing(&self) -> bool {
        let mut phase = self.phase.lock();
        let may = *phase == Phase::Loading;
        if may {
            *phase = Phase::Storing;
        }
        may
    }

    /// Remembers that the source has nothing, until this uptime, unless a write came in between.
    pub(crate) fn remember_absence(&self, uptime: Duration, until: Duration) {
        let mut table = self.loads.0.lock();
        if *self.phase.lock() != Phase::Loading {
            return;
        }
        if table.absences.len() >= MAX_ABSENCES {
            table.absences.retain(|_, until| uptime < *until);
        }
        // Where too many are remembered, the next reader loads again.
        if table.absences.len() < MAX_ABSENCES {
            table.absences.insert(self.key.clone(), until);
        }
    }
}

impl Drop for Lead {
    fn drop(&mut self) {
        let mut table = self.loads.0.lock();
        if table.loads.get(&self.key).is_some_and(|load| load.id == self.id) {
            table.loads.remove(&self.key);
        }
    }
}

fn panicked(key: &Key, panic: &(dyn std::any::Any + Send)) -> Error {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no text");
    Error::load(key, format!("the loader panicked: {text}").into())
}
