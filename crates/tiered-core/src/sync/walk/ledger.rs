//! What a walk knows of the keys that it reached: each has a number, and a node once it was visited. In memory, or in a store.

use std::collections::HashMap;

use super::header::{Digests, Header};
use super::node::{Id, MOST, Node};
use super::pages::{self, Pages};
use super::workspace::{Workspace, foreign};
use crate::error::{Error, ErrorKind, Result};
use crate::key::Key;
use crate::version::Version;

/// The keys that were reached, and what was found under them.
pub(super) struct Ledger {
    place: Place,
    reached: Id,
    digests: Digests,
}

enum Place {
    Memory { keys: Vec<Key>, ids: HashMap<Key, Id>, nodes: Vec<Node> },
    Store(Pages),
}

impl Ledger {
    /// In memory, or in a workspace: then with what an earlier walk left there, where a later one may go on from it.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] where the store has entries that are not of such a walk, or a limit on keys below 40 bytes; those of
    /// the store.
    pub(super) async fn open(workspace: Option<&Workspace>) -> Result<Self> {
        let Some(workspace) = workspace else {
            let place = Place::Memory { keys: Vec::new(), ids: HashMap::new(), nodes: Vec::new() };
            return Ok(Self { place, reached: 0, digests: Digests::random() });
        };
        let Some(label) = workspace.label() else {
            workspace.check_empty().await?;
            let place = Place::Store(Pages::new(workspace.clone(), 0));
            return Ok(Self { place, reached: 0, digests: Digests::random() });
        };
        let digests = Header::take_up(workspace, label).await?.digests();
        let reached = pages::count(workspace).await?;
        Ok(Self { place: Place::Store(Pages::new(workspace.clone(), reached)), reached, digests })
    }

    /// Makes what was noted so far last, where a later walk may go on from it.
    pub(super) async fn keep(&mut self) -> Result<()> {
        match &mut self.place {
            Place::Store(pages) => pages.keep().await,
            Place::Memory { .. } => Ok(()),
        }
    }

    /// Writes to the workspace what is not there yet, which frees its memory.
    pub(super) async fn write(&mut self) -> Result<()> {
        match &mut self.place {
            Place::Store(pages) => pages.write().await,
            Place::Memory { .. } => Ok(()),
        }
    }

    /// Notes that the walk came to its end: the next one with this workspace begins anew.
    pub(super) async fn end(&self) -> Result<()> {
        match &self.place {
            Place::Store(pages) => match pages.workspace().label() {
                Some(label) => Header::ended(self.digests, label).write(pages.workspace()).await,
                None => Ok(()),
            },
            Place::Memory { .. } => Ok(()),
        }
    }

    /// How many keys were reached.
    pub(super) const fn reached(&self) -> Id {
        self.reached
    }

    /// A fingerprint of 64 bits, under a random key.
    pub(super) fn fingerprint(&self, version: &Version) -> u64 {
        self.digests.of_version(version)
    }

    /// The numbers of these keys. Those that were not reached before get the next ones, in their order.
    pub(super) async fn reach(&mut self, asked: &[Key]) -> Result<Vec<Id>> {
        let reached = &mut self.reached;
        let mut next = || {
            let id = *reached;
            *reached = reached.checked_add(1).filter(|next| *next < MOST).ok_or_else(too_many)?;
            Ok::<_, Error>(id)
        };
        match &mut self.place {
            Place::Memory { keys, ids, nodes } => {
                let mut found = Vec::with_capacity(asked.len());
                for key in asked {
                    if let Some(id) = ids.get(key) {
                        found.push(*id);
                        continue;
                    }
                    let id = next()?;
                    keys.push(key.clone());
                    ids.insert(key.clone(), id);
                    nodes.push(Node::default());
                    found.push(id);
                }
                Ok(found)
            }
            Place::Store(pages) => pages.reach(asked, self.digests, &mut next).await,
        }
    }

    /// The keys of these numbers.
    pub(super) async fn keys(&self, ids: &[Id]) -> Result<Vec<Key>> {
        match &self.place {
            Place::Memory { keys, .. } => {
                ids.iter().map(|id| keys.get(*id as usize).cloned().ok_or_else(foreign)).collect()
            }
            Place::Store(pages) => pages.keys(ids).await,
        }
    }

    /// Notes what was found.
    pub(super) async fn note(&mut self, visited: Vec<(Id, Node)>) -> Result<()> {
        match &mut self.place {
            Place::Memory { nodes, .. } => {
                for (id, node) in visited {
                    *nodes.get_mut(id as usize).ok_or_else(foreign)? = node;
                }
                Ok(())
            }
            Place::Store(pages) => pages.note(visited).await,
        }
    }

    /// What was found under these keys; nothing for one that was not visited.
    pub(super) async fn nodes(&self, ids: &[Id]) -> Result<Vec<Node>> {
        Ok(self.visited(ids).await?.into_iter().map(Option::unwrap_or_default).collect())
    }

    /// The same; `None` for one that was not visited.
    pub(super) async fn visited(&self, ids: &[Id]) -> Result<Vec<Option<Node>>> {
        match &self.place {
            Place::Memory { nodes, .. } => {
                ids.iter().map(|id| nodes.get(*id as usize).cloned().map(Some).ok_or_else(foreign)).collect()
            }
            Place::Store(pages) => pages.visited(ids).await,
        }
    }
}

fn too_many() -> Error {
    Error::new(
        ErrorKind::Unsupported,
        "more than 4,294,967,293 keys are reachable; walk from some of the roots at a time",
    )
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::memory::MemoryStore;
    use crate::store::Store as _;
    use crate::write::Put;

    fn of(store: MemoryStore, label: Option<&str>) -> Workspace {
        Workspace::new(Arc::new(store), label.map(str::to_owned))
    }

    fn key(text: &str) -> Key {
        Key::new(text).expect("a key")
    }

    #[tokio::test]
    async fn keys_are_counted_once_in_memory_and_in_a_store() {
        for workspace in [None, Some(of(MemoryStore::new(), None))] {
            let mut ledger = Ledger::open(workspace.as_ref()).await.expect("empty");
            let keys = ["a", "b", "a"].map(key);
            assert_eq!(ledger.reach(&keys).await.expect("reached"), [0, 1, 0]);
            assert_eq!(ledger.reach(&[key("c"), key("b")]).await.expect("reached"), [2, 1]);
            assert_eq!(ledger.reached(), 3);
            assert_eq!(ledger.keys(&[2, 0]).await.expect("there"), [key("c"), key("a")]);
            let node = Node::new(7, 11, vec![1, 2]);
            ledger.note(vec![(0, node.clone())]).await.expect("noted");
            assert_eq!(ledger.nodes(&[1, 0]).await.expect("there"), [Node::default(), node]);
            assert_eq!(ledger.keys(&[9]).await.expect_err("unknown").kind(), ErrorKind::Foreign);
        }
    }

    #[tokio::test]
    async fn a_workspace_that_is_not_empty_is_refused() {
        let store = MemoryStore::new();
        store.put(&key("a"), Put::new("1")).await.expect("written");
        for label in [None, Some("a walk")] {
            let workspace = of(store.clone(), label);
            let refused = Ledger::open(Some(&workspace)).await.err().expect("refused");
            assert_eq!(refused.kind(), ErrorKind::Config);
        }
    }

    #[tokio::test]
    async fn what_one_walk_noted_the_next_one_finds_until_it_has_ended() {
        let workspace = of(MemoryStore::new(), Some("a walk"));
        let mut first = Ledger::open(Some(&workspace)).await.expect("empty");
        assert_eq!(first.reach(&["a", "b", "c"].map(key)).await.expect("reached"), [0, 1, 2]);
        let version = Version::from_u128(7);
        let node = Node::new(1, first.fingerprint(&version), vec![2]);
        first.note(vec![(0, node.clone())]).await.expect("noted");
        first.keep().await.expect("kept");
        let mut next = Ledger::open(Some(&workspace)).await.expect("goes on");
        assert_eq!((next.reached(), next.fingerprint(&version)), (3, node.version()));
        assert_eq!(next.visited(&[0, 1]).await.expect("there"), [Some(node), None]);
        assert_eq!(next.reach(&["d", "b"].map(key)).await.expect("reached"), [3, 1]);
        next.end().await.expect("noted");
        let anew = Ledger::open(Some(&workspace)).await.expect("begins anew");
        assert_eq!(anew.reached(), 0);
        assert_ne!(anew.fingerprint(&version), next.fingerprint(&version));
    }
}
