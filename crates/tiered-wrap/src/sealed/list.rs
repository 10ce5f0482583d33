//! Listings: sizes and checksums as the caller knows them.

use futures_util::StreamExt as _;
use tiered_core::{
    Error, ErrorKind, Key, ListOptions, ListStream, Listed, Metadata, Operation, ReadOptions, Result, Version,
};

use super::codec::{Codec, Head};
use super::frames::{self, Opened};
use super::{Sealed, outside};
use crate::facts::Facts;

/// Heads that are read at a time, of the values whose listing does not tell their size.
const CONCURRENCY: usize = 16;

/// Bytes by which a small value may grow when it is stored: with its value listed, no more of it is read.
const GROWTH: u64 = 256;

impl<C: Codec> Sealed<C> {
    pub(crate) fn list(&self, options: ListOptions) -> ListStream {
        let mut inside = options.clone();
        // Keys that are gone when they are looked up are dropped: what is left is counted here.
        let limit = inside.limit.take().unwrap_or(usize::MAX);
        inside.values = options.values.map(|up_to| up_to.saturating_add(GROWTH));
        let this = self.clone();
        let listing = self.inner().list(inside).map(move |listed| {
            let (this, options) = (this.clone(), options.clone());
            async move {
                match listed {
                    Ok(listed) => this.listed(listed, &options).await.transpose(),
                    Err(error) => Some(Err(error)),
                }
            }
        });
        Box::pin(listing.buffered(CONCURRENCY).filter_map(std::future::ready).take(limit))
    }

    /// A listed key as the caller sees it; `None` where it was deleted meanwhile.
    async fn listed(&self, listed: Listed, options: &ListOptions) -> Result<Option<Listed>> {
        let key = listed.key.clone();
        let listed = self.try_listed(listed, options).await;
        listed.map_err(|error| self.failed(Operation::List, &key, damaged(&key, error)))
    }

    async fn try_listed(&self, mut listed: Listed, options: &ListOptions) -> Result<Option<Listed>> {
        let key = listed.key.clone();
        let stored = listed.value.take();
        let mut known = match &listed.metadata {
            Some(metadata) => self.noted(&key, metadata).await?,
            None => None,
        };
        if known.is_none() {
            if let Some((metadata, bytes)) = listed.metadata.as_ref().zip(stored.as_ref())
                && let Opened::Head(head) =
                    frames::open(&self.0.codec, &key, &metadata.version, bytes, metadata.size).await?
            {
                known = Some(outside(metadata, head.shown())?);
            } else if let (None, Some(size)) = (&listed.metadata, self.0.codec.size_of(listed.size)) {
                listed.size = size;
                return Ok(Some(listed));
            } else {
                return self.looked_up(&key, options, listed).await;
            }
        }
        let Some(metadata) = known else { return Ok(Some(listed)) };
        let value = match stored {
            Some(bytes) if options.wants_value(metadata.size) => {
                self.value(&key, listed.metadata.as_deref(), bytes).await?
            }
            _ => None,
        };
        let mut seen = Listed::with_metadata(key, metadata).with_value(value);
        seen.validator = listed.validator;
        Ok(Some(seen))
    }

    /// A listed value; none where it cannot be read for another reason than damage.
    async fn value(
        &self,
        key: &Key,
        metadata: Option<&Metadata>,
        stored: bytes::Bytes,
    ) -> Result<Option<bytes::Bytes>> {
        let Some(metadata) = metadata else { return Ok(None) };
        let entry = tiered_core::Entry::from_parts(stored, std::sync::Arc::new(metadata.clone()));
        match frames::whole(&self.0.codec, key, &entry).await {
            Ok(entry) => Ok(Some(entry.into_value())),
            Err(error) if error.kind() == ErrorKind::Corrupt => Err(error),
            Err(_) => Ok(None),
        }
    }

    /// A key whose listing does not tell: the head of its value is read.
    async fn looked_up(&self, key: &Key, options: &ListOptions, listed: Listed) -> Result<Option<Listed>> {
        let read = ReadOptions::new().tombstones(options.tombstones);
        let opened = match self.open(key, &read).await {
            // A note of absence may be older than the listing.
            Ok(None) => self.open(key, &read.authoritative()).await,
            opened => opened,
        };
        match opened {
            Ok(Some((metadata, head))) => {
                let metadata = outside(&metadata, head.shown())?;
                // A listing says no more than the store inside lists, but for the size.
                let is_same =
                    listed.version.as_ref().is_none_or(|version: &Version| *version == metadata.version);
                let mut seen = Listed::with_metadata(key.clone(), metadata);
                if is_same {
                    seen.validator = listed.validator;
                }
                Ok(Some(seen))
            }
            Ok(None) => Ok(None),
            // Without the key of a cipher the size still tells itself.
            Err(error) if error.kind() == ErrorKind::Config => match self.0.codec.size_of(listed.size) {
                Some(size) => {
                    let facts = Facts { size, checksum: None };
                    let metadata = listed.metadata.as_deref().map(|metadata| outside(metadata, facts));
                    let mut listed = listed;
                    (listed.size, listed.metadata) = (size, metadata.transpose()?);
                    Ok(Some(listed))
                }
                None => Err(error),
            },
            Err(error) => Err(error),
        }
    }
}

/// What cannot be read of one key is that key's, and the listing goes on. What concerns the store inside ends it.
fn damaged(key: &Key, error: Error) -> Error {
    match error.kind() {
        ErrorKind::Foreign | ErrorKind::Unsupported | ErrorKind::Config => {
            Error::new(ErrorKind::Corrupt, "the value cannot be read, so its size is not known")
                .with_source(error)
                .for_key(key)
        }
        _ => error,
    }
}
