//! `journal list`, `verify`, `retry`, `drop` and `abandon`.

use std::path::Path;

use serde::Serialize;
use tiered::adapter::journal::{JournalRecord, Recovered};
use tiered::journal::Report;
use tiered::ownership::{self, JournalId};
use tiered::{Action, Create, Schemes, Store, TieredStore};

use super::closing;
use crate::arguments::{Journal, Place};
use crate::exit::{ABSENT, Failure, OK, USAGE};
use crate::output::Lines;
use crate::{output, stack};

pub(super) async fn run(
    schemes: &Schemes,
    place: &Place,
    json: bool,
    command: Journal,
) -> Result<u8, Failure> {
    match command {
        Journal::List => list(schemes, place, json).await,
        Journal::Verify => verify(schemes, place, json).await,
        Journal::Abandon { id, yes } => abandon(schemes, place, id, yes).await,
        Journal::Retry { sequence } => {
            let store = stack::open_tiered(schemes, place).await?;
            let retried = retry(&store, sequence).await;
            closing(&store, retried).await?;
            Ok(OK)
        }
        Journal::Drop { sequence } => {
            let store = stack::open_tiered(schemes, place).await?;
            let dropped = give_up(&store, sequence).await;
            closing(&store, dropped).await?;
            Ok(OK)
        }
    }
}

fn folder(place: &Place) -> Result<&Path, Failure> {
    match place.journal.as_deref() {
        Some("volatile:") => Err(Failure::Usage(
            "a volatile journal ends with its process; give the folder of a journal on disk".to_owned(),
        )),
        Some(path) => Ok(Path::new(path)),
        None => Err(Failure::Usage("name the journal: --journal PATH".to_owned())),
    }
}

#[derive(Debug, Serialize)]
struct Line<'a> {
    sequence: u64,
    key: &'a str,
    operation: &'static str,
    size: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    refused: Option<&'a str>,
}

/// Whether the backend names a journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Named {
    Yes,
    No,
    /// No backend was named, or it cannot be read.
    Unknown,
}

impl Named {
    /// Reads the mark of the store that `--store` or `--backend` names, if any. A store that is in use cannot be
    /// opened.
    async fn ask(schemes: &Schemes, place: &Place, journal: Option<JournalId>) -> Result<Self, Failure> {
        let url = place.store.as_ref().or(place.backend.as_ref());
        let (Some(url), Some(journal)) = (url, journal) else { return Ok(Self::Unknown) };
        let store = match schemes.open_to_read(url).await {
            Ok(store) => store,
            Err(error) => {
                output::complain(&format!("the backend cannot be asked: {}", error.chain()));
                return Ok(Self::Unknown);
            }
        };
        let named = ownership::journals(&*store).await.map_err(Failure::from);
        let named = closing(&*store, named).await?;
        Ok(if named.contains(&journal) { Self::Yes } else { Self::No })
    }

    /// The human-readable form. `held` is how many writes the journal holds.
    fn say(self, held: usize) -> &'static str {
        match (self, held) {
            (Self::Yes, _) => "the backend names it",
            (Self::No, 0) => "the backend does not name it, which is fine: it is empty",
            (Self::No, _) => {
                "the backend does not name it: it was given up, or is older than such names. Opened, the former parks what it holds"
            }
            (Self::Unknown, _) => "whether the backend names it is not known; ask with --store BACKEND",
        }
    }
}

fn shown(journal: Option<JournalId>) -> String {
    journal.map_or_else(|| "none yet".to_owned(), |id| id.to_string())
}

async fn list(schemes: &Schemes, place: &Place, json: bool) -> Result<u8, Failure> {
    let (report, recovered) = Report::read(folder(place)?)?;
    let named = Named::ask(schemes, place, report.journal).await?;
    // On standard error: scripts read the list on standard output.
    output::complain(&format!(
        "journal {}: {}",
        shown(report.journal),
        named.say(report.waiting + report.parked)
    ));
    print_all(&recovered, json)?;
    Ok(OK)
}

/// Prints what waits, and what was refused.
fn print_all(recovered: &Recovered, json: bool) -> Result<(), Failure> {
    let aside = &recovered.aside;
    let mut lines = Lines::new();
    for parked in &aside.parked {
        for (sequence, record) in &parked.records {
            print(&mut lines, json, *sequence, record, Some(&parked.reason.to_string()))?;
        }
    }
    let is_parked = |sequence: u64| {
        aside.parked.iter().any(|parked| parked.records.iter().any(|(parked, _)| *parked == sequence))
    };
    for (sequence, record) in &recovered.records {
        if !is_parked(*sequence) && !aside.dropped.contains(sequence) {
            print(&mut lines, json, *sequence, record, None)?;
        }
    }
    lines.finish()
}

fn print(
    lines: &mut Lines,
    json: bool,
    sequence: u64,
    record: &JournalRecord,
    refused: Option<&str>,
) -> Result<(), Failure> {
    let (operation, size) = match &record.action {
        Action::Put(put) => ("put", put.value.len() as u64),
        Action::Delete(_) => ("delete", 0),
    };
    let key = record.key.as_str();
    if json {
        return lines.json(&Line { sequence, key, operation, size, refused });
    }
    let state = refused.map_or("waits".to_owned(), |reason| format!("refused: {reason}"));
    lines.text(&format!("{sequence}\t{operation}\t{key}\t{size}\t{state}"))
}

#[derive(Debug, Serialize)]
struct Verified<'a> {
    journal: Option<String>,
    named_by_backend: Named,
    backend: Option<&'a str>,
    segments: usize,
    bytes: u64,
    waiting: usize,
    parked: usize,
    cut_bytes: u64,
}

async fn verify(schemes: &Schemes, place: &Place, json: bool) -> Result<u8, Failure> {
    let (report, _) = Report::read(folder(place)?)?;
    let named = Named::ask(schemes, place, report.journal).await?;
    let mut lines = Lines::new();
    if json {
        lines.json(&Verified {
            journal: report.journal.map(|id| id.to_string()),
            named_by_backend: named,
            backend: report.backend.as_deref(),
            segments: report.segments,
            bytes: report.bytes,
            waiting: report.waiting,
            parked: report.parked,
            cut_bytes: report.cut_bytes,
        })?;
    } else {
        lines.text(&format!("journal   {}", shown(report.journal)))?;
        lines.text(&format!("named     {}", named.say(report.waiting + report.parked)))?;
        lines.text(&format!("backend   {}", report.backend.as_deref().unwrap_or("none yet")))?;
        lines.text(&format!("segments  {} ({} bytes)", report.segments, report.bytes))?;
        lines.text(&format!("waiting   {}", report.waiting))?;
        lines.text(&format!("refused   {}", report.parked))?;
        let torn = if report.cut_bytes == 0 { "whole" } else { "torn or damaged, and cut off when opened" };
        lines.text(&format!("end       {torn} ({} bytes)", report.cut_bytes))?;
    }
    lines.finish()?;
    Ok(OK)
}

/// Gives up a journal by name. Without `--yes` it only prints what that loses.
async fn abandon(schemes: &Schemes, place: &Place, journal: JournalId, yes: bool) -> Result<u8, Failure> {
    let Some(url) = &place.store else {
        return Err(Failure::Usage("name the store that waits for the journal: --store URL".to_owned()));
    };
    let at_hand = if place.journal.is_some() { Some(Report::read(folder(place)?)?) } else { None };
    if let Some((report, _)) = &at_hand
        && report.journal != Some(journal)
    {
        let there = shown(report.journal);
        return Err(Failure::Usage(format!("the journal in that folder is {there}, not {journal}")));
    }
    let store = schemes.open(url, Create::Never).await?;
    let given_up = give_up_journal(&*store, &stack::without_secrets(url), journal, at_hand, yes).await;
    closing(&*store, given_up).await
}

async fn give_up_journal(
    store: &dyn Store,
    url: &str,
    journal: JournalId,
    at_hand: Option<(Report, Recovered)>,
    yes: bool,
) -> Result<u8, Failure> {
    let named = ownership::journals(store).await?;
    if !named.contains(&journal) {
        let ids: Vec<String> = named.iter().map(ToString::to_string).collect();
        let ids = if ids.is_empty() { "none".to_owned() } else { ids.join(", ") };
        output::complain(&format!("{url} does not name the journal {journal}; it names {ids}"));
        return Ok(ABSENT);
    }
    if let Some((_, recovered)) = &at_hand {
        print_all(recovered, false)?;
    }
    if !yes {
        let what = match &at_hand {
            Some((report, _)) => format!(
                "the writes above, {} that wait and {} that were refused",
                report.waiting, report.parked
            ),
            None => "every acknowledged write that is only in it: --journal FOLDER shows them".to_owned(),
        };
        output::complain(&format!("{url}: giving up the journal {journal} loses {what}"));
        output::complain("nothing was changed; add --yes to give it up");
        return Ok(USAGE);
    }
    ownership::abandon(store, journal).await?;
    output::complain(&format!(
        "{url} no longer waits for the journal {journal}. If the journal is opened again, it parks its writes"
    ));
    Ok(OK)
}

/// Retries one refused write, or all.
async fn retry(store: &TieredStore, sequence: Option<u64>) -> Result<(), Failure> {
    // Where the flush halts, opening the stack has tried again already.
    settle(store).await?;
    for parked in store.parked() {
        if sequence.is_none_or(|sequence| sequence == parked.sequence()) {
            store.retry_parked(parked.sequence())?;
        }
    }
    store.flush().await?;
    output::complain("every journaled write is in the backend");
    Ok(())
}

async fn give_up(store: &TieredStore, sequence: u64) -> Result<(), Failure> {
    settle(store).await?;
    store.drop_parked(sequence).await?;
    Ok(())
}

/// Flushes as much as possible.
async fn settle(store: &TieredStore) -> Result<(), Failure> {
    match store.flush().await {
        Ok(()) => Ok(()),
        // Refused writes are expected here: these commands handle them.
        Err(_) if !store.parked().is_empty() => Ok(()),
        Err(error) => Err(error.into()),
    }
}
