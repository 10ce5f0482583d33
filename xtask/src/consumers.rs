//! `cargo xtask consumers`: programs that use tiered as others would, for real, over real servers. They are outside of the workspace.

use std::process::{Command, Stdio};

use crate::services::Services;
use crate::stage::{cargo, root, succeed, target};

/// A program, its folder in `examples/`, and its arguments for a short run.
const CONSUMERS: [(&str, &str, &[&str]); 2] = [
    ("media", "media", &["--mebibytes", "64", "--seconds", "5"]),
    ("ranges", "media", &["--mebibytes", "64", "--reads", "5000", "--seconds", "5"]),
];

/// `[--quick] [NAME…]`: all of them, or those that are named. What each prints is its table; one that fails fails the command.
pub(crate) fn run(arguments: &[String]) -> Result<(), String> {
    let quick = arguments.iter().any(|argument| argument == "--quick");
    let names: Vec<&str> =
        arguments.iter().map(String::as_str).filter(|argument| *argument != "--quick").collect();
    if let Some(unknown) = names.iter().find(|name| !CONSUMERS.iter().any(|(known, ..)| known == *name)) {
        let known: Vec<&str> = CONSUMERS.iter().map(|(name, ..)| *name).collect();
        return Err(format!("there is no consumer {unknown}; there are: {}", known.join(", ")));
    }
    // They end with this function.
    let services = Services::start(Stdio::inherit())?;
    for (name, folder, short) in CONSUMERS {
        if !names.is_empty() && !names.contains(&name) {
            continue;
        }
        println!("--- {name}");
        let mut build =
            cargo(&["build", "--quiet", "--locked", "--release", "--bin", name, "--manifest-path"]);
        build.arg(root().join("examples").join(folder).join("Cargo.toml"));
        build.env("CARGO_TARGET_DIR", target());
        succeed(&mut build)?;
        let mut program = Command::new(target().join("release").join(name));
        if quick {
            program.args(short);
        }
        services.announce(&mut program);
        succeed(&mut program)?;
    }
    Ok(())
}
