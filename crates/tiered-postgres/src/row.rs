//! Entries as rows.
//!
//! | column | type | holds |
//! |---|---|---|
//! | `key` | `bytea` | the key's UTF-8, so that order is that of bytes whatever the collation |
//! | `version` | `text` | 32 hexadecimal digits, or `token:…` |
//! | `modified`, `expires_at` | `bigint` | milliseconds since 1970; a time after the year 292,000,000 is negative |
//! | `attributes` | `jsonb` | an object of strings, or null |
//! | `checksum` | `bigint` | CRC-32C of the value |
//! | `value` | `bytea` | the value, stored uncompressed so that ranges read only their part; null where it lies in chunks |
//! | `content`, `size` | `bytea`, `bigint` | the id of a value in chunks, and its bytes |
//! | `session`, `validated`, `origin`, `validator` | | the engine's note, where the table is a frontend |

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use sqlx::Row as _;
use sqlx::postgres::PgRow;
use tiered_core::adapter::{Checksum, Note, Origin, Validator, VersionMint};
use tiered_core::{Attributes, Entry, Error, ErrorKind, Key, Metadata, Result, Timestamp, Version, adapter};

/// The columns of metadata, in the order that [`metadata`] reads them: behind a first one, which is the key.
///
/// A row with a value has no chunks, whatever its other columns say: programs that know no chunks leave those as they are.
pub(crate) const METADATA: &str = "version, modified, expires_at, attributes::text, checksum, coalesce(octet_length(value)::bigint, size), session, validated, origin, validator, CASE WHEN value IS NULL THEN content END";

/// The column behind [`METADATA`] and the key.
pub(crate) const VALUE: usize = 12;

/// The id of a value that lies in chunks. The bytes under an id never change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Content([u8; 16]);

impl Content {
    pub(crate) fn mint(versions: &VersionMint) -> Self {
        Self(versions.mint().as_u128().unwrap_or_default().to_be_bytes())
    }

    /// As a column holds it.
    pub(crate) fn of(column: &[u8]) -> Option<Self> {
        column.try_into().ok().map(Self)
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// Where a value is.
#[derive(Clone, Debug)]
pub(crate) enum Stored {
    /// It was read: the value, or the part of it that was asked for.
    Here(Bytes),
    /// In chunks.
    Apart(Content),
    /// It was not asked for.
    Unread,
}

/// What a row says of an entry.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    pub(crate) metadata: Arc<Metadata>,
    pub(crate) stored: Stored,
}

/// `origin` of a tombstone; from here on entries are hidden.
pub(crate) const TOMBSTONE: i16 = 2;

/// An entry as parameters of a statement.
#[derive(Clone, Debug)]
pub(crate) struct Record {
    pub(crate) key: Key,
    pub(crate) version: String,
    pub(crate) modified: i64,
    pub(crate) expires_at: Option<i64>,
    pub(crate) attributes: Option<String>,
    pub(crate) checksum: i64,
    pub(crate) value: Bytes,
    pub(crate) session: Option<i64>,
    pub(crate) validated: Option<i64>,
    pub(crate) origin: i16,
    pub(crate) validator: Option<String>,
}

/// Milliseconds as a column holds them: beyond its range they wrap to negative ones, which never expire.
pub(crate) fn column(time: Timestamp) -> i64 {
    time.as_millis().cast_signed()
}

/// Now, as expiry is compared with it.
pub(crate) fn now(time: Timestamp) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}

impl Record {
    pub(crate) fn of(key: &Key, entry: &Entry) -> Self {
        let metadata = entry.metadata();
        let note = &metadata.note;
        let attributes: BTreeMap<&str, &str> = metadata.attributes.iter().collect();
        let written = |number: u64| Some(number.cast_signed()).filter(|number| *number != 0);
        Self {
            key: key.clone(),
            version: metadata.version.to_string(),
            modified: column(metadata.modified),
            expires_at: metadata.expires_at.map(column),
            // A map of strings is always JSON.
            attributes: serde_json::to_string(&attributes).ok().filter(|_| !attributes.is_empty()),
            checksum: i64::from(adapter::checksum_of(entry).as_u32()),
            value: entry.value().clone(),
            session: written(note.session),
            validated: written(note.validated),
            origin: match note.origin {
                Origin::Backend => 0,
                Origin::Local => 1,
                Origin::Tombstone => TOMBSTONE,
                Origin::Absence => 3,
                Origin::Part => 4,
            },
            validator: note.validator.as_ref().map(|validator| validator.as_str().to_owned()),
        }
    }
}

pub(crate) fn damaged(what: &str) -> Error {
    Error::new(
        ErrorKind::Corrupt,
        format!("the row's {what} is not as this store writes it; restore the row, or delete it"),
    )
}

/// The key of a row, and the rest of it. An error names the key if the key is valid.
fn keyed<T>(row: &PgRow, rest: impl FnOnce(&PgRow) -> Result<T>) -> Result<(Key, T)> {
    let key: &[u8] = row.try_get(0).map_err(|_| damaged("key"))?;
    let key =
        std::str::from_utf8(key).ok().and_then(|key| Key::new(key).ok()).ok_or_else(|| damaged("key"))?;
    let rest = rest(row).map_err(|error| error.for_key(&key))?;
    Ok((key, rest))
}

/// What a row of the key and [`METADATA`] says, of which the value was not asked for.
pub(crate) fn metadata(row: &PgRow) -> Result<(Key, Found)> {
    keyed(row, |row| {
        let metadata = Arc::new(beside_key(row)?);
        Ok(Found { metadata, stored: content(row)?.map_or(Stored::Unread, Stored::Apart) })
    })
}

/// The id of the value, if it lies in chunks.
fn content(row: &PgRow) -> Result<Option<Content>> {
    let column: Option<&[u8]> = row.try_get(VALUE - 1).map_err(|_| damaged("content"))?;
    column.map(|id| Content::of(id).ok_or_else(|| damaged("content"))).transpose()
}

fn beside_key(row: &PgRow) -> Result<Metadata> {
    let read = |what| move |_: sqlx::Error| damaged(what);
    let version: &str = row.try_get(1).map_err(read("version"))?;
    let attributes: Option<&str> = row.try_get(4).map_err(read("attributes"))?;
    let number = |column: i64| column.cast_unsigned();
    let expires_at: Option<i64> = row.try_get(3).map_err(read("expiry"))?;
    let checksum = u32::try_from(row.try_get::<i64, _>(5).map_err(read("checksum"))?);
    let validator: Option<&str> = row.try_get(10).map_err(read("validator"))?;
    let session = row.try_get::<Option<i64>, _>(7).map_err(read("session"))?.map_or(0, number);
    let validated = row.try_get::<Option<i64>, _>(8).map_err(read("validation"))?.map_or(0, number);
    let origin = match row.try_get::<i16, _>(9).map_err(read("origin"))? {
        0 => Origin::Backend,
        1 => Origin::Local,
        TOMBSTONE => Origin::Tombstone,
        3 => Origin::Absence,
        4 => Origin::Part,
        _ => return Err(damaged("origin")),
    };
    let validator = validator.map(Validator::new).transpose().map_err(|_| damaged("validator"))?;
    let version = version.parse::<Version>().map_err(|_| damaged("version"))?;
    let modified = Timestamp::from_millis(number(row.try_get(2).map_err(read("time"))?));
    let size = row.try_get::<i64, _>(6).ok().and_then(|size| u64::try_from(size).ok());
    let size = size.ok_or_else(|| damaged("size"))?;
    let checksum = Checksum::from_u32(checksum.map_err(|_| damaged("checksum"))?);
    let note = Note::default().with_session(session, validated).with_origin(origin).with_validator(validator);
    Ok(Metadata::new(version, modified, size)
        .with_expiry(expires_at.map(|at| Timestamp::from_millis(number(at))))
        .with_attributes(attributes.map_or(Ok(Attributes::new()), read_attributes)?)
        .with_checksum(Some(checksum))
        .with_note(note))
}

fn read_attributes(text: &str) -> Result<Attributes> {
    let map: BTreeMap<String, String> = serde_json::from_str(text).map_err(|_| damaged("attributes"))?;
    let with = |attributes: Attributes, (name, value): (String, String)| attributes.with(&name, &value);
    map.into_iter().try_fold(Attributes::new(), with).map_err(|_| damaged("attributes"))
}

/// What a row of the key, [`METADATA`] and then the value says, or of the part of it that was asked for.
pub(crate) fn entry(row: &PgRow) -> Result<(Key, Found)> {
    keyed(row, entry_beside_key)
}

/// As [`entry`], of a row whose key is known and whose first column is another one.
pub(crate) fn entry_beside_key(row: &PgRow) -> Result<Found> {
    let metadata = Arc::new(beside_key(row)?);
    if let Some(content) = content(row)? {
        return Ok(Found { metadata, stored: Stored::Apart(content) });
    }
    let value: Option<Vec<u8>> = row.try_get(VALUE).map_err(|_| damaged("value"))?;
    let stored = value.map_or(Stored::Unread, |value| Stored::Here(value.into()));
    Ok(Found { metadata, stored })
}
