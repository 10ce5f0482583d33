//! A store's own small named values.

use bytes::Bytes;
use tiered_core::{ErrorKind, Feature};

use crate::bench::Bench;
use crate::case::{Need, Verdict, check, check_equal, declare, fail};
use crate::dice::entropy;

declare! {
    marks_round_trip ["marks"] needs [Need::Has(Feature::KeepsMarks)] else marks_refused;
    marks_names ["marks.names"] needs [Need::Has(Feature::KeepsMarks)] else marks_refused;
    marks_hidden ["marks"] needs [Need::Has(Feature::KeepsMarks)] else marks_refused;
    marks_limits ["marks"] needs [Need::Has(Feature::KeepsMarks)] else marks_refused;
}

/// A name that no store uses itself.
fn name() -> String {
    format!("conformance.{:016x}", entropy())
}

async fn marks_round_trip(bench: Bench) -> Verdict {
    let (name, other) = (name(), name());
    let outcome = round_trip(&bench, &name, &other).await;
    // Marks are never listed, so the suite cannot find and remove them later.
    for name in [&name, &other] {
        bench.store.set_mark(name, None).await?;
    }
    outcome
}

async fn round_trip(bench: &Bench, name: &str, other: &str) -> Verdict {
    let store = &bench.store;
    check_equal("marks", "a mark that was never set", &None, &store.mark(name).await?)?;
    let every_byte: Vec<u8> = (0..=255).collect();
    for value in [Bytes::from("one"), Bytes::new(), Bytes::from(every_byte), Bytes::from(vec![7; 4096])] {
        store.set_mark(name, Some(value.clone())).await?;
        check_equal("marks", "the mark", &Some(value), &store.mark(name).await?)?;
        check_equal("marks", "another mark", &None, &store.mark(other).await?)?;
    }
    store.set_mark(name, None).await?;
    check_equal("marks", "a removed mark", &None, &store.mark(name).await?)?;
    store.set_mark(name, None).await?;
    Ok(())
}

async fn marks_names(bench: Bench) -> Verdict {
    let base = name();
    // The order of bytes is not that of any language; the last one only begins alike.
    let all: Vec<String> =
        ["-b", ".a", "0", "_z", "a", "z"].iter().map(|end| format!("{base}{end}")).collect();
    let outcome = names(&bench, &base, &all).await;
    for name in &all {
        bench.store.set_mark(name, None).await?;
    }
    outcome
}

async fn names(bench: &Bench, base: &str, all: &[String]) -> Verdict {
    let store = &bench.store;
    check_equal(
        "marks.names",
        "names before any is set",
        &Vec::<String>::new(),
        &store.mark_names(base).await?,
    )?;
    for name in all.iter().rev() {
        store.set_mark(name, Some(Bytes::from("mark"))).await?;
        // Set twice, it is there once.
        store.set_mark(name, Some(Bytes::new())).await?;
    }
    check_equal("marks.names", "the names", &all.to_vec(), &store.mark_names(base).await?)?;
    let some = store.mark_names(&format!("{base}.")).await?;
    check_equal(
        "marks.names",
        "the names with a longer prefix",
        &all.get(1..2).unwrap_or_default().to_vec(),
        &some,
    )?;
    for name in store.mark_names("").await? {
        check("marks.names", all.contains(&name) || !name.starts_with(base), || {
            format!("a mark that was never set: {name:?}")
        })?;
    }
    if let Some(first) = all.first() {
        store.set_mark(first, None).await?;
    }
    let rest = all.get(1..).unwrap_or_default().to_vec();
    check_equal("marks.names", "the names after one was removed", &rest, &store.mark_names(base).await?)
}

async fn marks_hidden(bench: Bench) -> Verdict {
    let name = name();
    let outcome = hidden(&bench, &name).await;
    bench.store.set_mark(&name, None).await?;
    outcome
}

async fn hidden(bench: &Bench, name: &str) -> Verdict {
    let key = bench.key("k")?;
    bench.put(&key, "value").await?;
    bench.store.set_mark(name, Some(Bytes::from("mark"))).await?;
    bench.expect_names("marks", bench.everything(), &["k"]).await?;
    // A key of the mark's name is no mark: looked for, not written, since it lies outside of the prefix.
    for listed in bench.list(tiered_core::ListOptions::new().prefix("conformance.")).await? {
        check("marks", !listed.key.as_str().contains(name), || {
            format!("the mark {name} is listed: {listed:?}")
        })?;
    }
    bench.expect_absent("marks", &tiered_core::Key::new(name)?).await?;
    bench.put(&key, bench.of("other")).await?;
    check_equal("marks", "the mark", &Some(Bytes::from("mark")), &bench.store.mark(name).await?)
}

async fn marks_limits(bench: Bench) -> Verdict {
    let long = "n".repeat(65);
    for name in ["", "Upper", "sla/sh", "ünicode", " ", long.as_str()] {
        invalid(name, bench.store.set_mark(name, Some(Bytes::from("x"))).await)?;
        invalid(name, bench.store.mark(name).await)?;
    }
    let name = name();
    invalid(&name, bench.store.set_mark(&name, Some(Bytes::from(vec![0; 4097]))).await)?;
    check_equal("marks", "a refused mark", &None, &bench.store.mark(&name).await?)
}

fn invalid<T>(name: &str, result: tiered_core::Result<T>) -> Verdict {
    match result {
        Err(error) if error.kind() == ErrorKind::InvalidInput => Ok(()),
        Err(error) => fail("marks", format!("the mark {name:?}: expected invalid input, saw \"{error}\"")),
        Ok(_) => fail("marks", format!("the mark {name:?}: expected the error invalid input, saw success")),
    }
}

pub(super) async fn marks_refused(bench: Bench) -> Verdict {
    let name = name();
    let unsupported = ErrorKind::Unsupported;
    bench.refused("marks", unsupported, bench.store.set_mark(&name, Some(Bytes::from("x"))).await)?;
    bench.refused("marks", unsupported, bench.store.mark(&name).await)?;
    bench.refused("marks.names", unsupported, bench.store.mark_names("").await)?;
    Ok(())
}
