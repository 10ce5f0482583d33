//! Stores that are broken where only unusual entries, numbers and moments show it.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use tiered_core::adapter::Stamp;
use tiered_core::{
    Attributes, Capabilities, Delete, Entry, Expiry, Feature, Key, Lookup, MemoryStore, Precondition, Put,
    Read, Store as _, Timestamp, Version, adapter,
};

use super::bend::{LONGEST, reference};

/// What is odd.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Odd {
    /// Nothing: the control.
    Nothing,
    BatchDropsAttributes,
    BatchDropsExpiry,
    BatchDropsVersions,
    BatchDeletesUnconditionally,
    BatchHalfWhenDropped,
    BatchBesidePuts,
    BatchOf1000,
    BatchOf4096,
    BatchVersionShared,
    ClaimCoarse,
    ClaimKept,
    CursorShared,
    DeleteKeepsAttributes,
    DeleteKeepsVersion,
    EqualBytesSkipped,
    ExpiredBlocksAbsent,
    ExpiredMatchesBatch,
    ExpiredMatchesDelete,
    ExpiredMatchesPut,
    ExpirySeconds,
    ExpiryKeepsAttributes,
    KeyCharactersCounted,
    KeyDecoded,
    KeyComposed,
    ListLoses64,
    ListLoses100,
    ListLoses1000,
    ListLoses1024,
    ListLoses4096,
    ManyLoses64,
    ManyLoses1000,
    ManyLoses1024,
    ModifiedSeconds,
    PeekOlder,
    PeekTorn,
    StreamBrokenKept,
    StreamDropsAttributes,
    StreamDropsCondition,
    StreamDropsExpiry,
    StreamExpiredBlocks,
    StreamJudgedEarly,
    StreamLargePartsCut,
    StreamPartsShared,
    StreamReadMixed,
    StreamSmallPartsDropped,
    StreamVisibleEarly,
    TokensFolded,
    ValuesDeduplicated,
    VersionsOfHighBits,
    VersionsOfLowBits,
}

/// Each with the case that must name it.
pub(super) const TABLE: [(Odd, &str); 50] = [
    (Odd::BatchDropsAttributes, "batch_metadata"),
    (Odd::BatchDropsExpiry, "batch_metadata"),
    (Odd::BatchDropsVersions, "batch_metadata"),
    (Odd::BatchDeletesUnconditionally, "batch_delete_conditions"),
    (Odd::BatchHalfWhenDropped, "batch_dropped"),
    (Odd::BatchBesidePuts, "race_batch_and_put"),
    (Odd::BatchOf1000, "batch_large"),
    (Odd::BatchOf4096, "batch_above_page_sizes"),
    (Odd::BatchVersionShared, "batch_versions"),
    (Odd::ClaimCoarse, "claim_disjoint"),
    (Odd::ClaimKept, "claim_released"),
    (Odd::CursorShared, "list_interleaved"),
    (Odd::DeleteKeepsAttributes, "delete_removes_metadata"),
    (Odd::DeleteKeepsVersion, "delete_removes_metadata"),
    (Odd::EqualBytesSkipped, "put_same_value"),
    (Odd::ExpiredBlocksAbsent, "expiry_put_absent"),
    (Odd::ExpiredMatchesBatch, "expiry_batch_conditions"),
    (Odd::ExpiredMatchesDelete, "expiry_delete_conditions"),
    (Odd::ExpiredMatchesPut, "expiry_put_matches"),
    (Odd::ExpirySeconds, "expiry_to_the_millisecond"),
    (Odd::ExpiryKeepsAttributes, "expiry_removes_metadata"),
    (Odd::KeyCharactersCounted, "put_max_key_in_bytes"),
    (Odd::KeyDecoded, "read_keys_similar"),
    (Odd::KeyComposed, "read_keys"),
    (Odd::ListLoses64, "list_above_page_sizes"),
    (Odd::ListLoses100, "list_above_page_sizes"),
    (Odd::ListLoses1000, "list_above_page_sizes"),
    (Odd::ListLoses1024, "list_above_page_sizes"),
    (Odd::ListLoses4096, "list_above_page_sizes"),
    (Odd::ManyLoses64, "read_many_above_page_sizes"),
    (Odd::ManyLoses1000, "read_many_above_page_sizes"),
    (Odd::ManyLoses1024, "read_many_above_page_sizes"),
    (Odd::ModifiedSeconds, "put_times_to_the_millisecond"),
    (Odd::PeekOlder, "race_peek"),
    (Odd::PeekTorn, "race_peek"),
    (Odd::StreamBrokenKept, "stream_put_large_broken"),
    (Odd::StreamDropsAttributes, "stream_put_metadata"),
    (Odd::StreamDropsCondition, "stream_put_conditional"),
    (Odd::StreamDropsExpiry, "stream_put_expiry"),
    (Odd::StreamExpiredBlocks, "stream_put_expired"),
    (Odd::StreamJudgedEarly, "stream_put_condition_at_end"),
    (Odd::StreamLargePartsCut, "stream_put_parts"),
    (Odd::StreamPartsShared, "stream_puts_together"),
    (Odd::StreamReadMixed, "stream_read_replaced"),
    (Odd::StreamSmallPartsDropped, "stream_put_parts"),
    (Odd::StreamVisibleEarly, "stream_put_hidden_until_complete"),
    (Odd::TokensFolded, "put_versions_similar"),
    (Odd::ValuesDeduplicated, "put_values_one_bit_apart"),
    (Odd::VersionsOfHighBits, "put_versions_similar"),
    (Odd::VersionsOfLowBits, "put_versions_similar"),
];

/// A store that is odd in one way.
#[derive(Debug)]
pub(super) struct OddStore {
    pub(super) inner: MemoryStore,
    /// Parts of streams that have not ended, by key and not by stream.
    pub(super) parts: Mutex<BTreeMap<Key, Vec<Bytes>>>,
    pub(super) capabilities: Capabilities,
    pub(super) odd: Odd,
    pub(super) stamp: Stamp,
    /// What each key held last, also after it was deleted or has expired.
    pub(super) last: Mutex<BTreeMap<Key, Entry>>,
    /// Whether a put is under way.
    pub(super) flying: std::sync::atomic::AtomicBool,
    /// What each deleted key held before.
    buried: Mutex<BTreeMap<Key, Entry>>,
    pub(super) claims: tiered_core::adapter::Claims,
    pub(super) kept: Mutex<Vec<tiered_core::adapter::Claim>>,
    pub(super) cursor: Arc<Mutex<Option<Key>>>,
    pub(super) gate: tokio::sync::Mutex<()>,
}

impl OddStore {
    pub(super) fn new(odd: Odd, stamp: &Stamp) -> Self {
        let peeks = matches!(odd, Odd::PeekOlder | Odd::PeekTorn | Odd::Nothing);
        let declared =
            reference(stamp).declaring(|all| if peeks { all } else { all.without(Feature::Peeks) });
        let capabilities = declared.capabilities().clone();
        let inner = match odd {
            Odd::KeyCharactersCounted => declared.declaring(|all| all.with_max_key(LONGEST * 2)),
            _ => declared,
        };
        Self {
            inner,
            parts: Mutex::default(),
            capabilities,
            odd,
            stamp: stamp.clone(),
            last: Mutex::default(),
            flying: std::sync::atomic::AtomicBool::new(false),
            buried: Mutex::default(),
            claims: tiered_core::adapter::Claims::new(),
            kept: Mutex::default(),
            cursor: Arc::default(),
            gate: tokio::sync::Mutex::default(),
        }
    }

    pub(super) fn is(&self, odd: Odd) -> bool {
        self.odd == odd
    }

    /// The key under which `key` is kept.
    pub(super) fn kept_key(&self, key: &Key) -> Key {
        let text = match self.odd {
            Odd::KeyDecoded => key.as_str().replace("%20", " "),
            Odd::KeyComposed => key.as_str().replace("e\u{301}", "é"),
            _ => return key.clone(),
        };
        Key::new(text).unwrap_or_else(|_| key.clone())
    }

    /// The last entry of `key`, which no longer exists.
    pub(super) fn ended(&self, key: &Key) -> Option<Entry> {
        self.ended_by_expiry(key).or_else(|| self.ended_by_delete(key))
    }

    /// The entry that `key` held last, where a delete ended it.
    pub(super) fn ended_by_delete(&self, key: &Key) -> Option<Entry> {
        self.buried.lock().get(key).cloned()
    }

    pub(super) fn ended_by_expiry(&self, key: &Key) -> Option<Entry> {
        let last = self.last.lock().get(key).cloned()?;
        last.metadata().expires_at.is_some_and(|at| self.stamp.now() >= at).then_some(last)
    }

    /// Remembers a deleted entry.
    pub(super) fn bury(&self, key: &Key) {
        if let Some(entry) = self.last.lock().remove(key) {
            self.buried.lock().insert(key.clone(), entry);
        }
    }

    /// A put under `version`, for it is all that a careless comparison looks at.
    fn looks_like(&self, version: &Version, current: &Version) -> bool {
        match (version.as_u128(), current.as_u128(), self.odd) {
            (Some(one), Some(other), Odd::VersionsOfLowBits) => one << 64 == other << 64,
            (Some(one), Some(other), Odd::VersionsOfHighBits) => one >> 64 == other >> 64,
            (None, None, Odd::TokensFolded) => {
                let folded = |version: &Version| version.as_token().map(str::to_lowercase);
                folded(version) == folded(current)
            }
            _ => version == current,
        }
    }

    /// The precondition as this store judges it.
    pub(super) fn judged(&self, key: &Key, precondition: &Precondition) -> Precondition {
        let current = self.last.lock().get(key).cloned();
        match (precondition, current) {
            (Precondition::Matches(version), Some(current))
                if self.looks_like(version, current.version()) =>
            {
                let live = current.metadata().is_live(self.stamp.now());
                if live { Precondition::Matches(current.version().clone()) } else { precondition.clone() }
            }
            _ => precondition.clone(),
        }
    }

    /// What is stored instead of `put`.
    pub(super) fn stored(&self, key: &Key, mut put: Put) -> Put {
        put.precondition = self.judged(key, &put.precondition);
        let ended = self.ended(key);
        match self.odd {
            Odd::ExpirySeconds => {
                if let Expiry::At(at) = put.expiry {
                    put.expiry = Expiry::At(Timestamp::from_millis(at.as_millis().div_ceil(1_000) * 1_000));
                }
            }
            Odd::ModifiedSeconds => {
                if let Some(metadata) = adapter::metadata_of(&put) {
                    let modified = Timestamp::from_millis(metadata.modified.as_millis() / 1_000 * 1_000);
                    let precondition = put.precondition.clone();
                    let kept = Arc::new(metadata.with_modified(modified));
                    put = adapter::verbatim(&Entry::from_parts(put.value, kept)).precondition(precondition);
                }
            }
            Odd::ValuesDeduplicated => {
                // Equal size and an equal beginning pass for the same value.
                let known = self.last.lock().values().map(|entry| entry.value().clone()).find(|known| {
                    known.len() == put.value.len()
                        && !known.is_empty()
                        && known.iter().zip(&put.value).take(4).all(|(a, b)| a == b)
                });
                put.value = known.unwrap_or(put.value);
            }
            _ => {}
        }
        let Some(ended) = ended else { return put };
        let expired = ended.metadata().expires_at.is_some_and(|at| self.stamp.now() >= at);
        let matches = put.precondition == Precondition::Matches(ended.version().clone());
        match self.odd {
            Odd::DeleteKeepsAttributes | Odd::ExpiryKeepsAttributes
                if expired == self.is(Odd::ExpiryKeepsAttributes) =>
            {
                put.attributes = if put.attributes.is_empty() {
                    ended.metadata().attributes.clone()
                } else {
                    put.attributes
                };
            }
            Odd::ExpiredMatchesPut if expired && matches => put.precondition = Precondition::None,
            Odd::ExpiredBlocksAbsent if expired && put.precondition == Precondition::Absent => {
                put.precondition = Precondition::Matches(Version::from_u128(0));
            }
            _ => {}
        }
        put
    }

    /// What a delete is judged by.
    pub(super) fn deleted(&self, key: &Key, mut delete: Delete) -> Delete {
        if let Some(ended) = self.ended(key).filter(|_| self.is(Odd::ExpiredMatchesDelete))
            && delete.precondition == Precondition::Matches(ended.version().clone())
        {
            delete.precondition = Precondition::None;
        }
        delete
    }

    /// What is remembered of a put.
    pub(super) fn remember_put(&self, key: &Key, put: &Put, version: &Version) {
        let entry = self.stamp.entry(&adapter::with_version(put.clone(), version.clone()));
        self.last.lock().insert(key.clone(), entry);
    }

    /// What is remembered of a batch.
    pub(super) async fn remember(&self, key: &Key) {
        let read = self.inner.load(key, &tiered_core::ReadOptions::new()).await;
        let stored = read.ok().and_then(Read::into_entry);
        if let Some(entry) = stored {
            self.last.lock().insert(key.clone(), entry);
        }
    }

    /// Whether a careless comparison takes the entry for the known one.
    pub(super) fn unchanged(&self, read: Read, unless: Option<&tiered_core::Known>) -> Read {
        let alike = matches!((read.entry(), unless), (Some(entry), Some(known)) if self.looks_like(&known.version, entry.version()));
        if alike { Read::from_store(Lookup::Unchanged) } else { read }
    }

    /// A put as a batch or a stream of this store passes it on.
    pub(super) fn reduced(&self, mut put: Put) -> Put {
        match self.odd {
            Odd::BatchDropsAttributes | Odd::StreamDropsAttributes => put.attributes = Attributes::new(),
            Odd::BatchDropsExpiry | Odd::StreamDropsExpiry => put.expiry = Expiry::Never,
            Odd::BatchDropsVersions => {
                let mut fresh = Put::new(put.value).attributes(put.attributes).precondition(put.precondition);
                fresh.expiry = put.expiry;
                put = fresh;
            }
            Odd::StreamDropsCondition => put.precondition = Precondition::None,
            _ => {}
        }
        put
    }
}
