//! Fetches of blocks: one read of the backend for all readers of a block. What they bring never changes, so they need no token.

use std::collections::HashMap;
use std::collections::hash_map::Entry as MapEntry;
use std::sync::Arc;

use bytes::Bytes;

use super::latch::Latch;
use crate::error::Error;
use crate::key::Key;
use crate::sync_primitives::Mutex;

/// What a fetch brought.
#[derive(Clone, Debug)]
pub(crate) enum Fetched {
    /// The block.
    Block(Bytes),
    /// The backend does not have this version of the value any more.
    Gone,
    /// It could not be read.
    Failed(Arc<Error>),
}

/// The fetches under way, by the name of their block. It is in the table until the block has been kept or will not be, so that
/// a reader that finds no fetch finds the block.
#[derive(Debug)]
pub(crate) struct Fetches(Mutex<HashMap<Key, Fetch>>);

/// A fetch, as its followers see it.
#[derive(Clone, Debug)]
pub(crate) struct Fetch(Arc<Latch<Fetched>>);

/// The side of a fetch that reads the backend. Dropping it ends the fetch.
#[derive(Debug)]
pub(crate) struct Fetching {
    fetches: Arc<Fetches>,
    name: Key,
    fetch: Fetch,
}

impl Fetches {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self(Mutex::default()))
    }

    /// The fetch of a block, and the side to lead it where none is under way.
    pub(crate) fn join(self: &Arc<Self>, name: &Key) -> (Fetch, Option<Fetching>) {
        let mut under_way = self.0.lock();
        match under_way.entry(name.clone()) {
            MapEntry::Occupied(occupied) => (occupied.get().clone(), None),
            MapEntry::Vacant(vacant) => {
                let fetch = vacant.insert(Fetch(Arc::new(Latch::new()))).clone();
                let leading =
                    Fetching { fetches: Arc::clone(self), name: name.clone(), fetch: fetch.clone() };
                (fetch, Some(leading))
            }
        }
    }
}

impl Fetch {
    /// Waits for the block.
    pub(crate) async fn answer(self) -> Fetched {
        let lost =
            || Error::new(crate::ErrorKind::Other, "the task that fetched a block ended without an answer");
        self.0.answered().await.cloned().unwrap_or_else(|| Fetched::Failed(Arc::new(lost())))
    }
}

impl Fetching {
    /// Tells the followers; the first answer counts.
    pub(crate) fn announce(&self, fetched: Fetched) {
        self.fetch.0.answer(fetched);
    }
}

impl Drop for Fetching {
    fn drop(&mut self) {
        self.fetches.0.lock().remove(&self.name);
        self.fetch.0.end();
    }
}

#[cfg(all(test, not(shuttle)))]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_reader_leads_and_all_get_its_answer() {
        let (fetches, name) = (Fetches::new(), Key::new("block").expect("valid"));
        let (first, leading) = fetches.join(&name);
        let leading = leading.expect("the first leads");
        let (second, following) = fetches.join(&name);
        assert!(following.is_none());
        leading.announce(Fetched::Block("bytes".into()));
        let (late, following) = fetches.join(&name);
        assert!(following.is_none(), "until it is kept it is under way");
        for fetch in [first, second, late] {
            assert!(matches!(fetch.answer().await, Fetched::Block(bytes) if bytes == "bytes"));
        }
        drop(leading);
        assert!(fetches.join(&name).1.is_some());
    }

    #[tokio::test]
    async fn a_fetch_whose_leader_is_gone_is_an_error_and_not_a_wait() {
        let (fetches, name) = (Fetches::new(), Key::new("block").expect("valid"));
        let (fetch, leading) = fetches.join(&name);
        drop(leading);
        assert!(matches!(fetch.answer().await, Fetched::Failed(_)));
    }
}
