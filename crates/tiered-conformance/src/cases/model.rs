//! Random sequences of operations, compared with a model after each step.

use std::collections::BTreeMap;

use tiered_core::{
    Batch, Delete, ErrorKind, Existed, Feature, ListOptions, Precondition, StoreExt as _, Version,
};

use crate::bench::{Bench, describe};
use crate::case::{Verdict, check, declare};
use crate::dice::bytes;

declare! {
    model_sequence ["put.replace", "read.whole", "delete.existed"];
    model_listing ["list.prefix", "list.after", "list.limit"];
}

/// Few names, so that operations meet; some are prefixes of others.
const NAMES: [&str; 6] = ["a", "a/b", "a0", "b", "b!", "ü"];

#[derive(Clone, Debug, PartialEq, Eq)]
struct Expected {
    value: bytes::Bytes,
    version: Version,
}

async fn model_sequence(bench: Bench) -> Verdict {
    let mut dice = bench.dice();
    let mut model: BTreeMap<&str, Expected> = BTreeMap::new();
    for step in 0..bench.rounds(300) {
        let name = dice.pick(&NAMES).copied().unwrap_or("a");
        let key = bench.key(name)?;
        let value = bytes(bench.largest(usize::try_from(dice.below(3000)).unwrap_or(0)), step);
        match dice.below(7) {
            0 | 1 => {
                let written = bench.put(&key, value.clone()).await?;
                model.insert(name, Expected { value, version: written.version });
            }
            2 => {
                let deleted = bench.store.delete(&key, Delete::new().report_existed()).await?;
                let existed = model.remove(name).is_some();
                let evicted = bench.evicts && deleted.existed == Existed::No;
                check("delete.existed", Existed::from(existed) == deleted.existed || evicted, || {
                    format!("step {step}, {name}: expected existed {existed}, saw {:?}", deleted.existed)
                })?;
            }
            3 if bench.has(Feature::ConditionalPut) => {
                let precondition = match model.get(name) {
                    Some(expected) if dice.below(2) == 0 => Precondition::Matches(expected.version.clone()),
                    _ => Precondition::Absent,
                };
                let evictable = bench.evicts && model.contains_key(name);
                let holds = precondition.holds(model.get(name).map(|expected| &expected.version));
                let put = bench.of(value.clone()).precondition(precondition);
                match bench.store.put(&key, put).await {
                    Ok(written) => {
                        check("put.absent", holds || evictable, || {
                            format!("step {step}: {name} was written, though its precondition does not hold")
                        })?;
                        model.insert(name, Expected { value, version: written.version });
                    }
                    Err(error) if error.kind() == ErrorKind::PreconditionFailed => {
                        check("put.matches", !holds || evictable, || {
                            format!("step {step}: {name} was refused, though its precondition holds")
                        })?;
                        if holds {
                            model.remove(name);
                        }
                    }
                    Err(error) => return Err(error.into()),
                }
            }
            4 => {
                let other = dice.pick(&NAMES).copied().unwrap_or("b");
                let batch = Batch::new()
                    .best_effort()
                    .put(key, value.clone())
                    .delete(bench.key(other)?, Delete::new().report_existed());
                let outcomes = bench.store.apply(batch).await?;
                for outcome in outcomes {
                    if let tiered_core::Applied::Put(written) = outcome? {
                        model.insert(name, Expected { value: value.clone(), version: written.version });
                    }
                }
                model.remove(other);
            }
            _ => {
                let seen = bench.store.get(&key).await?;
                let expected = model.get(name);
                let right = match (&seen, expected) {
                    (Some(entry), Some(expected)) => {
                        *entry.value() == expected.value && *entry.version() == expected.version
                    }
                    (None, None) => true,
                    (None, Some(_)) => bench.evicts,
                    (Some(_), None) => false,
                };
                check("read.whole", right, || {
                    let wanted =
                        expected.map_or_else(|| "nothing".to_owned(), |expected| describe(&expected.value));
                    format!("step {step}, {name}: expected {wanted}, saw {seen:?}")
                })?;
            }
        }
    }
    let names: Vec<&str> = model.keys().copied().collect();
    bench.expect_names("list.complete", bench.everything(), &names).await
}

async fn model_listing(bench: Bench) -> Verdict {
    let mut dice = bench.dice();
    let mut names: Vec<String> = Vec::new();
    for _ in 0..40 {
        let text: String =
            (0..=dice.below(3)).filter_map(|_| dice.pick(&["a", "b", "/", "é", "~"]).copied()).collect();
        bench.put(&bench.key(&text)?, "v").await?;
        names.push(text);
    }
    names.sort_unstable();
    names.dedup();
    for _ in 0..bench.rounds(60) {
        let inner = dice.pick(&["", "a", "b/", "é", "zz"]).copied().unwrap_or("");
        let after = names
            .get(usize::try_from(dice.below(names.len() as u64)).unwrap_or(0))
            .cloned()
            .unwrap_or_default();
        let limit = usize::try_from(dice.below(12)).unwrap_or(0);
        let mut options = ListOptions::new().prefix(format!("{}{inner}", bench.prefix)).limit(limit);
        let skips = dice.below(2) == 0;
        if skips {
            options = options.start_after(bench.key(&after)?);
        }
        let expected: Vec<&str> = names
            .iter()
            .map(String::as_str)
            .filter(|name| name.starts_with(inner) && (!skips || *name > after.as_str()))
            .take(limit)
            .collect();
        bench.expect_names("list.limit", options, &expected).await?;
    }
    Ok(())
}
