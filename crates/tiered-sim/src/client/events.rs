//! What a store tells about itself must have happened: its events and counts against what the clients were answered.

use std::collections::{HashMap, HashSet};

use futures_util::FutureExt as _;
use tiered_core::{Event, Events, Stats, Version};

use super::Clients;
use crate::history::{Effect, Value};

/// Versions that clients name, so that an event tells whose it is: this, and the value's number.
const NAMED: u128 = 0x51 << 120;

/// How puts ended, by their values.
#[derive(Debug, Default)]
pub(super) struct Answers {
    acknowledged: HashSet<Value>,
    refused: HashSet<Value>,
}

/// The events of one life.
#[derive(Debug, Default)]
pub(crate) struct Told {
    written: HashMap<Version, u64>,
    deleted: u64,
    filled: u64,
    invalidated: u64,
    flushed: u64,
    missed: bool,
}

/// The version of the put with this value.
pub(crate) fn version_of(value: Value) -> Version {
    Version::from_u128(NAMED | u128::from(value))
}

/// The value of the put that named this version.
pub(super) fn value_of(version: &Version) -> Option<Value> {
    version.as_u128()?.checked_sub(NAMED).and_then(|value| Value::try_from(value).ok())
}

fn written_by(effect: Effect) -> Option<Value> {
    match effect {
        Effect::Write(value) | Effect::Swap(_, value) => Some(value).filter(|value| *value != 0),
        _ => None,
    }
}

impl Told {
    /// Takes in what was told so far.
    pub(crate) fn listen(&mut self, events: &mut Events) {
        // Without a budget, that would end it early.
        while let Some(Some(event)) = tokio::task::unconstrained(events.next()).now_or_never() {
            match event {
                Event::Written { version, .. } => *self.written.entry(version).or_default() += 1,
                Event::Deleted { .. } => self.deleted += 1,
                Event::Filled { .. } => self.filled += 1,
                Event::Invalidated { .. } => self.invalidated += 1,
                Event::Flushed { .. } => self.flushed += 1,
                Event::Missed(_) => self.missed = true,
                _ => {}
            }
        }
    }
}

impl Clients {
    /// Notes that a write was acknowledged.
    pub(super) fn acknowledged(&self, effect: Effect) {
        if let Some(value) = written_by(effect) {
            self.answers.lock().acknowledged.insert(value);
        }
    }

    /// Notes that a write ended as not applied.
    pub(super) fn refused(&self, effect: Effect) {
        if let Some(value) = written_by(effect) {
            self.answers.lock().refused.insert(value);
        }
    }

    /// A store that begins tells nothing of what was before.
    pub(crate) fn begin_life(&self) {
        *self.answers.lock() = Answers::default();
    }

    /// Compares at rest.
    pub(crate) fn compare(&self, told: &Told, stats: &Stats) -> Result<(), String> {
        if told.missed {
            return Ok(());
        }
        let answers = self.answers.lock();
        for (version, times) in &told.written {
            let Some(value) = value_of(version) else { continue };
            if *times > 1 {
                return Err(format!("value {value} was told as written {times} times"));
            }
            if answers.refused.contains(&value) {
                return Err(format!("value {value} was told as written, and its write was refused"));
            }
        }
        if let Some(value) =
            answers.acknowledged.iter().find(|value| !told.written.contains_key(&version_of(**value)))
        {
            return Err(format!("value {value} was acknowledged, and not told as written"));
        }
        let written = told.written.values().sum::<u64>();
        let counts = [
            ("puts", stats.puts, written),
            ("deletes", stats.deletes, told.deleted),
            ("fills", stats.fills, told.filled),
            ("invalidations", stats.invalidations, told.invalidated),
            ("flushed", stats.flushed, told.flushed),
        ];
        match counts.iter().find(|(_, counted, told)| counted != told) {
            Some((what, counted, told)) => Err(format!("{counted} {what} are counted, {told} were told")),
            None => Ok(()),
        }
    }
}
