//! `check`.

use std::cmp::Ordering;

use futures_util::StreamExt as _;
use serde::Serialize;
use tiered::{Error, Key, ListOptions, ListStream, Listed, ReadOptions, Schemes, Store};

use super::closing;
use crate::arguments::{Chosen, Patterns};
use crate::exit::{DIFFERENT, Failure, OK};
use crate::progress::Progress;
use crate::{output, stack};

#[derive(Debug, Serialize)]
struct Line<'a> {
    key: &'a str,
    kind: &'static str,
}

pub(super) async fn run(
    schemes: &Schemes,
    from: &str,
    to: &str,
    chosen: &Chosen,
    values: bool,
    json: bool,
) -> Result<u8, Failure> {
    let patterns = chosen.patterns().map_err(Failure::Usage)?;
    if stack::same(from, to) {
        return Err(Failure::Usage(format!(
            "{} is both sides; name two stores",
            stack::without_secrets(from)
        )));
    }
    let from = stack::read_alone(schemes, from).await?;
    let to = match stack::read_alone(schemes, to).await {
        Ok(to) => to,
        Err(error) => return closing(&*from, Err(error)).await,
    };
    let range = Range { prefix: chosen.prefix.clone(), patterns, ..Range::default() };
    let found = compare(&*from, &*to, &range, values, json).await;
    let found = closing(&*to, found).await;
    Ok(closing(&*from, found).await?.code())
}

/// The keys that are compared.
#[derive(Default)]
pub(super) struct Range {
    pub(super) prefix: String,
    pub(super) after: Option<Key>,
    pub(super) through: Option<Key>,
    pub(super) patterns: Patterns,
    /// Kinds of difference that are as they should be.
    pub(super) allowed: &'static [&'static str],
}

impl Range {
    /// Whether the listing has come to its end.
    fn is_beyond(&self, key: &Key) -> bool {
        self.through.as_ref().is_some_and(|through| key > through)
    }
}

/// One key of a listing.
enum Seen {
    Good(Listed),
    Damaged(Key),
}

impl Seen {
    fn key(&self) -> &Key {
        match self {
            Self::Good(listed) => &listed.key,
            Self::Damaged(key) => key,
        }
    }
}

/// One side, key by key. A damaged key is reported on standard error.
struct Side {
    listing: ListStream,
    /// The current key; `None` at the end.
    seen: Option<Seen>,
}

impl Side {
    async fn begin(store: &dyn Store, range: &Range) -> Result<Self, Failure> {
        let mut options = ListOptions::new().prefix(range.prefix.clone());
        options.start_after.clone_from(&range.after);
        let mut side = Self { listing: store.list(options), seen: None };
        side.advance(range).await?;
        Ok(side)
    }

    /// Goes on to the next key of the range.
    async fn advance(&mut self, range: &Range) -> Result<(), Failure> {
        loop {
            let seen = match self.listing.next().await {
                None => None,
                Some(Ok(listed)) => Some(Seen::Good(listed)),
                Some(Err(error)) => Some(Seen::Damaged(damaged_key(error)?)),
            };
            self.seen = seen.filter(|seen| !range.is_beyond(seen.key()));
            if self.seen.as_ref().is_none_or(|seen| range.patterns.admit(seen.key().as_str())) {
                return Ok(());
            }
        }
    }
}

/// Reports a damaged key and returns it. Any other error fails the whole check.
fn damaged_key(error: Error) -> Result<Key, Failure> {
    match error.damaged_key() {
        Some(key) => {
            output::complain(&format!("damaged: {}", error.chain()));
            Ok(key.clone())
        }
        None => Err(error.into()),
    }
}

/// The result of a check.
#[derive(Default)]
pub(super) struct Found {
    differences: u64,
    /// Of those, keys that are damaged on a side.
    damaged: u64,
}

impl Found {
    /// Says what differs, and how the command ends by it.
    pub(super) fn code(&self) -> u8 {
        let Self { differences, damaged } = self;
        match (differences, damaged) {
            (0, _) => return OK,
            (_, 0) => output::complain(&format!("{differences} keys differ")),
            _ => output::complain(&format!("{differences} keys differ, {damaged} of them are damaged")),
        }
        DIFFERENT
    }
}

/// Compares two stores, and prints the keys that differ.
pub(super) async fn compare(
    from: &dyn Store,
    to: &dyn Store,
    range: &Range,
    values: bool,
    json: bool,
) -> Result<Found, Failure> {
    let mut lines = output::Lines::new();
    let progress = Progress::new("compared");
    let mut compared = 0;
    let (mut ours, mut theirs) = (Side::begin(from, range).await?, Side::begin(to, range).await?);
    let mut found = Found::default();
    loop {
        let (key, order) = match (&ours.seen, &theirs.seen) {
            (None, None) => {
                lines.finish()?;
                return Ok(found);
            }
            (Some(our), None) => (our.key(), Ordering::Less),
            (None, Some(their)) => (their.key(), Ordering::Greater),
            (Some(our), Some(their)) => (our.key().min(their.key()), our.key().cmp(their.key())),
        };
        let looked_at = match order {
            Ordering::Less => [ours.seen.as_ref(), None],
            Ordering::Greater => [None, theirs.seen.as_ref()],
            Ordering::Equal => [ours.seen.as_ref(), theirs.seen.as_ref()],
        };
        let kind = kind(from, to, looked_at, values).await?;
        if let Some(kind) = kind.filter(|kind| !range.allowed.contains(kind)) {
            found.differences += 1;
            found.damaged += u64::from(kind == DAMAGED);
            if json {
                lines.json(&Line { key: key.as_str(), kind })?;
            } else {
                lines.text(&format!("{kind} {key}"))?;
            }
        }
        compared += 1;
        progress.show(compared);
        if order != Ordering::Greater {
            ours.advance(range).await?;
        }
        if order != Ordering::Less {
            theirs.advance(range).await?;
        }
    }
}

/// The kind of a key that is damaged on a side.
const DAMAGED: &str = "damaged";
/// Of a key that both sides have.
pub(super) const DIFFERS: &str = "differs";
/// Of a key that only the second side has.
pub(super) const EXTRA: &str = "extra";

/// How the first key of the two sides differs.
async fn kind(
    from: &dyn Store,
    to: &dyn Store,
    looked_at: [Option<&Seen>; 2],
    values: bool,
) -> Result<Option<&'static str>, Failure> {
    Ok(match looked_at {
        [Some(Seen::Damaged(_)), _] | [_, Some(Seen::Damaged(_))] => Some(DAMAGED),
        [Some(Seen::Good(our)), Some(Seen::Good(their))] => {
            match differ(from, to, our, their, values).await {
                Ok(differ) => differ.then_some(DIFFERS),
                Err(error) => {
                    damaged_key(error)?;
                    Some(DAMAGED)
                }
            }
        }
        [Some(_), None] => Some("missing"),
        [None, Some(_)] => Some(EXTRA),
        [None, None] => None,
    })
}

async fn differ(
    from: &dyn Store,
    to: &dyn Store,
    our: &Listed,
    their: &Listed,
    values: bool,
) -> tiered::Result<bool> {
    if our.size != their.size {
        return Ok(true);
    }
    let fresh = ReadOptions::new().authoritative();
    if !values {
        let version = async |store: &dyn Store, listed: &Listed| match &listed.version {
            Some(version) => Ok(Some(version.clone())),
            // Some stores do not list versions.
            None => store.head(&listed.key, &fresh).await.map(|head| head.map(|known| known.version.clone())),
        };
        return Ok(version(from, our).await? != version(to, their).await?);
    }
    let ours = from.load(&our.key, &fresh).await?.into_entry();
    let theirs = to.load(&their.key, &fresh).await?.into_entry();
    Ok(ours.as_ref().map(tiered::Entry::value) != theirs.as_ref().map(tiered::Entry::value))
}
