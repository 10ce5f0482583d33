//! Strategies: what to do with a key, from both sides' listings. Pure: no I/O, no clock.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::error::{Error, ErrorKind};
use crate::list::Listed;

/// What to do with a key.
///
/// # Examples
/// ```
/// use tiered_core::Listed;
/// use tiered_core::sync::{Decision, SyncStrategy};
///
/// let mirror_new = |source: Option<&Listed>, target: Option<&Listed>| match (source, target) {
///     (Some(_), None) => Decision::Copy,
///     _ => Decision::Skip,
/// };
/// assert_eq!(mirror_new.decide(None, None), Decision::Skip);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Decision {
    /// Copy the source's entry, replacing the target's if it is still the listed one.
    Copy,
    /// Leave the target as it is.
    Skip,
    /// Remove the target's entry, if it is still the listed one and the source still has none.
    Remove,
}

/// What a strategy may do to entries that the target has already.
///
/// # Examples
/// ```
/// use tiered_core::sync::{Changes, FullSync, PopulateMissing, SyncStrategy};
///
/// assert_eq!(FullSync.changes(), Changes::Removes);
/// assert!(PopulateMissing.changes() < Changes::Overwrites);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Changes {
    /// Nothing: it only adds.
    Adds,
    /// It replaces them.
    Overwrites,
    /// It replaces and removes them.
    Removes,
}

/// Decides, key by key, from what both sides list.
///
/// A closure `Fn(Option<&Listed>, Option<&Listed>) -> Decision` (source, target) is a strategy as well, named `custom`;
/// write the types of its parameters down. At least one side is given; each side carries what its store lists for free.
///
/// # Examples
/// ```
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// use tiered_core::sync::{Decision, SyncOptions, sync};
/// use tiered_core::{Listed, MemoryStore, StoreExt};
///
/// let (source, target) = (MemoryStore::new(), MemoryStore::new());
/// source.set("small", "1").await?;
/// source.set("large", "a long value").await?;
/// let only_small = |source: Option<&Listed>, target: Option<&Listed>| match (source, target) {
///     (Some(source), None) if source.size < 10 => Decision::Copy,
///     _ => Decision::Skip,
/// };
/// assert_eq!(sync(&source, &target, &only_small, &SyncOptions::new()).await?.copied, 1);
/// # Ok::<(), tiered_core::Error>(()) }).unwrap();
/// ```
pub trait SyncStrategy: Send + Sync + 'static {
    /// A name for reports and logs.
    ///
    /// # Examples
    /// ```
    /// use tiered_core::sync::{FullSync, SyncStrategy};
    ///
    /// assert_eq!(FullSync.name(), "full-sync");
    /// ```
    fn name(&self) -> &str;

    /// What to do with a key that the source lists as `source` and the target as `target`.
    ///
    /// # Examples
    /// ```
    /// use tiered_core::sync::{Decision, PopulateMissing, SyncStrategy};
    /// use tiered_core::{Key, Listed};
    ///
    /// let listed = Listed::new(Key::new("a")?, 1);
    /// assert_eq!(PopulateMissing.decide(Some(&listed), None), Decision::Copy);
    /// # Ok::<(), tiered_core::Error>(())
    /// ```
    fn decide(&self, source: Option<&Listed>, target: Option<&Listed>) -> Decision;

    /// What it may do to entries that the target has. Decisions beyond this are refused.
    ///
    /// # Examples
    /// ```
    /// use tiered_core::sync::{Changes, Refresh, SyncStrategy};
    ///
    /// assert_eq!(Refresh.changes(), Changes::Overwrites);
    /// ```
    fn changes(&self) -> Changes {
        Changes::Removes
    }
}

impl<F> SyncStrategy for F
where
    F: Fn(Option<&Listed>, Option<&Listed>) -> Decision + Send + Sync + 'static,
{
    fn name(&self) -> &'static str {
        "custom"
    }
    fn decide(&self, source: Option<&Listed>, target: Option<&Listed>) -> Decision {
        self(source, target)
    }
}

/// A shared strategy is a strategy.
impl SyncStrategy for Arc<dyn SyncStrategy> {
    fn name(&self) -> &str {
        (**self).name()
    }
    fn decide(&self, source: Option<&Listed>, target: Option<&Listed>) -> Decision {
        (**self).decide(source, target)
    }
    fn changes(&self) -> Changes {
        (**self).changes()
    }
}

impl fmt::Debug for dyn SyncStrategy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SyncStrategy").field(&self.name()).finish()
    }
}

/// Copies only what the target lacks.
///
/// # Examples
/// ```
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// use tiered_core::sync::{PopulateMissing, SyncOptions, sync};
/// use tiered_core::{MemoryStore, StoreExt};
///
/// let (source, target) = (MemoryStore::new(), MemoryStore::new());
/// source.set("both", "new").await?;
/// target.set("both", "old").await?;
/// target.set("extra", "1").await?;
/// let report = sync(&source, &target, &PopulateMissing, &SyncOptions::new()).await?;
/// assert_eq!((report.copied, report.removed), (0, 0));
/// # Ok::<(), tiered_core::Error>(()) }).unwrap();
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct PopulateMissing;

impl SyncStrategy for PopulateMissing {
    fn name(&self) -> &'static str {
        "populate-missing"
    }
    fn decide(&self, source: Option<&Listed>, target: Option<&Listed>) -> Decision {
        if source.is_some() && target.is_none() { Decision::Copy } else { Decision::Skip }
    }
    fn changes(&self) -> Changes {
        Changes::Adds
    }
}

/// Makes the target equal to the source: copies what is missing or differs, removes what is extra.
///
/// # Examples
/// ```
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// use tiered_core::sync::{FullSync, SyncOptions, sync};
/// use tiered_core::{MemoryStore, StoreExt};
///
/// let (source, target) = (MemoryStore::new(), MemoryStore::new());
/// source.set("both", "new").await?;
/// target.set("both", "old").await?;
/// target.set("extra", "1").await?;
/// let report = sync(&source, &target, &FullSync, &SyncOptions::new()).await?;
/// assert_eq!((report.copied, report.removed), (1, 1));
/// # Ok::<(), tiered_core::Error>(()) }).unwrap();
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct FullSync;

impl SyncStrategy for FullSync {
    fn name(&self) -> &'static str {
        "full-sync"
    }
    fn decide(&self, source: Option<&Listed>, target: Option<&Listed>) -> Decision {
        match (source, target) {
            (Some(source), Some(target)) if same(source, target) => Decision::Skip,
            (Some(_), _) => Decision::Copy,
            (None, _) => Decision::Remove,
        }
    }
}

/// Copies what is missing or differs; extras stay.
///
/// Two entries are the same if they have the same version. Where a side lists no versions, as S3 does, or the target gives copies
/// versions of its own ([`Feature::KeepsMetadata`](crate::Feature::KeepsMetadata) is missing), they are the same if both list the same size
/// and checksum; otherwise the source is asked for its version before a value is read. A version that a server gave, such as an
/// `ETag`, is kept like any other, and is never the same as one of this library.
///
/// # Examples
/// ```
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// use tiered_core::sync::{Refresh, SyncOptions, sync};
/// use tiered_core::{MemoryStore, StoreExt};
///
/// let (source, target) = (MemoryStore::new(), MemoryStore::new());
/// source.set("both", "new").await?;
/// target.set("both", "old").await?;
/// target.set("extra", "1").await?;
/// let report = sync(&source, &target, &Refresh, &SyncOptions::new()).await?;
/// assert_eq!((report.copied, report.removed), (1, 0));
/// # Ok::<(), tiered_core::Error>(()) }).unwrap();
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct Refresh;

impl SyncStrategy for Refresh {
    fn name(&self) -> &'static str {
        "refresh"
    }
    fn decide(&self, source: Option<&Listed>, target: Option<&Listed>) -> Decision {
        match (source, target) {
            (Some(source), Some(target)) if same(source, target) => Decision::Skip,
            (Some(_), _) => Decision::Copy,
            (None, _) => Decision::Skip,
        }
    }
    fn changes(&self) -> Changes {
        Changes::Overwrites
    }
}

/// Whether both sides list the same entry: by version, else by size and checksum. What cannot be told is different.
fn same(source: &Listed, target: &Listed) -> bool {
    match (&source.version, &target.version) {
        (Some(ours), Some(theirs)) if ours == theirs => true,
        (Some(_), Some(_)) => false,
        _ => match (&source.metadata, &target.metadata) {
            (Some(ours), Some(theirs)) => {
                ours.checksum.is_some() && ours.size == theirs.size && ours.checksum == theirs.checksum
            }
            _ => false,
        },
    }
}

/// The strategies that settings and the command line know by name.
///
/// # Examples
/// ```
/// use tiered_core::sync::StrategyName;
///
/// let name: StrategyName = "full-sync".parse()?;
/// assert_eq!(name.strategy().name(), "full-sync");
/// # Ok::<(), tiered_core::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum StrategyName {
    /// [`PopulateMissing`].
    PopulateMissing,
    /// [`FullSync`].
    FullSync,
    /// [`Refresh`].
    Refresh,
}

impl StrategyName {
    /// Every name.
    pub const ALL: &[Self] = &[Self::PopulateMissing, Self::FullSync, Self::Refresh];

    /// The strategy.
    pub fn strategy(self) -> Arc<dyn SyncStrategy> {
        match self {
            Self::PopulateMissing => Arc::new(PopulateMissing),
            Self::FullSync => Arc::new(FullSync),
            Self::Refresh => Arc::new(Refresh),
        }
    }
}

impl FromStr for StrategyName {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self, Error> {
        Self::ALL.iter().copied().find(|name| name.strategy().name() == text).ok_or_else(|| {
            let message =
                format!("unknown strategy {text:?}; use one of populate-missing, full-sync, refresh");
            Error::new(ErrorKind::Config, message)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adapter::Checksum;
    use crate::clock::Timestamp;
    use crate::entry::Metadata;
    use crate::key::Key;
    use crate::version::Version;

    /// An entry as a listing tells it: its version, or its metadata, or neither.
    fn listed(version: Option<u128>, metadata: Option<(u64, Option<u32>)>) -> Listed {
        let mut listed = Listed::new(Key::new("k").expect("valid"), 1);
        listed.version = version.map(Version::from_u128);
        listed.metadata = metadata.map(|(size, checksum)| {
            let mut metadata = Metadata::new(Version::from_u128(9), Timestamp::from_millis(0), size);
            metadata.checksum = checksum.map(Checksum::from_u32);
            Arc::new(metadata)
        });
        listed
    }

    /// The decisions of populate-missing, full-sync and refresh, and of `Arc`s of them.
    fn decisions(source: Option<&Listed>, target: Option<&Listed>) -> [Decision; 3] {
        [StrategyName::PopulateMissing, StrategyName::FullSync, StrategyName::Refresh]
            .map(|name| name.strategy().decide(source, target))
    }

    #[test]
    fn a_key_on_one_side_is_copied_or_removed_as_the_strategy_says() {
        use Decision::{Copy, Remove, Skip};
        let one = listed(Some(1), None);
        assert_eq!(decisions(Some(&one), None), [Copy, Copy, Copy]);
        assert_eq!(decisions(None, Some(&one)), [Skip, Remove, Skip]);
        assert_eq!(PopulateMissing.decide(None, None), Skip);
    }

    #[test]
    fn a_key_on_both_sides_is_copied_unless_it_is_known_to_be_the_same() {
        let summed = |size, sum| listed(None, Some((size, Some(sum))));
        let pairs = [
            (listed(Some(1), None), listed(Some(1), None), true),
            (listed(Some(1), None), listed(Some(2), None), false),
            // Versions count more than equal bytes.
            (listed(Some(1), Some((5, Some(7)))), listed(Some(2), Some((5, Some(7)))), false),
            (listed(Some(1), None), summed(5, 7), false),
            (summed(5, 7), summed(5, 7), true),
            (listed(Some(1), Some((5, Some(7)))), summed(5, 7), true),
            (summed(5, 7), summed(6, 7), false),
            (summed(5, 7), summed(5, 8), false),
            (listed(None, Some((5, None))), listed(None, Some((5, None))), false),
            (listed(None, None), listed(None, None), false),
        ];
        for (source, target, same) in pairs {
            let other = if same { Decision::Skip } else { Decision::Copy };
            let decided = decisions(Some(&source), Some(&target));
            assert_eq!(decided, [Decision::Skip, other, other], "{source:?} {target:?}");
        }
    }

    #[test]
    fn strategies_say_what_they_change_and_have_the_names_of_the_settings() {
        let changes = StrategyName::ALL.iter().map(|name| name.strategy().changes()).collect::<Vec<_>>();
        assert_eq!(changes, [Changes::Adds, Changes::Removes, Changes::Overwrites]);
        for name in StrategyName::ALL.iter().copied() {
            let text = name.strategy().name().to_owned();
            assert_eq!(text.parse::<StrategyName>().expect("known"), name);
            assert_eq!(serde_json::to_string(&name).expect("a text"), format!("{text:?}"));
            assert!(format!("{:?}", &*name.strategy()).contains(&text));
        }
        let error = "mirror".parse::<StrategyName>().expect_err("unknown");
        assert!(error.message().contains("full-sync"), "{error}");
    }

    #[test]
    fn a_closure_is_a_strategy_that_may_remove() {
        let strategy = |_: Option<&Listed>, target: Option<&Listed>| {
            if target.is_some() { Decision::Remove } else { Decision::Copy }
        };
        let one = listed(Some(1), None);
        assert_eq!((strategy.name(), strategy.changes()), ("custom", Changes::Removes));
        assert_eq!(SyncStrategy::decide(&strategy, Some(&one), None), Decision::Copy);
        let shared: Arc<dyn SyncStrategy> = Arc::new(strategy);
        assert_eq!(SyncStrategy::decide(&shared, None, Some(&one)), Decision::Remove);
        assert_eq!(
            (SyncStrategy::name(&shared), SyncStrategy::changes(&shared)),
            ("custom", Changes::Removes)
        );
    }
}
