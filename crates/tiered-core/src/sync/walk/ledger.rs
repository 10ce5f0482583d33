//! What a walk knows of the keys that it reached: each has a number, and a node once it was visited. In memory, or in a store.

use std::collections::HashMap;
use std::fmt::Write as _;

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};

use super::header::{Digests, Header};
use super::workspace::{TOGETHER, Workspace, foreign};
use crate::batch::Batch;
use crate::error::{Error, ErrorKind, Result};
use crate::key::Key;
use crate::version::Version;
use crate::write::Put;

/// The number of a key: they are counted as they are reached.
pub(super) type Id = u32;

/// What was found under a key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Node {
    size: u64,
    version: u64,
    children: Vec<Id>,
}

impl Node {
    /// A value of so many bytes, of this version, which refers to these keys.
    pub(super) const fn new(size: u64, version: u64, children: Vec<Id>) -> Self {
        Self { size, version, children }
    }

    /// Bytes of the value.
    pub(super) const fn size(&self) -> u64 {
        self.size
    }

    /// The fingerprint of its version.
    pub(super) const fn version(&self) -> u64 {
        self.version
    }

    /// What it refers to, each once.
    pub(super) fn children(&self) -> &[Id] {
        &self.children
    }

    fn encode(&self) -> Bytes {
        let mut bytes = BytesMut::with_capacity(16 + 4 * self.children.len());
        bytes.put_u64_le(self.size);
        bytes.put_u64_le(self.version);
        self.children.iter().for_each(|child| bytes.put_u32_le(*child));
        bytes.freeze()
    }

    fn decode(mut bytes: Bytes) -> Option<Self> {
        let (size, version) = (bytes.try_get_u64_le().ok()?, bytes.try_get_u64_le().ok()?);
        let mut children = Vec::with_capacity(bytes.len() / 4);
        while bytes.has_remaining() {
            children.push(bytes.try_get_u32_le().ok()?);
        }
        Some(Self { size, version, children })
    }
}

/// The keys that were reached, and what was found under them.
pub(super) struct Ledger {
    pages: Pages,
    reached: Id,
    digests: Digests,
}

enum Pages {
    Memory { keys: Vec<Key>, ids: HashMap<Key, Id>, nodes: Vec<Node> },
    Store(Workspace),
}

impl Ledger {
    /// In memory, or in a workspace: then with what an earlier walk left there, where a later one may go on from it.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] where the store has entries that are not of such a walk, or a limit on keys below 40 bytes; those of
    /// the store.
    pub(super) async fn open(workspace: Option<&Workspace>) -> Result<Self> {
        let Some(workspace) = workspace else {
            let pages = Pages::Memory { keys: Vec::new(), ids: HashMap::new(), nodes: Vec::new() };
            return Ok(Self { pages, reached: 0, digests: Digests::random() });
        };
        let pages = Pages::Store(workspace.clone());
        let Some(label) = workspace.label() else {
            workspace.check_empty().await?;
            return Ok(Self { pages, reached: 0, digests: Digests::random() });
        };
        let digests = Header::take_up(workspace, label).await?.digests();
        Ok(Self { pages, reached: count(workspace).await?, digests })
    }

    /// Makes what was noted so far last, where a later walk may go on from it.
    pub(super) async fn keep(&self) -> Result<()> {
        match &self.pages {
            Pages::Store(workspace) if workspace.label().is_some() => workspace.flush().await,
            _ => Ok(()),
        }
    }

    /// Notes that the walk came to its end: the next one with this workspace begins anew.
    pub(super) async fn end(&self) -> Result<()> {
        match &self.pages {
            Pages::Store(workspace) => match workspace.label() {
                Some(label) => Header::ended(self.digests, label).write(workspace).await,
                None => Ok(()),
            },
            Pages::Memory { .. } => Ok(()),
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
    pub(super) async fn reach(&mut self, keys: &[Key]) -> Result<Vec<Id>> {
        let mut found = Vec::with_capacity(keys.len());
        for keys in keys.chunks(TOGETHER) {
            self.reach_some(keys, &mut found).await?;
        }
        Ok(found)
    }

    async fn reach_some(&mut self, asked: &[Key], found: &mut Vec<Id>) -> Result<()> {
        let reached = &mut self.reached;
        let mut next = || {
            let id = *reached;
            *reached = reached.checked_add(1).filter(|next| *next < MOST).ok_or_else(too_many)?;
            Ok::<_, Error>(id)
        };
        match &mut self.pages {
            Pages::Memory { keys, ids, nodes } => {
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
            }
            Pages::Store(store) => {
                let names = asked.iter().map(|key| name_of(self.digests, key)).collect::<Result<Vec<_>>>()?;
                let known = store.get(&names).await?;
                let mut new: HashMap<&Key, Id> = HashMap::new();
                let mut batch = Batch::new().best_effort();
                for ((key, name), known) in asked.iter().zip(names).zip(known) {
                    let known = match known {
                        Some(mut id) => Some(id.try_get_u32_le().map_err(|_| foreign())?),
                        None => new.get(key).copied(),
                    };
                    if let Some(id) = known {
                        found.push(id);
                        continue;
                    }
                    let id = next()?;
                    new.insert(key, id);
                    batch.push(name, Put::new(Bytes::copy_from_slice(&id.to_le_bytes())).into());
                    batch.push(name_of_key(id)?, Put::new(key.as_str().to_owned()).into());
                    found.push(id);
                }
                store.put(batch).await?;
            }
        }
        Ok(())
    }

    /// The keys of these numbers.
    pub(super) async fn keys(&self, ids: &[Id]) -> Result<Vec<Key>> {
        match &self.pages {
            Pages::Memory { keys, .. } => {
                ids.iter().map(|id| keys.get(*id as usize).cloned().ok_or_else(foreign)).collect()
            }
            Pages::Store(store) => {
                let mut found = Vec::with_capacity(ids.len());
                for ids in ids.chunks(TOGETHER) {
                    let names = ids.iter().map(|id| name_of_key(*id)).collect::<Result<Vec<_>>>()?;
                    for text in store.get(&names).await? {
                        let text = text.ok_or_else(foreign)?;
                        found.push(Key::new(std::str::from_utf8(&text).map_err(|_| foreign())?)?);
                    }
                }
                Ok(found)
            }
        }
    }

    /// Notes what was found.
    pub(super) async fn note(&mut self, visited: Vec<(Id, Node)>) -> Result<()> {
        match &mut self.pages {
            Pages::Memory { nodes, .. } => {
                for (id, node) in visited {
                    *nodes.get_mut(id as usize).ok_or_else(foreign)? = node;
                }
            }
            Pages::Store(store) => {
                let mut batch = Batch::new().best_effort();
                for (id, node) in visited {
                    batch.push(name_of_node(id)?, Put::new(node.encode()).into());
                }
                store.put(batch).await?;
            }
        }
        Ok(())
    }

    /// What was found under these keys; nothing for one that was not visited.
    pub(super) async fn nodes(&self, ids: &[Id]) -> Result<Vec<Node>> {
        Ok(self.visited(ids).await?.into_iter().map(Option::unwrap_or_default).collect())
    }

    /// The same; `None` for one that was not visited.
    pub(super) async fn visited(&self, ids: &[Id]) -> Result<Vec<Option<Node>>> {
        match &self.pages {
            Pages::Memory { nodes, .. } => {
                ids.iter().map(|id| nodes.get(*id as usize).cloned().map(Some).ok_or_else(foreign)).collect()
            }
            Pages::Store(store) => {
                let mut found = Vec::with_capacity(ids.len());
                for ids in ids.chunks(TOGETHER) {
                    let names = ids.iter().map(|id| name_of_node(*id)).collect::<Result<Vec<_>>>()?;
                    for bytes in store.get(&names).await? {
                        found.push(bytes.map(|node| Node::decode(node).ok_or_else(foreign)).transpose()?);
                    }
                }
                Ok(found)
            }
        }
    }
}

/// Numbers below this are given to keys.
const MOST: Id = Id::MAX - 1;

fn too_many() -> Error {
    Error::new(
        ErrorKind::Unsupported,
        "more than 4,294,967,293 keys are reachable; walk from some of the roots at a time",
    )
}

/// How many keys a workspace has: their numbers have no gaps, since each batch is all or nothing.
async fn count(workspace: &Workspace) -> Result<Id> {
    let (mut there, mut not_there) = (0, MOST);
    while there < not_there {
        let middle = there + (not_there - there) / 2;
        if workspace.get(&[name_of_key(middle)?]).await?.iter().any(Option::is_some) {
            there = middle + 1;
        } else {
            not_there = middle;
        }
    }
    Ok(there)
}

/// Where the number of `key` is kept: under its fingerprint of 128 bits, under random keys. Of ten billion keys two have the
/// same with a probability of 10⁻¹⁹.
fn name_of(digests: Digests, key: &Key) -> Result<Key> {
    named('k', 32, digests.of_key(key))
}

fn name_of_key(id: Id) -> Result<Key> {
    named('n', 8, id.into())
}

fn name_of_node(id: Id) -> Result<Key> {
    named('v', 8, id.into())
}

fn named(kind: char, digits: usize, number: u128) -> Result<Key> {
    let mut name = String::with_capacity(2 + digits);
    write!(name, "{kind}/{number:0digits$x}").ok();
    Key::new(name)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::memory::MemoryStore;
    use crate::store::Store as _;

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
