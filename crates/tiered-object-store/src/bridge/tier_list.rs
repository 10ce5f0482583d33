//! Listings of a tier: in order, which is checked or made.

use std::sync::Arc;

use futures_util::stream::BoxStream;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use tiered_core::{Error, ErrorKind, Key, ListOptions, ListStream, Listed, Operation, Result};

use super::failure::Failed;
use super::head::Head;
use super::object_store::{Attributes, ObjectMeta, ObjectStore as _};
use super::tier::{ObjectTier, whole};
use crate::Order;

type Found = BoxStream<'static, super::object_store::Result<ObjectMeta>>;

/// Where a listing is.
struct Cursor {
    tier: ObjectTier,
    options: ListOptions,
    /// What was not listed yet; `None` before the first key is asked for.
    found: Option<Found>,
    last: Option<Key>,
    left: usize,
}

impl ObjectTier {
    pub(super) fn list_entries(&self, options: ListOptions) -> ListStream {
        let left = options.limit.unwrap_or(usize::MAX);
        let cursor = Cursor { tier: self.clone(), options, found: None, last: None, left };
        Box::pin(stream::unfold(Some(cursor), |cursor| async move {
            let mut cursor = cursor?;
            match cursor.next().await {
                Ok(Some(listed)) => Some((Ok(listed), Some(cursor))),
                Ok(None) => None,
                Err(error) => Some((Err(cursor.tier.failed(error, Operation::List)), None)),
            }
        }))
    }

    /// All objects that may be asked for: those in the folder that the prefix leads to.
    fn find(&self, options: &ListOptions) -> Found {
        let begin = self.written(&options.prefix);
        let folder = begin.rsplit_once('/').map_or("", |(folder, _)| folder);
        let Some(folder) = whole(folder) else {
            // No object is there.
            return stream::empty().boxed();
        };
        let prefix = Some(&folder).filter(|folder| !folder.is_root());
        let after = options.start_after.as_ref().and_then(|key| whole(&self.written(key.as_str())));
        // What lies behind this begins with the prefix soon.
        let mut start = begin.clone();
        start.pop();
        let after = after.max(whole(&start).filter(|_| start.len() > folder.as_ref().len()));
        match after.filter(|_| self.order() == Order::Checked) {
            Some(after) => self.objects().list_with_offset(prefix, &after),
            None => self.objects().list(prefix),
        }
    }

    fn listed(&self, key: Key, object: &ObjectMeta) -> Result<Listed> {
        if self.keeps() {
            let validator =
                object.e_tag.as_deref().and_then(|etag| tiered_core::adapter::Validator::new(etag).ok());
            return Ok(Listed::new(key, object.size).with_validator(validator));
        }
        let head = Head::of(object, &Attributes::new()).map_err(Failed::into_error)?;
        Ok(Listed::with_metadata(key, Arc::new(head.metadata(None))))
    }
}

impl Cursor {
    async fn next(&mut self) -> Result<Option<Listed>> {
        self.tier.check_open(Operation::List)?;
        if self.left == 0 {
            return Ok(None);
        }
        let mut found = match self.found.take() {
            Some(found) => found,
            None => begin(&self.tier, self.tier.find(&self.options)).await?,
        };
        while let Some(object) = found.next().await {
            let object = object.map_err(|error| Failed::from(error).into_error())?;
            let Some(key) = self.tier.key(&object.location) else { continue };
            if self.last.as_ref().is_some_and(|last| key <= *last) {
                return Err(Error::new(
                    ErrorKind::Unsupported,
                    "the object store does not list in the order of bytes; open the tier with Order::Sorted",
                ));
            }
            self.last = Some(key.clone());
            if self.options.contains(&key) {
                self.left -= 1;
                self.found = Some(found);
                return self.tier.listed(key, &object).map(Some);
            }
            if key.as_str() > self.options.prefix.as_str() && !key.as_str().starts_with(&self.options.prefix)
            {
                // Nothing behind it begins with the prefix.
                return Ok(None);
            }
        }
        self.left = 0;
        Ok(None)
    }
}

/// Keys as they are found, or sorted.
async fn begin(tier: &ObjectTier, found: Found) -> Result<Found> {
    if tier.order() == Order::Checked {
        return Ok(found);
    }
    let mut all: Vec<ObjectMeta> =
        found.try_collect().await.map_err(|error| Failed::from(error).into_error())?;
    all.sort_unstable_by(|a, b| a.location.cmp(&b.location));
    all.dedup_by(|a, b| a.location == b.location);
    Ok(stream::iter(all.into_iter().map(Ok)).boxed())
}
