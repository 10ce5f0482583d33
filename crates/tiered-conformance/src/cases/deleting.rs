//! Deletes without a precondition.

use tiered_core::{Delete, Existed, ReadOptions};

use crate::bench::Bench;
use crate::case::{Verdict, check, check_equal, declare};

declare! {
    delete_existing ["delete.existed"];
    delete_absent ["delete.existed"];
    delete_then_put ["delete.existed", "put.replace"];
    delete_neighbours ["delete.existed"];
}

async fn delete_existing(bench: Bench) -> Verdict {
    let key = bench.key("k")?;
    for value in ["value", ""] {
        bench.put(&key, value).await?;
        let deleted = bench.store.delete(&key, Delete::new().report_existed()).await?;
        check(
            "delete.existed",
            deleted.existed == Existed::Yes || (bench.evicts && deleted.existed == Existed::No),
            || format!("expected existed, saw {:?}", deleted.existed),
        )?;
        bench.expect_absent("delete.existed", &key).await?;
        let fresh = bench.store.load(&key, &ReadOptions::new().authoritative()).await?;
        check("delete.existed", fresh.entry().is_none(), || {
            format!("expected no entry, the authority has {fresh:?}")
        })?;
        bench.expect_names("delete.existed", bench.everything(), &[]).await?;
    }
    Ok(())
}

async fn delete_absent(bench: Bench) -> Verdict {
    let key = bench.key("never")?;
    let deleted = bench.store.delete(&key, Delete::new().report_existed()).await?;
    check_equal("delete.existed", "existed of an absent key", &Existed::No, &deleted.existed)?;
    bench.put(&key, "value").await?;
    bench.store.delete(&key, Delete::new()).await?;
    let again = bench.store.delete(&key, Delete::new().report_existed()).await?;
    check_equal("delete.existed", "existed of a deleted key", &Existed::No, &again.existed)
}

async fn delete_then_put(bench: Bench) -> Verdict {
    let key = bench.key("k")?;
    for round in 0..bench.rounds(20) {
        let value = format!("value {round}");
        bench.put(&key, value.clone()).await?;
        bench.expect("put.replace", &key, value.as_bytes()).await?;
        bench.store.delete(&key, Delete::new()).await?;
        bench.expect_absent("delete.existed", &key).await?;
    }
    Ok(())
}

async fn delete_neighbours(bench: Bench) -> Verdict {
    let names = ["a", "a/", "a/b", "a/b/c", "aa", "b"];
    for name in names {
        bench.put(&bench.key(name)?, name).await?;
    }
    bench.store.delete(&bench.key("a")?, Delete::new()).await?;
    bench.store.delete(&bench.key("a/b")?, Delete::new()).await?;
    bench.expect_names("delete.existed", bench.everything(), &["a/", "a/b/c", "aa", "b"]).await?;
    for name in ["a/", "a/b/c", "aa", "b"] {
        bench.expect("delete.existed", &bench.key(name)?, name.as_bytes()).await?;
    }
    Ok(())
}
