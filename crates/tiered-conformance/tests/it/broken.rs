//! Deliberately broken stores: each must fail a named case, or the case proves nothing.

mod bend;
mod fault;
mod odd;
mod odd_store;
pub(crate) mod sessions;
pub(crate) mod sharing;
mod store;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::BoxFuture;
use futures_util::{FutureExt as _, StreamExt as _, stream};
use tiered_conformance::{Effort, Ending, Eviction, Factory, Place, RunOptions, cases, run};
use tiered_core::adapter::{Stamp, VersionMint};
use tiered_core::testing::ManualClock;
use tiered_core::{Result, Store, Timestamp};

use bend::bent;
use fault::Fault;
use odd::{Odd, OddStore};
use sessions::{Disk, Forgets};
use sharing::{Alone, Server};
use store::Broken;

/// Gives a store with one fault, on a manual clock.
struct Workshop {
    store: Arc<dyn Store>,
    fault: Fault,
    stamp: Stamp,
    clock: Arc<ManualClock>,
}

impl Workshop {
    fn new(fault: Fault) -> Self {
        let clock = Arc::new(ManualClock::new(Timestamp::from_millis(1_000_000_000_000)));
        let stamp = Stamp::new(clock.clone(), Arc::new(VersionMint::from_entropy()));
        Self { store: broken(fault, &stamp), fault, stamp, clock }
    }
}

fn broken(fault: Fault, stamp: &Stamp) -> Arc<dyn Store> {
    let broken = Broken::new(fault, stamp.clone());
    bent(&broken.inner.clone(), broken)
}

/// Opens an empty store each time, and as often as it is asked: what no lasting store may do.
struct Room {
    fault: Fault,
    stamp: Stamp,
}

#[async_trait]
impl Place for Room {
    async fn open(&self) -> Result<Arc<dyn Store>> {
        Ok(broken(self.fault, &self.stamp))
    }
}

#[async_trait]
impl Factory for Workshop {
    async fn open(&self) -> Result<Arc<dyn Store>> {
        Ok(Arc::clone(&self.store))
    }

    async fn place(&self) -> Option<Arc<dyn Place>> {
        Some(Arc::new(Room { fault: self.fault, stamp: self.stamp.clone() }))
    }

    fn clock(&self) -> Option<Arc<ManualClock>> {
        Some(Arc::clone(&self.clock))
    }
}

/// A bent store on a manual clock, with a place of its own.
struct Bending {
    store: Arc<dyn Store>,
    place: Box<dyn Fn() -> Arc<dyn Place> + Send + Sync>,
    clock: Arc<ManualClock>,
}

#[async_trait]
impl Factory for Bending {
    async fn open(&self) -> Result<Arc<dyn Store>> {
        Ok(Arc::clone(&self.store))
    }

    async fn place(&self) -> Option<Arc<dyn Place>> {
        Some((self.place)())
    }

    fn clock(&self) -> Option<Arc<ManualClock>> {
        Some(Arc::clone(&self.clock))
    }
}

/// Opens a new odd store each time: it is volatile.
struct OddRoom(Odd, Stamp);

#[async_trait]
impl Place for OddRoom {
    async fn open(&self) -> Result<Arc<dyn Store>> {
        let odd = OddStore::new(self.0, &self.1);
        Ok(bent(&odd.inner.clone(), odd))
    }
}

fn clock() -> (Arc<ManualClock>, Stamp) {
    let clock = Arc::new(ManualClock::new(Timestamp::from_millis(1_000_000_000_000)));
    let stamp = Stamp::new(clock.clone(), Arc::new(VersionMint::from_entropy()));
    (clock, stamp)
}

/// A store at a place of its own, and the same kind of place for each case that asks.
async fn bending<P: Place>(place: impl Fn(&Stamp) -> P + Send + Sync + 'static) -> Bending {
    let (clock, stamp) = clock();
    let store = place(&stamp).open().await.expect("opens");
    Bending { store, place: Box::new(move || Arc::new(place(&stamp))), clock }
}

async fn odd(odd: Odd) -> Bending {
    bending(move |stamp| OddRoom(odd, stamp.clone())).await
}

async fn forgetting(forgets: Forgets) -> Bending {
    bending(move |stamp| Disk::new(forgets, stamp)).await
}

async fn alone(alone: Alone) -> Bending {
    bending(move |stamp| Server::new(alone, stamp)).await
}

/// The cases that a store without a fault passes.
async fn passes(what: &str, factory: impl Factory, without: &[&str]) {
    let names = cases().map(|case| case.name).filter(|name| !without.contains(name));
    let report = run(factory, RunOptions::new().only(names).effort(Effort::Brief)).await;
    assert!(report.is_ok(), "{what}\n{report}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrapper_without_a_fault_passes() {
    let report = run(Workshop::new(Fault::None), RunOptions::new()).await;
    assert!(report.is_ok(), "{report}");
    passes("odd", odd(Odd::Nothing).await, &[]).await;
    passes("sessions", forgetting(Forgets::Nothing).await, &[]).await;
    // Its handles share what they have, and closing one closes nothing.
    passes(
        "sharing",
        alone(Alone::Nothing).await,
        &["life_close", "life_close_busy", "close_keeps_acknowledged", "close_drops_refused"],
    )
    .await;
}

/// Runs the case that must name the fault: a race may need more than one attempt, where the scheduler has few cores.
async fn caught(
    fault: String,
    name: &'static str,
    factory: impl Factory,
) -> std::result::Result<String, String> {
    const ATTEMPTS: usize = 5;
    let attempts = if name.starts_with("race_") { ATTEMPTS } else { 1 };
    let factory = Arc::new(factory);
    let mut ended = String::new();
    for attempt in 1..=attempts {
        // Cases that wait for what never comes need not wait for long.
        let options = RunOptions::new().only([name]).deadline(Duration::from_secs(8));
        let report = run(Again(Arc::clone(&factory)), options).await;
        match report.case(name).map(|case| &case.ending) {
            Some(Ending::Failed(why)) if why.starts_with('[') => {
                return Ok(format!("{fault}: caught by the case {name}, attempt {attempt}"));
            }
            other => ended = format!("{fault} by {name}: {other:?}"),
        }
    }
    Err(ended)
}

/// A factory that is used again.
struct Again<F>(Arc<F>);

#[async_trait]
impl<F: Factory> Factory for Again<F> {
    async fn open(&self) -> Result<Arc<dyn Store>> {
        self.0.open().await
    }
    async fn place(&self) -> Option<Arc<dyn Place>> {
        self.0.place().await
    }
    fn clock(&self) -> Option<Arc<ManualClock>> {
        self.0.clock()
    }
    fn eviction(&self) -> Eviction {
        self.0.eviction()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[expect(clippy::print_stdout, reason = "says which case caught which store")]
async fn every_broken_store_fails_the_case_for_its_fault() {
    let mut runs: Vec<BoxFuture<'static, std::result::Result<String, String>>> = Vec::new();
    for (fault, name) in fault::TABLE {
        runs.push(caught(format!("{fault:?}"), name, Workshop::new(fault)).boxed());
    }
    for (fault, name) in odd::TABLE {
        runs.push(async move { caught(format!("{fault:?}"), name, odd(fault).await).await }.boxed());
    }
    for (fault, name) in sessions::TABLE {
        runs.push(
            async move { caught(format!("Forgets{fault:?}"), name, forgetting(fault).await).await }.boxed(),
        );
    }
    for (fault, name) in sharing::TABLE {
        runs.push(async move { caught(format!("Alone{fault:?}"), name, alone(fault).await).await }.boxed());
    }
    let all = runs.len();
    assert!(all >= 90, "{all} broken stores");
    let ended: Vec<_> = stream::iter(runs).buffered(8).collect().await;
    let mut unnoticed = Vec::new();
    for result in ended {
        match result {
            Ok(line) => println!("{line}"),
            Err(line) => unnoticed.push(line),
        }
    }
    assert!(unnoticed.is_empty(), "{} of {all} not noticed: {unnoticed:#?}", unnoticed.len());
}

/// A failure names the first difference, and not all that was listed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_text_of_a_failure_is_short() {
    for (fault, name) in [(Fault::PageLost, "list_pages"), (Fault::ListsBackwards, "list_pages")] {
        let report = run(Workshop::new(fault), RunOptions::new().only([name])).await;
        let Some(Ending::Failed(why)) = report.case(name).map(|case| &case.ending) else {
            panic!("{fault:?} passes {name}");
        };
        assert!(why.chars().count() <= 300 && why.contains("at position"), "{why}");
    }
}

/// A plain fault shows in many cases; the first of them, in the order of the list, is the plain one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_simple_fault_fails_the_simple_case_first() {
    for (fault, plain) in [
        (Fault::ValueTruncated, "read_whole"),
        (Fault::AbsentIsEmpty, "read_absent"),
        (Fault::HeadTruncated, "read_head"),
        (Fault::VersionMisreported, "put_version"),
        (Fault::DeleteLost, "delete_existing"),
        (Fault::RangeOffByOne, "range_half_open"),
        (Fault::LimitIgnored, "list_limit"),
        (Fault::StartAfterIncluded, "list_after"),
        (Fault::BatchFirstWins, "batch_last_operation_wins"),
    ] {
        // The cases before it pass.
        let before = cases().position(|case| case.name == plain).expect("a case");
        let names = cases().take(before + 1).map(|case| case.name);
        let report = run(Workshop::new(fault), RunOptions::new().only(names).effort(Effort::Brief)).await;
        let first = report.first_failure().map(|case| case.name);
        assert_eq!(first, Some(plain), "{fault:?}\n{report}");
    }
}
