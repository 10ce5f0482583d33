//! Trimming: the head first, then the segments below it.

use futures_util::TryStreamExt as _;

use super::Log;
use crate::error::Result;

impl Log {
    /// Removes elements below number `before` from the front, by whole segments. Returns the first element that is left, which
    /// is at most `before`: the segment that has `before` stays whole, and the last segment always stays.
    ///
    /// Readers of what is trimmed get [`Error::Trimmed`](crate::Error::Trimmed). Numbers are never used again.
    ///
    /// # Errors
    /// Those of the store. Elements may be trimmed already when it fails, and then their segments may still take room; the
    /// next trim deletes them. A trim can be repeated.
    ///
    /// # Cancel safety
    /// Dropping it leaves the log as after an error.
    ///
    /// # Examples
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
    /// use std::num::NonZeroU32;
    /// use tiered_core::MemoryStore;
    /// use tiered_values::{Error, Log};
    ///
    /// let two = NonZeroU32::new(2).expect("not zero");
    /// let log = Log::builder(MemoryStore::new(), "logs/orders").segment_elements(two).build()?;
    /// for order in ["apples", "pears", "plums", "figs", "dates"] {
    ///     log.append(order).await?;
    /// }
    /// assert_eq!(log.trim(3).await?, 2);
    /// assert!(matches!(log.read(1, 10).await, Err(Error::Trimmed { first: 2 })));
    /// assert_eq!(log.range().await?, 2..5);
    /// # Ok::<(), tiered_values::Error>(()) }).unwrap();
    /// ```
    pub async fn trim(&self, before: u64) -> Result<u64> {
        let inner = &self.inner;
        let segments: Vec<u64> = inner.listing().try_collect().await?;
        let Some(stays) = segments.iter().copied().rev().find(|first| *first <= before) else {
            return inner.first().await;
        };
        let first = inner.advance(stays).await?;
        // The lowest first: as long as a segment is there, all behind it are.
        for below in segments.into_iter().filter(|segment| *segment < first) {
            inner.delete_segment(below).await?;
        }
        Ok(first)
    }
}
