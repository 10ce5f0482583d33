//! Streamed puts: parts go to the backend as they come, past the frontend.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use tokio::sync::mpsc;

use super::Through;
use crate::batch::{Action, Applied};
use crate::effect::Write;
use crate::error::{Error, ErrorKind, Operation, Outcome, Result};
use crate::hooks::Body;
use crate::slot::Gate;
use crate::store::ByteStream;
use crate::write::Written;

/// Parts of a streamed put on their way to the backend: enough to keep it busy.
const PARTS_AHEAD: usize = 4;

impl Through {
    /// Writes a value from parts; the entry of `write` has none. It is not retried.
    pub(in crate::writer) async fn put_stream(
        self: &Arc<Self>,
        write: Write,
        body: ByteStream,
    ) -> Result<Written> {
        let (parts, receiver) = mpsc::channel(PARTS_AHEAD);
        let (through, key) = (Arc::clone(self), write.key().clone());
        let watched = self.hooks.watch(&write, Body::Streamed);
        let turn = async {
            let gate = Gate::close(&self.slots, &key).await;
            Ok((gate, watched.before(|key| self.frontend.at_hand(key)).await?))
        };
        let written = self.turns.take(Operation::Put, turn, |(gate, watched)| async move {
            let closed = through.close(gate, write.key()).await;
            let Action::Put(put) = write.action() else {
                return Err(Error::new(ErrorKind::Other, "a streamed write is a put"));
            };
            let ended = through.backend.put_stream(write.key(), put, receive(receiver)).await;
            watched
                .after(&ended.as_ref().map(|written| Applied::Put(written.clone())).map_err(Error::clone))
                .await;
            match ended {
                Ok(written) => {
                    through.recorder.took_effect(write.key(), &Applied::Put(written.clone()));
                    let updated = through.frontend.update(write.key(), None, closed.call).await;
                    drop(closed.gate);
                    updated.map(|()| written)
                }
                Err(error) => Err(through.fail(closed, write.key(), error).await),
            }
        });
        let pump = send(body, parts);
        // The write is a task of its own. It ends without the rest of the value if nothing more is sent: when the caller is
        // dropped, or at the deadline.
        let (mut written, mut pump) = (std::pin::pin!(written), std::pin::pin!(pump));
        tokio::select! {
            biased;
            ended = written.as_mut() => return ended,
            () = pump.as_mut() => {}
        }
        written.await
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
