//! Read, decide, and write where no other write came in between.

use std::num::NonZeroU32;
use std::sync::Arc;

#[cfg(feature = "documents")]
use tiered_core::Delete;
use tiered_core::adapter::{VersionMint, with_version};
use tiered_core::{Entry, ErrorKind, Feature, Key, Outcome, Precondition, Put, ReadOptions, Store};

use crate::error::{Error, Result};

/// How many attempts an update makes where nothing else is set. Each failed attempt is another writer's success: so many
/// concurrent updates of one key all come through.
pub(crate) const ATTEMPTS: NonZeroU32 = NonZeroU32::new(256).expect("not zero");

/// How often the fate of one write is looked for before it is reported as unknown. There is no pause between looks: where
/// the store is away for longer, the caller learns that soon.
pub(crate) const LOOKS: u32 = 8;

/// What an update does with the entry that it found.
#[derive(Debug)]
pub(crate) enum Decision {
    /// Replaces it. The writer sets the precondition.
    Put(Put),
    /// Deletes it.
    #[cfg(feature = "documents")]
    Delete,
    /// Leaves it.
    Keep,
}

/// How one conditional write ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// It took effect.
    Applied,
    /// Another write came first. This one never takes effect.
    Lost,
}

/// Writes that are conditional on what was read.
#[derive(Debug)]
pub(crate) struct Writer {
    store: Arc<dyn Store>,
    versions: VersionMint,
    attempts: NonZeroU32,
}

impl Writer {
    pub(crate) fn new(store: Arc<dyn Store>, attempts: NonZeroU32) -> Self {
        Self { store, versions: VersionMint::from_entropy(), attempts }
    }

    /// An id that is never used again.
    pub(crate) fn mint(&self) -> u128 {
        self.versions.mint().as_u128().unwrap_or_default()
    }

    /// The live entry, as the authority has it.
    pub(crate) async fn read(&self, key: &Key) -> Result<Option<Entry>> {
        Ok(self.store.load(key, &ReadOptions::new().authoritative()).await?.into_entry())
    }

    /// Carries out what `decide` makes of the authoritative entry, in one conditional write; decides anew where another
    /// write came first. Returns what `decide` returned beside the decision that took effect.
    pub(crate) async fn update<D, F>(&self, key: &Key, mut decide: F) -> Result<D>
    where
        D: Send,
        F: FnMut(Option<&Entry>) -> Result<(Decision, D)> + Send,
    {
        for _ in 0..self.attempts.get() {
            let old = self.read(key).await.map_err(Error::not_applied)?;
            let (decision, answer) = decide(old.as_ref())?;
            let condition = match &old {
                Some(old) => Precondition::Matches(old.version().clone()),
                None => Precondition::Absent,
            };
            let ended = match decision {
                Decision::Keep => return Ok(answer),
                Decision::Put(put) => self.put(key, put.precondition(condition)).await?,
                #[cfg(feature = "documents")]
                Decision::Delete if old.is_none() => return Ok(answer),
                #[cfg(feature = "documents")]
                Decision::Delete => self.delete(key, Delete::new().precondition(condition)).await?,
            };
            if ended != Ended::Lost {
                return Ok(answer);
            }
        }
        Err(Error::Contended { key: key.clone(), attempts: self.attempts.get() })
    }

    /// One conditional put. A lost answer is made good: the write is recognised by its version, or sent again where at
    /// most one of the two can take effect.
    ///
    /// # Errors
    /// With [`Outcome::Unknown`] where another write follows, since it tells nothing of this one.
    pub(crate) async fn put(&self, key: &Key, put: Put) -> Result<Ended> {
        let version = self.versions.mint();
        let put = with_version(put, version.clone());
        let mut lost_answer = None;
        for _ in 0..LOOKS {
            match self.store.put(key, put.clone()).await {
                Ok(_) => return Ok(Ended::Applied),
                Err(error) if is_unknown(&error) => lost_answer = Some(error),
                Err(error) => match lost_answer.take() {
                    None if is_refused(&error) => return Ok(Ended::Lost),
                    None => return Err(error.into()),
                    Some(unknown) => lost_answer = Some(unknown),
                },
            }
            match self.read(key).await {
                Ok(Some(entry)) if *entry.version() == version => return Ok(Ended::Applied),
                Ok(entry) => {
                    let still = put.precondition.holds(entry.as_ref().map(Entry::version));
                    if !(still && self.fences(&put.precondition)) {
                        break;
                    }
                }
                // The next attempt tells as much as the look that failed.
                Err(_) if self.fences(&put.precondition) => {}
                Err(_) => break,
            }
        }
        let error = lost_answer.unwrap_or_else(|| unavailable(key));
        Err(error.outcome_is(Outcome::Unknown).into())
    }

    /// One conditional delete. That a key is absent does not tell who deleted it: a lost answer stays unknown.
    #[cfg(feature = "documents")]
    async fn delete(&self, key: &Key, delete: Delete) -> Result<Ended> {
        match self.store.delete(key, delete).await {
            Ok(_) => Ok(Ended::Applied),
            Err(error) if is_refused(&error) => Ok(Ended::Lost),
            Err(error) => Err(error.into()),
        }
    }

    /// Whether a condition that has failed to hold never holds again, so that of two writes under it at most one takes
    /// effect. An absent key can be absent again, and a validator that repeats can match again.
    fn fences(&self, condition: &Precondition) -> bool {
        matches!(condition, Precondition::Matches(_))
            && self.store.capabilities().has(Feature::UniqueValidators)
    }
}

/// Whether the write may have taken effect, or may yet.
pub(crate) fn is_unknown(error: &tiered_core::Error) -> bool {
    error.write_outcome() == Outcome::Unknown
}

/// Whether another write came first, and this one never takes effect.
pub(crate) fn is_refused(error: &tiered_core::Error) -> bool {
    error.kind() == ErrorKind::PreconditionFailed && error.write_outcome() == Outcome::NotApplied
}

fn unavailable(key: &Key) -> tiered_core::Error {
    tiered_core::Error::new(ErrorKind::Unavailable, "the fate of the write could not be found out")
        .for_key(key)
}
