//! Completing an upload under a condition, where the server can.
//!
//! It is probed as conditional puts are, when it is needed first: some servers silently ignore the condition here that
//! they keep in a put.

use bytes::Bytes;
use futures_util::stream;
use tiered_core::{ByteStream, Error, ErrorKind, Feature, Key, Outcome, Precondition, Put, Result};

use crate::error::Failed;
use crate::multipart::Staged;
use crate::probe::refused;
use crate::store::{RESERVED, S3Store};
use crate::write::Guard;

/// The conditions that a server keeps when it completes an upload.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Completion {
    absent: bool,
    matches: bool,
}

impl S3Store {
    /// Whether a value can be sent in parts under this condition.
    pub(crate) async fn completes_under(&self, key: &Key, condition: &Precondition) -> Result<bool> {
        if *condition == Precondition::None {
            return Ok(true);
        }
        self.0.capabilities.check_precondition(condition, Feature::ConditionalPut)?;
        let completion = *self.0.completion.get_or_try_init(|| self.probe_completion()).await?;
        Ok(match condition {
            // An object that has expired is replaced under its `ETag`.
            Precondition::Absent => {
                completion.absent && (completion.matches || self.look(key).await?.is_none())
            }
            _ => completion.matches,
        })
    }

    /// Completes an upload under a condition that the server keeps.
    pub(crate) async fn complete_under(&self, staged: &Staged, guard: &Guard) -> Result<(), Failed> {
        let replaces = self.0.completion.get().is_some_and(|completion| completion.matches);
        if matches!(guard, Guard::Etag(_)) && !replaces {
            let message = "an object that has expired came in between, which this server cannot replace by an upload in parts; try again";
            let error = Error::new(ErrorKind::Unavailable, message).outcome_is(Outcome::NotApplied);
            return Err(Failed::Error(error));
        }
        self.complete(staged, guard).await
    }

    async fn probe_completion(&self) -> Result<Completion> {
        let key = Key::new(format!("{RESERVED}probe-{}", self.0.stamp.versions().mint()))?;
        let found = self.try_completions(&key).await;
        // The probe's object is deleted in any case.
        self.delete_plainly(&key).await?;
        let completion = found?;
        tracing::debug!(?completion, "what the server keeps of conditions of uploads");
        Ok(completion)
    }

    /// Completes two uploads: under conditions that do not hold, and under some that do.
    async fn try_completions(&self, key: &Key) -> Result<Completion> {
        let mut completion = Completion::default();
        let mut first = Some(self.stage_probe(key, "first").await?);
        if self.is_refused(&mut first, &Guard::Absent).await? || first.is_some() {
            return Ok(completion);
        }
        let mut second = Some(self.stage_probe(key, "second").await?);
        completion.absent = self.is_refused(&mut second, &Guard::Absent).await?;
        let Some(head) = self.look(key).await?.filter(|_| completion.absent) else { return Ok(completion) };
        let wrong = Guard::Etag("\"00000000000000000000000000000000-1\"".to_owned());
        if self.is_refused(&mut second, &wrong).await? {
            self.is_refused(&mut second, &Guard::Etag(head.etag)).await?;
            completion.matches = second.is_none();
        }
        Ok(completion)
    }

    /// Whether an upload is not completed because the condition does not hold. One that is completed is taken out.
    async fn is_refused(&self, staged: &mut Option<Staged>, guard: &Guard) -> Result<bool> {
        let Some(upload) = staged else { return Ok(false) };
        let completed = self.complete(upload, guard).await;
        if completed.is_ok()
            && let Some(upload) = staged.take()
        {
            upload.settle(&Ok(()));
        }
        refused(completed)
    }

    async fn stage_probe(&self, key: &Key, value: &'static str) -> Result<Staged> {
        let entry = self.0.stamp.entry(&Put::new(""));
        let body: ByteStream = Box::pin(stream::iter([Ok(Bytes::from_static(value.as_bytes()))]));
        self.stage(key, &entry, None, body).await
    }
}
