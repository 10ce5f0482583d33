//! What clients saw: for each key the operations, when they began and ended, and what they did.

use tiered_core::Existed;

/// A value, by its number; 0 stands for an absent key.
pub type Value = u64;

/// What an operation did to a key, or saw of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// It saw this.
    Read(Value),
    /// It saw some value.
    Present,
    /// It saw another value than this, or none.
    Unlike(Value),
    /// It wrote this.
    Write(Value),
    /// It replaced the first by the second: a put or a delete under a precondition.
    Swap(Value, Value),
    /// It deleted, and told whether there was anything.
    Delete(bool),
    /// It deleted; whether an entry existed is unknown.
    Erase,
}

impl Effect {
    /// A delete that answered this.
    pub fn deleted(existed: Existed) -> Self {
        existed.known().map_or(Self::Erase, Self::Delete)
    }

    /// The state after it, if it is possible in `state`.
    pub fn apply(self, state: Value) -> Option<Value> {
        match self {
            Self::Read(seen) => (seen == state).then_some(state),
            Self::Present => (state != 0).then_some(state),
            Self::Unlike(other) => (other != state).then_some(state),
            Self::Write(value) => Some(value),
            Self::Swap(from, to) => (from == state).then_some(to),
            Self::Delete(existed) => (existed == (state != 0)).then_some(0),
            Self::Erase => Some(0),
        }
    }

    /// Whether it changes nothing.
    pub fn is_read(self) -> bool {
        matches!(self, Self::Read(_) | Self::Present | Self::Unlike(_))
    }
}

/// An operation on one key.
#[derive(Clone, Copy, Debug)]
pub struct Event {
    /// When it began. All times differ.
    pub begun: u64,
    /// When it ended; [`Event::OPEN`] where that is not known: it may take effect at any time or never.
    pub ended: u64,
    /// What it did.
    pub effect: Effect,
}

impl Event {
    /// The end of an operation of unknown outcome.
    pub const OPEN: u64 = u64::MAX;

    /// Whether it may never have happened.
    pub fn is_open(&self) -> bool {
        self.ended == Self::OPEN
    }
}

/// A history of one key since its state was last known.
#[derive(Clone, Debug, Default)]
pub struct History {
    /// The state at its beginning.
    pub initial: Value,
    events: Vec<Option<Event>>,
}

impl History {
    /// Notes that an operation began; where nothing more is heard of it, its outcome is unknown.
    pub fn begin(&mut self, begun: u64, effect: Effect) -> usize {
        self.events.push(Some(Event { begun, ended: Event::OPEN, effect }));
        self.events.len() - 1
    }

    /// Notes how it ended.
    pub fn end(&mut self, event: usize, ended: u64, effect: Effect) {
        if let Some(Some(event)) = self.events.get_mut(event) {
            (event.ended, event.effect) = (ended, effect);
        }
    }

    /// Notes that it did nothing, ever.
    pub fn forget(&mut self, event: usize) {
        if let Some(event) = self.events.get_mut(event) {
            *event = None;
        }
    }

    /// Operations whose outcome is unknown, or which are under way.
    pub fn open(&self) -> usize {
        self.events.iter().flatten().filter(|event| event.is_open() && !event.effect.is_read()).count()
    }

    /// How many operations there are.
    pub fn len(&self) -> usize {
        self.events.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.events.is_empty()
    }

    /// The known part: reads without an answer say nothing.
    pub fn known(&self) -> Vec<Event> {
        self.events
            .iter()
            .flatten()
            .filter(|event| !(event.is_open() && event.effect.is_read()))
            .copied()
            .collect()
    }

    /// Begins again with a known state.
    pub fn restart(&mut self, state: Value) {
        *self = Self { initial: state, events: Vec::new() };
    }
}
