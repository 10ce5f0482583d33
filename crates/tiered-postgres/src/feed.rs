//! The feed of other writers' changes, by `LISTEN`. A lost connection loses announcements, so each new connection
//! begins with [`Change::Resync`].

use std::sync::Arc;
use std::time::Duration;

use futures_util::stream;
use sqlx::Executor as _;
use sqlx::postgres::{PgConnectOptions, PgListener, PgPoolOptions};
use tiered_core::Key;
use tiered_core::adapter::{Change, ChangeStream};
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use crate::store::Inner;

/// A connection that is silent for this long is probed: a silently cut network is noticed after this plus one timeout.
const SILENCE: Duration = Duration::from_secs(5);

/// How long to wait before the next attempt to connect: first, and at most.
const RETRY: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(5));

/// Where a feed is.
struct Feed {
    connect: PgConnectOptions,
    channel: String,
    timeout: Duration,
    listener: Option<PgListener>,
    retry: Duration,
    leaving: CancellationToken,
    runtime: Handle,
}

impl Drop for Feed {
    fn drop(&mut self) {
        // Dropping the listener spawns a task, which needs the runtime.
        let _runtime = self.runtime.enter();
        self.listener = None;
    }
}

/// The feed of a store; `None` where writes are not announced. It connects when it is first polled.
pub(crate) fn changes(inner: &Arc<Inner>) -> Option<ChangeStream> {
    let channel = inner.channel.clone()?;
    let feed = Feed {
        connect: inner.config.connection(),
        channel,
        timeout: inner.config.timeout,
        listener: None,
        retry: RETRY.0,
        leaving: inner.leaving.clone(),
        runtime: inner.client.runtime().clone(),
    };
    Some(Box::pin(stream::unfold(feed, |mut feed| async move {
        let leaving = feed.leaving.clone();
        tokio::select! {
            biased;
            () = leaving.cancelled() => None,
            change = feed.next() => Some((change, feed)),
        }
    })))
}

impl Feed {
    async fn next(&mut self) -> Change {
        loop {
            let Some(listener) = &mut self.listener else {
                match self.listen().await {
                    Ok(listener) => {
                        (self.listener, self.retry) = (Some(listener), RETRY.0);
                        return Change::Resync;
                    }
                    Err(error) => {
                        tracing::warn!(%error, "the feed of changes has no connection; connecting is retried");
                        tokio::time::sleep(self.retry).await;
                        self.retry = (self.retry * 2).min(RETRY.1);
                        continue;
                    }
                }
            };
            match tokio::time::timeout(SILENCE, listener.try_recv()).await {
                Ok(Ok(Some(notification))) => {
                    return read(notification.payload()).unwrap_or(Change::Resync);
                }
                Ok(Ok(None)) => {
                    tracing::warn!("the feed of changes lost its connection; all is compared again");
                    self.listener = None;
                }
                Ok(Err(error)) => {
                    tracing::warn!(%error, "the feed of changes lost its connection; all is compared again");
                    self.listener = None;
                }
                Err(_) => {
                    let asked = tokio::time::timeout(self.timeout, listener.execute("SELECT 1")).await;
                    if !matches!(asked, Ok(Ok(_))) {
                        tracing::warn!("the feed of changes does not answer; all is compared again");
                        self.listener = None;
                    }
                }
            }
        }
    }

    /// A connection of its own, so that the feed never takes one from the calls.
    async fn listen(&self) -> Result<PgListener, sqlx::Error> {
        let pool = PgPoolOptions::new()
            .max_connections(1)
            .max_lifetime(None)
            .idle_timeout(None)
            .acquire_timeout(self.timeout)
            .connect_lazy_with(self.connect.clone());
        let mut listener = PgListener::connect_with(&pool).await?;
        listener.eager_reconnect(false);
        listener.listen(&self.channel).await?;
        Ok(listener)
    }
}

/// An announcement: a version, or a dash for a delete, and the key.
fn read(payload: &str) -> Option<Change> {
    let (version, key) = payload.split_once(' ')?;
    let version = if version == "-" { None } else { Some(version.parse().ok()?) };
    Some(Change::Key { key: Key::new(key).ok()?, version })
}

#[cfg(test)]
mod tests {
    use tiered_core::Version;

    use super::*;
    use crate::write::announcement;

    #[test]
    fn an_encoded_announcement_decodes_to_the_same_change() {
        let key = Key::new("a key with spaces").expect("valid");
        let version = Version::from_u128(7);
        let change = Change::Key { key: key.clone(), version: Some(version.clone()) };
        assert_eq!(read(&announcement(&key, Some(&version))), Some(change));
        let deleted = Change::Key { key: key.clone(), version: None };
        assert_eq!(read(&announcement(&key, None)), Some(deleted));
        assert_eq!(read("nonsense"), None);
    }
}
