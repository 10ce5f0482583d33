//! A tiered store over tiers in trouble, and what is done to it.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use shuttle::future::{JoinHandle, block_on};
use tokio::sync::mpsc::{self, UnboundedSender};

use super::history::{FIRST, History, Id, Others, Seen, Value};
use super::journal::ScriptedJournal;
use super::scripted::{LIFETIME, Role, Scripted, Trouble, id_in, id_of};
use crate::batch::Batch;
use crate::capability::{Feature, Sharing};
use crate::clock::{Clock, Stamp, Timestamp};
use crate::entry::Entry;
use crate::error::Result;
use crate::journal::Journal;
use crate::key::Key;
use crate::list::ListOptions;
use crate::memory::MemoryStore;
use crate::policy::{Freshness, WritePolicy};
use crate::read::{Lookup, Read, ReadOptions, Source};
use crate::store::{Change, Store};
use crate::sync_primitives::explored::{self, abandon, coin, pause, time};
use crate::tiered::TieredStore;
use crate::tiered::builder::TieredBuilder;
use crate::version::VersionMint;
use crate::write::{CommitLevel, Delete, Put};

/// How often it is looked whether a store has come to rest.
const LOOKS: u64 = 2_000;

/// Virtual time.
#[derive(Debug)]
struct VirtualClock(());

impl Clock for VirtualClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(1_000_000).saturating_add(self.uptime())
    }

    fn uptime(&self) -> Duration {
        time::Instant::now().uptime()
    }
}

/// What a scenario plays on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Setting {
    keys: usize,
    policy: WritePolicy,
    /// Whether the keys have an entry in the beginning.
    filled: bool,
    /// Whether the frontend has it, too.
    warm: bool,
    /// Whether requests live on after their answers were lost.
    lively: bool,
    /// Whether the batches of the backend are atomic.
    atomic: bool,
    /// Whether the frontend answers from memory.
    peeks: bool,
    /// Whether others write to the backend, which tells of it.
    shared: bool,
}

impl Setting {
    /// One key under `policy`; the rest as the dice say.
    pub(super) fn of(policy: WritePolicy) -> Self {
        Self {
            keys: 1,
            policy,
            filled: coin(),
            warm: coin(),
            lively: true,
            atomic: true,
            peeks: coin(),
            shared: false,
        }
    }

    pub(super) fn keys(self, keys: usize) -> Self {
        Self { keys, ..self }
    }

    /// The keys have no entry in the beginning.
    pub(super) fn empty(self) -> Self {
        Self { filled: false, ..self }
    }

    /// A request whose answer was lost takes effect at once, or never.
    pub(super) fn without_late_requests(self) -> Self {
        Self { lively: false, ..self }
    }

    /// The batches of the backend are atomic, or are not, as the dice say.
    pub(super) fn atomic_or_not(self) -> Self {
        Self { atomic: coin(), ..self }
    }

    /// Others write to the backend, which tells of it.
    pub(super) fn shared(self) -> Self {
        Self { shared: true, ..self }
    }
}

/// What outlives a store.
#[derive(Debug)]
struct Places {
    front: MemoryStore,
    back: MemoryStore,
    journal: Arc<ScriptedJournal>,
    history: Arc<History>,
    keys: Vec<Key>,
    stamp: Stamp,
}

/// A store, its tiers and what was done to them.
#[derive(Debug)]
pub(super) struct Stage {
    store: TieredStore,
    frontend: Arc<Scripted>,
    backend: Arc<Scripted>,
    journal: Arc<ScriptedJournal>,
    history: Arc<History>,
    keys: Vec<Key>,
    setting: Setting,
    places: Places,
    /// Tells the store of what others write.
    feed: UnboundedSender<Change>,
    tasks: Mutex<Vec<JoinHandle<()>>>,
}

impl Places {
    async fn new(setting: Setting) -> Self {
        let keys: Vec<Key> =
            (0..setting.keys).map(|index| Key::new(format!("key-{index}")).expect("valid")).collect();
        let others = if setting.shared { Others::Write } else { Others::None };
        let history = History::new(setting.keys, setting.filled.then_some(FIRST), others);
        let stamp = Stamp::new(Arc::new(VirtualClock(())), Arc::new(VersionMint::seeded(7)));
        let lifetime = if setting.lively { LIFETIME } else { Duration::ZERO };
        let memory = |name: &'static str| {
            MemoryStore::with_stamp(stamp.clone())
                .declaring(|capabilities| capabilities.named(name).with_request_lifetime(lifetime))
        };
        let front = memory("frontend").declaring(|capabilities| {
            if setting.peeks { capabilities } else { capabilities.without(Feature::Peeks) }
        });
        let back = memory("backend").declaring(|capabilities| {
            if setting.atomic { capabilities } else { capabilities.without(Feature::AtomicBatch) }
        });
        let back = back.declaring(|capabilities| {
            if !setting.shared {
                return capabilities;
            }
            capabilities.with_sharing(Sharing::Shared).with(Feature::Changes)
        });
        if setting.filled {
            for key in &keys {
                back.put(key, put_of(FIRST)).await.expect("memory takes it");
            }
        }
        let journal = Arc::new(ScriptedJournal::new(&keys, &history));
        Self { front, back, journal, history, keys, stamp }
    }
}

impl Stage {
    /// Builds the store, with settings that `change` makes.
    pub(super) async fn build(
        setting: Setting,
        change: impl FnOnce(TieredBuilder) -> TieredBuilder,
    ) -> Arc<Self> {
        let stage = Self::open(setting, Places::new(setting).await, change).await;
        if setting.warm {
            for key in 0..setting.keys {
                stage.read(key, Freshness::Cached).await;
            }
            stage.store.flush().await.expect("nothing goes wrong yet");
        }
        stage
    }

    async fn open(
        setting: Setting,
        places: Places,
        change: impl FnOnce(TieredBuilder) -> TieredBuilder,
    ) -> Arc<Self> {
        let (keys, history) = (places.keys.clone(), Arc::clone(&places.history));
        let journaled = setting.policy == WritePolicy::WriteBehind;
        let role = if journaled { Role::Follower } else { Role::Backend };
        let (feed, told) = mpsc::unbounded_channel();
        let frontend = Scripted::new(places.front.clone(), Role::Frontend, &keys, &history);
        let backend = Scripted::new(places.back.clone(), role, &keys, &history);
        let backend = if setting.shared { backend.told_by(told) } else { backend };
        let (frontend, backend, journal) =
            (Arc::new(frontend), Arc::new(backend), Arc::clone(&places.journal));
        let front: Arc<dyn Store> = Arc::<Scripted>::clone(&frontend);
        let back: Arc<dyn Store> = Arc::<Scripted>::clone(&backend);
        let builder =
            TieredStore::builder(front, back).stamp(places.stamp.clone()).write_policy(setting.policy);
        let builder = if journaled {
            builder.journal(Arc::<ScriptedJournal>::clone(&journal) as Arc<dyn Journal>)
        } else {
            builder
        };
        let store = change(builder).build().await;
        let store = store.unwrap_or_else(|error| panic!("the parts fit: {}", error.chain()));
        let tasks = Mutex::default();
        Arc::new(Self { store, frontend, backend, journal, history, keys, setting, places, feed, tasks })
    }

    /// Waits for the tasks of the scenario, leaves the store, and opens it again over what is there.
    pub(super) async fn reopen(self: Arc<Self>) -> Arc<Self> {
        self.join().await;
        if coin() {
            // Whatever it leaves undone, the journal has.
            self.store.close().await.ok();
        }
        self.calm();
        let Self { store, setting, places, .. } = Arc::into_inner(self).expect("its tasks have ended");
        drop(store);
        Self::wait_until_left().await;
        // Until requests of before can take effect no more.
        time::sleep(LIFETIME).await;
        Self::open(setting, places, |builder| builder).await
    }

    /// From now on the frontend is in trouble.
    pub(super) fn frontend_is_in(&self, trouble: Trouble) {
        self.frontend.is_in(trouble);
    }

    /// From now on the backend is in trouble.
    pub(super) fn backend_is_in(&self, trouble: Trouble) {
        self.backend.is_in(trouble);
    }

    /// From now on so many appends find no room, and so many other calls of the journal fail.
    pub(super) fn journal_is_in_trouble(&self, full: usize, failing: usize) {
        self.journal.is_in_trouble(full, failing);
    }

    /// A task of the scenario.
    pub(super) fn spawn<F: Future<Output = ()> + Send + 'static>(
        self: &Arc<Self>,
        act: impl FnOnce(Arc<Self>) -> F,
    ) {
        let task = shuttle::future::spawn(act(Arc::clone(self)));
        self.tasks.lock().push(task);
    }

    pub(super) async fn read(&self, key: usize, freshness: Freshness) {
        let begun = self.history.tick();
        let options = ReadOptions::new().freshness(freshness);
        if let Ok(read) = self.store.load(&self.keys[key], &options).await {
            self.history.saw(key, Seen::Is(self.value_in(&read)), begun);
        }
    }

    /// Asks for the metadata alone.
    pub(super) async fn head(&self, key: usize) {
        let begun = self.history.tick();
        if let Ok(head) = self.store.head(&self.keys[key], &ReadOptions::new()).await {
            self.history.saw(key, Seen::Is(head.map(|metadata| id_in(&metadata))), begun);
        }
    }

    /// Reads all keys at once.
    pub(super) async fn read_many(&self) {
        let begun = self.history.tick();
        let reads = self.store.get_many(&self.keys, &ReadOptions::new()).await;
        for (key, read) in reads.into_iter().enumerate() {
            if let Ok(read) = read {
                self.history.saw(key, Seen::Is(self.value_in(&read)), begun);
            }
        }
    }

    /// Lists all keys.
    pub(super) async fn list(&self) {
        use futures_util::StreamExt as _;
        let begun = self.history.tick();
        let mut listing = self.store.list(ListOptions::new());
        let mut listed = vec![None; self.keys.len()];
        while let Some(next) = listing.next().await {
            let Ok(next) = next else { return };
            let key = self.keys.iter().position(|key| *key == next.key).expect("a key of the scenario");
            listed[key] = Some(id_in(next.metadata.as_ref().expect("memory lists metadata")));
        }
        for (key, value) in listed.into_iter().enumerate() {
            self.history.saw(key, Seen::Is(value), begun);
        }
    }

    fn value_in(&self, read: &Read) -> Value {
        match &read.lookup {
            Lookup::Found(entry) => {
                let id = id_in(entry.metadata());
                if entry.value().as_ref() != id.to_le_bytes() {
                    self.history.fault(format!("the entry of write {id} has the value of another one"));
                }
                Some(id)
            }
            Lookup::Absent => None,
            Lookup::Unchanged | Lookup::Changed => {
                self.history.fault("a read without a condition answers one");
                None
            }
        }
    }

    pub(super) async fn put(&self, key: usize) {
        let id = self.history.begin_put(key, None);
        let written = self.store.put(&self.keys[key], put_of(id)).await;
        self.history.end_write(key, id, written.as_ref());
    }

    /// A put that the backend refuses, and goes on refusing until an operator forgives it.
    pub(super) async fn put_refused(&self, key: usize) {
        let id = self.history.begin_put(key, None);
        self.backend.refuse(id, true);
        let written = self.store.put(&self.keys[key], put_of(id)).await;
        self.history.end_write(key, id, written.as_ref());
    }

    /// A delete that the backend refuses.
    pub(super) async fn delete_refused(&self, key: usize) {
        let id = self.history.begin_delete(key, None);
        self.backend.refuse(id, true);
        let deleted = self.store.delete(&self.keys[key], delete_of(id)).await;
        self.history.end_write(key, id, deleted.as_ref());
    }

    /// A put, and its way to the backend.
    pub(super) async fn put_and_follow(&self, key: usize) {
        let id = self.history.begin_put(key, None);
        let written = self.store.put(&self.keys[key], put_of(id)).await;
        self.history.end_write(key, id, written.as_ref());
        let Ok(written) = written else { return };
        if written.receipt.durable(CommitLevel::Committed).await.is_ok() {
            self.history.committed(key, id);
        }
    }

    pub(super) async fn delete(&self, key: usize) {
        let id = self.history.begin_delete(key, None);
        let deleted = self.store.delete(&self.keys[key], delete_of(id)).await;
        self.history.end_write(key, id, deleted.as_ref());
    }

    /// A put or a delete.
    pub(super) async fn write(&self, key: usize) {
        if coin() { self.put(key).await } else { self.delete(key).await }
    }

    /// Reads, and writes if nothing has changed since.
    pub(super) async fn replace(&self, key: usize) {
        let options = ReadOptions::new().authoritative();
        let Ok(read) = self.store.load(&self.keys[key], &options).await else { return };
        let seen = self.value_in(&read);
        let id = self.history.begin_put(key, Some(seen));
        let put = match read.entry().map(Entry::version) {
            Some(version) => put_of(id).if_version(version.clone()),
            None => put_of(id).if_absent(),
        };
        let written = self.store.put(&self.keys[key], put).await;
        self.history.end_write(key, id, written.as_ref());
    }

    /// One batch: a put of the first key, a delete of the second one.
    pub(super) async fn apply(&self, keys: [usize; 2]) {
        self.apply_and(keys, false).await;
    }

    /// The same, and the backend refuses the put.
    pub(super) async fn apply_refused(&self, keys: [usize; 2]) {
        self.apply_and(keys, true).await;
    }

    async fn apply_and(&self, keys: [usize; 2], refused: bool) {
        let put = self.history.begin_put(keys[0], None);
        self.backend.refuse(put, refused);
        let delete = self.history.begin_delete(keys[1], None);
        let batch = Batch::new()
            .put(self.keys[keys[0]].clone(), put_of(put))
            .delete(self.keys[keys[1]].clone(), delete_of(delete));
        let applied = self.store.apply(batch).await;
        for (index, (key, id)) in keys.into_iter().zip([put, delete]).enumerate() {
            let answered = match &applied {
                Ok(outcomes) => outcomes[index].as_ref(),
                Err(error) => Err(error),
            };
            self.history.end_write(key, id, answered);
        }
    }

    /// Another process writes to the backend, which tells of it some time later.
    pub(super) async fn write_elsewhere(&self, key: usize) {
        let id = self.history.begin_put(key, None);
        self.backend.put_past(&self.keys[key], put_of(id));
        pause().await;
        self.backend.tells();
        let version = coin().then(|| crate::Version::from_u128(u128::from(id)));
        let change = Change::Key { key: self.keys[key].clone(), version };
        let change = if coin() { change } else { Change::Resync };
        self.feed.send(change).expect("the store is open");
        while !self.backend.has_told_all() {
            pause().await;
        }
        // A read that begins after the store has heard of the write must not miss it.
        self.history.end_write(key, id, Ok(&()));
    }

    /// Ends the life of the store while calls go on.
    pub(super) async fn close(&self) {
        self.store.close().await.ok();
    }

    /// An invalidation. Whether it succeeds or not, nothing must show of it.
    pub(super) async fn invalidate(&self, key: usize) {
        self.store.invalidate(&self.keys[key]).await.ok();
    }

    /// Waits for what is under way and for what is journaled.
    pub(super) async fn flush(&self) {
        let begun = self.history.tick();
        if self.store.flush().await.is_ok() && !self.history.is_flushed(begun) {
            self.history.fault("a flush returned before the backend had the writes of before it");
        }
    }

    /// An operator decides on one parked write: it is tried again, or given up.
    pub(super) async fn decide(&self) -> bool {
        let Some(parked) = self.store.parked().into_iter().next() else { return false };
        let sequence = parked.sequence();
        let writes: Vec<(usize, Id)> = parked.records.iter().map(|(_, record)| self.named(record)).collect();
        if coin() {
            for (_, id) in &writes {
                self.backend.refuse(*id, coin());
            }
            // It may have been given up, or superseded, meanwhile.
            self.store.retry_parked(sequence).ok();
        } else {
            let begun = self.history.tick();
            if self.store.drop_parked(sequence).await.is_ok() {
                for (key, id) in writes {
                    self.history.dropped(key, id, begun);
                }
            }
        }
        true
    }

    /// Decides on a parked write, if there is one soon.
    pub(super) async fn decide_soon(&self) {
        for _ in 0..8 {
            if self.decide().await {
                return;
            }
            pause().await;
        }
    }

    fn named(&self, record: &crate::journal::JournalRecord) -> (usize, Id) {
        let key = self.keys.iter().position(|key| *key == record.key).expect("a key of the scenario");
        (key, id_of(&record.action))
    }

    /// Waits for the tasks of the scenario. Then all trouble ends, the store comes to rest, and everything must agree.
    pub(super) async fn end(self: Arc<Self>) {
        self.join().await;
        self.calm();
        while self.flushed().await.is_err() {
            assert!(self.decide().await, "a flush fails, and nothing is parked");
        }
        self.rest().await;
        self.history.verdict().unwrap_or_else(|why| panic!("{why}"));
        self.agree().await;
        self.store.close().await.unwrap_or_else(|error| panic!("nothing is in trouble: {}", error.chain()));
        Self::wait_until_left().await;
        self.history.verdict().unwrap_or_else(|why| panic!("{why}"));
    }

    /// Waits for the flush, which nothing keeps from its end.
    async fn flushed(&self) -> Result<()> {
        let mut flush = pin!(self.store.flush());
        for _ in 0..LOOKS {
            if let Some(ended) = abandon(1, flush.as_mut()).await {
                return ended;
            }
            pause().await;
        }
        panic!("a flush does not end: {:?}, {:?}", self.store.parked(), self.store.stats());
    }

    /// Waits for the tasks of the scenario.
    pub(super) async fn join(&self) {
        loop {
            let Some(task) = self.tasks.lock().pop() else { break };
            task.await.expect("no task is stopped");
        }
    }

    /// Nothing goes wrong from now on.
    pub(super) fn calm(&self) {
        time::allow_timeouts(0);
        self.frontend.is_in(Trouble::default());
        self.backend.is_in(Trouble::default());
        self.journal.is_in_trouble(0, 0);
    }

    /// Waits until no key has any state left, and no task but those that run for as long as the store is open.
    async fn rest(&self) {
        let journaled = self.setting.policy == WritePolicy::WriteBehind;
        let loops = if journaled { 2 } else { 0 } + usize::from(self.setting.shared);
        for _ in 0..LOOKS {
            let stats = self.store.stats();
            let is_idle = self.backend.has_told_all() && explored::tasks() == loops;
            if is_idle && stats.slots + stats.quarantined + stats.backlog == 0 {
                assert_eq!((stats.gated, stats.loads, stats.pending, stats.parked), (0, 0, 0, 0));
                return;
            }
            pause().await;
        }
        panic!("the store does not come to rest: {:?}", self.store.stats());
    }

    /// Whether the backend has the latest writes, and the frontend nothing else that it shows.
    async fn agree(&self) {
        for (index, key) in self.keys.iter().enumerate() {
            let backend = self.backend.value(key);
            let latest = self.history.latest(index);
            assert_eq!(backend, latest, "the backend has not the latest write of key {index}");
            for _ in 0..2 {
                let read = self.store.load(key, &ReadOptions::new()).await;
                let read = read.unwrap_or_else(|error| panic!("nothing is in trouble: {}", error.chain()));
                let found = self.value_in(&read);
                let from = if read.source == Source::Frontend { "the frontend" } else { "the backend" };
                assert_eq!(found, backend, "{from} answers what the backend has not");
            }
        }
    }

    /// Waits until no task of the store is left.
    async fn wait_until_left() {
        for _ in 0..LOOKS {
            if explored::tasks() == 0 {
                return;
            }
            pause().await;
        }
        panic!("{} tasks of the store go on after it was left", explored::tasks());
    }
}

/// Plays a scenario over a store until all its tasks have ended and the store has come to rest.
pub(super) fn play(
    setting: Setting,
    change: impl FnOnce(TieredBuilder) -> TieredBuilder,
    cast: impl FnOnce(&Arc<Stage>),
) {
    block_on(async {
        let stage = Stage::build(setting, change).await;
        cast(&stage);
        stage.end().await;
    });
}

pub(super) fn readers(stage: &Arc<Stage>, count: usize) {
    for _ in 0..count {
        stage.spawn(async |stage| {
            stage.read(0, Freshness::Cached).await;
            stage.read(0, Freshness::Cached).await;
        });
    }
}

/// The put of a write.
fn put_of(id: Id) -> Put {
    Put::new(id.to_le_bytes().to_vec()).with_version(crate::Version::from_u128(u128::from(id)))
}

fn delete_of(id: Id) -> Delete {
    Delete::new().under_id(crate::Version::from_u128(u128::from(id)))
}
