//! Tests of the journal on real files and on a disk that fails.

mod aside;
mod disk;
mod engine;
mod files;
mod flush;
mod images;
mod lease;
mod lifecycle;
mod marks;
mod ownership;
mod parking;
mod picky;
mod pieces;
mod process;
mod takeover;
mod trims;

use bytes::Bytes;
use tiered_core::adapter::Stamp;
use tiered_core::adapter::journal::{JournalRecord, Sequence};
use tiered_core::{Action, Attributes, Delete, Entry, Key, Put, Timestamp, Version, adapter};

pub(crate) const BACKEND: &[u8] = b"backend-1";

pub(crate) fn key(name: &str) -> Key {
    Key::new(name).expect("valid")
}

/// A complete put, with everything beside its value.
pub(crate) fn put(name: &str, value: impl Into<Bytes>) -> JournalRecord {
    let attributes = Attributes::new().with("kind", "test").expect("valid");
    let put = Put::new(value).attributes(attributes).expires_at(Timestamp::from_millis(u64::MAX / 2));
    let entry = Stamp::system().entry(&put);
    JournalRecord::new(key(name), adapter::verbatim(&entry))
}

pub(crate) fn delete(name: &str) -> JournalRecord {
    let delete = adapter::delete_with_version(Delete::new(), Version::from_u128(7));
    JournalRecord::new(key(name), delete)
}

/// Records that belong together.
pub(crate) fn batch(mut records: Vec<JournalRecord>) -> Vec<JournalRecord> {
    let but_last = records.len() - 1;
    records.iter_mut().take(but_last).for_each(|record| record.continues = true);
    records
}

/// What can be compared of a record.
pub(crate) fn plain(record: &JournalRecord) -> (String, Option<Entry>, Option<Delete>, bool) {
    let stamp = Stamp::system();
    let (entry, delete) = match &record.action {
        Action::Put(put) => (Some(stamp.entry(put)), None),
        Action::Delete(delete) => (None, Some(delete.clone())),
    };
    (record.key.as_str().to_owned(), entry, delete, record.continues)
}

pub(crate) fn assert_same(
    recovered: &[(Sequence, JournalRecord)],
    first: Sequence,
    expected: &[JournalRecord],
) {
    assert_eq!(recovered.len(), expected.len());
    for (index, ((sequence, recovered), expected)) in recovered.iter().zip(expected).enumerate() {
        assert_eq!(*sequence, first + index as u64);
        assert_eq!(plain(recovered), plain(expected));
    }
}
