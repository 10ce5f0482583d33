//! Two handles of one place, as two processes have them.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use tiered_core::adapter::{Change, ChangeStream};
use tiered_core::{Delete, ErrorKind, Feature, Key, Lookup, Read, ReadOptions, Sharing, Store};

use super::life::one_handle;
use super::preconditions::put_condition_refused;
use crate::bench::Bench;
use crate::case::{Need, Stop, Verdict, check, declare, fail};
use crate::watch::within;

declare! {
    handles_read ["handles"] needs [Need::Place, Need::Shared] else one_handle;
    handles_list ["handles", "list.complete"] needs [Need::Place, Need::Shared] else one_handle;
    handles_conditions ["handles", "put.matches"] needs [Need::Place, Need::Shared, Need::Has(Feature::ConditionalPut)] else conditions_refused;
    handles_race ["handles", "put.absent"] needs [Need::Place, Need::Shared, Need::Has(Feature::ConditionalPut)] else conditions_refused;
    changes_announced ["changes"] needs [Need::Place, Need::Has(Feature::Changes)] else changes_refused;
}

/// How long a feed may take to tell of a change. It is a hint, and no server needs a tenth of it.
const TOLD: Duration = Duration::from_secs(20);

async fn conditions_refused(bench: Bench) -> Verdict {
    if bench.capabilities.sharing() == Sharing::Exclusive {
        one_handle(bench).await
    } else {
        put_condition_refused(bench).await
    }
}

/// Two handles of a place of the case's own.
async fn two(bench: &Bench) -> Verdict<(Bench, Bench)> {
    let place = bench.place()?;
    let first = place.open().await?;
    match place.open().await {
        Ok(second) => Ok((Bench { store: first, ..bench.clone() }, Bench { store: second, ..bench.clone() })),
        Err(error) if error.kind() == ErrorKind::Locked => {
            first.close().await?;
            Err(Stop::Refused("a tier of the stack belongs to one handle at a time".to_owned()))
        }
        Err(error) => Err(error.into()),
    }
}

async fn close(first: Bench, second: Bench) -> Verdict {
    first.store.close().await?;
    Ok(second.store.close().await?)
}

/// What `bench` is told by the authority about `key`.
async fn told(bench: &Bench, key: &Key) -> Verdict<Read> {
    let read = bench.store.load(key, &ReadOptions::new().authoritative()).await?;
    let head = bench.store.head(key, &ReadOptions::new().authoritative()).await?;
    let agree = match (&head, read.entry()) {
        (Some(head), Some(entry)) => head.agrees_with(entry.metadata()),
        (head, entry) => head.is_none() && entry.is_none(),
    };
    check("read.head", agree, || format!("expected head to agree with {read:?}, saw {head:?}"))?;
    Ok(read)
}

async fn expect(bench: &Bench, key: &Key, value: &str) -> Verdict {
    let read = told(bench, key).await?;
    check("handles", bench.is(read.entry(), value.as_bytes()), || {
        format!("expected {value:?} as the other handle wrote it, saw {read:?}")
    })
}

async fn handles_read(bench: Bench) -> Verdict {
    let (first, second) = two(&bench).await?;
    let (key, other) = (bench.key("k")?, bench.key("other")?);
    for value in ["one", "two", ""] {
        first.put(&key, value).await?;
        first.store.flush().await?;
        expect(&second, &key, value).await?;
        // Twice: what the second handle has read it must not take for what is there.
        expect(&second, &key, value).await?;
    }
    first.store.delete(&key, Delete::new()).await?;
    first.store.flush().await?;
    let read = told(&second, &key).await?;
    check("handles", read.lookup == Lookup::Absent, || {
        format!("expected nothing after the other handle's delete, saw {read:?}")
    })?;
    // An absence is not remembered either.
    let read = told(&second, &other).await?;
    check("handles", read.lookup == Lookup::Absent, || format!("expected nothing, saw {read:?}"))?;
    first.put(&other, "new").await?;
    first.store.flush().await?;
    expect(&second, &other, "new").await?;
    close(first, second).await
}

async fn handles_list(bench: Bench) -> Verdict {
    let (first, second) = two(&bench).await?;
    for name in ["a", "b"] {
        first.put(&bench.key(name)?, name).await?;
    }
    first.store.flush().await?;
    second.expect_names("handles", bench.everything(), &["a", "b"]).await?;
    first.store.delete(&bench.key("a")?, Delete::new()).await?;
    first.put(&bench.key("c")?, "c").await?;
    first.store.flush().await?;
    second.expect_names("handles", bench.everything(), &["b", "c"]).await?;
    close(first, second).await
}

async fn handles_conditions(bench: Bench) -> Verdict {
    let (first, second) = two(&bench).await?;
    let key = bench.key("k")?;
    let failed = ErrorKind::PreconditionFailed;
    let old = first.put(&key, "one").await?.version;
    first.store.flush().await?;
    expect(&second, &key, "one").await?;
    let current = first.put(&key, "two").await?.version;
    first.store.flush().await?;
    // By what the second handle has read, both would hold.
    bench.refused("handles", failed, second.store.put(&key, bench.of("x").if_version(old.clone())).await)?;
    bench.refused("handles", failed, second.store.put(&key, bench.of("x").if_absent()).await)?;
    expect(&second, &key, "two").await?;
    second.put(&key, bench.of("three").if_version(current.clone())).await?;
    second.store.flush().await?;
    bench.refused(
        "handles",
        failed,
        first.store.put(&key, bench.of("x").if_version(current.clone())).await,
    )?;
    if bench.has(Feature::ConditionalDelete) {
        let stale = Delete::new().if_version(current);
        bench.refused("handles", failed, first.store.delete(&key, stale).await)?;
    }
    expect(&first, &key, "three").await?;
    close(first, second).await
}

async fn handles_race(bench: Bench) -> Verdict {
    let (first, second) = two(&bench).await?;
    for round in 0..bench.rounds(6) {
        let key = bench.key(&format!("k{round}"))?;
        let parts = (0..16)
            .map(|index| {
                let store: Arc<dyn Store> =
                    Arc::clone(if index % 2 == 0 { &first.store } else { &second.store });
                let (put, key) = (bench.of(format!("{index}")).if_absent(), key.clone());
                Bench::part(async move {
                    match store.put(&key, put).await {
                        Ok(_) => Ok(Some(index)),
                        Err(error) => {
                            crate::bench::refusal("handles", ErrorKind::PreconditionFailed, &error)?;
                            Ok(None)
                        }
                    }
                })
            })
            .collect();
        let winners: Vec<i32> = bench.all(parts).await?.into_iter().flatten().collect();
        check("handles", winners.len() == 1 || bench.evicts, || {
            format!("expected one of 16 writers of two handles to create the entry, saw {winners:?}")
        })?;
    }
    close(first, second).await
}

/// Waits until the feed tells of `key`, or that anything may have changed.
async fn wait(feed: &mut ChangeStream, key: &Key, what: &str) -> Verdict {
    let told = within(TOLD, async {
        loop {
            match feed.next().await {
                Some(Change::Key { key: changed, .. }) if changed != *key => {}
                Some(_) => return true,
                None => return false,
            }
        }
    });
    match told.await {
        Some(true) => Ok(()),
        Some(false) => fail("changes", "expected a feed that goes on, saw its end"),
        None => fail("changes", format!("expected the feed to tell of {what}, saw nothing for 20 s")),
    }
}

async fn changes_announced(bench: Bench) -> Verdict {
    let (first, second) = two(&bench).await?;
    let Some(mut feed) = first.store.changes() else {
        return fail("changes", "expected a feed, since Changes is declared; saw none");
    };
    // The first event may be that anything has changed; the later ones are then about what is written here.
    for name in ["a", "b", "c"] {
        let key = bench.key(name)?;
        second.put(&key, name).await?;
        second.store.flush().await?;
        wait(&mut feed, &key, "a put of another handle").await?;
    }
    let key = bench.key("b")?;
    second.store.delete(&key, Delete::new()).await?;
    second.store.flush().await?;
    wait(&mut feed, &key, "a delete of another handle").await?;
    drop(feed);
    close(first, second).await
}

async fn changes_refused(bench: Bench) -> Verdict {
    let changes = bench.store.changes().is_some();
    check("changes", !changes, || "expected no feed, since Changes is not declared; saw one".to_owned())
}
