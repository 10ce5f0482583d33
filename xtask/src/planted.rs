//! `cargo xtask planted`: deliberate bugs, each of which a layer of the tests must catch.
//!
//! The bugs are patches, `crates/tiered-sim/planted/NAME.patch`; none is in the source. All of them are applied together
//! to a copy of the tracked files, which is compiled once. There each bug waits for the variable [`WANTED`], so that
//! each runs as a process of its own. A patch begins with a sentence that says what the bug is, and with one line
//! `layer: …` for each layer that must catch it.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use crate::interleavings::exploring;
use crate::stage::{self, cargo, root, target};

/// Where the patches are.
const FOLDER: &str = "crates/tiered-sim/planted";

/// The patch that makes the bugs a matter of a variable. It is none itself.
const BASE: &str = "base";

/// The variable that names the bug that is wanted.
const WANTED: &str = "TIERED_PLANTED";

/// Bugs between the journal and its folder, which need no patch: `tiered-sim --careless NAME`.
const CARELESS: [&str; 2] = ["fsync-retried", "checksum-skipped"];

/// Seeds within which the simulation must catch a bug.
const SEEDS: u64 = 100;
/// Schedules within which the interleavings must catch a bug, over all scenarios; one scenario is run, and ends with the
/// first that catches it. More than the gate explores: the rarest bug shows in the 14,000th schedule of its scenario.
const SCHEDULES: u64 = 1_000_000;

/// What a bug may do to the machine: so many KiB of memory, so many seconds.
const MEMORY: u64 = 8_000_000;
const PATIENCE: u64 = 600;

const USAGE: &str = "usage: cargo xtask planted [NAME…] [--engine] [--sample N] [--seed S] [--ops N]";

/// What catches a bug.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Layer {
    /// `tiered-sim`, one store.
    Simulation,
    /// Its test `shared`: several stores over one backend.
    Shared,
    /// This scenario of the engine under shuttle.
    Interleavings(String),
}

impl Layer {
    fn parse(text: &str) -> Option<Self> {
        match text.split_once(' ').unwrap_or((text, "")) {
            ("simulation", "") => Some(Self::Simulation),
            ("shared", "") => Some(Self::Shared),
            ("interleavings", scenario) if !scenario.is_empty() => {
                Some(Self::Interleavings(scenario.to_owned()))
            }
            _ => None,
        }
    }

    const fn name(&self) -> &'static str {
        match self {
            Self::Simulation => "simulation",
            Self::Shared => "shared",
            Self::Interleavings(_) => "interleavings",
        }
    }
}

/// A deliberate bug.
#[derive(Clone, Debug)]
struct Bug {
    name: String,
    /// Whether it is the journal's, without a patch.
    careless: bool,
    layers: Vec<Layer>,
}

/// What the command line asks for.
struct Wanted {
    names: Vec<String>,
    /// Without the broken stores.
    engine: bool,
    sample: Option<usize>,
    seed: String,
    operations: String,
}

impl Wanted {
    fn parse(arguments: &[String]) -> Result<Self, String> {
        let (mut names, mut engine, mut sample) = (Vec::new(), false, None);
        let (mut seed, mut operations) = ("0".to_owned(), "2000".to_owned());
        let mut rest = arguments.iter();
        while let Some(argument) = rest.next() {
            let mut number = || -> Result<String, String> {
                let value = rest.next().filter(|value| value.parse::<u64>().is_ok());
                value.cloned().ok_or_else(|| USAGE.to_owned())
            };
            match argument.as_str() {
                "--engine" => engine = true,
                "--sample" => sample = number()?.parse().ok(),
                "--seed" => seed = number()?,
                "--ops" => operations = number()?,
                name if !name.starts_with('-') => names.push(name.to_owned()),
                _ => return Err(USAGE.to_owned()),
            }
        }
        Ok(Self { names, engine, sample, seed, operations })
    }

    /// The bugs to run. A sample begins at another place with each commit, so that all of them have their turn.
    fn choose(&self, all: Vec<Bug>) -> Result<Vec<Bug>, String> {
        if let Some(unknown) = self.names.iter().find(|name| all.iter().all(|bug| bug.name != **name)) {
            return Err(format!("{FOLDER} has no {unknown}.patch, and the journal no such bug"));
        }
        if !self.names.is_empty() {
            return Ok(all.into_iter().filter(|bug| self.names.contains(&bug.name)).collect());
        }
        let Some(sample) = self.sample.filter(|sample| *sample < all.len()) else { return Ok(all) };
        let commit = output(Command::new("git").args(["rev-parse", "HEAD"]).current_dir(root()))?;
        let place = commit.get(..8).and_then(|digits| usize::from_str_radix(digits, 16).ok()).unwrap_or(0);
        let count = all.len();
        let begin = place % count;
        println!("{sample} of {count} bugs, from the {}th on, by the commit {}", begin + 1, commit.trim());
        Ok(all.into_iter().cycle().skip(begin).take(sample).collect())
    }
}

/// The names of the patches, in order; the base is first.
fn patches() -> Result<Vec<String>, String> {
    let folder = root().join(FOLDER);
    let entries = fs::read_dir(&folder).map_err(|error| format!("{FOLDER}: {error}"))?;
    let files = entries.map_while(Result::ok).filter_map(|entry| entry.file_name().into_string().ok());
    let mut names: Vec<String> =
        files.filter_map(|file| file.strip_suffix(".patch").map(str::to_owned)).collect();
    names.sort_unstable_by_key(|name| (name != BASE, name.clone()));
    Ok(names)
}

fn file_of(name: &str) -> PathBuf {
    root().join(FOLDER).join(format!("{name}.patch"))
}

/// The bug of a patch, by what stands above its first diff.
fn read(name: &str) -> Result<Bug, String> {
    let text = fs::read_to_string(file_of(name)).map_err(|error| format!("{name}.patch: {error}"))?;
    let (mut sentence, mut layers) = (String::new(), Vec::new());
    for line in text.lines().take_while(|line| !line.starts_with("diff ")) {
        match line.strip_prefix("layer: ") {
            Some(layer) => {
                let layer = Layer::parse(layer);
                layers.push(layer.ok_or_else(|| format!("{FOLDER}/{name}.patch: what is {line:?}?"))?);
            }
            None => sentence.push_str(line),
        }
    }
    if !sentence.ends_with('.') || layers.is_empty() {
        return Err(format!("{FOLDER}/{name}.patch: a sentence that says what the bug is, then `layer: …`"));
    }
    if !text.contains(&format!("crate::planted::has(\"{name}\")")) {
        return Err(format!("{FOLDER}/{name}.patch does not ask whether {name} is wanted"));
    }
    Ok(Bug { name: name.to_owned(), careless: false, layers })
}

fn all() -> Result<Vec<Bug>, String> {
    let patched = patches()?.into_iter().filter(|name| name != BASE).map(|name| read(&name));
    let careless = CARELESS
        .map(|name| Ok(Bug { name: name.to_owned(), careless: true, layers: vec![Layer::Simulation] }));
    patched.chain(careless).collect()
}

/// For `tidy`: each patch applies to the tree, and says what it must.
pub(crate) fn check(faults: &mut Vec<String>) -> Result<(), String> {
    for name in patches()? {
        faults.extend(check_alone(&name).err());
        if name != BASE {
            faults.extend(read(&name).err());
        }
    }
    Ok(())
}

fn check_alone(name: &str) -> Result<(), String> {
    let mut check = Command::new("git");
    check.args(["apply", "--check"]).arg(file_of(name)).current_dir(root());
    output(&mut check).map(drop).map_err(|why| {
        format!("{FOLDER}/{name}.patch does not apply any more; put its bug where the code is now\n{why}")
    })
}

/// Runs a command to its end; what it printed, or what it said when it failed.
fn output(command: &mut Command) -> Result<String, String> {
    let output = command.output().map_err(|error| format!("{command:?}: {error}"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(String::from_utf8_lossy(&output.stderr).trim_end().to_owned())
}

/// Where the copy is, and what is compiled from it.
struct Copy {
    source: PathBuf,
    /// Of its own: cargo takes what it compiled from another checkout in the same folder for fresh.
    compiled: PathBuf,
}

impl Copy {
    /// Copies what git knows and applies the patches. Files of an earlier copy that are the same stay as they are, so that
    /// cargo compiles only what has changed.
    fn make() -> Result<Self, String> {
        let here = target().join("planted");
        let copy = Self { source: here.join("source"), compiled: here.join("compiled") };
        let fresh = here.join("fresh");
        let io = |error: io::Error| format!("{}: {error}", here.display());
        remove(&fresh).map_err(io)?;
        let tracked = output(Command::new("git").args(["ls-files", "-z"]).current_dir(root()))?;
        for file in tracked.split('\0').filter(|file| !file.is_empty()) {
            // Passes over a file that is deleted and not yet committed.
            if let Ok(content) = fs::read(root().join(file)) {
                write(&fresh.join(file), &content).map_err(io)?;
            }
        }
        for name in patches()? {
            check_alone(&name)?;
            let mut apply = Command::new("git");
            // Two patches may be neighbours, so that one line of context must do; and the copy is no repository.
            apply.args(["apply", "-C1"]).arg(file_of(&name)).current_dir(&fresh);
            apply.env("GIT_CEILING_DIRECTORIES", fs::canonicalize(&here).map_err(io)?);
            output(&mut apply).map_err(|why| {
                format!("{FOLDER}/{name}.patch does not apply after those before it\n{why}")
            })?;
        }
        refresh(&copy.source, &fresh).map_err(io)?;
        remove(&fresh).map_err(io)?;
        Ok(copy)
    }

    fn cargo(&self, mut command: Command) -> Command {
        command.current_dir(&self.source).env("CARGO_TARGET_DIR", &self.compiled);
        command
    }

    /// The test of several stores over one backend.
    fn shared(&self) -> Command {
        let test = ["test", "--quiet", "--release", "--package", "tiered-sim", "--test", "shared"];
        self.cargo(cargo(&[&test[..], &["several_stores"]].concat()))
    }

    fn scenario(&self, name: &str) -> Command {
        let mut command = exploring(&format!("interleavings::{name}"), &self.compiled.join("shuttle"));
        command.current_dir(&self.source);
        command
    }

    fn simulation(&self) -> Command {
        let program = self.compiled.join("release").join("tiered-sim");
        let mut command = Command::new("sh");
        // Where the system has such a bound: a bug may take all memory.
        command.args(["-c", &format!("ulimit -v {MEMORY} 2>/dev/null; exec \"$0\" \"$@\"")]).arg(program);
        command
    }

    /// Compiles what the layers need.
    fn compile(&self, bugs: &[Bug]) -> Result<(), String> {
        let uses =
            |wanted: fn(&Layer) -> bool| bugs.iter().flat_map(|bug| &bug.layers).find(|layer| wanted(layer));
        let build = self.cargo(cargo(&["build", "--quiet", "--release", "--package", "tiered-sim"]));
        stage::run("deliberate bugs: the copy", build)?;
        if uses(|layer| *layer == Layer::Shared).is_some() {
            let mut build = self.shared();
            build.arg("--no-run");
            stage::run("deliberate bugs: the copy, several stores over one backend", build)?;
        }
        if let Some(Layer::Interleavings(scenario)) = uses(|layer| matches!(layer, Layer::Interleavings(_))) {
            let mut build = self.scenario(scenario);
            build.env("TIERED_SCHEDULES", "1");
            stage::run("deliberate bugs: the copy, interleavings", build)?;
        }
        Ok(())
    }

    /// Runs a bug under a layer; what it printed where it was caught.
    fn run(&self, bug: &Bug, layer: &Layer, wanted: &Wanted) -> Result<Option<String>, String> {
        let mut command = match layer {
            Layer::Simulation => self.simulation(),
            Layer::Shared => self.shared(),
            Layer::Interleavings(scenario) => self.scenario(scenario),
        };
        match layer {
            Layer::Simulation => {
                command.args(["--once", "--seeds", &SEEDS.to_string()]);
                command.args(["--seed", &wanted.seed, "--ops", &wanted.operations]);
                if bug.careless {
                    command.args(["--careless", &bug.name]);
                }
            }
            Layer::Shared => {}
            Layer::Interleavings(_) => {
                command.env("TIERED_SCHEDULES", SCHEDULES.to_string());
            }
        }
        let (ended_well, text) = self.watch(command.env(WANTED, &bug.name))?;
        if ended_well {
            return Ok(None);
        }
        let what = caught(layer, &text).ok_or(text)?;
        if *layer == Layer::Simulation {
            self.control(&what, wanted)?;
        }
        Ok(Some(what))
    }

    /// Runs the seed that caught a bug without that bug: it must be clean, else something else was caught.
    fn control(&self, what: &str, wanted: &Wanted) -> Result<(), String> {
        let seed = what.strip_prefix("seed ").and_then(|rest| rest.split(':').next()).unwrap_or_default();
        let mut command = self.simulation();
        command.args(["--once", "--seeds", "1", "--seed", seed, "--ops", &wanted.operations]);
        let (clean, text) = self.watch(&mut command)?;
        if clean { Ok(()) } else { Err(format!("the seed fails without the bug as well\n{text}")) }
    }

    /// Runs a command for as long as patience lasts; whether it ended well, and what it printed.
    fn watch(&self, command: &mut Command) -> Result<(bool, String), String> {
        let printed = self.source.with_file_name("printed");
        let io = |error: io::Error| format!("{}: {error}", printed.display());
        let file = File::create(&printed).map_err(io)?;
        command.env("RUST_BACKTRACE", "0").stdin(Stdio::null()).stderr(file.try_clone().map_err(io)?);
        let mut child = command.stdout(file).spawn().map_err(|error| format!("{command:?}: {error}"))?;
        let read = || fs::read(&printed).map(|text| String::from_utf8_lossy(&text).into_owned()).map_err(io);
        for _ in 0..PATIENCE * 20 {
            if let Some(status) = child.try_wait().map_err(io)? {
                return Ok((status.success(), read()?));
            }
            sleep(Duration::from_millis(50));
        }
        child.kill().map_err(io)?;
        child.wait().map_err(io)?;
        Err(format!("no end within {PATIENCE} s\n{}", read()?))
    }
}

/// Which seed or schedule caught the bug, and what was wrong: from what a failed run printed.
fn caught(layer: &Layer, text: &str) -> Option<String> {
    let line = match layer {
        Layer::Simulation => text.lines().find(|line| line.starts_with("seed "))?.to_owned(),
        Layer::Shared | Layer::Interleavings(_) => {
            let mut lines = text
                .lines()
                .skip_while(|line| !(line.starts_with("thread ") && line.contains("panicked at")));
            lines.next()?;
            let what = lines.next()?;
            let at = text.lines().find_map(|line| {
                let (before, number) = line.strip_suffix(" failed")?.rsplit_once(' ')?;
                let word = before.rsplit(' ').next().filter(|_| number.parse::<u64>().is_ok())?;
                Some(format!("{word} {number}: "))
            });
            at.unwrap_or_default() + what
        }
    };
    Some(line.chars().take(140).collect())
}

fn remove(folder: &Path) -> io::Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn write(file: &Path, content: &[u8]) -> io::Result<()> {
    if let Some(folder) = file.parent() {
        fs::create_dir_all(folder)?;
    }
    fs::write(file, content)
}

/// Makes `old` the same as `new`. What is the same already is not written.
fn refresh(old: &Path, new: &Path) -> io::Result<()> {
    fs::create_dir_all(old)?;
    for entry in fs::read_dir(old)? {
        let entry = entry?;
        let stays = new.join(entry.file_name());
        match (entry.file_type()?.is_dir(), stays.is_dir(), stays.exists()) {
            (true, false, _) => fs::remove_dir_all(entry.path())?,
            (false, true, _) | (false, _, false) => fs::remove_file(entry.path())?,
            _ => {}
        }
    }
    for entry in fs::read_dir(new)? {
        let entry = entry?;
        let (from, to) = (entry.path(), old.join(entry.file_name()));
        if entry.file_type()?.is_dir() {
            refresh(&to, &from)?;
            continue;
        }
        let content = fs::read(&from)?;
        if fs::read(&to).ok().as_ref() != Some(&content) {
            fs::write(&to, content)?;
        }
    }
    Ok(())
}

/// As the command line asks; where it names no bugs, stores that break a promise under the conformance suite as well.
pub(crate) fn command(arguments: &[String]) -> Result<(), String> {
    run(arguments)?;
    let wanted = Wanted::parse(arguments)?;
    if !wanted.names.is_empty() || wanted.engine || wanted.sample.is_some() {
        return Ok(());
    }
    let mut broken = cargo(&[
        "test",
        "--quiet",
        "--package",
        "tiered-conformance",
        "--test",
        "it",
        "broken",
        "--",
        "--nocapture",
    ]);
    broken.env("RUST_BACKTRACE", "0");
    stage::run("deliberate bugs: broken stores under the conformance suite", broken).map(drop)
}

/// Runs the bugs that the command line names, else all.
fn run(arguments: &[String]) -> Result<(), String> {
    let wanted = Wanted::parse(arguments)?;
    let bugs = wanted.choose(all()?)?;
    let copy = Copy::make()?;
    copy.compile(&bugs)?;
    println!("--- deliberate bugs");
    let mut missed = Vec::new();
    for bug in &bugs {
        for layer in &bug.layers {
            let (name, by) = (&bug.name, layer.name());
            match copy.run(bug, layer, &wanted) {
                Ok(Some(what)) => println!("{name}: {by}, {what}"),
                Ok(None) => {
                    println!("{name}: {by}, NOT CAUGHT");
                    missed.push(format!("{name} by {by}"));
                }
                Err(text) => {
                    println!("{name}: {by}, a failure that is none of the layer's\n{text}");
                    missed.push(format!("{name} by {by}"));
                }
            }
        }
    }
    if missed.is_empty() {
        println!("{} deliberate bugs, each caught by each of its layers", bugs.len());
        return Ok(());
    }
    Err(format!("deliberate bugs were not caught: {}", missed.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::{Layer, caught};

    #[test]
    fn the_seed_or_schedule_that_caught_a_bug_is_parsed_from_a_failed_run() {
        let simulation = "  12 ms  a call\nseed 7: key-0: not linearizable\nto repeat it: …";
        assert_eq!(
            caught(&Layer::Simulation, simulation).as_deref(),
            Some("seed 7: key-0: not linearizable")
        );
        let shared = "thread 'a' panicked at b:1:2:\ntwice: c\nseed 3 failed\ntest result: FAILED. 1 failed";
        assert_eq!(caught(&Layer::Shared, shared).as_deref(), Some("seed 3: twice: c"));
        let scenario = Layer::parse("interleavings writers").expect("one");
        let schedule = "thread 'a' panicked at b:1:2:\nstale\n.writers: schedule 12 failed";
        assert_eq!(caught(&scenario, schedule).as_deref(), Some("schedule 12: stale"));
        assert_eq!(caught(&scenario, "error: could not compile"), None);
        assert_eq!(Layer::parse("somewhere"), None);
    }
}
