//! A journal that holds what the backend has the beginning of, and something that it refuses: recovered in pieces,
//! crashed after every call of the backend, decided on, and opened again.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use tiered_core::adapter::journal::JournalRecord;
use tiered_core::ownership::Lease;
use tiered_core::settings::OnPark;
use tiered_core::{Action, Store as _, TieredStore};
use tiered_journal::MemoryFolder;

use crate::parking::Untrimmed;
use crate::picky::{Cut, Picky, picky};
use crate::process::{
    Operation, Stack, Unit, after, check_prefixes, check_prefixes_by_key, process, shown, until_cut, write,
};

const KEYS: [&str; 4] = ["a", "b", "c", "d"];

/// A journal, and how it comes back.
#[derive(Clone, Copy, Debug)]
struct Case {
    atomic: bool,
    stack: Stack,
    /// Whether a refusal says which key it is about.
    names: bool,
    /// So many units were flushed, and are in the journal still.
    flushed: usize,
    /// The units that the backend refuses.
    refused: &'static [usize],
    /// The call that never returns, and whether it takes effect.
    calls: u64,
    lands: bool,
}

impl Case {
    fn units(&self) -> Vec<Unit> {
        let of_unit: [&[(&str, bool)]; 9] = [
            &[("d", true)],
            &[("b", true)],
            &[("a", true), ("c", true)],
            &[("b", false)],
            &[("d", true)],
            &[("b", true), ("c", true)],
            &[("a", true)],
            &[("c", true)],
            &[("b", true)],
        ];
        let unit = |(number, operations): (usize, &&[(&str, bool)])| {
            let last = operations.len() - 1;
            let operation = |(index, (name, puts)): (usize, &(&str, bool))| -> Operation {
                let is_bad = index == last && self.refused.contains(&number);
                let value = if is_bad { format!("bad{number}") } else { number.to_string() };
                ((*name).to_owned(), (*puts || is_bad).then(|| Bytes::from(value)))
            };
            operations.iter().enumerate().map(operation).collect()
        };
        of_unit.iter().enumerate().map(unit).collect()
    }

    /// Opens it with a journal whose trims are lost.
    async fn open_untrimmed(&self, disk: &MemoryFolder, back: &Picky) -> TieredStore {
        let journal = Untrimmed(Stack::file(disk));
        self.stack.open_with(Arc::new(journal), back).await.expect("builds")
    }

    /// Leaves the journal behind, comes back, and crashes at the call; whether there was such a call.
    fn run(&self) -> bool {
        let (disk, back, units) = (MemoryFolder::new(), picky(self.atomic), self.units());
        back.names.store(self.names, Ordering::Relaxed);
        process(async {
            let store = self.open_untrimmed(&disk, &back).await;
            let (flushed, rest) = units.split_at(self.flushed);
            for unit in flushed {
                write(&store, unit).await;
            }
            store.flush().await.expect("drains");
            back.down.store(true, Ordering::Relaxed);
            for unit in rest {
                write(&store, unit).await;
            }
        });
        disk.crash(|| true);
        back.down.store(false, Ordering::Relaxed);
        back.cut_after(self.calls, if self.lands { Cut::After } else { Cut::Before });
        process(until_cut(&back, async {
            let store = self.open_untrimmed(&disk, &back).await;
            // What a later write of its key replaces is not refused.
            if store.flush().await.is_err() {
                store.close().await.expect_err("something is parked");
            }
        }));
        disk.crash(|| true);
        let was_cut = back.mend();
        let dropped = process(async {
            let store = self.stack.open(&disk, &back).await.expect("builds");
            assert_eq!(shown(&store, &KEYS).await, after(&units), "{self:?}: all that was acknowledged");
            let dropped = self.decide(&store, &back).await;
            store.close().await.expect("nothing waits");
            dropped
        });
        let kept = |unit: &Unit| -> Unit {
            unit.iter().filter(|operation| !dropped.contains(*operation)).cloned().collect()
        };
        let history: Vec<Unit> = units.iter().map(kept).collect();
        assert_eq!(back.state(), after(&history), "{self:?}: nothing is lost, nothing dropped comes back");
        self.check(&back, &history);
        process(async {
            let store = self.stack.open(&disk, &back).await.expect("builds");
            store.flush().await.expect("decided");
            assert_eq!((store.stats().backlog, store.parked().len()), (0, 0), "{self:?}");
            assert_eq!(shown(&store, &KEYS).await, after(&history), "{self:?}");
            assert_eq!(back.state(), after(&history), "{self:?}");
        });
        was_cut
    }

    /// Decides on everything that is parked: odd runs drop it, even ones retry it. What was dropped.
    async fn decide(&self, store: &TieredStore, back: &Picky) -> HashSet<Operation> {
        let mut dropped = HashSet::new();
        while store.flush().await.is_err() {
            let parked = store.parked();
            assert!(!parked.is_empty(), "{self:?}");
            if self.atomic && self.stack.on_park != OnPark::Skip {
                assert_eq!(parked.len(), 1, "{self:?}: it halts at the first refusal");
            }
            for unit in parked {
                let operations = || unit.records.iter().map(|(_, record)| operation(record));
                let is_bad = |(_, value): Operation| value.is_some_and(|value| value.starts_with(b"bad"));
                assert!(operations().any(is_bad), "{self:?}: only what is refused is parked: {unit:?}");
                if self.calls % 2 == 1 {
                    store.drop_parked(unit.sequence()).await.expect("parked");
                    dropped.extend(operations());
                } else {
                    back.strict.store(false, Ordering::Relaxed);
                    store.retry_parked(unit.sequence()).expect("parked");
                }
            }
        }
        dropped
    }

    /// The backend held prefixes of the history, of all of it or of each key's, and under a lease took nothing twice.
    fn check(&self, back: &Picky, history: &[Unit]) {
        let (states, history) = (back.states.lock().clone(), history.iter().collect::<Vec<_>>());
        let checked = if self.atomic && self.stack.on_park != OnPark::Skip {
            check_prefixes(&states, &history)
        } else {
            check_prefixes_by_key(&states, &history, &KEYS)
        };
        assert_eq!(checked, Ok(()), "{self:?}: {:#?}", back.history.lock());
        if self.stack.lease.is_some() {
            let mut seen = HashSet::new();
            for (key, value) in back.history.lock().iter().filter(|(key, _)| KEYS.contains(&key.as_str())) {
                assert!(seen.insert((key.clone(), value.clone())), "{self:?}: {key} was flushed twice");
            }
        }
    }
}

pub(crate) fn operation(record: &JournalRecord) -> Operation {
    let value = match &record.action {
        Action::Put(put) => Some(put.value.clone()),
        Action::Delete(_) => None,
    };
    (record.key.as_str().to_owned(), value)
}

/// Runs a stack with every place of the refused units, and a crash at every call.
fn at_every_call(atomic: bool, lease: Option<Lease>, on_park: OnPark) {
    let places: [(usize, &'static [usize]); 9] = [
        (0, &[0, 4]),
        (0, &[4]),
        (0, &[8]),
        (0, &[0, 4, 6]),
        (4, &[4]),
        (4, &[5]),
        (4, &[6]),
        (4, &[8]),
        (4, &[5, 7]),
    ];
    for (flushed, refused) in places {
        for names in [true, false] {
            let stack = Stack { lease, on_park };
            let mut calls = 0;
            // Of four crashes in a row two took effect, and what is parked after two is dropped.
            while (Case { atomic, stack, names, flushed, refused, calls, lands: calls / 2 % 2 == 0 }).run() {
                calls += 1;
            }
            assert!(calls >= 1, "no call was cut off");
        }
    }
}

#[test]
fn an_atomic_backend_holds_a_prefix_of_history_after_refusals_and_crashes() {
    at_every_call(true, None, OnPark::Auto);
}

#[test]
fn under_a_lease_an_atomic_backend_holds_a_prefix_and_takes_each_write_once() {
    at_every_call(true, Some(Lease::Acquire), OnPark::Auto);
}

#[test]
fn a_flush_that_skips_refusals_holds_a_prefix_of_each_key() {
    at_every_call(true, None, OnPark::Skip);
    at_every_call(true, Some(Lease::Acquire), OnPark::Skip);
}

#[test]
fn a_backend_without_atomic_batches_holds_a_prefix_of_each_key() {
    at_every_call(false, None, OnPark::Auto);
    at_every_call(false, None, OnPark::Halt);
}
