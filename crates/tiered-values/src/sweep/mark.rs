//! Marking: everything that is reachable from the roots, as of one moment.

use std::collections::HashMap;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use tiered_core::{Entry, ErrorKind, Key, ListOptions, ReadOptions, Result as StoreResult, Store, Version};

use super::live::{LiveSet, Roots};
use crate::error::{Error, Result};

/// How many passes are made before the roots count as changing too fast.
const PASSES: u32 = 64;
/// How many keys are compared at once.
const COMPARED: usize = 256;

/// What is reachable.
#[derive(Debug)]
pub(super) struct Marked {
    pub(super) live: LiveSet,
    /// Keys that are referred to and do not exist.
    pub(super) missing: u64,
}

#[derive(Debug)]
struct Marking<'m> {
    store: &'m dyn Store,
    roots: &'m Roots,
    concurrency: usize,
    live: LiveSet,
    /// What decides what is reachable, and can change: the roots, and keys that are referred to and were absent. With
    /// the version as it was read last; `None`: absent.
    watched: HashMap<Key, Option<Version>>,
}

/// Marks what is reachable at the moment when the last pass began: all roots, and all keys that were missing, then had the
/// versions that were walked. Nothing else changes what is reachable.
pub(super) async fn mark(store: &dyn Store, roots: &Roots, concurrency: usize) -> Result<Marked> {
    let mut marking =
        Marking { store, roots, concurrency, live: LiveSet::default(), watched: HashMap::new() };
    let mut found: Vec<Key> = roots.keys.clone();
    marking.watch(&found);
    found.extend(marking.new_roots().await?);
    if found.is_empty() {
        return Err(Error::invalid(
            "no root was found, and everything would be garbage; name a root that exists, or use delete_prefix",
        ));
    }
    marking.walk(found).await?;
    if let Some(absent) = roots.keys.iter().find(|key| marking.watched.get(*key).is_some_and(Option::is_none))
    {
        let what = "the root does not exist; leave it out if it was deleted, or name the prefix that roots are under";
        return Err(tiered_core::Error::new(ErrorKind::NotFound, what).key_is(absent).into());
    }
    for _ in 0..PASSES {
        let mut changed = marking.new_roots().await?;
        changed.extend(marking.changed().await?);
        if changed.is_empty() {
            let missing = marking.watched.values().filter(|version| version.is_none()).count() as u64;
            return Ok(Marked { live: marking.live, missing });
        }
        marking.walk(changed).await?;
    }
    let key = marking.watched.into_keys().next().map_or_else(|| Key::new("root"), Ok)?;
    Err(Error::Contended { key, attempts: PASSES })
}

impl Marking<'_> {
    fn watch(&mut self, keys: &[Key]) {
        for key in keys {
            self.watched.entry(key.clone()).or_insert(None);
        }
    }

    /// Roots under the prefixes that are not watched yet.
    async fn new_roots(&mut self) -> Result<Vec<Key>> {
        let mut found = Vec::new();
        for prefix in &self.roots.prefixes {
            let mut listing = self.store.list(ListOptions::new().prefix(prefix));
            while let Some(listed) = listing.next().await {
                let key = listed?.key;
                if !self.watched.contains_key(&key) {
                    found.push(key);
                }
            }
        }
        self.watch(&found);
        Ok(found)
    }

    /// What is watched and has another version than it was read with.
    async fn changed(&self) -> Result<Vec<Key>> {
        let keys: Vec<Key> = self.watched.keys().cloned().collect();
        let options = ReadOptions::new().authoritative().range(0..0);
        let mut changed = Vec::new();
        for keys in keys.chunks(COMPARED) {
            let reads = self.store.get_many(keys, &options).await;
            for (key, read) in keys.iter().zip(reads) {
                let version = read?.into_entry().map(|entry| entry.version().clone());
                if self.watched.get(key) != Some(&version) {
                    changed.push(key.clone());
                }
            }
        }
        Ok(changed)
    }

    /// Reads these keys, and everything that is reachable from them and was not reached before.
    async fn walk(&mut self, mut queue: Vec<Key>) -> Result<()> {
        for key in &queue {
            self.live.insert(key);
        }
        let mut running = FuturesUnordered::new();
        loop {
            while running.len() < self.concurrency {
                let Some(key) = queue.pop() else { break };
                running.push(read(self.store, self.roots, key));
            }
            let Some(found) = running.next().await else { return Ok(()) };
            let (key, version, references) = found?;
            for reference in references {
                if self.live.insert(&reference) && !self.roots.is_leaf(&reference) {
                    queue.push(reference);
                }
            }
            if version.is_none() || self.watched.contains_key(&key) {
                self.watched.insert(key, version);
            }
        }
    }
}

/// A key's version, `None` where it is absent, and what it refers to.
async fn read(store: &dyn Store, roots: &Roots, key: Key) -> StoreResult<(Key, Option<Version>, Vec<Key>)> {
    let read = store.load(&key, &ReadOptions::new().authoritative()).await?;
    let Some(entry) = read.into_entry() else { return Ok((key, None, Vec::new())) };
    let references = roots.walk.references(&key, &entry).await.map_err(|error| error.key_is(&key))?;
    Ok((key, Some(Entry::version(&entry).clone()), references))
}
