//! Writes: checked, stamped, and handed to the writer that the plan chose.

mod ended;
mod local;
mod through;

use std::sync::Arc;

use bytes::Bytes;
use futures_util::StreamExt as _;

use crate::batch::{Action, Applied, Atomicity, Batch, BatchOutcomes};
use crate::capability::{Capabilities, Feature};
use crate::clock::Stamp;
use crate::effect::Write;
use crate::entry::{Entry, Note};
use crate::error::{Error, ErrorKind, Outcome, Result};
use crate::key::Key;
use crate::plan::Plan;
use crate::store::{ByteStream, collect};
use crate::turn::Turns;
use crate::write::{Delete, Deleted, Expiry, Put, Written};
use crate::write_behind::WriteBehind;

pub(crate) use local::Local;
pub(crate) use through::Through;

/// A body that ends in an error where it has more than so many bytes.
fn within(limit: u64, body: ByteStream) -> ByteStream {
    Box::pin(body.scan(0, move |seen: &mut u64, part| {
        let part = part.and_then(|part| {
            *seen += part.len() as u64;
            if *seen <= limit {
                return Ok(part);
            }
            let message = format!(
                "under write-behind a streamed value is held in memory until it is in the journal, and this one has more than the {limit} bytes of max-pending-bytes; raise max-pending-bytes, or use write-through for such values"
            );
            Err(Error::new(ErrorKind::TooLarge, message).outcome_is(Outcome::NotApplied))
        });
        std::future::ready(Some(part))
    }))
}

/// Where writes go. Chosen once, from the plan.
#[derive(Debug)]
pub(crate) enum Writer {
    /// Backend, then frontend, then acknowledge.
    Through(Arc<Through>),
    /// Journal, then acknowledge; the backend follows.
    Behind(Arc<WriteBehind>),
    /// The frontend alone.
    Local(Arc<Local>),
}

/// The writing side of a tiered store.
#[derive(Debug)]
pub(crate) struct Writes {
    writer: Writer,
    plan: Arc<Plan>,
    turns: Arc<Turns>,
    stamp: Stamp,
}

impl Writes {
    pub(crate) const fn new(writer: Writer, plan: Arc<Plan>, turns: Arc<Turns>, stamp: Stamp) -> Self {
        Self { writer, plan, turns, stamp }
    }

    /// The write-behind room, if there is one.
    pub(crate) const fn behind(&self) -> Option<&Arc<WriteBehind>> {
        match &self.writer {
            Writer::Behind(behind) => Some(behind),
            Writer::Through(_) | Writer::Local(_) => None,
        }
    }

    pub(crate) async fn put(&self, key: &Key, put: Put) -> Result<Written> {
        self.check_put(key, &put)?;
        match self.write(self.stamp_put(key.clone(), put)).await? {
            Applied::Put(written) => Ok(written),
            // A put is answered as one.
            Applied::Delete(_) => Err(Error::new(ErrorKind::Other, "a put was answered as a delete")),
        }
    }

    pub(crate) async fn delete(&self, key: &Key, delete: Delete) -> Result<Deleted> {
        self.check_delete(key, &delete)?;
        match self.write(Write::delete(key.clone(), delete, &self.stamp)).await? {
            Applied::Delete(deleted) => Ok(deleted),
            // A delete is answered as one.
            Applied::Put(_) => Err(Error::new(ErrorKind::Other, "a delete was answered as a put")),
        }
    }

    async fn write(&self, write: Write) -> Result<Applied> {
        match &self.writer {
            Writer::Through(through) => through.write(write).await,
            Writer::Behind(behind) => behind.write(write).await,
            Writer::Local(local) => local.write(write).await,
        }
    }

    pub(crate) async fn apply(&self, batch: Batch) -> Result<BatchOutcomes> {
        if batch.is_empty() {
            return Ok(Vec::new());
        }
        let atomicity = batch.atomicity();
        if atomicity == Atomicity::Required {
            self.capabilities().require(Feature::AtomicBatch)?;
        }
        let (batch, refused) = batch.checked(|key, action| match action {
            Action::Put(put) => self.check_put(key, put),
            Action::Delete(delete) => self.check_delete(key, delete),
        })?;
        if batch.is_empty() {
            return Ok(refused.among(Vec::new()));
        }
        let operations = batch.into_operations().into_iter();
        let writes: Vec<Write> = operations
            .map(|(key, action)| match action {
                Action::Put(put) => self.stamp_put(key, put),
                Action::Delete(delete) => Write::delete(key, delete, &self.stamp),
            })
            .collect();
        let outcomes = match &self.writer {
            Writer::Through(through) => through.apply(writes, atomicity).await,
            Writer::Behind(behind) => behind.apply(writes, atomicity).await,
            Writer::Local(local) => local.apply(writes, atomicity).await,
        };
        Ok(refused.among(outcomes?))
    }

    pub(crate) async fn put_stream(&self, key: &Key, put: Put, body: ByteStream) -> Result<Written> {
        match &self.writer {
            Writer::Through(through) if self.plan.pipes_streams() => {
                self.check_put(key, &put)?;
                through.put_stream(self.stamp_put(key.clone(), put.value(Bytes::new())), body).await
            }
            Writer::Through(_) | Writer::Local(_) => self.put_collected(key, put, body).await,
            Writer::Behind(_) => {
                self.put_collected(key, put, within(self.plan.largest_journaled_stream(), body)).await
            }
        }
    }

    async fn put_collected(&self, key: &Key, put: Put, body: ByteStream) -> Result<Written> {
        let value = self.turns.collect(collect(self.capabilities(), body)).await?;
        self.put(key, put.value(value)).await
    }

    fn capabilities(&self) -> &Capabilities {
        self.plan.capabilities()
    }

    /// Refuses a put that cannot work, before anything is touched.
    fn check_put(&self, key: &Key, put: &Put) -> Result<()> {
        self.check_reserved(key)?;
        self.capabilities().check_key(key)?;
        self.capabilities().check_value(put.value.len() as u64)?;
        self.capabilities().check_precondition(&put.precondition, Feature::ConditionalPut)
    }

    /// Refuses a delete that cannot work, before anything is touched.
    fn check_delete(&self, key: &Key, delete: &Delete) -> Result<()> {
        self.check_reserved(key)?;
        self.capabilities().check_key(key)?;
        self.capabilities().check_precondition(&delete.precondition, Feature::ConditionalDelete)
    }

    fn check_reserved(&self, key: &Key) -> Result<()> {
        if !self.plan.refuses(key) {
            return Ok(());
        }
        let message = if self.plan.reserves(key) {
            "the record of the lease is kept under this key; use another key"
        } else {
            "blocks of large values have the names that begin with .tiered/block/; use another key"
        };
        Err(Error::new(ErrorKind::InvalidKey, message).outcome_is(Outcome::NotApplied))
    }

    /// The complete write of a put that came from outside: without bookkeeping, which is the engine's own.
    fn stamp_put(&self, key: Key, mut put: Put) -> Write {
        // What is pending is counted and bounded by its size, so it holds no more memory than that.
        if self.behind().is_some() {
            put.value = crate::adapter::own_buffer(&put.value);
        }
        if put.expiry == Expiry::Default {
            put.expiry = self.plan.default_expiry(&key);
        }
        let precondition = put.precondition.clone();
        let entry: Entry = self.stamp.entry(&put);
        let entry = if entry.metadata().note.is_empty() { entry } else { entry.with_note(Note::default()) };
        Write::put(key, entry, precondition)
    }
}
