//! Trims, and lists of what is parked, that fail; crashes after that; and decisions on writes of one key.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use tiered_conformance::Dice;
use tiered_core::adapter::journal::Sequence;
use tiered_core::ownership::Lease;
use tiered_core::settings::OnPark;
use tiered_core::{ErrorKind, Parked, Store as _, StoreExt as _, TieredStore, ownership};
use tiered_journal::MemoryFolder;

use crate::key;
use crate::picky::{Picky, State, picky};
use crate::process::{
    Operation, Stack, Troubled, Unit, apply, check_prefixes_by_key, process, shown, until, write,
};

const KEYS: [&str; 3] = ["a", "b", "c"];

fn single(name: &str, value: &'static str) -> Unit {
    vec![(name.to_owned(), Some(Bytes::from(value)))]
}

/// One seed: what was acknowledged, what became of it, and what it runs over.
struct World {
    dice: Dice,
    atomic: bool,
    stack: Stack,
    disk: MemoryFolder,
    back: Picky,
    next: u64,
    history: Vec<Unit>,
    /// The sequences of what was dropped: the n-th operation has the n-th.
    dropped: BTreeSet<Sequence>,
    /// Of what was retried although a later write of its key was there, which replaces it.
    replaced: BTreeSet<Sequence>,
}

/// A process, and the troubles of its disk.
struct Process {
    store: TieredStore,
    journal: Troubled,
}

impl World {
    fn new(seed: u64, atomic: bool, stack: Stack) -> Self {
        let (disk, back) = (MemoryFolder::new(), picky(atomic));
        let (dropped, replaced) = (BTreeSet::new(), BTreeSet::new());
        Self {
            dice: Dice::new(seed),
            atomic,
            stack,
            disk,
            back,
            next: 0,
            history: Vec::new(),
            dropped,
            replaced,
        }
    }

    async fn open(&mut self) -> Process {
        let journal = Troubled::new(Stack::file(&self.disk));
        let store = self.stack.open_with(Arc::new(journal.clone()), &self.back).await.expect("builds");
        for (sequence, _) in store.parked().iter().flat_map(|unit| &unit.records) {
            // The journal's list did not say before the crash that it was replaced.
            self.replaced.remove(sequence);
        }
        Process { store, journal }
    }

    /// What was acknowledged and not given up.
    fn without(&self, given_up: &BTreeSet<Sequence>) -> Vec<Unit> {
        let mut sequence = 0;
        let mut is_kept = |_: &&Operation| {
            sequence += 1;
            !given_up.contains(&sequence)
        };
        self.history.iter().map(|unit| unit.iter().filter(&mut is_kept).cloned().collect()).collect()
    }

    fn expected(&self) -> State {
        let mut state = State::new();
        self.without(&(&self.dropped | &self.replaced))
            .iter()
            .flatten()
            .for_each(|operation| apply(&mut state, operation));
        state
    }

    fn operation(&mut self, name: &str) -> Operation {
        let number = self.next;
        self.next += 1;
        let value = match self.dice.below(5) {
            0 => None,
            1 | 2 => Some(format!("bad{number}")),
            _ => Some(format!("{number}")),
        };
        (name.to_owned(), value.map(Bytes::from))
    }

    async fn write(&mut self, process: &Process) {
        let first = usize::try_from(self.dice.below(3)).expect("small");
        let mut names = KEYS.iter().cycle().skip(first);
        let mut unit: Unit = names.next().map(|name| self.operation(name)).into_iter().collect();
        if self.dice.below(3) == 0 {
            unit.extend(names.next().map(|name| self.operation(name)));
        }
        write(&process.store, &unit).await;
        if self.atomic {
            self.history.push(unit);
        } else {
            self.history.extend(unit.into_iter().map(|operation| vec![operation]));
        }
    }

    /// Enough to fill a segment in the end, so that trims unlink some.
    async fn fill(&mut self, process: &Process) {
        self.next += 1;
        let mut value = self.next.to_string().into_bytes();
        value.resize(20 << 10, b'.');
        let unit = vec![("filler".to_owned(), Some(Bytes::from(value)))];
        write(&process.store, &unit).await;
        self.history.push(unit);
    }

    async fn decide(&mut self, process: &Process) {
        let parked = process.store.parked();
        if parked.is_empty() {
            return;
        }
        let index = usize::try_from(self.dice.below(parked.len() as u64)).expect("small");
        let Some(unit) = parked.get(index) else { return };
        let sequences = || unit.records.iter().map(|(sequence, _)| *sequence);
        if self.dice.below(2) == 0 {
            match process.store.drop_parked(unit.sequence()).await {
                Ok(()) => self.dropped.extend(sequences()),
                // A later write may replace it at that moment.
                Err(error) if error.kind() == ErrorKind::InvalidInput => {}
                Err(error) => assert!(process.journal.list_fails.load(Ordering::Relaxed), "{error}"),
            }
            return;
        }
        process.store.retry_parked(unit.sequence()).expect("parked");
        if self.stack.on_park == OnPark::Skip || !self.atomic {
            // What a later write of the key replaces is done with.
            let all: Vec<&str> = self.history.iter().flatten().map(|(name, _)| name.as_str()).collect();
            let numbered = || (1..).zip(&all).filter(|(sequence, _)| !self.dropped.contains(sequence));
            let is_replaced = |of: &Sequence| {
                let name = numbered().find(|(sequence, _)| sequence == of).map(|(_, name)| *name);
                numbered().any(|(sequence, other)| sequence > *of && Some(*other) == name)
            };
            let replaced: Vec<Sequence> = sequences().filter(is_replaced).collect();
            self.replaced.extend(replaced);
        }
    }

    /// Some steps of a process, after each of which it shows what is acknowledged. It crashes then.
    async fn live(&mut self, steps: u64) {
        if self.stack.lease.is_some() {
            // Whose the backend is must be known.
            self.back.down.store(false, Ordering::Relaxed);
        }
        let process = self.open().await;
        for step in 0..steps {
            assert_eq!(shown(&process.store, &KEYS).await, self.shown(), "before step {step}");
            match self.dice.below(12) {
                0..5 => self.write(&process).await,
                5 => self.fill(&process).await,
                // Once: what it has accepted it accepts again.
                6 if self.dice.below(6) == 0 => self.back.strict.store(false, Ordering::Relaxed),
                7 => toggle(&self.back.down),
                8 => toggle(&process.journal.list_fails),
                9 => toggle(&process.journal.trim_fails),
                10 => self.decide(&process).await,
                _ => tokio::time::sleep(Duration::from_secs(10)).await,
            }
            if self.dice.below(2) == 0 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
        assert_eq!(shown(&process.store, &KEYS).await, self.shown(), "in the end");
    }

    fn shown(&self) -> State {
        let mut state = self.expected();
        state.retain(|name, _| KEYS.contains(&name.as_str()));
        state
    }

    /// Everything is well again: all that is parked is retried, and what is kept arrives.
    async fn heal(&mut self) {
        self.back.down.store(false, Ordering::Relaxed);
        self.back.strict.store(false, Ordering::Relaxed);
        let process = self.open().await;
        assert_eq!(shown(&process.store, &KEYS).await, self.shown());
        while process.store.flush().await.is_err() {
            for unit in process.store.parked() {
                process.store.retry_parked(unit.sequence()).expect("parked");
            }
        }
        assert_eq!(self.back.state(), self.expected());
        assert_eq!(shown(&process.store, &KEYS).await, self.shown());
        process.store.close().await.expect("nothing waits");
    }
}

fn toggle(flag: &std::sync::atomic::AtomicBool) {
    flag.fetch_xor(true, Ordering::Relaxed);
}

fn run(seed: u64, atomic: bool, stack: Stack) {
    let mut world = World::new(seed, atomic, stack);
    let lives = 2 + world.dice.below(3);
    for _ in 0..lives {
        let steps = 5 + world.dice.below(20);
        process(world.live(steps));
        let keeps = world.dice.below(2) == 0;
        world.disk.crash(|| keeps);
    }
    process(world.heal());
    process(async {
        let process = world.open().await;
        process.store.flush().await.expect("nothing waits");
        assert_eq!((process.store.stats().backlog, process.store.parked().len()), (0, 0));
        assert_eq!(world.back.state(), world.expected());
    });
    // Nothing that was dropped has come back, and no key went back in its history.
    let kept = world.without(&world.dropped);
    let checked = check_prefixes_by_key(&world.back.states.lock(), &kept.iter().collect::<Vec<_>>(), &KEYS);
    let may_go_back = atomic && stack.on_park == OnPark::Skip;
    assert!(may_go_back || checked.is_ok(), "{checked:?}");
}

fn seeds(atomic: bool, lease: Option<Lease>, on_park: OnPark) {
    for seed in 0..40 {
        let what = format!("seed {seed}, atomic: {atomic}, {lease:?}, {on_park:?}");
        let stack = Stack { lease, on_park };
        let ran = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| run(seed, atomic, stack)));
        assert!(ran.is_ok(), "{what}");
    }
}

#[test]
fn with_failing_trims_and_a_halting_flush_no_write_is_lost_or_undone() {
    seeds(true, None, OnPark::Auto);
}

#[test]
fn with_a_flush_that_skips_refused_writes_no_write_is_lost_or_undone() {
    seeds(true, None, OnPark::Skip);
}

#[test]
fn under_a_lease_no_write_is_lost_or_undone() {
    seeds(true, Some(Lease::Acquire), OnPark::Auto);
    seeds(true, Some(Lease::Acquire), OnPark::Skip);
}

#[test]
fn without_atomic_batches_no_write_is_lost_or_undone() {
    seeds(false, None, OnPark::Auto);
}

/// Until the journal's list says that a write is dropped it is parked, and what comes after it waits or replaces it.
#[test]
fn a_write_stays_parked_until_its_drop_is_recorded() {
    for (on_park, fails) in
        [(OnPark::Auto, true), (OnPark::Auto, false), (OnPark::Skip, true), (OnPark::Skip, false)]
    {
        let (disk, back) = (MemoryFolder::new(), picky(true));
        let halts = on_park == OnPark::Auto;
        process(async {
            let journal = Troubled::new(Stack::file(&disk));
            let stack = Stack { lease: None, on_park };
            let store = stack.open_with(Arc::new(journal.clone()), &back).await.expect("builds");
            write(&store, &single("a", "bad")).await;
            store.flush().await.expect_err("refused");
            let turn = journal.list_turn.lock().await;
            let (dropping, sequence) = (store.clone(), store.parked()[0].sequence());
            let dropped =
                tokio::runtime::Handle::current().spawn(async move { dropping.drop_parked(sequence).await });
            until(|| store.parked().is_empty()).await;
            store.retry_parked(sequence).expect_err("it is being dropped");
            write(&store, &single("a", "2")).await;
            tokio::time::sleep(Duration::from_secs(1)).await;
            assert_eq!(back.value("a").await.is_none(), halts, "{on_park:?}");
            journal.list_fails.store(fails, Ordering::Relaxed);
            drop(turn);
            assert_eq!(dropped.await.expect("no panic").is_err(), fails);
            journal.list_fails.store(false, Ordering::Relaxed);
            assert_eq!(store.parked().len(), usize::from(fails && halts), "{on_park:?}, fails: {fails}");
            back.strict.store(false, Ordering::Relaxed);
            for parked in store.parked() {
                store.retry_parked(parked.sequence()).expect("parked");
            }
            store.flush().await.expect("nothing is refused");
            assert_eq!(back.value("a").await.expect("the later one"), "2");
        });
        disk.crash(|| true);
        process(async {
            let store = Stack { lease: None, on_park }.open(&disk, &back).await.expect("builds");
            let a = store.get(&key("a")).await.expect("reads").expect("the later one");
            assert_eq!(a.value(), "2", "{on_park:?}, fails: {fails}");
            store.flush().await.expect("nothing is refused");
            assert_eq!(back.value("a").await.expect("the later one"), "2", "{on_park:?}, fails: {fails}");
        });
    }
}

/// Of several parked writes of a key the older one is in line again when the newer one is dropped.
#[test]
fn dropping_a_parked_write_reveals_an_earlier_one_that_is_queued_again() {
    for takes_over in [true, false] {
        let (mine, theirs, back) = (MemoryFolder::new(), MemoryFolder::new(), picky(true));
        let stack = |lease| Stack { lease: takes_over.then_some(lease), on_park: OnPark::Auto };
        process(async {
            let store = stack(Lease::Acquire).open(&mine, &back).await.expect("the lease is free");
            back.down.store(true, Ordering::Relaxed);
            for unit in [single("a", "1"), single("b", "1"), single("a", "2"), single("a", "3")] {
                write(&store, &unit).await;
            }
        });
        mine.crash(|| true);
        back.down.store(false, Ordering::Relaxed);
        process(async {
            for journal in ownership::journals(&back).await.expect("reads") {
                ownership::abandon(&back, journal).await.expect("abandoned");
            }
            let other = stack(Lease::TakeOver).open(&theirs, &back).await.expect("taken over");
            write(&other, &single("a", "theirs")).await;
            other.close().await.expect("drains");
        });
        process(async {
            let store = stack(Lease::Acquire).open(&mine, &back).await.expect("its own again");
            let parked: Vec<_> = store.parked().iter().map(Parked::sequence).collect();
            let [a1, b1, a2, a3] = parked[..] else { panic!("all are parked: {parked:?}") };
            store.retry_parked(a1).expect("parked");
            store.drop_parked(a3).await.expect("parked");
            assert_eq!(shown(&store, &["a"]).await["a"], "2", "parked still");
            store.drop_parked(a2).await.expect("parked");
            assert_eq!(shown(&store, &["a"]).await["a"], "1", "in line again");
            store.drop_parked(b1).await.expect("parked");
            store.flush().await.expect("decided");
            assert_eq!(back.value("a").await.expect("retried"), "1");
            assert_eq!(shown(&store, &["a"]).await["a"], "1", "and not what was read meanwhile");
        });
    }
}
