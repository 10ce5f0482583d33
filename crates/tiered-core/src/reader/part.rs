//! Reads of a range where the frontend keeps blocks: the stub first, then the blocks of its version.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

use super::Reader;
use super::load::answer_of;
use crate::blocks::{Grid, Stub, is_block};
use crate::entry::{Entry, Metadata, clamp_range};
use crate::error::{Error, ErrorKind, Result};
use crate::frontend::{Filled, Found, Replaceable};
use crate::key::Key;
use crate::observe::Count;
use crate::policy::Freshness;
use crate::read::{Known, Lookup, Read, ReadOptions, Source};
use crate::settings::FillTiming;
use crate::slot::{JoinedPart, Joining, Leader};

/// How often a read begins anew that found its value replaced. Then it asks the backend for its range alone, which is of one
/// version by itself.
const ATTEMPTS: usize = 8;

/// The bytes of a value that a load is asked for.
#[derive(Clone, Debug)]
struct Asked {
    grid: Grid,
    /// By the reader.
    range: Range<u64>,
    /// Of the backend: rounded to blocks.
    part: Range<u64>,
}

/// What a first load of a part led to.
enum First {
    Answer(Read),
    /// The value was replaced meanwhile.
    Replaced,
    /// Neither a token nor a load to join can be had: the backend is asked for this reader alone.
    Alone,
    /// The key's state changed.
    LookAgain,
}

impl Reader {
    /// How the value is cut, where the frontend may keep blocks of it for this read. What passes by entries of the frontend
    /// passes by blocks as well.
    pub(super) fn grid_for(&self, key: &Key, options: &ReadOptions) -> Option<Grid> {
        let range = options.range.as_ref()?;
        let grid = self.plan.grid()?;
        let passes_by = options.freshness == Freshness::Authoritative || self.slots.is_quarantined(key);
        (range.start < range.end && !passes_by && !is_block(key)).then_some(grid)
    }

    /// One attempt at a range; `None` when the key's state changed under it.
    pub(super) async fn load_part(
        self: &Arc<Self>,
        key: &Key,
        options: &ReadOptions,
        grid: Grid,
    ) -> Result<Option<Read>> {
        let range = options.range.clone().unwrap_or_default();
        if let Some(read) = self.answer_at_hand(key, options, &range, grid) {
            return Ok(Some(read));
        }
        for _ in 0..ATTEMPTS {
            let replaces = match self.frontend.look(key, options).await? {
                Found::Fresh(entry) if options.excludes(entry.version()) && !self.is_last_word(&entry) => {
                    break;
                }
                Found::Fresh(entry) => return Ok(Some(self.answer_hit(entry, options))),
                Found::Stub(stub) => match self.answer_by_stub(key, &stub, options, &range, grid).await? {
                    First::Answer(read) => return Ok(Some(read)),
                    First::Replaced => Replaceable::Damaged,
                    First::Alone | First::LookAgain => break,
                },
                Found::Stale(Replaceable::Doubtful(_)) if options.if_version.is_some() => break,
                Found::Stale(Replaceable::Doubtful(entry)) => {
                    if !self.is_replaced(key, &entry, options).await? {
                        return self.compare_whole(key, options).await;
                    }
                    Replaceable::Damaged
                }
                Found::Stale(replaces) => replaces,
            };
            if options.if_version.is_some() {
                break;
            }
            self.recorder.count(Count::Miss);
            let asked = Asked { grid, range: range.clone(), part: grid.first_part(&range) };
            match self.load_first(key, options, asked, replaces).await? {
                First::Answer(read) => return Ok(Some(read)),
                First::Replaced => {}
                First::Alone => return self.load_alone(key, options).await.map(Some),
                First::LookAgain => return Ok(None),
            }
        }
        self.recorder.count(Count::Miss);
        self.load_alone(key, options).await.map(Some)
    }

    /// Whether the backend has another version than the frontend. Of a small entry that is left to the comparison of the whole, which
    /// fetches the value where it has changed.
    async fn is_replaced(&self, key: &Key, entry: &Entry, options: &ReadOptions) -> Result<bool> {
        if entry.size() <= self.plan.fill_whole() {
            return Ok(false);
        }
        let head = ReadOptions::new().freshness(options.freshness);
        let head = self.head_of_backend(key, &head).await?;
        Ok(head.is_none_or(|metadata| metadata.version != *entry.version()))
    }

    /// Compares what the frontend has as a whole, for all readers, as for a reader of the whole: nothing is moved where it is the
    /// same. `None`: the key's state changed.
    async fn compare_whole(self: &Arc<Self>, key: &Key, options: &ReadOptions) -> Result<Option<Read>> {
        let whole = ReadOptions { range: None, ..options.clone() };
        match self.frontend.look(key, &whole).await? {
            Found::Stale(replaces @ Replaceable::Doubtful(_)) => {
                self.recorder.count(Count::Miss);
                self.load_shared(key, options, replaces).await
            }
            // It has left, or changed: the range is looked for anew, so that no more than it is read.
            Found::Stale(_) | Found::Fresh(_) | Found::Stub(_) => Ok(None),
        }
    }

    /// Answers by a stub that may be served.
    async fn answer_by_stub(
        self: &Arc<Self>,
        key: &Key,
        stub: &Stub,
        options: &ReadOptions,
        range: &Range<u64>,
        grid: Grid,
    ) -> Result<First> {
        let metadata = stub.metadata();
        // The backend may have another version, or another size.
        let Ok(range) = clamp_range(range, metadata.size) else { return Ok(First::Alone) };
        if options.excludes(&metadata.version) {
            return Ok(First::Alone);
        }
        let age = self.frontend.age(metadata);
        let (lookup, source) = if is_known(options, metadata) {
            (Lookup::Unchanged, Source::Frontend)
        } else {
            match self.read_blocks(key, metadata, &range, grid).await? {
                Some((value, source)) => {
                    (Lookup::Found(Entry::from_parts(value, Arc::clone(metadata))), source)
                }
                None => return Ok(First::Replaced),
            }
        };
        self.recorder.count(if source == Source::Frontend { Count::Hit } else { Count::Miss });
        Ok(First::Answer(Read { lookup, source, age, stale: false }))
    }

    /// Answers a range that is in memory, stub and blocks.
    fn answer_at_hand(
        self: &Arc<Self>,
        key: &Key,
        options: &ReadOptions,
        range: &Range<u64>,
        grid: Grid,
    ) -> Option<Read> {
        if options.unless.is_some() || options.if_version.is_some() {
            return None;
        }
        let (bytes, metadata) = self.frontend.peek_range(key, range, options.freshness, grid)?;
        self.recorder.count(Count::Hit);
        let age = self.frontend.age(&metadata);
        let lookup = Lookup::Found(Entry::from_parts(bytes, metadata));
        Some(Read { lookup, source: Source::Frontend, age, stale: false })
    }

    /// Answers a range without bytes by a stub that may be served: it takes no block.
    pub(super) fn answer_no_bytes(&self, stub: &Stub, options: &ReadOptions) -> Option<Read> {
        let (range, metadata) = (options.range.as_ref()?, stub.metadata());
        let fits = range.start == range.end && range.end <= metadata.size;
        if !fits || options.excludes(&metadata.version) {
            return None;
        }
        Some(self.answer_hit(Entry::from_parts(Bytes::new(), Arc::clone(metadata)), options))
    }

    /// Joins a load of a part of the value, or leads one: its answer names version and size.
    async fn load_first(
        self: &Arc<Self>,
        key: &Key,
        options: &ReadOptions,
        asked: Asked,
        replaces: Replaceable,
    ) -> Result<First> {
        let sent = self.frontend.sent();
        let joining = match options.freshness {
            Freshness::Cached => self.joining(sent),
            Freshness::MaxStale(_) | Freshness::Authoritative => Joining::OnlyNew,
        };
        let (range, grid) = (asked.range.clone(), asked.grid);
        let (load, leads) = match JoinedPart::load_of(&self.slots, key, sent, joining, asked.part.clone()) {
            JoinedPart::LookAgain => return Ok(First::LookAgain),
            JoinedPart::WholeUnderWay => return Ok(First::Alone),
            JoinedPart::Following(load) => {
                self.recorder.count(Count::Joined);
                (load, false)
            }
            JoinedPart::Leading(load, leader) => {
                self.lead_part(leader, key.clone(), replaces, options.freshness, asked);
                (load, true)
            }
        };
        let read = match answer_of(load.clone()).await {
            // Of another reader's range.
            Err(error) if !leads && error.kind() == ErrorKind::InvalidRange => return Ok(First::Alone),
            answer => answer?,
        };
        let found = read.entry().filter(|entry| entry.metadata().is_live(self.stamp.now())).cloned();
        let answer = |lookup| {
            let age = read.age + sent.since(load.sent());
            First::Answer(Read { lookup, source: Source::Backend, age, stale: read.stale })
        };
        let Some(entry) = found else { return Ok(answer(Lookup::Absent)) };
        if is_known(options, entry.metadata()) {
            return Ok(answer(Lookup::Unchanged));
        }
        let range = clamp_range(&range, entry.size())?;
        let start = load.part().map_or(0, |part| part.start);
        if let Some(value) = piece_of(entry.value(), start, &range) {
            return Ok(answer(Lookup::Found(Entry::from_parts(value, Arc::clone(entry.metadata())))));
        }
        // What it brought is in the frontend by then.
        load.clone().ended().await;
        Ok(match self.read_blocks(key, entry.metadata(), &range, grid).await? {
            Some((value, _)) => answer(Lookup::Found(Entry::from_parts(value, Arc::clone(entry.metadata())))),
            None => First::Replaced,
        })
    }

    /// Leads a load of a part to its end, as [`lead`](Self::lead) that of a whole value.
    fn lead_part(
        self: &Arc<Self>,
        leader: Leader,
        key: Key,
        replaces: Replaceable,
        freshness: Freshness,
        asked: Asked,
    ) {
        let reader = Arc::clone(self);
        self.tasks
            .begin(async move { reader.read_part_and_fill(leader, key, replaces, freshness, asked).await });
    }

    /// Reads a part for all who wait, then keeps the stub and the blocks if the load still has the fill token.
    async fn read_part_and_fill(
        self: Arc<Self>,
        leader: Leader,
        key: Key,
        replaces: Replaceable,
        freshness: Freshness,
        asked: Asked,
    ) {
        let mut options = ReadOptions::new().freshness(freshness).range(asked.part.clone());
        if let Replaceable::Stub(stub) = &replaces {
            options = options.unless(Known::from(&**stub.metadata()));
        }
        self.recorder.count(Count::BackendRead);
        let read = self.backend.load(&key, &options).await;
        let Read { lookup, age, stale, .. } = match read.and_then(|read| checked(read, &asked.part)) {
            Ok(read) => read,
            Err(error) => return leader.announce(Err(Arc::new(error))),
        };
        let sent = leader.sent().earlier_by(age);
        let entry = match (lookup, &replaces) {
            (Lookup::Found(entry), _) => Some(entry),
            (Lookup::Unchanged, Replaceable::Stub(stub)) => {
                self.recorder.count(Count::Revalidated);
                Some(Entry::from_parts(Bytes::new(), Arc::clone(stub.metadata())))
            }
            (Lookup::Unchanged | Lookup::Changed | Lookup::Absent, _) => None,
        };
        let entry = entry.map(|entry| {
            let note = sent.note(entry.metadata());
            entry.with_note(note)
        });
        let lookup = entry.clone().map_or(Lookup::Absent, Lookup::Found);
        let answer = Ok(Read { lookup, source: Source::Backend, age, stale });
        let fill = async {
            if let Some(entry) = entry {
                return self.keep_part(&leader, &key, &entry, &asked, &replaces).await;
            }
            let fill = self.frontend.fill_with_absence(sent, &replaces);
            self.frontend.fill(&leader, &key, fill).await;
        };
        match self.plan.settings().fill {
            FillTiming::AfterAnswer => {
                leader.announce(answer);
                fill.await;
            }
            FillTiming::BeforeAnswer => {
                fill.await;
                leader.announce(answer);
            }
        }
    }

    /// Keeps what a load of a part brought: the value as a whole, or its stub and blocks.
    async fn keep_part(
        self: &Arc<Self>,
        leader: &Leader,
        key: &Key,
        entry: &Entry,
        asked: &Asked,
        replaces: &Replaceable,
    ) {
        if let Some(whole) = self.whole_of(key, entry, asked).await {
            let fill = self.frontend.fill_with(key, &whole, replaces);
            self.frontend.fill(leader, key, fill).await;
            return;
        }
        if !self.frontend.fits(key, Stub::LEN) {
            self.recorder.count(Count::BlocksRefusedBySize);
        }
        let brought = self.brought(key, entry, asked.part.start, asked.grid);
        let fill = self.frontend.fill_with_stub(key, entry, replaces);
        match self.frontend.fill(leader, key, fill).await {
            Filled::Done if self.frontend.fits(key, Stub::LEN) => {
                self.keep_brought(brought).await;
            }
            Filled::Revoked => self.recorder.count(Count::BlocksRefusedByToken),
            Filled::Done | Filled::Not => {}
        }
    }

    /// The whole value, where the frontend is to have it: it is here already, or at least half of a small one was asked for.
    async fn whole_of(&self, key: &Key, entry: &Entry, asked: &Asked) -> Option<Entry> {
        let size = entry.size();
        if size > self.plan.fill_whole() || !self.frontend.fits(key, size) {
            return None;
        }
        if entry.is_whole() {
            return Some(entry.clone());
        }
        let range = clamp_range(&asked.range, size).ok()?;
        if (range.end - range.start).saturating_mul(2) < size || entry.value().is_empty() {
            return None;
        }
        self.recorder.count(Count::BackendRead);
        let same = ReadOptions::new().if_version(Known::of(entry));
        let whole = self.backend.load(key, &same).await.ok()?.into_entry()?;
        let right = whole.version() == entry.version() && whole.is_whole();
        right.then(|| whole.with_note(entry.metadata().note.clone()))
    }
}

/// Whether the reader has this version already.
fn is_known(options: &ReadOptions, metadata: &Metadata) -> bool {
    options.unless.as_ref().is_some_and(|known| known.version == metadata.version)
}

/// The bytes of `range` in a part that begins at `start`, if it has all of them.
fn piece_of(part: &Bytes, start: u64, range: &Range<u64>) -> Option<Bytes> {
    let from = usize::try_from(range.start.checked_sub(start)?).ok()?;
    let to = usize::try_from(range.end.checked_sub(start)?).ok()?;
    (to <= part.len()).then(|| part.slice(from..to))
}

/// Refuses an answer that is not the part that was asked for.
fn checked(read: Read, part: &Range<u64>) -> Result<Read> {
    if let Some(entry) = read.entry() {
        let expected = clamp_range(part, entry.size())?;
        if entry.value().len() as u64 != expected.end - expected.start {
            let what = "the store gave another part of the value than the one asked for";
            return Err(Error::new(ErrorKind::Other, what));
        }
        if entry.is_whole() {
            entry.verify()?;
        }
    }
    Ok(read)
}
