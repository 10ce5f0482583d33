//! Attributes of objects and of entries.

use super::error::unsupported;
use super::object_store::{Attribute, Attributes, Result};
use crate::names::{
    CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_ENCODING, CONTENT_LANGUAGE, CONTENT_TYPE, STORAGE_CLASS,
    is_property,
};

/// The attributes of an entry that keeps those of an object. None is dropped: what an entry cannot have is refused.
pub(super) fn to_entry(attributes: &Attributes) -> Result<tiered_core::Attributes> {
    let mut kept = tiered_core::Attributes::new();
    for (attribute, value) in attributes {
        let name = match attribute {
            Attribute::ContentType => CONTENT_TYPE,
            Attribute::ContentDisposition => CONTENT_DISPOSITION,
            Attribute::ContentEncoding => CONTENT_ENCODING,
            Attribute::ContentLanguage => CONTENT_LANGUAGE,
            Attribute::CacheControl => CACHE_CONTROL,
            Attribute::StorageClass => STORAGE_CLASS,
            Attribute::Metadata(name) if is_property(name) => {
                return Err(unsupported(&format!(
                    "metadata named {name} cannot be told from the attribute; use that, or another name"
                )));
            }
            Attribute::Metadata(name) => name.as_ref(),
            other => return Err(unsupported(&format!("the attribute {other:?} cannot be kept"))),
        };
        kept = kept.with(name, value.as_ref()).map_err(|error| unsupported(error.message()))?;
    }
    Ok(kept)
}

/// The attributes of an object whose entry has these.
pub(super) fn to_object(attributes: &tiered_core::Attributes) -> Attributes {
    let named = |name: &str| match name {
        CONTENT_TYPE => Attribute::ContentType,
        CONTENT_DISPOSITION => Attribute::ContentDisposition,
        CONTENT_ENCODING => Attribute::ContentEncoding,
        CONTENT_LANGUAGE => Attribute::ContentLanguage,
        CACHE_CONTROL => Attribute::CacheControl,
        STORAGE_CLASS => Attribute::StorageClass,
        other => Attribute::Metadata(other.to_owned().into()),
    };
    attributes.iter().map(|(name, value)| (named(name), value.to_owned())).collect()
}

/// The attributes of an object that another program wrote, as far as an entry can have them.
pub(super) fn of_others(attributes: &Attributes) -> tiered_core::Attributes {
    attributes.iter().fold(tiered_core::Attributes::new(), |kept, (attribute, value)| {
        let one = Attributes::from_iter([(attribute.clone(), value.clone())]);
        let found = to_entry(&one).unwrap_or_default();
        found.iter().fold(kept, |kept, (name, value)| kept.clone().with(name, value).unwrap_or(kept))
    })
}

/// The properties of an object whose entry has these attributes: other programs go by them.
pub(super) fn properties(attributes: &tiered_core::Attributes) -> Attributes {
    let all = to_object(attributes);
    let is_own =
        |attribute: &Attribute| !matches!(attribute, Attribute::Metadata(_) | Attribute::StorageClass);
    let own = all.iter().filter(|(attribute, value)| is_own(attribute) && is_header(value));
    own.map(|(attribute, value)| (attribute.clone(), value.clone())).collect()
}

/// Whether a server takes it as it is.
fn is_header(value: &str) -> bool {
    !value.is_empty() && value.is_ascii() && value.trim() == value
}
