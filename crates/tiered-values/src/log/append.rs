//! Appending: one conditional write of the last segment, recognised by the element's id where its answer is lost.

use std::ops::Range;

use bytes::Bytes;
use tiered_core::adapter::with_version;
use tiered_core::{Delete, ErrorKind, Outcome, Precondition, Put};

use super::place::{Place, Stored};
use super::segment::{ELEMENT_HEADER, EMPTY, Element, Segment};
use super::{Inner, Log};
use crate::error::{Error, Result};
use crate::writer::{LOOKS, is_refused, is_unknown};

/// How the write of a segment ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ended {
    /// It took effect.
    Applied,
    /// Another write came first. This one never takes effect.
    Lost,
}

/// A segment as it is to be, in place of what was read.
struct Step<'s> {
    segment: Segment,
    /// What it replaces; `None`: it is new.
    old: Option<&'s Stored>,
    /// One of the elements that it adds, which tells of all; `None`: it is sealed, as it is.
    id: Option<u128>,
}

impl Log {
    /// Adds an element. Returns its number.
    ///
    /// The element is in the log once when this returns `Ok`. One write carries it: a crash leaves the log as before, or
    /// with the element. A lost answer is made good where the log still shows whether the element is in.
    ///
    /// # Errors
    /// * [`Error::Contended`] where other writers came first in all [attempts](super::LogBuilder::max_attempts). The
    ///   element is not in the log.
    /// * [`Error::Invalid`] where the element is too large for a segment of its own in this store.
    /// * [`Error::Damaged`] for what is stored under the log's keys and is none of its own; the element is not in the log.
    /// * Those of a put. With [`Outcome::Unknown`] the element is in the log at most once.
    ///
    /// # Cancel safety
    /// As a put: dropping it leaves the outcome unknown.
    ///
    /// # Examples
    /// See [`Log`].
    pub async fn append(&self, element: impl Into<Bytes> + Send) -> Result<u64> {
        Ok(self.append_all([element]).await?.start)
    }

    /// Adds several elements, one after the other and all by one write: all of them are added, or none. Returns their numbers.
    ///
    /// They are in one segment, which exceeds its bounds where they do.
    ///
    /// # Errors
    /// As [`append`](Self::append).
    ///
    /// # Cancel safety
    /// As a put: dropping it leaves the outcome unknown.
    ///
    /// # Examples
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
    /// use tiered_core::MemoryStore;
    /// use tiered_values::Log;
    ///
    /// let log = Log::new(MemoryStore::new(), "logs/orders")?;
    /// assert_eq!(log.append_all(["apples", "pears"]).await?, 0..2);
    /// assert_eq!(log.append_all(["plums"]).await?, 2..3);
    /// # Ok::<(), tiered_values::Error>(()) }).unwrap();
    /// ```
    pub async fn append_all<E>(&self, elements: impl IntoIterator<Item = E> + Send) -> Result<Range<u64>>
    where
        E: Into<Bytes> + Send,
    {
        let inner = &self.inner;
        let elements: Vec<Element> =
            elements.into_iter().map(|element| Element { id: inner.mint(), bytes: element.into() }).collect();
        let (Ok(count), Some(last)) = (u32::try_from(elements.len()), elements.last()) else {
            let next = inner.place().await.map_err(Error::not_applied)?.next();
            return Ok(next..next);
        };
        let sizes = elements.iter().map(|element| element.bytes.len());
        let alone = EMPTY + added_bytes(&elements);
        if sizes.max() > Some(MAX_ELEMENT) || alone as u64 > inner.store.capabilities().max_value() {
            let reason = format!("{count} elements of {alone} bytes do not fit into a segment");
            return Err(Error::invalid(reason));
        }
        for _ in 0..inner.attempts {
            let added = match inner.place().await.map_err(Error::not_applied)? {
                Place::Open(stored) => inner.append_to(&stored, &elements, last.id).await?,
                Place::New(first) => inner.append_new(first, &elements, last.id).await?,
            };
            if let Some(first) = added {
                return Ok(first..first.saturating_add(u64::from(count)));
            }
        }
        Err(Error::Contended { key: inner.head.clone(), attempts: inner.attempts })
    }
}

/// The longest element, by the format.
const MAX_ELEMENT: usize = u32::MAX as usize;

/// How many bytes of a segment the elements take.
fn added_bytes(elements: &[Element]) -> usize {
    elements.iter().map(|element| ELEMENT_HEADER + element.bytes.len()).sum()
}

impl Inner {
    /// An id that no other append has.
    fn mint(&self) -> u128 {
        // Versions of a mint have a number always.
        self.versions.mint().as_u128().unwrap_or_default()
    }

    /// The most bytes of a segment with more than one element.
    fn most_bytes(&self) -> usize {
        self.bounds.bytes.min(usize::try_from(self.store.capabilities().max_value()).unwrap_or(usize::MAX))
    }

    /// Sealed where a bound is reached.
    fn within_bounds(&self, segment: Segment) -> Segment {
        if segment.count >= self.bounds.elements || segment.len() >= self.most_bytes() {
            segment.sealed()
        } else {
            segment
        }
    }

    /// Adds the elements to the last segment, or seals that where they do not fit. Returns the first one's number; `None`: they
    /// were not added.
    async fn append_to(&self, stored: &Stored, elements: &[Element], id: u128) -> Result<Option<u64>> {
        let old = &stored.segment;
        let room = old.count as usize + elements.len() <= self.bounds.elements as usize
            && old.len() + added_bytes(elements) <= self.most_bytes();
        let (segment, id) = if room {
            (self.within_bounds(old.with(elements)), Some(id))
        } else {
            (old.clone().sealed(), None)
        };
        let ended = self.write(Step { segment, old: Some(stored), id }).await?;
        Ok((room && ended == Ended::Applied).then(|| old.end()))
    }

    /// Creates the next segment, with the elements. Returns the first one's number; `None`: they were not added.
    async fn append_new(&self, first: u64, elements: &[Element], id: u128) -> Result<Option<u64>> {
        let segment = self.within_bounds(Segment::new(self.mint(), first).with(elements));
        let ended = self.write(Step { segment, old: None, id: Some(id) }).await?;
        Ok((ended == Ended::Applied).then_some(first))
    }

    /// One conditional write of a segment.
    ///
    /// # Errors
    /// With [`Outcome::Unknown`] where the log does not show any more whether it took effect.
    async fn write(&self, step: Step<'_>) -> Result<Ended> {
        let key = self.segment_key(step.segment.first)?;
        let condition = match step.old {
            Some(old) => Precondition::Matches(old.version.clone()),
            None => Precondition::Absent,
        };
        let put = Put::new(step.segment.encode())
            .never_expires()
            .attributes(self.attributes.clone())
            .precondition(condition);
        let put = with_version(put, self.versions.mint());
        let mut lost_answer: Option<tiered_core::Error> = None;
        for attempt in 0..LOOKS {
            let put = match step.old {
                // A new segment that comes late, after the log was trimmed past it, is not to pass for the one that others
                // know under this number: each attempt has an id and a version of its own.
                None if attempt > 0 => {
                    let mut segment = step.segment.clone();
                    segment.id = self.mint();
                    with_version(put.clone().value(segment.encode()), self.versions.mint())
                }
                _ => put.clone(),
            };
            match self.store.put(&key, put).await {
                Ok(_) => return self.check_part(&step, lost_answer).await,
                Err(error) if is_unknown(&error) => lost_answer = Some(error),
                Err(error) if lost_answer.is_none() && is_refused(&error) => return Ok(Ended::Lost),
                Err(error) if lost_answer.is_none() => return Err(error.into()),
                // What refused a repetition tells nothing of the first attempt.
                Err(_) => {}
            }
            // The write is sent again where the condition still holds, or the look failed: of two writes under one version
            // of a segment only one can take effect. A new segment that comes late comes below the head, and is none.
            match self.look(&step).await {
                Ok(Fate::In) => return self.check_part(&step, lost_answer).await,
                Ok(Fate::NotIn) => return self.check_lost(&step, lost_answer).await,
                Ok(Fate::Gone) => break,
                Ok(Fate::Open) | Err(_) => {}
            }
        }
        Err(unknown(lost_answer))
    }

    /// What the store shows of a write whose answer was lost.
    async fn look(&self, step: &Step<'_>) -> Result<Fate> {
        let found = self.segment(step.segment.first).await?;
        Ok(match (found, step.old) {
            (None, None) => Fate::Open,
            // It was sealed and trimmed, with the element or without.
            (None, Some(_)) => Fate::Gone,
            (Some(found), Some(old)) if found.known() != old.known() => Fate::Gone,
            (Some(found), Some(old)) if found.version == old.version => Fate::Open,
            (Some(found), _) => {
                // A segment only grows, and is never unsealed: what is not so now will not be.
                let is_in = step.id.map_or(found.segment.is_sealed, |id| found.segment.contains(id));
                if is_in { Fate::In } else { Fate::NotIn }
            }
        })
    }

    /// After a write took effect: whether a new segment is a part of the log. An older one that is not sealed always is.
    async fn check_part(&self, step: &Step<'_>, lost_answer: Option<tiered_core::Error>) -> Result<Ended> {
        if step.old.is_some() {
            return Ok(Ended::Applied);
        }
        if self.is_part(step).await? {
            return Ok(Ended::Applied);
        }
        // The head has moved past it. Either the place was trimmed before, and this segment is none; or the element was in the
        // log, and was trimmed at once.
        Err(unknown(lost_answer))
    }

    /// After another segment was found in the place of a new one: an earlier attempt may have been there, and trimmed.
    async fn check_lost(&self, step: &Step<'_>, lost_answer: Option<tiered_core::Error>) -> Result<Ended> {
        if step.old.is_some() {
            return Ok(Ended::Lost);
        }
        if self.is_part(step).await? { Ok(Ended::Lost) } else { Err(unknown(lost_answer)) }
    }

    /// Whether the place of a segment that was written is a part of the log.
    ///
    /// # Errors
    /// With [`Outcome::Unknown`].
    async fn is_part(&self, step: &Step<'_>) -> Result<bool> {
        let mut looks = 1;
        loop {
            match self.first().await {
                Ok(first) => return Ok(first <= step.segment.first),
                Err(_) if looks < LOOKS => looks += 1,
                Err(error) => {
                    return Err(tiered_core::Error::from(error).outcome_is(Outcome::Unknown).into());
                }
            }
        }
    }

    /// Deletes a segment that is no part of the log any more, whatever it is by now.
    pub(super) async fn delete_segment(&self, first: u64) -> Result<()> {
        self.store.delete(&self.segment_key(first)?, Delete::new()).await?;
        Ok(())
    }
}

/// What became of a write whose answer was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// It took effect.
    In,
    /// It never takes effect.
    NotIn,
    /// Its place is as it was: it may have been lost on the way, or may be under way.
    Open,
    /// Its place was trimmed: nothing tells.
    Gone,
}

fn unknown(lost_answer: Option<tiered_core::Error>) -> Error {
    let error = lost_answer.unwrap_or_else(|| {
        tiered_core::Error::new(
            ErrorKind::Other,
            "the log was trimmed past the element while it was appended",
        )
    });
    error.outcome_is(Outcome::Unknown).into()
}
