//! Writes: the value in its stored form, under a version that is known before.

use tiered_core::adapter::{self, BatchOutcomes};
use tiered_core::{
    Action, Batch, ByteStream, Delete, Deleted, Error, ErrorKind, Feature, Key, Operation, Outcome,
    Precondition, Put, ReadOptions, Result, Written,
};

use super::Sealed;
use super::codec::Codec;
use crate::facts;

impl<C: Codec> Sealed<C> {
    pub(crate) async fn put(&self, key: &Key, put: Put) -> Result<Written> {
        let put = self.sealed(key, put).await.map_err(|error| self.refused(Operation::Put, key, error))?;
        self.inner().put(key, put).await
    }

    pub(crate) async fn delete(&self, key: &Key, delete: Delete) -> Result<Deleted> {
        let delete =
            self.judged(key, delete).await.map_err(|error| self.refused(Operation::Delete, key, error))?;
        self.inner().delete(key, delete).await
    }

    pub(crate) async fn put_stream(&self, key: &Key, put: Put, body: ByteStream) -> Result<Written> {
        let value = adapter::collect(self.capabilities(), body).await;
        let value = value.map_err(|error| self.refused(Operation::Put, key, error))?;
        self.put(key, put.value(value)).await
    }

    pub(crate) async fn apply(&self, batch: Batch) -> Result<BatchOutcomes> {
        let name = self.capabilities().name();
        let failed = |error: Error| error.during(Operation::Apply).in_tier(name);
        let batch = crate::alike(self.capabilities(), batch);
        if batch.atomicity() == tiered_core::Atomicity::Required && !batch.is_empty() {
            self.capabilities().require(Feature::AtomicBatch).map_err(failed)?;
        }
        let mut ready = Vec::with_capacity(batch.len());
        for (key, action) in batch.operations() {
            ready.push(match action.clone() {
                Action::Put(put) => self.sealed(key, put).await.map(Action::Put),
                Action::Delete(delete) => self.judged(key, delete).await.map(Action::Delete),
            });
        }
        let mut results = ready.into_iter();
        let mut actions = Vec::with_capacity(results.len());
        let take = |_: &Key, _: &Action| {
            // One for each operation, in order.
            let next = results
                .next()
                .unwrap_or_else(|| Err(Error::new(ErrorKind::Other, "an operation is missing")));
            actions.push(next.map_err(failed)?);
            Ok(())
        };
        let (rest, refused) = batch.checked(take)?;
        let mut inside = Batch::of(rest.atomicity());
        for ((key, _), action) in rest.into_operations().into_iter().zip(actions) {
            inside.push(key, action);
        }
        Ok(refused.among(self.inner().apply(inside).await?))
    }

    /// The put that the store inside is handed.
    async fn sealed(&self, key: &Key, put: Put) -> Result<Put> {
        let capabilities = self.capabilities();
        capabilities.check_key(key)?;
        capabilities.check_value(put.value.len() as u64)?;
        let precondition = self.precondition(key, &put.precondition, Feature::ConditionalPut).await?;
        let version = match adapter::version_of(&put) {
            Some(version) => version.clone(),
            None => self.0.stamp.versions().mint(),
        };
        let coded = self.0.codec.seal(key, &version, &put.value).await?;
        let attributes = facts::add(put.attributes.clone(), &coded.facts)?;
        let put = put.value(coded.stored).attributes(attributes).precondition(precondition);
        Ok(if adapter::version_of(&put).is_some() { put } else { adapter::with_version(put, version) })
    }

    async fn judged(&self, key: &Key, delete: Delete) -> Result<Delete> {
        self.capabilities().check_key(key)?;
        let precondition = self.precondition(key, &delete.precondition, Feature::ConditionalDelete).await?;
        Ok(delete.precondition(precondition))
    }

    /// The precondition inside. What the store inside can read may be damaged to this one.
    async fn precondition(
        &self,
        key: &Key,
        asked: &Precondition,
        conditional: Feature,
    ) -> Result<Precondition> {
        self.capabilities().check_precondition(asked, conditional)?;
        if *asked != Precondition::Damaged {
            return Ok(asked.clone());
        }
        let read = match self.inner().load(key, &ReadOptions::new().authoritative()).await {
            Ok(read) => read,
            Err(error) if error.kind() == ErrorKind::Corrupt => return Ok(Precondition::Damaged),
            Err(error) => return Err(error),
        };
        let Some(entry) = read.into_entry() else { return Ok(Precondition::Damaged) };
        match self.whole(Operation::Load, key, &entry).await {
            Err(error) if error.kind() == ErrorKind::Corrupt => {
                // Still that one: another write that came in between may be good.
                Ok(Precondition::Matches(entry.version().clone()))
            }
            // The store inside refuses, as this one would: the entry is good, or cannot be judged.
            Ok(_) | Err(_) => Ok(Precondition::Damaged),
        }
    }

    /// An error before the store inside was asked to write.
    fn refused(&self, operation: Operation, key: &Key, error: Error) -> Error {
        self.failed(operation, key, error).outcome_is(Outcome::NotApplied)
    }
}
