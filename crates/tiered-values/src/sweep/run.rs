//! A run: head, writers, marks, then the listing beside the latest snapshot.

use futures_util::StreamExt as _;
use tiered_core::adapter::BatchOutcomes;
use tiered_core::{Batch, Delete, ErrorKind, Key, ListOptions, Listed, ReadOptions, Timestamp, Version};

use super::bytes::Observation;
use super::head::ReadHead;
use super::live::{Live, LiveSet};
use super::mark::mark;
use super::report::{SweepOutcome, SweepReport, Verdict};
use super::snapshot::{Observed, Snapshot};
use super::{Inner, Mode};
use crate::error::{Error, Result};
use crate::writer::{Ended, is_refused};

/// Before the keys of the engine's own records, such as that of a lease.
const ENGINE: &str = ".tiered/";
/// What the keys of records contain that are under a prefix: those of another engine, and of another sweep.
const NESTED: [&str; 2] = ["/.tiered/", "/tiered.gc/"];
/// After how many batches in a row whose deletes failed as a whole the run ends.
const FAILED_BATCHES: u32 = 3;

/// A key that is not live.
#[derive(Debug)]
struct Candidate {
    key: Key,
    version: Version,
    modified: Option<Timestamp>,
    /// What the latest snapshot has of the key.
    known: Option<Observation>,
}

/// A key that is not live, before its version is known.
#[derive(Debug)]
struct Unreachable {
    listed: Listed,
    known: Option<Observation>,
}

#[derive(Debug)]
struct Run<'r> {
    inner: &'r Inner,
    mode: Mode,
    horizon: u64,
    /// The generation that its snapshot would be.
    next: u64,
    live: &'r LiveSet,
    observed: Observed<'r>,
    snapshot: Snapshot<'r>,
    report: SweepReport,
    /// Batches in a row whose deletes failed as a whole.
    failed_batches: u32,
}

impl Inner {
    pub(super) async fn sweep(&self, live: Live<'_>, mode: Mode) -> Result<SweepReport> {
        // The order matters: head, writers, roots, deletes.
        let head = self.read_head().await?;
        let writers = self.writers(&head.head).await?;
        let mut horizon = head.head.horizon(&writers).generation;
        let marked;
        let (live, missing, prefixes_without_roots) = match live {
            Live::Keep(keep) => {
                if keep.horizon.generation > 0 && keep.horizon.series != head.head.series {
                    return Err(Error::invalid(
                        "the horizon of the keep-list is of another store, or the head of the sweep was lost; take a new horizon, then make the list",
                    ));
                }
                if keep.live.is_empty() {
                    return Err(Error::invalid(
                        "the keep-list is empty, and everything would be garbage; name what is live, or use delete_prefix",
                    ));
                }
                horizon = horizon.min(keep.horizon.generation);
                (&keep.live, 0, Vec::new())
            }
            Live::Roots(roots) => {
                marked = mark(&*self.store, roots, self.settings.concurrency).await?;
                (&marked.live, marked.missing, marked.without_roots.clone())
            }
        };
        let next = head.head.generation.saturating_add(1);
        let report = SweepReport {
            generation: head.head.generation,
            horizon,
            missing,
            prefixes_without_roots,
            writers,
            ..Default::default()
        };
        let run = Run {
            inner: self,
            mode,
            horizon,
            next,
            live,
            observed: Observed::new(self, head.head),
            snapshot: Snapshot::new(self, mode, next),
            report,
            failed_batches: 0,
        };
        run.carry_out(&head).await
    }

    fn is_in_scope(&self, key: &Key) -> bool {
        key.as_str().starts_with(&self.settings.prefix)
    }
}

impl Run<'_> {
    async fn carry_out(mut self, head: &ReadHead) -> Result<SweepReport> {
        self.join().await?;
        if self.mode == Mode::Dry {
            return Ok(self.report);
        }
        let series = match head.head.series {
            0 => self.inner.writer.mint(),
            series => series,
        };
        let to = self.snapshot.finish(series).await?;
        let mut report = self.report;
        report.outcome = match self.inner.advance(head, &to).await? {
            Ended::Applied => SweepOutcome::Completed,
            Ended::Lost => SweepOutcome::Superseded,
        };
        // The generation is complete, or another one is. What cannot be removed now is left to a later run.
        self.inner.remove_chunks().await.ok();
        Ok(report)
    }

    /// Joins the listing with the latest snapshot, both in the order of the keys.
    async fn join(&mut self) -> Result<()> {
        let prefix = self.inner.settings.prefix.clone();
        let mut listing = self.inner.store.list(ListOptions::new().prefix(prefix));
        let mut waiting: Vec<Unreachable> = Vec::new();
        // What is before the scope.
        self.carry_until(None).await?;
        while let Some(listed) = listing.next().await {
            let listed = match listed {
                Ok(listed) => listed,
                Err(error) => {
                    let Some(key) = error.damaged_key() else { return Err(error.into()) };
                    if !self.is_record(key) {
                        self.report.listed += 1;
                        let is_live = self.live.contains(key);
                        self.report.live += u64::from(is_live);
                        self.report.damaged += u64::from(!is_live);
                    }
                    continue;
                }
            };
            if self.is_record(&listed.key) {
                continue;
            }
            self.report.listed += 1;
            let known = self.carry_until(Some(&listed.key)).await?;
            if self.live.contains(&listed.key) {
                self.report.live += 1;
                continue;
            }
            waiting.push(Unreachable { listed, known });
            if waiting.len() >= self.inner.settings.batch {
                self.judge(std::mem::take(&mut waiting)).await?;
            }
        }
        self.judge(waiting).await?;
        self.carry_rest().await
    }

    /// Whether the key is never a candidate.
    fn is_record(&self, key: &Key) -> bool {
        let key = key.as_str();
        key.starts_with(&self.inner.settings.records)
            || key.starts_with(ENGINE)
            || NESTED.iter().any(|nested| key.contains(nested))
    }

    /// Takes the observations before `key`, and that of `key`. Those before it in scope are of keys that are gone.
    /// Without a key: those before the scope, which stay.
    async fn carry_until(&mut self, key: Option<&Key>) -> Result<Option<Observation>> {
        loop {
            let Some(next) = self.observed.peek().await? else { return Ok(None) };
            let outside = !self.inner.is_in_scope(&next.key);
            let ours = key == Some(&next.key);
            let passed = match key {
                Some(key) => next.key <= *key,
                None => outside && next.key.as_str() < self.inner.settings.prefix.as_str(),
            };
            if !passed {
                return Ok(None);
            }
            let Some(observation) = self.observed.take() else { return Ok(None) };
            if ours {
                return Ok(Some(observation));
            }
            if outside {
                self.snapshot.record(&observation).await?;
            }
        }
    }

    /// Takes the observations that are left. Those behind the scope stay.
    async fn carry_rest(&mut self) -> Result<()> {
        while self.observed.peek().await?.is_some() {
            let Some(observation) = self.observed.take() else { return Ok(()) };
            if !self.inner.is_in_scope(&observation.key) {
                self.snapshot.record(&observation).await?;
            }
        }
        Ok(())
    }

    /// Judges a batch of unreachable keys, deletes what is condemned, and records the rest.
    async fn judge(&mut self, unreachable: Vec<Unreachable>) -> Result<()> {
        let mut judged = Vec::with_capacity(unreachable.len());
        let mut condemned = Batch::new().per_item();
        for candidate in self.with_versions(unreachable).await? {
            let (since, verdict) = self.verdict(&candidate);
            let Candidate { key, version, .. } = candidate;
            if verdict == Verdict::Deleted {
                condemned.push(key.clone(), Delete::new().if_version(version.clone()).into());
            }
            judged.push((Observation { key, version, since }, verdict));
        }
        let mut outcomes = match self.mode {
            Mode::Apply if !condemned.is_empty() => self.delete(condemned).await?.into_iter(),
            _ => Vec::new().into_iter(),
        };
        for (observation, mut verdict) in judged {
            if verdict == Verdict::Deleted && self.mode == Mode::Apply {
                verdict = match outcomes.next() {
                    Some(Ok(_)) => Verdict::Deleted,
                    Some(Err(error)) if is_refused(&error) => Verdict::Changed,
                    _ => Verdict::Failed,
                };
            }
            if !matches!(verdict, Verdict::Deleted | Verdict::Changed) {
                self.snapshot.record(&observation).await?;
            }
            self.count(&observation.key, verdict);
        }
        Ok(())
    }

    /// Deletes a batch. Without outcomes: the call failed as a whole, and each of its deletes counts as failed.
    async fn delete(&mut self, condemned: Batch) -> Result<BatchOutcomes> {
        match self.inner.store.apply(condemned).await {
            Ok(outcomes) => {
                self.failed_batches = 0;
                Ok(outcomes)
            }
            Err(error) => {
                self.failed_batches += 1;
                if self.failed_batches >= FAILED_BATCHES {
                    Err(error.into())
                } else {
                    Ok(BatchOutcomes::new())
                }
            }
        }
    }

    /// The generation that observed the candidate's version first, and what becomes of it.
    fn verdict(&mut self, candidate: &Candidate) -> (u64, Verdict) {
        let since = match &candidate.known {
            Some(known) if known.version == candidate.version => known.since,
            other => {
                self.report.rewritten += u64::from(other.is_some());
                return (self.next, Verdict::Observed);
            }
        };
        let too_new = match (self.inner.settings.older_than, candidate.modified) {
            (Some(cut_off), Some(modified)) => modified > cut_off,
            (cut_off, _) => cut_off.is_some(),
        };
        let verdict = match (since <= self.horizon, too_new) {
            (false, _) => Verdict::HeldBack,
            (true, true) => Verdict::TooNew,
            (true, false) => Verdict::Deleted,
        };
        (since, verdict)
    }

    fn count(&mut self, key: &Key, verdict: Verdict) {
        let count = match verdict {
            Verdict::Observed => &mut self.report.observed,
            Verdict::HeldBack => &mut self.report.held_back,
            Verdict::TooNew => &mut self.report.too_new,
            Verdict::Deleted => &mut self.report.deleted,
            Verdict::Changed => &mut self.report.changed,
            Verdict::Failed => &mut self.report.failed,
        };
        *count += 1;
        if let Some(tell) = &self.inner.settings.on_key {
            tell(key, verdict);
        }
    }

    /// Asks for the versions that the listing did not carry, and for times where a cut-off needs them.
    async fn with_versions(&mut self, unreachable: Vec<Unreachable>) -> Result<Vec<Candidate>> {
        let needs_time = self.inner.settings.older_than.is_some();
        let is_told =
            |listed: &Listed| listed.version.is_some() && (listed.metadata.is_some() || !needs_time);
        let asked = unreachable.iter().filter(|one| !is_told(&one.listed));
        let asked: Vec<Key> = asked.map(|one| one.listed.key.clone()).collect();
        let options = ReadOptions::new().authoritative().range(0..0);
        let reads =
            if asked.is_empty() { Vec::new() } else { self.inner.store.get_many(&asked, &options).await };
        let mut reads = reads.into_iter();
        let mut candidates = Vec::with_capacity(unreachable.len());
        for Unreachable { listed, known } in unreachable {
            let found = match listed.version.clone().filter(|_| is_told(&listed)) {
                Some(version) => Some((version, listed.metadata.as_ref().map(|of| of.modified))),
                None => match reads.next() {
                    Some(Ok(read)) => {
                        read.entry().map(|entry| (entry.version().clone(), Some(entry.metadata().modified)))
                    }
                    Some(Err(error)) if error.kind() == ErrorKind::Corrupt => {
                        self.report.damaged += 1;
                        continue;
                    }
                    Some(Err(error)) => return Err(error.into()),
                    None => None,
                },
            };
            match found {
                Some((version, modified)) => {
                    candidates.push(Candidate { key: listed.key, version, modified, known });
                }
                None => self.report.vanished += 1,
            }
        }
        Ok(candidates)
    }
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inner").field("store", &self.store).finish_non_exhaustive()
    }
}
