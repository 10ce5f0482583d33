//! Names that both directions know.

/// What keys begin with that a view keeps to itself: parts of uploads.
pub(crate) const UPLOADS: &str = ".tiered-uploads/";

/// The attributes that stand for an object's own properties, which `object_store` names by an enum.
pub(crate) const CONTENT_TYPE: &str = "content-type";
pub(crate) const CONTENT_DISPOSITION: &str = "content-disposition";
pub(crate) const CONTENT_ENCODING: &str = "content-encoding";
pub(crate) const CONTENT_LANGUAGE: &str = "content-language";
pub(crate) const CACHE_CONTROL: &str = "cache-control";
pub(crate) const STORAGE_CLASS: &str = "storage-class";

/// Whether an attribute of this name stands for a property, and cannot be a user's own pair.
pub(crate) fn is_property(name: &str) -> bool {
    [CONTENT_TYPE, CONTENT_DISPOSITION, CONTENT_ENCODING, CONTENT_LANGUAGE, CACHE_CONTROL, STORAGE_CLASS]
        .contains(&name)
}

/// What objects of a tier's own begin with, behind its prefix. Keys cannot.
pub(crate) const RESERVED: &str = ".tiered/";

/// The metadata of an object that hold those of its entry. A name that every server takes.
pub(crate) const RECORD: &str = "tiered";
