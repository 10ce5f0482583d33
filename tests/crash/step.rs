//! The named steps at which a process ends: every boundary between the engine, its parts, and the journal's disk.

use std::collections::BTreeMap;
use std::fmt;
use std::io::Write as _;
use std::sync::Arc;
use std::sync::Mutex;

/// What is called across a boundary. A step is the moment before such a call, or after it.
pub(crate) const CALLS: &[&str] = &[
    "frontend.load",
    "frontend.head",
    "frontend.put",
    "frontend.delete",
    "frontend.apply",
    "frontend.list",
    "frontend.mark",
    "frontend.set_mark",
    "frontend.flush",
    "frontend.close",
    "backend.load",
    "backend.head",
    "backend.put",
    "backend.delete",
    "backend.apply",
    "backend.list",
    "backend.mark",
    "backend.set_mark",
    "backend.flush",
    "backend.close",
    "journal.recover",
    "journal.append",
    "journal.trim",
    "journal.set_aside",
    "journal.close",
    "folder.names",
    "folder.create",
    "folder.open",
    "folder.remove",
    "folder.rename",
    "folder.sync",
    "file.read",
    "file.write",
    "file.sync",
];

/// Those that a stack makes while it opens and recovers, most of them only where there is something to recover.
pub(crate) const OPENING: &[&str] = &[
    "frontend.mark",
    "frontend.set_mark",
    "backend.mark",
    "backend.apply",
    "backend.list",
    "journal.recover",
    "journal.trim",
    "journal.set_aside",
    "folder.names",
    "folder.open",
    "file.read",
    "file.write",
    "file.sync",
    "folder.create",
    "folder.remove",
];

/// When a process ends, seen from a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Moment {
    Before,
    /// With the first half of a write done.
    Half,
    After,
}

/// A moment of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Step {
    pub(crate) call: &'static str,
    pub(crate) moment: Moment,
}

impl Step {
    /// All of them.
    pub(crate) fn all() -> impl Iterator<Item = Self> {
        CALLS.iter().flat_map(|call| {
            let half = (*call == "file.write").then_some(Moment::Half);
            let moments = [Moment::Before, Moment::After].into_iter().chain(half);
            moments.map(|moment| Self { call, moment })
        })
    }

    /// The step of this name.
    pub(crate) fn named(name: &str) -> Option<Self> {
        Self::all().find(|step| step.to_string() == name)
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let moment = match self.moment {
            Moment::Before => "before",
            Moment::Half => "half",
            Moment::After => "after",
        };
        write!(f, "{}.{moment}", self.call)
    }
}

/// Where a process is to end. Cloning shares it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Doom {
    fate: Option<(Step, u64)>,
    /// How often each step was met.
    met: Arc<Mutex<BTreeMap<Step, u64>>>,
}

impl Doom {
    /// The process ends when it meets `step` for the `occurrence`th time.
    pub(crate) fn at(step: Step, occurrence: u64) -> Self {
        Self { fate: Some((step, occurrence)), met: Arc::default() }
    }

    /// Whether the process is to end at any step.
    pub(crate) fn is_sealed(&self) -> bool {
        self.fate.is_some()
    }

    /// Meets a step; does not return where it is the one.
    pub(crate) fn meet(&self, call: &'static str, moment: Moment) {
        if self.count(call, moment) {
            die(Step { call, moment });
        }
    }

    /// Meets the step in the middle of a write, which `half` does half of where it is the one.
    pub(crate) fn meet_half(&self, half: impl FnOnce()) {
        if self.count("file.write", Moment::Half) {
            half();
            die(Step { call: "file.write", moment: Moment::Half });
        }
    }

    fn count(&self, call: &'static str, moment: Moment) -> bool {
        let step = Step { call, moment };
        let mut met = self.met.lock().expect("a panic ends the process");
        let times = met.entry(step).or_default();
        *times += 1;
        self.fate == Some((step, *times))
    }

    /// The calls that were made.
    pub(crate) fn calls_met(&self) -> Vec<&'static str> {
        let met = self.met.lock().expect("a panic ends the process");
        let mut calls: Vec<&'static str> = met.keys().map(|step| step.call).collect();
        calls.dedup();
        calls
    }
}

/// Ends this process as `kill -9` does, after saying where.
fn die(step: Step) -> ! {
    // The pipe holds the line before the process dies; a closed pipe does not matter.
    std::io::stdout().lock().write_all(format!("dies {step}\n").as_bytes()).ok();
    rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL).ok();
    // Not reached: the signal is delivered before the call returns.
    std::process::abort()
}
