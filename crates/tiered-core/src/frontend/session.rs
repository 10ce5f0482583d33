//! Sessions: which entries of the frontend have seen every write. And the marks of a frontend that outlives the process.
//!
//! | mark in the frontend | value | meaning |
//! |---|---|---|
//! | `tiered.backend` | an identity | the backend whose entries it holds |
//! | `tiered.session` | 16 hexadecimal digits | the session that wrote to it last |
//! | `tiered.in-use` | as above | set while a session runs; left behind by a crash |

use std::collections::VecDeque;

use bytes::Bytes;
use futures_util::StreamExt as _;

use crate::capability::{Capabilities, Durability, Feature};
use crate::clock::Stamp;
use crate::entry::Tombstones;
use crate::error::{Error, ErrorKind, Operation, Outcome, Result};
use crate::list::ListOptions;
use crate::marks::{BACKEND, IN_USE, SESSION};
use crate::sent::{Sent, Session};
use crate::settings::Reopen;
use crate::store::Store;
use crate::sync_primitives::atomic::{AtomicU64, Ordering};
use crate::sync_primitives::{Mutex, time};
use crate::write::Delete;

/// The session of now, and those before it whose entries are in step.
#[derive(Debug)]
pub(crate) struct Sessions {
    current: AtomicU64,
    /// Earlier sessions of this process that ended because other processes may have written, not because the frontend
    /// failed.
    in_step: Mutex<VecDeque<Session>>,
}

impl Sessions {
    pub(crate) fn new(current: Session) -> Self {
        Self { current: AtomicU64::new(current), in_step: Mutex::default() }
    }

    pub(crate) fn current(&self) -> Session {
        self.current.load(Ordering::Acquire)
    }

    /// A request to the backend that is sent now.
    pub(super) fn sent(&self, stamp: &Stamp) -> Sent {
        Sent::new(self.current(), stamp.uptime_millis())
    }

    /// Returns true if entries validated in `session` reflect every write made by this store, even if they exceed
    /// `max_stale`.
    pub(crate) fn is_in_step(&self, session: Session) -> bool {
        session == self.current() || self.in_step.lock().contains(&session)
    }

    /// Begins a session after the frontend may have missed a write.
    pub(super) fn begin_after_failure(&self, stamp: &Stamp) {
        self.in_step.lock().clear();
        self.current.store(fresh_seed(stamp), Ordering::Release);
    }

    /// Begins a session after other processes may have written.
    pub(super) fn begin_after_others(&self, stamp: &Stamp) {
        /// Sessions that are remembered: one for each loss of the feed's connection during a long outage.
        const REMEMBERED: usize = 64;
        let mut in_step = self.in_step.lock();
        in_step.push_back(self.current());
        if in_step.len() > REMEMBERED {
            in_step.pop_front();
        }
        self.current.store(fresh_seed(stamp), Ordering::Release);
    }
}

/// A number that no other session has had; never 0.
pub(crate) fn fresh_seed(stamp: &Stamp) -> Session {
    let id = stamp.versions().mint().as_u128().unwrap_or_default();
    let bytes = id.to_le_bytes();
    let half = |range: std::ops::Range<usize>| {
        bytes.get(range).and_then(|half| half.try_into().ok()).map_or(0, u64::from_le_bytes)
    };
    (half(0..8).rotate_left(32) ^ half(8..16)).max(1)
}

/// Whether the frontend outlives the process and can carry marks.
pub(super) fn is_persistent(capabilities: &Capabilities) -> bool {
    capabilities.durability() > Durability::Volatile && capabilities.has(Feature::KeepsMarks)
}

impl Sessions {
    /// Binds a persistent frontend to the backend of this identity and begins a session in it.
    ///
    /// The marks are durable when this returns, before anything is written under the session.
    pub(crate) async fn begin(
        frontend: &dyn Store,
        backend: Option<Bytes>,
        reopen: Reopen,
        stamp: &Stamp,
    ) -> Result<Self> {
        let fresh = fresh_seed(stamp);
        if !is_persistent(frontend.capabilities()) {
            if reopen == Reopen::Clear {
                clear(frontend).await?;
            }
            return Ok(Self::new(fresh));
        }
        bind(frontend, backend.as_ref()).await?;
        let clean = frontend.mark(IN_USE).await?.is_none();
        let last = frontend.mark(SESSION).await?.and_then(|mark| decode(&mark));
        let session = match (reopen, last) {
            // What cannot be told from another backend's is not trusted.
            (Reopen::Trust, Some(last)) if clean && backend.is_some() => last,
            _ => fresh,
        };
        frontend.set_mark(IN_USE, Some(encode(session))).await?;
        frontend.set_mark(SESSION, Some(encode(session))).await?;
        if reopen == Reopen::Clear {
            clear(frontend).await?;
        }
        Ok(Self::new(session))
    }

    /// Whether a frontend needs to know the identity of its backend.
    pub(crate) fn bind_to_backend(frontend: &Capabilities) -> bool {
        is_persistent(frontend)
    }
}

/// Refuses a frontend whose entries are of another backend than the one of this identity, and binds one that is not bound
/// yet.
async fn bind(frontend: &dyn Store, backend: Option<&Bytes>) -> Result<()> {
    let refuse = |message: String| {
        let name = frontend.capabilities().name();
        Err(Error::new(ErrorKind::Config, message).during(Operation::Open).in_tier(name))
    };
    let text = |identity: &Bytes| String::from_utf8_lossy(identity).into_owned();
    match (frontend.mark(BACKEND).await?, backend) {
        (None, None) => Ok(()),
        (None, Some(identity)) => frontend.set_mark(BACKEND, Some(identity.clone())).await,
        (Some(bound), Some(identity)) if bound == *identity => Ok(()),
        (Some(bound), Some(identity)) => refuse(format!(
            "the frontend holds entries of another backend: of {}, and this one is {}; use its own backend, or destroy the frontend and begin with an empty one",
            text(&bound),
            text(identity)
        )),
        (Some(bound), None) => refuse(format!(
            "the frontend holds entries of the backend {}, and this one keeps no marks that tell which it is; name it with backend_id(…), or destroy the frontend and begin with an empty one",
            text(&bound)
        )),
    }
}

/// Ends a session cleanly: after this the frontend may be trusted.
pub(super) async fn end(frontend: &impl Store, session: Session) -> Result<()> {
    frontend.set_mark(SESSION, Some(encode(session))).await?;
    let ended = frontend.set_mark(IN_USE, None).await;
    if ended.as_ref().is_err_and(|error| error.write_outcome() == Outcome::Unknown) {
        // Taking effect late it would clear the mark of the next session.
        time::sleep(frontend.capabilities().request_lifetime()).await;
    }
    ended
}

/// Removes every copy of the backend's entries; local entries stay.
async fn clear(frontend: &dyn Store) -> Result<()> {
    let mut listing = frontend.list(ListOptions::new().tombstones(Tombstones::Show));
    while let Some(listed) = listing.next().await {
        let listed = match listed {
            Ok(listed) => listed,
            Err(error) => {
                let Some(key) = error.damaged_key() else { return Err(error) };
                frontend.delete(key, Delete::new()).await?;
                continue;
            }
        };
        if listed.metadata.as_ref().is_none_or(|metadata| !metadata.note.origin.is_local()) {
            frontend.delete(&listed.key, Delete::new()).await?;
        }
    }
    Ok(())
}

fn encode(session: u64) -> Bytes {
    Bytes::from(format!("{session:016x}"))
}

fn decode(mark: &Bytes) -> Option<u64> {
    u64::from_str_radix(std::str::from_utf8(mark).ok()?, 16).ok()
}
