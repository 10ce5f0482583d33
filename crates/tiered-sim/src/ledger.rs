//! The ledger of a crash test: what a killed process began and acknowledged, and what may be found after it.
//!
//! It is kept by another process than the one that is killed. Each key has one writer at a time, so its operations are
//! in order; between two observations of a key it may have the last acknowledged operation's effect, or that of any
//! begun after it.
//!
//! Where writes are parked and dropped by name, what a dropped write had replaced comes back: such a ledger remembers
//! what lies beneath.

use std::collections::{BTreeMap, HashMap};

/// So many operations of a key are remembered beneath what it shows: more are never parked at a time.
const BENEATH: usize = 256;

/// What an operation does to its keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Gives them its value.
    Put,
    /// Deletes them.
    Delete,
}

#[derive(Clone, Copy, Debug)]
struct Step {
    id: u64,
    change: Change,
    acknowledged: bool,
    /// Its drop has begun, and the outcome is unknown.
    perhaps_dropped: bool,
    /// It was retried: the backend may have accepted it, and a crash may have come before the journal recorded that.
    retried: bool,
}

impl Step {
    fn leaves(&self) -> Option<u64> {
        (self.change == Change::Put).then_some(self.id)
    }

    /// Whether it cannot be missing.
    fn is_sure(&self) -> bool {
        self.acknowledged && !self.perhaps_dropped
    }
}

/// A key, since it was last observed.
#[derive(Clone, Debug, Default)]
struct Account {
    /// The value that was observed, by the operation that wrote it.
    base: Option<u64>,
    steps: Vec<Step>,
}

/// What may be found.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    accounts: BTreeMap<String, Account>,
    /// The keys of each operation that is open.
    open: HashMap<u64, Vec<String>>,
    acknowledged: u64,
    dropped: u64,
    /// Whether writes are dropped by name.
    drops: bool,
}

impl Ledger {
    /// An empty ledger, for an empty store.
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty ledger of a store whose parked writes are dropped by name.
    pub fn with_drops() -> Self {
        Self { drops: true, ..Self::default() }
    }

    /// An operation on these keys begins.
    pub fn begin(&mut self, id: u64, change: Change, keys: &[&str]) {
        for key in keys {
            let account = self.accounts.entry((*key).to_owned()).or_default();
            account.steps.push(Step {
                id,
                change,
                acknowledged: false,
                perhaps_dropped: false,
                retried: false,
            });
        }
        self.open.insert(id, keys.iter().map(|key| (*key).to_owned()).collect());
    }

    /// It was acknowledged.
    pub fn acknowledge(&mut self, id: u64) {
        self.acknowledged += 1;
        self.each_step(id, |step| step.acknowledged = true);
    }

    /// It ended as not applied.
    pub fn refuse(&mut self, id: u64) {
        for key in self.open.remove(&id).unwrap_or_default() {
            if let Some(account) = self.accounts.get_mut(&key) {
                account.steps.retain(|step| step.id != id);
            }
        }
    }

    /// Its drop by name begins.
    pub fn begin_drop(&mut self, id: u64) {
        self.each_remembered(id, |step| step.perhaps_dropped = true);
    }

    /// Its retry begins: if a later write of the key is under way, that write replaces it.
    pub fn begin_retry(&mut self, id: u64) {
        self.each_remembered(id, |step| (step.perhaps_dropped, step.retried) = (true, true));
    }

    /// The retry has begun. Where it is the last of its key it was not replaced.
    pub fn end_retry(&mut self, id: u64) {
        for account in self.accounts.values_mut() {
            if let Some(step) = account.steps.last_mut().filter(|step| step.id == id) {
                step.perhaps_dropped = false;
            }
        }
    }

    /// It was dropped: its keys are what the backend has, which is this write only where it was retried before.
    pub fn end_drop(&mut self, id: u64) {
        self.dropped += 1;
        for account in self.accounts.values_mut() {
            account.steps.retain(|step| step.id != id || step.retried);
        }
    }

    /// It was not dropped: it was parked no longer.
    pub fn keep(&mut self, id: u64) {
        self.each_remembered(id, |step| step.perhaps_dropped = false);
    }

    /// Operations that were dropped so far.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    fn each_remembered(&mut self, id: u64, change: impl Fn(&mut Step)) {
        let steps = self.accounts.values_mut().flat_map(|account| &mut account.steps);
        steps.filter(|step| step.id == id).for_each(change);
    }

    fn each_step(&mut self, id: u64, change: impl Fn(&mut Step)) {
        for key in self.open.remove(&id).unwrap_or_default() {
            let steps = self.accounts.get_mut(&key).into_iter().flat_map(|account| &mut account.steps);
            steps.filter(|step| step.id == id).for_each(&change);
        }
    }

    /// Operations that were acknowledged so far.
    pub fn acknowledged(&self) -> u64 {
        self.acknowledged
    }

    /// Every key that an operation was begun on.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.accounts.keys().map(String::as_str)
    }

    /// All keys were read while nothing was under way; a key that is not in `found` is absent. What was open is settled
    /// by it.
    ///
    /// # Errors
    /// What cannot be.
    pub fn observe(&mut self, found: &BTreeMap<String, u64>) -> Result<(), String> {
        for (key, id) in found {
            if !self.accounts.contains_key(key) {
                return Err(format!("{key} has value {id}, and was never written to"));
            }
        }
        for (key, account) in &self.accounts {
            account.judge(found.get(key).copied()).map_err(|why| format!("{key}: {why}"))?;
        }
        for (id, keys) in &self.open {
            self.judge_batch(*id, keys, found)?;
        }
        self.open.clear();
        for (key, account) in &mut self.accounts {
            let found = found.get(key).copied();
            if self.drops {
                account.settle(found);
            } else {
                *account = Account { base: found, steps: Vec::new() };
            }
        }
        Ok(())
    }

    /// A batch that nothing came after is there as a whole, or not at all.
    fn judge_batch(&self, id: u64, keys: &[String], found: &BTreeMap<String, u64>) -> Result<(), String> {
        let is_last = |key: &&String| {
            self.accounts.get(*key).and_then(|account| account.steps.last()).is_some_and(|step| step.id == id)
        };
        let is_put = |key: &&String| {
            self.accounts.get(*key).is_some_and(|account| {
                account.steps.iter().any(|step| step.id == id && step.change == Change::Put)
            })
        };
        let there: Vec<bool> =
            keys.iter().filter(is_last).filter(is_put).map(|key| found.get(key) == Some(&id)).collect();
        if there.contains(&true) && there.contains(&false) {
            return Err(format!("half of batch {id} on {keys:?} is there"));
        }
        Ok(())
    }
}

impl Account {
    /// What was found is what counts: nothing after it is there, and what lies beneath is remembered.
    fn settle(&mut self, found: Option<u64>) {
        let last = self.steps.iter().rposition(Step::is_sure);
        let at = self.steps.iter().rposition(|step| step.leaves() == found).filter(|at| Some(*at) >= last);
        self.steps.truncate(at.map_or(0, |at| at + 1));
        if let Some(step) = self.steps.last_mut() {
            (step.acknowledged, step.perhaps_dropped) = (true, false);
        }
        if self.steps.len() > BENEATH {
            let beneath = self.steps.drain(..self.steps.len() - BENEATH);
            self.base = beneath.into_iter().next_back().map_or(self.base, |step| step.leaves());
        }
    }

    fn judge(&self, found: Option<u64>) -> Result<(), String> {
        let last = self.steps.iter().rposition(Step::is_sure);
        let may_be = self.steps.get(last.unwrap_or(0)..).unwrap_or_default();
        if (last.is_none() && found == self.base) || may_be.iter().any(|step| step.leaves() == found) {
            return Ok(());
        }
        let known =
            found.is_none_or(|id| self.base == Some(id) || self.steps.iter().any(|step| step.id == id));
        let expected = may_be.iter().map(|step| format!("{:?} {}", step.change, step.id)).collect::<Vec<_>>();
        let what = if known { "an acknowledged write is lost" } else { "this was never written" };
        Err(format!("found {found:?}, expected one of {expected:?} over {:?}: {what}", self.base))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(pairs: &[(&str, u64)]) -> BTreeMap<String, u64> {
        pairs.iter().map(|(key, id)| ((*key).to_owned(), *id)).collect()
    }

    fn observed(script: impl Fn(&mut Ledger), pairs: &[(&str, u64)]) -> Result<(), String> {
        let mut ledger = Ledger::new();
        ledger.begin(1, Change::Put, &["a"]);
        ledger.acknowledge(1);
        ledger.observe(&found(&[("a", 1)])).expect("the beginning");
        script(&mut ledger);
        ledger.observe(&found(pairs))
    }

    #[test]
    fn an_acknowledged_write_must_be_present() {
        let acknowledged = |ledger: &mut Ledger| {
            ledger.begin(2, Change::Put, &["a"]);
            ledger.acknowledge(2);
        };
        assert!(observed(acknowledged, &[("a", 2)]).is_ok());
        assert!(observed(acknowledged, &[("a", 1)]).expect_err("lost").contains("lost"));
        assert!(observed(acknowledged, &[]).is_err());
        assert!(observed(acknowledged, &[("a", 9)]).expect_err("invented").contains("never written"));
        assert!(observed(acknowledged, &[("a", 2), ("b", 2)]).is_err());
    }

    #[test]
    fn an_unacknowledged_write_may_be_present() {
        let open = |ledger: &mut Ledger| {
            ledger.begin(2, Change::Put, &["a"]);
            ledger.acknowledge(2);
            ledger.begin(3, Change::Delete, &["a"]);
        };
        assert!(observed(open, &[("a", 2)]).is_ok());
        assert!(observed(open, &[]).is_ok());
        assert!(observed(open, &[("a", 1)]).is_err());
        let refused = |ledger: &mut Ledger| {
            open(ledger);
            ledger.refuse(3);
        };
        assert!(observed(refused, &[]).is_err());
    }

    #[test]
    fn an_observed_outcome_is_final() {
        let mut ledger = Ledger::new();
        ledger.begin(1, Change::Put, &["a"]);
        ledger.observe(&found(&[])).expect("it may not be there");
        assert!(ledger.observe(&found(&[("a", 1)])).is_err(), "nor come later");
    }

    #[test]
    fn a_dropped_write_reveals_the_value_before_it() {
        let parked = |end: fn(&mut Ledger)| {
            let mut ledger = Ledger::with_drops();
            for id in 1..=3 {
                ledger.begin(id, Change::Put, &["a"]);
                ledger.acknowledge(id);
                ledger.observe(&found(&[("a", id)])).expect("the last one");
            }
            ledger.begin_drop(3);
            end(&mut ledger);
            ledger
        };
        for id in [2, 3] {
            assert!(parked(|_| ()).observe(&found(&[("a", id)])).is_ok(), "perhaps");
        }
        assert!(parked(|_| ()).observe(&found(&[("a", 1)])).expect_err("lost").contains("lost"));
        let dropped = |ledger: &mut Ledger| ledger.end_drop(3);
        assert!(parked(dropped).observe(&found(&[("a", 2)])).is_ok());
        assert!(parked(dropped).observe(&found(&[("a", 3)])).is_err(), "it came back");
        let kept = |ledger: &mut Ledger| ledger.keep(3);
        assert!(parked(kept).observe(&found(&[("a", 2)])).is_err(), "it was not dropped");
        // What is dropped in turn leaves the first.
        let mut ledger = parked(dropped);
        ledger.begin_drop(2);
        ledger.end_drop(2);
        assert!(ledger.observe(&found(&[("a", 1)])).is_ok());
        assert_eq!(ledger.dropped(), 2);
    }

    #[test]
    fn half_a_batch_is_a_violation() {
        let batch = |ledger: &mut Ledger| ledger.begin(2, Change::Put, &["a", "b"]);
        assert!(observed(batch, &[("a", 2), ("b", 2)]).is_ok());
        assert!(observed(batch, &[("a", 1)]).is_ok());
        assert!(observed(batch, &[("a", 2)]).expect_err("half").contains("half"));
    }
}
