//! Values as streams. A value that does not fit the frontend passes by it.

use std::sync::Arc;

use futures_util::stream;

use super::Reader;
use crate::entry::Metadata;
use crate::error::Result;
use crate::key::Key;
use crate::observe::Count;
use crate::plan::Side;
use crate::read::ReadOptions;
use crate::slot::Glance;
use crate::store::ByteStream;

impl Reader {
    pub(crate) async fn read_stream(
        self: &Arc<Self>,
        key: &Key,
        options: &ReadOptions,
    ) -> Result<Option<(Arc<Metadata>, ByteStream)>> {
        let options = ReadOptions { unless: None, if_version: None, ..options.clone() };
        let known = self.head(key, &options).await?;
        // What fits the frontend is read as any other value, and kept there.
        let keeps = known.is_some_and(|metadata| self.frontend.fits(key, metadata.size));
        let pending = matches!(self.slots.glance(key), Glance::Pending(_));
        if keeps || pending || self.plan.lists() == Side::Frontend {
            return Ok(self.load(key, &options).await?.into_entry().map(|entry| {
                let metadata = Arc::clone(entry.metadata());
                let body: ByteStream = Box::pin(stream::iter([Ok(entry.into_value())]));
                (metadata, body)
            }));
        }
        self.recorder.count(Count::BackendRead);
        self.bounded(self.backend.read_stream(key, &options)).await
    }
}
