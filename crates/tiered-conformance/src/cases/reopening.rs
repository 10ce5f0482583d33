//! What earlier sessions did, after a clean close.

use std::collections::HashSet;
use std::time::Duration;

use tiered_core::adapter::{Note, Origin, Tombstones};
use tiered_core::{Batch, Delete, ErrorKind, Existed, Feature, Put, ReadOptions};

use super::life::reopen_volatile;
use super::preconditions::put_condition_refused;
use crate::bench::Bench;
use crate::case::{Need, Verdict, check, check_equal, declare};

declare! {
    reopen_delete ["delete.existed", "close"] needs [Need::Place, Need::Lasting] else reopen_volatile;
    reopen_expiry ["read.expired", "close"] needs [Need::Place, Need::Lasting, Need::Has(Feature::KeepsMetadata)] pace Alone else reopen_volatile;
    reopen_tombstones ["tombstone.hidden", "close"] needs [Need::Place, Need::Lasting, Need::Has(Feature::KeepsNotes)] else reopen_volatile;
    reopen_versions ["put.version", "close"] needs [Need::Place, Need::Lasting] else reopen_volatile;
    reopen_conditions ["put.matches", "close"] needs [Need::Place, Need::Lasting, Need::Has(Feature::ConditionalPut)] else conditions_refused;
}

/// The first session of the case's own place.
async fn opened(bench: &Bench) -> Verdict<Bench> {
    Ok(Bench { store: bench.place()?.open().await?, ..bench.clone() })
}

/// The next session.
async fn reopened(bench: &Bench, session: Bench) -> Verdict<Bench> {
    session.store.close().await?;
    drop(session);
    opened(bench).await
}

async fn reopen_delete(bench: Bench) -> Verdict {
    let (key, other) = (bench.key("k")?, bench.key("other")?);
    let session = opened(&bench).await?;
    for key in [&key, &other] {
        session.put(key, "value").await?;
    }
    // A session of its own for the delete, so that what the first one wrote is at rest.
    let session = reopened(&bench, session).await?;
    let deleted = session.store.delete(&key, Delete::new().report_existed()).await?;
    check_equal(
        "delete.existed",
        "existed of an entry of the session before",
        &Existed::Yes,
        &deleted.existed,
    )?;
    let batch = Batch::new().best_effort().delete(other.clone(), Delete::new());
    for outcome in session.store.apply(batch).await? {
        outcome?;
    }
    let mut session = session;
    for _ in 0..2 {
        session = reopened(&bench, session).await?;
        session.expect_absent("delete.existed", &key).await?;
        session.expect_absent("delete.existed", &other).await?;
        session.expect_names("delete.existed", session.everything(), &[]).await?;
    }
    Ok(session.store.close().await?)
}

async fn reopen_expiry(bench: Bench) -> Verdict {
    let (key, gone) = (bench.key("k")?, bench.key("gone")?);
    let session = opened(&bench).await?;
    let ttl = Duration::from_millis(60_007);
    let at = bench.now().saturating_add(ttl);
    session.put_expiring(&key, bench.of("value").expires_at(at)).await?;
    session.put_expiring(&gone, bench.of("gone").expires_at(bench.now())).await?;
    let session = reopened(&bench, session).await?;
    session.expect_absent("read.expired", &gone).await?;
    if let Some(entry) = session.present("read.expired", &key).await? {
        check_equal("read.expired", "the expiry after reopening", &Some(at), &entry.metadata().expires_at)?;
    }
    let Some(clock) = &bench.clock else { return Ok(session.store.close().await?) };
    clock.advance(ttl);
    session.expect_absent("read.expired", &key).await?;
    let session = reopened(&bench, session).await?;
    session.expect_absent("read.expired", &key).await?;
    Ok(session.store.close().await?)
}

async fn reopen_tombstones(bench: Bench) -> Verdict {
    let key = bench.key("k")?;
    let session = opened(&bench).await?;
    session.put(&key, "old").await?;
    let note = Note::default().with_origin(Origin::Tombstone);
    session.put(&key, Bench::noted(&Put::new(""), note)).await?;
    let session = reopened(&bench, session).await?;
    session.expect_absent("tombstone.hidden", &key).await?;
    session.expect_names("tombstone.hidden", session.everything(), &[]).await?;
    let shown = session.store.load(&key, &ReadOptions::new().tombstones(Tombstones::Show)).await?;
    let origin = shown.entry().map(|entry| entry.metadata().note.origin);
    check_equal("tombstone.hidden", "the tombstone after reopening", &Some(Origin::Tombstone), &origin)?;
    Ok(session.store.close().await?)
}

async fn reopen_versions(bench: Bench) -> Verdict {
    let keys = [bench.key("a")?, bench.key("b")?];
    let mut session = opened(&bench).await?;
    let mut seen = HashSet::new();
    for round in 0..3 {
        for key in keys.iter().chain(&keys) {
            let version = session.put(key, "same").await?.version;
            check("put.version", seen.insert(version.clone()), || {
                format!("session {round}: expected a version of its own for each write, saw {version} twice")
            })?;
        }
        session = reopened(&bench, session).await?;
    }
    Ok(session.store.close().await?)
}

async fn reopen_conditions(bench: Bench) -> Verdict {
    let key = bench.key("k")?;
    let session = opened(&bench).await?;
    let first = session.put(&key, "one").await?.version;
    let session = reopened(&bench, session).await?;
    let failed = ErrorKind::PreconditionFailed;
    bench.refused("put.absent", failed, session.store.put(&key, bench.of("x").if_absent()).await)?;
    let second = session.put(&key, bench.of("two").if_version(first.clone())).await?.version;
    let session = reopened(&bench, session).await?;
    bench.refused("put.matches", failed, session.store.put(&key, bench.of("x").if_version(first)).await)?;
    session.expect("put.matches", &key, b"two").await?;
    if bench.has(Feature::ConditionalDelete) {
        session.store.delete(&key, Delete::new().if_version(second)).await?;
        session.expect_absent("delete.matches", &key).await?;
    }
    Ok(session.store.close().await?)
}

async fn conditions_refused(bench: Bench) -> Verdict {
    if bench.has(Feature::ConditionalPut) {
        reopen_volatile(bench).await
    } else {
        put_condition_refused(bench).await
    }
}
