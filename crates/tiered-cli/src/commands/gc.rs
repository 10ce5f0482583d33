//! `gc`.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use serde::Serialize;
use tiered::adapter::{Clock as _, SystemClock};
use tiered::values::sweep::{
    Horizon, KeepList, Roots, Sweep, SweepOutcome, SweepReport, Verdict, WriterUnderWay,
};
use tiered::{Create, Error, ErrorKind, Schemes, Store, Timestamp, values};

use super::closing;
use crate::arguments::{Gc, Place};
use crate::exit::{ABSENT, FAILED, Failure, OK};
use crate::output::{self, Lines};
use crate::{references, stack};

/// A key that is not live.
#[derive(Debug, Serialize)]
struct KeyLine<'a> {
    key: &'a str,
    verdict: &'static str,
}

#[derive(Debug, Serialize)]
struct WriterLine<'a> {
    id: String,
    label: &'a str,
    generation: u64,
    began: Option<String>,
}

#[derive(Debug, Serialize)]
struct StatusLine<'a> {
    horizon: String,
    writers: Vec<WriterLine<'a>>,
}

#[derive(Debug, Serialize)]
struct ReportLine<'a> {
    outcome: &'static str,
    generation: u64,
    horizon: u64,
    listed: u64,
    live: u64,
    observed: u64,
    rewritten: u64,
    deleted: u64,
    changed: u64,
    failed: u64,
    held_back: u64,
    too_new: u64,
    vanished: u64,
    damaged: u64,
    missing: u64,
    prefixes_without_roots: &'a [String],
    writers: Vec<WriterLine<'a>>,
}

/// What is live, as the command line says it.
enum Named {
    Roots(Roots),
    Keep(KeepList),
}

/// Prints keys while a sweep goes on. The first failure is kept for its end.
struct Printer {
    lines: Option<Lines>,
    failed: Option<Failure>,
    json: bool,
}

pub(super) async fn run(schemes: &Schemes, place: &Place, json: bool, order: Gc) -> Result<u8, Failure> {
    // A slow pipe locks no other process out: it is read before the store is opened.
    let named = named(&order)?;
    if named.is_none() && (order.apply || order.keys) {
        return Err(Failure::Usage(
            "say what is live: --roots-under PREFIX, --root KEY, or --keep FILE with --horizon".to_owned(),
        ));
    }
    let store = stack::open(schemes, place, Create::Never).await?;
    let done = on(&store, named, &order, json).await;
    closing(&*store, done).await
}

async fn on(store: &Arc<dyn Store>, named: Option<Named>, order: &Gc, json: bool) -> Result<u8, Failure> {
    let printer = order.keys.then(|| Arc::new(Mutex::new(Printer::new(json))));
    let sweep = sweep(store, order, printer.clone()).map_err(failure)?;
    if let Some(id) = order.forget_writer {
        let was_there = sweep.forget_writer(id).await.map_err(failure)?;
        return Ok(if was_there { OK } else { ABSENT });
    }
    let Some(named) = named else {
        // The horizon is read first: a writer that begins afterwards does not matter to it.
        let horizon = sweep.horizon().await.map_err(failure)?;
        let writers = sweep.writers().await.map_err(failure)?;
        return status(horizon, &writers, json);
    };
    let swept = match (&named, order.apply) {
        (Named::Roots(roots), false) => sweep.dry_run(roots).await,
        (Named::Roots(roots), true) => sweep.run(roots).await,
        (Named::Keep(keep), false) => sweep.dry_run(keep).await,
        (Named::Keep(keep), true) => sweep.run(keep).await,
    };
    if let Some(printer) = printer {
        printer.lock().unwrap_or_else(PoisonError::into_inner).finish()?;
    }
    let report = swept.map_err(failure)?;
    print(&report, json)?;
    Ok(if report.failed == 0 { OK } else { FAILED })
}

fn sweep(store: &Arc<dyn Store>, order: &Gc, printer: Option<Arc<Mutex<Printer>>>) -> values::Result<Sweep> {
    let mut builder = Sweep::builder(Arc::clone(store)).prefix(&order.prefix).records(&order.records);
    if let Some(age) = order.older_than {
        let now = SystemClock::new().now().as_millis();
        let age = u64::try_from(age.as_millis()).unwrap_or(u64::MAX);
        builder = builder.older_than(Timestamp::from_millis(now.saturating_sub(age)));
    }
    if let Some(printer) = printer {
        builder = builder.on_key(move |key, verdict| {
            printer.lock().unwrap_or_else(PoisonError::into_inner).print(key.as_str(), verdict);
        });
    }
    builder.build()
}

/// A run that roots outran can be repeated.
fn failure(error: values::Error) -> Failure {
    match error {
        values::Error::Contended { key, .. } => Error::new(
            ErrorKind::Unavailable,
            format!(
                "the roots changed faster than they were read ({key} changed last), and nothing was deleted; run it again when fewer writers are under way"
            ),
        )
        .into(),
        error => Error::from(error).into(),
    }
}

fn named(order: &Gc) -> Result<Option<Named>, Failure> {
    if let (Some(path), Some(horizon)) = (&order.keep, order.horizon) {
        return Ok(Some(Named::Keep(keep_list(path, horizon)?)));
    }
    if order.root.is_empty() && order.roots_under.is_empty() {
        return Ok(None);
    }
    let how = order.references.clone().unwrap_or_default();
    let mut roots = Roots::new(references::walk(how));
    for key in &order.root {
        roots = roots.root(key).map_err(failure)?;
    }
    for prefix in &order.roots_under {
        roots = if order.allow_empty { roots.under(prefix) } else { roots.under_existing(prefix) };
    }
    for prefix in &order.leaves_under {
        roots = roots.leaves_under(prefix);
    }
    Ok(Some(Named::Roots(roots)))
}

fn keep_list(path: &Path, horizon: Horizon) -> Result<KeepList, Failure> {
    let in_file = |error| Failure::Io(path.display().to_string(), error);
    let input: Box<dyn BufRead> = if path.as_os_str() == "-" {
        Box::new(std::io::stdin().lock())
    } else {
        Box::new(BufReader::new(std::fs::File::open(path).map_err(in_file)?))
    };
    let none: [&str; 0] = [];
    let mut keep = KeepList::new(horizon, none).map_err(failure)?;
    for (number, line) in input.lines().enumerate() {
        let line = line.map_err(in_file)?;
        if !line.is_empty() {
            let at = |error| Failure::Usage(format!("{}: line {}: {error}", path.display(), number + 1));
            keep.insert(line).map_err(at)?;
        }
    }
    Ok(keep)
}

impl Printer {
    fn new(json: bool) -> Self {
        Self { lines: Some(Lines::new()), failed: None, json }
    }

    fn print(&mut self, key: &str, verdict: Verdict) {
        let Some(lines) = &mut self.lines else { return };
        let verdict = word(verdict);
        let printed = if self.json {
            lines.json(&KeyLine { key, verdict })
        } else {
            lines.text(&format!("{verdict} {key}"))
        };
        self.failed = self.failed.take().or(printed.err());
    }

    fn finish(&mut self) -> Result<(), Failure> {
        let finished = self.lines.take().map_or(Ok(()), Lines::finish);
        self.failed.take().map_or(finished, Err)
    }
}

fn word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Observed => "observed",
        Verdict::HeldBack => "held-back",
        Verdict::TooNew => "too-new",
        Verdict::Deleted => "deleted",
        Verdict::Changed => "changed",
        Verdict::Failed => "failed",
        _ => "other",
    }
}

fn writer_line(writer: &WriterUnderWay) -> WriterLine<'_> {
    WriterLine {
        id: writer.id.to_string(),
        label: &writer.label,
        generation: writer.generation,
        began: writer.began.map(output::rfc3339),
    }
}

fn describe(writer: &WriterUnderWay) -> String {
    let began = writer.began.map_or_else(|| "at an unknown time".to_owned(), output::rfc3339);
    format!("writer {} ({:?}) began {began}, at generation {}", writer.id, writer.label, writer.generation)
}

fn status(horizon: Horizon, writers: &[WriterUnderWay], json: bool) -> Result<u8, Failure> {
    if json {
        output::json(&StatusLine {
            horizon: horizon.to_string(),
            writers: writers.iter().map(writer_line).collect(),
        })?;
        return Ok(OK);
    }
    let mut text = format!("horizon {horizon}\n");
    for writer in writers {
        text.push_str(&describe(writer));
        text.push('\n');
    }
    output::bytes(text.as_bytes())?;
    Ok(OK)
}

fn print(report: &SweepReport, json: bool) -> Result<(), Failure> {
    let outcome = match report.outcome {
        SweepOutcome::DryRun => "dry-run",
        SweepOutcome::Superseded => "superseded",
        _ => "completed",
    };
    if json {
        return output::json(&ReportLine {
            outcome,
            generation: report.generation,
            horizon: report.horizon,
            listed: report.listed,
            live: report.live,
            observed: report.observed,
            rewritten: report.rewritten,
            deleted: report.deleted,
            changed: report.changed,
            failed: report.failed,
            held_back: report.held_back,
            too_new: report.too_new,
            vanished: report.vanished,
            damaged: report.damaged,
            missing: report.missing,
            prefixes_without_roots: &report.prefixes_without_roots,
            writers: report.writers.iter().map(writer_line).collect(),
        });
    }
    let would = if report.outcome == SweepOutcome::DryRun { "would be " } else { "" };
    let text = format!(
        "generation {}; listed {}, live {}; {would}deleted {}, {would}observed for a later run {} ({} rewritten); spared: {} held back, {} too new, {} changed; {} failed, {} vanished, {} damaged, {} missing\n",
        report.generation,
        report.listed,
        report.live,
        report.deleted,
        report.observed,
        report.rewritten,
        report.held_back,
        report.too_new,
        report.changed,
        report.failed,
        report.vanished,
        report.damaged,
        report.missing
    );
    output::bytes(text.as_bytes())?;
    explain(report);
    Ok(())
}

/// Says on standard error what keeps garbage, and what to do.
fn explain(report: &SweepReport) {
    for writer in report.holders() {
        output::complain(&format!(
            "held back by {}; if it crashed: gc --forget-writer {}",
            describe(writer),
            writer.id
        ));
    }
    for prefix in &report.prefixes_without_roots {
        output::complain(&format!("there is no root under {prefix:?}"));
    }
    match report.outcome {
        SweepOutcome::DryRun => {
            output::complain("this was a dry run, and no entry was changed; add --apply to do it");
        }
        SweepOutcome::Superseded => {
            output::complain("another run came first: what this one observed does not count");
        }
        _ => {}
    }
}
