//! Sessions, and the marks of a persistent frontend.
//!
//! | mark in the frontend | value | meaning |
//! |---|---|---|
//! | `tiered.backend` | an identity | the backend whose entries it holds |
//! | `tiered.session` | 16 hexadecimal digits | the session that wrote to it last |
//! | `tiered.in-use` | as above | set while a session runs; left behind by a crash |
//!
//! The backend keeps its identity under `tiered.identity`, and the journals that hold writes for it under
//! `tiered.journals` ([`ownership`](super::ownership)).

use std::sync::Arc;

use bytes::Bytes;
use futures_util::StreamExt as _;

use super::settings::Reopen;
use crate::capability::{Durability, Feature};
use crate::clock::Stamp;
use crate::entry::Tombstones;
use crate::error::{Error, ErrorKind, Operation, Outcome, Result};
use crate::list::{ListOptions, is_damaged_key};
use crate::planted::{Plant, Planted};
use crate::store::Store;
use crate::write::Delete;

const IDENTITY: &str = "tiered.identity";
const BACKEND: &str = "tiered.backend";
const SESSION: &str = "tiered.session";
const IN_USE: &str = "tiered.in-use";

/// A session that no other has had; never 0.
pub(super) fn fresh_session(stamp: &Stamp) -> u64 {
    let id = stamp.versions().mint().as_u128().unwrap_or_default();
    let bytes = id.to_le_bytes();
    let half = |range: std::ops::Range<usize>| {
        bytes.get(range).and_then(|half| half.try_into().ok()).map_or(0, u64::from_le_bytes)
    };
    (half(0..8).rotate_left(32) ^ half(8..16)).max(1)
}

/// Whether the frontend outlives the process and can carry marks.
pub(super) fn is_persistent(frontend: &dyn Store) -> bool {
    let capabilities = frontend.capabilities();
    capabilities.durability() > Durability::Volatile && capabilities.has(Feature::KeepsMarks)
}

/// Binds a persistent frontend to its backend and begins a session in it.
///
/// The marks are durable when this returns, before anything is written under the session.
pub(super) async fn begin(
    frontend: &Arc<dyn Store>,
    backend: &Arc<dyn Store>,
    backend_id: Option<&str>,
    reopen: Reopen,
    stamp: &Stamp,
    planted: Planted,
) -> Result<u64> {
    let fresh = fresh_session(stamp);
    if !is_persistent(frontend.as_ref()) {
        if reopen == Reopen::Clear {
            clear(frontend).await?;
        }
        return Ok(fresh);
    }
    if let Some(identity) = identity(backend, backend_id, stamp).await? {
        match frontend.mark(BACKEND).await? {
            None => frontend.set_mark(BACKEND, Some(identity)).await?,
            Some(bound) if bound == identity => {}
            Some(_) => {
                return Err(Error::new(
                    ErrorKind::Config,
                    "the frontend holds entries of another backend; use its own backend, or an empty frontend",
                )
                .during(Operation::Open)
                .in_tier(frontend.capabilities().name()));
            }
        }
    }
    let clean = frontend.mark(IN_USE).await?.is_none() || planted.has(Plant::PersistentFrontendTrusted);
    let last = frontend.mark(SESSION).await?.and_then(|mark| decode(&mark));
    let session = match (reopen, last) {
        (Reopen::Trust, Some(last)) if clean => last,
        _ => fresh,
    };
    frontend.set_mark(IN_USE, Some(encode(session))).await?;
    frontend.set_mark(SESSION, Some(encode(session))).await?;
    if reopen == Reopen::Clear {
        clear(frontend).await?;
    }
    Ok(session)
}

/// Ends a session cleanly: after this the frontend may be trusted.
pub(super) async fn end(frontend: &Arc<dyn Store>, session: u64) -> Result<()> {
    frontend.set_mark(SESSION, Some(encode(session))).await?;
    let ended = frontend.set_mark(IN_USE, None).await;
    if ended.as_ref().is_err_and(|error| error.write_outcome() == Outcome::Unknown) {
        // Taking effect late it would clear the mark of the next session.
        tokio::time::sleep(frontend.capabilities().lifetime()).await;
    }
    ended
}

/// The backend's identity: the one given by name, else its mark, made where there is none.
pub(super) async fn identity(
    backend: &Arc<dyn Store>,
    given: Option<&str>,
    stamp: &Stamp,
) -> Result<Option<Bytes>> {
    if let Some(given) = given {
        return Ok(Some(Bytes::copy_from_slice(given.as_bytes())));
    }
    if !backend.capabilities().has(Feature::KeepsMarks) {
        return Ok(None);
    }
    if let Some(identity) = backend.mark(IDENTITY).await? {
        return Ok(Some(identity));
    }
    let identity = Bytes::from(stamp.versions().mint().to_string());
    backend.set_mark(IDENTITY, Some(identity.clone())).await?;
    Ok(Some(identity))
}

/// Removes every entry that tells of the backend; local ones stay.
async fn clear(frontend: &Arc<dyn Store>) -> Result<()> {
    let mut listing = frontend.list(ListOptions::new().tombstones(Tombstones::Show));
    while let Some(listed) = listing.next().await {
        let listed = match listed {
            Ok(listed) => listed,
            Err(error) => {
                let Some(key) = error.key().filter(|_| is_damaged_key(&error)) else { return Err(error) };
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
