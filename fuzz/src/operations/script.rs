//! The operations, and what a map says of each.

use std::sync::Arc;

use arbitrary::Arbitrary;
use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use tiered_core::{
    Action, Applied, Atomicity, Batch, Delete, Entry, ErrorKind, Feature, Key, Known, ListOptions, Lookup,
    Precondition, Put, ReadOptions, Store, StoreExt as _, Timestamp, Version,
};

use super::model::{Held, KEYS, Model, key};
use super::subject::Subject;

#[derive(Arbitrary, Debug)]
pub(super) enum Operation {
    Get(u8),
    Fresh(u8),
    GetMany(Vec<u8>),
    Head(u8),
    Range {
        key: u8,
        from: u8,
        to: u8,
    },
    /// A read by one who knows the live version, or an older one.
    Unless {
        key: u8,
        back: Option<u8>,
    },
    ReadStream(u8),
    List {
        prefix: Prefix,
        after: Option<u8>,
        limit: Option<u8>,
    },
    Put {
        key: u8,
        write: Write,
    },
    PutStream {
        key: u8,
        write: Write,
    },
    Update {
        key: u8,
        len: u8,
    },
    Delete {
        key: u8,
        condition: Condition,
    },
    Batch {
        best_effort: bool,
        writes: Vec<(u8, Option<Write>, Condition)>,
    },
    Advance(u8),
    Flush,
    /// The process ends, without a close, and another begins.
    Reopen,
}

#[derive(Arbitrary, Debug)]
pub(super) enum Prefix {
    All,
    Key(u8),
    /// Of which no key is.
    Other,
}

#[derive(Arbitrary, Clone, Copy, Debug)]
pub(super) struct Write {
    len: u8,
    condition: Condition,
    expiry: Expiry,
}

#[derive(Arbitrary, Clone, Copy, Debug)]
enum Expiry {
    Never,
    /// Milliseconds from now on.
    After(u8),
    /// Milliseconds since the Unix epoch.
    At(u16),
}

#[derive(Arbitrary, Clone, Copy, Debug)]
pub(super) enum Condition {
    None,
    Absent,
    /// The live version.
    Current,
    /// A version of some entry, so many writes ago.
    Earlier(u8),
}

/// A store and its model in the life of one process.
pub(super) struct Run<'a> {
    pub(super) store: &'a Arc<dyn Store>,
    pub(super) subject: &'a Subject,
    pub(super) model: &'a mut Model,
}

/// What is compared of an entry.
fn held(entry: &Entry) -> Held {
    let metadata = entry.metadata();
    assert!(entry.verify().is_ok());
    Held {
        value: entry.value().to_vec(),
        version: metadata.version.clone(),
        expires_at: metadata.expires_at.map(Timestamp::as_millis),
    }
}

impl Run<'_> {
    /// Carries out one operation on the store and on the model.
    pub(super) async fn step(&mut self, operation: &Operation) {
        match operation {
            Operation::Get(k) => {
                let read = self.store.get(&key(*k)).await.expect("reads");
                assert_eq!(read.as_ref().map(held).as_ref(), self.model.get(&key(*k)));
            }
            Operation::Fresh(k) => {
                // The authority has nothing of what only the frontend has.
                let options = ReadOptions::new().authoritative();
                let read = self.store.load(&key(*k), &options).await.expect("reads").into_entry();
                assert_eq!(read.as_ref().map(held).as_ref(), self.model.get(&key(*k)));
            }
            Operation::GetMany(numbers) => self.get_many(numbers).await,
            Operation::Head(k) => {
                let head = self.store.head(&key(*k), &ReadOptions::new()).await.expect("reads");
                let expected = self.model.get(&key(*k));
                assert_eq!(head.as_ref().map(|head| &head.version), expected.map(|held| &held.version));
                assert_eq!(head.map(|head| head.size), expected.map(|held| held.value.len() as u64));
            }
            Operation::Range { key: k, from, to } => self.range(&key(*k), *from, *to).await,
            Operation::Unless { key: k, back } => self.unless(&key(*k), *back).await,
            Operation::ReadStream(k) => self.read_stream(&key(*k)).await,
            Operation::List { prefix, after, limit } => self.list(prefix, *after, *limit).await,
            Operation::Put { key: k, write } => {
                let (put, holds, expected) = self.prepared(&key(*k), *write);
                let written = self.store.put(&key(*k), put).await.map(|written| written.version);
                self.written(key(*k), written, holds, expected);
            }
            Operation::PutStream { key: k, write } => {
                let (put, holds, expected) = self.prepared(&key(*k), *write);
                let parts: Vec<_> =
                    expected.value.chunks(7).map(|part| Ok(Bytes::copy_from_slice(part))).collect();
                let body = Box::pin(stream::iter(parts));
                let written = self.store.put_stream(&key(*k), put, body).await.map(|written| written.version);
                self.written(key(*k), written, holds, expected);
            }
            Operation::Update { key: k, len } => self.update(key(*k), *len).await,
            Operation::Delete { key: k, condition } => {
                let precondition = self.precondition(&key(*k), *condition);
                let (holds, existed) =
                    (self.model.holds(&key(*k), &precondition), self.model.get(&key(*k)).is_some());
                match self
                    .store
                    .delete(&key(*k), Delete::new().precondition(precondition).report_existed())
                    .await
                {
                    Ok(deleted) => {
                        assert!(holds);
                        assert_eq!(deleted.existed, existed.into());
                        self.model.delete(&key(*k));
                    }
                    Err(error) => assert!(!holds && error.kind() == ErrorKind::PreconditionFailed, "{error}"),
                }
            }
            Operation::Batch { best_effort, writes } => self.batch(*best_effort, writes).await,
            Operation::Advance(millis) => self.model.now = self.subject.advance(u64::from(*millis)),
            Operation::Flush => self.store.flush().await.expect("flushes"),
            Operation::Reopen => {}
        }
    }

    async fn get_many(&self, numbers: &[u8]) {
        let keys: Vec<Key> = numbers.iter().take(8).map(|number| key(*number)).collect();
        let reads = self.store.get_many(&keys, &ReadOptions::new()).await.into_iter();
        let reads: Vec<_> = reads.map(|read| read.expect("reads").entry().map(held)).collect();
        assert_eq!(reads, keys.iter().map(|key| self.model.get(key).cloned()).collect::<Vec<_>>());
    }

    async fn range(&self, key: &Key, from: u8, to: u8) {
        let read = self.store.get_range(key, u64::from(from)..u64::from(to)).await;
        let (from, to) = (usize::from(from), usize::from(to));
        match (read, self.model.get(key)) {
            (Ok(None), None) => {}
            // A range that cannot be may be refused before the key is looked up.
            (Err(error), None) => assert!(error.kind() == ErrorKind::InvalidRange && from > to, "{error}"),
            (Err(error), Some(held)) => {
                assert!(
                    error.kind() == ErrorKind::InvalidRange && (from > to || from > held.value.len()),
                    "{error}"
                );
            }
            (Ok(Some(entry)), Some(held)) => {
                assert_eq!(Some(&entry.value()[..]), held.value.get(from..to.min(held.value.len())));
                assert_eq!((entry.version(), entry.size()), (&held.version, held.value.len() as u64));
            }
            (read, expected) => panic!("{read:?} instead of {expected:?}"),
        }
    }

    async fn unless(&self, key: &Key, back: Option<u8>) {
        let live = self.model.get(key);
        let version = match (back, live) {
            (None, Some(held)) => held.version.clone(),
            (back, _) => self.model.version(back.unwrap_or(0)),
        };
        let options = ReadOptions::new().unless(Known::from(version.clone()));
        match (self.store.load(key, &options).await.expect("reads").lookup, live) {
            (Lookup::Unchanged, Some(held)) => assert_eq!(held.version, version),
            (Lookup::Found(entry), Some(expected)) => {
                assert_eq!(held(&entry), *expected);
                assert_ne!(expected.version, version);
            }
            (Lookup::Absent, None) => {}
            (lookup, expected) => panic!("{lookup:?} instead of {expected:?}"),
        }
    }

    async fn read_stream(&self, key: &Key) {
        let read = self.store.read_stream(key, &ReadOptions::new()).await.expect("reads");
        let expected = self.model.get(key);
        assert_eq!(read.is_some(), expected.is_some());
        if let (Some((metadata, mut body)), Some(expected)) = (read, expected) {
            let mut value = Vec::new();
            while let Some(part) = body.next().await {
                value.extend_from_slice(&part.expect("reads"));
            }
            assert_eq!((&metadata.version, &value), (&expected.version, &expected.value));
        }
    }

    async fn list(&self, prefix: &Prefix, after: Option<u8>, limit: Option<u8>) {
        let prefix = match prefix {
            Prefix::All => "",
            Prefix::Key(number) => KEYS[usize::from(*number) % KEYS.len()],
            Prefix::Other => "a/b/c",
        };
        let options = ListOptions::new().prefix(prefix);
        let options = limit.into_iter().fold(options, |options, limit| options.limit(usize::from(limit)));
        let options = after.into_iter().fold(options, |options, number| options.start_after(key(number)));
        let listed: Vec<_> =
            self.store.list(options.clone()).map(|listed| listed.expect("lists")).collect().await;
        let expected = self.model.live().filter(|(key, _)| options.contains(key));
        let mut expected: Vec<_> = expected.take(options.limit.unwrap_or(usize::MAX)).collect();
        if self.subject.uncovers() {
            // A local cache lists what its frontend has, which need not be all that it would read.
            let limit = options.limit.unwrap_or(usize::MAX);
            expected =
                self.model.live().filter(|(key, _)| listed.iter().any(|one| one.key == **key)).collect();
            assert!(listed.len() <= limit && listed.iter().all(|one| options.contains(&one.key)));
        }
        assert_eq!(
            listed.iter().map(|listed| &listed.key).collect::<Vec<_>>(),
            expected.iter().map(|(key, _)| *key).collect::<Vec<_>>()
        );
        for (listed, (_, expected)) in listed.iter().zip(&expected) {
            assert_eq!(listed.size, expected.value.len() as u64);
            assert!(listed.version.as_ref().is_none_or(|version| *version == expected.version));
            let metadata = listed.metadata.as_ref();
            assert!(metadata.is_none_or(|metadata| metadata.version == expected.version));
        }
    }

    fn precondition(&self, key: &Key, condition: Condition) -> Precondition {
        match condition {
            Condition::None => Precondition::None,
            Condition::Absent => Precondition::Absent,
            Condition::Current => match self.model.get(key) {
                Some(held) => Precondition::Matches(held.version.clone()),
                None => Precondition::Matches(self.model.version(0)),
            },
            Condition::Earlier(back) => Precondition::Matches(self.model.version(back)),
        }
    }

    /// A put, whether its precondition holds, and what it is to leave but for its version.
    fn prepared(&mut self, key: &Key, write: Write) -> (Put, bool, Held) {
        let value = self.model.value(write.len);
        let precondition = self.precondition(key, write.condition);
        let holds = self.model.holds(key, &precondition);
        let put = Put::new(value.clone()).precondition(precondition);
        let expiry = if self.subject.uncovers() { Expiry::Never } else { write.expiry };
        let (put, expires_at) = match expiry {
            Expiry::Never => (put, None),
            Expiry::After(millis) => {
                let ttl = std::time::Duration::from_millis(u64::from(millis));
                (put.expires_in(ttl), Some(self.model.now + u64::from(millis)))
            }
            Expiry::At(at) => (put.expires_at(Timestamp::from_millis(u64::from(at))), Some(u64::from(at))),
        };
        (put, holds, Held { value, version: Version::from_u128(0), expires_at })
    }

    fn written(&mut self, key: Key, written: tiered_core::Result<Version>, holds: bool, expected: Held) {
        match written {
            Ok(version) => {
                assert!(holds, "{key:?} was written against its precondition");
                self.model.put(key, Held { version, ..expected });
            }
            Err(error) => assert!(!holds && error.kind() == ErrorKind::PreconditionFailed, "{error}"),
        }
    }

    async fn update(&mut self, key: Key, len: u8) {
        let added = self.model.value(len);
        let mut value = Vec::new();
        let updated = self.store.update(&key, |old| {
            value = [old.map_or(&[][..], |entry| entry.value()), &added].concat();
            value.truncate(1_000);
            Some(Put::new(value.clone()))
        });
        let (old, written) = updated.await.expect("updates");
        assert_eq!(old.as_ref().map(held).as_ref(), self.model.get(&key));
        let version = written.expect("something was written").version;
        self.model.put(key, Held { value, version, expires_at: None });
    }

    /// Preconditions are judged against the state before the batch.
    async fn batch(&mut self, best_effort: bool, writes: &[(u8, Option<Write>, Condition)]) {
        let mut batch = if best_effort { Batch::new().best_effort() } else { Batch::new() };
        let (mut all_hold, mut expected) = (true, Vec::new());
        for (number, write, condition) in writes.iter().take(6) {
            let key = key(*number);
            let existed = self.model.get(&key).is_some();
            let (action, holds, held) = if let Some(write) = write {
                let (put, holds, held) = self.prepared(&key, *write);
                (Action::Put(put), holds, Some(held))
            } else {
                let precondition = self.precondition(&key, *condition);
                let holds = self.model.holds(&key, &precondition);
                (Action::Delete(Delete::new().precondition(precondition).report_existed()), holds, None)
            };
            // Where one outcome is given for each, a later operation that fails leaves open what an earlier one on its
            // key did.
            let atomic = self.store.capabilities().has(Feature::AtomicBatch);
            if !atomic && !holds && batch.operations().iter().any(|(other, _)| *other == key) {
                continue;
            }
            all_hold &= holds;
            batch.push(key.clone(), action);
            expected.push((key, holds, existed, held));
        }
        let atomic = self.store.capabilities().has(Feature::AtomicBatch);
        let (required, empty) = (batch.atomicity() == Atomicity::Required, batch.is_empty());
        match self.store.apply(batch).await {
            Ok(outcomes) => {
                assert!(empty || if atomic { all_hold } else { !required });
                assert_eq!(outcomes.len(), expected.len());
                for (outcome, (key, holds, existed, held)) in outcomes.into_iter().zip(expected) {
                    match (outcome, held) {
                        (Ok(Applied::Put(written)), Some(held)) => {
                            self.written(key, Ok(written.version), holds, held);
                        }
                        (Ok(Applied::Delete(deleted)), None) => {
                            assert!(holds);
                            assert_eq!(deleted.existed, existed.into());
                            self.model.delete(&key);
                        }
                        (Err(error), _) => {
                            assert!(!holds && error.kind() == ErrorKind::PreconditionFailed, "{error}");
                        }
                        (outcome, held) => panic!("{outcome:?} for {held:?}"),
                    }
                }
            }
            Err(error) if error.kind() == ErrorKind::Unsupported => assert!(!atomic && required, "{error}"),
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::PreconditionFailed, "{error}");
                assert!(atomic && !all_hold, "{error}");
            }
        }
    }

    /// What is in memory is what is there, or nothing is said.
    pub(super) fn peeks(&self) {
        for number in 0..8 {
            if let Some(entry) = self.store.peek(&key(number)) {
                assert_eq!(Some(&held(&entry)), self.model.get(&key(number)));
            }
        }
    }

    /// At rest the backend has everything, and the frontend nothing else.
    pub(super) async fn ends(&mut self) {
        self.store.flush().await.expect("flushes");
        self.list(&Prefix::All, None, None).await;
        for number in 0..8 {
            self.step(&Operation::Get(number)).await;
        }
        if !self.subject.kind.writes_the_backend() {
            return;
        }
        let backend = self.subject.backend.snapshot();
        let expected: Vec<_> = self.model.live().collect();
        assert_eq!(backend.len(), expected.len());
        for (key, expected) in expected {
            assert_eq!(backend.get(key).map(held).as_ref(), Some(expected), "{key:?}");
        }
        for (key, entry) in self.subject.frontend.snapshot() {
            // An older one would be compared before it is served.
            if self.store.peek(&key).is_some() {
                assert_eq!(Some(&entry), backend.get(&key), "{key:?}");
            }
        }
    }
}
