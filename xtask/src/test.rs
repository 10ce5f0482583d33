//! `cargo xtask test`: every test, and every combination of adapters.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::thread::available_parallelism;

use crate::pipeline::{Estimate, Pipeline, Stage};
use crate::programs::{self, Job, Program};
use crate::services::Services;
use crate::session::{self, Session, print, without_passes};
use crate::setup;
use crate::stage::{self, Counts, cargo, root, target};

/// Stacks of tiers that the matrix has at least, with all servers. Fewer means that some did not run.
const STACKS: u64 = 235;

/// Of those, the ones that `test` runs: each combination of adapters once, and one of them under every policy.
const COMBINATIONS: u64 = 67;

/// The adapters that need a server to be tested, and the variables that hold the URLs.
const REMOTE: [(&str, &[&str]); 2] = [
    ("tiered-postgres", &["TIERED_TEST_POSTGRES", "TIERED_TEST_PGBOUNCER"]),
    ("tiered-s3", &["TIERED_TEST_S3", "TIERED_TEST_S3_FS"]),
];

/// Programs of the workspace's tests that need servers.
const NEED_SERVERS: [&str; 2] = ["feed", "shards"];

/// Programs that have stages of their own, by the name of their test.
const OWN_STAGE: [&str; 5] = ["amazon", "crash", "instructions", "judge", "matrix"];

/// The programs that take longest, which are begun first.
const LONGEST: [(&str, &str); 4] = [
    ("tiered-s3", "it"),
    ("tiered-postgres", "it"),
    ("tiered-sim", "cancellation"),
    ("tiered-conformance", "it"),
];

/// What `test` leaves to other commands.
const ELSEWHERE: [(&str, &str); 5] = [
    ("lints, documentation, features, dependencies", "cargo xtask ci"),
    ("every combination of adapters under every policy", "cargo xtask ci"),
    (
        "the crate object_store over servers, killed processes, 200 seeds of the simulation, interleavings, deliberate bugs",
        "cargo xtask ci",
    ),
    ("the same for as long as you like", "cargo xtask crash | sim | interleavings | planted"),
    ("new inputs for the fuzz targets", "cargo xtask fuzz"),
];

pub(crate) fn run() -> Result<(), String> {
    let pipeline = Pipeline {
        title: "cargo xtask test: every test, and every combination of adapters",
        stages: stages(combinations()).into(),
        elsewhere: &ELSEWHERE,
    };
    pipeline.run()
}

/// Every combination of adapters under every policy.
pub(crate) const fn every_stack() -> Stage {
    Stage {
        name: "stacks",
        what: "every combination of adapters under every policy, each through the conformance suite",
        estimate: Estimate::always(420),
        vital: false,
        run: |session| stacks(session, "all", STACKS),
    }
}

/// Every combination of adapters.
const fn combinations() -> Stage {
    Stage {
        name: "stacks",
        what: "every combination of adapters, each through the conformance suite",
        estimate: Estimate::always(150),
        vital: false,
        run: |session| stacks(session, "combinations", COMBINATIONS),
    }
}

/// The stages, which `ci` has as well, with other stacks.
pub(crate) fn stages(stacks: Stage) -> [Stage; 7] {
    [
        Stage {
            name: "set-up",
            what: "a C++ compiler and libclang, if they are missing",
            estimate: Estimate { compiled: 1, nothing: 30 },
            vital: true,
            run: |_| setup::run().map(|()| Counts::default()),
        },
        Stage {
            name: "compile",
            what: "all crates with all features, RocksDB included; beside it the servers start",
            estimate: Estimate { compiled: 300, nothing: 1_200 },
            vital: true,
            run: compile,
        },
        Stage {
            name: "servers",
            what: "Postgres, PgBouncer and two S3 servers, in containers or as processes",
            estimate: Estimate { compiled: 10, nothing: 60 },
            vital: true,
            run: servers,
        },
        Stage {
            name: "tests",
            what: "the tests of every crate",
            estimate: Estimate::always(300),
            vital: false,
            run: tests,
        },
        Stage {
            name: "documentation tests",
            what: "every example of the documentation",
            estimate: Estimate::always(30),
            vital: false,
            run: |session| {
                session.quiet(cargo(&["test", "--quiet", "--workspace", "--all-features", "--doc"]))
            },
        },
        stacks,
        Stage {
            name: "examples",
            what: "an adapter and a service outside of the workspace",
            estimate: Estimate { compiled: 60, nothing: 90 },
            vital: false,
            run: examples,
        },
    ]
}

/// Compiles everything. The servers start beside it: their images are mostly fetched, and the compiler mostly computes.
fn compile(session: &mut Session) -> Result<Counts, String> {
    let log = servers_log(session);
    let file = File::create(&log).map_err(|error| format!("{}: {error}", log.display()))?;
    session.serve(Services::begin(Stdio::from(file))?);
    session.programs = programs::compile(session)?;
    Ok(Counts::default())
}

/// What the servers say.
fn servers_log(session: &Session) -> PathBuf {
    session.logs().join("servers.log")
}

fn servers(session: &mut Session) -> Result<Counts, String> {
    let log = servers_log(session);
    let ready = session.wait_for_servers();
    ready.inspect_err(|_| print(&fs::read_to_string(&log).unwrap_or_default()))?;
    for (adapter, variables) in REMOTE {
        if !variables.iter().all(|variable| session.has(variable)) {
            session.miss(format!(
                "{adapter} and stacks with it, because there is no server ({})",
                log.display()
            ));
        }
    }
    if !session.has("TIERED_TEST_POSTGRES_OWN") {
        session.miss(
            "a Postgres that crashes or speaks TLS, because there is none that may be killed".to_owned(),
        );
    }
    Ok(Counts::default())
}

/// Whether every adapter has its servers.
fn is_complete(session: &Session) -> bool {
    REMOTE.iter().flat_map(|(_, variables)| *variables).all(|variable| session.has(variable))
}

/// How many programs run at once.
fn cores() -> usize {
    available_parallelism().map_or(2, usize::from)
}

fn tests(session: &mut Session) -> Result<Counts, String> {
    let place = |program: &Program| {
        let is = |(package, name): &(&str, &str)| program.package == *package && program.name == *name;
        LONGEST.iter().position(is).unwrap_or(LONGEST.len())
    };
    let mut programs: Vec<&Program> =
        session.programs.iter().filter(|program| runs(session, program)).collect();
    programs.sort_by_key(|program| place(program));
    let (alone, together): (Vec<&Program>, Vec<&Program>) =
        programs.into_iter().partition(|program| kills_server(program));
    let skips: &[&str] =
        if session.has("TIERED_TEST_POSTGRES_OWN") { &[] } else { &["--skip", "own_server"] };
    let jobs = |programs: Vec<&Program>, arguments: &[&str]| {
        let arguments: Vec<String> = arguments.iter().copied().map(str::to_owned).collect();
        programs
            .into_iter()
            .map(|program| Job { program: program.clone(), arguments: arguments.clone() })
            .collect()
    };
    let together = programs::run_all(session, jobs(together, &[]), cores());
    let alone = programs::run_all(session, jobs(alone, skips), 1);
    match (together, alone) {
        (Ok(mut counts), Ok(alone)) => {
            counts.add(alone);
            if counts.passed == 0 { Err("no test ran".to_owned()) } else { Ok(counts) }
        }
        (Err(one), Err(other)) => Err(format!("{one}\n{other}")),
        (Err(why), Ok(_)) | (Ok(_), Err(why)) => Err(why),
    }
}

/// Whether a program kills the Postgres that others use, so that it runs alone.
fn kills_server(program: &Program) -> bool {
    program.package == "tiered-postgres" && program.name == "server"
}

/// Whether a program belongs to the stage of the tests.
fn runs(session: &Session, program: &Program) -> bool {
    let without = |(package, variables): &(&str, &[&str])| {
        program.package == *package && !variables.iter().all(|variable| session.has(variable))
    };
    let needs_all = NEED_SERVERS.contains(&program.name.as_str());
    let lacks_server = REMOTE.iter().any(without) || needs_all && !is_complete(session);
    program.is_test && !OWN_STAGE.contains(&program.name.as_str()) && !lacks_server
}

/// A program of the integration tests that has a stage of its own.
pub(crate) fn own(session: &Session, name: &str) -> Result<Program, String> {
    let found = session.programs.iter().find(|program| program.is_test && program.name == name);
    found.cloned().ok_or_else(|| format!("the test {name} was not compiled"))
}

/// Runs the matrix: `which` stacks, and so many of them at least.
fn stacks(session: &mut Session, which: &str, least: u64) -> Result<Counts, String> {
    let (detail, mut ended) = (session.detail(), 0);
    let mut command = own(session, "matrix")?.command(session);
    command.env("TIERED_STACKS", which);
    let ran = session::run(&mut command, &mut |line| {
        ended += u64::from(line.starts_with("stack "));
        detail.set(format!("{ended} of {least} stacks"));
    })?;
    session.keep("matrix", &ran.text)?;
    if !ran.passed {
        print(&without_passes(&ran.text));
        return Err("to repeat it: cargo xtask services up; cargo test --workspace --all-features --test matrix -- STACK"
            .to_owned());
    }
    if is_complete(session) && ran.counts.stacks < least {
        return Err(format!("{} stacks ran, at least {least} should have", ran.counts.stacks));
    }
    Ok(ran.counts)
}

fn examples(session: &mut Session) -> Result<Counts, String> {
    let mut counts = Counts::default();
    for name in ["custom-adapter", "media", "service"] {
        let mut command = cargo(&["test", "--quiet", "--manifest-path"]);
        command.arg(root().join("examples").join(name).join("Cargo.toml"));
        // They are workspaces of their own; what they share with this one and with each other is compiled once.
        command.env("CARGO_TARGET_DIR", target());
        session.prepare(&mut command);
        counts.add(session.quiet(command)?);
    }
    Ok(counts)
}

/// The stage of `ci` that kills processes.
pub(crate) fn killed(session: &mut Session) -> Result<Counts, String> {
    if !is_complete(session) {
        session.miss("processes that are killed, because there is no server".to_owned());
        return Ok(Counts::default());
    }
    let command = own(session, "crash")?.command(session);
    session.quiet(command)
}

/// The stage of `ci` for what works with the crate `object_store`. It has the S3 server for itself, which answers one request at a
/// time: beside the tests of the S3 adapter its connections broke.
pub(crate) fn object_stores(session: &mut Session) -> Result<Counts, String> {
    if !is_complete(session) {
        session.miss("the bridge to object_store over servers, because there is no server".to_owned());
        return Ok(Counts::default());
    }
    let mut counts = Counts::default();
    for name in ["judge", "amazon"] {
        let command = own(session, name)?.command(session);
        counts.add(session.quiet(command)?);
    }
    Ok(counts)
}

/// `cargo xtask crash`: processes that are killed, with the arguments of the command line.
pub(crate) fn crash(arguments: &[String]) -> Result<(), String> {
    setup::run()?;
    let services = Services::start(Stdio::inherit())?;
    let mut command: Command = cargo(&["test", "--workspace", "--all-features", "--test", "crash", "--"]);
    command.args(arguments);
    services.announce(&mut command);
    stage::run("processes that are killed", command).map(|_| ())
}
