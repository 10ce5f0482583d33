//! A store that is left while a call is under way, and opened again over the same tiers: closed, closed half-way, or its
//! process ended; at every moment of the call, under every fault, however it is opened again. Time is virtual.

#![expect(clippy::print_stdout, reason = "says how many cases there were")]

use std::fmt::Debug;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use tiered_conformance::{Fault, FaultStore, Faults};
use tiered_core::settings::Reopen;
use tiered_core::{
    Delete, Durability, Entry, Feature, Key, MemoryStore, Outcome, Put, ReadOptions, Store, StoreExt as _,
    TieredStore, WritePolicy,
};
use tiered_journal::{JournalConfig, MemoryFolder};
use tokio::runtime::{Builder, Runtime};
use tokio::time::{sleep, timeout};

/// The call that is under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operation {
    Put,
    Delete,
    Fill,
    Invalidate,
}

/// How the store is left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    /// Closed, and opened again at once.
    Close,
    /// The close is dropped half-way, and so is everything else; opened again when all of it has ended.
    CloseHalf,
    /// The process ends.
    Crash,
}

/// When it is left: after so many turns of the scheduler, or after so long.
#[derive(Clone, Copy, Debug)]
enum Moment {
    Turns(usize),
    After(Duration),
}

#[derive(Clone, Copy, Debug)]
struct Case {
    policy: WritePolicy,
    reopen: Reopen,
    fault: Option<(&'static str, Fault)>,
    operation: Operation,
    moment: Moment,
    ending: Ending,
}

/// Longer than anything hangs, lives or backs off.
const REST: Duration = Duration::from_mins(2);
/// Longer than a close takes.
const PROMPT: Duration = Duration::from_mins(5);

/// What outlives the process.
struct Disks {
    front: MemoryStore,
    back: MemoryStore,
    journal: MemoryFolder,
}

fn key() -> Key {
    Key::new("k").expect("valid")
}

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_time().start_paused(true).build().expect("a runtime")
}

async fn in_time<T, E: Debug>(what: &str, call: impl Future<Output = Result<T, E>>) -> Result<T, String> {
    let ended = timeout(PROMPT, call).await.map_err(|_| format!("{what}: stuck"))?;
    ended.map_err(|error| format!("{what}: {error:?}"))
}

fn text(entry: Option<Entry>) -> Option<String> {
    entry.map(|entry| String::from_utf8_lossy(entry.value()).into_owned())
}

impl Disks {
    fn new() -> Self {
        let lasting = || {
            MemoryStore::new()
                .declaring(|all| all.with_durability(Durability::PowerLoss).without(Feature::Peeks))
        };
        Self { front: lasting(), back: lasting(), journal: MemoryFolder::new() }
    }

    /// Opens the stack over them; the faults of its frontend and of its backend, which rest.
    async fn open(&self, case: Case) -> Result<(TieredStore, [Arc<Faults>; 2]), String> {
        let faults = ["frontend", "backend"].map(|tier| {
            let faults = Faults::new(1);
            let faults = match case.fault {
                Some((of, fault)) if of == tier => faults.with(fault, 1),
                _ => faults,
            };
            faults.heal();
            Arc::new(faults)
        });
        let [front_faults, back_faults] = &faults;
        let tier = |name: &str, disk: &MemoryStore, faults: &Arc<Faults>| {
            let handle = Arc::new(disk.in_another_process());
            Arc::new(FaultStore::new(name, handle, Arc::clone(faults)).remote())
        };
        let mut builder = TieredStore::builder(
            tier("frontend", &self.front, front_faults),
            tier("backend", &self.back, back_faults),
        )
        .write_policy(case.policy)
        .reopen(case.reopen)
        .close_deadline(Duration::from_mins(1));
        if case.policy == WritePolicy::WriteBehind {
            let journal = JournalConfig::new("journal").open_in(self.journal.attach());
            builder = builder.journal(journal.map_err(|error| error.chain())?);
        }
        let store = builder.build().await.map_err(|error| format!("opening: {}", error.chain()))?;
        Ok((store, faults))
    }
}

/// How the call ended, if it did.
type Said = Option<Result<(), Outcome>>;
type Call = Pin<Box<dyn Future<Output = Result<(), Outcome>> + Send>>;

fn begin(store: &TieredStore, operation: Operation) -> Call {
    let store = store.clone();
    Box::pin(async move {
        let ended = match operation {
            Operation::Put => store.put(&key(), Put::new("new")).await.map(drop),
            Operation::Delete => store.delete(&key(), Delete::new()).await.map(drop),
            Operation::Fill => store.get(&key()).await.map(drop),
            Operation::Invalidate => store.invalidate(&key()).await,
        };
        ended.map_err(|error| error.write_outcome())
    })
}

/// Goes on with the call until the moment comes.
async fn until(moment: Moment, call: &mut Call) -> Said {
    match moment {
        Moment::Turns(turns) => {
            for _ in 0..turns {
                if let Some(said) = call.as_mut().now_or_never() {
                    return Some(said);
                }
                tokio::task::yield_now().await;
            }
            None
        }
        Moment::After(duration) => timeout(duration, call.as_mut()).await.ok(),
    }
}

/// The first life, up to its end; what the call said.
async fn first_life(case: Case, disks: &Disks) -> Result<Said, String> {
    disks.back.put(&key(), Put::new("old")).await.map_err(|error| error.chain())?;
    let (store, faults) = disks.open(case).await?;
    if case.operation != Operation::Fill {
        store.get(&key()).await.map_err(|error| error.chain())?;
        in_time("flush", store.flush()).await?;
    }
    for faults in &faults {
        faults.resume();
    }
    let mut call = begin(&store, case.operation);
    let mut said = until(case.moment, &mut call).await;
    match case.ending {
        Ending::Crash => {}
        Ending::Close => {
            for faults in &faults {
                faults.heal();
            }
            let closing = in_time("close", store.close());
            if said.is_none() {
                let (closed, ended) = futures_util::future::join(closing, timeout(REST, call.as_mut())).await;
                closed?;
                said = ended.ok();
            } else {
                closing.await?;
            }
        }
        Ending::CloseHalf => {
            let mut closing = Box::pin(store.close());
            for _ in 0..3 {
                if closing.as_mut().now_or_never().is_some() {
                    break;
                }
                tokio::task::yield_now().await;
            }
            drop((closing, call));
            drop(store);
            sleep(REST).await;
        }
    }
    Ok(said)
}

/// The second life: what was acknowledged is there, and no hit is older than the backend.
async fn second_life(case: Case, disks: &Disks, said: Said) -> Result<(), String> {
    let (store, _) = disks.open(Case { fault: None, ..case }).await?;
    let early = text(in_time("the first read", store.get(&key())).await?);
    in_time("flush", store.flush()).await?;
    // What the first life may have under way lands here, if it lands at all.
    sleep(REST).await;
    in_time("flush", store.flush()).await?;
    let back = text(disks.back.snapshot().remove(&key()));
    let new = match case.operation {
        Operation::Put => Some("new".to_owned()),
        Operation::Delete => None,
        Operation::Fill | Operation::Invalidate => Some("old".to_owned()),
    };
    let old = Some("old".to_owned());
    let allowed = match said {
        Some(Ok(())) => vec![new],
        Some(Err(Outcome::NotApplied)) => vec![old],
        Some(Err(_)) | None => vec![new, old],
    };
    if !allowed.contains(&back) || !allowed.contains(&early) {
        return Err(format!("{said:?}, then read {early:?}, and the backend has {back:?}"));
    }
    for _ in 0..2 {
        let hit = text(in_time("a read", store.get(&key())).await?);
        let fresh = store.load(&key(), &ReadOptions::new().authoritative()).await;
        let fresh = text(fresh.map_err(|error| error.chain())?.into_entry());
        if hit != back || fresh != back {
            return Err(format!("read {hit:?}, from the authority {fresh:?}, and the backend has {back:?}"));
        }
        in_time("flush", store.flush()).await?;
    }
    in_time("close", store.close()).await
}

fn run(case: Case) -> Result<(), String> {
    let disks = Disks::new();
    let first = runtime();
    let said = first.block_on(first_life(case, &disks))?;
    if case.ending == Ending::Close {
        // In the same process: what it left under way goes on.
        return first.block_on(second_life(case, &disks, said));
    }
    drop(first);
    runtime().block_on(second_life(case, &disks, said))
}

fn exhaust(policy: WritePolicy) {
    let millis = |millis| Moment::After(Duration::from_millis(millis));
    let mut moments: Vec<Moment> = [0, 1, 2, 3, 5, 8].map(Moment::Turns).to_vec();
    moments.extend([5, 1_000].map(millis));
    let faults =
        [Fault::ErrorBefore, Fault::ErrorAfter, Fault::ErrorApplied, Fault::DelayedApply, Fault::Hang];
    let of = |tier| faults.map(move |fault| Some((tier, fault)));
    let (mut cases, mut broken) = (0, Vec::new());
    for reopen in [Reopen::Revalidate, Reopen::Trust, Reopen::Clear] {
        for fault in [None].into_iter().chain(of("frontend")).chain(of("backend")) {
            for operation in [Operation::Put, Operation::Delete, Operation::Fill, Operation::Invalidate] {
                for ending in [Ending::Close, Ending::CloseHalf, Ending::Crash] {
                    for moment in &moments {
                        let case = Case { policy, reopen, fault, operation, moment: *moment, ending };
                        cases += 1;
                        if let Err(why) = run(case) {
                            broken.push(format!("{case:?}: {why}"));
                        }
                    }
                }
            }
        }
    }
    println!("{policy}: {cases} cases");
    assert!(broken.is_empty(), "{} of {cases} cases:\n{}", broken.len(), broken.join("\n"));
}

#[test]
fn under_write_through_a_reopened_store_has_every_acknowledged_write() {
    exhaust(WritePolicy::WriteThrough);
}

#[test]
fn under_write_around_a_reopened_store_has_every_acknowledged_write() {
    exhaust(WritePolicy::WriteAround);
}

#[test]
fn under_write_behind_a_reopened_store_has_every_acknowledged_write() {
    exhaust(WritePolicy::WriteBehind);
}
