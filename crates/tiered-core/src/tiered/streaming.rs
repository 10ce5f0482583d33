//! Values as streams. A streamed value passes by the frontend: it is usually too large to keep.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use tokio::sync::mpsc;

use super::engine::{Change, Engine};
use crate::entry::Metadata;
use crate::error::{Error, ErrorKind, Operation, Outcome, Result};
use crate::key::Key;
use crate::policy::{ReadPolicy, WritePolicy};
use crate::read::ReadOptions;
use crate::slot::Glance;
use crate::store::{ByteStream, collect};
use crate::write::{Put, Written};

/// Parts of a streamed put on their way to the backend: enough to keep it busy.
const PARTS_AHEAD: usize = 4;

impl Engine {
    pub(super) async fn read_stream(
        self: &Arc<Self>,
        key: &Key,
        options: &ReadOptions,
    ) -> Result<Option<(Arc<Metadata>, ByteStream)>> {
        self.check_open(Operation::Load)?;
        let options = ReadOptions { unless: None, if_version: None, ..options.clone() };
        let known = self.head(key, &options).await?;
        // What fits the frontend is read as any other value, and kept there.
        let keeps = known.is_some_and(|metadata| self.fits_frontend(key, metadata.size));
        let pending = matches!(self.slots.glance(key), Glance::Pending(_));
        let local = self.settings.write_policy == WritePolicy::FrontendOnly
            || self.settings.read_policy == ReadPolicy::FrontendOnly;
        if keeps || pending || local {
            return Ok(self.load(key, &options).await?.into_entry().map(|entry| {
                let metadata = Arc::clone(entry.metadata());
                let body: ByteStream = Box::pin(stream::iter([Ok(entry.into_value())]));
                (metadata, body)
            }));
        }
        self.counters.backend_reads.add(1);
        self.bounded(self.ask_backend(self.backend.read_stream(key, &options))).await
    }

    pub(super) async fn put_stream(
        self: &Arc<Self>,
        key: &Key,
        put: Put,
        body: ByteStream,
    ) -> Result<Written> {
        self.check_open(Operation::Put)?;
        // What passes by the frontend would not be there for a store that reads nothing else.
        let piped =
            matches!(self.settings.write_policy, WritePolicy::WriteThrough | WritePolicy::WriteAround)
                && self.settings.read_policy == ReadPolicy::FrontendFirst;
        if !piped {
            let collected = collect(&self.capabilities, body);
            let value = match self.settings.write_deadline() {
                Some(deadline) => tokio::time::timeout(deadline, collected).await.unwrap_or_else(|_| {
                    Err(Error::new(ErrorKind::TimedOut, "the value did not arrive in time")
                        .outcome_is(Outcome::NotApplied))
                }),
                None => collected.await,
            };
            return self.put(key, put.value(value?)).await;
        }
        self.check_put(key, &put)?;
        let precondition = put.precondition.clone();
        let put = Put::verbatim(&self.stamped(put.value(Bytes::new()))).precondition(precondition);
        let (parts, receiver) = mpsc::channel(PARTS_AHEAD);
        let (engine, owned) = (Arc::clone(self), key.clone());
        let write = self.in_turn(self.gate(key), |gate| async move {
            let call = engine.reserve_call(&owned).await;
            let sent = engine.backend.put_stream(&owned, put, receive(receiver));
            match engine.ask_backend(sent).await {
                Ok(written) => {
                    engine.conclude(&owned, Change::Remove, call).await?;
                    drop(gate);
                    engine.counters.puts.add(1);
                    Ok(written)
                }
                Err(error) => Err(engine.fail(gate, owned, call, error).await),
            }
        });
        let pump = send(body, parts);
        // The write is a task of its own: it ends without the rest of the value where nothing more is sent, which a
        // caller who goes away and a deadline bring about.
        let (mut write, mut pump) = (std::pin::pin!(write), std::pin::pin!(pump));
        tokio::select! {
            biased;
            written = write.as_mut() => return written,
            () = pump.as_mut() => {}
        }
        write.await
    }
}

/// A part, or the end. A channel that closes without the end was abandoned.
enum Part {
    Bytes(Result<Bytes>),
    End,
}

async fn send(mut body: ByteStream, parts: mpsc::Sender<Part>) {
    while let Some(part) = body.next().await {
        let failed = part.is_err();
        if parts.send(Part::Bytes(part)).await.is_err() || failed {
            return;
        }
    }
    // A write that ended already needs no end.
    parts.send(Part::End).await.ok();
}

fn receive(parts: mpsc::Receiver<Part>) -> ByteStream {
    Box::pin(stream::unfold(Some(parts), |parts| async move {
        let mut parts = parts?;
        match parts.recv().await {
            Some(Part::Bytes(part)) => Some((part, Some(parts))),
            Some(Part::End) => None,
            None => {
                let error = Error::new(ErrorKind::Other, "the writer went away before the value's end")
                    .outcome_is(Outcome::NotApplied);
                Some((Err(error), None))
            }
        }
    }))
}
