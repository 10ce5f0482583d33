//! `walk`.

use std::sync::Arc;

use serde::Serialize;
use tempfile::TempDir;
use tiered::adapter::url::format_bytes;
use tiered::adapter::{Clock as _, SystemClock};

use tiered::sync::{DryRun, Present, Walk as Follow, WalkOptions, WalkReport, walk_sync};
use tiered::{Create, Entry, Key, ReadOptions, Result as Stored, Schemes, Store};

use super::closing;
use super::sync::target;
use crate::arguments::{References, Walk};
use crate::exit::{CORRUPT, DIFFERENT, FAILED, Failure, OK};
use crate::progress::Progress;
use crate::{git, output, references, stack};

#[derive(Debug, Serialize)]
struct Line {
    roots: u64,
    reachable: u64,
    trusted: u64,
    copied: u64,
    skipped: u64,
    missing: u64,
    changed: u64,
    cycles: u64,
    held_back: u64,
    vanished: u64,
    failed: u64,
    damaged: u64,
    bytes: u64,
    seconds: f64,
}

/// Follows references, but not from leaves.
struct Followed<F> {
    references: F,
    leaves: Vec<String>,
}

#[tiered::adapter::async_trait]
impl<F: Follow> Follow for Followed<F> {
    async fn references(&self, key: &Key, entry: &Entry) -> Stored<Vec<Key>> {
        self.references.references(key, entry).await
    }

    fn is_leaf(&self, key: &Key) -> bool {
        self.leaves.iter().any(|prefix| key.as_str().starts_with(prefix)) || self.references.is_leaf(key)
    }
}

/// Where the walk keeps what it knows.
struct Workspace {
    store: Option<Arc<dyn Store>>,
    /// Removed with it.
    _folder: Option<TempDir>,
}

impl Workspace {
    /// What `url` names; without one, a file in a temporary folder, or memory where redb is not compiled in.
    async fn open(schemes: &Schemes, url: Option<&str>) -> Result<Self, Failure> {
        let (url, folder) = match url {
            Some("memory:") => return Ok(Self { store: None, _folder: None }),
            Some(url) => (url.to_owned(), None),
            None if !cfg!(feature = "redb") => return Ok(Self { store: None, _folder: None }),
            None => {
                let folder = tempfile::Builder::new().prefix("tiered-walk-").tempdir();
                let folder =
                    folder.map_err(|error| Failure::Io(std::env::temp_dir().display().to_string(), error))?;
                let url = format!(
                    "redb:{}?durability=buffer&cache=64MiB",
                    folder.path().join("keys.redb").display()
                );
                (url, Some(folder))
            }
        };
        let store = stack::open_alone(schemes, &url, Create::IfAbsent).await?;
        Ok(Self { store: Some(store), _folder: folder })
    }

    async fn close(self, done: Result<u8, Failure>) -> Result<u8, Failure> {
        match &self.store {
            Some(store) => closing(&**store, done).await,
            None => done,
        }
    }
}

/// Progress in words.
fn in_words(report: &WalkReport) -> String {
    let (reached, copied, skipped) = (report.reached, report.sync.copied, report.sync.skipped);
    format!("{reached} keys reached, {copied} copied, {skipped} skipped, {}", format_bytes(report.sync.bytes))
}

pub(super) async fn run(schemes: &Schemes, order: Walk, json: bool) -> Result<u8, Failure> {
    if stack::same(&order.from, &order.to) {
        return Err(Failure::Usage(format!(
            "{} is source and target; name two stores",
            stack::without_secrets(&order.from)
        )));
    }
    let from = stack::read_alone(schemes, &order.from).await?;
    let roots = match roots(&*from, &order).await {
        Ok(roots) => roots,
        Err(error) => return closing(&*from, Err(error)).await,
    };
    let to = match target(schemes, &order.to, order.dry_run).await {
        Ok(to) => to,
        Err(error) => return closing(&*from, Err(error)).await,
    };
    let done = match Workspace::open(schemes, order.workspace.as_deref()).await {
        Ok(workspace) => {
            let done = between(order, &roots, &from, &to, &workspace, json).await;
            workspace.close(done).await
        }
        Err(error) => Err(error),
    };
    let done = closing(&*to, done).await;
    closing(&*from, done).await
}

/// The keys to begin with. Git's names may be short.
async fn roots(from: &dyn Store, order: &Walk) -> Result<Vec<Key>, Failure> {
    if order.references != References::Git {
        return Ok(order.root.iter().map(Key::new).collect::<Stored<_>>()?);
    }
    let mut roots = Vec::new();
    for name in &order.root {
        roots.push(if git::is_id(name) { Key::new(name)? } else { named(from, name).await? });
    }
    Ok(roots)
}

/// The reference of this name.
async fn named(from: &dyn Store, name: &str) -> Result<Key, Failure> {
    for name in git::names(name) {
        let key = Key::new(name)?;
        if from.head(&key, &ReadOptions::new().authoritative()).await?.is_some() {
            return Ok(key);
        }
    }
    Err(Failure::Usage(format!(
        "{name} is no reference in the source, and no whole id of an object; see list refs/"
    )))
}

async fn between(
    order: Walk,
    roots: &[Key],
    from: &Arc<dyn Store>,
    to: &Arc<dyn Store>,
    workspace: &Workspace,
    json: bool,
) -> Result<u8, Failure> {
    let shown = Progress::new("keys");
    let progress = shown.clone();
    let mut options = WalkOptions::new()
        .concurrency(order.concurrency)
        .max_failures(order.max_failures)
        .present(if order.trust_present { Present::Trust } else { Present::Follow })
        .dry_run(if order.dry_run { DryRun::Yes } else { DryRun::No })
        .on_progress(move |report| progress.say(in_words(report)));
    if let Some(rate) = order.limit_rate {
        options = options.bytes_per_second(rate);
    }
    if let Some(store) = &workspace.store {
        options = options.workspace(Arc::clone(store));
    }
    let followed = Followed { references: references::walk(order.references), leaves: order.leaves_under };
    let clock = SystemClock::new();
    let started = clock.uptime();
    let report = walk_sync(from, to, roots, &followed, &options).await?;
    let seconds = clock.uptime().saturating_sub(started).as_secs_f64();
    shown.end();
    for failure in &report.sync.failures {
        output::complain(&format!("failed: {}: {}", failure.key, failure.error));
    }
    print(&report, seconds, json)?;
    if report.missing > 0 {
        output::complain(&format!(
            "{} keys that are referred to do not exist, and {} keys were held back",
            report.missing, report.held_back
        ));
    }
    if report.changed > 0 {
        output::complain(&format!(
            "{} keys changed while they were walked, and were not copied; walk again",
            report.changed
        ));
    }
    Ok(match (report.sync.failed, report.missing + report.changed) {
        (0, 0) if report.sync.vanished == 0 => OK,
        (0, _) => DIFFERENT,
        _ if report.sync.damaged > 0 => CORRUPT,
        _ => FAILED,
    })
}

fn print(report: &WalkReport, seconds: f64, json: bool) -> Result<(), Failure> {
    let line = Line {
        roots: report.roots,
        reachable: report.reached,
        trusted: report.trusted,
        copied: report.sync.copied,
        skipped: report.sync.skipped,
        missing: report.missing,
        changed: report.changed,
        cycles: report.cycles,
        held_back: report.held_back,
        vanished: report.sync.vanished,
        failed: report.sync.failed,
        damaged: report.sync.damaged,
        bytes: report.sync.bytes,
        seconds,
    };
    if json {
        return output::json(&line);
    }
    let text = format!(
        "{} roots, {} keys reachable, {} trusted; copied {} ({} bytes), skipped {}, missing {}, changed {}, held back {}, vanished {}, failed {} ({} damaged), {} references in cycles; {seconds:.1} s\n",
        line.roots,
        line.reachable,
        line.trusted,
        line.copied,
        line.bytes,
        line.skipped,
        line.missing,
        line.changed,
        line.held_back,
        line.vanished,
        line.failed,
        line.damaged,
        line.cycles
    );
    output::bytes(text.as_bytes())
}
