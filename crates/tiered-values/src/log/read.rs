//! Reading from any element: a run without gaps, or a clear error.

use std::num::NonZeroUsize;

use bytes::Bytes;

use super::place::Stored;
use super::{Inner, Known, Log};
use crate::error::{Error, Result};

/// How many elements [`Log::fold`] holds at once.
const PORTION: usize = 1024;

impl Log {
    /// Up to `limit` elements with their numbers, from number `from` on, in order and without gaps. Fewer are answered where
    /// the log ends, none where it ends before `from`.
    ///
    /// What is answered was in the log when the call ended. Sealed segments may come from a cache; the end of the log comes
    /// from the authority.
    ///
    /// A read that goes on where the handle was last does not list the log's segments; any other does. Each read asks the
    /// authority for the head.
    ///
    /// # Errors
    /// * [`Error::Trimmed`] where `from` is not there any more, with the first element that is.
    /// * [`Error::Damaged`] with the key of a segment that is damaged, or missing between others.
    /// * Those of the store.
    ///
    /// # Cancel safety
    /// Dropping it has no effect.
    ///
    /// # Examples
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
    /// use tiered_core::MemoryStore;
    /// use tiered_values::Log;
    ///
    /// let log = Log::new(MemoryStore::new(), "logs/orders")?;
    /// log.append("first").await?;
    /// // A consumer that comes back with the number that it has not seen.
    /// let mut next = 0;
    /// while let Some((number, element)) = log.read(next, 100).await?.pop() {
    ///     println!("up to {number}: {} bytes", element.len());
    ///     next = number + 1;
    /// }
    /// assert_eq!(next, 1);
    /// # Ok::<(), tiered_values::Error>(()) }).unwrap();
    /// ```
    pub async fn read(&self, from: u64, limit: usize) -> Result<Vec<(u64, Bytes)>> {
        let Some(limit) = NonZeroUsize::new(limit) else { return Ok(Vec::new()) };
        let inner = &self.inner;
        for _ in 0..inner.attempts {
            let begin = inner.segment_with(from).await?;
            let run = match &begin {
                Some(stored) => Some(inner.run(stored, from, limit).await?),
                None => None,
            };
            // Read last: what begins at the head or behind it was a part of the log all the time.
            let first = inner.first().await?;
            if let (Some(stored), Some((elements, last))) = (&begin, run)
                && first <= stored.segment.first
            {
                inner.remember(last);
                *inner.visited.lock() = Some(last);
                return Ok(elements);
            }
            if from < first {
                return Err(Error::Trimmed { first });
            }
            // Nothing was found where the log begins: it is empty, or was trimmed meanwhile.
            let last = inner.last_listed().await?;
            if inner.segment(first).await?.is_none() && inner.first().await? == first {
                if last.is_none() && first == 0 {
                    return Ok(Vec::new());
                }
                let key = inner.segment_key(first)?;
                return Err(Error::Damaged { key, reason: "the first segment of the log is missing" });
            }
            if let Some(stored) = begin {
                inner.forget(stored.known());
            }
            *inner.visited.lock() = None;
        }
        Err(Error::Contended { key: inner.head.clone(), attempts: inner.attempts })
    }

    /// Folds all elements from number `from` on: `step` is given what it returned before, the number and the element. Returns
    /// the last of it, and the number with which to go on later.
    ///
    /// The log is read in portions; elements that are appended meanwhile are met as well. So it ends when it has caught up with
    /// the writers.
    ///
    /// # Errors
    /// As [`read`](Self::read), with [`Error::Trimmed`] also where a trim overtakes the fold.
    ///
    /// # Cancel safety
    /// Dropping it has no effect on the log.
    ///
    /// # Examples
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
    /// use tiered_core::MemoryStore;
    /// use tiered_values::Log;
    ///
    /// let log = Log::new(MemoryStore::new(), "logs/orders")?;
    /// for order in ["apples", "pears"] {
    ///     log.append(order).await?;
    /// }
    /// let (bytes, next) = log.fold(0, 0, |bytes, _, element| bytes + element.len()).await?;
    /// assert_eq!((bytes, next), (11, 2));
    /// # Ok::<(), tiered_values::Error>(()) }).unwrap();
    /// ```
    pub async fn fold<A, F>(&self, from: u64, initial: A, mut step: F) -> Result<(A, u64)>
    where
        A: Send,
        F: FnMut(A, u64, Bytes) -> A + Send,
    {
        let (mut folded, mut next) = (initial, from);
        loop {
            let run = self.read(next, PORTION).await?;
            if run.is_empty() {
                return Ok((folded, next));
            }
            for (number, element) in run {
                folded = step(folded, number, element);
                next = number + 1;
            }
        }
    }
}

impl Inner {
    /// The elements from `from` on, of this segment and those that follow it; and the last of these segments.
    async fn run(
        &self,
        begin: &Stored,
        from: u64,
        limit: NonZeroUsize,
    ) -> Result<(Vec<(u64, Bytes)>, Known)> {
        let mut run = Vec::new();
        let mut stored = begin.clone();
        loop {
            for (number, element) in (stored.segment.first..).zip(stored.segment.elements()) {
                let element = element.map_err(|reason| Error::Damaged { key: stored.key.clone(), reason })?;
                if number >= from {
                    run.push((number, element.bytes));
                }
                if run.len() == limit.get() {
                    return Ok((run, stored.known()));
                }
            }
            if !stored.segment.is_sealed {
                return Ok((run, stored.known()));
            }
            match self.segment_to_read(stored.segment.end()).await? {
                Some(next) => stored = next,
                None => return self.check_end(&stored).await.map(|()| (run, stored.known())),
            }
        }
    }

    /// The segment that has the element `from`, or the last one before it.
    async fn segment_with(&self, from: u64) -> Result<Option<Stored>> {
        let visited = *self.visited.lock();
        for known in [visited, self.known()].into_iter().flatten().filter(|known| known.first <= from) {
            match self.segment_to_read(known.first).await? {
                // The way from a segment that is far before would lead through all between.
                Some(stored) if stored.known() == known => {
                    if !stored.segment.is_sealed || from <= stored.segment.end() {
                        return Ok(Some(stored));
                    }
                }
                _ => self.forget(known),
            }
        }
        match self.last_listed_to(from).await? {
            Some(first) => self.segment_to_read(first).await,
            None => Ok(None),
        }
    }
}
