//! An epoch: work, its end, and what must then be so.

use std::sync::atomic::Ordering;
use std::time::Duration;

use tiered_conformance::Dice;
use tiered_core::adapter::{Clock as _, Origin, Tombstones};
use tiered_core::{
    Action, Batch, Delete, Entry, ErrorKind, Expiry, Key, Outcome, Parked, Put, Read, ReadOptions, Store,
    StoreExt as _, Timestamp, WritePolicy,
};

use crate::alone;
use crate::client::{self, Clients, TTL, within};
use crate::config::{Ending, Front};
use crate::world::{Life, World};

/// Longer than any back-off, and any patience with a frontend.
const RECOVERY: Duration = Duration::from_mins(2);

/// What a stack without faults needs at most, in virtual time.
pub(crate) const PROMPT: Duration = Duration::from_mins(10);

/// Longer than the clients of an epoch work, in virtual time: a call that never ends is noticed.
const ENDURANCE: Duration = Duration::from_hours(10);

/// Ten years, in milliseconds.
const DECADE: i64 = 10 * 365 * 24 * 3_600_000;

type Checked<T> = Result<T, String>;

/// Works until the epoch's operations are done, or until the power goes.
pub(crate) async fn work(clients: &Clients, life: &Life, ending: Ending) {
    let working = async {
        tokio::select! {
            biased;
            worked = within(ENDURANCE, "the clients' work", client::work(clients, &life.store)) => {
                if let Err(why) = worked {
                    clients.fault(0, &why);
                }
            }
            () = retry_parked(clients, life) => {}
        }
    };
    if ending != Ending::Crash {
        return working.await;
    }
    let crash = tokio::time::sleep(Duration::from_millis(clients.below(600)));
    tokio::select! {
        biased;
        () = crash => clients.trace.note("the power is cut"),
        () = working => {}
    }
    for faults in &life.faults {
        faults.cut_power();
    }
}

/// The person who looks after what the backend refused, now and then.
async fn retry_parked(clients: &Clients, life: &Life) {
    loop {
        tokio::time::sleep(clients.config.leisure).await;
        for parked in life.store.parked() {
            if parked.reason.to_string().contains(&ErrorKind::Unavailable.to_string()) {
                clients.fault(0, &format!("an outage parked a write: {}", parked.reason));
            }
        }
        // All of it, or one in two, while the others stay.
        let in_part = clients.below(2) == 0;
        for parked in life.store.parked() {
            if !in_part || clients.below(2) == 0 {
                // A write that is no longer parked was superseded.
                life.store.retry_parked(parked.sequence()).ok();
            }
        }
    }
}

fn retry_all(life: &Life) {
    for parked in life.store.parked() {
        // A write that is no longer parked was superseded.
        life.store.retry_parked(parked.sequence()).ok();
    }
}

/// Ends the epoch in the way that was chosen; the life that goes on.
pub(crate) async fn end(
    world: &mut World,
    clients: &Clients,
    life: Life,
    ending: Ending,
    dice: &mut Dice,
) -> Checked<Life> {
    if let Some(wrong) = clients.wrong() {
        return Err(wrong);
    }
    let life = match ending {
        Ending::Crash => {
            let life = restart_after_crash(world, clients, life, dice).await?;
            drain(&life).await?;
            life
        }
        Ending::Usurp => return usurp(world, clients, life).await,
        Ending::Rest | Ending::Reopen => {
            world.heal_journal();
            rest(clients, &life).await?;
            if life.journal_failed.load(Ordering::Relaxed) {
                // It accepts nothing until it is opened again, and what its last append did shows only then.
                let life = reopen(world, clients, life).await?;
                drain(&life).await?;
                life
            } else {
                life
            }
        }
    };
    // What is certainly in the backend now is where the next epoch begins.
    for (key, name) in clients.keys.iter().enumerate() {
        let entry = certain(world, &life, name).await?;
        clients.settle(key, entry.as_ref()).map_err(|why| format!("{name}: {why}"))?;
    }
    agree(world, clients, &life, ending).await?;
    let life = if ending == Ending::Reopen { reopen(world, clients, life).await? } else { life };
    if world.config.jumping && dice.below(2) == 0 {
        jump(world, clients, &life, ending, dice).await?;
    }
    for faults in &life.faults {
        faults.resume();
    }
    Ok(life)
}

async fn reopen(world: &mut World, clients: &Clients, life: Life) -> Checked<Life> {
    clients.trace.note("the store is closed and opened again");
    world.heal_journal();
    let closed = within(PROMPT, "closing", life.store.close()).await?;
    closed.map_err(|error| format!("closing: {}", error.chain()))?;
    drop(life);
    open(world, clients).await
}

/// Opens the stack, as often as it takes where the tiers fail meanwhile.
pub(crate) async fn open(world: &mut World, clients: &Clients) -> Checked<Life> {
    open_as(world, clients, false).await
}

async fn open_as(world: &mut World, clients: &Clients, usurps: bool) -> Checked<Life> {
    /// More often than faults follow each other by chance.
    const ATTEMPTS: u32 = 200;
    let mut last = String::new();
    for _ in 0..ATTEMPTS {
        match within(PROMPT, "opening", world.open(usurps)).await? {
            Ok(life) => {
                clients.begin_life();
                return Ok(life);
            }
            Err(error) if world.config.opening_fails => last = error.chain(),
            Err(error) => return Err(format!("opening: {}", error.chain())),
        }
        // A tier that hangs is waited for before it is opened again.
        tokio::time::sleep(world.config.request_lifetime + world.config.hang).await;
    }
    Err(format!("opening failed {ATTEMPTS} times: {last}"))
}

/// I13: once faults stop, all that is pending arrives within bounded time. I10: idle keys hold no state.
async fn rest(clients: &Clients, life: &Life) -> Checked<()> {
    clients.trace.note("the faults end");
    for faults in &life.faults {
        faults.heal();
    }
    tokio::time::sleep(RECOVERY).await;
    drain(life).await?;
    let stats = life.store.stats();
    if (stats.slots, stats.backlog, stats.quarantined) != (0, 0, 0) {
        return Err(format!("at rest there is {stats:?}"));
    }
    {
        let mut told = life.told.lock();
        let (told, events) = &mut *told;
        told.listen(events);
        clients.compare(told, &stats)?;
    }
    if life.journal_failed.load(Ordering::Relaxed) {
        return Ok(());
    }
    all_room_is_free(life).await
}

/// I9: no call that was dropped has kept room for a pending write.
async fn all_room_is_free(life: &Life) -> Checked<()> {
    let settings = life.store.settings();
    if settings.write_policy != WritePolicy::WriteBehind || settings.max_pending_operations > 16 {
        return Ok(());
    }
    let room = settings.max_pending_operations;
    let keys: Vec<Key> = (0..room).filter_map(|number| Key::new(format!("room-{number}")).ok()).collect();
    let all =
        keys.iter().fold(Batch::new().best_effort(), |batch, key| batch.delete(key.clone(), Delete::new()));
    let applied = within(PROMPT, "a batch that takes all the room", life.store.apply(all)).await?;
    if let Err(error) = applied.as_ref()
        && error.kind() == ErrorKind::Full
    {
        return Err(format!("at rest there is no room for {room} writes: {}", error.chain()));
    }
    // The call may have ended before the journal had it.
    tokio::time::sleep(Duration::from_secs(1)).await;
    drain(life).await
}

/// Lets what is journaled reach the backend.
pub(crate) async fn drain(life: &Life) -> Checked<()> {
    // Without faults nothing is refused a second time; where the flush halts, another one may come to light.
    while !life.store.parked().is_empty() {
        retry_all(life);
        within(PROMPT, "flushing", life.store.flush()).await?.ok();
    }
    let flushed = within(PROMPT, "flushing", life.store.flush()).await?;
    flushed.map_err(|error| format!("flushing: {}", error.chain()))
}

async fn restart_after_crash(
    world: &mut World,
    clients: &Clients,
    life: Life,
    dice: &mut Dice,
) -> Checked<Life> {
    drop(life);
    world.crash(dice);
    // Without a lease the next process begins when no request of the last is under way any more: one that arrived later
    // would be taken for a new write.
    if world.outlives_processes() {
        tokio::time::sleep(world.config.request_lifetime + world.config.hang).await;
    }
    if world.config.jumping && !world.config.expiring && dice.below(2) == 0 {
        // A clock that was set back while the process was down; what has expired would live again.
        world.clock.jump(-DECADE);
    }
    if world.has_journal() && dice.below(3) == 0 {
        return alone::restart(world, clients, dice).await;
    }
    open(world, clients).await
}

/// I11: another process takes the lease over while the owner goes on. Nothing of the owner takes effect any more; what it
/// had acknowledged is in the backend, or parked.
async fn usurp(world: &mut World, clients: &Clients, owner: Life) -> Checked<Life> {
    clients.trace.note("another process takes the lease over");
    world.heal_journal();
    world.change_journal();
    let life = open_as(world, clients, true).await?;
    let mut taken_over = Vec::new();
    for name in &clients.keys {
        taken_over.push(raw(&*life.back, name).await?);
    }
    for faults in &owner.faults {
        faults.heal();
    }
    tokio::time::sleep(RECOVERY).await;
    retry_all(&owner);
    within(PROMPT, "flushing", owner.store.flush()).await?.ok();
    if !owner.journal_failed.load(Ordering::Relaxed) {
        // One that had nothing to flush learns of it with its next write.
        let late = Key::new("late").map_err(|error| error.chain())?;
        let put = within(PROMPT, "a late write", owner.store.put(&late, Put::new("late"))).await?;
        // The call may have ended before the journal had it; where the journal takes nothing, nothing is noticed.
        let journaled = !put.is_err_and(|error| error.write_outcome() == Outcome::NotApplied);
        tokio::time::sleep(Duration::from_secs(1)).await;
        let flushed = within(PROMPT, "flushing after the lease was lost", owner.store.flush()).await?;
        let answer = owner.store.get(&late).await;
        if journaled && (flushed.is_ok() || answer.is_ok()) {
            return Err(format!("an owner without its lease says {flushed:?} and answers {answer:?}"));
        }
    }
    let parked = owner.store.parked();
    for ((index, name), taken_over) in clients.keys.iter().enumerate().zip(taken_over) {
        if raw(&*life.back, name).await? != taken_over {
            return Err(format!("{name}: the owner of before wrote after its lease was taken over"));
        }
        settle_parked(clients, index, &parked, taken_over.as_ref(), world.clock.now())?;
        clients.now_has(index, taken_over.as_ref())?;
    }
    within(PROMPT, "closing after the lease was lost", owner.store.close()).await?.ok();
    for faults in &life.faults {
        faults.resume();
    }
    Ok(life)
}

/// What was acknowledged for a key is the last that is parked for it, else what the backend has.
pub(crate) fn settle_parked(
    clients: &Clients,
    index: usize,
    parked: &[Parked],
    in_backend: Option<&Entry>,
    now: Timestamp,
) -> Checked<()> {
    let Some(name) = clients.keys.get(index) else { return Ok(()) };
    let last = parked.iter().flat_map(|unit| &unit.records).rfind(|(_, record)| record.key == *name);
    let settled = match last.map(|(_, record)| &record.action) {
        None => clients.settle(index, in_backend),
        Some(Action::Put(put)) if !matches!(put.expiry, Expiry::At(at) if now >= at) => {
            clients.settle_kept(index, &put.value)
        }
        Some(Action::Put(_) | Action::Delete(_)) => clients.settle(index, None),
    };
    settled.map_err(|why| format!("{name}: {why}"))
}

pub(crate) async fn raw(store: &dyn Store, key: &Key) -> Checked<Option<Entry>> {
    let read = store.load(key, &ReadOptions::new()).await;
    read.map(Read::into_entry).map_err(|error| format!("{key}: reading a tier: {}", error.chain()))
}

/// What a key has: in the backend, or, in a local cache, as far as the store shows it.
async fn certain(world: &World, life: &Life, key: &Key) -> Checked<Option<Entry>> {
    if world.config.is_local() { raw(&life.store, key).await } else { raw(&*life.back, key).await }
}

/// I4: what the frontend has is what the backend has, and what the store answers is as well, metadata and all.
async fn agree(world: &World, clients: &Clients, life: &Life, ending: Ending) -> Checked<()> {
    for name in &clients.keys {
        let back = certain(world, life, name).await?;
        let front = raw(&*life.front, name).await?;
        // After another life the entries of a lasting frontend are in doubt until they are used.
        // So they are where a frontend in trouble began a new session.
        let one_session = life.store.settings().max_quarantined > 1;
        let certain = life.began_empty && one_session && ending != Ending::Crash && !world.config.is_local();
        if certain && front.is_some() && front != back {
            return Err(format!("{name}: at rest the frontend has {front:?}, the backend {back:?}"));
        }
        if certain {
            stub_agrees(life, name, back.as_ref()).await?;
        }
        let answer =
            life.store.get(name).await.map_err(|error| format!("{name}: at rest: {}", error.chain()))?;
        if answer != back {
            return Err(format!("{name}: at rest the store answers {answer:?}, the backend has {back:?}"));
        }
        if world.config.is_local() {
            continue;
        }
        // That read has compared it, whatever it was before.
        life.store.flush().await.map_err(|error| format!("at rest: {}", error.chain()))?;
        let front = raw(&*life.front, name).await?;
        if front.is_some() && front != back {
            return Err(format!("{name}: after a read the frontend has {front:?}, the backend {back:?}"));
        }
    }
    if world.is_touched() {
        return Err("a local cache has changed its backend".to_owned());
    }
    Ok(())
}

/// I14: a stub in the frontend is of the version that the backend has.
async fn stub_agrees(life: &Life, key: &Key, back: Option<&Entry>) -> Checked<()> {
    let options = ReadOptions::new().tombstones(Tombstones::Show);
    let read = life.front.load(key, &options).await;
    let held = read.map_err(|error| format!("{key}: reading the frontend: {}", error.chain()))?.into_entry();
    let stub = held.filter(|held| held.metadata().note.origin == Origin::Part);
    match stub {
        Some(stub) if back.map(Entry::version) != Some(stub.version()) => {
            Err(format!("{key}: at rest the frontend has the stub {stub:?}, the backend {back:?}"))
        }
        Some(_) | None => Ok(()),
    }
}

/// Hundreds of entries that are about to expire, between two of the clients' keys: more than any page of a listing.
async fn expire_together(life: &Life) -> Checked<()> {
    const MANY: usize = 300;
    for number in 0..MANY {
        let key = Key::new(format!("key-0.{number:03}")).map_err(|error| error.chain())?;
        let put = life.back.put(&key, Put::new("about to expire").expires_in(TTL)).await;
        put.map_err(|error| format!("an entry that is about to expire: {}", error.chain()))?;
    }
    Ok(())
}

/// I12: a moved clock expires what expires, and changes nothing else.
async fn jump(world: &World, clients: &Clients, life: &Life, ending: Ending, dice: &mut Dice) -> Checked<()> {
    // Forward within a process; backward only where a new one has just begun, and nothing that has expired can live
    // again.
    let ttl = i64::try_from(TTL.as_millis()).unwrap_or(i64::MAX);
    let backward = !world.config.expiring
        && ending == Ending::Reopen
        && world.config.front != Front::Redb
        && dice.below(2) == 0;
    let by = if backward {
        -DECADE
    } else {
        [1000, ttl / 2, DECADE].get(usize::try_from(dice.below(3)).unwrap_or(0)).copied().unwrap_or(DECADE)
    };
    let mut before = Vec::new();
    for name in &clients.keys {
        before.push(certain(world, life, name).await?);
    }
    if world.config.expiring && by > ttl && !world.config.is_local() {
        expire_together(life).await?;
    }
    world.clock.jump(by);
    clients.trace.note(&format!("the clock jumps by {by} ms"));
    let now = world.clock.now();
    for (key, (name, before)) in clients.keys.iter().zip(before).enumerate() {
        let had = before.is_some();
        let mut expected = before.filter(|entry| entry.metadata().is_live(now));
        if had && expected.is_none() && world.config.is_local() {
            // What was local hid it.
            expected = raw(&*life.back, name).await?;
        }
        let answer = life.store.get(name).await.map_err(|error| format!("{name}: {}", error.chain()))?;
        if answer != expected {
            return Err(format!(
                "{name}: after the clock moved by {by} ms: {answer:?} instead of {expected:?}"
            ));
        }
        clients.now_has(key, expected.as_ref())?;
    }
    Ok(())
}
