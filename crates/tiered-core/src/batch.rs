//! Batches: several puts and deletes at once.

use std::fmt;

use crate::error::{Error, ErrorKind, Outcome, Result};
use crate::key::Key;
use crate::write::{Delete, Deleted, Put, Written};

/// One operation of a batch.
///
/// # Examples
/// ```
/// use tiered_core::{Action, Batch, Delete, Key, Put};
///
/// let mut batch = Batch::new();
/// batch.push(Key::new("stock/apple")?, Action::from(Put::new("12")));
/// batch.push(Key::new("stock/pear")?, Delete::new().into());
/// let (puts, deletes): (Vec<_>, Vec<_>) =
///     batch.into_operations().into_iter().partition(|(_, action)| matches!(action, Action::Put(_)));
/// assert_eq!((puts.len(), deletes.len()), (1, 1));
/// # Ok::<(), tiered_core::Error>(())
/// ```
#[derive(Clone, Debug)]
pub enum Action {
    /// Writes the key.
    Put(Put),
    /// Deletes the key.
    Delete(Delete),
}

impl From<Put> for Action {
    fn from(put: Put) -> Self {
        Self::Put(put)
    }
}

impl From<Delete> for Action {
    fn from(delete: Delete) -> Self {
        Self::Delete(delete)
    }
}

/// What a batch does when one of its operations is refused.
///
/// # Examples
/// ```
/// use tiered_core::{Atomicity, Batch};
///
/// assert_eq!(Batch::new().atomicity(), Atomicity::Required);
/// assert_eq!(Batch::new().best_effort().atomicity(), Atomicity::BestEffort);
/// assert!(Batch::of(Atomicity::PerItem).is_empty());
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Atomicity {
    /// All-or-nothing; a store without [`Feature::AtomicBatch`](crate::Feature::AtomicBatch) refuses.
    #[default]
    Required,
    /// Each operation is judged alone: one that is refused fails alone, and the others take effect. Where the store has
    /// [`Feature::AtomicBatch`](crate::Feature::AtomicBatch), they do so together, as one transaction.
    PerItem,
    /// All-or-nothing where the store can, else one outcome per operation.
    BestEffort,
}

/// Puts and deletes to apply together.
///
/// Preconditions are judged against the state before the batch. The last operation on a key wins; the earlier
/// ones still have their preconditions judged, and answer as if they had taken effect. Where the last one fails and the
/// batch is not atomic, an earlier one has taken effect, or fails as well: an answer of `Ok` is never empty.
///
/// # Examples
/// ```
/// use tiered_core::{Batch, Delete, Key, Put};
///
/// let batch = Batch::new()
///     .put(Key::new("leaf")?, Put::new("value"))
///     .delete(Key::new("old")?, Delete::new());
/// assert_eq!(batch.len(), 2);
/// # Ok::<(), tiered_core::Error>(())
/// ```
#[derive(Clone, Default)]
pub struct Batch {
    operations: Vec<(Key, Action)>,
    atomicity: Atomicity,
}

impl fmt::Debug for Batch {
    // A number: there may be very many.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Batch")
            .field("operations", &self.operations.len())
            .field("atomicity", &self.atomicity)
            .finish()
    }
}

impl Batch {
    /// An empty batch that must be all-or-nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty batch of this atomicity.
    ///
    /// # Examples
    /// ```
    /// use tiered_core::{Atomicity, Batch};
    ///
    /// assert_eq!(Batch::of(Atomicity::PerItem).atomicity(), Atomicity::PerItem);
    /// ```
    pub const fn of(atomicity: Atomicity) -> Self {
        Self { operations: Vec::new(), atomicity }
    }

    /// Each operation is judged alone: one whose precondition does not hold, or that breaks a limit, fails alone.
    ///
    /// # Examples
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
    /// use tiered_core::{Batch, Key, MemoryStore, Put, Store};
    ///
    /// let store = MemoryStore::new();
    /// let (taken, free) = (Key::new("taken")?, Key::new("free")?);
    /// store.put(&taken, Put::new("1")).await?;
    /// let batch = Batch::new()
    ///     .per_item()
    ///     .put(taken, Put::new("2").if_absent())
    ///     .put(free, Put::new("2").if_absent());
    /// let outcomes = store.apply(batch).await?;
    /// assert!(outcomes[0].is_err() && outcomes[1].is_ok());
    /// # Ok::<(), tiered_core::Error>(()) }).unwrap();
    /// ```
    #[must_use]
    pub fn per_item(mut self) -> Self {
        self.atomicity = Atomicity::PerItem;
        self
    }

    /// All-or-nothing only where the store can.
    ///
    /// # Examples
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
    /// use tiered_core::{Batch, Key, MemoryStore, Store};
    ///
    /// // A cache that may be filled in part.
    /// let batch = Batch::new().best_effort().put(Key::new("a")?, "1").put(Key::new("b")?, "2");
    /// assert!(MemoryStore::new().apply(batch).await?.iter().all(Result::is_ok));
    /// # Ok::<(), tiered_core::Error>(()) }).unwrap();
    /// ```
    #[must_use]
    pub fn best_effort(mut self) -> Self {
        self.atomicity = Atomicity::BestEffort;
        self
    }

    /// With one more put.
    #[must_use]
    pub fn put(mut self, key: Key, put: impl Into<Put>) -> Self {
        self.operations.push((key, Action::Put(put.into())));
        self
    }

    /// With one more delete.
    #[must_use]
    pub fn delete(mut self, key: Key, delete: Delete) -> Self {
        self.operations.push((key, Action::Delete(delete)));
        self
    }

    /// Adds one more operation.
    ///
    /// # Examples
    /// ```
    /// use tiered_core::{Batch, Key, Put};
    ///
    /// let mut batch = Batch::new();
    /// for number in 0..3 {
    ///     batch.push(Key::new(format!("log/{number}"))?, Put::new("line").into());
    /// }
    /// assert_eq!(batch.len(), 3);
    /// # Ok::<(), tiered_core::Error>(())
    /// ```
    pub fn push(&mut self, key: Key, action: Action) {
        self.operations.push((key, action));
    }

    /// What it does when one of its operations is refused.
    ///
    /// # Examples
    /// ```
    /// use tiered_core::{Atomicity, Batch};
    ///
    /// assert_eq!(Batch::new().per_item().atomicity(), Atomicity::PerItem);
    /// ```
    pub const fn atomicity(&self) -> Atomicity {
        self.atomicity
    }

    /// The operations, in order.
    ///
    /// # Examples
    /// ```
    /// use tiered_core::{Batch, Key};
    ///
    /// let batch = Batch::new().put(Key::new("a")?, "1");
    /// assert_eq!(batch.operations()[0].0.as_str(), "a");
    /// # Ok::<(), tiered_core::Error>(())
    /// ```
    pub fn operations(&self) -> &[(Key, Action)] {
        &self.operations
    }

    /// Takes the operations, in order.
    ///
    /// # Examples
    /// ```
    /// use tiered_core::{Batch, Key};
    ///
    /// let operations = Batch::new().put(Key::new("a")?, "1").into_operations();
    /// assert_eq!(operations.len(), 1);
    /// # Ok::<(), tiered_core::Error>(())
    /// ```
    pub fn into_operations(self) -> Vec<(Key, Action)> {
        self.operations
    }

    /// How many operations there are.
    pub fn len(&self) -> usize {
        self.operations.len()
    }

    /// Whether there are none.
    ///
    /// # Examples
    /// ```
    /// assert!(tiered_core::Batch::new().is_empty());
    /// ```
    pub fn is_empty(&self) -> bool {
        self.operations.is_empty()
    }
}

/// An all-or-nothing batch of these operations.
///
/// # Examples
/// ```
/// use tiered_core::{Batch, Key, Put};
///
/// let batch: Batch = [(Key::new("a")?, Put::new("1")), (Key::new("b")?, Put::new("2"))].into_iter().collect();
/// assert_eq!(batch.len(), 2);
/// # Ok::<(), tiered_core::Error>(())
/// ```
impl<A: Into<Action>> FromIterator<(Key, A)> for Batch {
    fn from_iter<I: IntoIterator<Item = (Key, A)>>(operations: I) -> Self {
        let mut batch = Self::new();
        batch.extend(operations);
        batch
    }
}

impl<A: Into<Action>> Extend<(Key, A)> for Batch {
    fn extend<I: IntoIterator<Item = (Key, A)>>(&mut self, operations: I) {
        self.operations.extend(operations.into_iter().map(|(key, action)| (key, action.into())));
    }
}

/// One applied operation of a batch.
///
/// # Examples
/// ```
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// use tiered_core::{Applied, Batch, Delete, Key, MemoryStore, Store};
///
/// let batch = Batch::new().put(Key::new("new")?, "1").delete(Key::new("old")?, Delete::new());
/// for applied in MemoryStore::new().apply(batch).await? {
///     match applied? {
///         Applied::Put(written) => println!("written as {}", written.version),
///         Applied::Delete(deleted) => println!("it existed: {:?}", deleted.existed),
///     }
/// }
/// # Ok::<(), tiered_core::Error>(()) }).unwrap();
/// ```
#[derive(Clone, Debug)]
pub enum Applied {
    /// A put.
    Put(Written),
    /// A delete.
    Delete(Deleted),
}

/// The answer to a batch: one outcome per operation, in the batch's order. Where the store applied it as a
/// whole, all are `Ok`.
pub type BatchOutcomes = Vec<Result<Applied>>;

/// Operations of a batch that were refused before the rest of it was applied, by their place.
#[derive(Debug, Default)]
pub struct Refused(Vec<(usize, Error)>);

impl Refused {
    /// The operations at these places, in their order.
    pub(crate) const fn new(refused: Vec<(usize, Error)>) -> Self {
        Self(refused)
    }

    /// The outcomes of the whole batch, from those of the rest.
    pub fn among(self, rest: BatchOutcomes) -> BatchOutcomes {
        let mut all = rest;
        for (index, error) in self.0 {
            all.insert(index.min(all.len()), Err(error));
        }
        all
    }
}

impl Batch {
    /// Checks each operation before any is carried out. What `check` refuses is taken out of a batch
    /// [per item](Atomicity::PerItem), and fails any other. For adapters: see
    /// [`Refused::among`](crate::adapter::Refused::among).
    ///
    /// # Errors
    /// The first of `check`, with its key and [`Outcome::NotApplied`], unless the batch is judged per item.
    ///
    /// # Examples
    /// ```
    /// use tiered_core::{Batch, Error, ErrorKind, Key};
    ///
    /// let batch = Batch::new().per_item().put(Key::new("a")?, "1").put(Key::new("tmp/b")?, "2");
    /// let (rest, refused) = batch.checked(|key, _| match key.as_str().starts_with("tmp/") {
    ///     true => Err(Error::new(ErrorKind::InvalidKey, "keys under tmp/ are reserved")),
    ///     false => Ok(()),
    /// })?;
    /// assert_eq!(rest.len(), 1);
    /// let outcomes = refused.among(Vec::new());
    /// assert_eq!(outcomes[0].as_ref().unwrap_err().kind(), ErrorKind::InvalidKey);
    /// # Ok::<(), tiered_core::Error>(())
    /// ```
    pub fn checked(self, mut check: impl FnMut(&Key, &Action) -> Result<()>) -> Result<(Self, Refused)> {
        let mut rest = Self::of(self.atomicity);
        let mut refused = Refused::default();
        for (index, (key, action)) in self.operations.into_iter().enumerate() {
            match check(&key, &action) {
                Ok(()) => rest.operations.push((key, action)),
                Err(error) => {
                    let error = error.for_key(&key).outcome_is(Outcome::NotApplied);
                    if rest.atomicity != Atomicity::PerItem {
                        return Err(error);
                    }
                    refused.0.push((index, error));
                }
            }
        }
        Ok((rest, refused))
    }
}

/// Corrects the answers to a batch of which the last operation on each key was carried out alone: where that one failed,
/// what it was to replace has no effect, and fails with it.
pub(crate) fn fail_with_last<'k>(keys: impl Iterator<Item = &'k Key>, outcomes: &mut [Result<Applied>]) {
    let keys: Vec<&Key> = keys.collect();
    for index in 0..outcomes.len() {
        let (earlier, later) = outcomes.split_at_mut(index);
        let (Some(Err(error)), Some(key)) = (later.first(), keys.get(index)) else { continue };
        for (before, outcome) in keys.iter().zip(earlier) {
            if before == key && outcome.is_ok() {
                *outcome = Err(replaced_by(error));
            }
        }
    }
}

/// Its outcome is that of the operation which failed: where that is not known, the batch's effect on the key is unknown.
fn replaced_by(error: &Error) -> Error {
    let outcome = match error.write_outcome() {
        Outcome::NotApplied => Outcome::NotApplied,
        Outcome::Unknown | Outcome::Applied => Outcome::Unknown,
    };
    Error::new(ErrorKind::Other, "a later operation of the batch on the same key failed")
        .with_source(error.clone())
        .outcome_is(outcome)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::precondition_failed;

    #[test]
    fn an_operation_replaced_by_a_refused_one_fails() {
        let [one, other] = ["one", "other"].map(|key| Key::new(key).expect("valid"));
        let well = || Ok(Applied::Delete(Deleted::committed(false)));
        let mut outcomes = [well(), well(), well(), Err(precondition_failed(&one)), well()];
        fail_with_last([&one, &other, &one, &one, &other].into_iter(), &mut outcomes);
        assert_eq!(outcomes.each_ref().map(Result::is_ok), [false, true, false, false, true]);
        let outcome = outcomes[0].as_ref().map_err(Error::write_outcome).map(drop);
        assert_eq!(outcome, Err(Outcome::NotApplied));
    }
}
