//! Listing one level: keys up to a delimiter, and folders.

use std::pin::Pin;

use futures_util::{Stream, StreamExt as _, stream};
use tiered_core::{Error, ErrorKind, Key, ListOptions, ListStream, Listed, Operation, Result, Store};

/// How many keys of one folder are passed over before the listing goes on behind the folder.
const PASSED: u32 = 8;
/// How many keys are asked for at first, and where that was not enough, at most.
const PAGES: (usize, usize) = (16, 1024);
/// No key of the folder that begins otherwise is greater.
const GREATEST: char = char::MAX;

/// What is directly under a prefix.
///
/// # Examples
/// ```
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// use futures_util::TryStreamExt;
/// use tiered_core::{MemoryStore, StoreExt};
/// use tiered_values::{Child, StoreTools};
///
/// let store = MemoryStore::new();
/// for key in ["a", "docs/1", "docs/2"] {
///     store.set(key, "…").await?;
/// }
/// let children: Vec<Child> = store.list_folder("", "/").try_collect().await?;
/// for child in children {
///     match child {
///         Child::Key(listed) => println!("{} has {} bytes", listed.key, listed.size),
///         Child::Folder(prefix) => println!("{prefix} has more below it"),
///         _ => {}
///     }
/// }
/// # Ok::<(), tiered_core::Error>(()) }).unwrap();
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Child {
    /// A key without the delimiter behind the prefix.
    Key(Listed),
    /// What several keys, or one, have in common: the prefix, and the key up to the next delimiter, which is included.
    Folder(String),
}

struct Level<'s, S: ?Sized> {
    store: &'s S,
    prefix: String,
    delimiter: String,
    listing: ListStream,
    /// How many keys this listing was asked for, and how many it has answered so far.
    asked: usize,
    answered: usize,
    last: Option<Key>,
    folder: Option<String>,
    /// How many keys of this folder were passed over by reading them.
    passed: u32,
}

/// The children of a prefix, in order.
pub(super) fn list<'s, S: Store + ?Sized>(
    store: &'s S,
    prefix: &str,
    delimiter: &str,
) -> Pin<Box<dyn Stream<Item = Result<Child>> + Send + 's>> {
    if delimiter.is_empty() {
        let error = Error::new(ErrorKind::InvalidInput, "the delimiter is empty; name one, such as \"/\"");
        return Box::pin(stream::iter([Err(error.during(Operation::List))]));
    }
    let level = Level {
        store,
        prefix: prefix.to_owned(),
        delimiter: delimiter.to_owned(),
        listing: store.list(ListOptions::new().prefix(prefix).limit(PAGES.0)),
        asked: PAGES.0,
        answered: 0,
        last: None,
        folder: None,
        passed: 0,
    };
    Box::pin(stream::unfold(Some(level), |level| async move {
        let mut level = level?;
        match level.next().await {
            Some(Err(error)) if error.damaged_key().is_none() => Some((Err(error), None)),
            Some(child) => Some((child, Some(level))),
            None => None,
        }
    }))
}

impl<S: Store + ?Sized> Level<'_, S> {
    async fn next(&mut self) -> Option<Result<Child>> {
        loop {
            let Some(listed) = self.listing.next().await else {
                // A page may be short before the end: a wrapper drops what was deleted meanwhile.
                if self.answered == 0 {
                    return None;
                }
                let after = self.last.clone()?;
                self.go_on_after(after, self.asked.saturating_mul(2).min(PAGES.1));
                continue;
            };
            self.answered += 1;
            let key = match &listed {
                Ok(listed) => listed.key.clone(),
                Err(error) => match error.damaged_key() {
                    Some(key) => key.clone(),
                    None => return Some(listed.map(Child::Key)),
                },
            };
            self.last = Some(key.clone());
            let Some(folder) = self.folder_of(&key) else { return Some(listed.map(Child::Key)) };
            if self.folder.as_ref() != Some(&folder) {
                self.folder = Some(folder.clone());
                self.passed = 0;
                return Some(Ok(Child::Folder(folder)));
            }
            self.passed += 1;
            if self.passed == PASSED
                && let Some(after) = self.end_of(&folder)
            {
                self.go_on_after(after, PAGES.0);
            }
        }
    }

    fn go_on_after(&mut self, after: Key, limit: usize) {
        self.listing =
            self.store.list(ListOptions::new().prefix(&self.prefix).start_after(after).limit(limit));
        (self.asked, self.answered) = (limit, 0);
    }

    /// The folder that a key is in; `None` where it is directly under the prefix.
    fn folder_of(&self, key: &Key) -> Option<String> {
        let rest = key.as_str().strip_prefix(&self.prefix)?;
        let at = rest.find(&self.delimiter)?;
        key.as_str().get(..self.prefix.len() + at + self.delimiter.len()).map(str::to_owned)
    }

    /// A key behind those of a folder, and before all others. The few that may lie behind it are passed over by reading, and so
    /// is a folder whose name is as long as a key may be.
    fn end_of(&self, folder: &str) -> Option<Key> {
        let end = Key::new(format!("{folder}{GREATEST}")).ok()?;
        (end.len() <= self.store.capabilities().max_key()).then_some(end)
    }
}
