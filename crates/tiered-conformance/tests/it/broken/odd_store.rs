//! The calls of the odd stores.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures_util::{StreamExt as _, stream};
use tiered_conformance::{DerivedReads, Interceptor};
use tiered_core::adapter::precondition_failed;
use tiered_core::adapter::{BatchOutcomes, Claim, Reads, Scope};
use tiered_core::{
    Action, Applied, Batch, ByteStream, Capabilities, Delete, Deleted, Entry, Key, ListOptions, ListStream,
    Metadata, Outcome, Precondition, Put, Read, ReadOptions, Result, Store, Version, Written, adapter,
};

use super::odd::{Odd, OddStore};

impl OddStore {
    /// How many keys a listing or a read of many loses one after.
    fn page(&self) -> Option<usize> {
        match self.odd {
            Odd::ListLoses64 | Odd::ManyLoses64 => Some(64),
            Odd::ListLoses100 => Some(100),
            Odd::ListLoses1000 | Odd::ManyLoses1000 | Odd::BatchOf1000 => Some(1_000),
            Odd::ListLoses1024 | Odd::ManyLoses1024 => Some(1_024),
            Odd::ListLoses4096 | Odd::BatchOf4096 => Some(4_096),
            _ => None,
        }
    }

    fn is_listing(&self) -> bool {
        matches!(
            self.odd,
            Odd::ListLoses64
                | Odd::ListLoses100
                | Odd::ListLoses1000
                | Odd::ListLoses1024
                | Odd::ListLoses4096
        )
    }

    /// The operations of a batch, one after the other and each for itself.
    async fn one_by_one(&self, operations: Vec<(Key, Action)>) -> Result<BatchOutcomes> {
        let mut outcomes = Vec::new();
        for (key, action) in operations {
            outcomes.push(Ok(match action {
                Action::Put(put) => Applied::Put(self.inner.put(&key, put).await?),
                Action::Delete(delete) => Applied::Delete(self.inner.delete(&key, delete).await?),
            }));
            super::store::others_go_first().await;
        }
        Ok(outcomes)
    }

    /// A put during which a peek goes wrong.
    async fn put_slowly(&self, key: &Key, put: Put) -> Result<Written> {
        let before = self.inner.peek(key);
        self.flying.store(true, Ordering::Release);
        tokio::time::sleep(Duration::from_millis(1)).await;
        let written = self.inner.put(key, put).await;
        self.flying.store(false, Ordering::Release);
        if let Some(before) = before {
            self.last.lock().insert(key.clone(), before);
        }
        written
    }

    /// Whether the preconditions of a batch hold.
    async fn hold(&self, batch: &Batch) -> Result<()> {
        for (key, action) in batch.operations() {
            let current = self.inner.head(key, &ReadOptions::new()).await?;
            let precondition = match action {
                Action::Put(put) => &put.precondition,
                Action::Delete(delete) => &delete.precondition,
            };
            if !precondition.holds(current.as_ref().map(|metadata| &metadata.version)) {
                return Err(precondition_failed(key));
            }
        }
        Ok(())
    }

    /// The batch as this store carries it out.
    fn bent(&self, batch: Batch) -> Vec<(Key, Action)> {
        let shared = Version::from_u128(
            tiered_core::adapter::VersionMint::from_entropy().mint().as_u128().unwrap_or(1),
        );
        let bend = |(key, action): (Key, Action)| {
            let action = match action {
                Action::Put(put) => {
                    let mut put = self.reduced(put);
                    if self.is(Odd::BatchVersionShared) {
                        put = adapter::with_version(put, shared.clone());
                    }
                    if let Some(ended) = self.ended(&key).filter(|_| self.is(Odd::ExpiredMatchesBatch))
                        && put.precondition == Precondition::Matches(ended.version().clone())
                    {
                        put.precondition = Precondition::None;
                    }
                    Action::Put(put)
                }
                Action::Delete(_) if self.is(Odd::BatchDeletesUnconditionally) => {
                    Action::Delete(Delete::new())
                }
                Action::Delete(delete) => Action::Delete(delete),
            };
            (key, action)
        };
        batch.into_operations().into_iter().map(bend).collect()
    }

    /// The parts of the streams of `key` so far, of which this one has brought the next.
    fn share(&self, key: &Key, index: usize, part: Bytes) -> BytesMut {
        let mut parts = self.parts.lock();
        let parts = parts.entry(key.clone()).or_default();
        match parts.get_mut(index) {
            Some(place) => *place = part,
            None => parts.push(part),
        }
        parts.iter().take(index + 1).flatten().copied().collect()
    }

    /// A stream of which parts are lost, or seen before its end.
    async fn collected(&self, key: &Key, put: &Put, mut body: ByteStream) -> Result<Bytes> {
        let mut value = BytesMut::new();
        let mut index = 0;
        while let Some(part) = body.next().await {
            if self.is(Odd::StreamBrokenKept) && part.is_err() && value.len() > 1 << 20 {
                self.inner.put(key, put.clone().value(value.clone().freeze())).await?;
            }
            let part = part.map_err(|error| error.outcome_is(Outcome::NotApplied))?;
            self.capabilities.check_value((value.len() + part.len()) as u64)?;
            if self.is(Odd::StreamPartsShared) {
                value = self.share(key, index, part);
                index += 1;
                super::store::others_go_first().await;
                continue;
            }
            match self.odd {
                Odd::StreamSmallPartsDropped if part.len() == 1 && value.len() > 8 => {}
                Odd::StreamLargePartsCut => value.extend(part.iter().take((1 << 20) - 1)),
                _ => value.extend_from_slice(&part),
            }
            if self.is(Odd::StreamVisibleEarly) && value.len() > 1_000 {
                self.inner.put(key, put.clone().value(value.clone().freeze())).await?;
            }
        }
        Ok(value.freeze())
    }
}

#[async_trait]
impl Interceptor for OddStore {
    fn derived_reads(&self) -> DerivedReads {
        DerivedReads::Load
    }

    fn capabilities<'s>(&'s self, _inner: &'s dyn Store) -> &'s Capabilities {
        &self.capabilities
    }

    async fn load(&self, inner: &dyn Store, key: &Key, options: &ReadOptions) -> Result<Read> {
        let read = inner.load(&self.kept_key(key), options).await?;
        Ok(self.unchanged(read, options.unless.as_ref()))
    }

    async fn put(&self, inner: &dyn Store, key: &Key, put: Put) -> Result<Written> {
        let key = &self.kept_key(key);
        if self.is(Odd::KeyCharactersCounted) && key.as_str().chars().count() > super::bend::LONGEST {
            self.capabilities.check_key(key)?;
        }
        let current = inner.load(key, &ReadOptions::new()).await?.into_entry();
        if let Some(current) = current.filter(|_| self.is(Odd::EqualBytesSkipped))
            && put.precondition == Precondition::None
            && *current.value() == put.value
            && adapter::version_of(&put).is_none()
        {
            // The bytes are there; only the version is new.
            let version = tiered_core::adapter::VersionMint::from_entropy().mint();
            return Ok(Written::committed(version));
        }
        let mut put = self.stored(key, put);
        if let Some(ended) = self.ended_by_delete(key).filter(|_| self.is(Odd::DeleteKeepsVersion)) {
            put = adapter::with_version(put, ended.version().clone());
        }
        if matches!(self.odd, Odd::PeekOlder | Odd::PeekTorn) {
            return self.put_slowly(key, put).await;
        }
        let written = inner.put(key, put.clone()).await?;
        self.remember_put(key, &put, &written.version);
        Ok(written)
    }

    async fn delete(&self, inner: &dyn Store, key: &Key, delete: Delete) -> Result<Deleted> {
        let key = &self.kept_key(key);
        let delete = self.deleted(key, delete);
        let deleted = inner.delete(key, delete).await?;
        self.bury(key);
        Ok(deleted)
    }

    fn list(&self, inner: &dyn Store, mut options: ListOptions) -> ListStream {
        if self.is(Odd::CursorShared) {
            // One cursor for all listings: where it stands is where the next page of any of them begins.
            let (store, cursor) = (self.inner.clone(), Arc::clone(&self.cursor));
            let limit = options.limit.take();
            cursor.lock().clone_from(&options.start_after);
            let steps = stream::unfold(options, move |mut options| {
                let (store, cursor) = (store.clone(), Arc::clone(&cursor));
                async move {
                    let at = cursor.lock().clone();
                    options.start_after = at;
                    let next = store.list(options.clone().limit(1)).next().await?;
                    if let Ok(listed) = &next {
                        *cursor.lock() = Some(listed.key.clone());
                    }
                    Some((next, options))
                }
            });
            return Box::pin(steps.take(limit.unwrap_or(usize::MAX)));
        }
        let all = inner.list(options);
        match self.page().filter(|_| self.is_listing()) {
            // The first key after a page falls between two pages.
            Some(page) => Box::pin(
                all.enumerate()
                    .filter_map(move |(index, listed)| std::future::ready((index != page).then_some(listed))),
            ),
            None => all,
        }
    }

    fn peek(&self, inner: &dyn Store, key: &Key) -> Option<Entry> {
        let entry = inner.peek(key)?;
        let before = self.last.lock().get(key).cloned().filter(|_| self.flying.load(Ordering::Acquire));
        match (self.odd, before) {
            // While the next put is under way: what was there before the one that was acknowledged last.
            (Odd::PeekOlder, Some(before)) if before.version() != entry.version() => Some(before),
            (Odd::PeekTorn, Some(before)) if before.version() != entry.version() => {
                Some(Entry::from_parts(before.into_value(), Arc::clone(entry.metadata())))
            }
            _ => Some(entry),
        }
    }

    async fn get_many(&self, inner: &dyn Store, keys: &[Key], options: &ReadOptions) -> Reads {
        let mut reads = Reads::new();
        for key in keys {
            reads.push(self.load(inner, key, options).await);
        }
        if let Some(page) = self.page().filter(|_| !self.is_listing())
            && let Some(read) = reads.get_mut(page)
        {
            *read = Ok(Read::from_store(tiered_core::Lookup::Absent));
        }
        reads
    }

    async fn apply(&self, inner: &dyn Store, batch: Batch) -> Result<BatchOutcomes> {
        match self.odd {
            Odd::BatchHalfWhenDropped => {
                self.hold(&batch).await?;
                self.one_by_one(batch.into_operations()).await
            }
            Odd::BatchBesidePuts => {
                // Batches are atomic among themselves.
                let _gate = self.gate.lock().await;
                self.hold(&batch).await?;
                tokio::time::sleep(Duration::from_millis(20)).await;
                let mut unconditional = Batch::new();
                for (key, action) in batch.into_operations() {
                    let action = match action {
                        Action::Put(put) => Action::Put(put.precondition(Precondition::None)),
                        Action::Delete(delete) => Action::Delete(delete.precondition(Precondition::None)),
                    };
                    unconditional.push(key, action);
                }
                inner.apply(unconditional).await
            }
            _ => {
                let atomicity = batch.atomicity();
                let mut operations = self.bent(batch);
                let asked = operations.len();
                if matches!(self.odd, Odd::BatchOf1000 | Odd::BatchOf4096) {
                    operations.truncate(self.page().unwrap_or(asked));
                }
                let mut all = Batch::of(atomicity);
                let mut keys = Vec::new();
                for (key, action) in operations {
                    let key = self.kept_key(&key);
                    keys.push(key.clone());
                    all.push(key, action);
                }
                let mut outcomes = inner.apply(all).await?;
                while outcomes.len() < asked {
                    let version = tiered_core::adapter::VersionMint::from_entropy().mint();
                    outcomes.push(Ok(Applied::Put(Written::committed(version))));
                }
                for key in keys {
                    self.remember(&key).await;
                }
                Ok(outcomes)
            }
        }
    }

    async fn read_stream(
        &self,
        inner: &dyn Store,
        key: &Key,
        options: &ReadOptions,
    ) -> Result<Option<(Arc<Metadata>, ByteStream)>> {
        let key = self.kept_key(key);
        if !self.is(Odd::StreamReadMixed) || options.range.is_some() {
            return inner.read_stream(&key, options).await;
        }
        let Some(metadata) = inner.head(&key, options).await? else { return Ok(None) };
        // Each part is read when it is asked for, whatever the key holds by then.
        let (store, size) = (self.inner.clone(), metadata.size);
        let parts = stream::unfold(0, move |start| {
            let (store, key) = (store.clone(), key.clone());
            async move {
                if start >= size {
                    return None;
                }
                let range = ReadOptions::new().range(start..start + 65_536);
                let part = store
                    .load(&key, &range)
                    .await
                    .map(|read| read.into_entry().map(Entry::into_value).unwrap_or_default());
                Some((part, start + 65_536))
            }
        });
        Ok(Some((metadata, Box::pin(parts))))
    }

    async fn put_stream(&self, inner: &dyn Store, key: &Key, put: Put, body: ByteStream) -> Result<Written> {
        let key = self.kept_key(key);
        let mut put = self.reduced(put);
        if self.is(Odd::StreamJudgedEarly) {
            let current = inner.head(&key, &ReadOptions::new()).await?;
            if !put.precondition.holds(current.as_ref().map(|metadata| &metadata.version)) {
                return Err(precondition_failed(&key));
            }
            put.precondition = Precondition::None;
        }
        if self.is(Odd::StreamExpiredBlocks)
            && self.ended_by_expiry(&key).is_some()
            && put.precondition == Precondition::Absent
        {
            return Err(precondition_failed(&key));
        }
        let value = self.collected(&key, &put, body).await?;
        let put = put.value(value);
        let written = inner.put(&key, put.clone()).await?;
        self.remember_put(&key, &put, &written.version);
        Ok(written)
    }

    async fn claim(&self, inner: &dyn Store, scope: &Scope) -> Result<Claim> {
        match self.odd {
            Odd::ClaimCoarse => self.claims.claim("odd", &Scope::Whole).await,
            Odd::ClaimKept => {
                // Lent without an end: what is handed out is no claim.
                let claim = self.claims.claim("odd", scope).await?;
                self.kept.lock().push(claim);
                Ok(Claim::shared())
            }
            _ => inner.claim(scope).await,
        }
    }
}
