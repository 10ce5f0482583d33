//! How a store ends: closed for good, or open again after an attempt that failed.

use tokio::sync::watch;

/// How an attempt to end a store ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// It is closed.
    ForGood,
    /// It is open again.
    InVain,
}

/// Attempts to end a store, one at a time.
#[derive(Debug, Default)]
pub(crate) struct Ending(watch::Sender<Option<Ended>>);

impl Ending {
    /// Begins an attempt. Dropped, even by a panic, it has ended the store.
    pub(crate) fn begin(&self) -> Attempt {
        self.0.send_replace(None);
        Attempt { ended: self.0.clone(), how: Ended::ForGood }
    }

    /// Waits for the attempt that is under way.
    pub(crate) async fn ended(&self) -> Ended {
        let mut ended = self.0.subscribe();
        // The store holds the sender: the wait cannot fail.
        ended.wait_for(Option::is_some).await.ok().and_then(|ended| *ended).unwrap_or(Ended::ForGood)
    }
}

/// An attempt to end a store.
#[derive(Debug)]
pub(crate) struct Attempt {
    ended: watch::Sender<Option<Ended>>,
    how: Ended,
}

impl Attempt {
    /// The store is open again.
    pub(crate) fn in_vain(mut self) {
        self.how = Ended::InVain;
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        self.ended.send_replace(Some(self.how));
    }
}
