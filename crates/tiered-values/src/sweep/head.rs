//! The head: which generation is the latest, and what may be deleted because of it.

use std::fmt;
use std::str::FromStr;

use tiered_core::{Key, Precondition, Put, ReadOptions};

use super::Inner;
use super::bytes::Head;
use super::under_way::WriterUnderWay;
use crate::error::{Error, Result};
use crate::writer::Ended;

/// The head as it was read.
#[derive(Debug)]
pub(super) struct ReadHead {
    pub(super) head: Head,
    /// Under which it may be replaced.
    condition: Precondition,
}

/// The latest generation whose observations may be deleted, at the moment it was asked for ([`Sweep::horizon`]).
///
/// It is taken before a [`KeepList`] is made. A writer that was under way then holds back what it may refer to, also
/// where it ends before the run. It prints as text that [`FromStr`] reads: a script hands it from one command to the next.
///
/// [`Sweep::horizon`]: super::Sweep::horizon
/// [`KeepList`]: super::KeepList
///
/// # Examples
/// ```
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// use tiered_core::MemoryStore;
/// use tiered_values::sweep::{Horizon, Sweep};
///
/// let sweep = Sweep::new(MemoryStore::new())?;
/// let horizon = sweep.horizon().await?;
/// assert_eq!(horizon.to_string().parse::<Horizon>()?, horizon);
/// # Ok::<(), tiered_values::Error>(()) }).unwrap();
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Horizon {
    pub(super) generation: u64,
    pub(super) series: u128,
}

impl Horizon {
    /// The generation. Zero: nothing may be deleted.
    ///
    /// # Examples
    /// ```
    /// use tiered_values::sweep::Horizon;
    ///
    /// let horizon: Horizon = "7-0000000000000000000000000000002a".parse()?;
    /// assert_eq!(horizon.generation(), 7);
    /// # Ok::<(), tiered_values::Error>(())
    /// ```
    pub const fn generation(&self) -> u64 {
        self.generation
    }
}

impl fmt::Display for Horizon {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{:032x}", self.generation, self.series)
    }
}

impl FromStr for Horizon {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let is_number =
            |text: &str, len| text.len() <= len && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        text.split_once('-')
            .filter(|(generation, series)| is_number(generation, 20) && is_number(series, 32))
            .and_then(|(generation, series)| {
                let series = u128::from_str_radix(series, 16).ok()?;
                Some(Self { generation: generation.parse().ok()?, series })
            })
            .ok_or_else(|| {
                Error::invalid(format!("{text:?} is no horizon; use the text that a sweep printed"))
            })
    }
}

impl Head {
    /// What may be deleted while these writers are under way.
    pub(super) fn horizon(&self, writers: &[WriterUnderWay]) -> Horizon {
        let generation = writers.iter().map(|writer| writer.generation).fold(self.generation, u64::min);
        Horizon { generation, series: self.series }
    }
}

impl Inner {
    fn head_key(&self) -> Result<Key> {
        Ok(Key::new(format!("{}head", self.settings.records))?)
    }

    pub(super) async fn read_head(&self) -> Result<ReadHead> {
        let key = self.head_key()?;
        let read = self.store.load(&key, &ReadOptions::new().authoritative()).await?;
        let Some(entry) = read.into_entry() else {
            return Ok(ReadHead { head: Head::default(), condition: Precondition::Absent });
        };
        let head = Head::decode(entry.value()).map_err(|reason| Error::Damaged { key, reason })?;
        Ok(ReadHead { head, condition: Precondition::Matches(entry.version().clone()) })
    }

    /// Makes a snapshot the next generation. `Lost`: another run came first.
    pub(super) async fn advance(&self, from: &ReadHead, to: &Head) -> Result<Ended> {
        let put = Put::new(to.encode()).never_expires().precondition(from.condition.clone());
        self.writer.put(&self.head_key()?, put).await
    }
}
