//! `cargo xtask consumers`: programs that use tiered as others would, for real, over real servers. They are outside of the workspace.

use std::process::{Command, Stdio};

use crate::services::Services;
use crate::session::Session;
use crate::stage::{Counts, cargo, root, succeed, target};

/// A program.
struct Consumer {
    name: &'static str,
    /// Its folder in `examples/`.
    folder: &'static str,
    /// What it is called there.
    program: &'static str,
    features: &'static str,
    /// Whether it takes a release build. The others optimise a little in their `dev` profile, which takes half as long.
    in_release: bool,
    /// Its arguments for a short run.
    short: &'static [&'static str],
    /// Whether it runs although it is not named.
    is_usual: bool,
    /// Whether it has a short run in `ci`.
    in_ci: bool,
}

const CONSUMERS: [Consumer; 5] = [
    Consumer {
        name: "media",
        folder: "media",
        program: "media",
        features: "",
        in_release: true,
        short: &["--mebibytes", "64", "--seconds", "5"],
        is_usual: true,
        in_ci: false,
    },
    Consumer {
        name: "ranges",
        folder: "media",
        program: "ranges",
        features: "",
        in_release: true,
        short: &["--mebibytes", "64", "--reads", "5000", "--seconds", "5"],
        is_usual: true,
        in_ci: true,
    },
    Consumer {
        name: "slatedb",
        folder: "slatedb",
        program: "slatedb",
        features: "",
        in_release: false,
        short: &["--kills", "2", "--acknowledged", "500", "--keys", "4000", "--reads", "200"],
        is_usual: true,
        in_ci: false,
    },
    Consumer {
        name: "datafusion",
        folder: "datafusion",
        program: "datafusion",
        features: "",
        in_release: false,
        short: &["--orders", "30000", "--max-stale", "2"],
        is_usual: true,
        in_ci: false,
    },
    // The same, and the same queries through caches that others publish.
    Consumer {
        name: "peers",
        folder: "datafusion",
        program: "datafusion",
        features: "peers",
        in_release: false,
        short: &["--orders", "30000", "--max-stale", "2"],
        is_usual: false,
        in_ci: false,
    },
];

/// `[--quick] [NAME…] [-- ARGUMENT…]`: all of them, or those that are named. What each prints is its table; one that fails fails the
/// command.
pub(crate) fn run(arguments: &[String]) -> Result<(), String> {
    let mut split = arguments.splitn(2, |argument| argument == "--");
    let (own, passed) = (split.next().unwrap_or_default(), split.next().unwrap_or_default());
    let quick = own.iter().any(|argument| argument == "--quick");
    let names: Vec<&str> = own.iter().map(String::as_str).filter(|argument| *argument != "--quick").collect();
    if let Some(unknown) = names.iter().find(|name| !CONSUMERS.iter().any(|known| known.name == **name)) {
        let known: Vec<&str> = CONSUMERS.iter().map(|known| known.name).collect();
        return Err(format!("there is no consumer {unknown}; there are: {}", known.join(", ")));
    }
    // They end with this function.
    let services = Services::start(Stdio::inherit())?;
    for consumer in &CONSUMERS {
        let chosen = if names.is_empty() { consumer.is_usual } else { names.contains(&consumer.name) };
        if !chosen {
            continue;
        }
        println!("--- {}", consumer.name);
        let mut build = consumer.build();
        if consumer.in_release {
            build.arg("--release");
        }
        succeed(&mut build)?;
        let mut program = consumer.program(if consumer.in_release { "release" } else { "debug" });
        if quick {
            program.args(consumer.short);
        }
        program.args(passed);
        services.announce(&mut program);
        succeed(&mut program)?;
    }
    Ok(())
}

/// The stage of `ci`: short runs of those whose build it has time for. They are built as the examples are, with whose stage they share
/// what is compiled.
pub(crate) fn short(session: &mut Session) -> Result<Counts, String> {
    if !["TIERED_TEST_S3", "TIERED_TEST_S3_FS"].iter().all(|server| session.has(server)) {
        session.miss("consumers, because there is no S3 server".to_owned());
        return Ok(Counts::default());
    }
    for consumer in CONSUMERS.iter().filter(|consumer| consumer.in_ci) {
        session.quiet(consumer.build())?;
        let mut program = consumer.program("debug");
        program.args(consumer.short);
        session.prepare(&mut program);
        session.quiet(program)?;
    }
    Ok(Counts::default())
}

impl Consumer {
    fn build(&self) -> Command {
        let mut build = cargo(&["build", "--quiet", "--locked", "--bin", self.program]);
        build.args(["--features", self.features, "--manifest-path"]);
        build.arg(root().join("examples").join(self.folder).join("Cargo.toml"));
        build.env("CARGO_TARGET_DIR", target());
        build
    }

    fn program(&self, profile: &str) -> Command {
        Command::new(target().join(profile).join(self.program))
    }
}
