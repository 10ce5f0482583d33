//! An exclusive store is lent to one owner per scope.

use tiered_core::ErrorKind;
use tiered_core::adapter::Scope;

use crate::bench::Bench;
use crate::case::{Need, Verdict, check, declare, fail};

declare! {
    claim_overlap ["claim"] needs [Need::Sole] else claim_shared;
    claim_disjoint ["claim"] needs [Need::Sole] else claim_shared;
    claim_released ["claim"] needs [Need::Sole] else claim_shared;
}

fn scope(bench: &Bench, part: &str) -> Scope {
    Scope::prefix(&format!("{}{part}", bench.prefix))
}

async fn locked(bench: &Bench, scope: &Scope) -> Verdict {
    match bench.store.claim(scope).await {
        Err(error) if error.kind() == ErrorKind::Locked => Ok(()),
        Err(error) => {
            fail("claim", format!("a claim of {scope}: expected the error locked, saw \"{error}\""))
        }
        Ok(_) => fail(
            "claim",
            format!("a claim of {scope} beside another: expected the error locked, saw success"),
        ),
    }
}

async fn claim_overlap(bench: Bench) -> Verdict {
    let held = bench.store.claim(&scope(&bench, "a/")).await?;
    for scope in
        [scope(&bench, "a/"), scope(&bench, "a/b"), scope(&bench, ""), scope(&bench, "a"), Scope::Whole]
    {
        locked(&bench, &scope).await?;
    }
    // A claim does not block calls to the store.
    let key = bench.key("a/k")?;
    bench.put(&key, "value").await?;
    bench.expect("claim", &key, b"value").await?;
    drop(held);
    Ok(())
}

async fn claim_disjoint(bench: Bench) -> Verdict {
    let mut held = Vec::new();
    for part in ["a/", "b/", "ab", "c"] {
        match bench.store.claim(&scope(&bench, part)).await {
            Ok(claim) => held.push(claim),
            Err(error) => {
                return fail(
                    "claim",
                    format!("a claim beside disjoint ones: expected success, saw \"{error}\""),
                );
            }
        }
    }
    check("claim", held.len() == 4, || "expected four claims".to_owned())?;
    locked(&bench, &scope(&bench, "b/")).await
}

async fn claim_released(bench: Bench) -> Verdict {
    for round in 0..3 {
        let held = bench.store.claim(&scope(&bench, "a/")).await;
        let held = held.or_else(|error| {
            fail("claim", format!("round {round}: expected what was released to be free, saw \"{error}\""))
        })?;
        // A refused claim holds nothing.
        locked(&bench, &scope(&bench, "")).await?;
        drop(held);
        drop(bench.store.claim(&scope(&bench, "")).await.or_else(|error| {
            fail("claim", format!("round {round}: expected what was released to be free, saw \"{error}\""))
        })?);
    }
    Ok(())
}

/// A shared store grants every claim.
async fn claim_shared(bench: Bench) -> Verdict {
    let first = bench.store.claim(&scope(&bench, "a/")).await?;
    let second = bench.store.claim(&scope(&bench, "a/")).await?;
    drop((first, second));
    Ok(())
}
