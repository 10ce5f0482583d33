//! Linearizability of one key's history (Wing and Gong's search with memory, as Lowe improved it).

use std::collections::HashSet;

use crate::history::{Event, Value};

/// Events that a history may have: the search's memory keeps a bit for each.
pub const MAX_EVENTS: usize = 256;

type Done = [u64; MAX_EVENTS / 64];

fn has(done: &Done, index: usize) -> bool {
    done.get(index / 64).is_some_and(|word| word & (1 << (index % 64)) != 0)
}

fn with(mut done: Done, index: usize) -> Done {
    if let Some(word) = done.get_mut(index / 64) {
        *word |= 1 << (index % 64);
    }
    done
}

/// Whether some order of the events that keeps real time explains every answer, beginning at `initial`. An event
/// without an end may be left out.
///
/// # Panics
/// With more than [`MAX_EVENTS`] events: that would be "don't know", which is no answer.
pub fn is_linearizable(initial: Value, history: &[Event]) -> bool {
    assert!(history.len() <= MAX_EVENTS, "a history of {} events; {MAX_EVENTS} is the most", history.len());
    let mut history = history.to_vec();
    history.sort_unstable_by_key(|event| event.begun);
    let mut seen: HashSet<(Done, Value)> = HashSet::new();
    // Depth first, without recursion: what is done, and the state then.
    let mut stack = vec![(Done::default(), initial)];
    while let Some((done, state)) = stack.pop() {
        if !seen.insert((done, state)) {
            continue;
        }
        let left = || history.iter().enumerate().filter(|(index, _)| !has(&done, *index));
        let first_end = left().map(|(_, event)| event.ended).min().unwrap_or(Event::OPEN);
        if first_end == Event::OPEN {
            return true;
        }
        for (index, event) in left().take_while(|(_, event)| event.begun <= first_end) {
            if let Some(next) = event.effect.apply(state) {
                stack.push((with(done, index), next));
            }
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use tiered_conformance::Dice;

    use super::*;
    use crate::history::Effect;

    fn event(begun: u64, ended: u64, effect: Effect) -> Event {
        Event { begun, ended, effect }
    }

    #[test]
    fn the_checker_accepts_linearizable_histories_and_rejects_others() {
        let write = event(1, 2, Effect::Write(7));
        assert!(is_linearizable(0, &[write, event(3, 4, Effect::Read(7))]));
        assert!(!is_linearizable(0, &[write, event(3, 4, Effect::Read(0))]), "a lost write");
        let old_then_new =
            [event(1, 9, Effect::Write(7)), event(3, 4, Effect::Read(0)), event(5, 6, Effect::Read(7))];
        assert!(is_linearizable(0, &old_then_new));
        let new_then_old =
            [event(1, 9, Effect::Write(7)), event(3, 4, Effect::Read(7)), event(5, 6, Effect::Read(0))];
        assert!(!is_linearizable(0, &new_then_old));
        assert!(is_linearizable(0, &[event(1, Event::OPEN, Effect::Write(7)), event(3, 4, Effect::Read(0))]));
        assert!(!is_linearizable(0, &[event(1, 2, Effect::Delete(true))]));
        assert!(is_linearizable(5, &[event(1, 2, Effect::Swap(5, 6)), event(3, 4, Effect::Unlike(5))]));
        assert!(!is_linearizable(5, &[event(1, 2, Effect::Unlike(5))]), "a wrong refusal");
    }

    /// Every order of every choice of open events, tried one after the other.
    fn by_brute_force(initial: Value, history: &[Event]) -> bool {
        fn orders(left: &[Event], state: Value) -> bool {
            if left.iter().all(Event::is_open) {
                return true;
            }
            (0..left.len()).any(|index| {
                let (event, mut rest) = (left[index], left.to_vec());
                rest.remove(index);
                // Nothing that ended before it began may come after it.
                let in_time = rest.iter().all(|other| other.ended > event.begun);
                in_time && event.effect.apply(state).is_some_and(|state| orders(&rest, state))
            })
        }
        orders(history, initial)
    }

    #[test]
    fn the_checker_agrees_with_brute_force() {
        let mut dice = Dice::new(1);
        let (mut right, mut wrong) = (0_u32, 0_u32);
        for round in 0..100_000 {
            let count = 2 + dice.below(5);
            let mut times: Vec<u64> = (1..=2 * count).collect();
            let history: Vec<Event> = (0..count)
                .map(|number| {
                    let mut take = |dice: &mut Dice| {
                        let index = usize::try_from(dice.below(times.len() as u64)).expect("small");
                        times.swap_remove(index)
                    };
                    let (a, b) = (take(&mut dice), take(&mut dice));
                    let some = 1 + dice.below(count);
                    let effect = match dice.below(8) {
                        0 | 1 => Effect::Read(some - 1),
                        2 => Effect::Present,
                        3 => Effect::Unlike(some),
                        4 | 5 => Effect::Write(number + 1),
                        6 => Effect::Swap(some - 1, number + 1),
                        _ => Effect::Delete(dice.below(2) == 0),
                    };
                    let open = !effect.is_read() && dice.below(5) == 0;
                    event(a.min(b), if open { Event::OPEN } else { a.max(b) }, effect)
                })
                .collect();
            let initial = dice.below(2);
            let answer = is_linearizable(initial, &history);
            assert_eq!(answer, by_brute_force(initial, &history), "round {round}: {initial} {history:?}");
            if answer { right += 1 } else { wrong += 1 }
        }
        assert!(right > 10_000 && wrong > 10_000, "{right} right, {wrong} wrong: one side is hardly tried");
    }
}
