//! Stores of tiered beside what lies beneath them: the same engine or client by itself, used by hand.

use anyhow::Result;

use super::{Bench, Findings, Group, sides};
use crate::measure;
use crate::peers::Contender;
use crate::peers::drive::{Figure, Operation, Work};
use crate::peers::raw_redb::Records;
use crate::peers::source::Source;
use crate::peers::tiered::{Plain, redb};
use crate::report::{Case, Missing, Row};
use crate::targets::{self, Target};
use crate::workload::{Skew, Workload};

/// The group.
pub const GROUP: Group = Group {
    name: "engines",
    title: "What lies beneath, by itself",
    about: "Reads of 20,000 keys with values of 1,000 B, and writes of 100 B to 10,000 keys, each timed until its answer: by a \
            store of tiered, and by the engine or the client beneath it, used by hand with the same durability. By hand means \
            records of version, time and value with a checksum, copied out of the engine and checked when they are read.",
    run: |bench| Box::pin(run(bench)),
};

/// Keys of one call.
const CALL: usize = 1000;

/// Tasks that work at once.
const TASKS: [(usize, &str); 3] = [(1, "1 task"), (8, "8 tasks"), (64, "64 tasks")];

async fn run(bench: &Bench) -> Result<Findings> {
    let mut findings = Findings::default();
    in_redb(bench, &mut findings).await?;
    in_rocksdb(bench, &mut findings).await?;
    on_servers(bench, &mut findings).await?;
    Ok(findings)
}

/// What reads are made of.
fn values() -> Workload {
    Workload::new(20_000, 1000, Skew::Uniform)
}

/// Sides of which the first is used by hand.
struct Panel {
    name: String,
    contenders: Vec<Contender>,
}

impl Panel {
    /// Measures an operation; waits are timed.
    async fn measure(
        &self,
        bench: &Bench,
        (operation, workload): (Operation, &Workload),
        (tasks, case): (usize, &str),
        target: Target,
    ) -> Result<Vec<Row>> {
        let (figure, unit, slice) = match operation {
            Operation::Put => (Figure::Rate, "/s", bench.effort.disk_slice()),
            Operation::Get | Operation::GetMany(_) | Operation::Mix(_) => {
                (Figure::Nanoseconds, "ns", 2 * bench.effort.slice())
            }
        };
        let work = Work { operation, workload: workload.clone(), tasks, time: slice, is_timed: true, figure };
        let measured = measure::in_turns(&mut sides(&self.contenders, &work), bench.effort.rounds()).await?;
        let case = Case {
            panel: &self.name,
            name: case,
            unit,
            more_is_better: matches!(figure, Figure::Rate),
            reference: self.contenders.first().map_or("", |first| first.name.as_str()),
            target,
        };
        Ok(case.rows(&measured))
    }

    /// Reads of one key by 1 and 8 tasks, and of many by one call.
    async fn reads(&self, bench: &Bench, workload: &Workload, one: Target, many: Target) -> Result<Vec<Row>> {
        let mut rows = Vec::new();
        for tasks in TASKS.iter().take(2) {
            rows.extend(self.measure(bench, (Operation::Get, workload), *tasks, one).await?);
        }
        // No key twice in one call.
        let in_order = Workload::new(workload.names.len(), workload.value.len(), Skew::InOrder);
        let many_keys = (Operation::GetMany(CALL), &in_order);
        rows.extend(self.measure(bench, many_keys, (1, "1,000 keys by one call"), many).await?);
        Ok(rows)
    }
}

async fn in_redb(bench: &Bench, findings: &mut Findings) -> Result<()> {
    let (folder, workload) = (bench.room("engines-redb")?, values());
    let store = redb(&folder.join("ours.redb")).await?;
    Source::new("redb", store.clone()).fill(&workload).await?;
    let by_hand =
        Contender::theirs("redb by hand", Records::filled(&folder.join("by-hand.redb"), &workload)?);
    let panel = Panel {
        name: "reads of redb".to_owned(),
        contenders: vec![by_hand, Contender::ours("tiered redb", Plain(store.clone()))],
    };
    let rows = panel.reads(bench, &workload, targets::ENGINE_READ, targets::ENGINE_READ_MANY).await?;
    findings.rows.extend(rows);
    store.close().await?;
    Ok(())
}

#[cfg(not(feature = "rocksdb"))]
#[expect(clippy::unused_async, reason = "it is called as where it is built")]
async fn in_rocksdb(_: &Bench, findings: &mut Findings) -> Result<()> {
    findings.missing.push(not_built("RocksDB", "rocksdb"));
    Ok(())
}

#[cfg(feature = "rocksdb")]
async fn in_rocksdb(bench: &Bench, findings: &mut Findings) -> Result<()> {
    use tiered::Store as _;

    use crate::peers::group_commit::GroupCommit;
    use crate::peers::raw_rocksdb::RawRocksdb;
    use crate::peers::tiered::{DEFAULT, Stack, rocksdb};

    let (folder, workload) = (bench.room("engines-rocksdb")?, values());
    let store = rocksdb(&folder.join("ours")).await?;
    Source::new("rocksdb", store.clone()).fill(&workload).await?;
    let by_hand = RawRocksdb::filled(&folder.join("by-hand"), &workload)?;
    let panel = Panel {
        name: "reads of RocksDB".to_owned(),
        contenders: vec![
            Contender::theirs("RocksDB by hand", by_hand),
            Contender::ours("tiered rocksdb", Plain(store.clone())),
        ],
    };
    let rows = panel.reads(bench, &workload, targets::ENGINE_READ, targets::ENGINE_READ_MANY).await?;
    findings.rows.extend(rows);
    store.close().await?;

    let (plain, backend) = (rocksdb(&folder.join("plain")).await?, rocksdb(&folder.join("through")).await?);
    let stack = tiered::TieredStore::builder((DEFAULT.open)(1 << 30)?, backend).build().await?;
    let panel = Panel {
        name: "writes to RocksDB".to_owned(),
        contenders: vec![
            Contender::theirs(
                "RocksDB, group commit by hand",
                GroupCommit::over_rocksdb(&folder.join("group"))?,
            ),
            Contender::ours("tiered rocksdb", Plain(plain.clone())),
            Contender::ours(DEFAULT.stack("rocksdb"), Stack(stack.clone())),
        ],
    };
    let workload = Workload::new(10_000, 100, Skew::Uniform);
    for tasks in TASKS {
        let writes = (Operation::Put, &workload);
        findings.rows.extend(panel.measure(bench, writes, tasks, targets::WRITE_THROUGH).await?);
    }
    plain.close().await?;
    stack.close().await?;
    Ok(())
}

#[cfg(not(feature = "servers"))]
#[expect(clippy::unused_async, reason = "it is called as where it is built")]
async fn on_servers(_: &Bench, findings: &mut Findings) -> Result<()> {
    findings.missing.extend([not_built("sqlx", "servers"), not_built("aws-sdk-s3", "servers")]);
    Ok(())
}

#[cfg(feature = "servers")]
async fn on_servers(bench: &Bench, findings: &mut Findings) -> Result<()> {
    use tiered_services::Service;

    for service in [Service::Postgres, Service::S3] {
        match (service, service.url()) {
            (Service::Postgres, Some(url)) => servers::in_postgres(bench, &url, findings).await?,
            (_, Some(url)) => servers::in_s3(bench, &url, findings).await?,
            (_, None) => findings.missing.push(Missing {
                what: service.name().to_owned(),
                why: format!("{} is not set: set what `cargo xtask services up` prints", service.variable()),
            }),
        }
    }
    Ok(())
}

#[cfg(any(not(feature = "rocksdb"), not(feature = "servers")))]
fn not_built(what: &str, feature: &str) -> Missing {
    let why = format!("not built: `cargo xtask bench --with {feature}` has it");
    Missing { what: what.to_owned(), why }
}

#[cfg(feature = "servers")]
mod servers {
    use std::sync::Arc;
    use std::time::Instant;

    use anyhow::Result;
    use tiered::postgres::PostgresConfig;
    use tiered::s3::S3Config;
    use tiered::{Batch, Delete, Put, Store, TieredStore, VolatileJournal, WritePolicy};
    use tiered_services::{S3_BUCKET, S3_CREDENTIALS};

    use super::{Panel, TASKS, values};
    use crate::groups::{Bench, Findings};
    use crate::measure::{self, Sample, Side};
    use crate::peers::Contender;
    use crate::peers::away::{Away, Presence};
    use crate::peers::drive::Operation;
    use crate::peers::raw_postgres::{CONNECTIONS, RawPostgres, SCHEMA};
    use crate::peers::raw_s3::RawS3;
    use crate::peers::source::Source;
    use crate::peers::tiered::{DEFAULT, Plain, Stack};
    use crate::report::Case;
    use crate::targets;
    use crate::workload::{Name, Skew, Workload};

    /// Bytes of a frontend.
    const FRONTEND: u64 = 1 << 30;

    async fn postgres(url: &str, table: &str) -> Result<Arc<dyn Store>> {
        let config = PostgresConfig::from_url(url)?.schema(SCHEMA).table(table);
        Ok(Arc::new(config.connections(CONNECTIONS).sweep(None).open().await?))
    }

    pub(super) async fn in_postgres(bench: &Bench, url: &str, findings: &mut Findings) -> Result<()> {
        let by_hand = RawPostgres::create(url).await?;
        let (store, beneath) = (postgres(url, "plain").await?, postgres(url, "through").await?);
        let workload = values();
        by_hand.write_all(&workload, 1000, 1).await?;
        Source::new("postgres", store.clone()).fill(&workload).await?;
        by_hand.analyze().await?;
        let mut contenders = vec![
            Contender::theirs("sqlx by hand", by_hand.clone()),
            Contender::ours("tiered postgres", Plain(store.clone())),
        ];
        let panel = Panel { name: "reads of Postgres".to_owned(), contenders: contenders.clone() };
        findings.rows.extend(panel.reads(bench, &workload, targets::SERVER, targets::SERVER).await?);

        let stack = TieredStore::builder((DEFAULT.open)(FRONTEND)?, beneath).build().await?;
        contenders.push(Contender::ours(DEFAULT.stack("postgres"), Stack(stack.clone())));
        let panel = Panel { name: "writes to Postgres".to_owned(), contenders };
        let workload = Workload::new(10_000, 100, Skew::Uniform);
        for tasks in TASKS {
            let writes = (Operation::Put, &workload);
            findings.rows.extend(panel.measure(bench, writes, tasks, targets::SERVER).await?);
        }
        store.close().await?;
        stack.close().await?;
        by_hand.analyze().await?;
        drained(bench, url, &by_hand, findings).await?;
        findings.notes.push(format!("Postgres: {}.", by_hand.settings().await?));
        by_hand.remove().await
    }

    /// How fast what was acknowledged reaches Postgres: from a backlog, and from the first write on.
    async fn drained(bench: &Bench, url: &str, by_hand: &RawPostgres, findings: &mut Findings) -> Result<()> {
        /// Keys of one statement, by hand.
        const TOGETHER: usize = 500;
        const REFERENCE: &str = "sqlx, unnest by hand";
        let keys = bench.effort.pick(10_000, 50_000);
        let workload = Workload::new(keys, 100, Skew::InOrder);
        let backend = Away::new(postgres(url, "behind").await?);
        let stack = TieredStore::builder((DEFAULT.open)(FRONTEND)?, backend.clone())
            .write_policy(WritePolicy::WriteBehind)
            .max_pending_operations(keys + 1)
            .max_pending_bytes(1 << 30)
            .declare_sole_writer()
            .journal(VolatileJournal::new());
        let stack = stack.build().await?;
        let rate = |begun: Instant| Sample::of(keys as f64 / begun.elapsed().as_secs_f64());
        let (stack, rows, backend) = (&stack, &workload, &backend);
        let write_all = move || async move {
            for name in rows.names.iter() {
                stack.put(&name.key, Put::new(rows.value.clone())).await?;
            }
            anyhow::Ok(())
        };
        let unnest = |name: &'static str, at_a_time: usize| {
            Side::new(name, false, move || {
                Box::pin(async move {
                    let begun = Instant::now();
                    by_hand.write_columns(rows, TOGETHER, at_a_time).await?;
                    Ok(rate(begun))
                })
            })
        };
        let ours = format!("{}, write-behind", DEFAULT.stack("postgres"));
        let mut sides = vec![
            unnest(REFERENCE, 1),
            unnest("sqlx, unnest by hand, 4 at a time and in no order", 4),
            Side::new("tiered postgres, batches by hand", true, move || {
                Box::pin(async move {
                    let begun = Instant::now();
                    for names in rows.names.chunks(TOGETHER) {
                        let put = |batch: Batch, name: &Name| {
                            batch.put(name.key.clone(), Put::new(rows.value.clone()))
                        };
                        for outcome in backend.apply(names.iter().fold(Batch::new(), put)).await? {
                            outcome?;
                        }
                    }
                    Ok(rate(begun))
                })
            }),
            Side::new(format!("{ours}, a backlog"), true, move || {
                Box::pin(async move {
                    backend.set(Presence::Busy);
                    write_all().await?;
                    let begun = Instant::now();
                    backend.set(Presence::There);
                    stack.flush().await?;
                    Ok(rate(begun))
                })
            }),
            Side::new(format!("{ours}, from the first write on"), true, move || {
                Box::pin(async move {
                    let begun = Instant::now();
                    write_all().await?;
                    stack.flush().await?;
                    Ok(rate(begun))
                })
            }),
        ];
        let measured = measure::in_turns(&mut sides, bench.effort.rounds()).await?;
        let case = Case {
            panel: "drain into Postgres",
            name: &format!("{keys} keys"),
            unit: "/s",
            more_is_better: true,
            reference: REFERENCE,
            target: targets::DRAIN,
        };
        findings.rows.extend(case.rows(&measured));
        findings.notes.push(format!(
            "By hand, {TOGETHER} keys go by one statement, and the next one follows its answer: a flush keeps the order of \
             writes as well. The table has the columns and the index of the adapter's."
        ));
        stack.close().await?;
        Ok(())
    }

    pub(super) async fn in_s3(bench: &Bench, url: &str, findings: &mut Findings) -> Result<()> {
        let workload = Workload::new(500, 1000, Skew::Uniform);
        let by_hand = RawS3::open(url).await?;
        by_hand.fill(&workload).await?;
        let (access, secret) = S3_CREDENTIALS;
        let config = S3Config::new(S3_BUCKET).endpoint(url).credentials(access, secret, None);
        let prefix = format!("bench/{}/", fastrand::u64(..));
        let store: Arc<dyn Store> = Arc::new(config.prefix(&prefix).open().await?);
        for name in workload.names.iter() {
            store.put(&name.key, Put::new(workload.value.clone())).await?;
        }
        let panel = Panel {
            name: "reads of S3".to_owned(),
            contenders: vec![
                Contender::theirs("aws-sdk-s3 by hand", by_hand),
                Contender::ours("tiered s3", Plain(store.clone())),
            ],
        };
        for tasks in TASKS.iter().take(2) {
            let reads = (Operation::Get, &workload);
            findings.rows.extend(panel.measure(bench, reads, *tasks, targets::SERVER).await?);
        }
        let keys: Vec<_> = workload.names.iter().map(|name| name.key.clone()).collect();
        for key in &keys {
            store.delete(key, Delete::new()).await?;
        }
        store.close().await?;
        Ok(())
    }
}
