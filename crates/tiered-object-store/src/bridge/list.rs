//! Listings.

use futures_util::stream::BoxStream;
use futures_util::{StreamExt as _, TryStreamExt as _, future, stream};
use tiered_core::{Key, ListOptions, Listed};

use super::object_store::path::Path;
use super::object_store::{Extensions, ObjectMeta, Result};
use super::view::ObjectView;
use super::{error, get};
use crate::names::UPLOADS;

/// Objects that are looked at a time where listings do not carry what is to be told of them.
const CONCURRENCY: usize = 16;

/// What the keys below a prefix begin with.
pub(super) fn folder(prefix: Option<&Path>) -> String {
    match prefix {
        Some(prefix) if !prefix.is_root() => format!("{prefix}/"),
        _ => String::new(),
    }
}

/// The path of a key; `None` where this view has none for it.
pub(super) fn path_of(key: &Key) -> Option<Path> {
    if key.as_str().starts_with(UPLOADS) {
        return None;
    }
    Path::parse(key.as_str()).ok().filter(|path| path.as_ref() == key.as_str())
}

impl ObjectView {
    pub(super) fn list_objects(
        &self,
        prefix: Option<&Path>,
        offset: Option<&Path>,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        let options = ListOptions::new().prefix(folder(prefix));
        let options = match offset.map(|offset| Key::new(offset.as_ref())) {
            Some(Ok(key)) => options.start_after(key),
            // What is no key is nowhere; what lies behind it is found below.
            Some(Err(_)) | None => options,
        };
        let (view, offset) = (self.clone(), offset.cloned());
        let found = self.store().list(options).map(move |listed| {
            let view = view.clone();
            async move {
                match listed {
                    Ok(listed) => view.look_at(listed).await,
                    Err(failed) => Err(error::of_listing(failed)),
                }
            }
        });
        let objects = found.buffered(CONCURRENCY).try_filter_map(future::ok);
        objects
            .try_filter(move |object| {
                future::ready(offset.as_ref().is_none_or(|offset| object.location > *offset))
            })
            .boxed()
    }

    /// What is to be told of a listed key; `None` where it has no path, or vanished meanwhile.
    async fn look_at(&self, listed: Listed) -> Result<Option<ObjectMeta>> {
        let Some(path) = path_of(&listed.key) else { return Ok(None) };
        if let Some(metadata) = &listed.metadata {
            return Ok(Some(get::meta(path, metadata)));
        }
        let options = self.options(&path, &Extensions::new());
        let metadata = self.store().head(&listed.key, &options).await;
        let metadata = metadata.map_err(|failed| error::of(failed, &path))?;
        Ok(metadata.map(|metadata| get::meta(path, &metadata)))
    }

    /// What is to be told of listed keys, in order.
    pub(super) async fn look_at_all(&self, listed: Vec<Listed>) -> Result<Vec<ObjectMeta>> {
        let looked = stream::iter(listed).map(|listed| self.look_at(listed)).buffered(CONCURRENCY);
        looked.try_filter_map(future::ok).try_collect().await
    }
}
