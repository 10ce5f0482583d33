//! What the stages of a command share: servers, compiled programs, a folder for temporary files, logs.

use std::fs::{self, File};
use std::io::{self, BufRead as _, BufReader, IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::programs::Program;
use crate::progress::{Detail, Progress};
use crate::scratch::Scratch;
use crate::services::Services;
use crate::stage::{Counts, target};

/// The state of a command between its stages.
pub(crate) struct Session {
    logs: PathBuf,
    scratch: Scratch,
    is_compiled: bool,
    /// The log of the stage that runs.
    log: PathBuf,
    progress: Option<Progress>,
    pub(crate) programs: Vec<Program>,
    services: Option<Services>,
    missing: Vec<String>,
}

/// How a command ended, and what it printed.
pub(crate) struct Ran {
    pub(crate) passed: bool,
    pub(crate) counts: Counts,
    pub(crate) text: String,
}

impl Session {
    pub(crate) fn begin() -> Result<Self, String> {
        let logs = target().join("xtask");
        let io = |error: io::Error| format!("{}: {error}", logs.display());
        fs::create_dir_all(&logs).map_err(io)?;
        for entry in fs::read_dir(&logs).map_err(io)?.flatten() {
            if entry.path().extension().is_some_and(|extension| extension == "log") {
                fs::remove_file(entry.path()).map_err(io)?;
            }
        }
        let log = logs.join("begin.log");
        let scratch = Scratch::make()?;
        Ok(Self {
            logs,
            scratch,
            is_compiled: is_compiled(),
            log,
            progress: None,
            programs: Vec::new(),
            services: None,
            missing: Vec::new(),
        })
    }

    /// Whether RocksDB, which takes longest, was compiled before this command began.
    pub(crate) const fn is_compiled(&self) -> bool {
        self.is_compiled
    }

    pub(crate) fn logs(&self) -> &Path {
        &self.logs
    }

    pub(crate) fn begin_stage(&mut self, name: &str, progress: Progress) {
        self.log = self.logs.join(format!("{}.log", name.replace([' ', ','], "-")));
        self.progress = Some(progress);
    }

    pub(crate) fn end_stage(&mut self) {
        self.progress = None;
    }

    /// What the line of progress says beside the seconds.
    pub(crate) fn detail(&self) -> Detail {
        self.progress.as_ref().map(Progress::detail).unwrap_or_default()
    }

    /// Adds to what is not run.
    pub(crate) fn miss(&mut self, what: String) {
        self.missing.push(what);
    }

    pub(crate) fn missing(&self) -> &[String] {
        &self.missing
    }

    pub(crate) fn serve(&mut self, services: Services) {
        self.services = Some(services);
    }

    /// Waits until the servers answer that were begun.
    pub(crate) fn wait_for_servers(&mut self) -> Result<(), String> {
        self.services.as_mut().ok_or("no servers were begun")?.wait_until_ready()
    }

    /// Whether the server of this variable is there.
    pub(crate) fn has(&self, variable: &str) -> bool {
        self.services.as_ref().is_some_and(|services| services.has(variable))
    }

    /// Lets `command` find the servers, and put its temporary files where they are removed.
    pub(crate) fn prepare(&self, command: &mut Command) {
        command.env("TMPDIR", self.scratch.path());
        if let Some(services) = &self.services {
            services.announce(command);
        }
    }

    /// Runs a command. What it prints goes to the log, and to the terminal if it fails.
    pub(crate) fn quiet(&self, mut command: Command) -> Result<Counts, String> {
        let ran = run(&mut command, &mut |_| {})?;
        self.keep(&format!("{command:?}"), &ran.text)?;
        if ran.passed {
            return Ok(ran.counts);
        }
        print(&without_passes(&ran.text));
        Err(format!("{command:?}"))
    }

    /// Appends to the log of the stage.
    pub(crate) fn keep(&self, what: &str, text: &str) -> Result<(), String> {
        let mut file = File::options().create(true).append(true).open(&self.log);
        let written = file.as_mut().map(|file| write!(file, "--- {what}\n{text}\n"));
        match written {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(format!("{}: {error}", self.log.display())),
            Err(error) => Err(format!("{}: {error}", self.log.display())),
        }
    }
}

/// Whether RocksDB is compiled.
fn is_compiled() -> bool {
    let built = fs::read_dir(target().join("debug/build")).into_iter().flatten().flatten();
    built
        .filter(|entry| entry.file_name().to_string_lossy().starts_with("librocksdb-sys-"))
        .any(|entry| entry.path().join("out/librocksdb.a").exists())
}

/// Runs a command to its end, both outputs in the order in which they came; `each` sees every line.
pub(crate) fn run(command: &mut Command, each: &mut dyn FnMut(&str)) -> Result<Ran, String> {
    let failed = |error: io::Error| format!("{command:?}: {error}");
    let (reader, writer) = io::pipe().map_err(failed)?;
    let errors = writer.try_clone().map_err(failed)?;
    let spawned = command.stdin(Stdio::null()).stdout(writer).stderr(errors).spawn();
    // The command keeps its ends of the pipe open: the reader would wait forever.
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = spawned.map_err(|error| format!("{command:?}: {error}"))?;
    let (mut counts, mut text) = (Counts::default(), String::new());
    for line in BufReader::new(reader).split(b'\n').map_while(Result::ok) {
        let line = String::from_utf8_lossy(&line);
        counts.read(&line);
        each(&line);
        text.push_str(&line);
        text.push('\n');
    }
    let status = child.wait().map_err(|error| format!("{command:?}: {error}"))?;
    Ok(Ran { passed: status.success(), counts, text })
}

/// Prints over the line of progress.
pub(crate) fn print(text: &str) {
    let clear = if io::stdout().is_terminal() { "\r\x1b[K" } else { "" };
    println!("{clear}{}", text.trim_end());
    io::stdout().flush().ok();
}

/// What a failed run printed, without the lines of what passed.
pub(crate) fn without_passes(text: &str) -> String {
    let passed = |line: &&str| {
        line.starts_with("test ") && line.ends_with(" ... ok")
            || line.starts_with("stack ")
                && (line.contains(", 0 failed, ") || line.contains(": refused when built, as"))
    };
    text.lines().filter(|line| !passed(line)).flat_map(|line| [line, "\n"]).collect()
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::{run, without_passes};

    #[test]
    fn both_outputs_of_a_command_are_read_to_their_end() {
        let mut lines = Vec::new();
        let mut command = Command::new("sh");
        command.args(["-c", "echo one; echo two >&2; echo 'test result: ok. 3 passed; 0 failed'; exit 1"]);
        let ran = run(&mut command, &mut |line| lines.push(line.to_owned())).expect("runs");
        assert_eq!(lines, ["one", "two", "test result: ok. 3 passed; 0 failed"]);
        assert_eq!((ran.passed, ran.counts.passed), (false, 3));
    }

    #[test]
    fn a_failed_run_is_shown_without_the_tests_that_passed() {
        let text = "running 2 tests\ntest a ... ok\ntest b ... FAILED\nstack memory: 1 passed, 0 failed, 2 skipped\nwhy";
        assert_eq!(without_passes(text), "running 2 tests\ntest b ... FAILED\nwhy\n");
    }
}
