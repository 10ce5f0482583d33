//! Probes what an object store can do. Some silently ignore the condition of a write, or its attributes.

use tiered_core::{Error, ErrorKind, Result};

use super::failure::Failed;
use super::object_store::path::Path;
use super::object_store::{
    Attribute, Attributes, ObjectStore, ObjectStoreExt as _, PutMode, PutOptions, PutResult, UpdateVersion,
};
use crate::names::RECORD;

/// What was found out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Abilities {
    /// Attributes are kept.
    pub(super) attributes: bool,
    /// Writes can be conditional on an absence and on an e-tag.
    pub(super) conditional: bool,
}

/// Writes an object and removes it: with attributes, with conditions that do not hold, and with conditions that do.
pub(super) async fn probe(objects: &dyn ObjectStore, path: &Path, conditions: bool) -> Result<Abilities> {
    let found = ask(objects, path, conditions).await;
    match objects.delete(path).await.map_err(Failed::from) {
        Ok(()) | Err(Failed::Missing) => {}
        Err(failed) => {
            // The probe's own error says more.
            found?;
            return Err(failed.into_error());
        }
    }
    let abilities = found?;
    tracing::debug!(?abilities, "what the object store keeps of attributes and conditional writes");
    Ok(abilities)
}

async fn ask(objects: &dyn ObjectStore, path: &Path, conditions: bool) -> Result<Abilities> {
    let attributes = Attributes::from_iter([(Attribute::Metadata(RECORD.into()), "v=probe&a.b=%20")]);
    let mut abilities = Abilities::default();
    let first = match put(objects, path, PutMode::Overwrite, attributes.clone()).await {
        Ok(_) => {
            let got = objects.get(path).await.map_err(|error| Failed::from(error).into_error())?;
            abilities.attributes = got.attributes.get(&Attribute::Metadata(RECORD.into()))
                == attributes.get(&Attribute::Metadata(RECORD.into()));
            put(objects, path, PutMode::Overwrite, Attributes::new()).await
        }
        Err(Failed::Error(error)) if error.kind() == ErrorKind::Unsupported => {
            put(objects, path, PutMode::Overwrite, Attributes::new()).await
        }
        Err(failed) => return Err(failed.into_error()),
    };
    let first = first.map_err(Failed::into_error)?;
    let head = objects.head(path).await.map_err(|error| Failed::from(error).into_error())?;
    if !abilities.attributes && (first.e_tag.is_none() || head.e_tag != first.e_tag) {
        return Err(Error::new(
            ErrorKind::Unsupported,
            "the object store keeps no attributes, and does not tell the e-tag of a write: writes cannot be told apart",
        ));
    }
    if conditions {
        abilities.conditional = judges(objects, path, &first).await?;
    }
    Ok(abilities)
}

async fn put(
    objects: &dyn ObjectStore,
    path: &Path,
    mode: PutMode,
    attributes: Attributes,
) -> Result<PutResult, Failed> {
    let options = PutOptions { mode, attributes, ..PutOptions::default() };
    Ok(objects.put_opts(path, "probe".into(), options).await?)
}

/// Whether conditions are judged: each of the three requests is answered as it must be.
async fn judges(objects: &dyn ObjectStore, path: &Path, first: &PutResult) -> Result<bool> {
    let put = |mode| put(objects, path, mode, Attributes::new());
    let update = |etag: Option<String>| PutMode::Update(UpdateVersion { e_tag: etag, version: None });
    if !refused(put(PutMode::Create).await)? {
        return Ok(false);
    }
    let wrong = "\"00000000000000000000000000000000\"".to_owned();
    if !refused(put(update(Some(wrong))).await)? {
        return Ok(false);
    }
    Ok(put(update(first.e_tag.clone())).await.is_ok())
}

/// Whether a request was refused because its condition does not hold.
fn refused(answer: Result<PutResult, Failed>) -> Result<bool> {
    match answer {
        Err(Failed::Condition) => Ok(true),
        Ok(_) | Err(Failed::Missing) => Ok(false),
        Err(Failed::Error(error)) if error.kind() == ErrorKind::Unsupported => Ok(false),
        Err(Failed::Error(error) | Failed::Blocked(error)) => Err(error),
    }
}
