//! `tiered-bench`: measures groups, and writes what it found.
#![allow(clippy::print_stdout, reason = "a benchmark speaks on the terminal")]

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context as _, Result, bail};
use clap::Parser;
use tiered_bench::effort::Effort;
use tiered_bench::groups::{self, Bench, Group};
use tiered_bench::machine::Machine;
use tiered_bench::report::{self, Report, markdown};

/// Benchmarks of tiered beside its peers, in turns, in one run.
#[derive(Debug, Parser)]
struct Arguments {
    /// Groups to measure; all of them without any.
    groups: Vec<String>,
    /// A quick look, meant for ten minutes on two cores.
    #[arg(long)]
    quick: bool,
    /// The folder of tables, JSON and plots. Results of groups that are not measured stay.
    #[arg(long, default_value = "docs/benchmarks")]
    output: PathBuf,
    /// A README whose marked section gets the main figures.
    #[arg(long)]
    readme: Option<PathBuf>,
    /// A trace for hit ratios, in the format of cache2k (`.trace`, `.trace.xz`) or of ARC (`.lis`, `.lis.zst`).
    #[arg(long = "trace")]
    traces: Vec<PathBuf>,
    /// Name the groups and end.
    #[arg(long)]
    list: bool,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    if arguments.list {
        for group in groups::GROUPS {
            println!("{:<10} {}", group.name, group.about);
        }
        return Ok(());
    }
    let chosen = chosen(&arguments.groups)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(run(&arguments, &chosen))
}

fn chosen(names: &[String]) -> Result<Vec<&'static Group>> {
    if names.is_empty() {
        return Ok(groups::GROUPS.iter().collect());
    }
    let find = |name: &String| {
        let group = groups::GROUPS.iter().find(|group| group.name == name);
        group.with_context(|| format!("no group {name}; `--list` names them"))
    };
    names.iter().map(find).collect()
}

async fn run(arguments: &Arguments, chosen: &[&Group]) -> Result<()> {
    let scratch = groups::scratch(&arguments.output)?;
    let effort = Effort { quick: arguments.quick };
    let bench = Bench { effort, traces: arguments.traces.clone(), folder: scratch.path().to_owned() };
    let mut failed = Vec::new();
    for group in chosen {
        println!("--- {}", group.name);
        let (machine, begun) = (Machine::look(), Instant::now());
        match (group.run)(&bench).await {
            Ok(findings) => {
                println!("{}", markdown::outcome(&findings.rows));
                let mut report = Report::read(&arguments.output)?;
                let group_report = report::Group {
                    title: group.title.to_owned(),
                    about: group.about.to_owned(),
                    command: command(arguments, group.name),
                    date: jiff::Timestamp::now().strftime("%Y-%m-%d %H:%M UTC").to_string(),
                    quick: arguments.quick,
                    machine,
                    rows: findings.rows,
                    overview: findings.overview,
                    missing: findings.missing,
                    notes: findings.notes,
                };
                report.groups.insert(group.name.to_owned(), group_report);
                report.write(&arguments.output)?;
            }
            Err(error) => {
                println!("FAILED: {error:#}");
                failed.push(group.name);
            }
        }
        println!("--- {}: {} s", group.name, begun.elapsed().as_secs());
    }
    if let Some(readme) = &arguments.readme {
        report::readme::write(&Report::read(&arguments.output)?, readme)?;
    }
    if failed.is_empty() { Ok(()) } else { bail!("failed: {}", failed.join(", ")) }
}

/// The command that repeats a group's run. Traces are named without their folders, which differ by machine.
fn command(arguments: &Arguments, group: &str) -> String {
    let mut words = vec!["cargo xtask bench".to_owned()];
    words.extend(arguments.quick.then(|| "--quick".to_owned()));
    let features = [("rocksdb", cfg!(feature = "rocksdb")), ("servers", cfg!(feature = "servers"))];
    let built = features.iter().filter(|(_, built)| *built).map(|(feature, _)| *feature);
    if ["engines", "sync", "sync-servers", "restart"].contains(&group)
        && features.iter().any(|(_, built)| *built)
    {
        words.push(format!("--with {}", built.collect::<Vec<_>>().join(",")));
    }
    if group == "ratio" {
        let name = |path: &PathBuf| path.file_name().unwrap_or(Path::new("").as_os_str()).to_owned();
        words.extend(arguments.traces.iter().map(|path| format!("--trace {}", name(path).to_string_lossy())));
    }
    words.push(group.to_owned());
    words.join(" ")
}
