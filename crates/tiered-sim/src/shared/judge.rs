//! What a read of a shared backend's stack may show.

use std::collections::HashMap;
use std::time::Duration;

use parking_lot::Mutex;
use tiered_core::{Key, Outcome, Version};
use tokio::time::Instant;

use crate::server::{Server, State};

/// A read that has begun.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Begun {
    at: Instant,
    /// How many writes of the stack to the key had been acknowledged.
    own: usize,
}

/// Judges every read at once.
pub(crate) struct Judge {
    server: Server,
    max_stale: Duration,
    /// Whether this process is the only writer of the backend, and each key has one client.
    exact: bool,
    state: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    /// Acknowledged writes of the stack, by key.
    own: HashMap<Key, Vec<Version>>,
    /// Where each key has one client: what it may be.
    may_be: HashMap<Key, Vec<Option<Version>>>,
    /// When everything of before was to be compared again.
    told: Vec<Instant>,
    wrong: Option<String>,
}

impl Judge {
    pub(crate) fn new(server: Server, max_stale: Duration, exact: bool) -> Self {
        Self { server, max_stale, exact, state: Mutex::default() }
    }

    /// What was wrong first.
    pub(crate) fn verdict(&self) -> Result<(), String> {
        self.state.lock().wrong.clone().map_or(Ok(()), Err)
    }

    /// Whatever was written before now is not to be hidden by an entry of before: the stack is opened, or the feed ends.
    pub(crate) fn everything_is_told(&self) {
        self.state.lock().told.push(Instant::now());
    }

    /// A write of the stack ended.
    pub(crate) fn wrote(&self, key: &Key, id: Version, leaves: Option<Version>, outcome: Outcome) {
        let mut state = self.state.lock();
        let may_be = state.may_be.entry(key.clone()).or_insert_with(|| vec![None]);
        match outcome {
            Outcome::Applied => {
                *may_be = vec![leaves];
                state.own.entry(key.clone()).or_default().push(id);
            }
            Outcome::Unknown => may_be.push(leaves),
            Outcome::NotApplied => {}
        }
    }

    /// A read of `key` begins.
    pub(crate) fn begin(&self, key: &Key) -> Begun {
        Begun { at: Instant::now(), own: self.state.lock().own.get(key).map_or(0, Vec::len) }
    }

    /// A read answered `seen`.
    pub(crate) fn saw(&self, key: &Key, begun: Begun, seen: Option<&Version>) {
        let states = self.server.states(key);
        let mut state = self.state.lock();
        let wrong = if self.exact {
            let may_be = state.may_be.get(key).cloned().unwrap_or_else(|| vec![None]);
            let fits = may_be.iter().any(|version| version.as_ref() == seen);
            (!fits).then(|| format!("its own writes leave one of {may_be:?}"))
        } else {
            let latest = |own: &Version| states.iter().rposition(|state| state.by.as_ref() == Some(own));
            let own = state.own.get(key).and_then(|own| own.iter().take(begun.own).filter_map(latest).max());
            let fits = |index: usize, of: &State| {
                let later = states.get(index + 1..).unwrap_or_default();
                let recent = later.first().is_none_or(|next| self.is_recent(next, begun.at));
                let told = later.iter().any(|later| is_told(later, &state.told, begun.at));
                of.version.as_ref() == seen && recent && !told && own.is_none_or(|own| index >= own)
            };
            let fits = states.iter().enumerate().any(|(index, of)| fits(index, of));
            (!fits).then(|| format!("its own last write is at {own:?} of {}", lines(&states, begun.at)))
        };
        if let Some(wrong) = wrong {
            let text = format!("{key}: a read shows {seen:?}, and {wrong}");
            state.wrong.get_or_insert(text);
        }
    }

    /// Whether what `next` replaced may still be shown.
    fn is_recent(&self, next: &State, begun: Instant) -> bool {
        let oldest = begun.checked_sub(self.max_stale + Duration::from_millis(1));
        oldest.is_none_or(|oldest| next.since >= oldest)
    }
}

/// Whether the feed had reported a state, or that it had missed it, when a read began.
fn is_told(state: &State, all: &[Instant], begun: Instant) -> bool {
    // A timer is exact to a millisecond, and the stack acts one turn after it is told.
    let acted = |at: Instant| at + Duration::from_millis(2) < begun;
    state.told.is_some_and(acted) || all.iter().any(|at| state.since < *at && acted(*at))
}

fn lines(states: &[State], begun: Instant) -> String {
    let ago = |at: Instant| begun.saturating_duration_since(at).as_millis();
    let line = |(index, state): (usize, &State)| {
        let told = state.told.map(ago);
        format!("\n    {index}: {:?}, {} ms ago, told {told:?} ms ago", state.version, ago(state.since))
    };
    states.iter().enumerate().skip(states.len().saturating_sub(8)).map(line).collect()
}
