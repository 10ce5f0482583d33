//! Marking: everything that is reachable from the roots, as of one moment.

use std::collections::{HashMap, HashSet};

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
    /// Keys that are referred to, do not exist, and are no roots.
    pub(super) missing: u64,
    /// The prefixes of roots under which there is none.
    pub(super) without_roots: Vec<String>,
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
    /// The roots among them: those that are named, and those that were listed.
    root_keys: HashSet<Key>,
}

/// Marks what is reachable at the moment when the last pass began: all roots, and all keys that were missing, then had the
/// versions that were walked. Nothing else changes what is reachable.
pub(super) async fn mark(store: &dyn Store, roots: &Roots, concurrency: usize) -> Result<Marked> {
    let mut marking = Marking {
        store,
        roots,
        concurrency,
        live: LiveSet::default(),
        watched: HashMap::new(),
        root_keys: roots.keys.iter().cloned().collect(),
    };
    let mut found: Vec<Key> = roots.keys.clone();
    marking.watch(&found);
    found.extend(marking.new_roots().await?);
    marking.walk(found).await?;
    marking.check_roots()?;
    let mut last = None;
    for _ in 0..PASSES {
        let mut changed = marking.new_roots().await?;
        changed.extend(marking.changed().await?);
        let Some(one) = changed.last() else {
            let missing = marking.missing();
            let without_roots = marking.without_roots(&roots.prefixes);
            return Ok(Marked { live: marking.live, missing, without_roots });
        };
        last = Some(one.clone());
        marking.walk(changed).await?;
    }
    let key = last.map_or_else(|| Key::new("root"), Ok)?;
    Err(Error::Contended { key, attempts: PASSES })
}

impl Marking<'_> {
    /// Refuses what would condemn too much. A key that was listed may be absent when it is read: it expired, or was deleted.
    fn check_roots(&self) -> Result<()> {
        if let Some(absent) = self.roots.keys.iter().find(|key| !self.is_there(key)) {
            let what = "the root does not exist; leave it out if it was deleted, or name the prefix that roots are under";
            return Err(tiered_core::Error::new(ErrorKind::NotFound, what).key_is(absent).into());
        }
        if !self.root_keys.iter().any(|key| self.is_there(key)) {
            return Err(Error::invalid(
                "no root was found, and everything would be garbage; name a root that exists, or use delete_prefix",
            ));
        }
        match self.without_roots(&self.roots.existing).first() {
            None => Ok(()),
            Some(prefix) => {
                let what =
                    format!("there is no root under {prefix:?}; check its spelling, or allow it to be empty");
                Err(tiered_core::Error::new(ErrorKind::NotFound, what).into())
            }
        }
    }

    fn is_there(&self, key: &Key) -> bool {
        self.watched.get(key).is_some_and(Option::is_some)
    }

    /// Those of the prefixes under which no root was read.
    fn without_roots(&self, prefixes: &[String]) -> Vec<String> {
        let has_root = |prefix: &str| {
            self.root_keys.iter().any(|key| key.as_str().starts_with(prefix) && self.is_there(key))
        };
        prefixes.iter().filter(|prefix| !has_root(prefix)).cloned().collect()
    }

    fn missing(&self) -> u64 {
        let absent = self.watched.iter().filter(|(_, version)| version.is_none());
        absent.filter(|(key, _)| !self.root_keys.contains(*key)).count() as u64
    }

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
                    found.push(key.clone());
                }
                self.root_keys.insert(key);
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
