//! The calls that are dropped, and the future that drops them.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use tiered_core::sync::{FullSync, SyncOptions};
use tiered_core::{
    Batch, Delete, Error, Freshness, Key, ListOptions, Outcome, Put, ReadOptions, Result, Store, TieredStore,
    Version,
};

/// A call of a tiered store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    Get,
    LoadAuthoritative,
    LoadRange,
    LoadMaxStale,
    PeekThenLoad,
    Head,
    GetMany,
    List,
    ReadStream,
    Put,
    PutIfAbsent,
    PutIfVersion,
    Delete,
    ApplyAtomic,
    ApplyBestEffort,
    PutStream,
    Invalidate,
    Sync,
    SyncKeys,
    Flush,
    Close,
    DropParked,
    RetryParked,
}

impl Operation {
    pub(crate) const ALL: [Self; 23] = [
        Self::Get,
        Self::LoadAuthoritative,
        Self::LoadRange,
        Self::LoadMaxStale,
        Self::PeekThenLoad,
        Self::Head,
        Self::GetMany,
        Self::List,
        Self::ReadStream,
        Self::Put,
        Self::PutIfAbsent,
        Self::PutIfVersion,
        Self::Delete,
        Self::ApplyAtomic,
        Self::ApplyBestEffort,
        Self::PutStream,
        Self::Invalidate,
        Self::Sync,
        Self::SyncKeys,
        Self::Flush,
        Self::Close,
        Self::DropParked,
        Self::RetryParked,
    ];

    /// Whether it makes sense only where something is parked.
    pub(crate) fn is_for_parked(self) -> bool {
        matches!(self, Self::DropParked | Self::RetryParked)
    }

    /// What it leaves under the key.
    pub(crate) fn effect(self) -> Effect {
        match self {
            Self::Put
            | Self::PutIfAbsent
            | Self::PutIfVersion
            | Self::ApplyAtomic
            | Self::ApplyBestEffort
            | Self::PutStream => Effect::Writes("new"),
            Self::Delete => Effect::Deletes,
            _ => Effect::Nothing,
        }
    }
}

/// What a call leaves under its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    Nothing,
    Writes(&'static str),
    Deletes,
}

/// What a call said when it ended by itself.
#[derive(Clone, Debug)]
pub(crate) enum Said {
    /// A value, or that there is none.
    Saw(Option<String>),
    Done,
    Failed(Outcome),
}

fn text(value: &Bytes) -> String {
    String::from_utf8_lossy(value).into_owned()
}

pub(crate) async fn call(
    operation: Operation,
    store: TieredStore,
    key: Key,
    other: Key,
    version: Version,
) -> Said {
    call_inner(operation, &store, &key, &other, version)
        .await
        .unwrap_or_else(|error: Error| Said::Failed(error.write_outcome()))
}

async fn call_inner(
    operation: Operation,
    store: &TieredStore,
    key: &Key,
    other: &Key,
    version: Version,
) -> Result<Said> {
    let saw = |read: tiered_core::Read| Said::Saw(read.entry().map(|entry| text(entry.value())));
    let batch = || Batch::new().put(key.clone(), Put::new("new")).delete(other.clone(), Delete::new());
    let options = ReadOptions::new();
    Ok(match operation {
        Operation::Get => saw(store.load(key, &options).await?),
        Operation::LoadAuthoritative => saw(store.load(key, &options.authoritative()).await?),
        Operation::LoadMaxStale => {
            let stale = Freshness::MaxStale(std::time::Duration::from_secs(1));
            saw(store.load(key, &options.freshness(stale)).await?)
        }
        Operation::LoadRange => {
            store.load(key, &options.range(0..1)).await?;
            Said::Done
        }
        Operation::PeekThenLoad => match store.peek(key) {
            Some(entry) => Said::Saw(Some(text(entry.value()))),
            None => saw(store.load(key, &options).await?),
        },
        Operation::Head => {
            store.head(key, &options).await?;
            Said::Done
        }
        Operation::GetMany => {
            let reads = store.get_many(&[key.clone(), other.clone(), key.clone()], &options).await;
            let reads = reads.into_iter().collect::<Result<Vec<tiered_core::Read>>>()?;
            reads.into_iter().next().map_or(Said::Done, saw)
        }
        Operation::List => {
            let mut listing = store.list(ListOptions::new());
            while let Some(listed) = listing.next().await {
                listed?;
            }
            Said::Done
        }
        Operation::ReadStream => match store.read_stream(key, &options).await? {
            Some((_, mut body)) => {
                let mut value = Vec::new();
                while let Some(part) = body.next().await {
                    value.extend_from_slice(&part?);
                }
                Said::Saw(Some(text(&value.into())))
            }
            None => Said::Saw(None),
        },
        Operation::Put => store.put(key, Put::new("new")).await.map(|_| Said::Done)?,
        Operation::PutIfAbsent => store.put(key, Put::new("new").if_absent()).await.map(|_| Said::Done)?,
        Operation::PutIfVersion => {
            store.put(key, Put::new("new").if_version(version)).await.map(|_| Said::Done)?
        }
        Operation::Delete => store.delete(key, Delete::new()).await.map(|_| Said::Done)?,
        Operation::ApplyAtomic => {
            store.apply(batch()).await?.into_iter().try_for_each(|outcome| outcome.map(drop))?;
            Said::Done
        }
        Operation::ApplyBestEffort => {
            // The outcome of the key that is looked at comes first.
            let outcomes = store.apply(batch().best_effort()).await?;
            outcomes.into_iter().next().map_or(Ok(Said::Done), |outcome| outcome.map(|_| Said::Done))?
        }
        Operation::PutStream => {
            let body = stream::iter(["n", "e", "w"]).then(|part| async move {
                tokio::task::yield_now().await;
                Ok(Bytes::from_static(part.as_bytes()))
            });
            store.put_stream(key, Put::new(""), Box::pin(body)).await.map(|_| Said::Done)?
        }
        Operation::Invalidate => store.invalidate(key).await.map(|()| Said::Done)?,
        Operation::Sync => store.sync(&FullSync, &SyncOptions::new()).await.map(|_| Said::Done)?,
        Operation::SyncKeys => {
            let keys = [key.clone(), other.clone()];
            store.sync_keys(&keys, &SyncOptions::new()).await.map(|_| Said::Done)?
        }
        Operation::Flush => store.flush().await.map(|()| Said::Done)?,
        Operation::Close => store.close().await.map(|()| Said::Done)?,
        Operation::DropParked => {
            for parked in store.parked() {
                store.drop_parked(parked.sequence()).await?;
            }
            Said::Done
        }
        Operation::RetryParked => {
            for parked in store.parked() {
                store.retry_parked(parked.sequence())?;
            }
            store.flush().await.map(|()| Said::Done)?
        }
    })
}

/// When a call is dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DropAt {
    /// At once after its last poll.
    Waiting,
    /// When it is woken: what it waited for may be its own already.
    Woken,
}

impl DropAt {
    pub(crate) const ALL: [Self; 2] = [Self::Waiting, Self::Woken];
}

/// Polls a call so often, then drops it. Its output is the call's, where that ended before.
pub(crate) struct Cut<F> {
    call: Option<Pin<Box<F>>>,
    polls: usize,
    drop_at: DropAt,
}

impl<F: Future> Cut<F> {
    /// `polls` is at least 1.
    pub(crate) fn new(call: F, polls: usize, drop_at: DropAt) -> Self {
        Self { call: Some(Box::pin(call)), polls, drop_at }
    }
}

impl<F: Future> Future for Cut<F> {
    type Output = Option<F::Output>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        if self.polls == 0 {
            self.call = None;
            return Poll::Ready(None);
        }
        self.polls -= 1;
        let Some(call) = &mut self.call else { return Poll::Ready(None) };
        if let Poll::Ready(output) = call.as_mut().poll(context) {
            return Poll::Ready(Some(output));
        }
        if self.polls == 0 && self.drop_at == DropAt::Waiting {
            self.call = None;
            return Poll::Ready(None);
        }
        Poll::Pending
    }
}
