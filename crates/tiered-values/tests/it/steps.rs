//! Logs under a fault at every single call of the store: as before, or with the element, exactly once.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::logs::{contents, log_of};
use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream;
use tiered_conformance::{DerivedReads, Intercept, Interceptor};
use tiered_core::adapter::BatchOutcomes;
use tiered_core::{
    Batch, Delete, Deleted, Error as StoreError, ErrorKind, Key, ListOptions, ListStream, MemoryStore,
    Outcome, Put, Read, ReadOptions, Result, Store, StoreExt as _, Written,
};

/// What happens at one call of the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Strike {
    /// It fails without effect, and says so.
    Refused,
    /// It fails without effect, and does not say so.
    Lost,
    /// It has its effect, and its answer is lost.
    AnswerLost,
    /// As `Lost`, and no later call comes through: the process is dead.
    DeadBefore,
    /// As `AnswerLost`, and no later call comes through.
    DeadAfter,
}

pub(crate) const STRIKES: [Strike; 5] =
    [Strike::Refused, Strike::Lost, Strike::AnswerLost, Strike::DeadBefore, Strike::DeadAfter];

/// Strikes at one call.
pub(crate) struct At {
    step: u32,
    strike: Strike,
    calls: AtomicU32,
}

impl fmt::Debug for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} at call {}", self.strike, self.step)
    }
}

impl At {
    pub(crate) fn new(step: u32, strike: Strike) -> Arc<Self> {
        Arc::new(Self { step, strike, calls: AtomicU32::new(0) })
    }

    /// Whether there were fewer calls than the one that it strikes.
    pub(crate) fn is_over(&self) -> bool {
        self.calls.load(Ordering::Relaxed) <= self.step
    }

    fn next(&self) -> Option<Strike> {
        let call = self.calls.fetch_add(1, Ordering::Relaxed);
        match self.strike {
            strike if call == self.step => Some(strike),
            Strike::DeadBefore | Strike::DeadAfter if call > self.step => Some(Strike::DeadBefore),
            _ => None,
        }
    }

    fn error(outcome: Outcome) -> StoreError {
        StoreError::new(ErrorKind::Unavailable, "a strike").outcome_is(outcome)
    }

    async fn call<T>(&self, call: impl Future<Output = Result<T>>) -> Result<T> {
        match self.next() {
            None => call.await,
            Some(Strike::Refused) => Err(Self::error(Outcome::NotApplied)),
            Some(Strike::Lost | Strike::DeadBefore) => Err(Self::error(Outcome::Unknown)),
            Some(Strike::AnswerLost | Strike::DeadAfter) => {
                call.await.ok();
                Err(Self::error(Outcome::Unknown))
            }
        }
    }
}

/// The store's side of it.
#[derive(Debug)]
pub(crate) struct Struck(pub(crate) Arc<At>);

#[async_trait]
impl Interceptor for Struck {
    async fn load(&self, inner: &dyn Store, key: &Key, options: &ReadOptions) -> Result<Read> {
        self.0.call(inner.load(key, options)).await
    }
    async fn put(&self, inner: &dyn Store, key: &Key, put: Put) -> Result<Written> {
        self.0.call(inner.put(key, put)).await
    }
    async fn delete(&self, inner: &dyn Store, key: &Key, delete: Delete) -> Result<Deleted> {
        self.0.call(inner.delete(key, delete)).await
    }
    async fn apply(&self, inner: &dyn Store, batch: Batch) -> Result<BatchOutcomes> {
        self.0.call(inner.apply(batch)).await
    }
    fn derived_reads(&self) -> DerivedReads {
        DerivedReads::Load
    }
    fn list(&self, inner: &dyn Store, options: ListOptions) -> ListStream {
        match self.0.next() {
            None => inner.list(options),
            Some(_) => Box::pin(stream::iter([Err(At::error(Outcome::NotApplied))])),
        }
    }
    fn peek(&self, _: &dyn Store, _: &Key) -> Option<tiered_core::Entry> {
        None
    }
}

/// A log of so many elements, trimmed where that is asked for; in segments of three.
async fn prepared(elements: u64, trimmed: u64) -> Arc<MemoryStore> {
    let store = Arc::new(MemoryStore::new());
    let log = log_of(store.clone(), 3);
    for number in 0..elements {
        log.append(number.to_string()).await.expect("appended");
    }
    if trimmed > 0 {
        log.trim(trimmed).await.expect("trimmed");
    }
    store
}

#[tokio::test]
async fn an_append_struck_at_any_call_leaves_the_log_as_before_or_with_the_element_once() {
    for batch in [1, 2, 5] {
        struck(batch).await;
    }
}

/// Appends so many elements at once.
async fn struck(batch: u64) {
    let (mut ok, mut applied, mut refused, mut unknown) = (0, 0, 0, 0);
    for (elements, trimmed) in [(0, 0), (1, 0), (2, 0), (3, 0), (4, 0), (6, 3), (6, 6), (7, 5)] {
        for strike in STRIKES {
            for step in 0.. {
                let store = prepared(elements, trimmed).await;
                let before = contents(store.clone()).await;
                let at = At::new(step, strike);
                let log = log_of(Intercept::new(store.clone(), Struck(at.clone())), 3);
                let answer = log.append_all((0..batch).map(|_| "new")).await;
                let what = format!("{elements} elements, {batch} more, {at:?}: {answer:?}");
                let after = contents(store.clone()).await;
                let mut with = before.clone();
                with.extend((0..batch).map(|number| (elements + number, Bytes::from("new"))));
                assert!(after == before || after == with, "{what}: {after:?}");
                let is_in = after == with;
                match &answer {
                    Ok(numbers) => assert!(is_in && *numbers == (elements..elements + batch), "{what}"),
                    Err(error) if error.write_outcome() == Outcome::NotApplied => assert!(!is_in, "{what}"),
                    Err(_) => {}
                }
                match &answer {
                    Ok(_) => ok += 1,
                    Err(error) if error.write_outcome() == Outcome::NotApplied => refused += 1,
                    Err(_) => unknown += 1,
                }
                applied += u32::from(is_in);
                // The next process goes on, whatever was left.
                let next = log_of(store.clone(), 3);
                assert_eq!(
                    next.append("later").await.expect("appended"),
                    elements + if is_in { batch } else { 0 },
                    "{what}"
                );
                assert_eq!(contents(store).await.len(), after.len() + 1, "{what}");
                if at.is_over() {
                    break;
                }
            }
        }
    }
    assert!(ok > 40 && applied > ok && refused > 20 && unknown > 10, "{ok} {applied} {refused} {unknown}");
}

#[tokio::test]
async fn a_lost_answer_to_an_append_is_made_good_where_the_store_goes_on() {
    for elements in 0..8 {
        for step in 0.. {
            let store = prepared(elements, 0).await;
            let at = At::new(step, Strike::AnswerLost);
            let log = log_of(Intercept::new(store.clone(), Struck(at.clone())), 3);
            match log.append("new").await {
                Ok(number) => assert_eq!(number, elements),
                // A read before the write.
                Err(error) => assert_eq!(error.write_outcome(), Outcome::NotApplied, "{error}"),
            }
            if at.is_over() {
                break;
            }
        }
    }
}

#[tokio::test]
async fn a_trim_struck_at_any_call_leaves_the_rest_whole_and_can_be_repeated() {
    for strike in STRIKES {
        for step in 0.. {
            let store = prepared(10, 3).await;
            let before = contents(store.clone()).await;
            assert_eq!(before.len(), 7);
            let at = At::new(step, strike);
            let log = log_of(Intercept::new(store.clone(), Struck(at.clone())), 3);
            let answer = log.trim(9).await;
            let what = format!("{at:?}: {answer:?}");
            let after = contents(store.clone()).await;
            assert!(after == before || after == before[6..], "{what}: {after:?}");
            if answer.is_ok() {
                assert_eq!(after, before[6..], "{what}");
            }
            let next = log_of(store.clone(), 3);
            assert_eq!(next.append("new").await.expect("appended"), 10, "{what}");
            assert_eq!(next.trim(9).await.expect("repeated"), 9, "{what}");
            let keys = store.keys("log/").await.expect("listed");
            assert_eq!(keys.len(), 2, "{what}: the head and the last segment");
            if at.is_over() {
                break;
            }
        }
    }
}
