//! A ledger in a store. What is noted is in memory at first, and goes there many entries at a time: a commit costs the same for one
//! entry as for some hundred.

use std::collections::HashMap;
use std::fmt::Write as _;

use bytes::{Buf as _, Bytes};

use super::header::Digests;
use super::node::{Id, MOST, Node};
use super::workspace::{TOGETHER, Workspace, foreign};
use crate::batch::Batch;
use crate::error::Result;
use crate::key::Key;
use crate::write::Put;

/// Entries that are not in the store yet: at most about so many. They take a few megabytes until then.
const UNWRITTEN: usize = 16_384;

/// What a store has of a ledger, and what it is to get.
pub(super) struct Pages {
    workspace: Workspace,
    /// The number of the first key that is not in the store, and the keys from there on.
    first: Id,
    keys: Vec<Key>,
    /// The numbers of those keys, by the digests of these.
    ids: HashMap<u128, Id>,
    nodes: HashMap<Id, Node>,
}

impl Pages {
    /// Of a store that has so many keys.
    pub(super) fn new(workspace: Workspace, reached: Id) -> Self {
        Self { workspace, first: reached, keys: Vec::new(), ids: HashMap::new(), nodes: HashMap::new() }
    }

    pub(super) const fn workspace(&self) -> &Workspace {
        &self.workspace
    }

    /// Writes what is not in the store yet, by one batch: a part of it would leave gaps between the numbers.
    pub(super) async fn write(&mut self) -> Result<()> {
        let mut batch = Batch::new().best_effort();
        // In the order of their names, which is that in which a store may keep them.
        let mut ids: Vec<(u128, Id)> = self.ids.drain().collect();
        ids.sort_unstable();
        for (digest, id) in ids {
            batch.push(name_of(digest)?, Put::new(Bytes::copy_from_slice(&id.to_le_bytes())).into());
        }
        for key in self.keys.drain(..) {
            batch.push(name_of_key(self.first)?, Put::new(key.as_str().to_owned()).into());
            self.first += 1;
        }
        let mut nodes: Vec<(Id, Node)> = self.nodes.drain().collect();
        nodes.sort_unstable_by_key(|(id, _)| *id);
        for (id, node) in nodes {
            batch.push(name_of_node(id)?, Put::new(node.encode()).into());
        }
        self.workspace.put(batch).await
    }

    async fn write_if_many(&mut self) -> Result<()> {
        if 2 * self.keys.len() + self.nodes.len() < UNWRITTEN {
            return Ok(());
        }
        self.write().await
    }

    /// Makes what was noted last, where a later walk may go on from it.
    pub(super) async fn keep(&mut self) -> Result<()> {
        if self.workspace.label().is_none() {
            return Ok(());
        }
        self.write().await?;
        self.workspace.flush().await
    }

    /// The numbers of these keys. Those that were not reached before get the next ones.
    pub(super) async fn reach(
        &mut self,
        asked: &[Key],
        digests: Digests,
        next: &mut (dyn FnMut() -> Result<Id> + Send),
    ) -> Result<Vec<Id>> {
        let mut found = Vec::with_capacity(asked.len());
        for keys in asked.chunks(TOGETHER) {
            let digests: Vec<u128> = keys.iter().map(|key| digests.of_key(key)).collect();
            let mut known = self.known(&digests).await?.into_iter();
            for (key, digest) in keys.iter().zip(digests) {
                // It may be there twice.
                let id = known.next().flatten().or_else(|| self.ids.get(&digest).copied());
                if let Some(id) = id {
                    found.push(id);
                    continue;
                }
                let id = next()?;
                self.ids.insert(digest, id);
                self.keys.push(key.clone());
                found.push(id);
            }
            self.write_if_many().await?;
        }
        Ok(found)
    }

    /// The numbers that keys with these digests have.
    async fn known(&self, digests: &[u128]) -> Result<Vec<Option<Id>>> {
        let mut known: Vec<Option<Id>> = digests.iter().map(|digest| self.ids.get(digest).copied()).collect();
        if self.first == 0 {
            return Ok(known);
        }
        let (mut names, mut places) = (Vec::new(), Vec::new());
        for (digest, known) in digests.iter().zip(&mut known) {
            if known.is_none() {
                names.push(name_of(*digest)?);
                places.push(known);
            }
        }
        for (place, bytes) in places.into_iter().zip(self.workspace.get(&names).await?) {
            if let Some(mut bytes) = bytes {
                *place = Some(bytes.try_get_u32_le().map_err(|_| foreign())?);
            }
        }
        Ok(known)
    }

    /// The keys of these numbers.
    pub(super) async fn keys(&self, ids: &[Id]) -> Result<Vec<Key>> {
        let unwritten = |id: &Id| {
            let place = id.checked_sub(self.first)?;
            self.keys.get(place as usize).cloned()
        };
        let decode = |bytes: Bytes| Key::new(std::str::from_utf8(&bytes).map_err(|_| foreign())?);
        let keys = self.find(ids, unwritten, name_of_key, decode).await?;
        keys.into_iter().map(|key| key.ok_or_else(foreign)).collect()
    }

    /// Notes what was found.
    pub(super) async fn note(&mut self, visited: Vec<(Id, Node)>) -> Result<()> {
        self.nodes.extend(visited);
        self.write_if_many().await
    }

    /// What was found under these keys; `None` for one that was not visited.
    pub(super) async fn visited(&self, ids: &[Id]) -> Result<Vec<Option<Node>>> {
        let decode = |bytes: Bytes| Node::decode(bytes).ok_or_else(foreign);
        self.find(ids, |id| self.nodes.get(id).cloned(), name_of_node, decode).await
    }

    /// What is in memory under these numbers, or else in the store.
    async fn find<T>(
        &self,
        ids: &[Id],
        unwritten: impl Fn(&Id) -> Option<T>,
        name: impl Fn(Id) -> Result<Key>,
        decode: impl Fn(Bytes) -> Result<T>,
    ) -> Result<Vec<Option<T>>> {
        let mut found: Vec<Option<T>> = ids.iter().map(unwritten).collect();
        let mut missing: Vec<(Id, &mut Option<T>)> =
            ids.iter().copied().zip(&mut found).filter(|(_, found)| found.is_none()).collect();
        for some in missing.chunks_mut(TOGETHER) {
            let names = some.iter().map(|(id, _)| name(*id)).collect::<Result<Vec<_>>>()?;
            for ((_, place), bytes) in some.iter_mut().zip(self.workspace.get(&names).await?) {
                **place = bytes.map(&decode).transpose()?;
            }
        }
        Ok(found)
    }
}

/// How many keys a workspace has: their numbers have no gaps, since each batch is all or nothing.
pub(super) async fn count(workspace: &Workspace) -> Result<Id> {
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

/// Where the number of a key is kept: under its fingerprint of 128 bits, under random keys. Of ten billion keys two have the
/// same with a probability of 10⁻¹⁹.
fn name_of(digest: u128) -> Result<Key> {
    named('k', 32, digest)
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
