//! Metadata as headers.
//!
//! | header `x-amz-meta-…` | holds |
//! |---|---|
//! | `tiered-version` | the write's id: 32 hexadecimal digits, or `token:…` |
//! | `tiered-modified`, `tiered-expires` | milliseconds since 1970 |
//! | `tiered-crc32c` | the checksum of the value, 8 hexadecimal digits; not with a value that was streamed |
//! | any other | an attribute, escaped as `header.rs` says |
//!
//! An object without `tiered-version` was written by another client: its `ETag` is its version then.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use aws_sdk_s3::operation::get_object::GetObjectOutput;
use aws_sdk_s3::operation::head_object::HeadObjectOutput;
use aws_sdk_s3::primitives::DateTime;
use tiered_core::adapter::{Checksum, Note, Validator};
use tiered_core::{Attributes, Entry, Error, ErrorKind, Metadata, Result, Timestamp, Version};

use crate::config::Layout;
use crate::error::Failed;
use crate::header::{escape, escape_name, unescape, unescape_name};
use crate::layout::foreign;

const VERSION: &str = "tiered-version";
const MODIFIED: &str = "tiered-modified";
const EXPIRES: &str = "tiered-expires";
const CRC32C: &str = "tiered-crc32c";

/// The attribute that is the object's own content type.
const CONTENT_TYPE: &str = "content-type";

/// What a server gives as content type where none was given.
const UNTYPED: [&str; 2] = ["binary/octet-stream", "application/octet-stream"];

/// What an object's headers say.
#[derive(Clone, Debug)]
pub(crate) struct Head {
    pub(crate) version: Version,
    pub(crate) modified: Timestamp,
    pub(crate) expires_at: Option<Timestamp>,
    pub(crate) attributes: Attributes,
    /// Of the value.
    pub(crate) size: u64,
    pub(crate) checksum: Option<Checksum>,
    /// The `ETag`, with its quotes.
    pub(crate) etag: String,
}

/// What both answers have.
struct Headers<'a> {
    metadata: Option<&'a HashMap<String, String>>,
    etag: Option<&'a str>,
    modified: Option<&'a DateTime>,
    content_type: Option<&'a str>,
    total: u64,
}

impl Head {
    pub(crate) fn of_head(answer: &HeadObjectOutput, layout: Layout) -> Result<Self, Failed> {
        let headers = Headers {
            metadata: answer.metadata(),
            etag: answer.e_tag(),
            modified: answer.last_modified(),
            content_type: answer.content_type(),
            total: answer.content_length().and_then(|length| u64::try_from(length).ok()).unwrap_or(0),
        };
        headers.head(layout)
    }

    pub(crate) fn of_get(answer: &GetObjectOutput, layout: Layout) -> Result<Self, Failed> {
        // A part's length is not the object's: `bytes 0-1/100`.
        let whole = answer.content_range().and_then(|range| range.rsplit('/').next()?.parse().ok());
        let length = || answer.content_length().and_then(|length| u64::try_from(length).ok()).unwrap_or(0);
        let headers = Headers {
            metadata: answer.metadata(),
            etag: answer.e_tag(),
            modified: answer.last_modified(),
            content_type: answer.content_type(),
            total: whole.unwrap_or_else(length),
        };
        headers.head(layout)
    }

    pub(crate) fn is_live(&self, now: Timestamp) -> bool {
        self.expires_at.is_none_or(|at| now < at)
    }

    /// The failure of a read that looks damaged, whose body has this checksum.
    pub(crate) fn damaged(&self, error: Error, body: Checksum) -> Failed {
        let mut seen = DefaultHasher::new();
        (&self.etag, &self.version, self.modified, self.expires_at, self.size).hash(&mut seen);
        (self.checksum.map(Checksum::as_u32), body.as_u32()).hash(&mut seen);
        for attribute in self.attributes.iter() {
            attribute.hash(&mut seen);
        }
        Failed::Damaged { error, seen: seen.finish() }
    }

    /// As metadata, with the checksum where it is known.
    pub(crate) fn metadata(self, checksum: Option<Checksum>) -> Result<Metadata> {
        let note = Note::default().with_validator(Some(Validator::new(&self.etag)?));
        Ok(Metadata::new(self.version, self.modified, self.size)
            .with_expiry(self.expires_at)
            .with_attributes(self.attributes)
            .with_checksum(checksum)
            .with_note(note))
    }
}

/// A number as this store writes it: the standard parsers take a sign as well.
fn unsigned(text: &str) -> Option<&str> {
    text.bytes().all(|byte| byte.is_ascii_hexdigit()).then_some(text)
}

fn damaged(header: &str) -> Error {
    Error::new(
        ErrorKind::Corrupt,
        format!("the header x-amz-meta-{header} is not as this store writes it; write the object again"),
    )
}

impl Headers<'_> {
    fn head(&self, layout: Layout) -> Result<Head, Failed> {
        self.read(layout).map_err(|error| {
            if error.kind() != ErrorKind::Corrupt {
                return Failed::Error(error);
            }
            let mut seen = DefaultHasher::new();
            let mut all: Vec<_> = self.metadata.into_iter().flatten().collect();
            all.sort_unstable();
            (all, self.etag, self.content_type, self.total, error.message()).hash(&mut seen);
            Failed::Damaged { error, seen: seen.finish() }
        })
    }

    fn read(&self, layout: Layout) -> Result<Head> {
        let etag = self.etag.filter(|etag| !etag.is_empty());
        let etag = etag.ok_or_else(|| Error::new(ErrorKind::Other, "the server gives no ETag"))?;
        let header = |name: &str| self.metadata.and_then(|all| all.get(name)).map(String::as_str);
        let millis = |name: &'static str| {
            let parse = |text: &str| {
                let millis = unsigned(text).and_then(|digits| digits.parse().ok());
                millis.map(Timestamp::from_millis).ok_or_else(|| damaged(name))
            };
            header(name).map(parse).transpose()
        };
        let version = header(VERSION)
            .map(|text| unescape(text).parse::<Version>().map_err(|_| damaged(VERSION)))
            .transpose()?;
        let ours = version.is_some();
        let written = self.modified.and_then(|at| at.to_millis().ok()).and_then(|at| u64::try_from(at).ok());
        let modified = if ours { millis(MODIFIED)? } else { None };
        let checksum = header(CRC32C).filter(|_| ours).map(|text| {
            let crc = unsigned(text).and_then(|digits| u32::from_str_radix(digits, 16).ok());
            crc.map(Checksum::from_u32).ok_or_else(|| damaged(CRC32C))
        });
        Ok(Head {
            version: version.map_or_else(|| Version::from_token(etag), Ok)?,
            modified: modified.unwrap_or(Timestamp::from_millis(written.unwrap_or(0))),
            expires_at: if ours { millis(EXPIRES)? } else { None },
            attributes: self.attributes(ours)?,
            size: layout.size(self.total).ok_or_else(foreign)?,
            checksum: checksum.transpose()?,
            etag: etag.to_owned(),
        })
    }

    /// What another client gave an object is taken as far as it can be an attribute.
    fn attributes(&self, ours: bool) -> Result<Attributes> {
        let mut attributes = Attributes::new();
        if let Some(own) = self.content_type.filter(|own| !ours && !UNTYPED.contains(own)) {
            attributes = attributes.clone().with(CONTENT_TYPE, own).unwrap_or(attributes);
        }
        let mut all: Vec<_> = self.metadata.into_iter().flatten().collect();
        all.sort_unstable();
        for (name, value) in all {
            if name.starts_with(Attributes::RESERVED) {
                continue;
            }
            if ours {
                let own = unescape_name(name).ok_or_else(|| damaged(name))?;
                attributes = attributes.with(&own, &unescape(value)).map_err(|_| damaged(name))?;
            } else {
                attributes = attributes.clone().with(name, value).unwrap_or(attributes);
            }
        }
        Ok(attributes)
    }
}

/// Whether a store of this crate wrote an object of these headers.
pub(crate) fn is_ours(metadata: Option<&HashMap<String, String>>) -> bool {
    metadata.is_some_and(|all| all.contains_key(VERSION))
}

/// The headers of an entry to write, and its content type. Without a checksum if that is not known yet.
pub(crate) fn headers(
    entry: &Entry,
    checksum: Option<Checksum>,
) -> (HashMap<String, String>, Option<String>) {
    let metadata = entry.metadata();
    let mut headers = HashMap::new();
    for (name, value) in metadata.attributes.iter() {
        headers.insert(escape_name(name), escape(value));
    }
    headers.insert(VERSION.to_owned(), escape(&metadata.version.to_string()));
    headers.insert(MODIFIED.to_owned(), metadata.modified.as_millis().to_string());
    if let Some(at) = metadata.expires_at {
        headers.insert(EXPIRES.to_owned(), at.as_millis().to_string());
    }
    if let Some(checksum) = checksum {
        headers.insert(CRC32C.to_owned(), format!("{checksum:?}"));
    }
    let content_type =
        metadata.attributes.get(CONTENT_TYPE).filter(|text| text.is_ascii() && !text.is_empty());
    (headers, content_type.map(str::to_owned))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(change: impl FnOnce(&mut HashMap<String, String>)) -> Result<Head> {
        let mut metadata = HashMap::from([
            (VERSION.to_owned(), Version::from_u128(42).to_string()),
            (MODIFIED.to_owned(), "5".to_owned()),
            (CRC32C.to_owned(), "0000002a".to_owned()),
        ]);
        change(&mut metadata);
        let headers = Headers {
            metadata: Some(&metadata),
            etag: Some("\"e\""),
            modified: None,
            content_type: None,
            total: 3,
        };
        headers.read(Layout::Raw)
    }

    #[test]
    fn numbers_in_headers_are_parsed_strictly() {
        let head = read(|_| {}).expect("as written");
        assert_eq!((head.modified.as_millis(), head.checksum), (5, Some(Checksum::from_u32(42))));
        for (name, text) in
            [(MODIFIED, "+5"), (MODIFIED, "5f"), (EXPIRES, "-1"), (CRC32C, "+000002a"), (CRC32C, "")]
        {
            let found = read(|metadata| {
                metadata.insert(name.to_owned(), text.to_owned());
            });
            let error = found.map(drop).expect_err("damaged");
            assert_eq!(error.kind(), ErrorKind::Corrupt, "{name}: {text}");
        }
    }
}
