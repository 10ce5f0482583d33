//! Tombstones, which the tiering engine leaves in a frontend: hidden unless asked for.

use tiered_core::adapter::{Note, Origin, Tombstones};
use tiered_core::{
    Batch, Delete, ErrorKind, Existed, Feature, Key, Known, Lookup, Precondition, Put, ReadOptions,
};

use super::preconditions::put_condition_refused;
use super::writing::put_note_refused;
use crate::bench::Bench;
use crate::case::{Need, Verdict, check, check_equal, declare};

declare! {
    tombstone_hidden ["tombstone.hidden"] needs [Need::Has(Feature::KeepsNotes)] else put_note_refused;
    tombstone_shown ["tombstone.hidden", "read.peek"] needs [Need::Has(Feature::KeepsNotes)] else put_note_refused;
    tombstone_absent ["tombstone.hidden", "put.absent"] needs [Need::Has(Feature::KeepsNotes), Need::Has(Feature::ConditionalPut)] else tombstone_refused;
    tombstone_deleted ["tombstone.hidden", "delete.existed"] needs [Need::Has(Feature::KeepsNotes)] else put_note_refused;
}

fn hidden(origin: Origin) -> Put {
    Bench::noted(&Put::new(""), Note::default().with_origin(origin))
}

fn tombstone() -> Put {
    hidden(Origin::Tombstone)
}

async fn tombstone_hidden(bench: Bench) -> Verdict {
    for origin in [Origin::Tombstone, Origin::Absence, Origin::Part] {
        is_hidden(&bench, origin).await?;
    }
    Ok(())
}

async fn is_hidden(bench: &Bench, origin: Origin) -> Verdict {
    let (key, live) = (bench.key("b")?, bench.key("a")?);
    bench.put(&live, "live").await?;
    bench.put(&key, "old").await?;
    let version = bench.put(&key, hidden(origin)).await?.version;
    bench.expect_absent("tombstone.hidden", &key).await?;
    let peeked = bench.store.peek(&key);
    check("tombstone.hidden", peeked.is_none(), || format!("expected no peek of it, saw {peeked:?}"))?;
    bench.expect_names("tombstone.hidden", bench.everything(), &["a"]).await?;
    let (store, options) = (&bench.store, ReadOptions::new());
    let known = Known::from(version);
    for options in [options.clone().unless(known), options.clone().range(0..0), options.clone().range(5..6)] {
        let read = store.load(&key, &options).await?;
        check_equal("tombstone.hidden", "a tombstone", &Lookup::Absent, &read.lookup)?;
    }
    let many = bench.get_many(&[key.clone(), live], &options).await?;
    let hidden = many.first().is_some_and(|read| read.lookup == Lookup::Absent);
    check("tombstone.hidden", hidden, || format!("expected absent and found, saw {many:?}"))?;
    let stream = store.read_stream(&key, &options).await?;
    check("tombstone.hidden", stream.is_none(), || "expected no stream of a tombstone, saw one".to_owned())?;
    remove(bench, &key).await
}

/// Replaces the tombstone by an entry, so that the suite can list and remove it.
async fn remove(bench: &Bench, key: &Key) -> Verdict {
    bench.put(key, "live again").await?;
    bench.expect("tombstone.hidden", key, b"live again").await?;
    bench.store.delete(key, Delete::new()).await?;
    bench.expect_absent("delete.existed", key).await
}

async fn tombstone_shown(bench: Bench) -> Verdict {
    let key = bench.key("k")?;
    let version = bench.put(&key, tombstone()).await?.version;
    let options = ReadOptions::new().tombstones(Tombstones::Show);
    let read = bench.store.load(&key, &options).await?;
    let seen = read.entry().map(|entry| (entry.version().clone(), entry.metadata().note.origin));
    let expected = Some((version, Origin::Tombstone));
    check("tombstone.hidden", seen == expected || (bench.evicts && seen.is_none()), || {
        format!("shown: expected {expected:?}, saw {seen:?}")
    })?;
    peeked_hidden(&bench, &key).await?;
    bench.expect_names("tombstone.hidden", bench.everything().tombstones(Tombstones::Show), &["k"]).await?;
    remove(&bench, &key).await
}

/// A peek that shows what is hidden has what such a load has, or says nothing.
async fn peeked_hidden(bench: &Bench, key: &Key) -> Verdict {
    let show = ReadOptions::new().tombstones(Tombstones::Show);
    for put in [tombstone(), Put::new("live"), hidden(Origin::Part), tombstone()] {
        bench.put(key, put).await?;
        let loaded = bench.store.load(key, &show).await?.into_entry();
        let Some(peeked) = bench.store.peek_hidden(key) else { continue };
        let peeks = bench.has(Feature::Peeks) && loaded.as_ref() == Some(&peeked);
        check("read.peek", peeks || bench.evicts, || format!("expected {loaded:?} of {peeked:?}"))?;
    }
    bench.store.delete(key, Delete::new()).await?;
    let peeked = bench.store.peek_hidden(key);
    check("read.peek", peeked.is_none(), || format!("after the delete: saw {peeked:?}"))?;
    bench.put(key, tombstone()).await.map(drop)
}

async fn tombstone_absent(bench: Bench) -> Verdict {
    let key = bench.key("k")?;
    let version = bench.put(&key, tombstone()).await?.version;
    let result = bench.store.put(&key, bench.of("x").if_version(version)).await;
    bench.refused("tombstone.hidden", ErrorKind::PreconditionFailed, result)?;
    bench.put(&key, Put::new("new").if_absent()).await?;
    bench.expect("tombstone.hidden", &key, b"new").await?;
    remove(&bench, &key).await
}

async fn tombstone_refused(bench: Bench) -> Verdict {
    if bench.has(Feature::KeepsNotes) {
        put_condition_refused(bench).await
    } else {
        put_note_refused(bench).await
    }
}

async fn tombstone_deleted(bench: Bench) -> Verdict {
    let key = bench.key("k")?;
    bench.put(&key, tombstone()).await?;
    let deleted = bench.store.delete(&key, Delete::new().report_existed()).await?;
    check_equal("delete.existed", "existed of a tombstone", &Existed::No, &deleted.existed)?;
    if bench.has(Feature::ConditionalDelete) {
        bench.put(&key, tombstone()).await?;
        let absent = Delete::new().precondition(Precondition::Absent).report_existed();
        let deleted = bench.store.delete(&key, absent).await?;
        check_equal("delete.existed", "existed of a tombstone", &Existed::No, &deleted.existed)?;
    }
    bench.put(&key, tombstone()).await?;
    let batch = Batch::new().best_effort().delete(key.clone(), Delete::new().report_existed());
    for outcome in bench.store.apply(batch).await? {
        if let tiered_core::Applied::Delete(deleted) = outcome? {
            check_equal("delete.existed", "existed of a tombstone", &Existed::No, &deleted.existed)?;
        }
    }
    remove(&bench, &key).await
}
