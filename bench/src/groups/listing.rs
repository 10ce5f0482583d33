//! Listings: all keys in order.

use std::time::Instant;

use anyhow::{Result, ensure};
use futures_util::TryStreamExt as _;
use tiered::{ListOptions, Store};

use super::{Bench, Findings, Group};
use crate::measure::{self, Sample, Side};
use crate::peers::behind::{self, Log};
use crate::peers::raw_redb::RawRedb;
use crate::peers::source::Source;
use crate::peers::tiered::redb;
use crate::report::Case;
use crate::statistics::Waits;
use crate::targets;
use crate::workload::{Skew, Workload};

/// The group.
pub const GROUP: Group = Group {
    name: "listing",
    title: "Listings",
    about: "All keys in order, with their metadata, of a store with values of 100 B; p50 and p99 are waits for the first \
            key. The caches among the peers cannot list.",
    run: |bench| Box::pin(run(bench)),
};

const RAW: &str = "raw redb";

async fn run(bench: &Bench) -> Result<Findings> {
    let mut findings = Findings::default();
    let keys = bench.effort.pick(20_000, 200_000);
    let workload = Workload::new(keys, 100, Skew::InOrder);
    let folder = bench.room("listing")?;
    let raw = RawRedb::open(&folder.join("raw.redb"))?;
    raw.fill(&workload)?;
    let plain = redb(&folder.join("plain.redb")).await?;
    Source::new("redb", plain.clone()).fill(&workload).await?;
    let stack = behind::open(&folder, Log::Through).await?.0;
    Source::new("redb", std::sync::Arc::new(stack.clone())).fill(&workload).await?;
    let mut sides = vec![
        Side::new(RAW, false, || {
            let raw = raw.clone();
            Box::pin(async move { scan(&raw, keys) })
        }),
        listed("tiered redb, no tiers", &*plain, keys),
        listed(&Log::Through.stack(), &stack, keys),
    ];
    let measured = measure::in_turns(&mut sides, bench.effort.rounds()).await?;
    let case = Case {
        panel: "keys a second",
        name: &format!("{keys} keys"),
        unit: "/s",
        more_is_better: true,
        reference: RAW,
        target: targets::LISTING,
    };
    findings.rows.extend(case.rows(&measured));
    Ok(findings)
}

fn scan(raw: &RawRedb, keys: usize) -> Result<Sample> {
    let begun = Instant::now();
    ensure!(raw.scan()? == keys as u64, "keys are missing");
    Ok(Sample::of(keys as f64 / begun.elapsed().as_secs_f64()))
}

fn listed<'a>(name: &str, store: &'a dyn Store, keys: usize) -> Side<'a> {
    Side::new(name, true, move || {
        Box::pin(async move {
            let begun = Instant::now();
            let (mut waits, mut count) = (Waits::default(), 0);
            let mut listing = store.list(ListOptions::new());
            while let Some(listed) = listing.try_next().await? {
                std::hint::black_box(listed);
                if count == 0 {
                    waits.record(begun.elapsed());
                }
                count += 1;
            }
            ensure!(count == keys, "{count} of {keys} keys were listed");
            Ok(Sample { value: keys as f64 / begun.elapsed().as_secs_f64(), waits: Some(waits) })
        })
    })
}
