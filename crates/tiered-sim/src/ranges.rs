//! Many readers of the same ranges of a few large values, while the stack and others replace these: what blocks may show (I14).
//!
//! Each seed has this phase, by dice of its own. A version tells the bytes of its value, so every answer is judged by itself: it
//! is that piece of that very value. Which version may be shown is judged as it is over a shared backend. The frontend has room
//! for all blocks, and the backend is slow, so that readers meet blocks, stubs, and each other's fetches.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::future::join_all;
use parking_lot::Mutex;
use tiered_conformance::{Dice, Fault, FaultStore, Faults};
use tiered_core::adapter::{Clock, Stamp, VersionMint};
use tiered_core::settings::{FillTiming, MaxStale, OnUnknown, ServeStale};
use tiered_core::{
    Delete, Error, ErrorKind, Feature, Key, Lookup, MemoryStore, Metadata, Outcome, Put, ReadOptions, Result,
    Stats, Store, StoreExt as _, TieredSettings, TieredStore, Version, WritePolicy, adapter,
};
use tokio::time::sleep;

use crate::client::within;
use crate::clock::SimClock;
use crate::config::Sim;
use crate::epoch::PROMPT;
use crate::server::{self, Server};
use crate::shared::judge::Judge;
use crate::trace::Trace;

/// Operations for each so many of the seed's.
const SHARE: u64 = 8;
const CLIENTS: usize = 4;
const KEYS: u64 = 2;
/// Sizes of values. Two that are the same follow each other often: only their bytes tell them apart. The largest are several
/// parts of a stream.
const SIZES: [u64; 5] = [8_192, 8_192, 5_000, 700, 70_000];
/// More than any value has.
const WHOLE: Range<u64> = 0..u64::MAX;
/// Longer than anything hangs, lives or backs off.
const REST: Duration = Duration::from_mins(2);
/// Milliseconds: 2020.
const BEGINNING: u64 = 1_577_836_800_000;

/// A seed's choices.
#[derive(Clone, Debug)]
struct Choices {
    settings: TieredSettings,
    /// The oldest that an answer may be.
    oldest: Duration,
    peeks: bool,
    /// One call in so many meets each fault of the frontend; 0: none.
    frontend_fails: u64,
    /// How long a client waits at most before its next operation, in milliseconds.
    think: u64,
    /// The same for others, who write the backend.
    others_think: u64,
}

fn pick<T: Copy>(dice: &mut Dice, first: T, second: T) -> T {
    if dice.below(2) == 0 { first } else { second }
}

impl Choices {
    fn draw(dice: &mut Dice) -> Self {
        let hour = Duration::from_hours(1);
        let max_stale = if dice.below(3) == 0 { Duration::from_millis(100) } else { hour };
        let serves_stale = dice.below(2) == 0;
        let mut settings = TieredSettings::default();
        settings.write_policy = pick(dice, WritePolicy::WriteThrough, WritePolicy::WriteAround);
        settings.on_unknown = pick(dice, OnUnknown::Retry, OnUnknown::Report);
        settings.max_stale = MaxStale::AtMost(max_stale);
        settings.block_size = pick(dice, Some(1 << 10), Some(2_000));
        settings.fill_whole = pick(dice, 0, 1_000);
        // Now and then whole values are in the frontend as well.
        settings.max_fill = if dice.below(4) == 0 { None } else { Some(1_000) };
        settings.fill = pick(dice, FillTiming::AfterAnswer, FillTiming::BeforeAnswer);
        if serves_stale {
            settings.serve_stale = ServeStale::Unlimited;
            settings.soft_read_timeout = Some(Duration::from_millis(15));
        }
        Self {
            settings,
            oldest: if serves_stale { hour * 24 } else { max_stale },
            peeks: dice.below(2) == 0,
            frontend_fails: pick(dice, 0, 40),
            think: 1 + dice.below(30),
            others_think: 20 + dice.below(400),
        }
    }
}

/// The bytes of the value that was written as this version.
fn value_of(version: &Version) -> Bytes {
    let id = version.as_u128().unwrap_or_default();
    let mut dice = Dice::new(u64::try_from((id ^ (id >> 64)) & u128::from(u64::MAX)).unwrap_or_default());
    let size = dice.pick(&SIZES).copied().unwrap_or_default();
    let words = std::iter::repeat_with(|| dice.roll().to_le_bytes());
    words.flatten().take(usize::try_from(size).unwrap_or_default()).collect()
}

/// What the readers and writers of a seed share.
struct World {
    choices: Choices,
    server: Server,
    keys: Vec<Key>,
    judge: Judge,
    trace: Arc<Trace>,
    dice: Mutex<Dice>,
    stamp: Stamp,
    /// Names writes, so that each is known again.
    mint: VersionMint,
    /// Operations that are left.
    left: Mutex<u64>,
    /// An answer with other bytes than those of its version.
    wrong: Mutex<Option<String>>,
}

/// Runs the phase; what the stack counted.
///
/// # Errors
/// What was wrong.
pub(crate) async fn run(sim: Sim, trace: &Arc<Trace>) -> std::result::Result<Stats, String> {
    let mut dice = Dice::new(sim.seed.wrapping_mul(0xA24B_AED4_963E_E407).wrapping_add(14));
    let world = World::new(sim, &mut dice, Arc::clone(trace))?;
    world.live().await.map_err(|why| format!("{why}; {:?}", world.choices))
}

impl World {
    fn new(sim: Sim, dice: &mut Dice, trace: Arc<Trace>) -> std::result::Result<Self, String> {
        let choices = Choices::draw(dice);
        let clock: Arc<dyn Clock> = Arc::new(SimClock::new(BEGINNING));
        let mut mint = || VersionMint::seeded(dice.roll());
        let (of_server, of_stack, of_clients) = (mint(), mint(), mint());
        let stamp = Stamp::new(Arc::clone(&clock), Arc::new(of_server));
        let server = server::server(stamp, dice.roll(), None, |all| all);
        let keys: Result<Vec<Key>> = (0..KEYS).map(|number| Key::new(format!("ranges-{number}"))).collect();
        let judge = Judge::new(server.clone(), choices.oldest, false);
        trace.note(&format!("ranges of seed {}", sim.seed));
        Ok(Self {
            choices,
            server,
            keys: keys.map_err(|error| error.chain())?,
            judge,
            trace,
            dice: Mutex::new(Dice::new(dice.roll())),
            stamp: Stamp::new(clock, Arc::new(of_stack)),
            mint: of_clients,
            left: Mutex::new(sim.operations / SHARE),
            wrong: Mutex::default(),
        })
    }

    fn below(&self, bound: u64) -> u64 {
        self.dice.lock().below(bound)
    }

    fn faults(&self, rates: &[(Fault, u64)]) -> Arc<Faults> {
        let trace = Arc::clone(&self.trace);
        let faults = Faults::new(self.below(u64::MAX))
            .request_lifetime(Duration::from_millis(300))
            .hang(Duration::from_secs(3))
            .observed(move |call| {
                let fault = call.fault.map(|fault| format!(" {fault:?}")).unwrap_or_default();
                let end = if call.ok { "ok" } else { "error" };
                trace.note(&format!("  {} {} {}{fault}: {end}", call.store, call.operation, call.key));
            });
        let faults = rates.iter().fold(faults, |faults, (fault, rarity)| faults.with(*fault, *rarity));
        faults.heal();
        Arc::new(faults)
    }

    fn all_faults(&self) -> [Arc<Faults>; 2] {
        let fails = self.choices.frontend_fails;
        let evicts = if fails == 0 { 0 } else { 60 };
        let of_front = [
            (Fault::Slow, 8),
            (Fault::ErrorBefore, fails),
            (Fault::ErrorAfter, fails),
            (Fault::Corrupt, fails),
            (Fault::Evict, evicts),
        ];
        let of_back = [
            (Fault::Slow, 2),
            (Fault::ErrorBefore, 30),
            (Fault::ErrorAfter, 30),
            (Fault::DelayedApply, 30),
            (Fault::Hang, 100),
        ];
        [self.faults(&of_front), self.faults(&of_back)]
    }

    async fn open(&self, faults: &[Arc<Faults>; 2]) -> Result<TieredStore> {
        let [of_front, of_back] = faults;
        let front = MemoryStore::with_stamp(self.stamp.clone())
            .declaring(|all| if self.choices.peeks { all } else { all.without(Feature::Peeks) });
        let front = FaultStore::new("frontend", Arc::new(front), Arc::clone(of_front));
        let back = FaultStore::new("server", Arc::new(self.server.clone()), Arc::clone(of_back)).remote();
        let builder = TieredStore::builder(front, back).stamp(self.stamp.clone());
        builder.settings(self.choices.settings.clone()).build().await
    }

    /// What was wrong first.
    fn verdict(&self) -> std::result::Result<(), String> {
        self.wrong.lock().clone().map_or_else(|| self.judge.verdict(), Err)
    }

    /// The stack is opened, used while others write, brought to rest, and closed.
    async fn live(&self) -> std::result::Result<Stats, String> {
        let failed = |what: &'static str| move |error: Error| format!("ranges: {what}: {}", error.chain());
        let faults = self.all_faults();
        let store = self.open(&faults).await.map_err(failed("opening"))?;
        for key in &self.keys {
            self.put(&store, key).await;
        }
        for faults in &faults {
            faults.resume();
        }
        let work = async {
            tokio::select! {
                biased;
                _ = join_all((0..CLIENTS).map(|_| self.client(&store))) => {}
                () = self.others() => {}
            }
        };
        within(PROMPT, "ranges: the clients' work", work).await?;
        for faults in &faults {
            faults.heal();
        }
        self.verdict()?;
        sleep(REST).await;
        within(PROMPT, "ranges: flushing", store.flush()).await?.map_err(failed("flushing"))?;
        let stats = store.stats();
        if (stats.slots, stats.quarantined) != (0, 0) {
            return Err(format!("ranges: at rest there is {stats:?}"));
        }
        for key in &self.keys {
            self.read(&store, key, vec![WHOLE]).await;
        }
        self.verdict()?;
        within(PROMPT, "ranges: closing", store.close()).await?.map_err(failed("closing"))?;
        Ok(stats)
    }

    /// Others write the backend.
    async fn others(&self) {
        loop {
            // Time goes on, whatever the choice is.
            sleep(Duration::from_millis(5 + self.below(self.choices.others_think))).await;
            let Some(key) = self.dice.lock().pick(&self.keys).cloned() else { return };
            let id = self.mint.mint();
            self.trace.note(&format!("ranges: others write {key} as {id}"));
            let put = adapter::with_version(Put::new(value_of(&id)), id);
            // The server itself does not fail.
            self.server.put(&key, put).await.ok();
        }
    }

    async fn client(&self, store: &TieredStore) {
        loop {
            sleep(Duration::from_millis(self.below(self.choices.think))).await;
            {
                let mut left = self.left.lock();
                if *left == 0 || self.verdict().is_err() {
                    return;
                }
                *left -= 1;
            }
            let Some(key) = self.dice.lock().pick(&self.keys).cloned() else { return };
            match self.below(40) {
                0..30 => self.crowd(store, &key).await,
                30..33 => self.stream(store, &key).await,
                33..36 => self.put(store, &key).await,
                36 => self.delete(store, &key).await,
                37 => drop(store.invalidate(&key).await),
                38 => self.head(store, &key).await,
                _ => self.read_whole(store, &key).await,
            }
        }
    }

    /// Several readers at the same time, of the same range or of others.
    async fn crowd(&self, store: &TieredStore, key: &Key) {
        let first = self.some_range();
        let readers = (0..=self.below(4)).map(|_| {
            let mut ranges = vec![if self.below(2) == 0 { first.clone() } else { self.some_range() }];
            if self.below(4) == 0 {
                ranges.push(self.some_range());
            }
            self.read(store, key, ranges)
        });
        join_all(readers.collect::<Vec<_>>()).await;
    }

    /// Often a piece of a block, and now and then all there is.
    fn some_range(&self) -> Range<u64> {
        let start = if self.below(3) == 0 { 0 } else { self.below(6_000) };
        let len = match self.below(6) {
            0 => u64::from(u32::MAX),
            1 | 2 => 1 + self.below(6_000),
            _ => 1 + self.below(900),
        };
        start..start + len
    }

    async fn read(&self, store: &TieredStore, key: &Key, ranges: Vec<Range<u64>>) {
        let begun = self.judge.begin(key);
        let found = if let [range] = ranges.as_slice() {
            let read = store.load(key, &ReadOptions::new().range(range.clone())).await;
            read.map(|read| {
                read.into_entry().map(|entry| (Arc::clone(entry.metadata()), vec![entry.into_value()]))
            })
        } else {
            let read = store.get_ranges(key, &ranges, &ReadOptions::new()).await;
            read.map(|read| match read.lookup {
                Lookup::Found(slices) => Some((slices.metadata, slices.values)),
                Lookup::Unchanged | Lookup::Changed | Lookup::Absent => None,
            })
        };
        match found {
            Ok(found) => {
                let version = found.as_ref().map(|(metadata, _)| metadata.version.clone());
                self.trace.note(&format!("ranges: {ranges:?} of {key} is {version:?}"));
                if let Some((metadata, parts)) = found {
                    self.check_parts(key, &metadata, &ranges, &parts);
                }
                self.judge.saw(key, begun, version.as_ref());
            }
            // Neither tier fails so.
            Err(error) if error.kind() == ErrorKind::Other => {
                self.fault(format!("{key}: reading {ranges:?}: {}", error.chain()));
            }
            Err(_) => {}
        }
    }

    /// A stream is of one version as well, or ends with an error.
    async fn stream(&self, store: &TieredStore, key: &Key) {
        let range = if self.below(2) == 0 { WHOLE } else { self.some_range() };
        let begun = self.judge.begin(key);
        let streamed = store.read_stream(key, &ReadOptions::new().range(range.clone())).await;
        let Ok(streamed) = streamed else { return };
        let Some((metadata, mut body)) = streamed else { return self.judge.saw(key, begun, None) };
        self.judge.saw(key, begun, Some(&metadata.version));
        let mut received = Vec::new();
        loop {
            sleep(Duration::from_millis(self.below(3))).await;
            match body.next().await {
                Some(Ok(part)) => received.extend_from_slice(&part),
                Some(Err(error)) if error.kind() == ErrorKind::Other => {
                    return self.fault(format!("{key}: a stream of {range:?}: {}", error.chain()));
                }
                Some(Err(_)) => return,
                None => break,
            }
        }
        self.trace.note(&format!("ranges: a stream of {range:?} of {key} was {}", metadata.version));
        self.check_parts(key, &metadata, &[range], &[received.into()]);
    }

    /// I14: each part is that piece of the one version that the answer names.
    fn check_parts(&self, key: &Key, metadata: &Metadata, ranges: &[Range<u64>], parts: &[Bytes]) {
        let value = value_of(&metadata.version);
        let size = value.len() as u64;
        let at = |at: u64| usize::try_from(at.min(size)).unwrap_or(usize::MAX);
        for (range, part) in ranges.iter().zip(parts) {
            let right = value.get(at(range.start)..at(range.end)).unwrap_or_default();
            if metadata.size != size || *part != right {
                let version = &metadata.version;
                self.fault(format!("{key}: bytes {range:?} of version {version} are not its own"));
            }
        }
    }

    fn fault(&self, what: String) {
        self.wrong.lock().get_or_insert(what);
    }

    async fn read_whole(&self, store: &TieredStore, key: &Key) {
        let begun = self.judge.begin(key);
        let Ok(entry) = store.get(key).await else { return };
        if let Some(entry) = &entry {
            self.check_parts(key, entry.metadata(), &[WHOLE], std::slice::from_ref(entry.value()));
        }
        self.judge.saw(key, begun, entry.as_ref().map(tiered_core::Entry::version));
    }

    async fn head(&self, store: &TieredStore, key: &Key) {
        let begun = self.judge.begin(key);
        let Ok(head) = store.head(key, &ReadOptions::new()).await else { return };
        self.judge.saw(key, begun, head.as_ref().map(|metadata| &metadata.version));
    }

    async fn put(&self, store: &TieredStore, key: &Key) {
        let id = self.mint.mint();
        let put = adapter::with_version(Put::new(value_of(&id)), id.clone());
        let result = store.put(key, put).await.map(drop);
        self.wrote(key, id.clone(), Some(id), &result);
    }

    async fn delete(&self, store: &TieredStore, key: &Key) {
        let id = self.mint.mint();
        let delete = adapter::delete_with_version(Delete::new(), id.clone());
        let result = store.delete(key, delete).await.map(drop);
        self.wrote(key, id, None, &result);
        // Nothing is to be read of what is absent.
        self.put(store, key).await;
    }

    fn wrote(&self, key: &Key, id: Version, leaves: Option<Version>, result: &Result<()>) {
        let outcome = match result {
            Ok(()) => Outcome::Applied,
            Err(error) => error.write_outcome(),
        };
        self.trace.note(&format!("ranges: {key} is written as {id}: {outcome:?}"));
        self.judge.wrote(key, id, leaves, outcome);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A phase that meets no blocks tests nothing.
    #[test]
    fn blocks_are_met_often() {
        let (mut hits, mut fills, mut joined, mut stale) = (0, 0, 0, 0);
        for seed in 0..20 {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
            let stats = runtime.expect("a runtime").block_on(async {
                let sim = Sim { seed, operations: 2_000, careless: None, show: false };
                run(sim, &Arc::new(Trace::new(false)))
                    .await
                    .unwrap_or_else(|why| panic!("seed {seed}: {why}"))
            });
            hits += stats.block_hits;
            fills += stats.block_fills;
            joined += stats.joined;
            stale += stats.stale_answers;
        }
        assert!(
            hits > 2_000 && fills > 1_000 && joined > 40 && stale > 20,
            "{hits} {fills} {joined} {stale}"
        );
    }
}
