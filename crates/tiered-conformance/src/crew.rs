//! Parts of a case that run at once.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier};

use futures_util::future::{Either, join_all, select};
use tokio::runtime::Handle;
use tokio::sync::oneshot;

use crate::case::{Verdict, fail};

/// How many threads the parts share. Parts of one thread take turns at each await; parts of different threads run in
/// parallel: a store must bear both.
const THREADS: usize = 4;

/// A part of a case, not yet begun.
pub(crate) type Part<T> = Pin<Box<dyn Future<Output = Verdict<T>> + Send>>;

/// Parts that are running on threads of their own, so that a store which blocks them blocks nothing else. Dropping the
/// crew drops the parts at their next await.
pub(crate) struct Crew<T> {
    shares: Vec<Share<T>>,
}

/// The verdicts of a thread's parts, or its panic.
type Ended<T> = Result<Vec<Verdict<T>>, Box<dyn Any + Send>>;

struct Share<T> {
    ended: oneshot::Receiver<Ended<T>>,
    _keep: oneshot::Sender<()>,
}

impl<T: Send + 'static> Crew<T> {
    /// Begins `parts`, all at the same moment. `busy` counts the threads that have not ended.
    pub(crate) fn of(busy: &Arc<AtomicUsize>, parts: Vec<Part<T>>) -> Self {
        let mut hands: Vec<Vec<Part<T>>> = (0..THREADS).map(|_| Vec::new()).collect();
        for (index, part) in parts.into_iter().enumerate() {
            if let Some(hand) = hands.get_mut(index % THREADS) {
                hand.push(part);
            }
        }
        hands.retain(|hand| !hand.is_empty());
        let start = Arc::new(Barrier::new(hands.len()));
        let handle = Handle::current();
        let begin = |parts: Vec<Part<T>>| {
            let (handle, start) = (handle.clone(), Arc::clone(&start));
            let (tell, ended) = oneshot::channel();
            let (keep, left) = oneshot::channel::<()>();
            let busy = Arc::clone(busy);
            busy.fetch_add(1, Ordering::AcqRel);
            std::thread::spawn(move || {
                start.wait();
                let work = select(join_all(parts), left);
                let done = catch_unwind(AssertUnwindSafe(|| match handle.block_on(work) {
                    Either::Left((verdicts, _)) => verdicts,
                    Either::Right(_) => Vec::new(),
                }));
                busy.fetch_sub(1, Ordering::AcqRel);
                // Nothing listens where the crew was dropped.
                tell.send(done).ok();
            });
            Share { ended, _keep: keep }
        };
        Self { shares: hands.into_iter().map(begin).collect() }
    }

    /// The results of all parts, in no particular order; the first failure otherwise. A panic in a part is a panic of
    /// the case.
    pub(crate) async fn join(self) -> Verdict<Vec<T>> {
        let mut results = Vec::new();
        for share in self.shares {
            match share.ended.await {
                Ok(Ok(verdicts)) => {
                    for verdict in verdicts {
                        results.push(verdict?);
                    }
                }
                Ok(Err(panic)) => resume_unwind(panic),
                Err(_) => return fail("cancel", "a part of the case was cancelled"),
            }
        }
        Ok(results)
    }
}
