//! Puts.

use bytes::Bytes;
use tiered_core::{Feature, Put};

use super::object_store::path::Path;
use super::object_store::{PutMode, PutOptions, PutPayload, PutResult, Result, TagSet};
use super::view::ObjectView;
use super::{attributes, error, has_tags, put_result};
use crate::etag;

/// Refuses tags, which no store keeps.
pub(super) fn check_tags(tags: &TagSet) -> Result<()> {
    if has_tags(tags) {
        return Err(error::unsupported("tags cannot be kept; use attributes"));
    }
    Ok(())
}

impl ObjectView {
    pub(super) async fn put_object(
        &self,
        location: &Path,
        payload: PutPayload,
        opts: PutOptions,
    ) -> Result<PutResult> {
        let key = Self::key(location)?;
        check_tags(&opts.tags)?;
        let put = Put::new(Bytes::from(payload)).attributes(attributes::to_entry(&opts.attributes)?);
        let put = match &opts.mode {
            PutMode::Overwrite => put,
            PutMode::Create => {
                self.require(Feature::ConditionalPut, "PutMode::Create")?;
                put.if_absent()
            }
            PutMode::Update(expected) => {
                self.require(Feature::ConditionalPut, "PutMode::Update")?;
                if expected.version.is_some() {
                    return Err(error::precondition(location, "objects have no version here, but an e-tag"));
                }
                let etag = expected.e_tag.as_ref();
                let etag = etag.ok_or_else(|| error::generic("PutMode::Update needs an e-tag"))?;
                // What is no e-tag of this store is none of any object in it.
                let version = etag::parse(etag);
                let version = version
                    .ok_or_else(|| error::precondition(location, "the e-tag is none of this store"))?;
                put.if_version(version)
            }
        };
        match self.store().put(&key, put).await {
            Ok(written) => Ok(put_result(etag::of(&written.version), written)),
            Err(refused) if error::is_refusal(&refused) => Err(match opts.mode {
                PutMode::Create => error::exists(location, refused),
                PutMode::Overwrite | PutMode::Update(_) => error::precondition(location, refused),
            }),
            Err(failed) => Err(error::of(failed, location)),
        }
    }
}
