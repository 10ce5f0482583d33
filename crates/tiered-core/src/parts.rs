//! What every room of a store is handed when it is built.

use std::sync::Arc;

use crate::clock::Stamp;
use crate::hooks::Hooks;
use crate::observe::Recorder;
use crate::plan::Plan;
use crate::slot::Slots;
use crate::tasks::Tasks;

/// The plan of a store, its slots, its clock, its tasks, its counters and its hooks.
#[derive(Debug)]
pub(crate) struct Parts {
    plan: Arc<Plan>,
    slots: Arc<Slots>,
    stamp: Stamp,
    tasks: Tasks,
    recorder: Arc<Recorder>,
    hooks: Arc<Hooks>,
}

impl Parts {
    pub(crate) fn new(
        plan: Arc<Plan>,
        slots: Arc<Slots>,
        stamp: Stamp,
        tasks: Tasks,
        recorder: Arc<Recorder>,
        hooks: Arc<Hooks>,
    ) -> Self {
        Self { plan, slots, stamp, tasks, recorder, hooks }
    }

    pub(crate) fn plan(&self) -> Arc<Plan> {
        Arc::clone(&self.plan)
    }

    pub(crate) fn slots(&self) -> Arc<Slots> {
        Arc::clone(&self.slots)
    }

    pub(crate) fn stamp(&self) -> Stamp {
        self.stamp.clone()
    }

    pub(crate) fn tasks(&self) -> Tasks {
        self.tasks.clone()
    }

    pub(crate) fn recorder(&self) -> Arc<Recorder> {
        Arc::clone(&self.recorder)
    }

    pub(crate) fn hooks(&self) -> Arc<Hooks> {
        Arc::clone(&self.hooks)
    }
}
