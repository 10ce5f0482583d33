//! From what both sides list of a key to what is done about it. Pure.

use super::merge::{Pair, Seen};
use super::strategy::{Changes, Decision, SyncStrategy};
use super::target::Task;
use crate::error::{Error, ErrorKind, Result};
use crate::list::Listed;

/// Asks the strategy; `None` where the target stays as it is. What is damaged at the source is there, and nothing of the
/// target's is touched; what is damaged at the target counts as missing where the source has the key, and as extra where
/// not.
pub(super) fn decide(strategy: &dyn SyncStrategy, pair: Pair) -> Result<Option<Task>> {
    let (ours, theirs) = match pair.into_sides() {
        (Some(Seen::Damaged(key, error)), _) => return Ok(Some(Task::Fail(key, error))),
        (Some(Seen::Listed(ours)), Some(Seen::Damaged(..))) => {
            let decision = strategy.decide(Some(&ours), None);
            check(strategy, decision, None)?;
            return Ok((decision == Decision::Copy).then_some(Task::Repair(ours)));
        }
        (None, Some(Seen::Damaged(key, error))) => {
            let extra = Listed::new(key, 0);
            let decision = strategy.decide(None, Some(&extra));
            check(strategy, decision, Some(&extra))?;
            let removes = decision == Decision::Remove;
            let key = extra.key;
            return Ok(Some(if removes { Task::RemoveDamaged(key) } else { Task::Fail(key, error) }));
        }
        (Some(Seen::Listed(ours)), Some(Seen::Listed(theirs))) => (Some(ours), Some(theirs)),
        (Some(Seen::Listed(ours)), None) => (Some(ours), None),
        (None, Some(Seen::Listed(theirs))) => (None, Some(theirs)),
        (None, None) => (None, None),
    };
    let decision = strategy.decide(ours.as_ref(), theirs.as_ref());
    check(strategy, decision, theirs.as_ref())?;
    Ok(match (decision, ours, theirs) {
        (Decision::Copy, Some(ours), theirs) => Some(Task::Copy(ours, theirs)),
        (Decision::Remove, None, Some(theirs)) => Some(Task::Remove(theirs)),
        _ => None,
    })
}

/// Refuses a decision that the strategy did not announce.
fn check(strategy: &dyn SyncStrategy, decision: Decision, theirs: Option<&Listed>) -> Result<()> {
    let needed = match (decision, theirs) {
        (Decision::Skip, _) | (Decision::Copy, None) => Changes::Adds,
        (Decision::Copy, Some(_)) => Changes::Overwrites,
        (Decision::Remove, _) => Changes::Removes,
    };
    if needed <= strategy.changes() {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::Config,
        format!("the strategy {} decided {decision:?}, beyond what it announces", strategy.name()),
    ))
}
