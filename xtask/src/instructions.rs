//! `cargo xtask instructions`: what hits, writes and reads of a disk cost, in instructions, by callgrind. Unlike times they are the
//! same on a busy machine.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::programs;
use crate::session::Session;
use crate::setup;
use crate::stage::{Counts, cargo, root, target};
use crate::test;

/// Reads in the shorter of two runs. The longer one makes twice as many; the difference leaves out what starting costs.
const READS: u64 = 5000;

/// What each kind may take in the profile of the tests, in which nothing more has to be compiled: `KIND INSTRUCTIONS`, a line
/// each.
const EXPECTED: &str = "tests/benches/instructions/expected.txt";

/// How many percent more fail. Processors differ by less: the C library copies memory in other ways on each.
const TOLERANCE: u64 = 5;

/// `cargo xtask instructions [--check]`.
pub(crate) fn run(arguments: &[String]) -> Result<(), String> {
    match arguments {
        [] => tables(),
        [check] if check == "--check" => {
            let mut session = Session::begin()?;
            session.programs = programs::compile(&session)?;
            guard(&mut session).map(drop)
        }
        _ => Err("usage: cargo xtask instructions [--check]".to_owned()),
    }
}

/// The stage of `ci`: no kind takes more than it did.
pub(crate) fn guard(session: &mut Session) -> Result<Counts, String> {
    setup::package("valgrind", "valgrind")?;
    let program = without_debug_info(test::own(session, "instructions")?.path())?;
    let file = root().join(EXPECTED);
    let text = fs::read_to_string(&file).map_err(|error| format!("{EXPECTED}: {error}"))?;
    let (mut counted, mut faults) = (String::new(), Vec::new());
    for line in text.lines() {
        let (kind, expected) =
            line.split_once(' ').ok_or_else(|| format!("{EXPECTED}: what is {line:?}?"))?;
        let expected: u64 = expected.parse().map_err(|_| format!("{EXPECTED}: what is {line:?}?"))?;
        let enough = expected * (100 + TOLERANCE) / 100;
        let found = least(&program, kind, enough)?;
        writeln!(counted, "{kind} {found}").ok();
        if found > enough {
            faults.push(format!("{kind} takes {found} instructions, {expected} before"));
        }
        session.detail().set(format!("{kind} {found}, {expected} before"));
    }
    if std::env::var_os("TIERED_BLESS").is_some() {
        fs::write(&file, &counted).map_err(|error| format!("{EXPECTED}: {error}"))?;
        println!("{EXPECTED} is as counted now");
        return Ok(Counts::default());
    }
    session.keep("instructions", &counted)?;
    if faults.is_empty() {
        return Ok(Counts::default());
    }
    Err(format!(
        "{}\nfind out why; where it is meant: TIERED_BLESS=1 cargo xtask instructions --check",
        faults.join("\n")
    ))
}

/// A copy of the program that every valgrind can read: older ones give up at the debug information of newer compilers.
fn without_debug_info(program: &Path) -> Result<PathBuf, String> {
    let copy = target().join("instructions");
    let mut strip = Command::new("strip");
    strip.arg("--strip-debug").arg("-o").arg(&copy).arg(program);
    output(strip)?;
    Ok(copy)
}

/// How often a kind is counted before it counts as slower.
const TRIES: usize = 5;

/// Instructions of one read of a kind, if possible at most `enough`. Hashes are seeded anew in each run: in one of eight a key meets
/// a pending one, and its reads take longer.
fn least(program: &Path, kind: &str, enough: u64) -> Result<u64, String> {
    let mut least = u64::MAX;
    for _ in 0..TRIES {
        least = least.min(each(program, kind, READS / 5)?);
        if least <= enough {
            break;
        }
    }
    Ok(least)
}

/// Instructions of one read of a kind.
fn each(program: &Path, kind: &str, reads: u64) -> Result<u64, String> {
    Ok(counted_run(program, kind, 2 * reads)?.saturating_sub(counted_run(program, kind, reads)?) / reads)
}

fn tables() -> Result<(), String> {
    setup::package("valgrind", "valgrind")?;
    let program = built()?;
    let kinds = output(Command::new(&program))?;
    let titles = ["a hit", "over quick_cache", "4 KiB", "a read of 1 KB", "a write of 100 B"];
    for (title, kinds) in titles.into_iter().zip(kinds.lines()) {
        let mut counted = Vec::new();
        for kind in kinds.split_whitespace() {
            counted.push((kind, each(&program, kind, READS)?));
        }
        print(title, &counted);
    }
    Ok(())
}

/// Prints a table. The first row is what the others are compared with.
fn print(title: &str, counted: &[(&str, u64)]) {
    let of = |name: &str| counted.iter().find(|(kind, _)| *kind == name).map(|(_, count)| *count);
    let first = counted.first().map_or(1, |(_, count)| *count);
    println!("{title:<15} {:>12} {:>8}", "instructions", "ratio");
    for (kind, instructions) in counted {
        println!("{kind:<15} {instructions:>12} {:>8}", ratio(*instructions, first));
    }
    if let (Some(typed), Some(decode)) = (of("typed"), of("decode")) {
        let beside = typed.saturating_sub(decode);
        println!("typed, without decoding: {beside}, {} of a hit", ratio(beside, first));
    }
    if let (Some(many), Some(raw)) = (of("get-many"), of("redb-many")) {
        println!("get-many: {} of a raw loop", ratio(many, raw));
    }
    if let (Some(miss), Some(load), Some(insert)) = (of("miss"), of("load"), of("insert")) {
        println!("a miss, beside a load and an insert: {}", miss.saturating_sub(load + insert));
    }
}

fn ratio(one: u64, other: u64) -> String {
    let hundredths = one * 100 / other.max(1);
    format!("{}.{:02}", hundredths / 100, hundredths % 100)
}

/// Builds the program, as a release.
fn built() -> Result<PathBuf, String> {
    let mut command = cargo(&[
        "build",
        "--release",
        "-p",
        "tiered-tests",
        "--bench",
        "instructions",
        "--message-format=json",
    ]);
    command.stderr(Stdio::inherit());
    let messages = output(command)?;
    let executables = messages.lines().filter_map(|line| line.split_once(r#""executable":""#));
    let program = executables
        .filter_map(|(_, rest)| rest.split('"').next())
        .find(|path| path.contains("instructions-"));
    program.map(PathBuf::from).ok_or_else(|| "cargo named no program".to_owned())
}

fn output(mut command: Command) -> Result<String, String> {
    let output = command.output().map_err(|error| format!("{command:?}: {error}"))?;
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    } else {
        Err(format!("{command:?}: {}", output.status))
    }
}

/// The instructions of one run.
fn counted_run(program: &Path, kind: &str, reads: u64) -> Result<u64, String> {
    let file = target().join("callgrind.out");
    let mut command = Command::new("valgrind");
    command
        .args(["--tool=callgrind", "--quiet", "--toggle-collect=*counted*"])
        .arg(format!("--callgrind-out-file={}", file.display()));
    command.arg(program).args([kind, &reads.to_string()]).stderr(Stdio::inherit());
    output(command)?;
    let text = std::fs::read_to_string(&file).map_err(|error| format!("{}: {error}", file.display()))?;
    let total =
        text.lines().find_map(|line| line.strip_prefix("totals: ").or(line.strip_prefix("summary: ")));
    total
        .and_then(|total| total.split(' ').next()?.parse().ok())
        .ok_or_else(|| "callgrind counted nothing".to_owned())
}
