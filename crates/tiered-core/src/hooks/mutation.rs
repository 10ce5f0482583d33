//! What hooks see of a write.

use crate::batch::Applied;
use crate::effect::{Effect, Write};
use crate::entry::Entry;
use crate::error::{Operation, Result};
use crate::key::Key;
use crate::version::Precondition;
use crate::write::Existed;

/// One put or delete, as hooks see it. Cloning it is cheap.
///
/// # Examples
/// ```
/// use tiered_core::hooks::{Mutation, Old};
/// use tiered_core::{Operation, Precondition};
///
/// fn describe(mutation: &Mutation) -> String {
///     let what = match (mutation.operation(), mutation.new_entry()) {
///         (Operation::Delete, _) => "deleted".to_owned(),
///         (_, Some(entry)) => format!("{} bytes", entry.size()),
///         (_, None) => "a streamed value".to_owned(),
///     };
///     if *mutation.precondition() != Precondition::None {
///         return format!("{}: {what}, under a condition", mutation.key());
///     }
///     match mutation.old() {
///         Old::Entry(old) => format!("{}: {} bytes before, {what}", mutation.key(), old.size()),
///         Old::Absent => format!("{}: new, {what}", mutation.key()),
///         _ => format!("{}: {what}", mutation.key()),
///     }
/// }
/// ```
#[derive(Clone, Debug)]
pub struct Mutation {
    write: Write,
    body: Body,
    old: Old,
}

/// Where the value of a put is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Body {
    /// In the write.
    AtHand,
    /// It streams to the backend.
    Streamed,
}

/// What a key had before a mutation, where the store knows it without asking a tier.
///
/// It is known of a key with a pending write (write-behind), of one whose entry is in a memory frontend and may be served,
/// and after the write where its precondition tells. Over a backend that others write, an entry of the frontend may be
/// older than the one that is replaced, as a hit may.
///
/// # Examples
/// ```
/// use tiered_core::hooks::{Mutation, Old};
///
/// /// By how many bytes the store grows, where that can be told.
/// fn growth(mutation: &Mutation) -> Option<i64> {
///     let new = mutation.new_entry().map_or(0, |entry| entry.size() as i64);
///     match mutation.old() {
///         Old::Entry(old) => Some(new - old.size() as i64),
///         Old::Absent => Some(new),
///         _ => None,
///     }
/// }
/// ```
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub enum Old {
    /// Not known.
    #[default]
    Unknown,
    /// Nothing.
    Absent,
    /// This entry.
    Entry(Entry),
}

impl Mutation {
    pub(super) const fn new(write: Write, body: Body) -> Self {
        Self { write, body, old: Old::Unknown }
    }

    /// The key.
    pub const fn key(&self) -> &Key {
        self.write.key()
    }

    /// [`Operation::Put`] or [`Operation::Delete`].
    pub const fn operation(&self) -> Operation {
        self.write.operation()
    }

    /// What a put stores, stamped. `None` for a delete, and for a put whose value streams to the backend.
    pub fn new_entry(&self) -> Option<&Entry> {
        self.write.entry().filter(|_| self.body == Body::AtHand)
    }

    /// What the key had, where it is known already.
    pub const fn old(&self) -> &Old {
        &self.old
    }

    /// The condition under which the mutation takes effect.
    pub const fn precondition(&self) -> &Precondition {
        self.write.precondition()
    }

    /// The same, where `old` is what the key has as far as that is known.
    pub(super) fn over(&mut self, old: Option<Effect>) {
        self.old = match old {
            None => Old::Unknown,
            Some(Effect::Put(entry)) => Old::Entry(entry),
            Some(Effect::Delete(_)) => Old::Absent,
        };
    }

    /// Learns from the outcome what the key had: a condition on absence that held.
    pub(super) fn learn(&mut self, ended: &Result<Applied>) {
        let was_absent = *self.write.precondition() == Precondition::Absent
            || matches!(ended, Ok(Applied::Delete(deleted)) if deleted.existed == Existed::No);
        if ended.is_ok() && was_absent {
            self.old = Old::Absent;
        }
    }
}
