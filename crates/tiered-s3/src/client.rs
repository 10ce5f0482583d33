//! Requests: bounded in time, repeated where that is safe.

use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::time::Duration;

use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use tiered_core::{Error, ErrorKind, Key, Outcome};

use crate::error::{Failed, failed, late};

/// Attempts of a request that may be repeated.
pub(crate) const ATTEMPTS: u32 = 3;

/// Attempts of a write that meets others: each of them got further.
pub(crate) const CONFLICTS: u32 = 20;

/// The driver's client, and what bounds its use.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    pub(crate) s3: aws_sdk_s3::Client,
    pub(crate) bucket: String,
    /// What every object's name begins with.
    pub(crate) prefix: String,
    pub(crate) timeout: Duration,
}

impl Client {
    /// The name of the object of `key`.
    pub(crate) fn name(&self, key: &Key) -> String {
        format!("{}{key}", self.prefix)
    }

    /// How long a request may take that moves so many bytes.
    pub(crate) fn limit(&self, bytes: u64) -> Duration {
        self.timeout + Duration::from_millis(bytes / 1_048)
    }

    /// One request, in its time. It is boxed here: the driver's futures are large.
    pub(crate) fn once<T, E>(
        &self,
        bytes: u64,
        request: impl Future<Output = Result<T, SdkError<E, HttpResponse>>> + Send,
    ) -> impl Future<Output = Result<T, Failed>> + Send
    where
        T: Send,
        E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
    {
        let bounded = tokio::time::timeout(self.limit(bytes), Box::pin(request));
        async move {
            match bounded.await {
                Ok(Ok(answer)) => Ok(answer),
                Ok(Err(error)) => Err(failed(error)),
                Err(_) => Err(Failed::Error(late())),
            }
        }
    }
}

/// Whether a failed request may work when it is sent again.
pub(crate) fn is_transient(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::TimedOut)
}

/// Whether it may be sent again although it writes unconditionally: nothing came of it.
pub(crate) fn is_undone(error: &Error) -> bool {
    error.kind() == ErrorKind::Unavailable && error.outcome() == Some(Outcome::NotApplied)
}

/// Repeats a request that changes nothing, or that is the same however often it is carried out.
pub(crate) async fn repeat<T, F, Fut>(mut request: F) -> Result<T, Failed>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<T, Failed>>,
{
    let mut attempt = 0;
    loop {
        attempt += 1;
        match request().await {
            Err(Failed::Error(error) | Failed::Conflict(error))
                if attempt < ATTEMPTS && is_transient(&error) =>
            {
                tracing::debug!(error = %error.chain(), attempt, "a request is sent again");
                pause(attempt).await;
            }
            ended => return ended,
        }
    }
}

/// Waits before the next attempt, a different time for each who waits.
pub(crate) async fn pause(attempt: u32) {
    let jitter = RandomState::new().build_hasher().finish() % 32;
    tokio::time::sleep(Duration::from_millis((10 << attempt.min(7)) + jitter)).await;
}
