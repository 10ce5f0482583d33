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

    /// What a listing said. An error that is no damage of an entry is one of the listing.
    fn of(listed: Result<Listed>) -> Result<Self> {
        match listed {
            Ok(listed) => Ok(Self::Listed(listed)),
            Err(error) => match error.damaged_key().cloned() {
                Some(key) => Ok(Self::Damaged(key, error)),
                None => Err(error),
            },
        }
    }
}

/// What a listing that begins with `key`, if there is such a key, says of it.
pub(super) async fn look_at(key: &Key, mut listing: ListStream) -> Result<Option<Seen>> {
    let first = listing.next().await.map(Seen::of).transpose()?;
    Ok(first.filter(|seen| seen.key() == key))
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
            let seen = Seen::of(listed)?;
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
    pub(super) fn of((source, target): (Option<Seen>, Option<Seen>)) -> Self {
        Self { source, target }
    }

    /// The key, unless neither side has one.
    pub(super) fn key(&self) -> Option<&Key> {
        self.source.as_ref().or(self.target.as_ref()).map(Seen::key)
    }

    pub(super) const fn source(&self) -> Option<&Seen> {
        self.source.as_ref()
    }

    pub(super) const fn target(&self) -> Option<&Seen> {
        self.target.as_ref()
    }

    /// Without the version that the target lists.
    pub(super) fn without_version(mut self) -> Self {
        if let Some(Seen::Listed(listed)) = &mut self.target {
            listed.version = None;
        }
        self
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

#[cfg(test)]
mod tests {
    use futures_util::{FutureExt as _, stream};

    use super::*;

    fn key(name: &str) -> Key {
        Key::new(name).expect("valid")
    }

    /// `!x` is a damaged entry under `x`, `?` an error of the store.
    fn listing(names: &[&str]) -> ListStream {
        let listed: Vec<_> = names
            .iter()
            .map(|name| match (*name, name.strip_prefix('!')) {
                ("?", _) => Err(Error::new(ErrorKind::Unavailable, "gone")),
                (_, Some(name)) => Err(Error::new(ErrorKind::Corrupt, "damaged").for_key(&key(name))),
                (name, None) => Ok(Listed::new(key(name), 1)),
            })
            .collect();
        stream::iter(listed).boxed()
    }

    fn merged(source: &[&str], target: &[&str]) -> Result<Vec<(Option<String>, Option<String>)>> {
        let mut merge = Merge::new(listing(source), listing(target));
        let name = |seen: Option<&Seen>| {
            seen.map(|seen| match seen {
                Seen::Listed(listed) => listed.key.to_string(),
                Seen::Damaged(key, _) => format!("!{key}"),
            })
        };
        let mut pairs = Vec::new();
        while let Some(pair) = merge.next().now_or_never().expect("nothing to wait for")? {
            pairs.push((name(pair.source()), name(pair.target())));
            let (source, target) = pair.into_sides();
            assert_eq!(
                (name(source.as_ref()), name(target.as_ref())),
                pairs.last().cloned().expect("pushed")
            );
        }
        Ok(pairs)
    }

    fn pair(source: Option<&str>, target: Option<&str>) -> (Option<String>, Option<String>) {
        (source.map(str::to_owned), target.map(str::to_owned))
    }

    #[test]
    fn keys_come_in_order_each_once_with_the_sides_that_have_it() {
        let pairs = merged(&["a", "c", "d"], &["b", "c", "e", "f"]).expect("in order");
        let expected = [
            pair(Some("a"), None),
            pair(None, Some("b")),
            pair(Some("c"), Some("c")),
            pair(Some("d"), None),
            pair(None, Some("e")),
            pair(None, Some("f")),
        ];
        assert_eq!(pairs, expected);
        assert!(merged(&[], &[]).expect("empty").is_empty());
    }

    #[test]
    fn a_damaged_entry_takes_its_place_in_the_order() {
        let pairs = merged(&["!a", "b"], &["a", "!b"]).expect("in order");
        assert_eq!(pairs, [pair(Some("!a"), Some("a")), pair(Some("b"), Some("!b"))]);
    }

    #[test]
    fn a_look_at_a_key_finds_that_key_alone() {
        let seen = |names: &[&str]| {
            look_at(&key("b"), listing(names))
                .now_or_never()
                .expect("nothing to wait for")
                .map(|seen| seen.map(|seen| (seen.key().to_string(), matches!(seen, Seen::Damaged(..)))))
        };
        assert_eq!(seen(&["b", "c"]).expect("listed"), Some(("b".to_owned(), false)));
        assert_eq!(seen(&["!b"]).expect("listed"), Some(("b".to_owned(), true)));
        assert_eq!(seen(&["c"]).expect("listed"), None);
        assert_eq!(seen(&[]).expect("listed"), None);
        assert_eq!(seen(&["?"]).expect_err("gone").kind(), ErrorKind::Unavailable);
    }

    #[test]
    fn a_pair_has_the_key_of_either_side() {
        let seen = |name: &str| Some(Seen::Listed(Listed::new(key(name), 1)));
        assert_eq!(Pair::of((seen("a"), None)).key(), Some(&key("a")));
        assert_eq!(Pair::of((None, seen("b"))).key(), Some(&key("b")));
        assert_eq!(Pair::of((seen("c"), seen("c"))).key(), Some(&key("c")));
        assert_eq!(Pair::of((None, None)).key(), None);
    }

    #[test]
    fn a_listing_out_of_order_or_with_a_key_twice_is_an_error_that_names_the_side() {
        for wrong in [&["b", "a"][..], &["a", "a"], &["a", "!a"]] {
            for (side, merged) in [("source", merged(wrong, &[])), ("target", merged(&[], wrong))] {
                let error = merged.expect_err("out of order");
                assert_eq!(error.kind(), ErrorKind::Corrupt);
                assert!(error.message().contains(side), "{error}");
                assert_eq!(error.key(), Some(&key("a")));
            }
        }
    }

    #[test]
    fn an_error_of_a_store_ends_the_merge() {
        assert_eq!(merged(&["a", "?"], &["b"]).expect_err("gone").kind(), ErrorKind::Unavailable);
        assert_eq!(merged(&["a"], &["?"]).expect_err("gone").kind(), ErrorKind::Unavailable);
    }
}
