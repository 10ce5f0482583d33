//! Entries that stop existing.

use std::sync::Arc;
use std::time::Duration;

use tiered_core::adapter::Clock as _;
use tiered_core::testing::ManualClock;
use tiered_core::{Batch, Delete, ErrorKind, Existed, Feature, Key, Known, ListOptions, Lookup, ReadOptions};

use super::preconditions::put_condition_refused;
use crate::bench::Bench;
use crate::case::{Need, Stop, Verdict, check, check_equal, declare, fail};
use crate::watch::pause;

declare! {
    expiry_past ["read.expired"] pace Alone;
    expiry_after ["read.expired"] pace Alone;
    expiry_boundary ["read.expired"] needs [Need::Clock] pace Alone;
    expiry_reads ["read.expired", "read.peek", "read.head", "read.many", "read.stream", "read.range"] pace Alone;
    expiry_listed ["list.expired"] needs [Need::Has(Feature::ListsExpiry)] pace Alone else expiry_unlisted;
    expiry_put_absent ["put.absent", "read.expired"] needs [Need::Has(Feature::ConditionalPut)] pace Alone else put_condition_refused;
    expiry_put_matches ["put.matches", "read.expired"] needs [Need::Has(Feature::ConditionalPut)] pace Alone else put_condition_refused;
    expiry_delete ["delete.existed", "read.expired"] pace Alone;
    expiry_replaced ["put.replace", "read.expired"] pace Alone;
    expiry_batch ["batch.judged", "delete.existed", "read.expired"] pace Alone;
}

/// Puts an entry that has expired when this returns: by the manual clock where there is one, else at once.
pub(super) async fn expired(bench: &Bench, key: &Key) -> Verdict<tiered_core::Version> {
    let Some(clock) = &bench.clock else {
        return Ok(bench.put_expiring(key, bench.of("expired").expires_at(bench.now())).await?.version);
    };
    let put = bench.of("expired").expires_in(Duration::from_mins(1));
    let version = bench.put_expiring(key, put).await?.version;
    bench.expect("read.expired", key, b"expired").await?;
    clock.advance(Duration::from_mins(1));
    Ok(version)
}

async fn expiry_past(bench: Bench) -> Verdict {
    let key = bench.key("k")?;
    // An entry that was there before must not be seen instead.
    bench.put(&key, "old").await?;
    bench.put_expiring(&key, bench.of("past").expires_at(bench.now())).await?;
    bench.expect_absent("read.expired", &key).await
}

async fn expiry_after(bench: Bench) -> Verdict {
    let key = bench.key("k")?;
    if let Some(clock) = bench.clock.clone() {
        bench.put_expiring(&key, bench.of("value").expires_in(Duration::from_mins(1))).await?;
        clock.advance(Duration::from_secs(59));
        bench.expect("read.expired", &key, b"value").await?;
        clock.advance(Duration::from_secs(1));
        return bench.expect_absent("read.expired", &key).await;
    }
    bench.put_expiring(&key, bench.of("value").expires_in(Duration::from_millis(40))).await?;
    // Without a clock to move, real time has to pass: 5 s are far more than 40 ms on any machine.
    for _ in 0..1000 {
        let before = bench.now();
        let Some(entry) = bench.load(&key).await? else {
            return bench.expect_absent("read.expired", &key).await;
        };
        match entry.metadata().expires_at {
            Some(at) if before < at => pause(Duration::from_millis(5)).await,
            Some(at) => {
                return fail("read.expired", format!("read at {before:?} an entry that expired at {at:?}"));
            }
            None => return fail("read.expired", "expected an expiry in the metadata, saw none"),
        }
    }
    fail("read.expired", "expected the entry of 40 ms to be gone after 5 s, saw it still")
}

fn clock(bench: &Bench) -> Verdict<&Arc<ManualClock>> {
    bench.clock.as_ref().ok_or_else(|| Stop::Skipped("the factory has no manual clock".to_owned()))
}

async fn expiry_boundary(bench: Bench) -> Verdict {
    let key = bench.key("k")?;
    let clock = clock(&bench)?;
    let at = clock.now().saturating_add(Duration::from_secs(1));
    bench.put_expiring(&key, bench.of("value").expires_at(at)).await?;
    clock.advance(Duration::from_millis(999));
    bench.expect("read.expired", &key, b"value").await?;
    let Some(entry) = bench.present("read.expired", &key).await? else { return Ok(()) };
    check_equal("put.replace", "the expiry", &Some(at), &entry.metadata().expires_at)?;
    clock.advance(Duration::from_millis(1));
    bench.expect_absent("read.expired", &key).await?;
    clock.advance(Duration::from_secs(1 << 28));
    bench.expect_absent("read.expired", &key).await
}

async fn expiry_reads(bench: Bench) -> Verdict {
    let (key, live) = (bench.key("k")?, bench.key("live")?);
    bench.put(&live, "live").await?;
    expired(&bench, &key).await?;
    bench.expect_absent("read.expired", &key).await?;
    let store = &bench.store;
    let options = ReadOptions::new();
    let peek = store.peek(&key);
    check("read.peek", peek.is_none(), || format!("expected nothing, peek saw {peek:?}"))?;
    let stream = store.read_stream(&key, &options).await?;
    check("read.stream", stream.is_none(), || "expected no stream of an expired entry, saw one".to_owned())?;
    let part = store.load(&key, &options.clone().range(0..2)).await?;
    check_equal("read.range", "a part of an expired entry", &Lookup::Absent, &part.lookup)?;
    let beyond = store.load(&key, &options.clone().range(90..99)).await?;
    check_equal("read.range", "a range beyond an expired entry", &Lookup::Absent, &beyond.lookup)?;
    let fresh = store.load(&key, &options.clone().authoritative()).await?;
    check_equal("read.expired", "an expired entry, from the authority", &Lookup::Absent, &fresh.lookup)?;
    let many = bench.get_many(&[key.clone(), live.clone()], &options).await?;
    let lookups: Vec<bool> = many.iter().map(|read| read.entry().is_some()).collect();
    let expected = matches!(lookups.as_slice(), [false, found] if *found || bench.evicts);
    check("read.many", expected, || format!("expected absent and found, saw {lookups:?}"))?;
    bench.expect("read.expired", &live, b"live").await
}

async fn expiry_listed(bench: Bench) -> Verdict {
    for name in ["a", "c"] {
        bench.put(&bench.key(name)?, "live").await?;
    }
    expired(&bench, &bench.key("b")?).await?;
    bench.expect_names("list.expired", bench.everything(), &["a", "c"]).await?;
    // A hidden entry does not count towards a limit.
    bench.expect_names("list.expired", bench.everything().limit(2), &["a", "c"]).await?;
    let after: ListOptions = bench.everything().start_after(bench.key("b")?);
    bench.expect_names("list.expired", after, &["c"]).await
}

/// A listing may show an expired entry; reads hide it, and the live ones are listed around it.
async fn expiry_unlisted(bench: Bench) -> Verdict {
    for name in ["a", "c"] {
        bench.put(&bench.key(name)?, "live").await?;
    }
    let key = bench.key("b")?;
    expired(&bench, &key).await?;
    bench.expect_absent("read.expired", &key).await?;
    let mut names = bench.names(bench.everything()).await?;
    names.retain(|name| name != "b");
    let all = names == ["a", "c"];
    check("list.expired", all || bench.evicts, || format!("expected the live keys a and c, saw {names:?}"))
}

async fn expiry_put_absent(bench: Bench) -> Verdict {
    let key = bench.key("k")?;
    expired(&bench, &key).await?;
    bench.put(&key, bench.of("new").if_absent()).await?;
    bench.expect("put.absent", &key, b"new").await
}

async fn expiry_put_matches(bench: Bench) -> Verdict {
    let key = bench.key("k")?;
    let version = expired(&bench, &key).await?;
    let known = Known::from(version.clone());
    let read = bench.store.load(&key, &ReadOptions::new().unless(known)).await?;
    check_equal("read.unless", "a known entry that expired", &Lookup::Absent, &read.lookup)?;
    let result = bench.store.put(&key, bench.of("resurrected").if_version(version)).await;
    bench.refused("put.matches", ErrorKind::PreconditionFailed, result)?;
    bench.expect_absent("put.matches", &key).await
}

async fn expiry_delete(bench: Bench) -> Verdict {
    let key = bench.key("k")?;
    expired(&bench, &key).await?;
    let deleted = bench.store.delete(&key, Delete::new().report_existed()).await?;
    check_equal("delete.existed", "existed of an expired entry", &Existed::No, &deleted.existed)?;
    bench.expect_absent("delete.existed", &key).await
}

async fn expiry_replaced(bench: Bench) -> Verdict {
    let key = bench.key("k")?;
    expired(&bench, &key).await?;
    bench.put(&key, "stays").await?;
    bench.expect("put.replace", &key, b"stays").await?;
    // A put without an expiry takes that of the entry before it away.
    bench.put_expiring(&key, bench.of("short").expires_in(Duration::from_mins(1))).await?;
    bench.put(&key, "stays again").await?;
    if let Some(clock) = &bench.clock {
        clock.advance(Duration::from_secs(61));
    }
    bench.expect("put.replace", &key, b"stays again").await
}

async fn expiry_batch(bench: Bench) -> Verdict {
    let (a, b) = (bench.key("a")?, bench.key("b")?);
    expired(&bench, &a).await?;
    expired(&bench, &b).await?;
    let put = if bench.has(Feature::ConditionalPut) { bench.of("new").if_absent() } else { bench.of("new") };
    let batch =
        Batch::new().best_effort().put(a.clone(), put).delete(b.clone(), Delete::new().report_existed());
    for outcome in bench.store.apply(batch).await? {
        if let tiered_core::Applied::Delete(deleted) = outcome? {
            check_equal("delete.existed", "existed of an expired entry", &Existed::No, &deleted.existed)?;
        }
    }
    bench.expect("batch.judged", &a, b"new").await?;
    bench.expect_absent("read.expired", &b).await
}
