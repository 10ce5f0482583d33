//! The record of codec and schema version that travels with each value.

use tiered_core::{Attributes, Entry, Key, Metadata};

use crate::error::{Error, Result};

/// The attribute that holds the record, as in `json/1`: [`head`](tiered_core::Store::head) shows it.
pub const FORMAT_ATTRIBUTE: &str = "value-format";

/// Codec and schema version, as a handle writes and expects them.
#[derive(Debug)]
pub(crate) struct Format {
    text: String,
    /// The record and nothing else; shared by all puts.
    attributes: Attributes,
}

impl Format {
    pub(crate) fn new(codec: &str, schema: u32) -> Result<Self> {
        let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "._-".contains(c);
        if !(1..=32).contains(&codec.len()) || !codec.chars().all(allowed) {
            return Err(Error::invalid(format!("the codec name {codec:?} must match [a-z0-9._-]{{1,32}}")));
        }
        let text = format!("{codec}/{schema}");
        let attributes = Attributes::new().with(FORMAT_ATTRIBUTE, &text)?;
        Ok(Self { text, attributes })
    }

    /// Attributes of a value that replaces `old`, whose other attributes stay.
    pub(crate) fn attributes(&self, old: Option<&Entry>) -> Result<Attributes> {
        match old.map(|old| &old.metadata().attributes) {
            Some(old) if *old != self.attributes => Ok(old.clone().with(FORMAT_ATTRIBUTE, &self.text)?),
            _ => Ok(self.attributes.clone()),
        }
    }

    /// Whether the value with these metadata is in this format.
    pub(crate) fn is_of(&self, metadata: &Metadata) -> bool {
        metadata.attributes.get(FORMAT_ATTRIBUTE) == Some(&self.text)
    }

    /// The error about a value in another format.
    pub(crate) fn mismatch(&self, key: &Key, metadata: &Metadata) -> Error {
        Error::Format {
            key: key.clone(),
            expected: self.text.clone(),
            found: metadata.attributes.get(FORMAT_ATTRIBUTE).map(str::to_owned),
        }
    }
}
