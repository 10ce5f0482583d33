//! Deletes: many to a batch, in which each is carried out alone.

use futures_util::StreamExt as _;
use futures_util::stream::{self, BoxStream};
use tiered_core::{Batch, Delete, Key};

use super::error;
use super::object_store::path::Path;
use super::object_store::{Error, Result};
use super::view::ObjectView;

/// Paths in a batch. Those that are there at once go together.
const BATCH: usize = 256;

impl ObjectView {
    pub(super) fn delete_objects(
        &self,
        locations: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        let view = self.clone();
        locations
            .ready_chunks(BATCH)
            .then(move |locations| {
                let view = view.clone();
                async move { stream::iter(view.delete_together(locations).await) }
            })
            .flatten()
            .boxed()
    }

    /// The answer to each, in order. A path whose object does not exist is deleted.
    async fn delete_together(&self, locations: Vec<Result<Path>>) -> Vec<Result<Path>> {
        let keyed: Vec<Result<(Path, Key), Error>> = locations
            .into_iter()
            .map(|location| {
                let location = location?;
                let key = Self::key(&location)?;
                Ok((location, key))
            })
            .collect();
        let batch = keyed
            .iter()
            .flatten()
            .fold(Batch::new().per_item(), |batch, (_, key)| batch.delete(key.clone(), Delete::new()));
        let mut outcomes = match self.store().apply(batch).await {
            Ok(outcomes) => Ok(outcomes.into_iter()),
            Err(failed) => Err(failed),
        };
        let mut answers = Vec::with_capacity(keyed.len());
        for keyed in keyed {
            answers.push(keyed.and_then(|(location, _)| {
                let outcome = match &mut outcomes {
                    Ok(outcomes) => outcomes.next().unwrap_or_else(|| {
                        let message = "the store left an answer of a batch out";
                        Err(tiered_core::Error::new(tiered_core::ErrorKind::Other, message))
                    }),
                    Err(failed) => Err(failed.clone()),
                };
                match outcome {
                    Ok(_) => Ok(location),
                    Err(failed) => Err(error::of(failed, &location)),
                }
            }));
        }
        answers
    }
}
