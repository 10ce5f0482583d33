//! Durable writes: what an acknowledgement means, what it survives, and what it costs.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::Result;
use tiered::{Store as _, TieredStore};

use super::{Bench, Findings, Group, recovery};
use crate::measure::{self, Side};
use crate::peers::Contender;
use crate::peers::behind::{self, Log};
use crate::peers::drive::{Figure, Operation, Work};
use crate::peers::raw_redb::RawRedb;
use crate::peers::redis::{self, AppendFsync, Server};
use crate::report::{Case, Missing, Overview, Row, markdown};
use crate::statistics::Summary;
use crate::targets;
use crate::workload::{Skew, Workload};

/// The group.
pub const GROUP: Group = Group {
    name: "durable",
    title: "Durable writes",
    about: "Writes of 100 B to 10,000 keys by 1, 8 and 64 writers, each of which waits for its acknowledgement; how long \
            what was acknowledged then takes to reach the backend (drain); how long a store takes to serve again with \
            many records (recovery). Redis is on the loopback and writes to the same disk.",
    run: |bench| Box::pin(run(bench)),
};

/// The panel of rates.
const RATES: &str = "writes a second";

const WRITERS: [(usize, &str); 3] = [(1, "1 writer"), (8, "8 writers"), (64, "64 writers")];

/// A side of the table, and what its acknowledgement promises: by its documentation, not by a measurement.
struct Promise {
    side: String,
    means: &'static str,
    survives: &'static str,
    lost: &'static str,
}

/// A contender, and what is to be waited for between turns.
struct Writer {
    contender: Contender,
    behind: Option<TieredStore>,
    drains: Rc<RefCell<Vec<f64>>>,
}

async fn run(bench: &Bench) -> Result<Findings> {
    let mut findings = Findings::default();
    let (writers, _servers) = writers(bench, &mut findings.missing).await?;
    for (tasks, case) in WRITERS {
        findings.rows.extend(rates(bench, &writers, tasks, case).await?);
    }
    let recoveries = recovery::run(bench, &mut findings).await?;
    findings.overview = Some(overview(&writers, &findings.rows, &recoveries));
    findings.rows.extend(recoveries);
    findings.notes.push(
        "The first four columns of the table state what each side documents; nothing of it is measured here. \
         `cargo xtask crash` tests it for tiered."
            .to_owned(),
    );
    Ok(findings)
}

async fn writers(bench: &Bench, missing: &mut Vec<Missing>) -> Result<(Vec<Writer>, Vec<Server>)> {
    let (mut writers, mut servers) = (Vec::new(), Vec::new());
    let mut add = |contender, behind| {
        writers.push(Writer { contender, behind, drains: Rc::default() });
    };
    for sync in [AppendFsync::Always, AppendFsync::EverySecond] {
        let name = redis_name(sync);
        if let Some(why) = redis::why_missing() {
            missing.push(Missing { what: name, why });
            continue;
        }
        let server = Server::start(&bench.room(&format!("redis-{}", sync.name()))?, sync).await?;
        add(Contender::theirs(name, server.client().await?), None);
        servers.push(server);
    }
    let raw = RawRedb::open(&bench.room("durable")?.join("raw.redb"))?;
    add(Contender::theirs("raw redb", raw), None);
    for (log, name) in LOGS {
        let stack = behind::open(&bench.room(&format!("durable-{name}"))?, log).await?;
        let behind = (!matches!(log, Log::Through)).then(|| stack.0.clone());
        add(Contender::ours(log.stack(), stack), behind);
    }
    Ok((writers, servers))
}

/// The stacks of ours in the table.
const LOGS: [(Log, &str); 4] = [
    (Log::Through, "through"),
    (Log::Synced, "behind"),
    (Log::Unsynced, "unsynced"),
    (Log::Volatile, "volatile"),
];

/// The name of Redis in the table.
pub fn redis_name(sync: AppendFsync) -> String {
    format!("Redis, appendfsync {}", sync.name())
}

async fn rates(bench: &Bench, writers: &[Writer], tasks: usize, case: &str) -> Result<Vec<Row>> {
    let work = Work {
        operation: Operation::Put,
        workload: Workload::new(10_000, 100, Skew::Uniform),
        tasks,
        time: bench.effort.disk_slice(),
        is_timed: true,
        figure: Figure::Rate,
    };
    let side = |writer: &Writer| {
        let (peer, work) = (writer.contender.peer.clone(), work.clone());
        let (behind, drains) = (writer.behind.clone(), Rc::clone(&writer.drains));
        Side::new(writer.contender.name.clone(), writer.contender.is_ours, move || {
            let (turn, behind, drains) = (peer.turn(work.clone()), behind.clone(), Rc::clone(&drains));
            Box::pin(async move {
                let sample = turn.await?;
                // What follows in the background is not to disturb the next side.
                if let Some(store) = behind {
                    let begun = Instant::now();
                    store.flush().await?;
                    drains.borrow_mut().push(begun.elapsed().as_secs_f64() * 1e3);
                }
                Ok(sample)
            })
        })
    };
    let mut sides: Vec<Side<'_>> = writers.iter().map(side).collect();
    let measured = measure::in_turns(&mut sides, bench.effort.rounds()).await?;
    let case = Case {
        panel: RATES,
        name: case,
        unit: "/s",
        more_is_better: true,
        reference: &redis_name(AppendFsync::Always),
        target: targets::DURABLE,
    };
    Ok(case.rows(&measured))
}

fn promises() -> Vec<Promise> {
    let promise = |side: String, means, survives, lost| Promise { side, means, survives, lost };
    let nothing = "nothing";
    vec![
        promise(redis_name(AppendFsync::Always), "its log is synced", "loss of power", nothing),
        promise(
            redis_name(AppendFsync::EverySecond),
            "its log is written",
            "a killed process",
            "about a second (power)",
        ),
        promise("raw redb".to_owned(), "its commit is synced", "loss of power", nothing),
        promise(Log::Through.stack(), "the backend's commit is synced", "loss of power", nothing),
        promise(Log::Synced.stack(), "the journal is synced", "loss of power", nothing),
        promise(
            Log::Unsynced.stack(),
            "the journal is written",
            "a killed process",
            "what the system had not written (power)",
        ),
        promise(Log::Volatile.stack(), "it is in memory", "nothing", "what the backend had not yet"),
    ]
}

/// The one table of the group.
fn overview(writers: &[Writer], rates: &[Row], recoveries: &[Row]) -> Overview {
    let columns = [
        "side",
        "acknowledged means",
        "survives",
        "at most lost",
        "1 writer",
        "8 writers",
        "64 writers",
        "drain",
        "recovery",
    ];
    let figure = |rows: &[Row], side: &str, case: Option<&str>| {
        let row = rows.iter().find(|row| row.side == side && case.is_none_or(|case| row.case == case));
        row.map_or_else(String::new, |row| format!("{} {}", markdown::figure(row.summary.median), row.unit))
    };
    let line = |promise: &Promise| {
        let writer = writers.iter().find(|writer| writer.contender.name == promise.side)?;
        let drain = if writer.behind.is_some() {
            format!("{} ms", markdown::figure(Summary::of(&writer.drains.borrow()).median))
        } else {
            "–".to_owned()
        };
        let mut cells =
            [&promise.side, promise.means, promise.survives, promise.lost].map(str::to_owned).to_vec();
        cells.extend(WRITERS.map(|(_, case)| figure(rates, &promise.side, Some(case))));
        cells.extend([drain, figure(recoveries, &promise.side, None)]);
        Some(cells)
    };
    Overview {
        columns: columns.map(str::to_owned).to_vec(),
        rows: promises().iter().filter_map(line).collect(),
    }
}

/// Seconds since `begun`.
pub fn seconds(begun: Instant) -> f64 {
    Duration::as_secs_f64(&begun.elapsed())
}
