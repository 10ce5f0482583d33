//! Batches: not atomic, one outcome per operation. Deletes without a condition go many to a request.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::atomic::Ordering;

use aws_sdk_s3::config::http::HttpRequest;
use aws_sdk_s3::types::{Delete as Bulk, ObjectIdentifier};
use futures_util::{StreamExt as _, stream};
use md5::{Digest as _, Md5};
use tiered_core::adapter::BatchOutcomes;
use tiered_core::adapter::precondition_failed;
use tiered_core::{
    Action, Applied, Atomicity, Batch, Delete, Deleted, Error, ErrorKind, Existed, Feature, Key, Operation,
    Outcome, Precondition, Result, Written,
};

use crate::config::BulkDelete;
use crate::error::Failed;
use crate::head::Head;
use crate::store::S3Store;

/// Requests at a time.
const CONCURRENCY: usize = 16;

/// Keys in one request.
const BULK: usize = 1_000;

impl S3Store {
    pub(crate) async fn apply_batch(&self, batch: Batch) -> Result<BatchOutcomes> {
        self.check_open(Operation::Apply)?;
        if batch.is_empty() {
            return Ok(Vec::new());
        }
        if batch.atomicity() == Atomicity::Required {
            self.0.capabilities.require(Feature::AtomicBatch)?;
        }
        let operations = batch.into_operations();
        let last: HashMap<&Key, usize> =
            operations.iter().enumerate().map(|(index, (key, _))| (key, index)).collect();
        let finals: HashSet<usize> = last.into_values().collect();
        // What a later operation replaces is judged first, against the state before the batch.
        let replaced = operations.iter().enumerate().filter(|(index, _)| !finals.contains(index));
        let replaced: Vec<_> =
            replaced.map(|(index, (key, action))| (index, key.clone(), action.clone())).collect();
        let mut outcomes: BTreeMap<usize, Result<Applied>> = BTreeMap::new();
        let judged = stream::iter(replaced)
            .map(|(index, key, action)| async move { (index, self.judge(&key, &action).await) })
            .buffer_unordered(CONCURRENCY);
        outcomes.extend(judged.collect::<Vec<_>>().await);
        let mut bulk = Vec::new();
        let mut single = Vec::new();
        for (index, (key, action)) in
            operations.iter().enumerate().filter(|(index, _)| finals.contains(index))
        {
            match action {
                Action::Delete(delete) if delete.precondition == Precondition::None && is_xml(key) => {
                    bulk.push((index, key.clone(), delete.reports_existed()));
                }
                action => single.push((index, key.clone(), action.clone())),
            }
        }
        let single = stream::iter(single)
            .map(|(index, key, action)| async move { (index, self.apply_one(&key, action).await) })
            .buffer_unordered(CONCURRENCY);
        outcomes.extend(single.collect::<Vec<_>>().await);
        outcomes.extend(self.delete_many(bulk).await);
        let mut outcomes: BatchOutcomes = outcomes.into_values().collect();
        tiered_core::adapter::replaced_in_batch(operations.iter().map(|(key, _)| key), &mut outcomes);
        Ok(outcomes)
    }

    async fn apply_one(&self, key: &Key, action: Action) -> Result<Applied> {
        let (done, operation) = match action {
            Action::Put(put) => (self.put_entry(key, &put).await.map(Applied::Put), Operation::Put),
            Action::Delete(delete) => {
                (self.delete_entry(key, &delete).await.map(Applied::Delete), Operation::Delete)
            }
        };
        done.map_err(|error| self.failed(error, operation).for_key(key))
    }

    /// What an operation that a later one replaces would have answered.
    async fn judge(&self, key: &Key, action: &Action) -> Result<Applied> {
        let (precondition, reports) = match action {
            Action::Put(put) => (&put.precondition, false),
            Action::Delete(delete) => (&delete.precondition, delete.reports_existed()),
        };
        let mut existed = Existed::Unknown;
        if *precondition != Precondition::None || reports {
            let head = self.look_live(key).await?;
            if !precondition.holds(head.as_ref().map(|head| &head.version)) {
                return Err(precondition_failed(key));
            }
            existed = head.is_some().into();
        }
        Ok(match action {
            Action::Put(put) => Applied::Put(Written::committed(self.0.stamp.entry(put).version().clone())),
            Action::Delete(_) => Applied::Delete(Deleted::committed(existed)),
        })
    }

    /// Deletes keys, many to a request, with one outcome each. If the caller asks whether a key existed, it is looked
    /// up just before.
    async fn delete_many(&self, keys: Vec<(usize, Key, bool)>) -> Vec<(usize, Result<Applied>)> {
        let mut outcomes = Vec::with_capacity(keys.len());
        let looked = stream::iter(keys)
            .map(|(index, key, reports)| async move {
                let existed = match self.check_key(&key) {
                    Ok(()) if reports => {
                        let live = |head: Head| Existed::from(head.is_live(self.0.stamp.now()));
                        self.look(&key).await.map(|head| head.map(live))
                    }
                    Ok(()) => Ok(Some(Existed::Unknown)),
                    Err(error) => Err(error),
                };
                (index, key, existed)
            })
            .buffer_unordered(CONCURRENCY);
        let mut there = Vec::new();
        for (index, key, existed) in looked.collect::<Vec<_>>().await {
            match existed {
                Ok(None) => outcomes.push((index, Ok(Applied::Delete(Deleted::committed(Existed::No))))),
                Ok(Some(existed)) => there.push((index, key, existed)),
                // Nothing was sent that could delete.
                Err(error) => {
                    let error = self.failed(error.outcome_is(Outcome::NotApplied), Operation::Delete);
                    outcomes.push((index, Err(error.for_key(&key))));
                }
            }
        }
        for part in there.chunks(BULK) {
            let keys: Vec<Key> = part.iter().map(|(_, key, _)| key.clone()).collect();
            let mut failed = self.delete_bulk(&keys).await;
            for (index, key, existed) in part {
                let outcome = match failed.remove(key) {
                    None => Ok(Applied::Delete(Deleted::committed(*existed))),
                    Some(error) => Err(self.failed(error, Operation::Delete).for_key(key)),
                };
                outcomes.push((*index, outcome));
            }
        }
        outcomes
    }

    /// Deletes keys without looking at them; those that were not, with the reason.
    pub(crate) async fn delete_listed(&self, keys: &[Key]) -> HashMap<Key, Error> {
        let (bulk, single): (Vec<Key>, Vec<Key>) = keys.iter().cloned().partition(is_xml);
        let mut failed = HashMap::new();
        for part in bulk.chunks(BULK) {
            failed.extend(self.delete_bulk(part).await);
        }
        for key in single {
            if let Err(error) = self.delete_entry(&key, &Delete::new()).await {
                failed.insert(key, error);
            }
        }
        failed
    }

    /// Deletes up to [`BULK`] keys; those that were not, with the reason.
    async fn delete_bulk(&self, keys: &[Key]) -> HashMap<Key, Error> {
        loop {
            let way = self.0.bulk_delete();
            if way == BulkDelete::Single {
                let deleted = stream::iter(keys.to_vec()).map(|key| async move {
                    let error = self.delete_entry(&key, &Delete::new()).await.err();
                    (key, error)
                });
                let deleted: Vec<_> = deleted.buffer_unordered(CONCURRENCY).collect().await;
                return deleted.into_iter().filter_map(|(key, error)| Some((key, error?))).collect();
            }
            match self.ask_bulk(keys, way).await {
                Ok(failed) => return failed,
                // The server does not know this way: the next one, from now on.
                Err(Failed::Error(error))
                    if self.0.config_bulk == BulkDelete::Auto
                        && matches!(error.kind(), ErrorKind::Other | ErrorKind::Unsupported)
                        && error.write_outcome() == Outcome::NotApplied =>
                {
                    let next = if way == BulkDelete::Crc { BulkDelete::Md5 } else { BulkDelete::Single };
                    tracing::debug!(error = %error.chain(), ?next, "the server refuses to delete in bulk this way");
                    self.0.bulk.store(next as u8, Ordering::Relaxed);
                }
                Err(failed) => {
                    let error = failed.into_error();
                    return keys.iter().map(|key| (key.clone(), error.clone())).collect();
                }
            }
        }
    }

    async fn ask_bulk(&self, keys: &[Key], way: BulkDelete) -> Result<HashMap<Key, Error>, Failed> {
        let client = &self.0.client;
        let objects = keys.iter().map(|key| ObjectIdentifier::builder().key(client.name(key)).build());
        let invalid = |error: aws_sdk_s3::error::BuildError| {
            Failed::Error(
                Error::new(ErrorKind::InvalidInput, "the request cannot be made")
                    .with_source(error)
                    .outcome_is(Outcome::NotApplied),
            )
        };
        let objects: Vec<_> = objects.collect::<Result<_, _>>().map_err(invalid)?;
        let bulk = Bulk::builder().set_objects(Some(objects)).quiet(true).build().map_err(invalid)?;
        // A repeated delete could remove a write that came in between: the request is sent once.
        let request = client.s3.delete_objects().bucket(&client.bucket).delete(bulk);
        let answer = match way {
            BulkDelete::Md5 => client.once(0, request.customize().mutate_request(with_md5).send()).await?,
            _ => client.once(0, request.send()).await?,
        };
        let named = |name: &str| Key::new(name.strip_prefix(&client.prefix)?).ok();
        let failed = answer.errors().iter().filter_map(|error| {
            let code = error.code().unwrap_or_default();
            let kind = match code {
                "NoSuchKey" => return None,
                "AccessDenied" => ErrorKind::PermissionDenied,
                "SlowDown" | "InternalError" | "ServiceUnavailable" => ErrorKind::Unavailable,
                _ => ErrorKind::Other,
            };
            let message =
                format!("the server did not delete it: {code} {}", error.message().unwrap_or_default());
            let doubtful = matches!(code, "InternalError" | "ServiceUnavailable");
            let outcome = if doubtful { Outcome::Unknown } else { Outcome::NotApplied };
            Some((named(error.key()?)?, Error::new(kind, message.trim_end().to_owned()).outcome_is(outcome)))
        });
        Ok(failed.collect())
    }
}

/// Returns true if a request can name the key in its body: XML cannot hold these two characters.
fn is_xml(key: &Key) -> bool {
    !key.as_str().contains(['\u{fffe}', '\u{ffff}'])
}

/// Replaces the checksum of a request by `Content-MD5`.
fn with_md5(request: &mut HttpRequest) {
    let Some(body) = request.body().bytes() else { return };
    let digest = aws_sdk_s3::primitives::Blob::new(Md5::digest(body).to_vec());
    let encoded = aws_smithy_types::base64::encode(digest.as_ref());
    let checksums: Vec<String> = request
        .headers()
        .iter()
        .map(|(name, _)| name.to_owned())
        .filter(|name| name.starts_with("x-amz-checksum-") || name == "x-amz-sdk-checksum-algorithm")
        .collect();
    for name in checksums {
        request.headers_mut().remove(name);
    }
    request.headers_mut().insert("content-md5", encoded);
}
