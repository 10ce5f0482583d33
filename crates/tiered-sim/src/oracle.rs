//! The oracle: for a read, whether its answer is among the values that the key may have had meanwhile.
//!
//! It needs no search, so that it judges every read at once and says what was wrong with it. It is weaker than the
//! checker: it knows no order between two reads.

use crate::history::{Effect, Event, Value};

/// What is wrong with `read`, one of the events of `history`, if anything.
pub fn judge(initial: Value, history: &[Event], read: &Event) -> Result<(), String> {
    let Effect::Read(seen) = read.effect else { return Ok(()) };
    let written = |event: &Event| match event.effect {
        Effect::Write(value) | Effect::Swap(_, value) => Some(value),
        Effect::Delete(_) | Effect::Erase => Some(0),
        _ => None,
    };
    // What certainly took effect before the read began, and certainly after `than`.
    let superseded = |than: u64| {
        history.iter().any(|event| {
            written(event).is_some() && !event.is_open() && event.ended < read.begun && event.begun > than
        })
    };
    if seen == initial && !superseded(0) {
        return Ok(());
    }
    let mut sources = history.iter().filter(|event| written(event) == Some(seen)).peekable();
    if sources.peek().is_none() && seen != initial {
        return Err(format!("value {seen} was never written to it, or by a write that was refused"));
    }
    if sources.any(|event| event.begun < read.ended && (event.is_open() || !superseded(event.ended))) {
        return Ok(());
    }
    Err(format!("value {seen} was replaced before the read began, or is of the future"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oracle_accepts_exactly_the_values_that_may_be_read() {
        let event = |begun, ended, effect| Event { begun, ended, effect };
        let history = [
            event(1, 2, Effect::Write(1)),
            event(3, 6, Effect::Write(2)),
            event(4, Event::OPEN, Effect::Write(3)),
            event(20, 21, Effect::Delete(true)),
        ];
        let table = [
            (5, 7, 1, true),
            (5, 7, 2, true),
            (5, 7, 3, true),
            (7, 8, 1, false),
            (7, 8, 2, true),
            (30, 31, 3, true),
            (30, 31, 2, false),
            (30, 31, 0, true),
            (7, 8, 9, false),
            (7, 8, 0, false),
        ];
        for (begun, ended, value, right) in table {
            let read = event(begun, ended, Effect::Read(value));
            assert_eq!(judge(0, &history, &read).is_ok(), right, "{read:?}");
        }
    }
}
