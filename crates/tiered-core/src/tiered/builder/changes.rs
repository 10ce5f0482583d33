//! Changes of single settings, which are kept until the store is built.

use std::fmt;

use crate::settings::TieredSettings;

/// What single methods set: applied to the settings when the store is built, whichever came first.
#[derive(Default)]
pub(super) struct Changes(Vec<Change>);

type Change = Box<dyn Fn(&mut TieredSettings) + Send + Sync>;

impl Changes {
    pub(super) fn push(&mut self, change: impl Fn(&mut TieredSettings) + Send + Sync + 'static) {
        self.0.push(Box::new(change));
    }

    pub(super) fn apply(&self, settings: &mut TieredSettings) {
        for change in &self.0 {
            change(settings);
        }
    }
}

impl fmt::Debug for Changes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} changes", self.0.len())
    }
}
