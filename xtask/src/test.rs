//! `cargo xtask test`: every test there is.

use std::process::Command;

use crate::services::Services;
use crate::setup;
use crate::sim;
use crate::stage::{self, Counts, cargo, root};

/// Stacks of tiers that the matrix runs at least, with all servers. Fewer means that some did not run.
const STACKS: u64 = 215;

/// The adapters that need a server to be tested, and the variables that hold the URLs.
const REMOTE: [(&str, &[&str]); 2] = [
    ("tiered-postgres", &["TIERED_TEST_POSTGRES", "TIERED_TEST_PGBOUNCER"]),
    ("tiered-s3", &["TIERED_TEST_S3", "TIERED_TEST_S3_FS"]),
];

fn run_tests(services: &Services) -> Result<Counts, String> {
    let with_services = |arguments: &[&str]| {
        let mut command = cargo(arguments);
        services.announce(&mut command);
        command
    };
    let mut counts = Counts::default();
    // Everything but the matrix, which prints one line a stack, so that its output must not be captured.
    let mut all = vec!["test", "--workspace", "--all-features", "--lib", "--bins", "--tests"];
    all.extend(["--exclude", "tiered-tests"]);
    let mut complete = true;
    for (adapter, variables) in REMOTE {
        if !variables.iter().all(|variable| services.has(variable)) {
            println!("NOT TESTED: {adapter}, for want of a server");
            all.extend(["--exclude", adapter]);
            complete = false;
        }
    }
    if !services.has("TIERED_TEST_POSTGRES_OWN") {
        println!("NOT TESTED: a Postgres that crashes or speaks TLS, for want of one that may be killed");
        all.extend(["--", "--skip", "own_server"]);
    }
    counts.add(stage::run("tests", with_services(&all))?);
    let doc = ["test", "--workspace", "--all-features", "--doc"];
    counts.add(stage::run("documentation tests", with_services(&doc))?);
    // The same selection of features as above: RocksDB would be built again for another.
    let measured = ["test", "--workspace", "--all-features", "--test", "allocations", "--test", "memory"];
    counts.add(stage::run("allocations and memory", with_services(&measured))?);
    let threads = ["test", "--workspace", "--all-features", "--test", "threads"];
    counts.add(stage::run("histories of real threads over real engines", with_services(&threads))?);
    if complete {
        let feed = ["test", "--workspace", "--all-features", "--test", "feed"];
        counts.add(stage::run("two processes over one Postgres", with_services(&feed))?);
        let crash = ["test", "--workspace", "--all-features", "--test", "crash"];
        counts.add(stage::run("processes that are killed", with_services(&crash))?);
    }
    let matrix = ["test", "--workspace", "--all-features", "--test", "matrix"];
    let stacks = stage::run("matrix", with_services(&matrix))?;
    counts.add(stacks);
    counts.add(stage::run("an adapter outside of the workspace", example("custom-adapter"))?);
    counts.add(stage::run("a service outside of the workspace", example("service"))?);
    sim::gate()?;
    if complete && counts.stacks < STACKS {
        return Err(format!("{} stacks ran, at least {STACKS} should have", counts.stacks));
    }
    Ok(counts)
}

/// The tests of an example, which is a workspace of its own.
fn example(name: &str) -> Command {
    let mut command = cargo(&["test", "--manifest-path"]);
    command.arg(root().join("examples").join(name).join("Cargo.toml"));
    command
}

/// `cargo xtask crash`: processes that are killed, with the arguments of the command line.
pub(crate) fn crash(arguments: &[String]) -> Result<(), String> {
    setup::run()?;
    let services = Services::start()?;
    let mut command = cargo(&["test", "--workspace", "--all-features", "--test", "crash", "--"]);
    command.args(arguments);
    services.announce(&mut command);
    stage::run("processes that are killed", command).map(|_| ())
}

pub(crate) fn run() -> Result<(), String> {
    setup::run()?;
    let services = Services::start()?;
    let counts = run_tests(&services)?;
    println!("{} stacks of tiers ran", counts.stacks);
    println!("{} passed, {} failed", counts.passed, counts.failed);
    if counts.failed > 0 || counts.passed == 0 {
        return Err("there are failures".to_owned());
    }
    Ok(())
}
