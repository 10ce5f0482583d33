//! Listings: page by page, each by a statement of its own, so that the server keeps nothing between them.

use std::sync::Arc;

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use sqlx::postgres::PgRow;
use tiered_core::adapter::{Tombstones, prefix_end};
use tiered_core::{Entry, ListOptions, ListStream, Listed, Operation, Result};
use tokio::task::JoinHandle;

use crate::client::{Purpose, gone};
use crate::row::{self, Found, Stored, now};
use crate::store::PostgresStore;

/// Keys in a page: some hundred kilobytes, one round trip.
const PAGE: usize = 1_000;

/// A larger value may lie outside of its row, in bytes: listing it would read it.
const IN_ROW: i64 = 2_000;

/// After so many pages the next one is asked for ahead: who has read the second page will read on.
const AHEAD_FROM: usize = 2;

/// No key has such a byte: what is below it is every key.
const BEHIND_ALL: &[u8] = &[u8::MAX];

/// A page, and where the listing goes on; nowhere at its end.
type Page = (Vec<Result<Listed>>, Option<ListOptions>);

/// A listing, between two pages.
struct Pages {
    store: PostgresStore,
    /// Where it goes on.
    next: Option<ListOptions>,
    /// The page there, where it was asked for ahead.
    ahead: Option<JoinHandle<Page>>,
    /// Pages that were read.
    read: usize,
}

impl Pages {
    async fn next(&mut self) -> Option<Vec<Result<Listed>>> {
        let (page, next) = match self.ahead.take() {
            Some(ahead) => {
                let lost = |error| (vec![Err(self.store.failed(gone(error), Operation::List))], None);
                ahead.await.unwrap_or_else(lost)
            }
            None => self.store.clone().page(self.next.take()?).await,
        };
        self.read += 1;
        if self.read >= AHEAD_FROM {
            // The server reads it while this one is used.
            let runtime = self.store.0.client.runtime();
            self.ahead = next.map(|next| runtime.spawn(self.store.clone().page(next)));
        } else {
            self.next = next;
        }
        Some(page)
    }
}

impl PostgresStore {
    pub(crate) fn list_entries(&self, options: ListOptions) -> ListStream {
        let pages = Pages { store: self.clone(), next: Some(options), ahead: None, read: 0 };
        let pages = stream::unfold(pages, |mut pages| async move { Some((pages.next().await?, pages)) });
        Box::pin(pages.flat_map(stream::iter::<Vec<Result<Listed>>>))
    }

    async fn page(self, mut options: ListOptions) -> Page {
        let size = options.limit.map_or(PAGE, |limit| limit.min(PAGE));
        if size == 0 {
            return (Vec::new(), None);
        }
        let failed = |error| self.failed(error, Operation::List);
        let page = match self.rows_of_page(&options, size).await {
            Ok(page) => page,
            Err(error) => return (vec![Err(failed(error))], None),
        };
        let whole = page.len() == size;
        // A row whose key is damaged ends the listing: the error could not name its key.
        let page = up_to_unnamed(page);
        let last = match page.last() {
            Some(Ok(listed)) => Some(listed.key.clone()),
            Some(Err(error)) => error.key().cloned(),
            None => None,
        };
        let next = last.filter(|_| whole).map(|last| {
            options.start_after = Some(last);
            options.limit = options.limit.map(|limit| limit - size);
            options
        });
        (page.into_iter().map(|listed| listed.map_err(failed)).collect(), next)
    }

    /// What a page has; what is damaged in it is an error in its place.
    async fn rows_of_page(&self, options: &ListOptions, size: usize) -> Result<Vec<Result<Listed>>> {
        self.check_open(Operation::List)?;
        let values = options.values.map_or(-1, |up_to| i64::try_from(up_to).unwrap_or(i64::MAX).min(IN_ROW));
        let (statement, now) = (self.0.statements.list.clone(), now(self.0.stamp.now()));
        let (from, to) = bounds(options);
        let shows_tombstones = options.tombstones == Tombstones::Show;
        let page = self.0.client.run(Purpose::Read, move |connection| {
            let (statement, from, to) = (statement.clone(), from.clone(), to.clone());
            Box::pin(async move {
                let query = statement.query().bind(from).bind(now).bind(to).bind(shows_tombstones);
                let query = query.bind(i64::try_from(size).unwrap_or(i64::MAX)).bind(values);
                let (mut rows, mut page) = (query.fetch(connection), Vec::with_capacity(size));
                // A row is read while the server sends the next ones.
                while let Some(row) = rows.try_next().await? {
                    page.push(listed(&row));
                }
                Ok(page)
            })
        });
        page.await
    }
}

/// The first key that a listing may have, and what lies behind its last one.
fn bounds(options: &ListOptions) -> (Vec<u8>, Vec<u8>) {
    let prefix = options.prefix.as_bytes().to_vec();
    let to = prefix_end(&prefix).unwrap_or_else(|| BEHIND_ALL.to_vec());
    // Nothing lies between a key and the same with a zero byte behind it.
    let after = options.start_after.as_ref().map(|after| [after.as_str().as_bytes(), &[0]].concat());
    let from = match after {
        Some(after) => after.max(prefix),
        None => prefix,
    };
    (from, to)
}

fn listed(row: &PgRow) -> Result<Listed> {
    let (key, Found { metadata, stored }) = row::entry(row)?;
    let value = match stored {
        Stored::Here(value) => {
            let entry = Entry::from_parts(value, Arc::clone(&metadata));
            entry.verify().map_err(|error| error.for_key(&key))?;
            Some(entry.into_value())
        }
        Stored::Apart(_) | Stored::Unread => None,
    };
    Ok(Listed::with_metadata(key, metadata).with_value(value))
}

/// A page up to its first error that names no key.
fn up_to_unnamed(mut page: Vec<Result<Listed>>) -> Vec<Result<Listed>> {
    let unnamed = |listed: &Result<Listed>| listed.as_ref().is_err_and(|error| error.key().is_none());
    if let Some(end) = page.iter().position(unnamed) {
        page.truncate(end + 1);
    }
    page
}

#[cfg(test)]
mod tests {
    use tiered_core::{Error, ErrorKind, Key};

    use super::*;

    fn key(name: &str) -> Key {
        Key::new(name).expect("valid")
    }

    #[test]
    fn a_page_ends_at_a_damaged_key() {
        let damaged = || Error::new(ErrorKind::Corrupt, "damaged");
        let page = vec![Err(damaged().for_key(&key("k"))), Err(damaged()), Err(damaged().for_key(&key("k")))];
        assert_eq!(up_to_unnamed(page).len(), 2);
    }

    #[test]
    fn a_listing_is_between_two_keys() {
        let after = |prefix: &str, name| bounds(&ListOptions::new().prefix(prefix).start_after(key(name)));
        let all = (Vec::new(), vec![u8::MAX]);
        assert_eq!(bounds(&ListOptions::new()), all);
        assert!(key(&"\u{10ffff}".repeat(9)).as_str().as_bytes() < BEHIND_ALL);
        assert_eq!(bounds(&ListOptions::new().prefix("a/")), (b"a/".to_vec(), b"a0".to_vec()));
        assert_eq!(after("a/", "a/b"), (b"a/b\0".to_vec(), b"a0".to_vec()));
        assert_eq!(after("a/", "a"), (b"a/".to_vec(), b"a0".to_vec()), "the prefix begins later");
        assert_eq!(after("a/", "b"), (b"b\0".to_vec(), b"a0".to_vec()), "nothing is between them");
        assert_eq!(after("", "a"), (b"a\0".to_vec(), vec![u8::MAX]));
    }
}
