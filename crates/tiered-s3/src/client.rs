//! Requests: bounded in time, repeated where that is safe.

use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::config::interceptors::BeforeTransmitInterceptorContextRef;
use aws_sdk_s3::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_s3::error::{BoxError, ProvideErrorMetadata, SdkError};
use tiered_core::{Error, ErrorKind, Key, Outcome};
use tokio::time::Instant;

use crate::error::{Failed, changed, failed, late};

/// Attempts of a request that may be repeated.
pub(crate) const ATTEMPTS: u32 = 3;

/// Attempts of a write that meets others: each of them got further.
pub(crate) const CONFLICTS: u32 = 20;

/// Reads in a row that have to see the same damage before it is believed: where a server keeps objects as files, a
/// reader may see a half of one write and a half of the next.
const SIGHTINGS: u32 = 3;

tokio::task_local! {
    /// Whether the request of this task has left the process.
    static SENT: Arc<AtomicBool>;
}

/// Tells a request that went out from one that never did: for the driver, both may fail in the same way.
#[derive(Debug)]
pub(crate) struct NoteSent;

impl Intercept for NoteSent {
    fn name(&self) -> &'static str {
        "NoteSent"
    }

    fn read_before_transmit(
        &self,
        _: &BeforeTransmitInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        // Requests of others over the same configuration have no note.
        SENT.try_with(|sent| sent.store(true, Ordering::Relaxed)).ok();
        Ok(())
    }
}

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
        self.timeout.saturating_add(Duration::from_millis(bytes / 1_048))
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
        let sent = Arc::new(AtomicBool::new(false));
        let noted = SENT.scope(Arc::clone(&sent), Box::pin(request));
        let bounded = tokio::time::timeout(self.limit(bytes), noted);
        async move {
            match bounded.await {
                Ok(Ok(answer)) => Ok(answer),
                Ok(Err(error)) => Err(failed(error, sent.load(Ordering::Relaxed))),
                Err(_) => Err(Failed::Error(late(sent.load(Ordering::Relaxed)))),
            }
        }
    }

    /// Repeats a request that changes nothing, or that is the same however often it is carried out.
    ///
    /// What was cut short, changed while it was read, or looks damaged is read again until the timeout has passed, and
    /// [`ATTEMPTS`] times at least.
    pub(crate) async fn repeat<T, F, Fut>(&self, mut request: F) -> Result<T, Failed>
    where
        F: FnMut() -> Fut,
        Fut: Future<Output = Result<T, Failed>>,
    {
        let begun = Instant::now();
        let (mut attempt, mut sightings) = (0, Sightings::default());
        loop {
            attempt += 1;
            let patient = attempt < ATTEMPTS || begun.elapsed() < self.timeout;
            match request().await {
                Err(Failed::Torn(error)) if patient => {
                    tracing::debug!(error = %error.chain(), attempt, "what was not whole is read again");
                }
                Err(Failed::Damaged { error, seen }) => {
                    if sightings.add(seen) {
                        return Err(Failed::Error(error));
                    }
                    if !patient {
                        return Err(Failed::Error(changed().with_source(error.message().to_owned())));
                    }
                    tracing::debug!(error = %error.chain(), attempt, "what looks damaged is read again");
                }
                Err(Failed::Error(error) | Failed::Conflict(error))
                    if attempt < ATTEMPTS && is_transient(&error) =>
                {
                    tracing::debug!(error = %error.chain(), attempt, "a request is sent again");
                }
                ended => return ended,
            }
            pause(attempt).await;
        }
    }
}

/// Damage that was seen.
#[derive(Debug, Default)]
struct Sightings {
    last: Option<u64>,
    times: u32,
}

impl Sightings {
    /// Whether the same was seen often enough in a row.
    fn add(&mut self, seen: u64) -> bool {
        self.times = if self.last.replace(seen) == Some(seen) { self.times + 1 } else { 1 };
        self.times >= SIGHTINGS
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

/// Waits before the next attempt, a different time for each who waits.
pub(crate) async fn pause(attempt: u32) {
    let jitter = RandomState::new().build_hasher().finish() % 32;
    tokio::time::sleep(Duration::from_millis((10 << attempt.min(7)) + jitter)).await;
}
