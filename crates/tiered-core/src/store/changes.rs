//! What others changed, as a store tells it.

use std::pin::Pin;

use futures_core::Stream;

use crate::key::Key;
use crate::version::Version;

/// What writers of others changed, as far as the backend tells.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Change {
    /// This key was written or deleted.
    Key {
        /// The key.
        key: Key,
        /// The version that it was written under, where the backend tells; none for a delete.
        version: Option<Version>,
    },
    /// Changes may have been missed: whatever was learnt before is to be compared again.
    Resync,
}

/// A feed of changes. It never ends by itself while the store is open.
pub type ChangeStream = Pin<Box<dyn Stream<Item = Change> + Send>>;
