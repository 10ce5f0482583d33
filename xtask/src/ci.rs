//! `cargo xtask ci`: what CI runs.

use std::process::Command;

use crate::consumers;
use crate::instructions;
use crate::pipeline::{Estimate, Pipeline, Stage};
use crate::session::Session;
use crate::stage::{Counts, cargo, root};
use crate::test;

/// Features of crates, alone and together, without the default ones. `rocksdb`, which would be built again for each, is
/// compiled with all of them. The command has a choice of its own for one feature; it passes the others on.
const FEATURES: [(&str, &str); 29] = [
    ("tiered", ""),
    ("tiered", "journal"),
    ("tiered", "moka"),
    ("tiered", "quick"),
    ("tiered", "redb"),
    ("tiered", "postgres"),
    ("tiered", "s3"),
    ("tiered", "object-store"),
    ("tiered", "quick,redb"),
    ("tiered", "moka,quick,redb,journal,postgres,s3"),
    ("tiered-cli", ""),
    ("tiered-cli", "journal"),
    ("tiered-cli", "moka,quick,redb,journal,postgres,s3,git"),
    ("tiered", "blocking"),
    ("tiered", "toml"),
    ("tiered", "test-util"),
    ("tiered", "values,msgpack,postcard"),
    ("tiered", "wrap"),
    ("tiered", "lz4"),
    ("tiered", "encryption"),
    ("tiered-object-store", ""),
    ("tiered-object-store", "v0_13"),
    ("tiered-object-store", "v0_14"),
    ("tiered-core", ""),
    ("tiered-core", "test-util"),
    ("tiered-values", ""),
    ("tiered-wrap", ""),
    ("tiered-wrap", "lz4"),
    ("tiered-wrap", "encryption"),
];

/// The version of cargo-deny that is installed if it is missing.
const CARGO_DENY: &str = "0.20.2";

/// What `ci` leaves to other commands.
const ELSEWHERE: [(&str, &str); 3] = [
    ("longer runs, with other seeds", "cargo xtask crash | sim | interleavings | planted"),
    ("new inputs for the fuzz targets", "cargo xtask fuzz"),
    ("DataFusion and SlateDB over a stack, and longer runs of other consumers", "cargo xtask consumers"),
];

pub(crate) fn run() -> Result<(), String> {
    let [set_up, mut compile, rest @ ..] = test::stages(test::every_stack());
    // The lints have built RocksDB.
    compile.estimate.nothing = 600;
    let first = [
        set_up,
        formatting(),
        tidy(),
        lints(),
        benchmarks(),
        features(),
        documentation(),
        dependencies(),
        compile,
    ];
    let pipeline = Pipeline {
        title: "cargo xtask ci: every check and every test, the long ones included",
        stages: first.into_iter().chain(rest).chain(long()).collect(),
        elsewhere: &ELSEWHERE,
    };
    pipeline.run()
}

fn formatting() -> Stage {
    Stage {
        name: "formatting",
        what: "rustfmt",
        estimate: Estimate::always(2),
        vital: true,
        run: |session| session.quiet(cargo(&["fmt", "--all", "--check"])),
    }
}

fn tidy() -> Stage {
    Stage {
        name: "tidy",
        what: "the rules of ARCHITECTURE.md that a machine can check",
        estimate: Estimate::always(5),
        vital: true,
        run: |session| own(session, &["tidy"]),
    }
}

fn lints() -> Stage {
    Stage {
        name: "lints",
        what: "clippy over everything; a warning fails",
        estimate: Estimate { compiled: 80, nothing: 900 },
        vital: true,
        run: |session| {
            let lints = ["clippy", "--quiet", "--workspace", "--all-features", "--all-targets"];
            session.quiet(cargo(&[&lints[..], &["--", "--deny", "warnings"]].concat()))
        },
    }
}

fn benchmarks() -> Stage {
    Stage {
        name: "benchmarks",
        what: "clippy over the benchmark program, whose peers are no part of the workspace; it is not run",
        estimate: Estimate { compiled: 20, nothing: 150 },
        vital: false,
        run: |session| {
            let lints =
                ["clippy", "--quiet", "--locked", "--manifest-path", "bench/Cargo.toml", "--all-targets"];
            session.quiet(cargo(&[&lints[..], &["--", "--deny", "warnings"]].concat()))
        },
    }
}

fn features() -> Stage {
    Stage {
        name: "features",
        what: "combinations of features",
        estimate: Estimate { compiled: 100, nothing: 220 },
        vital: false,
        run: |session| {
            for (package, features) in FEATURES {
                let check = ["check", "--quiet", "--package", package];
                let chosen = ["--no-default-features", "--features", features];
                session.quiet(cargo(&[&check[..], &chosen].concat()))?;
            }
            Ok(Counts::default())
        },
    }
}

fn documentation() -> Stage {
    Stage {
        name: "documentation",
        what: "rustdoc; a warning fails",
        estimate: Estimate { compiled: 30, nothing: 60 },
        vital: false,
        run: |session| {
            let mut command = cargo(&["doc", "--quiet", "--workspace", "--all-features", "--no-deps"]);
            command.env("RUSTDOCFLAGS", "--deny warnings");
            session.quiet(command)
        },
    }
}

fn dependencies() -> Stage {
    Stage {
        name: "dependencies",
        what: "licenses, sources and duplicates, by cargo-deny",
        estimate: Estimate { compiled: 5, nothing: 120 },
        vital: false,
        run: |session| {
            if !cargo(&["deny", "--version"]).output().is_ok_and(|found| found.status.success()) {
                let install = ["install", "--quiet", "--locked", "cargo-deny", "--version", CARGO_DENY];
                let mut install = cargo(&install);
                // It runs for a second: what takes long is to compile it.
                install.env("CARGO_PROFILE_RELEASE_OPT_LEVEL", "0").env("CARGO_PROFILE_RELEASE_LTO", "false");
                session.quiet(install)?;
            }
            session.quiet(cargo(&["deny", "check", "--hide-inclusion-graph", "bans", "licenses", "sources"]))
        },
    }
}

/// What `test` leaves out because it takes long.
fn long() -> [Stage; 7] {
    [
        Stage {
            name: "consumers",
            what: "a short run of a program over S3: requests counted, every byte checked",
            estimate: Estimate { compiled: 40, nothing: 40 },
            vital: false,
            run: consumers::short,
        },
        Stage {
            name: "object stores",
            what: "the tests of the crate object_store over real stacks, and the suite over its S3 client",
            estimate: Estimate::always(60),
            vital: false,
            run: test::object_stores,
        },
        Stage {
            name: "instructions",
            what: "hits, writes and reads take no more of them than they did",
            estimate: Estimate::always(80),
            vital: false,
            run: instructions::guard,
        },
        Stage {
            name: "killed processes",
            what: "real engines, killed at any moment and at every step",
            estimate: Estimate::always(100),
            vital: false,
            run: test::killed,
        },
        Stage {
            name: "simulation",
            what: "200 seeds under faults, crashes and virtual time",
            estimate: Estimate { compiled: 100, nothing: 180 },
            vital: false,
            run: |session| own(session, &["sim", "--seeds", "200", "--ops", "2000"]),
        },
        Stage {
            name: "interleavings",
            what: "300,000 schedules of real stores under shuttle",
            estimate: Estimate { compiled: 120, nothing: 170 },
            vital: false,
            run: |session| own(session, &["interleavings"]),
        },
        Stage {
            name: "deliberate bugs",
            what: "a dozen of them, others with each commit: each must be caught",
            estimate: Estimate { compiled: 120, nothing: 230 },
            vital: false,
            run: |session| own(session, &["planted", "--sample", "12"]),
        },
    ]
}

/// Runs a command of xtask.
fn own(session: &Session, arguments: &[&str]) -> Result<Counts, String> {
    let program = std::env::current_exe().map_err(|error| format!("the program xtask: {error}"))?;
    let mut command = Command::new(program);
    command.args(arguments).current_dir(root());
    session.quiet(command)
}
