//! `replay`: what memory tiers would have done for a log of accesses.

mod plot;
mod trace;

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use comfy_table::Table;
use futures_util::FutureExt as _;
use serde::Serialize;
use tiered::adapter::url::{format_bytes, parse_bytes};
use tiered::{Create, Durability, Feature, Put, Schemes, Store};

use crate::arguments::Replay;
use crate::exit::{Failure, OK};
use crate::output::Lines;
use crate::progress::Progress;

use trace::{Access, Summary, Trace};

/// Shares of what all entries would take, in thousandths: the capacities where none is given.
const SHARES: [u64; 5] = [5, 20, 50, 100, 250];

/// What an entry takes in memory beside its key and value, about: for those shares alone.
const BESIDE: u64 = 300;

/// The least capacity that is tried by itself.
const LEAST: u64 = 64 << 10;

/// What one tier of one capacity would have done.
#[derive(Debug, Serialize)]
struct Row {
    tier: String,
    capacity: u64,
    accesses: u64,
    hits: u64,
    /// In percent.
    hit_ratio: f64,
    /// Reads of the backend: the misses.
    backend_reads: u64,
    backend_bytes: u64,
    /// Bytes of the hits, which the backend did not have to send.
    saved_bytes: u64,
    /// Values that the tier does not take at this capacity; each access to one is a miss.
    too_large: u64,
}

impl Row {
    fn new(tier: &str, capacity: u64) -> Self {
        Self {
            tier: tier.to_owned(),
            capacity,
            accesses: 0,
            hits: 0,
            hit_ratio: 0.0,
            backend_reads: 0,
            backend_bytes: 0,
            saved_bytes: 0,
            too_large: 0,
        }
    }
}

pub(super) async fn run(schemes: &Schemes, order: &Replay, json: bool) -> Result<u8, Failure> {
    let trace = Trace::open(&order.trace, parse_bytes(&order.value_size)?)?;
    let summary = trace.summary()?;
    if summary.accesses == 0 {
        return Err(Failure::Usage(format!("{}: there is no access in it", order.trace.display())));
    }
    let capacities = capacities(order, &summary)?;
    let progress = Progress::new("accesses");
    let mut rows = Vec::new();
    for tier in &order.tier {
        for capacity in &capacities {
            let store = open(schemes, tier, *capacity).await?;
            rows.push(replay(&trace, &*store, tier, *capacity, &progress)?);
            store.close().await?;
        }
    }
    drop(progress);
    if let Some(path) = &order.plot {
        let failed = |error: Box<dyn std::error::Error>| {
            Failure::Io(path.display().to_string(), io::Error::other(error.to_string()))
        };
        plot::draw(path, &rows).map_err(failed)?;
    }
    if json {
        print_json(&rows)?;
    } else {
        print(&summary, &rows)?;
    }
    Ok(OK)
}

/// The capacities to try: those that were named, else shares of what all entries would take.
fn capacities(order: &Replay, summary: &Summary) -> Result<Vec<u64>, Failure> {
    if !order.capacity.is_empty() {
        let parsed: tiered::Result<Vec<u64>> = order.capacity.iter().map(|text| parse_bytes(text)).collect();
        return Ok(parsed?);
    }
    let all = summary.bytes.saturating_add(summary.keys * BESIDE);
    let mut capacities: Vec<u64> = SHARES.iter().map(|share| (all / 1_000 * share).max(LEAST)).collect();
    capacities.dedup();
    Ok(capacities)
}

/// Opens a tier of this capacity. Only tiers in memory: others would be written to.
async fn open(schemes: &Schemes, tier: &str, capacity: u64) -> Result<Arc<dyn Store>, Failure> {
    let separator = if tier.contains('?') { '&' } else { '?' };
    let refused = || Failure::Usage(format!("--tier {tier}: not a tier in memory; use quick: or moka:"));
    // A database on disk takes a capacity as well, and would be a cache from then on.
    let scheme = tier.split(':').next().and_then(|schemes| schemes.rsplit('+').next());
    if matches!(scheme, Some("redb" | "rocksdb")) {
        return Err(refused());
    }
    // What else is not in memory is never made by this, and knows no capacity.
    let store = schemes.open(&format!("{tier}{separator}capacity={capacity}"), Create::Never).await?;
    let capabilities = store.capabilities();
    let peeks = capabilities.has(Feature::Peeks) && capabilities.durability() == Durability::Volatile;
    if !peeks {
        return Err(refused());
    }
    Ok(store)
}

/// Asks the tier for each key, and fills it with what it lacks, as the frontend of a stack would be.
fn replay(
    trace: &Trace,
    store: &dyn Store,
    tier: &str,
    capacity: u64,
    progress: &Progress,
) -> Result<Row, Failure> {
    let mut row = Row::new(tier, capacity);
    let mut zeros = Bytes::new();
    trace.read(|Access { key, size }| {
        row.accesses += 1;
        progress.show(row.accesses);
        if store.peek(&key).is_some() {
            row.hits += 1;
            row.saved_bytes = row.saved_bytes.saturating_add(size);
            return Ok(());
        }
        row.backend_reads += 1;
        row.backend_bytes = row.backend_bytes.saturating_add(size);
        if size > store.capabilities().max_value() {
            row.too_large += 1;
            return Ok(());
        }
        let put = Put::new(value(&mut zeros, size));
        // A tier in memory waits for nothing.
        match store.put(&key, put).now_or_never() {
            Some(written) => Ok(written.map(drop)?),
            None => Err(Failure::Usage(format!("--tier {tier}: not a tier in memory; it waits"))),
        }
    })?;
    #[expect(clippy::cast_precision_loss, reason = "a percentage")]
    let percent = row.hits as f64 * 100.0 / row.accesses.max(1) as f64;
    row.hit_ratio = percent;
    Ok(row)
}

/// So many zeros. They are shared until a store copies them.
fn value(zeros: &mut Bytes, size: u64) -> Bytes {
    let size = usize::try_from(size).unwrap_or(usize::MAX);
    if zeros.len() < size {
        *zeros = vec![0; size].into();
    }
    zeros.slice(..size)
}

fn print(summary: &Summary, rows: &[Row]) -> Result<(), Failure> {
    #[expect(clippy::cast_precision_loss, reason = "a percentage")]
    let most = (summary.accesses - summary.keys) as f64 * 100.0 / summary.accesses as f64;
    let mut lines = Lines::new();
    lines.text(&format!(
        "{} accesses to {} keys, {} in all. A cache of any size has at most {most:.1} % hits: the first access to a key is a miss.",
        summary.accesses,
        summary.keys,
        format_bytes(summary.bytes),
    ))?;
    let mut table = Table::new();
    table.set_header([
        "tier",
        "capacity",
        "hits, %",
        "backend reads",
        "backend bytes",
        "bytes saved",
        "too large",
    ]);
    for row in rows {
        table.add_row([
            row.tier.clone(),
            format_bytes(row.capacity),
            format!("{:.1}", row.hit_ratio),
            row.backend_reads.to_string(),
            format_bytes(row.backend_bytes),
            format_bytes(row.saved_bytes),
            row.too_large.to_string(),
        ]);
    }
    lines.text(&table.to_string())?;
    lines.finish()
}

fn print_json(rows: &[Row]) -> Result<(), Failure> {
    let mut lines = Lines::new();
    for row in rows {
        lines.json(row)?;
    }
    lines.finish()
}
