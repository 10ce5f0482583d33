//! The cycles of one stack.

use std::collections::BTreeSet;
use std::time::Duration;

use tiered_conformance::Dice;
use tokio::time::Instant;

use crate::place::{End, Place, Said};
use crate::stack::Stack;
use crate::step::{CALLS, OPENING, Step};

/// Every so many cycles the stack is closed and the backend read alone.
const COLD: u64 = 5;

/// One in so many killed processes is followed by one that opens the backend without the journal.
const ALONE: u64 = 4;

/// How long a child works at most before it is killed, in milliseconds.
const LIFE: u64 = 400;

/// Fresh places that a step is looked for in, where no child met it in the run's own.
const FRESH_PLACES: usize = 5;

/// The latest occurrence of a step at which a process ends.
const LATEST: u64 = 12;

/// When processes end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Moments {
    /// At any moment, then at each step.
    All,
    /// At each step.
    Steps,
    /// At this one.
    Step(Step),
}

/// The cycles of one stack.
#[derive(Debug)]
pub(crate) struct Run {
    stack: &'static Stack,
    seed: u64,
    place: Place,
    dice: Dice,
    killed: u64,
    /// Of those, while the stack was being opened.
    early: u64,
    /// The most that died in a row while they opened.
    in_a_row: u64,
    /// How often the backend was opened without its journal, and how often that was refused.
    alone: u64,
    locked_out: u64,
    /// The steps at which a process died.
    died: BTreeSet<Step>,
    /// The calls that were made.
    met: BTreeSet<&'static str>,
    /// Acknowledged and dropped writes in places that are no more.
    acknowledged: u64,
    dropped: u64,
}

impl Run {
    pub(crate) fn new(stack: &'static Stack, seed: u64) -> Result<Self, String> {
        Ok(Self {
            stack,
            seed,
            place: Place::new(stack)?,
            dice: Dice::new(seed),
            killed: 0,
            early: 0,
            in_a_row: 0,
            alone: 0,
            locked_out: 0,
            died: BTreeSet::new(),
            met: BTreeSet::new(),
            acknowledged: 0,
            dropped: 0,
        })
    }

    pub(crate) fn cycles(mut self, cycles: u64, moments: Moments) -> Result<String, String> {
        let begun = Instant::now();
        let (name, seed) = (self.stack.name, self.seed);
        if moments == Moments::All {
            for cycle in 0..cycles {
                let done =
                    if cycle % COLD == COLD - 1 { self.place.look_cold() } else { self.at_any_moment() };
                let again = format!("cargo xtask crash --stack {name} --cycles {cycles} --seed {seed}");
                done.map_err(|why| self.failed(&format!("cycle {cycle}"), &why, &again))?;
            }
        }
        match moments {
            Moments::Step(step) => {
                if let Some(why) = self.stack.never(step.call) {
                    return Ok(format!("{name}: never makes {}: {why}", step.call));
                }
                for _ in 0..cycles {
                    self.try_step(step, cycles)?;
                }
            }
            Moments::All | Moments::Steps => {
                for step in Step::all().filter(|step| self.stack.never(step.call).is_none()) {
                    self.try_step(step, 5)?;
                }
            }
        }
        let again = format!("cargo xtask crash --stack {name} --seed {seed}");
        self.place.look_cold().map_err(|why| self.failed("at the end", &why, &again))?;
        self.check_steps(moments)?;
        if self.stack.has_journal() && self.alone >= 3 && self.locked_out == 0 {
            return Err(format!("{name}: the backend was never refused to a stack without its journal"));
        }
        Ok(format!(
            "{name}: {} killed, {} of them while opening, {} in a row; died at {} of {} steps; {} acknowledged writes, {}0 lost; without its journal {} of {} times locked out; {} s",
            self.killed,
            self.early,
            self.in_a_row,
            self.died.len(),
            Step::all().filter(|step| self.stack.never(step.call).is_none()).count(),
            self.acknowledged + self.place.ledger.acknowledged(),
            if self.stack.refuses {
                format!("{} dropped by name, ", self.dropped + self.place.ledger.dropped())
            } else {
                String::new()
            },
            self.locked_out,
            self.alone,
            begun.elapsed().as_secs()
        ))
    }

    fn failed(&mut self, when: &str, why: &str, again: &str) -> String {
        self.place.keep();
        format!("{when}: {why}; its files are in {}; try it again with: {again}", self.place.path())
    }

    /// A child works and is killed by its parent; one in five while it opens the stack, or recovers.
    fn at_any_moment(&mut self) -> Result<(), String> {
        let end = if self.dice.below(5) == 0 {
            End::Early(Duration::from_millis(self.dice.below(40)))
        } else {
            End::Late(Duration::from_millis(30 + self.dice.below(LIFE)))
        };
        let said = self.place.run("work", None, end)?;
        self.count(&said);
        if self.dice.below(ALONE) == 0 { self.without_journal() } else { Ok(()) }
    }

    /// Opens what a killed process left, without its journal: either the journal's writes are in the backend, or that
    /// is refused.
    fn without_journal(&mut self) -> Result<(), String> {
        let said = self.place.run("alone", None, End::Never)?;
        self.alone += 1;
        self.locked_out += u64::from(said.locked_out);
        if said.locked_out && !self.stack.has_journal() {
            return Err("a backend without a journal was refused as if it had one".to_owned());
        }
        Ok(())
    }

    fn count(&mut self, said: &Said) {
        self.killed += 1;
        self.early += u64::from(said.found.is_none());
        self.died.extend(said.died);
    }

    fn try_step(&mut self, step: Step, cycles: u64) -> Result<(), String> {
        let again = format!(
            "cargo xtask crash --stack {} --step {step} --cycles {cycles} --seed {}",
            self.stack.name, self.seed
        );
        self.at_step(step).map_err(|why| self.failed(&step.to_string(), &why, &again))
    }

    /// A child ends itself at a step, and up to three in a row while the next one opens.
    fn at_step(&mut self, step: Step) -> Result<(), String> {
        let occurrence = 1 + self.dice.below(LATEST);
        for occurrence in [occurrence, 1] {
            if self.dies_at(step, occurrence)?.is_some() {
                return self.while_opening();
            }
        }
        // What is done once in the life of a stack, or late in it: on a busy machine a child may end before.
        for _ in 0..FRESH_PLACES {
            let before = std::mem::replace(&mut self.place, Place::new(self.stack)?);
            let died = self.dies_at(step, 1)?.is_some();
            if died {
                self.while_opening()?;
            }
            self.place.look_cold()?;
            self.acknowledged += self.place.ledger.acknowledged();
            self.dropped += self.place.ledger.dropped();
            self.place = before;
            if died {
                break;
            }
        }
        Ok(())
    }

    /// Whether a child met the step so many times, and with it whether it had opened.
    fn dies_at(&mut self, step: Step, occurrence: u64) -> Result<Option<bool>, String> {
        let said = self.place.run("steps", Some((step, occurrence)), End::Never)?;
        self.met.extend(&said.met);
        if said.died.is_none() {
            return Ok(None);
        }
        self.count(&said);
        Ok(Some(said.found.is_some()))
    }

    /// Every third time the next children end while they open and recover.
    fn while_opening(&mut self) -> Result<(), String> {
        if self.dice.below(3) > 0 {
            return Ok(());
        }
        let steps: Vec<Step> = Step::all()
            .filter(|step| OPENING.contains(&step.call) && self.stack.never(step.call).is_none())
            .collect();
        for row in 1..=3 {
            let Some(step) = self.dice.pick(&steps).copied() else { return Ok(()) };
            let occurrence = 1 + self.dice.below(2);
            if self.dies_at(step, occurrence)? != Some(false) {
                break;
            }
            self.in_a_row = self.in_a_row.max(row);
        }
        Ok(())
    }

    /// Every step must have been died at that the stack can meet, and none that it cannot may have been met.
    fn check_steps(&self, moments: Moments) -> Result<(), String> {
        let missing: Vec<String> = Step::all()
            .filter(|step| match moments {
                Moments::Step(only) => *step == only,
                Moments::All | Moments::Steps => self.stack.never(step.call).is_none(),
            })
            .filter(|step| !self.died.contains(step))
            .map(|step| step.to_string())
            .collect();
        if !missing.is_empty() {
            return Err(format!("no process died at {}", missing.join(", ")));
        }
        let unexpected: Vec<&str> = CALLS
            .iter()
            .copied()
            .filter(|call| self.met.contains(call) && self.stack.never(call).is_some())
            .collect();
        if !unexpected.is_empty() {
            return Err(format!("it is said never to make these calls, and does: {}", unexpected.join(", ")));
        }
        Ok(())
    }
}
