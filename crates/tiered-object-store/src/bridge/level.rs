//! One level of a listing: objects directly below a prefix, and folders, whose keys are passed over.

use async_trait::async_trait;
use futures_util::StreamExt as _;
use tiered_core::{Key, ListOptions, Listed};

use super::list::{folder, path_of};
use super::object_store::list::{PaginatedListOptions, PaginatedListResult, PaginatedListStore};
use super::object_store::path::Path;
use super::object_store::{ListResult, Result};
use super::view::ObjectView;
use super::{error, list_result};

/// The delimiter of paths.
const DELIMITER: char = '/';

/// How many keys of one folder are read before the listing goes on behind the folder.
const PASSED: u32 = 8;

/// What stands at the end of a page: tokens say whether it is an object or a folder.
const AFTER_OBJECT: &str = "o:";
const AFTER_FOLDER: &str = "f:";

/// Where a listing of a level is.
#[derive(Default)]
struct Level {
    prefix: String,
    after: Option<Key>,
    /// Without them, keys are listed however deep they lie.
    folders: bool,
    /// Objects and folders, at most.
    limit: Option<usize>,
    objects: Vec<Listed>,
    found: Vec<String>,
    /// The last of them.
    last: Option<String>,
    last_folder: Option<String>,
}

impl Level {
    /// The folder that a key is in, with the delimiter; `None` where it is directly below the prefix.
    fn folder_of(&self, key: &Key) -> Option<String> {
        let rest = key.as_str().strip_prefix(&self.prefix).filter(|_| self.folders)?;
        let at = rest.find(DELIMITER)?;
        key.as_str().get(..=self.prefix.len() + at).map(str::to_owned)
    }

    fn is_full(&self) -> bool {
        self.limit.is_some_and(|limit| self.objects.len() + self.found.len() >= limit)
    }

    /// Lists until the end, or until a page is full and there is more; returns true for that.
    async fn fill(&mut self, view: &ObjectView) -> Result<bool> {
        'listing: loop {
            let mut options = ListOptions::new().prefix(&self.prefix);
            options.start_after = self.after.take();
            let mut listing = view.store().list(options);
            let mut passed = 0;
            while let Some(listed) = listing.next().await {
                let listed = listed.map_err(error::of_listing)?;
                if path_of(&listed.key).is_none() {
                    continue;
                }
                let folder = self.folder_of(&listed.key);
                if folder.is_some() && folder == self.last_folder {
                    passed += 1;
                    let end = folder.filter(|_| passed == PASSED).and_then(|folder| end_of(&folder, view));
                    if end.is_some() {
                        self.after = end;
                        continue 'listing;
                    }
                    continue;
                }
                if self.is_full() {
                    return Ok(true);
                }
                if let Some(folder) = folder {
                    self.last = Some(format!("{AFTER_FOLDER}{folder}"));
                    self.found.push(folder.clone());
                    self.last_folder = Some(folder);
                    passed = 0;
                } else {
                    self.last = Some(format!("{AFTER_OBJECT}{}", listed.key));
                    self.objects.push(listed);
                }
            }
            return Ok(false);
        }
    }

    async fn into_result(self, view: &ObjectView) -> Result<ListResult> {
        let prefixes = self.found.iter().filter_map(|folder| Path::parse(folder).ok()).collect();
        Ok(list_result(view.look_at_all(self.objects).await?, prefixes))
    }
}

/// A key behind those of a folder and before all others. The few that may lie behind it are passed over by reading.
fn end_of(folder: &str, view: &ObjectView) -> Option<Key> {
    let end = Key::new(format!("{folder}{}", char::MAX)).ok()?;
    (end.len() <= view.store().capabilities().max_key()).then_some(end)
}

impl ObjectView {
    pub(super) async fn list_level(&self, prefix: Option<&Path>) -> Result<ListResult> {
        let mut level = Level { prefix: folder(prefix), folders: true, ..Level::default() };
        level.fill(self).await?;
        level.into_result(self).await
    }
}

#[async_trait]
impl PaginatedListStore for ObjectView {
    async fn list_paginated(
        &self,
        prefix: Option<&str>,
        opts: PaginatedListOptions,
    ) -> Result<PaginatedListResult> {
        if opts.delimiter.as_ref().is_some_and(|delimiter| delimiter != "/") {
            return Err(error::unsupported("the delimiter of paths is /"));
        }
        let key = |text: &str| Key::new(text).map_err(|failed| error::generic(failed.message()));
        let mut level = Level {
            prefix: prefix.unwrap_or_default().to_owned(),
            folders: opts.delimiter.is_some(),
            limit: opts.max_keys,
            after: opts.offset.as_deref().map(key).transpose()?,
            ..Level::default()
        };
        if let Some(token) = &opts.page_token {
            let no_token = || error::generic("the page token is none of this store");
            if let Some(object) = token.strip_prefix(AFTER_OBJECT) {
                level.after = Some(key(object)?);
            } else {
                let folder = token.strip_prefix(AFTER_FOLDER).ok_or_else(no_token)?;
                level.after = Some(match end_of(folder, self) {
                    Some(end) => end,
                    None => key(folder)?,
                });
                level.last_folder = Some(folder.to_owned());
            }
        }
        let has_more = level.fill(self).await?;
        let page_token = level.last.clone().filter(|_| has_more);
        Ok(PaginatedListResult { result: level.into_result(self).await?, page_token })
    }
}
