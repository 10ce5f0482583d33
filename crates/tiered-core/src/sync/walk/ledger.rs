//! What a walk knows of the keys that it reached: each has a number, and a node once it was visited. In memory, or in a store.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use futures_util::StreamExt as _;

use crate::batch::Batch;
use crate::error::{Error, ErrorKind, Result};
use crate::key::Key;
use crate::list::ListOptions;
use crate::read::{Read, ReadOptions};
use crate::store::Store;
use crate::version::Version;
use crate::write::Put;

/// The number of a key: they are counted as they are reached.
pub(super) type Id = u32;

/// Reads and writes of the store that are sent as one request.
const TOGETHER: usize = 1_000;

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
    hashers: [RandomState; 2],
}

enum Pages {
    Memory { keys: Vec<Key>, ids: HashMap<Key, Id>, nodes: Vec<Node> },
    Store(Arc<dyn Store>),
}

impl Ledger {
    /// In memory, or in `workspace`.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] where the store has entries, or a limit on keys below 40 bytes; those of the listing.
    pub(super) async fn new(workspace: Option<Arc<dyn Store>>) -> Result<Self> {
        let pages = match workspace {
            None => Pages::Memory { keys: Vec::new(), ids: HashMap::new(), nodes: Vec::new() },
            Some(store) => {
                let found = store.list(ListOptions::new().limit(1)).next().await.transpose();
                if found.map_err(in_workspace)?.is_some() {
                    return Err(Error::new(
                        ErrorKind::Config,
                        "the workspace of the walk has entries; give it an empty store, which nothing else uses",
                    ));
                }
                Pages::Store(store)
            }
        };
        Ok(Self { pages, reached: 0, hashers: [RandomState::new(), RandomState::new()] })
    }

    /// How many keys were reached.
    pub(super) const fn reached(&self) -> Id {
        self.reached
    }

    /// A fingerprint of 64 bits, under a random key.
    pub(super) fn fingerprint(&self, version: &Version) -> u64 {
        let [hasher, _] = &self.hashers;
        hasher.hash_one(version)
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
                let names =
                    asked.iter().map(|key| name_of(&self.hashers, key)).collect::<Result<Vec<_>>>()?;
                let known = get(&**store, &names).await?;
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
                put(&**store, batch).await?;
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
                    for text in get(&**store, &names).await? {
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
                put(&**store, batch).await?;
            }
        }
        Ok(())
    }

    /// What was found under these keys; nothing for one that was not visited.
    pub(super) async fn nodes(&self, ids: &[Id]) -> Result<Vec<Node>> {
        match &self.pages {
            Pages::Memory { nodes, .. } => {
                ids.iter().map(|id| nodes.get(*id as usize).cloned().ok_or_else(foreign)).collect()
            }
            Pages::Store(store) => {
                let mut found = Vec::with_capacity(ids.len());
                for ids in ids.chunks(TOGETHER) {
                    let names = ids.iter().map(|id| name_of_node(*id)).collect::<Result<Vec<_>>>()?;
                    for bytes in get(&**store, &names).await? {
                        found
                            .push(bytes.map_or(Ok(Node::default()), |node| {
                                Node::decode(node).ok_or_else(foreign)
                            })?);
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

fn foreign() -> Error {
    Error::new(
        ErrorKind::Foreign,
        "the workspace of the walk has lost entries, or others wrote to it; give it an empty store, which nothing else uses and which does not evict",
    )
}

fn in_workspace(error: Error) -> Error {
    Error::new(error.kind(), "the workspace of the walk failed").with_source(error)
}

/// Where the number of `key` is kept: under its fingerprint of 128 bits, under random keys. Of ten billion keys two have the
/// same with a probability of 10⁻¹⁹.
fn name_of(hashers: &[RandomState; 2], key: &Key) -> Result<Key> {
    let [high, low] = hashers.each_ref().map(|hasher| hasher.hash_one(key));
    named('k', 32, u128::from(high) << 64 | u128::from(low))
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

async fn get(store: &dyn Store, names: &[Key]) -> Result<Vec<Option<Bytes>>> {
    let reads = store.get_many(names, &ReadOptions::new()).await;
    reads
        .into_iter()
        .map(|read| Ok(read.map(Read::into_entry).map_err(in_workspace)?.map(|entry| entry.value().clone())))
        .collect()
}

async fn put(store: &dyn Store, batch: Batch) -> Result<()> {
    if batch.is_empty() {
        return Ok(());
    }
    for outcome in store.apply(batch).await.map_err(in_workspace)? {
        outcome.map_err(in_workspace)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::MemoryStore;

    fn key(text: &str) -> Key {
        Key::new(text).expect("a key")
    }

    #[tokio::test]
    async fn keys_are_counted_once_in_memory_and_in_a_store() {
        for workspace in [None, Some(Arc::new(MemoryStore::new()) as Arc<dyn Store>)] {
            let mut ledger = Ledger::new(workspace).await.expect("empty");
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
        let refused = Ledger::new(Some(Arc::new(store))).await.err().expect("refused");
        assert_eq!(refused.kind(), ErrorKind::Config);
    }
}
