//! Where the log ends: the segment that takes the next element.

use futures_util::{Stream, StreamExt as _};
use tiered_core::{Key, ListOptions, ReadOptions, Version};

use super::segment::Segment;
use super::{Inner, Known};
use crate::error::{Error, Result};
use crate::keys::ordered;

/// A segment as the store has it.
#[derive(Clone, Debug)]
pub(super) struct Stored {
    pub(super) key: Key,
    pub(super) version: Version,
    pub(super) segment: Segment,
}

impl Stored {
    pub(super) const fn known(&self) -> Known {
        Known { first: self.segment.first, id: self.segment.id }
    }
}

/// Where the next element goes.
#[derive(Clone, Debug)]
pub(super) enum Place {
    /// Into this segment, which is not sealed.
    Open(Stored),
    /// Into a new segment of this number.
    New(u64),
}

/// What is stored under a segment's number.
enum Met {
    /// A segment of the log.
    Part(Stored),
    /// One that was trimmed, or that a delayed writer left there after the trim.
    Trimmed,
    Absent,
}

impl Place {
    /// The number of the next element.
    pub(super) fn next(&self) -> u64 {
        match self {
            Self::Open(stored) => stored.segment.end(),
            Self::New(first) => *first,
        }
    }
}

impl Inner {
    /// The segment of this number, from the authority.
    pub(super) async fn segment(&self, first: u64) -> Result<Option<Stored>> {
        self.segment_by(first, &ReadOptions::new().authoritative()).await
    }

    /// The segment of this number. A cached answer is believed where it is final: a sealed segment never changes.
    pub(super) async fn segment_to_read(&self, first: u64) -> Result<Option<Stored>> {
        let cached = self.segment_by(first, &ReadOptions::new()).await?;
        if cached.as_ref().is_some_and(|stored| stored.segment.is_sealed) {
            return Ok(cached);
        }
        self.segment(first).await
    }

    async fn segment_by(&self, first: u64, options: &ReadOptions) -> Result<Option<Stored>> {
        let key = self.segment_key(first)?;
        let Some(entry) = self.store.load(&key, options).await?.into_entry() else { return Ok(None) };
        match Segment::decode(entry.value()) {
            Ok(segment) if segment.first == first => {
                Ok(Some(Stored { key, version: entry.version().clone(), segment }))
            }
            Ok(_) => Err(Error::Damaged { key, reason: "the segment has another number than its key" }),
            Err(reason) => Err(Error::Damaged { key, reason }),
        }
    }

    /// Finds where the log ends: from the last segment that this handle knows, or by a listing.
    pub(super) async fn place(&self) -> Result<Place> {
        for _ in 0..self.attempts {
            if let Some(known) = self.known() {
                match self.segment(known.first).await? {
                    Some(stored) if stored.known() == known => {
                        if let Some(place) = self.walk(stored).await? {
                            return Ok(place);
                        }
                    }
                    // It was trimmed, and perhaps something else took its place.
                    _ => {}
                }
                self.forget(known);
                continue;
            }
            match self.last_listed().await? {
                Some(first) => {
                    if let Met::Part(stored) = self.meet(first).await?
                        && let Some(place) = self.walk(stored).await?
                    {
                        return Ok(place);
                    }
                }
                None if self.first().await? == 0 => return Ok(Place::New(0)),
                None if self.last_listed().await?.is_none() => {
                    return Err(Error::Damaged { key: self.head.clone(), reason: "the log has no segments" });
                }
                None => {}
            }
        }
        Err(Error::Contended { key: self.head.clone(), attempts: self.attempts })
    }

    /// Goes on from a segment of the log to the last one. `None`: what was met on the way was trimmed.
    async fn walk(&self, mut stored: Stored) -> Result<Option<Place>> {
        loop {
            self.remember(stored.known());
            if !stored.segment.is_sealed {
                return Ok(Some(Place::Open(stored)));
            }
            let next = stored.segment.end();
            match self.meet(next).await? {
                Met::Part(found) => stored = found,
                Met::Trimmed => return Ok(None),
                Met::Absent => return self.check_end(&stored).await.map(|()| Some(Place::New(next))),
            }
        }
    }

    /// A segment that this handle meets for the first time.
    async fn meet(&self, first: u64) -> Result<Met> {
        let Some(stored) = self.segment(first).await? else { return Ok(Met::Absent) };
        // Read after the segment: one that took the place of a trimmed one came after the head had moved on.
        Ok(if self.first().await? <= first { Met::Part(stored) } else { Met::Trimmed })
    }

    /// The number of the last segment that is listed.
    pub(super) async fn last_listed(&self) -> Result<Option<u64>> {
        self.last_listed_to(u64::MAX).await
    }

    /// The number of the last segment that is listed and has at most this number.
    pub(super) async fn last_listed_to(&self, most: u64) -> Result<Option<u64>> {
        let mut last = None;
        let mut listing = self.listing();
        while let Some(first) = listing.next().await.transpose()? {
            if first > most {
                break;
            }
            last = Some(first);
        }
        Ok(last)
    }

    /// The numbers of the segments, in order. A damaged one is listed: reading it says what is wrong, and it can be trimmed.
    pub(super) fn listing(&self) -> impl Stream<Item = Result<u64>> + Send + Unpin {
        let prefix = self.segments.clone();
        let listing = self.store.list(ListOptions::new().prefix(prefix.as_str()));
        Box::pin(listing.filter_map(move |listed| {
            let first_of = |key: &Key| key.as_str().strip_prefix(&prefix).and_then(ordered::to_u64);
            let first = match listed {
                Ok(listed) => first_of(&listed.key).map(Ok),
                Err(error) => match error.damaged_key() {
                    Some(key) => first_of(key).map(Ok),
                    None => Some(Err(error.into())),
                },
            };
            std::future::ready(first)
        }))
    }

    /// Checks that no segment follows a sealed one whose successor is absent.
    pub(super) async fn check_end(&self, last: &Stored) -> Result<()> {
        let options = ListOptions::new().prefix(self.segments.as_str()).start_after(last.key.clone());
        let later = self.store.list(options).next().await.transpose()?;
        let later = later.and_then(|listed| self.first_of(&listed.key));
        if later.is_none_or(|later| later <= last.segment.end()) {
            return Ok(());
        }
        // Where later ones are, the successor was. It is absent because it was trimmed, or was lost.
        if self.segment(last.segment.end()).await?.is_some() || self.first().await? > last.segment.first {
            return Ok(());
        }
        let key = self.segment_key(last.segment.end())?;
        Err(Error::Damaged { key, reason: "the segment is missing; later ones are there" })
    }
}
