//! Hit ratios: how often each eviction policy has what a trace asks for.

use std::time::Instant;

use anyhow::Result;

use super::{Bench, Findings, Group};
use crate::measure::{self, Sample, Side};
use crate::peers::evicting::{self, Evicting, Keys};
use crate::report::{Case, Missing, Row, markdown};
use crate::targets;
use crate::traces::{Trace, format, synthetic};

/// The group.
pub const GROUP: Group = Group {
    name: "ratio",
    title: "Hit ratios",
    about: "The share of accesses that are hits, over traces, at five capacities: parts of the keys that a trace has. A \
            miss puts the key into the cache. All sides hold the same number of entries.",
    run: |bench| Box::pin(run(bench)),
};

/// Capacities, in parts of 1,000 of a trace's keys.
const CAPACITIES: [(usize, &str); 5] =
    [(5, "0.5 % of the keys"), (20, "2 %"), (50, "5 %"), (100, "10 %"), (250, "25 %")];

/// A capacity below which a policy that shards has nothing to decide.
const LEAST: usize = 64;

async fn run(bench: &Bench) -> Result<Findings> {
    let length = bench.effort.pick(300_000, 1_000_000);
    let mut findings = Findings { missing: missing(bench), ..Findings::default() };
    let mut traces = synthetic::all(length).to_vec();
    for path in &bench.traces {
        let trace = format::read(path)?;
        let whole = trace.accesses.len();
        let trace = trace.beginning(bench.effort.pick(length, whole));
        if trace.accesses.len() < whole {
            findings.notes.push(format!(
                "{}: the first {} of {} accesses",
                trace.name,
                markdown::figure(trace.accesses.len() as f64),
                markdown::figure(whole as f64)
            ));
        }
        traces.push(trace);
    }
    for trace in &traces {
        let begun = Instant::now();
        findings.rows.extend(of_trace(bench, trace).await?);
        findings.notes.push(format!(
            "{}: {} accesses, {} keys, {} s",
            trace.name,
            markdown::figure(trace.accesses.len() as f64),
            markdown::figure(trace.keys as f64),
            begun.elapsed().as_secs()
        ));
    }
    Ok(findings)
}

fn missing(bench: &Bench) -> Vec<Missing> {
    let missing = |what: &str, why: &str| Missing { what: what.to_owned(), why: why.to_owned() };
    let mut all = vec![
        missing("cachet, multi-tier-cache", "their memory tiers are moka with TinyLFU, which is there"),
        missing("memory beyond the default policy of tiered's tiers", "the tiers have one policy each"),
    ];
    if bench.traces.is_empty() {
        all.push(missing("traces of real caches", "none was given by `--trace FILE`"));
    }
    all
}

async fn of_trace(bench: &Bench, trace: &Trace) -> Result<Vec<Row>> {
    let keys = Keys::of(trace.keys);
    let mut rows = Vec::new();
    for (part, case) in CAPACITIES {
        let entries = (trace.keys * part / 1000).max(LEAST);
        let mut sides: Vec<Side<'_>> =
            evicting::ALL.iter().map(|of| side(of, trace, &keys, entries)).collect();
        sides.extend(evicting::tiers(&keys)?.into_iter().map(|tier| {
            let name = tier.name.clone();
            let keys = &keys;
            Side::new(name, true, move || {
                let counted = tier.open(entries).and_then(|mut cache| share(trace, keys, &mut *cache));
                Box::pin(async move { Ok(Sample::of(counted?)) })
            })
        }));
        let measured = measure::in_cold_turns(&mut sides, bench.effort.pick(1, 3)).await?;
        let case = Case {
            panel: &trace.name,
            name: case,
            unit: "%",
            more_is_better: true,
            reference: "moka LRU",
            target: targets::HIT_RATIO,
        };
        rows.extend(case.rows(&measured));
    }
    Ok(rows)
}

fn side<'a>(policy: &'a evicting::Policy, trace: &'a Trace, keys: &'a Keys, entries: usize) -> Side<'a> {
    Side::new(policy.name, false, move || {
        let counted = share(trace, keys, &mut *(policy.open)(entries));
        Box::pin(async move { Ok(Sample::of(counted?)) })
    })
}

/// The percentage of hits.
fn share(trace: &Trace, keys: &Keys, cache: &mut dyn Evicting) -> Result<f64> {
    let mut hits = 0_u64;
    for key in &trace.accesses {
        hits += u64::from(cache.access(*key, keys)?);
    }
    Ok(hits as f64 * 100.0 / trace.accesses.len() as f64)
}
