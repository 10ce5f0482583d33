//! Processes that begin, crash and begin again over one disk and one backend, in virtual time.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tiered_core::adapter::journal::{Aside, Journal, JournalRecord, Recovered, Sequence};
use tiered_core::ownership::Lease;
use tiered_core::settings::OnPark;
use tiered_core::{
    Batch, Delete, Durability, Entry, Error, ErrorKind, Feature, MemoryStore, Put, Result, Store as _,
    StoreExt as _, TieredStore, WritePolicy,
};
use tiered_journal::{FileJournal, JournalConfig, MemoryFolder};
use tokio::sync::Mutex;

use crate::key;
use crate::picky::{Picky, State};

/// An acknowledged operation on a key; `None` deletes it.
pub(crate) type Operation = (String, Option<Bytes>);

/// A write, or all of a batch.
pub(crate) type Unit = Vec<Operation>;

/// Runs a process. It ends as one that is killed: nothing of it goes on.
pub(crate) fn process<T>(run: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.expect("a runtime").block_on(run)
}

/// Runs until `run` ends, or a call of the backend is cut off.
pub(crate) async fn until_cut(back: &Picky, run: impl Future<Output = ()>) {
    tokio::select! {
        biased;
        () = back.reached.notified() => {}
        () = run => {}
        () = tokio::time::sleep(Duration::from_hours(1)) => panic!("it neither ends nor is cut off"),
    }
}

/// How a stack owns its backend, and what it does about refusals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stack {
    pub(crate) lease: Option<Lease>,
    pub(crate) on_park: OnPark,
}

impl Stack {
    pub(crate) fn file(disk: &MemoryFolder) -> FileJournal {
        JournalConfig::new("").segment_size(64 << 10).open_in(disk.attach()).expect("opens")
    }

    pub(crate) async fn open(self, disk: &MemoryFolder, back: &Picky) -> Result<TieredStore> {
        self.open_with(Arc::new(Self::file(disk)), back).await
    }

    pub(crate) async fn open_with(self, journal: Arc<dyn Journal>, back: &Picky) -> Result<TieredStore> {
        let builder = TieredStore::builder(MemoryStore::new(), back.clone());
        let builder = builder.write_policy(WritePolicy::WriteBehind).on_park(self.on_park).journal(journal);
        let builder = match self.lease {
            Some(lease) => builder.lease(lease),
            None => builder,
        };
        builder.build().await
    }
}

/// A journal on disk that fails to write its list or to trim while it is told to, and whose calls wait for their turn.
#[derive(Clone, Debug)]
pub(crate) struct Troubled {
    inner: Arc<FileJournal>,
    pub(crate) list_fails: Arc<AtomicBool>,
    pub(crate) trim_fails: Arc<AtomicBool>,
    /// Taken for as long as the list is not to be written, and nothing to be appended.
    pub(crate) list_turn: Arc<Mutex<()>>,
    pub(crate) append_turn: Arc<Mutex<()>>,
}

impl Troubled {
    pub(crate) fn new(inner: FileJournal) -> Self {
        Self {
            inner: Arc::new(inner),
            list_fails: Arc::default(),
            trim_fails: Arc::default(),
            list_turn: Arc::default(),
            append_turn: Arc::default(),
        }
    }

    fn check(fails: &AtomicBool) -> Result<()> {
        let error = || Error::new(ErrorKind::Unavailable, "the disk is in trouble");
        if fails.load(Ordering::Relaxed) { Err(error()) } else { Ok(()) }
    }
}

#[async_trait]
impl Journal for Troubled {
    fn durability(&self) -> Durability {
        self.inner.durability()
    }
    async fn append(&self, records: &[JournalRecord]) -> Result<Sequence> {
        let _turn = self.append_turn.lock().await;
        self.inner.append(records).await
    }
    async fn trim(&self, sequence: Sequence) -> Result<()> {
        Self::check(&self.trim_fails)?;
        self.inner.trim(sequence).await
    }
    async fn set_aside(&self, aside: &Aside) -> Result<()> {
        let _turn = self.list_turn.lock().await;
        Self::check(&self.list_fails)?;
        self.inner.set_aside(aside).await
    }
    async fn recover(&self, backend: &[u8]) -> Result<Recovered> {
        self.inner.recover(backend).await
    }
    async fn close(&self) -> Result<()> {
        self.inner.close().await
    }
}

/// Writes a unit; it is acknowledged.
pub(crate) async fn write(store: &TieredStore, unit: &Unit) {
    if let [(name, value)] = unit.as_slice() {
        match value {
            Some(value) => drop(store.put(&key(name), Put::new(value.clone())).await.expect("acknowledged")),
            None => drop(store.delete(&key(name), Delete::new()).await.expect("acknowledged")),
        }
        return;
    }
    let is_atomic = store.capabilities().has(Feature::AtomicBatch);
    let batch = if is_atomic { Batch::new() } else { Batch::new().best_effort() };
    let batch = unit.iter().fold(batch, |batch, (name, value)| match value {
        Some(value) => batch.put(key(name), Put::new(value.clone())),
        None => batch.delete(key(name), Delete::new()),
    });
    let outcomes = store.apply(batch).await.expect("acknowledged");
    assert!(outcomes.iter().all(Result::is_ok), "{outcomes:?}");
}

/// Waits, in virtual time, until a condition holds.
pub(crate) async fn until(what: impl Fn() -> bool + Send + Sync) {
    let waits = async {
        while !what() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(Duration::from_hours(1), waits).await.expect("it comes about");
}

/// What the store shows of some keys.
pub(crate) async fn shown(store: &TieredStore, names: &[&str]) -> State {
    let mut state = State::new();
    for name in names {
        if let Some(entry) = store.get(&key(name)).await.expect("reads") {
            state.insert((*name).to_owned(), Entry::into_value(entry));
        }
    }
    state
}

/// Carries out an operation on a state.
pub(crate) fn apply(state: &mut State, (name, value): &Operation) {
    match value {
        Some(value) => state.insert(name.clone(), value.clone()),
        None => state.remove(name),
    };
}

/// What units leave.
pub(crate) fn after<'u>(units: impl IntoIterator<Item = &'u Unit>) -> State {
    let mut state = State::new();
    units.into_iter().flatten().for_each(|operation| apply(&mut state, operation));
    state
}

/// Each state is what whole units of the history leave, none earlier in it than the one before.
pub(crate) fn check_prefixes(states: &[State], history: &[&Unit]) -> Result<(), String> {
    let (mut reached, mut rest) = (State::new(), history.iter());
    for (index, state) in states.iter().enumerate() {
        while reached != *state {
            let Some(next) = rest.next() else {
                return Err(format!("state {index} is no prefix of the history, or goes back: {state:?}"));
            };
            next.iter().for_each(|operation| apply(&mut reached, operation));
        }
    }
    Ok(())
}

/// The same for each key alone.
pub(crate) fn check_prefixes_by_key(
    states: &[State],
    history: &[&Unit],
    names: &[&str],
) -> Result<(), String> {
    for name in names {
        let of_key = |operation: &Operation| operation.0 == *name;
        let units: Vec<Unit> = history
            .iter()
            .flat_map(|unit| unit.iter())
            .filter(|operation| of_key(operation))
            .map(|operation| vec![operation.clone()])
            .collect();
        let only: Vec<State> = states
            .iter()
            .map(|state| {
                state.get_key_value(*name).map(|(k, v)| (k.clone(), v.clone())).into_iter().collect()
            })
            .collect();
        check_prefixes(&only, &units.iter().collect::<Vec<_>>())
            .map_err(|error| format!("{name}: {error}"))?;
    }
    Ok(())
}
