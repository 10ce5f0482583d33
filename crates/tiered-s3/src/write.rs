//! Puts and deletes.
//!
//! An unconditional write is sent once, and again only where the server surely did nothing: a repeated one could
//! overtake a later write. When the answer of a conditional one is lost, the version that the object has tells whether
//! it took effect. It is sent again only under an `ETag` that never comes back: an object that was absent can be absent
//! again, and the write would overwrite another client's delete.

use aws_sdk_s3::primitives::ByteStream as Body;
use bytes::Bytes;
use tiered_core::adapter::Checksum;
use tiered_core::adapter::precondition_failed;
use tiered_core::{
    Delete, Deleted, Entry, Error, ErrorKind, Existed, Feature, Key, Operation, Outcome, Precondition, Put,
    Result, Version, Written, adapter,
};

use crate::client::{ATTEMPTS, CONFLICTS, is_transient, is_undone, pause};
use crate::error::Failed;
use crate::head::{Head, headers};
use crate::multipart::Staged;
use crate::store::S3Store;

/// The condition that a server judges.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Guard {
    None,
    Absent,
    Etag(String),
}

/// What a put sends.
pub(crate) enum Sending<'s> {
    /// The object as a whole.
    Whole(&'s Entry),
    /// The completion of an object whose parts were sent.
    Parts(&'s Staged),
}

impl Sending<'_> {
    fn version(&self) -> &Version {
        match self {
            Self::Whole(entry) => entry.version(),
            Self::Parts(staged) => &staged.version,
        }
    }

    fn size(&self) -> u64 {
        match self {
            Self::Whole(entry) => entry.size(),
            Self::Parts(staged) => staged.size,
        }
    }

    fn checksum(&self) -> Checksum {
        match self {
            Self::Whole(entry) => adapter::checksum_of(entry),
            Self::Parts(staged) => staged.checksum,
        }
    }
}

impl S3Store {
    pub(crate) async fn put_entry(&self, key: &Key, put: &Put) -> Result<Written> {
        self.check_open(Operation::Put)?;
        self.check_key(key)?;
        self.0.capabilities.check_value(put.value.len() as u64)?;
        let entry = self.0.stamp.entry(put);
        match &put.precondition {
            Precondition::None if entry.size() > self.0.multipart => {
                self.put_in_parts(key, &entry, entry.value().clone()).await?;
            }
            Precondition::None => self.put_plainly(key, &entry).await?,
            condition => {
                self.0.capabilities.require(Feature::ConditionalPut)?;
                self.put_under(key, &Sending::Whole(&entry), condition).await?;
            }
        }
        Ok(Written::committed(entry.version().clone()))
    }

    /// One request that writes the object as a whole.
    async fn send(&self, key: &Key, entry: &Entry, guard: &Guard) -> Result<(), Failed> {
        let client = &self.0.client;
        let checksum = adapter::checksum_of(entry);
        let (metadata, content_type) = headers(entry, Some(checksum));
        let request = client
            .s3
            .put_object()
            .bucket(&client.bucket)
            .key(client.name(key))
            .set_metadata(Some(metadata))
            .set_content_type(content_type)
            .body(Body::from(self.body(entry, checksum)));
        let request = match guard {
            Guard::None => request,
            Guard::Absent => request.if_none_match("*"),
            Guard::Etag(etag) => request.if_match(etag),
        };
        client.once(entry.size(), request.send()).await.map(drop)
    }

    /// The object's body.
    fn body(&self, entry: &Entry, checksum: Checksum) -> Bytes {
        let layout = self.0.layout;
        let before = layout.before(entry.version(), self.0.stamp.versions());
        if before.is_empty() {
            return entry.value().clone();
        }
        Bytes::from([&before[..], entry.value(), &layout.behind(checksum)].concat())
    }

    async fn put_plainly(&self, key: &Key, entry: &Entry) -> Result<()> {
        let mut attempt = 0;
        loop {
            attempt += 1;
            match self.send(key, entry, &Guard::None).await {
                Ok(()) => return Ok(()),
                Err(Failed::Conflict(_)) if attempt < CONFLICTS => {}
                Err(Failed::Error(error)) if attempt < ATTEMPTS && is_undone(&error) => {}
                Err(failed) => return Err(failed.into_error()),
            }
            pause(attempt).await;
        }
    }

    /// A put under a precondition, repeated until its outcome is known.
    pub(crate) async fn put_under(
        &self,
        key: &Key,
        sending: &Sending<'_>,
        condition: &Precondition,
    ) -> Result<()> {
        let mut doubt = Doubt::default();
        let mut guard = match condition {
            Precondition::Absent => Some(Guard::Absent),
            _ => None,
        };
        // The last request whose answer was lost, and its condition.
        let mut unheard: Option<(Guard, Error)> = None;
        loop {
            let guard = match guard.take() {
                Some(guard) => guard,
                None => match self.decide(key, sending, condition).await {
                    Ok(Decision::Send(guard)) => {
                        let twice = |(lost, _): &mut (Guard, Error)| *lost != guard || !self.is_fence(&guard);
                        if let Some((_, error)) = unheard.take_if(twice) {
                            // It could take effect a second time.
                            return Err(doubt.error(error));
                        }
                        guard
                    }
                    Ok(Decision::Done) => return Ok(()),
                    Ok(Decision::Refused) => return Err(doubt.refused(key)),
                    Err(error) => return Err(doubt.error(error)),
                },
            };
            let sent = match sending {
                Sending::Whole(entry) => self.send(key, entry, &guard).await,
                Sending::Parts(staged) => self.complete_under(staged, &guard).await,
            };
            match sent {
                Ok(()) => return Ok(()),
                // Another client was faster, or the answer to our own request was lost: read again.
                Err(Failed::Condition | Failed::Missing) if doubt.may_meet_others() => {}
                // S3 wants the parts of an upload again after that, and they are gone.
                Err(Failed::Conflict(error))
                    if matches!(sending, Sending::Whole(_)) && doubt.may_meet_others() =>
                {
                    tracing::debug!(error = %error.chain(), "a conditional write is sent again");
                }
                Err(Failed::Error(error)) if is_transient(&error) && doubt.may_fail_again() => {
                    if doubt.add(&error) {
                        unheard = Some((guard, error));
                    }
                }
                Err(failed) => return Err(doubt.error(failed.into_error())),
            }
            doubt.pause().await;
        }
    }

    /// Whether a condition that has failed to hold never holds again.
    fn is_fence(&self, guard: &Guard) -> bool {
        matches!(guard, Guard::Etag(_)) && self.0.capabilities.has(Feature::UniqueValidators)
    }

    /// Decides what a conditional put does, given the current object.
    async fn decide(&self, key: &Key, sending: &Sending<'_>, condition: &Precondition) -> Result<Decision> {
        let Some(head) = self.look(key).await? else {
            return Ok(match condition {
                Precondition::Matches(_) => Decision::Refused,
                _ => Decision::Send(Guard::Absent),
            });
        };
        let live = head.is_live(self.0.stamp.now());
        if live && self.is_own(key, &head, sending).await? {
            return Ok(Decision::Done);
        }
        let version = Some(&head.version).filter(|_| live);
        Ok(if condition.holds(version) { Decision::Send(Guard::Etag(head.etag)) } else { Decision::Refused })
    }

    /// Whether an object is what a put has written that sends this: a writer whose answer was lost recognises its own write.
    /// The version alone does not tell: copies of another value may carry it.
    async fn is_own(&self, key: &Key, head: &Head, sending: &Sending<'_>) -> Result<bool> {
        if head.version != *sending.version() || head.size != sending.size() {
            return Ok(false);
        }
        let name = self.0.client.name(key);
        let checksum =
            self.0.client.repeat(|| self.checksum(&name, head)).await.map_err(Failed::into_error)?;
        Ok(checksum == sending.checksum())
    }

    /// Deletes whatever is there: one request, sent again only where the server surely did nothing.
    pub(crate) async fn delete_plainly(&self, key: &Key) -> Result<Deleted> {
        let client = &self.0.client;
        let mut attempt = 0;
        loop {
            attempt += 1;
            let request = client.s3.delete_object().bucket(&client.bucket).key(client.name(key));
            match client.once(0, request.send()).await {
                Ok(_) => return Ok(Deleted::committed(Existed::Unknown)),
                // S3 does not tell; some other servers do.
                Err(Failed::Missing) => return Ok(Deleted::committed(Existed::No)),
                Err(Failed::Conflict(_)) if attempt < CONFLICTS => {}
                Err(Failed::Error(error)) if attempt < ATTEMPTS && is_undone(&error) => {}
                Err(failed) => return Err(failed.into_error()),
            }
            pause(attempt).await;
        }
    }

    pub(crate) async fn delete_entry(&self, key: &Key, delete: &Delete) -> Result<Deleted> {
        self.check_open(Operation::Delete)?;
        self.check_key(key)?;
        self.0.capabilities.check_precondition(&delete.precondition, Feature::ConditionalDelete)?;
        if delete.precondition == Precondition::None && !delete.reports_existed() {
            return self.delete_plainly(key).await;
        }
        let guarded = self.0.capabilities.has(Feature::ConditionalDelete);
        let mut doubt = Doubt::default();
        // Whether an earlier request of this call may have deleted the live entry although its answer was lost.
        let mut gone = false;
        // The last request whose answer was lost, and its condition.
        let mut unheard: Option<(Guard, Error)> = None;
        loop {
            let head = self.look(key).await.map_err(|error| doubt.error(error))?;
            let live = head.as_ref().filter(|head| head.is_live(self.0.stamp.now()));
            if gone && head.is_none() {
                // Only one of two deletes under the same condition succeeds, and this may be the other one.
                let conditional = delete.precondition != Precondition::None;
                return if conditional { Err(doubt.refused(key)) } else { Ok(Deleted::committed(true)) };
            }
            if !delete.precondition.holds(live.map(|head| &head.version)) {
                return Err(doubt.refused(key));
            }
            let existed = live.is_some();
            let Some(head) = head.filter(|_| delete.precondition != Precondition::Absent) else {
                return Ok(Deleted::committed(false));
            };
            let guard = Guard::Etag(head.etag.clone());
            if let Some((lost, error)) = unheard.take_if(|(lost, _)| *lost != guard || !self.is_fence(&guard))
            {
                // It could take effect a second time. Under another write it has, or would have.
                let lies_below = gone && lost != guard && delete.precondition == Precondition::None;
                return if lies_below { Ok(Deleted::committed(true)) } else { Err(doubt.error(error)) };
            }
            let client = &self.0.client;
            let request = client.s3.delete_object().bucket(&client.bucket).key(client.name(key));
            let request = if guarded { request.if_match(&head.etag) } else { request };
            match client.once(0, request.send()).await {
                Ok(_) => return Ok(Deleted::committed(existed)),
                Err(Failed::Condition | Failed::Missing | Failed::Conflict(_)) if doubt.may_meet_others() => {
                }
                Err(Failed::Error(error)) if guarded && is_transient(&error) && doubt.may_fail_again() => {
                    if doubt.add(&error) {
                        gone |= existed;
                        unheard = Some((guard, error));
                    }
                }
                Err(Failed::Error(error)) if is_undone(&error) && doubt.may_fail_again() => {}
                Err(failed) => return Err(doubt.error(failed.into_error())),
            }
            doubt.pause().await;
        }
    }
}

/// What a conditional put is to do.
enum Decision {
    Send(Guard),
    /// The object is there already, as we wrote it.
    Done,
    Refused,
}

/// What is not known of earlier attempts.
#[derive(Debug, Default)]
struct Doubt {
    conflicts: u32,
    failures: u32,
    /// Whether one of them may have taken effect.
    doubtful: bool,
}

impl Doubt {
    /// Counts an attempt that met another writer; whether there may be another.
    fn may_meet_others(&mut self) -> bool {
        self.conflicts += 1;
        self.conflicts < CONFLICTS
    }

    /// Counts an attempt that failed; whether there may be another.
    fn may_fail_again(&mut self) -> bool {
        self.failures += 1;
        self.failures < ATTEMPTS
    }

    /// Takes note of a failed attempt; whether it may have taken effect.
    fn add(&mut self, error: &Error) -> bool {
        let doubtful = error.write_outcome() != Outcome::NotApplied;
        self.doubtful |= doubtful;
        doubtful
    }

    async fn pause(&self) {
        pause(self.conflicts + self.failures).await;
    }

    /// The precondition does not hold now; it may be that it did, and that another write followed ours.
    fn refused(&self, key: &Key) -> Error {
        if !self.doubtful {
            return precondition_failed(key);
        }
        Error::new(
            ErrorKind::PreconditionFailed,
            "the entry is another one, or gone, after an answer was lost; it may have been this write or another",
        )
        .for_key(key)
        .outcome_is(Outcome::Unknown)
    }

    fn error(&self, error: Error) -> Error {
        if self.doubtful || error.outcome().is_none() { error.outcome_is(self.outcome()) } else { error }
    }

    fn outcome(&self) -> Outcome {
        if self.doubtful { Outcome::Unknown } else { Outcome::NotApplied }
    }
}
