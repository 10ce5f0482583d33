//! What a seed chooses: each draws its own mix, since a bug that one mix hides another shows.

use std::time::Duration;

use crate::careless::Careless;
use tiered_conformance::{Dice, Fault};
use tiered_core::settings::{
    BreakerSettings, FrontendFailure, MaxStale, OnFull, OnPark, OnUnknown, Reopen, ServeStale,
};
use tiered_core::{TieredSettings, WritePolicy};

/// What to simulate.
#[derive(Clone, Copy, Debug)]
pub struct Sim {
    /// Every choice follows from it.
    pub seed: u64,
    /// Operations of all clients together.
    pub operations: u64,
    /// A deliberate bug of the journal.
    pub careless: Option<Careless>,
    /// Prints every call.
    pub show: bool,
}

/// How an epoch ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// The faults end and the stack comes to rest.
    Rest,
    /// At rest, the stack is closed and opened again.
    Reopen,
    /// The power is cut while clients work, and the stack is opened again over what the disks kept.
    Crash,
    /// Another process takes the lease over, while the owner knows nothing of it.
    Usurp,
}

/// The frontend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Front {
    /// Memory that answers at once.
    Peeking,
    /// Memory that has to be asked.
    Asked,
    /// redb on a simulated disk: it outlives the process.
    Redb,
}

/// The backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Back {
    /// A server with atomic batches.
    Atomic,
    /// A server without.
    OneByOne,
    /// redb on a simulated disk.
    Redb,
}

/// The journal of write-behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Journaling {
    /// In memory: gone with the process.
    Volatile,
    /// On a simulated disk.
    Durable {
        /// One call of the disk in so many fails; 0: none.
        rarity: u64,
    },
}

/// A seed's choices.
#[expect(clippy::struct_excessive_bools, reason = "choices that have nothing to do with each other")]
#[derive(Clone, Debug)]
pub(crate) struct Config {
    pub(crate) front: Front,
    /// What a frontend on a disk may hold, in bytes.
    pub(crate) front_capacity: Option<u64>,
    /// A second memory tier between frontend and backend.
    pub(crate) middle: bool,
    pub(crate) back: Back,
    pub(crate) settings: TieredSettings,
    /// Whether values are large and read by ranges, of which the frontend keeps blocks.
    pub(crate) blocks: bool,
    pub(crate) journaling: Journaling,
    /// Whether write-behind owns its backend by a lease.
    pub(crate) leased: bool,
    pub(crate) keys: u64,
    pub(crate) clients: u64,
    /// Operations of an epoch.
    pub(crate) epoch: u64,
    /// How long a client waits at most before its next operation, in milliseconds.
    pub(crate) think: u64,
    /// How long the person who looks after parked writes does something else.
    pub(crate) leisure: Duration,
    /// One call in so many is dropped half-way; 0: none.
    pub(crate) cancel: u64,
    /// Whether entries expire, by jumps of the clock between epochs.
    pub(crate) expiring: bool,
    /// Whether the tiers fail while the stack is opened as well.
    pub(crate) opening_fails: bool,
    /// Whether clocks jump by years.
    pub(crate) jumping: bool,
    /// One call in so many, for each fault, of frontends and of the backend.
    pub(crate) front_faults: Vec<(Fault, u64)>,
    pub(crate) back_faults: Vec<(Fault, u64)>,
    pub(crate) request_lifetime: Duration,
    pub(crate) hang: Duration,
}

fn one_of<T: Copy>(dice: &mut Dice, first: T, others: &[T]) -> T {
    let index = usize::try_from(dice.below(1 + others.len() as u64)).unwrap_or(0);
    index.checked_sub(1).and_then(|index| others.get(index)).copied().unwrap_or(first)
}

fn faults(dice: &mut Dice, possible: &[Fault], most: u64) -> Vec<(Fault, u64)> {
    // Faults make outcomes open, and open outcomes excuse much: some seeds have none but slowness.
    let calm = dice.below(4) == 0;
    let mut chosen = Vec::new();
    for fault in possible {
        let (wanted, rarity) = (dice.below(2) == 0, most / 4 + dice.below(most));
        if *fault == Fault::Slow || (wanted && !calm) {
            chosen.push((*fault, if *fault == Fault::Slow { 4 } else { rarity }));
        }
    }
    chosen
}

impl Config {
    pub(crate) fn draw(dice: &mut Dice) -> Self {
        let front = one_of(dice, Front::Peeking, &[Front::Peeking, Front::Asked, Front::Asked, Front::Redb]);
        let back = one_of(
            dice,
            Back::Atomic,
            &[Back::Atomic, Back::OneByOne, Back::OneByOne, Back::OneByOne, Back::Redb],
        );
        let mut settings = draw_settings(dice);
        let blocks = draw_blocks(&mut dice.clone(), &mut settings);
        // Preloaded, and never written: a server is enough.
        let back = if settings.write_policy == WritePolicy::FrontendOnly { Back::OneByOne } else { back };
        let durable = |rarity| Journaling::Durable { rarity };
        let journaling =
            one_of(dice, Journaling::Volatile, &[durable(0), durable(50), durable(100), durable(200)]);
        let leased =
            settings.write_policy == WritePolicy::WriteBehind && back != Back::OneByOne && dice.below(2) == 0;
        let keys = 1 + dice.below(6);
        let both = [
            Fault::Slow,
            Fault::ErrorBefore,
            Fault::ErrorAfter,
            Fault::ErrorApplied,
            Fault::DelayedApply,
            Fault::Duplicate,
        ];
        let rare = [Fault::Hang, Fault::Corrupt, Fault::SlowList];
        // What a local cache loses is lost: it has nothing behind it.
        let evicts: &[Fault] =
            if settings.write_policy == WritePolicy::FrontendOnly { &[] } else { &[Fault::Evict] };
        let front_faults = faults(dice, &[both.as_slice(), &rare, evicts].concat(), 60);
        let mut back_faults = faults(dice, &[both.as_slice(), &rare, &[Fault::Refuse]].concat(), 60);
        // Where much is refused, several writes of one key are parked at a time, and some of them once more.
        let picky = settings.write_policy == WritePolicy::WriteBehind && dice.below(4) == 0;
        if picky {
            back_faults.retain(|(fault, _)| *fault != Fault::Refuse);
            back_faults.push((Fault::Refuse, 3));
        }
        // Not drawn, so that a seed chooses the rest as it did before. A few small entries, or one or two larger ones; what a
        // local cache loses is lost.
        let bounded = front == Front::Redb
            && settings.write_policy != WritePolicy::FrontendOnly
            && !keys.is_multiple_of(3);
        let few = keys % 3 == 1 && !blocks;
        let front_capacity = bounded.then_some(if few { 700 } else { 13_000 });
        Self {
            front,
            front_capacity,
            middle: dice.below(6) == 0,
            back,
            settings,
            blocks,
            journaling,
            leased,
            keys,
            clients: 2 + dice.below(7),
            epoch: 40 + dice.below(30 * keys),
            think: 1 + dice.below(12),
            leisure: Duration::from_millis(if picky { 20 + dice.below(800) } else { 70 }),
            cancel: one_of(dice, 0, &[5, 15]),
            expiring: dice.below(4) == 0,
            opening_fails: dice.below(3) == 0,
            jumping: dice.below(3) == 0,
            front_faults,
            back_faults,
            request_lifetime: Duration::from_millis(50 + dice.below(400)),
            hang: Duration::from_millis(100 + dice.below(5_000)),
        }
    }

    /// Whether the stack is a local cache of a backend that is never written.
    pub(crate) fn is_local(&self) -> bool {
        self.settings.write_policy == WritePolicy::FrontendOnly
    }

    /// A volatile journal is lost with the process, as it says, and so is a local cache in memory.
    fn survives_crashes(&self) -> bool {
        match self.settings.write_policy {
            WritePolicy::WriteThrough | WritePolicy::WriteAround => true,
            WritePolicy::WriteBehind => self.journaling != Journaling::Volatile,
            _ => self.front == Front::Redb,
        }
    }

    /// How the next epoch ends.
    pub(crate) fn ending(&self, dice: &mut Dice) -> Ending {
        match dice.below(6) {
            0 if !self.is_local() || self.front == Front::Redb => Ending::Reopen,
            1 if self.survives_crashes() => Ending::Crash,
            // A standby has a frontend of its own, and the same server.
            2 if self.leased && self.back == Back::Atomic && self.front != Front::Redb => Ending::Usurp,
            _ => Ending::Rest,
        }
    }
}

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// Whether the frontend keeps blocks, and how. By dice of their own: what else a seed draws does not depend on it.
fn draw_blocks(dice: &mut Dice, settings: &mut TieredSettings) -> bool {
    if settings.write_policy == WritePolicy::FrontendOnly || dice.below(3) > 0 {
        settings.block_size = None;
        return false;
    }
    settings.block_size = one_of(dice, Some(1 << 10), &[Some(2_000)]);
    settings.fill_whole = one_of(dice, 0, &[0, 2_000]);
    // What is written is not in the frontend as a whole either, but for some seeds.
    settings.max_fill = one_of(dice, Some(1_000), &[Some(1_000), None]);
    true
}

fn draw_settings(dice: &mut Dice) -> TieredSettings {
    let policies = [
        WritePolicy::WriteAround,
        WritePolicy::WriteBehind,
        WritePolicy::WriteBehind,
        WritePolicy::FrontendOnly,
    ];
    let write_policy = one_of(dice, WritePolicy::WriteThrough, &policies);
    let drives = dice.below(2) == 0;
    let breaker = BreakerSettings::new(3, ms(50));
    let frontend_breaker = one_of(dice, None, &[None, None, Some(breaker)]);
    let mut settings = TieredSettings::default();
    settings.write_policy = write_policy;
    settings.reopen = one_of(dice, Reopen::Revalidate, &[Reopen::Trust, Reopen::Clear]);
    settings.max_stale = one_of(dice, MaxStale::Auto, &[MaxStale::AtMost(ms(25))]);
    settings.max_quarantined = one_of(dice, 1024, &[1024, 0, 1]);
    settings.max_pending_operations = one_of(dice, 10_000, &[10_000, 1, 4]);
    // Some values are larger than all that may be pending.
    settings.max_pending_bytes = one_of(dice, 64 << 20, &[64 << 20, 1 << 10, 64 << 10]);
    settings.on_full = one_of(dice, OnFull::Block, &[OnFull::Fail]);
    settings.on_park = one_of(dice, OnPark::Auto, &[OnPark::Halt, OnPark::Skip]);
    settings.on_unknown = match write_policy {
        WritePolicy::WriteThrough | WritePolicy::WriteAround if drives => OnUnknown::Retry,
        _ => OnUnknown::Report,
    };
    settings.write_deadline = one_of(dice, None, &[None, None, Some(ms(40))]);
    settings.frontend_patience = one_of(dice, ms(2_000), &[ms(30)]);
    settings.negative_ttl = one_of(dice, None, &[Some(ms(20)), Some(ms(60_000))]);
    let stale = [ServeStale::Unlimited, ServeStale::AtMost(ms(300))];
    settings.serve_stale = one_of(dice, ServeStale::Never, &stale);
    settings.soft_read_timeout = one_of(dice, None, &[Some(ms(15))]);
    settings.read_timeout = one_of(dice, None, &[None, Some(ms(60))]);
    settings.backend_breaker = one_of(dice, None, &[None, None, Some(breaker)]);
    let failures = [FrontendFailure::Skip, FrontendFailure::Skip, FrontendFailure::Fail];
    settings.frontend_failure = one_of(dice, FrontendFailure::Skip, &failures);
    settings.frontend_breaker = frontend_breaker.filter(|_| write_policy != WritePolicy::FrontendOnly);
    settings
}
