//! A wrapper around the reference store that breaks it in one way.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use parking_lot::Mutex;
use tiered_conformance::{DerivedReads, Interceptor};
use tiered_core::adapter::precondition_failed;
use tiered_core::adapter::{BatchOutcomes, Checksum, Note, Reads, Stamp, Tombstones};
use tiered_core::{
    Action, Applied, Atomicity, Attributes, Batch, ByteStream, Capabilities, Delete, Deleted, Durability,
    Entry, ErrorKind, Expiry, Feature, Key, ListOptions, ListStream, Lookup, MemoryStore, Metadata, Outcome,
    Precondition, Put, Read, ReadOptions, Result, Sharing, Slices, Store, Version, Written, adapter,
};

use super::fault::Fault;

/// Largest value and longest key that the store declares, in bytes.
const LARGEST: u64 = 2 << 20;
const LONGEST: usize = 200;

/// A store with one fault. Cloning shares the data.
#[derive(Clone, Debug)]
pub(super) struct Broken {
    pub(super) inner: MemoryStore,
    fault: Fault,
    capabilities: Capabilities,
    /// What a faulty cache remembers of each key; `None` for an absence.
    memory: Arc<Mutex<BTreeMap<Key, Option<Entry>>>>,
}

impl Broken {
    pub(super) fn new(fault: Fault, stamp: Stamp) -> Self {
        let declare = |all: Capabilities| match fault {
            Fault::PeekHiddenStale | Fault::PeekStale => all,
            // `get` would go round the faults of `load`.
            _ => all.without(Feature::Peeks),
        };
        // The inner store has room beyond the declared limits, and checks those that the fault does not concern.
        let inner = MemoryStore::with_stamp(stamp).declaring(|all| match fault {
            Fault::MaxValueUnchecked => declare(all).with_max_key(LONGEST),
            Fault::MaxKeyUnchecked => declare(all).with_max_value(LARGEST),
            Fault::AtomicityIgnored | Fault::BatchPartial => {
                declare(all).without(Feature::AtomicBatch).with_max_key(LONGEST).with_max_value(LARGEST)
            }
            _ => declare(all).with_max_key(LONGEST).with_max_value(LARGEST),
        });
        let mut capabilities = inner.capabilities().clone().with_max_key(LONGEST).with_max_value(LARGEST);
        if fault == Fault::ConditionIgnored {
            capabilities = capabilities.without(Feature::ConditionalPut);
        }
        if matches!(fault, Fault::LockMissing | Fault::ReopenEmpty) {
            let lasting = Capabilities::new("broken", Durability::PowerLoss, Sharing::Exclusive);
            capabilities = Feature::ALL
                .iter()
                .copied()
                .filter(|feature| capabilities.has(*feature))
                .fold(lasting.with_max_key(LONGEST).with_max_value(LARGEST), Capabilities::with);
        }
        Self { inner, fault, capabilities, memory: Arc::default() }
    }

    fn has(&self, fault: Fault) -> bool {
        self.fault == fault
    }

    /// The key under which a store that folds case keeps `key`.
    fn folded(&self, key: &Key) -> Key {
        let folded = key.as_str().to_lowercase();
        if self.has(Fault::KeyFolded) {
            Key::new(folded).unwrap_or_else(|_| key.clone())
        } else {
            key.clone()
        }
    }

    /// What the fault does to a put before it is stored.
    fn spoil(&self, put: &mut Put) {
        match self.fault {
            Fault::MetadataDropped => put.attributes = Attributes::new(),
            Fault::ExpiryDropped => put.expiry = Expiry::Never,
            Fault::ModifiedRestamped => {
                if let Some(version) = adapter::version_of(put).cloned() {
                    let mut fresh = Put::new(put.value.clone()).precondition(put.precondition.clone());
                    (fresh.expiry, fresh.attributes) = (put.expiry, put.attributes.clone());
                    *put = adapter::with_version(fresh, version);
                }
            }
            Fault::NoteDropped => {
                if let Some(metadata) = adapter::metadata_of(put) {
                    let note = Note::default().with_origin(metadata.note.origin);
                    let entry = Entry::from_parts(put.value.clone(), Arc::new(metadata)).with_note(note);
                    *put = adapter::verbatim(&entry).precondition(put.precondition.clone());
                }
            }
            Fault::VersionReused => *put = adapter::with_version(put.clone(), Version::from_u128(7)),
            Fault::ConditionIgnored => put.precondition = Precondition::None,
            Fault::ValueTruncated if !put.value.is_empty() => {
                put.value = put.value.slice(..put.value.len() - 1);
            }
            _ => {}
        }
    }

    /// What the fault makes of an answer.
    fn distort(&self, key: &Key, options: &ReadOptions, read: Read) -> Read {
        let absent = read.lookup == Lookup::Absent;
        let found = |entry: Entry| Read::from_store(Lookup::Found(entry));
        match self.fault {
            Fault::AbsentIsEmpty if absent => found(Stamp::system().entry(&Put::new(""))),
            Fault::EmptyIsAbsent if read.entry().is_some_and(|entry| entry.size() == 0) => {
                Read::from_store(Lookup::Absent)
            }
            Fault::IfVersionNever if options.if_version.is_some() && !absent => {
                Read::from_store(Lookup::Changed)
            }
            // After the range was judged.
            Fault::IfVersionJudgedLate
                if read.entry().is_some_and(|entry| options.excludes(entry.version())) =>
            {
                Read::from_store(Lookup::Changed)
            }
            // Of whole values.
            Fault::ChecksumMissing => match read.lookup {
                Lookup::Found(entry) => found(rechecked(&entry, None)),
                lookup => Read::from_store(lookup),
            },
            Fault::UnchangedAlways if options.unless.is_some() && !absent => {
                Read::from_store(Lookup::Unchanged)
            }
            Fault::ExpiredReturned if absent => match self.memory.lock().get(key) {
                Some(Some(entry)) => found(entry.clone()),
                _ => read,
            },
            Fault::AbsentRemembered => {
                match self.memory.lock().entry(key.clone()).or_insert_with(|| read.entry().cloned()) {
                    None => Read::from_store(Lookup::Absent),
                    Some(_) => read,
                }
            }
            Fault::RangeRemembered => {
                let fragment =
                    options.range.as_ref().and(read.entry()).filter(|part| !part.value().is_empty());
                let mut memory = self.memory.lock();
                if let Some(part) = fragment {
                    memory.insert(key.clone(), Some(part.clone()));
                }
                match memory.get(key) {
                    Some(Some(part)) if options.range.is_none() && !absent => found(part.clone()),
                    _ => read,
                }
            }
            // Answers with what it saw the time before.
            Fault::ReadStale => match self.memory.lock().insert(key.clone(), read.entry().cloned()) {
                Some(Some(before)) if options.range.is_none() => found(before),
                _ => read,
            },
            _ => read,
        }
    }

    async fn one_by_one(&self, batch: Batch) -> Result<BatchOutcomes> {
        let mut outcomes = Vec::new();
        for (key, action) in batch.into_operations() {
            let outcome = match action {
                Action::Put(put) => self.inner.put(&key, put).await.map(Applied::Put),
                Action::Delete(delete) => self.inner.delete(&key, delete).await.map(Applied::Delete),
            };
            match (outcome, self.fault) {
                // Nothing is said about the operations after the one that failed.
                (Err(error), Fault::BatchPartial) => {
                    outcomes.push(Err(error));
                    break;
                }
                // What was written before stays.
                (Err(error), _) => return Err(error),
                (applied, _) => outcomes.push(applied),
            }
        }
        Ok(outcomes)
    }
}

fn rechecked(entry: &Entry, checksum: Option<Checksum>) -> Entry {
    let metadata = (**entry.metadata()).clone().with_checksum(checksum);
    Entry::from_parts(entry.value().clone(), Arc::new(metadata))
}

fn unconditional(action: Action) -> Action {
    match action {
        Action::Put(put) => Action::Put(put.precondition(Precondition::None)),
        Action::Delete(delete) => Action::Delete(delete.precondition(Precondition::None)),
    }
}

/// Gives other tasks the time to come in between.
pub(super) async fn others_go_first() {
    for _ in 0..50 {
        tokio::task::yield_now().await;
    }
}

/// Waits until the key has another version than this, where it gets one soon.
async fn another_version(inner: &dyn Store, key: &Key, version: &Version) {
    for _ in 0..100 {
        let head = inner.head(key, &ReadOptions::new()).await;
        if head.is_ok_and(|head| head.is_none_or(|head| head.version != *version)) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[async_trait]
impl Interceptor for Broken {
    fn derived_reads(&self) -> DerivedReads {
        DerivedReads::Load
    }

    fn capabilities<'s>(&'s self, _inner: &'s dyn Store) -> &'s Capabilities {
        &self.capabilities
    }

    async fn load(&self, inner: &dyn Store, key: &Key, options: &ReadOptions) -> Result<Read> {
        let key = self.folded(key);
        let mut asked = options.clone();
        match self.fault {
            Fault::TombstoneShown => asked.tombstones = Tombstones::Show,
            Fault::UnlessIgnored => asked.unless = None,
            Fault::IfVersionIgnored | Fault::IfVersionJudgedLate => asked.if_version = None,
            Fault::RangeOffByOne => {
                asked.range = asked.range.map(|range| range.start..range.end.saturating_add(1));
            }
            _ => {}
        }
        let read = inner.load(&key, &asked).await?;
        Ok(self.distort(&key, options, read))
    }

    async fn put(&self, inner: &dyn Store, key: &Key, mut put: Put) -> Result<Written> {
        let key = &self.folded(key);
        self.spoil(&mut put);
        if self.has(Fault::CheckThenAct) {
            let current = inner.head(key, &ReadOptions::new()).await?;
            if !put.precondition.holds(current.as_ref().map(|metadata| &metadata.version)) {
                return Err(precondition_failed(key));
            }
            others_go_first().await;
            put.precondition = Precondition::None;
        }
        if self.has(Fault::ValueTorn) && put.value.len() > 1 {
            let mut half = put.clone();
            half.value = put.value.slice(..put.value.len() / 2);
            inner.put(key, half).await?;
            others_go_first().await;
        }
        if self.has(Fault::ExpiredReturned) {
            let entry = Stamp::system().entry(&put);
            self.memory.lock().insert(key.clone(), Some(entry));
        }
        let written = inner.put(key, put).await;
        if (self.has(Fault::PeekStale) || self.has(Fault::PeekHiddenStale))
            && let Some(entry) = inner.peek_hidden(key)
        {
            self.memory.lock().entry(key.clone()).or_insert(Some(entry));
        }
        match (written, self.fault) {
            (Ok(_), Fault::VersionMisreported) => Ok(Written::committed(Version::from_u128(9))),
            (Err(error), Fault::OutcomeUnstated) if error.kind() == ErrorKind::PreconditionFailed => {
                Err(error.outcome_is(Outcome::Unknown))
            }
            (written, _) => written,
        }
    }

    async fn delete(&self, inner: &dyn Store, key: &Key, delete: Delete) -> Result<Deleted> {
        let key = &self.folded(key);
        if self.has(Fault::DeleteLost) {
            let current = inner.head(key, &ReadOptions::new()).await?;
            return Ok(Deleted::committed(current.is_some()));
        }
        self.memory.lock().remove(key).filter(|_| self.has(Fault::ExpiredReturned));
        let deleted = inner.delete(key, delete).await?;
        Ok(if self.has(Fault::ExistedWrong) { Deleted::committed(true) } else { deleted })
    }

    fn list(&self, inner: &dyn Store, mut options: ListOptions) -> ListStream {
        let after = options.start_after.clone();
        match self.fault {
            Fault::LimitIgnored => options.limit = None,
            Fault::ValuesListedLarge => options.values = options.values.map(|up_to| up_to + 1),
            Fault::PrefixLeaks => {
                // Matches one character too few.
                options.prefix.pop();
            }
            Fault::TombstoneShown => options.tombstones = Tombstones::Show,
            Fault::StartAfterIncluded => options.start_after = None,
            _ => {}
        }
        let all = inner.list(options);
        match self.fault {
            Fault::StartAfterIncluded => Box::pin(all.filter(move |listed| {
                let before = matches!((&after, listed), (Some(after), Ok(listed)) if listed.key < *after);
                std::future::ready(!before)
            })),
            Fault::ListsBackwards => {
                let reversed = async move {
                    let mut all: Vec<_> = all.collect().await;
                    all.reverse();
                    stream::iter(all)
                };
                Box::pin(stream::once(reversed).flatten())
            }
            Fault::ListsTwice => Box::pin(all.flat_map(|listed| match listed {
                Ok(listed) => stream::iter(vec![Ok(listed.clone()), Ok(listed)]),
                Err(error) => stream::iter(vec![Err(error)]),
            })),
            // The first key after a page of 256 falls between two pages.
            Fault::PageLost => {
                Box::pin(all.enumerate().filter_map(|(index, listed)| async move {
                    if index == 256 { None } else { Some(listed) }
                }))
            }
            Fault::ValuesListedCut => Box::pin(all.map(|listed| {
                listed.map(|mut listed| {
                    listed.value = listed.value.map(|value| value.slice(..value.len().min(3)));
                    listed
                })
            })),
            Fault::MetadataUnlisted => Box::pin(all.map(|listed| {
                listed.map(|mut listed| {
                    listed.metadata = None;
                    listed
                })
            })),
            _ => all,
        }
    }

    fn peek(&self, inner: &dyn Store, key: &Key) -> Option<Entry> {
        if self.has(Fault::PeekStale) {
            return self.memory.lock().get(key).cloned().flatten();
        }
        inner.peek(key)
    }

    fn peek_hidden(&self, inner: &dyn Store, key: &Key) -> Option<Entry> {
        if self.has(Fault::PeekHiddenStale) {
            return self.memory.lock().get(key).cloned().flatten();
        }
        inner.peek_hidden(key)
    }

    async fn head(
        &self,
        inner: &dyn Store,
        key: &Key,
        options: &ReadOptions,
    ) -> Result<Option<Arc<Metadata>>> {
        // Through `load`, so that its faults are those of `head`.
        let whole = ReadOptions::new().freshness(options.freshness).tombstones(options.tombstones);
        let head =
            self.load(inner, key, &whole).await?.into_entry().map(|entry| Arc::clone(entry.metadata()));
        if self.has(Fault::ChecksumWrong) {
            let wrong = Some(Checksum::of(b"of another value"));
            return Ok(head.map(|head| Arc::new((*head).clone().with_checksum(wrong))));
        }
        if self.has(Fault::HeadTruncated) {
            return Ok(head.map(|mut head| {
                Arc::make_mut(&mut head).size = 0;
                head
            }));
        }
        Ok(head)
    }

    async fn get_many(&self, inner: &dyn Store, keys: &[Key], options: &ReadOptions) -> Reads {
        let mut reads = Reads::new();
        for key in keys {
            reads.push(self.load(inner, key, options).await);
        }
        if self.has(Fault::ManyReordered) {
            reads.reverse();
        }
        let failed = reads.iter().find_map(|read| read.as_ref().err());
        if let Some(error) = failed.filter(|_| self.has(Fault::ManyFailTogether)) {
            return adapter::all_failed(keys, &error.clone());
        }
        reads
    }

    async fn get_ranges(
        &self,
        inner: &dyn Store,
        key: &Key,
        ranges: &[Range<u64>],
        options: &ReadOptions,
    ) -> Result<Read<Slices>> {
        if self.has(Fault::RangesMixed) || self.has(Fault::RangesReordered) {
            let mut slices = None;
            for range in ranges {
                let read = self.load(inner, key, &options.clone().range(range.clone())).await?;
                let Lookup::Found(part) = &read.lookup else {
                    return read.try_map(|entry| Slices::of(&entry, ranges));
                };
                let metadata = Arc::clone(part.metadata());
                if self.has(Fault::RangesMixed) {
                    another_version(inner, key, part.version()).await;
                }
                slices.get_or_insert(Slices::new(metadata, Vec::new())).values.push(part.value().clone());
            }
            if let Some(mut slices) = slices {
                if self.has(Fault::RangesReordered) {
                    slices.values.reverse();
                }
                return Ok(Read::from_store(Lookup::Found(slices)));
            }
        }
        let load = |options: ReadOptions| async move { self.load(inner, key, &options).await };
        adapter::load_ranges(ranges, options, adapter::NEAR, load).await.map_err(|error| error.for_key(key))
    }

    async fn apply(&self, inner: &dyn Store, batch: Batch) -> Result<BatchOutcomes> {
        match self.fault {
            Fault::BatchNotAtomic | Fault::BatchJudgedLate => self.one_by_one(batch).await,
            Fault::BatchPartial if batch.atomicity() == Atomicity::BestEffort => self.one_by_one(batch).await,
            Fault::AtomicityIgnored => inner.apply(batch.best_effort()).await,
            Fault::BatchFailsTogether if batch.atomicity() == Atomicity::PerItem => {
                inner.apply(batch.best_effort()).await
            }
            Fault::BatchItemForced if batch.atomicity() == Atomicity::PerItem => {
                let mut forced = Batch::of(Atomicity::PerItem);
                for (key, action) in batch.into_operations() {
                    forced.push(key, unconditional(action));
                }
                inner.apply(forced).await
            }
            Fault::BatchFirstWins => {
                let mut operations = batch.into_operations();
                operations.reverse();
                let mut reversed = Batch::new();
                for (key, action) in operations {
                    reversed.push(key, action);
                }
                let mut outcomes = inner.apply(reversed).await?;
                outcomes.reverse();
                Ok(outcomes)
            }
            _ => inner.apply(batch).await,
        }
    }

    async fn put_stream(
        &self,
        inner: &dyn Store,
        key: &Key,
        mut put: Put,
        mut body: ByteStream,
    ) -> Result<Written> {
        if !self.has(Fault::StreamKeepsParts) {
            return inner.put_stream(key, put, body).await;
        }
        let mut value = Vec::new();
        let mut failed = None;
        while let Some(part) = body.next().await {
            match part {
                Ok(part) => value.extend_from_slice(&part),
                Err(error) => {
                    failed = Some(error.outcome_is(Outcome::NotApplied));
                    break;
                }
            }
        }
        put.value = Bytes::from(value);
        let written = inner.put(key, put).await?;
        failed.map_or(Ok(written), Err)
    }

    async fn set_mark(&self, inner: &dyn Store, name: &str, value: Option<Bytes>) -> Result<()> {
        if self.has(Fault::MarksListed)
            && let Ok(key) = Key::new(name)
        {
            match &value {
                Some(value) => inner.put(&key, Put::new(value.clone())).await.map(drop)?,
                None => inner.delete(&key, Delete::new()).await.map(drop)?,
            }
        }
        inner.set_mark(name, value).await
    }

    async fn mark_names(&self, inner: &dyn Store, prefix: &str) -> Result<Vec<String>> {
        let mut names = inner.mark_names(prefix).await?;
        if self.has(Fault::MarkNamesLost) {
            names.pop();
        }
        Ok(names)
    }

    async fn close(&self, inner: &dyn Store) -> Result<()> {
        if self.has(Fault::CloseIgnored) {
            return Ok(());
        }
        inner.close().await
    }
}
