//! What an object tells of its entry.

use tiered_core::adapter::{Checksum, Note, Validator};
use tiered_core::{Attributes, Entry, Error, ErrorKind, Metadata, Result, Timestamp, Version};

use super::object_store::{self, Attribute, ObjectMeta};
use super::{attributes, failure::Failed};
use crate::names::RECORD;
use crate::record;

/// An object as it was found.
#[derive(Clone, Debug)]
pub(super) struct Head {
    pub(super) version: Version,
    pub(super) etag: Option<String>,
    pub(super) size: u64,
    pub(super) checksum: Option<Checksum>,
    modified: Timestamp,
    expires_at: Option<Timestamp>,
    attributes: Attributes,
}

impl Head {
    /// What is told of an object. Where it has no record of ours, its e-tag is its version.
    pub(super) fn of(meta: &ObjectMeta, found: &object_store::Attributes) -> Result<Self, Failed> {
        let text = found.get(&Attribute::Metadata(RECORD.into()));
        if let Some(text) = text {
            let read = record::read(text.as_ref())?;
            return Ok(Self {
                version: read.version,
                etag: meta.e_tag.clone(),
                size: meta.size,
                checksum: read.checksum,
                modified: read.modified,
                expires_at: read.expires_at,
                attributes: read.attributes,
            });
        }
        let modified = u64::try_from(meta.last_modified.timestamp_millis()).unwrap_or(0);
        Ok(Self {
            version: version_of(meta.e_tag.as_deref())?,
            etag: meta.e_tag.clone(),
            size: meta.size,
            checksum: None,
            modified: Timestamp::from_millis(modified),
            expires_at: None,
            attributes: attributes::of_others(found),
        })
    }

    /// Whether it exists at `now`.
    pub(super) fn is_live(&self, now: Timestamp) -> bool {
        self.expires_at.is_none_or(|at| now < at)
    }

    /// Whether it may be what a put of `entry` has written.
    pub(super) fn is_of(&self, entry: &Entry) -> bool {
        self.version == *entry.version()
            && self.size == entry.size()
            && self.checksum.is_none_or(|checksum| entry.metadata().checksum == Some(checksum))
    }

    pub(super) fn metadata(self, checksum: Option<Checksum>) -> Metadata {
        // An e-tag that is the version itself need not be told twice.
        let validator = match self.version.as_token() {
            Some(_) => None,
            None => self.etag.as_deref().and_then(|etag| Validator::new(etag).ok()),
        };
        Metadata::new(self.version, self.modified, self.size)
            .with_expiry(self.expires_at)
            .with_attributes(self.attributes)
            .with_checksum(checksum)
            .with_note(Note::default().with_validator(validator))
    }
}

/// The version of an object that has no record of ours.
pub(super) fn version_of(etag: Option<&str>) -> Result<Version, Error> {
    let etag = etag.ok_or_else(|| {
        Error::new(
            ErrorKind::Unsupported,
            "the object store gives no e-tags, so that writes cannot be told apart",
        )
    })?;
    Version::from_token(etag)
}
