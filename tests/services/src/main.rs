//! Starts the servers for tests and keeps them until it is told to stop: `cargo xtask services` and `cargo xtask test`
//! use it.
//!
//! ```text
//! tiered-services serve            until standard input ends: for a program that starts it
//! tiered-services serve --until-stopped PIDFILE      until SIGTERM: for work by hand
//! tiered-services images           builds the images that no registry gives
//! ```
//!
//! A line for each server, `VARIABLE=URL`, then `ready`. What it does goes to standard error.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a test tool speaks on the terminal")]

mod start;

use std::io::Write as _;
use std::process::ExitCode;

use start::{Kind, Owner, Running, Upstream};
use tiered_services::Service;
use tokio::io::AsyncReadExt as _;
use tokio::signal::unix::{SignalKind, signal};

#[tokio::main]
async fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match words.as_slice() {
        ["serve"] => serve(None).await,
        ["serve", "--until-stopped", pid_file] => serve(Some(pid_file)).await,
        ["images"] => start::images::build().await,
        _ => Err("usage: tiered-services serve [--until-stopped PIDFILE] | images".to_owned()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("error: {why}");
            ExitCode::FAILURE
        }
    }
}

async fn serve(pid_file: Option<&str>) -> Result<(), String> {
    let failed = |error: std::io::Error| error.to_string();
    let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
    start::folder::remove_leftovers(&std::env::temp_dir());
    start::containers::remove_leftovers().await;
    let mut running: Vec<Running> = Vec::new();
    // A signal while a server starts ends it as well. What Docker begins meanwhile is removed by the next run.
    let served = tokio::select! {
        served = serve_until_told(pid_file, &mut running) => served,
        _ = terminate.recv() => Ok(()),
        _ = interrupt.recv() => Ok(()),
    };
    // Containers and processes end with their handles.
    for server in running {
        server.stop().await;
    }
    served
}

/// Starts the servers, and waits until standard input ends; with a file for the process id, until a signal.
async fn serve_until_told(pid_file: Option<&str>, running: &mut Vec<Running>) -> Result<(), String> {
    let kind = Kind::from_environment()?;
    let owner = Owner::new()?;
    let required = std::env::var("TIERED_REQUIRE_SERVICES").is_ok_and(|value| value == "1");
    let missing = start_all(kind, &owner, running).await;
    if required && !missing.is_empty() {
        return Err(format!("TIERED_REQUIRE_SERVICES=1, and there is no {}", missing.join(", ")));
    }
    let _pid_file = match pid_file {
        Some(path) => Some(write_pid(path).map_err(|error| format!("{path}: {error}"))?),
        None => None,
    };
    println!("ready");
    if pid_file.is_some() {
        std::future::pending::<()>().await;
    }
    let mut rest = Vec::new();
    tokio::io::stdin().read_to_end(&mut rest).await.ok();
    Ok(())
}

/// Starts every server that is not given by URL; the names of those that cannot be started.
async fn start_all(kind: Kind, owner: &Owner, running: &mut Vec<Running>) -> Vec<&'static str> {
    let mut missing = Vec::new();
    // What a pooler stands before.
    let mut postgres: Option<Upstream> = None;
    for service in Service::ALL {
        if let Some(url) = service.url() {
            eprintln!("{}: given by {}", service.name(), service.variable());
            println!("{}={url}", service.variable());
            if service == Service::Postgres {
                postgres = Upstream::of_url(&url);
            }
            continue;
        }
        if service == Service::S3Garage {
            // Optional: it takes a quarter of an hour to build.
            continue;
        }
        match start::start(service, kind, owner, postgres.as_ref()).await {
            Ok(server) => {
                eprintln!("{}: {}", service.name(), server.how);
                println!("{}={}", service.variable(), server.url);
                if service == Service::Postgres {
                    // Tests may kill it.
                    println!("TIERED_TEST_POSTGRES_OWN=1");
                    postgres = Upstream::of(&server);
                }
                running.push(server);
            }
            Err(why) => {
                eprintln!("{}: cannot be started: {why}", service.name());
                missing.push(service.name());
            }
        }
    }
    missing
}

/// Says which process this is, in a file that is locked for as long as it runs: a number alone may come to be another's.
fn write_pid(path: &str) -> std::io::Result<std::fs::File> {
    let mut file = std::fs::File::options().create(true).truncate(false).write(true).open(path)?;
    file.try_lock()?;
    file.set_len(0)?;
    file.write_all(std::process::id().to_string().as_bytes())?;
    Ok(file)
}
