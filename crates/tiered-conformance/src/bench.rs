//! What a case works with: the store, its own keys, and the expectations that several cases share.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt as _;
use tiered_core::adapter::{Clock as _, Note, Stamp, SystemClock, VersionMint};
use tiered_core::testing::ManualClock;
use tiered_core::{
    Attributes, Capabilities, Entry, ErrorKind, Feature, Key, ListOptions, Listed, Metadata, Outcome, Put,
    Read, ReadOptions, Result, Store, Timestamp, Version, Written, adapter,
};

use crate::case::{Stop, Verdict, check, check_equal, fail};
use crate::crew::{Crew, Part};
use crate::dice::Dice;
use crate::factory::Place;
use crate::run::Effort;
use crate::text::first_difference;
use crate::watch::{pause, within};

/// The workplace of one case.
#[derive(Clone)]
pub(crate) struct Bench {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) capabilities: Capabilities,
    pub(crate) prefix: String,
    pub(crate) clock: Option<Arc<ManualClock>>,
    pub(crate) place: Option<Arc<dyn Place>>,
    /// Whether an entry may be absent where it was put.
    pub(crate) evicts: bool,
    pub(crate) seed: u64,
    pub(crate) effort: Effort,
    /// How many threads carry out parts of the case.
    pub(crate) busy: Arc<AtomicUsize>,
}

impl Bench {
    pub(crate) fn has(&self, feature: Feature) -> bool {
        self.capabilities.has(feature)
    }

    /// How often to do what is done `full` times for a thorough look.
    pub(crate) fn rounds(&self, full: u64) -> u64 {
        match self.effort {
            Effort::Full => full,
            Effort::Brief => full.div_ceil(5),
        }
    }

    /// The case's key with this suffix, which has 20 bytes at most.
    pub(crate) fn key(&self, suffix: &str) -> Verdict<Key> {
        Ok(Key::new(format!("{}{suffix}", self.prefix))?)
    }

    pub(crate) fn dice(&self) -> Dice {
        Dice::new(self.seed)
    }

    /// A version that no other entry has.
    pub(crate) fn version() -> Version {
        VersionMint::from_entropy().mint()
    }

    /// A put of an entry that carries this bookkeeping.
    pub(crate) fn noted(put: &Put, note: Note) -> Put {
        adapter::verbatim(&Stamp::system().entry(put).with_note(note))
    }

    /// Wall time by the store's clock.
    pub(crate) fn now(&self) -> Timestamp {
        self.clock.as_ref().map_or_else(|| SystemClock::new().now(), |clock| clock.now())
    }

    pub(crate) fn attributes(pairs: &[(&str, &str)]) -> Verdict<Attributes> {
        let mut attributes = Attributes::new();
        for (name, value) in pairs {
            attributes = attributes.with(name, value)?;
        }
        Ok(attributes)
    }

    /// The place of the case's own.
    pub(crate) fn place(&self) -> Verdict<&Arc<dyn Place>> {
        self.place.as_ref().ok_or_else(|| Stop::Skipped("the factory has no place of its own".to_owned()))
    }

    /// `value` where the store takes it, else a shorter one that stands for it: the same for the same value, and most
    /// likely another one for another.
    pub(crate) fn fit(&self, value: &[u8]) -> Bytes {
        let limit = self.largest(usize::MAX);
        if value.len() <= limit {
            return Bytes::copy_from_slice(value);
        }
        // FNV-1a.
        let hash = value.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
        });
        crate::dice::bytes(limit, hash)
    }

    /// A put of `value`, which is made to [fit](Bench::fit).
    pub(crate) fn of(&self, value: impl Into<Bytes>) -> Put {
        Put::new(self.fit(&value.into()))
    }

    /// A size: `wanted`, or the largest that the store takes.
    pub(crate) fn largest(&self, wanted: usize) -> usize {
        usize::try_from(self.capabilities.max_value()).map_or(wanted, |limit| limit.min(wanted))
    }

    /// How far to count where numbers are the values: as [`rounds`](Bench::rounds), and the number fits.
    pub(crate) fn count(&self, full: u64) -> u64 {
        let digits = u32::try_from(self.largest(9)).unwrap_or(9);
        self.rounds(full).min(10_u64.pow(digits) - 1)
    }

    pub(crate) async fn put(&self, key: &Key, put: impl Into<Put>) -> Verdict<Written> {
        Ok(self.store.put(key, self.fitted(put.into())).await?)
    }

    fn fitted(&self, mut put: Put) -> Put {
        if put.value.len() > self.largest(usize::MAX) {
            put.value = self.fit(&put.value);
        }
        put
    }

    /// A put that expires. A store that does not keep metadata may refuse it, but must not forget the expiry.
    pub(crate) async fn put_expiring(&self, key: &Key, put: Put) -> Verdict<Written> {
        match self.store.put(key, self.fitted(put)).await {
            Ok(written) => Ok(written),
            Err(error) if error.kind() == ErrorKind::Unsupported && !self.has(Feature::KeepsMetadata) => {
                Err(Stop::Refused("expiry is refused, as metadata are not kept".to_owned()))
            }
            Err(error) => Err(error.into()),
        }
    }

    pub(crate) async fn load(&self, key: &Key) -> Verdict<Option<Entry>> {
        Ok(self.store.load(key, &ReadOptions::new()).await?.into_entry())
    }

    /// The entry of `key`, which was put and must be there: `None` only where the store evicts.
    pub(crate) async fn present(&self, clause: &'static str, key: &Key) -> Verdict<Option<Entry>> {
        match self.load(key).await? {
            None if !self.evicts => fail(clause, format!("expected an entry at {key:?}, saw none")),
            entry => Ok(entry),
        }
    }

    /// `key` holds `value`, whole.
    pub(crate) async fn expect(&self, clause: &'static str, key: &Key, value: &[u8]) -> Verdict {
        match self.present(clause, key).await? {
            Some(entry) => self.same_value(clause, key, value, &entry),
            None => Ok(()),
        }
    }

    /// `entry` is whole, undamaged, and has this value, made to fit.
    pub(crate) fn same_value(&self, clause: &'static str, key: &Key, value: &[u8], entry: &Entry) -> Verdict {
        same_value(clause, key, &self.fit(value), entry)
    }

    /// Whether `entry` has this value, made to fit; an absent one passes where the store evicts.
    pub(crate) fn is(&self, entry: Option<&Entry>, value: &[u8]) -> bool {
        entry.map_or(self.evicts, |entry| *entry.value() == self.fit(value))
    }

    /// `key` is absent to `load`, `head` and `peek`.
    pub(crate) async fn expect_absent(&self, clause: &'static str, key: &Key) -> Verdict {
        let seen = self.load(key).await?;
        check(clause, seen.is_none(), || format!("expected {key:?} to be absent, load saw {seen:?}"))?;
        let head = self.store.head(key, &ReadOptions::new()).await?;
        check(clause, head.is_none(), || format!("expected {key:?} to be absent, head saw {head:?}"))?;
        let peek = self.store.peek(key);
        check(clause, peek.is_none(), || format!("expected {key:?} to be absent, peek saw {peek:?}"))
    }

    /// `result` is an error of `kind` by which nothing was written. `false` where the store evicts and the write
    /// may have met an evicted entry.
    pub(crate) fn refused<T>(
        &self,
        clause: &'static str,
        kind: ErrorKind,
        result: Result<T>,
    ) -> Verdict<bool> {
        match result {
            Ok(_) if self.evicts && kind == ErrorKind::PreconditionFailed => Ok(false),
            Ok(_) => fail(clause, format!("expected the error \"{kind}\", saw success")),
            Err(error) => {
                refusal(clause, kind, &error)?;
                Ok(true)
            }
        }
    }

    /// The listing with `options`, of which an error fails the case.
    pub(crate) async fn list(&self, options: ListOptions) -> Verdict<Vec<Listed>> {
        let mut listing = self.store.list(options);
        let mut all = Vec::new();
        while let Some(listed) = listing.next().await {
            all.push(listed?);
        }
        Ok(all)
    }

    /// The listed keys, without the case's prefix.
    pub(crate) async fn names(&self, options: ListOptions) -> Verdict<Vec<String>> {
        let listed = self.list(options).await?;
        let strip = |listed: &Listed| {
            let key = listed.key.as_str();
            key.strip_prefix(&self.prefix)
                .map_or_else(|| format!("(outside of the prefix) {key}"), str::to_owned)
        };
        Ok(listed.iter().map(strip).collect())
    }

    /// The names listed with `options` are `expected`; a part of them, in order, where the store evicts.
    pub(crate) async fn expect_names(
        &self,
        clause: &'static str,
        options: ListOptions,
        expected: &[&str],
    ) -> Verdict {
        let seen = self.names(options.clone()).await?;
        if self.evicts && options.limit.is_none() {
            let mut rest = expected.iter();
            let part = seen.iter().all(|name| rest.any(|other| other == name));
            return check(clause, part, || {
                let difference = first_difference(expected, &seen).unwrap_or_default();
                format!("expected a part of what was put, in order; without eviction: {difference}")
            });
        }
        if self.evicts {
            return Ok(());
        }
        match first_difference(expected, &seen) {
            None => Ok(()),
            Some(difference) => fail(clause, format!("{}: {difference}", asked(&options))),
        }
    }

    /// Reads several keys, each of which is to be readable.
    pub(crate) async fn get_many(&self, keys: &[Key], options: &ReadOptions) -> Verdict<Vec<Read>> {
        let reads = self.store.get_many(keys, options).await;
        Ok(reads.into_iter().collect::<tiered_core::Result<_>>()?)
    }

    /// All of this case's keys.
    pub(crate) fn everything(&self) -> ListOptions {
        ListOptions::new().prefix(self.prefix.clone())
    }

    /// A part of a case, to be run beside others by a [`Crew`].
    pub(crate) fn part<T>(part: impl Future<Output = Verdict<T>> + Send + 'static) -> Part<T> {
        Box::pin(part)
    }

    /// Begins `parts`, to be run beside the rest of the case.
    pub(crate) fn begin<T: Send + 'static>(&self, parts: Vec<Part<T>>) -> Crew<T> {
        Crew::of(&self.busy, parts)
    }

    /// The results of `parts`, run at once.
    pub(crate) async fn all<T: Send + 'static>(&self, parts: Vec<Part<T>>) -> Verdict<Vec<T>> {
        self.begin(parts).join().await
    }

    /// Lets the other parts of this thread, and the other threads, go on.
    pub(crate) async fn breathe() {
        std::thread::yield_now();
        tokio::task::yield_now().await;
    }

    /// Waits for parts that go on after a failed case, so that they write nothing more.
    pub(crate) async fn quiet(&self) {
        while self.busy.load(Ordering::Acquire) > 0 {
            pause(Duration::from_millis(1)).await;
        }
    }

    /// Fails when `part` has not ended after a minute: a lock or a permit has leaked. No server is as slow as that.
    pub(crate) async fn in_time<T>(
        clause: &'static str,
        what: &str,
        part: impl Future<Output = T> + Send,
    ) -> Verdict<T> {
        match within(Duration::from_mins(1), part).await {
            Some(done) => Ok(done),
            None => fail(clause, format!("{what}: expected it to complete, saw nothing for a minute")),
        }
    }
}

/// `error` has `kind`, and says that nothing was written.
pub(crate) fn refusal(clause: &'static str, kind: ErrorKind, error: &tiered_core::Error) -> Verdict {
    check(clause, error.kind() == kind, || {
        format!("expected the error \"{kind}\", saw \"{}\"", error.chain())
    })?;
    check_equal(clause, "the outcome of a refused write", &Outcome::NotApplied, &error.write_outcome())
}

/// `entry` is whole, undamaged, and has this value.
fn same_value(clause: &'static str, key: &Key, value: &[u8], entry: &Entry) -> Verdict {
    check(clause, entry.value() == value, || {
        format!("{key:?}: expected {}, saw {}", describe(value), describe(entry.value()))
    })?;
    check(clause, entry.is_whole(), || {
        format!("{key:?}: expected a whole entry of {} bytes, its metadata say {}", value.len(), entry.size())
    })?;
    entry.verify().or_else(|error| fail(clause, format!("{key:?}: {error}")))
}

/// `seen`, which came without the value, are the metadata of the entry that has `expected`; only the checksum may be
/// absent.
pub(crate) fn same_metadata(
    clause: &'static str,
    what: &str,
    expected: &Metadata,
    seen: &Metadata,
) -> Verdict {
    check(clause, expected.agrees_with(seen), || format!("{what}: expected {expected:?}, saw {seen:?}"))
}

/// What of a listing was asked for, in words.
fn asked(options: &ListOptions) -> String {
    let mut words = format!("the listing of {:?}", options.prefix);
    if let Some(after) = &options.start_after {
        words.extend([" after ", after.as_str()]);
    }
    if let Some(limit) = options.limit {
        words.extend([", ", &limit.to_string(), " at most"]);
    }
    words
}

/// A value in words, short: its size and its beginning.
pub(crate) fn describe(value: &[u8]) -> String {
    let beginning: Bytes = value.iter().copied().take(12).collect();
    format!("{} bytes beginning {beginning:?}", value.len())
}
