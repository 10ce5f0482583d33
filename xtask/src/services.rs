//! The servers that tests run against: `cargo xtask services up | down`, `cargo xtask images`, and for a run of tests.
//!
//! The program `tiered-services` starts them; it is built with the same selection of features as the tests.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::session;
use crate::stage::{self, cargo, target};

/// Names and values of variables.
type Variables = Vec<(String, String)>;

/// The servers of one run. They end when this is dropped.
#[derive(Debug)]
pub(crate) struct Services {
    /// The variables that tests look at; empty until they are ready.
    variables: Variables,
    /// Reads what the program says until all servers answer.
    starting: Option<JoinHandle<Result<Variables, String>>>,
    program: Child,
    /// The program stops what it started when this ends, even where this process is killed.
    lifeline: Option<ChildStdin>,
}

impl Services {
    /// Starts what is not given by URL, and waits until it serves. What the program does goes to `errors`.
    pub(crate) fn start(errors: Stdio) -> Result<Self, String> {
        Self::begin_with(Command::new(build()?), errors)?.ready()
    }

    /// The same for measurements: what a server acknowledges survives a loss of power.
    pub(crate) fn start_durable(errors: Stdio) -> Result<Self, String> {
        let mut command = Command::new(build()?);
        command.env("TIERED_SERVICES_SYNC", "1");
        Self::begin_with(command, errors)?.ready()
    }

    fn ready(mut self) -> Result<Self, String> {
        self.wait_until_ready()?;
        Ok(self)
    }

    /// Begins to start what is not given by URL, which goes on beside other work.
    pub(crate) fn begin(errors: Stdio) -> Result<Self, String> {
        Self::begin_with(Command::new(build()?), errors)
    }

    fn begin_with(mut command: Command, errors: Stdio) -> Result<Self, String> {
        command.arg("serve").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(errors);
        let mut program = command.spawn().map_err(|error| format!("{command:?}: {error}"))?;
        let (lifeline, output) = (program.stdin.take(), program.stdout.take());
        let starting = Some(thread::spawn(move || read(output.ok_or("tiered-services has no output")?)));
        Ok(Self { variables: Vec::new(), starting, program, lifeline })
    }

    /// Waits until all servers answer.
    pub(crate) fn wait_until_ready(&mut self) -> Result<(), String> {
        if let Some(starting) = self.starting.take() {
            self.variables = starting.join().map_err(|_| "the thread that waits for servers panicked")??;
        }
        Ok(())
    }

    /// Lets `command` find them.
    pub(crate) fn announce(&self, command: &mut Command) {
        for (name, value) in &self.variables {
            command.env(name, value);
        }
    }

    /// Whether the server of this variable is there.
    pub(crate) fn has(&self, variable: &str) -> bool {
        self.variables.iter().any(|(name, _)| name == variable)
    }
}

impl Drop for Services {
    fn drop(&mut self) {
        drop(self.lifeline.take());
        self.program.wait().ok();
    }
}

/// `cargo xtask services up`: until `down`. Prints what to set.
pub(crate) fn up() -> Result<(), String> {
    if running().is_some() {
        return Err("they run already; stop them with `cargo xtask services down`".to_owned());
    }
    let mut command = Command::new(build()?);
    command.args(["serve", "--until-stopped"]).arg(pid_file()).stdin(Stdio::null()).stdout(Stdio::piped());
    // Not stopped with this process.
    command.process_group(0);
    let mut program = command.spawn().map_err(|error| format!("{command:?}: {error}"))?;
    let variables = read(program.stdout.take().ok_or("tiered-services has no output")?);
    let variables = variables.inspect_err(|_| drop(program.wait()))?;
    println!("# Set these, then run any test by hand; stop the servers with `cargo xtask services down`.");
    for (name, value) in variables {
        println!("export {name}='{value}'");
    }
    Ok(())
}

/// `cargo xtask services down`.
pub(crate) fn down() -> Result<(), String> {
    let Some(pid) = running() else {
        println!("no servers run");
        return Ok(());
    };
    let stopped = Command::new("kill").arg(&pid).status().map_err(|error| format!("kill: {error}"))?;
    if !stopped.success() {
        return Err(format!("process {pid} was not stopped"));
    }
    for _ in 0..300 {
        if running().is_none() {
            fs::remove_file(pid_file()).ok();
            println!("stopped");
            return Ok(());
        }
        thread::sleep(Duration::from_millis(100));
    }
    Err(format!("process {pid} does not end"))
}

/// `cargo xtask images`.
pub(crate) fn images() -> Result<(), String> {
    let mut command = Command::new(build()?);
    command.arg("images");
    stage::run("images", command).map(drop)
}

fn pid_file() -> PathBuf {
    target().join("tiered-services.pid")
}

/// The process that serves until it is stopped.
fn running() -> Option<String> {
    // Locked for as long as it serves: its number alone may be another process's by now.
    let file = fs::File::open(pid_file()).ok()?;
    match file.try_lock_shared() {
        Err(fs::TryLockError::WouldBlock) => fs::read_to_string(pid_file()).ok(),
        Ok(()) | Err(fs::TryLockError::Error(_)) => None,
    }
}

/// Builds the program; where it is.
fn build() -> Result<PathBuf, String> {
    let selection = ["build", "--quiet", "--workspace", "--all-features", "--bin", "tiered-services"];
    let ran = session::run(&mut cargo(&selection), &mut |_| {})?;
    if ran.passed {
        return Ok(target().join("debug/tiered-services"));
    }
    Err(format!("the program that starts servers does not compile\n{}", ran.text))
}

/// Reads what the program says until all servers answer.
fn read(output: ChildStdout) -> Result<Variables, String> {
    let mut variables = Vec::new();
    for line in BufReader::new(output).lines().map_while(Result::ok) {
        if line == "ready" {
            return Ok(variables);
        }
        if let Some((name, value)) = line.split_once('=') {
            variables.push((name.to_owned(), value.to_owned()));
        }
    }
    Err("the servers for tests cannot be started; see above".to_owned())
}
