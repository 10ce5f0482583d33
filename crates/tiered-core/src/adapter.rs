//! What only authors of adapters, wrappers and journals need.
//!
//! Users of a store do not: what they hand over never carries a version, a time or a checksum of their own.
//!
//! | to | see |
//! |---|---|
//! | stamp a write | [`Stamp`], [`Clock`], [`VersionMint`] |
//! | answer a read or a batch | [`answer`], [`load_ranges`], [`Refused`], [`precondition_failed`] |
//! | lend an exclusive store | [`Claims`] |
//! | keep an entry | [`codec`], [`Note`], [`Checksum`] |
//! | open a file, a folder or a URL | [`opening`], [`url`] |
//! | write a journal | [`journal`] |

pub mod codec;
pub mod opening;
pub mod url;

/// What a journal is, and what it holds.
pub mod journal {
    pub use crate::journal::{Aside, IntoJournal, Journal, JournalRecord, Recovered, Sequence};
}

/// Writes out the asynchronous methods of an implementation of [`Store`](crate::Store).
pub use async_trait::async_trait;

use crate::batch::{Applied, fail_with_last};
pub use crate::batch::{BatchOutcomes, Refused};
pub use crate::claim::{Claim, Claims, Scope};
pub use crate::clock::{Clock, Stamp, SystemClock};
pub use crate::entry::{Checksum, Note, Origin, Tombstones, clamp_range};
use crate::entry::{Entry, Metadata};
use crate::error::{Error, Result};
use crate::key::Key;
pub use crate::list::prefix_end;
pub use crate::ranges::{NEAR, load_ranges};
pub use crate::read::Reads;
pub use crate::store::{Change, ChangeStream, answer, check_mark, closed, collect, precondition_failed};
use crate::version::Version;
pub use crate::version::{Validator, VersionMint};
use crate::write::{Delete, Expiry, Identity, Put};

/// A put that stores `entry` as it is: version, time of modification and bookkeeping included. Size and checksum are
/// computed from the value again by the store that stamps it ([`Stamp::entry`](Stamp::entry)).
///
/// For copies between tiers: fills, syncs, journals, nested stacks.
///
/// # Examples
/// ```
/// use tiered_core::Put;
/// use tiered_core::adapter::{self, Stamp};
///
/// let stamp = Stamp::system();
/// let entry = stamp.entry(&Put::new("value"));
/// assert_eq!(stamp.entry(&adapter::verbatim(&entry)), entry);
/// ```
pub fn verbatim(entry: &Entry) -> Put {
    Put::verbatim(entry)
}

/// The same put under an id that the caller minted, and by which it recognises its own write after a lost answer. The
/// id must be new: two different values never share a version.
#[must_use]
pub fn with_version(put: Put, version: Version) -> Put {
    put.with_version(version)
}

/// The version that a put names; `None` where the store mints one.
pub fn version_of(put: &Put) -> Option<&Version> {
    put.version()
}

/// The same delete under an id that the caller minted.
#[must_use]
pub fn delete_with_version(delete: Delete, version: Version) -> Delete {
    delete.under_id(version)
}

/// The id of a delete, where it has one.
pub fn version_of_delete(delete: &Delete) -> Option<&Version> {
    delete.id()
}

/// The metadata that a complete put is stored with, as [`Stamp::entry`](Stamp::entry) computes them; `None`
/// where the put is no copy of an entry, or expires after a time to live that has not been turned into a point in time.
pub fn metadata_of(put: &Put) -> Option<Metadata> {
    let Identity::Copy(of) = put.identity() else { return None };
    let expires_at = match put.expiry {
        Expiry::Default | Expiry::Never => None,
        Expiry::At(at) => Some(at),
        Expiry::After(_) => return None,
    };
    Some(Metadata {
        version: of.version.clone(),
        modified: of.modified,
        expires_at,
        attributes: put.attributes.clone(),
        size: put.value.len() as u64,
        checksum: Some(Checksum::of(&put.value)),
        note: of.note.clone(),
    })
}

/// The checksum of a whole entry: the one it has, or that of its value.
pub fn checksum_of(entry: &Entry) -> Checksum {
    entry.metadata().checksum.unwrap_or_else(|| Checksum::of(entry.value()))
}

/// A value in a buffer of its own. A [`Bytes`](bytes::Bytes) can be a small part of a large buffer, which it keeps in
/// memory and does not tell the size of: a store that counts what it holds copies what it is handed.
pub fn own_buffer(value: &bytes::Bytes) -> bytes::Bytes {
    bytes::Bytes::copy_from_slice(value)
}

/// Corrects the answers to a batch of which the last operation on each key was carried out alone, the earlier ones being
/// judged only: where the last one failed, what it was to replace has no effect, and fails with it. `keys` are those of
/// the operations, in order.
pub fn replaced_in_batch<'k>(keys: impl Iterator<Item = &'k Key>, outcomes: &mut [Result<Applied>]) {
    fail_with_last(keys, outcomes);
}

/// The same failure for each of `keys`: what [`get_many`](crate::Store::get_many) answers where none could be read.
pub fn all_failed(keys: &[Key], error: &Error) -> Reads {
    keys.iter().map(|key| Err(error.clone().for_key(key))).collect()
}
