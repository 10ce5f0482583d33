//! From Postgres to a file.

use std::sync::Arc;
use std::time::Instant;

use anyhow::{Result, ensure};
use tiered::Store;
use tiered::postgres::PostgresConfig;
use tiered_services::Service;

use super::{fresh, rate, synced};
use crate::groups::{Bench, Findings};
use crate::measure::{self, Side};
use crate::peers::raw_postgres::{CONNECTIONS, RawPostgres, SCHEMA};
use crate::peers::raw_redb::Records;
use crate::peers::source::Source;
use crate::report::{Case, Missing};
use crate::targets;
use crate::workload::{Skew, Workload};

const CURSOR: &str = "Postgres to redb, a cursor by hand";

pub(super) async fn run(bench: &Bench, findings: &mut Findings) -> Result<()> {
    let Some(url) = Service::Postgres.url() else {
        let why = format!("{} is not set", Service::Postgres.variable());
        findings.missing.push(Missing { what: "Postgres to redb".to_owned(), why });
        return Ok(());
    };
    let keys = bench.effort.pick(100_000, 1_000_000);
    let workload = Workload::new(keys, 100, Skew::InOrder);
    let raw = RawPostgres::create(&url).await?;
    raw.write_all(&workload, 1000, 4).await?;
    let config = PostgresConfig::from_url(&url)?.schema(SCHEMA).table("source").connections(CONNECTIONS);
    let from: Arc<dyn Store> = Arc::new(config.sweep(None).open().await?);
    Source::new("postgres", from.clone()).fill(&workload).await?;
    raw.analyze().await?;
    let mut sides = vec![
        Side::new(CURSOR, false, || {
            let (raw, path) = (raw.clone(), fresh(bench));
            Box::pin(async move {
                let to = Records::create(&path?)?;
                let begun = Instant::now();
                let copied = raw.copy_to(&to).await?;
                ensure!(copied == keys as u64, "{copied} of {keys} rows were copied");
                Ok(rate(keys, begun))
            })
        }),
        Side::new("tiered sync, Postgres to redb", true, || {
            Box::pin(synced(from.clone(), fresh(bench), keys))
        }),
    ];
    let measured = measure::in_cold_turns(&mut sides, bench.effort.long_rounds()).await?;
    let case = Case {
        panel: "keys a second, from Postgres",
        name: &format!("{keys} rows"),
        unit: "/s",
        more_is_better: true,
        reference: CURSOR,
        target: targets::SYNC,
    };
    findings.rows.extend(case.rows(&measured));
    drop(sides);
    from.close().await?;
    raw.remove().await
}
