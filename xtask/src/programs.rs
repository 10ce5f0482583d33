//! The test programs of the workspace: compiled by one command, then run several at a time.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::progress::Detail;
use crate::session::{Ran, Session, print, run, without_passes};
use crate::stage::{Counts, cargo};

/// A compiled program of the workspace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Program {
    pub(crate) package: String,
    /// The name of the test, of the program, or of the library whose tests it holds.
    pub(crate) name: String,
    /// `test`, `bin` or `lib`.
    pub(crate) kind: String,
    /// Whether it holds tests. A program of the workspace is compiled without them as well.
    pub(crate) is_test: bool,
    path: PathBuf,
    /// The folder of its package, which tests run in.
    folder: PathBuf,
}

/// A program with what it is run with.
#[derive(Clone, Debug)]
pub(crate) struct Job {
    pub(crate) program: Program,
    pub(crate) arguments: Vec<String>,
}

/// How a job ended.
struct Ended {
    job: Job,
    ran: Result<Ran, String>,
    taken: Duration,
}

/// Compiles every test of the workspace. All commands use the same selection: another one would compile RocksDB again.
pub(crate) fn compile(session: &Session) -> Result<Vec<Program>, String> {
    let mut command =
        cargo(&["test", "--workspace", "--all-features", "--lib", "--bins", "--tests", "--no-run"]);
    command.args(["--quiet", "--message-format", "json-render-diagnostics"]);
    let (detail, mut units, mut programs) = (session.detail(), 0, Vec::new());
    let ran = run(&mut command, &mut |line| {
        let Some(message) = artifact(line) else { return };
        units += 1;
        detail.set(format!("{units} units"));
        programs.extend(program(&message));
    })?;
    let text: String =
        ran.text.lines().filter(|line| !line.starts_with('{')).flat_map(|line| [line, "\n"]).collect();
    session.keep("what the compiler says", &text)?;
    if ran.passed {
        return Ok(programs);
    }
    print(&text);
    Err("it does not compile".to_owned())
}

/// A line of cargo's that says what was compiled.
fn artifact(line: &str) -> Option<Value> {
    let message: Value = serde_json::from_str(line).ok()?;
    (message.get("reason")?.as_str()? == "compiler-artifact").then_some(message)
}

fn program(message: &Value) -> Option<Program> {
    let text = |value: Option<&Value>| value?.as_str().map(str::to_owned);
    let path = PathBuf::from(text(message.get("executable"))?);
    let manifest = PathBuf::from(text(message.get("manifest_path"))?);
    let folder = manifest.parent()?.to_owned();
    let target = message.get("target")?;
    Some(Program {
        package: package(text(message.get("package_id"))?.as_str(), &folder),
        name: text(target.get("name"))?,
        kind: text(target.get("kind")?.get(0))?,
        is_test: message.get("profile")?.get("test")?.as_bool()?,
        path,
        folder,
    })
}

/// The name in a package's id: `path+file:///…/tiered-core#0.1.0`, or `…/tests#tiered-tests@0.1.0`.
fn package(id: &str, folder: &Path) -> String {
    match id.rsplit_once('#').and_then(|(_, name)| name.split_once('@')) {
        Some((name, _)) => name.to_owned(),
        None => folder.file_name().unwrap_or_default().to_string_lossy().into_owned(),
    }
}

impl Program {
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The command that runs it.
    pub(crate) fn command(&self, session: &Session) -> Command {
        let mut command = Command::new(&self.path);
        command.current_dir(&self.folder).env("CARGO_MANIFEST_DIR", &self.folder);
        session.prepare(&mut command);
        command
    }

    /// The command of cargo that runs it alone.
    fn again(&self) -> String {
        let target = match self.kind.as_str() {
            "test" => format!("--test {}", self.name),
            "bin" => format!("--bin {}", self.name),
            _ => "--lib".to_owned(),
        };
        format!("cargo test --package {} --all-features {target}", self.package)
    }
}

/// Runs jobs, `at_a_time` of them at once; shows what fails.
pub(crate) fn run_all(session: &Session, jobs: Vec<Job>, at_a_time: usize) -> Result<Counts, String> {
    let (count, detail) = (jobs.len(), session.detail());
    let waiting = Mutex::new(VecDeque::from(jobs));
    let ended: Mutex<Vec<Ended>> = Mutex::default();
    std::thread::scope(|scope| {
        for _ in 0..at_a_time {
            scope.spawn(|| work(session, &waiting, &ended, &detail, count));
        }
    });
    let (mut counts, mut failed) = (Counts::default(), Vec::new());
    for Ended { job, ran, taken } in ended.into_inner().unwrap_or_else(PoisonError::into_inner) {
        let what = format!("{} {} ({:.1} s)", job.program.package, job.program.name, taken.as_secs_f64());
        match ran {
            Ok(ran) => {
                session.keep(&what, &ran.text)?;
                counts.add(ran.counts);
                if !ran.passed {
                    failed.push(job.program.again());
                }
            }
            Err(why) => failed.push(format!("{what}: {why}")),
        }
    }
    if failed.is_empty() { Ok(counts) } else { Err(format!("to repeat it:\n  {}", failed.join("\n  "))) }
}

/// Runs the jobs that wait, one after the other.
fn work(
    session: &Session,
    waiting: &Mutex<VecDeque<Job>>,
    ended: &Mutex<Vec<Ended>>,
    detail: &Detail,
    count: usize,
) {
    loop {
        let next = waiting.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
        let Some(job) = next else { return };
        #[expect(clippy::disallowed_methods, reason = "a build tool has no injected clock")]
        let begun = Instant::now();
        let mut command = job.program.command(session);
        let ran = run(command.args(&job.arguments), &mut |_| {});
        if let Ok(ran) = &ran
            && !ran.passed
        {
            print(&format!(
                "--- {} {}\n{}",
                job.program.package,
                job.program.name,
                without_passes(&ran.text)
            ));
        }
        let mut ended = ended.lock().unwrap_or_else(PoisonError::into_inner);
        ended.push(Ended { job, ran, taken: begun.elapsed() });
        detail.set(format!("{} of {count} programs", ended.len()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_read_from_the_messages_of_cargo() {
        let line = r#"{"reason":"compiler-artifact","package_id":"path+file:///x/tests#tiered-tests@0.1.0",
            "manifest_path":"/x/tests/Cargo.toml","target":{"kind":["test"],"name":"matrix"},
            "profile":{"test":true},"executable":"/x/target/debug/deps/matrix-1"}"#;
        let expected = Program {
            package: "tiered-tests".to_owned(),
            name: "matrix".to_owned(),
            kind: "test".to_owned(),
            is_test: true,
            path: PathBuf::from("/x/target/debug/deps/matrix-1"),
            folder: PathBuf::from("/x/tests"),
        };
        assert_eq!(artifact(line).as_ref().and_then(program), Some(expected));
        let library = line.replace("\"/x/target/debug/deps/matrix-1\"", "null");
        assert_eq!(artifact(&library).as_ref().and_then(program), None);
        assert_eq!(artifact(r#"{"reason":"build-finished","success":true}"#), None);
        assert_eq!(
            package("path+file:///x/crates/tiered-core#0.1.0", Path::new("/x/crates/tiered-core")),
            "tiered-core"
        );
    }
}
