//! Cancellation (I9), exhaustively: every call, in every state of its key, under every fault, is polled n times and
//! dropped, for every n. Whatever was dropped, the next call on the key completes and nothing leaks.

#![expect(clippy::print_stdout, reason = "says how many cases there were")]

mod call;
mod case;
mod valve;

use tiered_conformance::Fault;
use tiered_core::WritePolicy;

use crate::call::{DropAt, Operation};
use crate::case::{Case, Ended, State, Tier};

/// No call is polled more often: the guard against one that never ends.
const MOST_POLLS: usize = 400;

/// The states that a policy can bring about.
fn states(policy: WritePolicy) -> impl Iterator<Item = State> {
    let behind = policy == WritePolicy::WriteBehind;
    State::ALL.into_iter().filter(move |state| behind || !matches!(state, State::Pending | State::Parked))
}

/// Every fault, but that nothing may lose what only it has.
fn faults(policy: WritePolicy) -> impl Iterator<Item = Option<(Tier, Fault)>> {
    let copies = move |tier| tier == Tier::Frontend && policy != WritePolicy::FrontendOnly;
    let of = move |tier| {
        let possible = Fault::ALL.iter().copied().filter(move |fault| *fault != Fault::Evict || copies(tier));
        possible.map(move |fault| Some((tier, fault)))
    };
    [None].into_iter().chain(of(Tier::Frontend)).chain(of(Tier::Backend))
}

/// Drops the call at every point; how many cases that were.
fn at_every_point(mut case: Case, broken: &mut Vec<String>) -> usize {
    let mut cases = 0;
    for polls in 1..MOST_POLLS {
        let mut by_itself = true;
        for drop_at in DropAt::ALL {
            case = Case { polls, drop_at, ..case };
            // Of its own, so that nothing of another case goes on in it.
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_time()
                .start_paused(true)
                .build()
                .expect("a runtime");
            cases += 1;
            match runtime.block_on(case::run(case)) {
                Ok(ended) => by_itself &= ended == Ended::ByItself,
                Err(why) => broken.push(format!("{case:?}: {why}")),
            }
        }
        if by_itself || broken.len() > 200 {
            return cases;
        }
    }
    broken.push(format!("{case:?}: polled {MOST_POLLS} times and not at its end"));
    cases
}

fn exhaust(policy: WritePolicy, at_least: usize) {
    let (mut cases, mut broken) = (0, Vec::new());
    for state in states(policy) {
        for fault in faults(policy) {
            for operation in Operation::ALL {
                if operation.is_for_parked() && state != State::Parked {
                    continue;
                }
                let case = Case { policy, state, fault, operation, polls: 1, drop_at: DropAt::Waiting };
                cases += at_every_point(case, &mut broken);
            }
        }
    }
    println!("{policy}: {cases} cases");
    assert!(broken.is_empty(), "{} of {cases} cases:\n{}", broken.len(), broken.join("\n"));
    assert!(cases >= at_least, "{cases} cases, at least {at_least} should have run");
}

#[test]
fn under_write_through_a_call_dropped_after_any_poll_leaves_the_stack_consistent() {
    exhaust(WritePolicy::WriteThrough, 16_000);
}

#[test]
fn under_write_around_a_call_dropped_after_any_poll_leaves_the_stack_consistent() {
    exhaust(WritePolicy::WriteAround, 16_000);
}

#[test]
fn under_write_behind_a_call_dropped_after_any_poll_leaves_the_stack_consistent() {
    exhaust(WritePolicy::WriteBehind, 21_000);
}

#[test]
fn under_frontend_only_a_call_dropped_after_any_poll_leaves_the_stack_consistent() {
    exhaust(WritePolicy::FrontendOnly, 16_000);
}
