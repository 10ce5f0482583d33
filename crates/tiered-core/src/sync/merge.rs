//! The merge-join of two ordered listings.

use std::cmp::Ordering;

use futures_util::StreamExt as _;
use futures_util::stream::Fuse;

use crate::error::{Error, ErrorKind, Result};
use crate::key::Key;
use crate::list::{ListStream, Listed};

/// What a listing says of a key.
#[derive(Debug)]
pub(super) enum Seen {
    Listed(Listed),
    /// Its entry is damaged, and this is the error.
    Damaged(Key, Error),
}

impl Seen {
    pub(super) fn key(&self) -> &Key {
        match self {
            Self::Listed(listed) => &listed.key,
            Self::Damaged(key, _) => key,
        }
    }
}

/// A listing with one key looked ahead, that checks its order.
struct Side {
    name: &'static str,
    stream: Fuse<ListStream>,
    ahead: Option<Seen>,
    last: Option<Key>,
}

impl Side {
    fn new(name: &'static str, stream: ListStream) -> Self {
        Self { name, stream: stream.fuse(), ahead: None, last: None }
    }

    async fn look(&mut self) -> Result<Option<&Key>> {
        if self.ahead.is_none()
            && let Some(listed) = self.stream.next().await
        {
            let seen = match listed {
                Ok(listed) => Seen::Listed(listed),
                Err(error) => match error.damaged_key().cloned() {
                    Some(key) => Seen::Damaged(key, error),
                    None => return Err(error),
                },
            };
            // A store that lists out of order would make extras of keys that are there.
            if self.last.as_ref().is_some_and(|last| last >= seen.key()) {
                return Err(Error::new(
                    ErrorKind::Corrupt,
                    format!("the listing of the {} is not in the order of its keys", self.name),
                )
                .for_key(seen.key()));
            }
            self.last = Some(seen.key().clone());
            self.ahead = Some(seen);
        }
        Ok(self.ahead.as_ref().map(Seen::key))
    }
}

/// A key, with what either side lists of it.
#[derive(Debug)]
pub(super) struct Pair {
    source: Option<Seen>,
    target: Option<Seen>,
}

impl Pair {
    pub(super) const fn source(&self) -> Option<&Seen> {
        self.source.as_ref()
    }

    pub(super) const fn target(&self) -> Option<&Seen> {
        self.target.as_ref()
    }

    /// The source's side and the target's.
    pub(super) fn into_sides(self) -> (Option<Seen>, Option<Seen>) {
        (self.source, self.target)
    }
}

/// Two ordered listings, read side by side.
pub(super) struct Merge {
    source: Side,
    target: Side,
}

impl Merge {
    pub(super) fn new(source: ListStream, target: ListStream) -> Self {
        Self { source: Side::new("source", source), target: Side::new("target", target) }
    }

    /// The next key of either side.
    pub(super) async fn next(&mut self) -> Result<Option<Pair>> {
        let order = match (self.source.look().await?, self.target.look().await?) {
            (None, None) => return Ok(None),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(source), Some(target)) => source.cmp(target),
        };
        let source = if order == Ordering::Greater { None } else { self.source.ahead.take() };
        let target = if order == Ordering::Less { None } else { self.target.ahead.take() };
        Ok(Some(Pair { source, target }))
    }
}
