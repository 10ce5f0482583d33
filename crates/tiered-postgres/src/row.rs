//! Entries as rows.
//!
//! | column | type | holds |
//! |---|---|---|
//! | `key` | `bytea` | the key's UTF-8, so that order is that of bytes whatever the collation |
//! | `version` | `text` | 32 hexadecimal digits, or `token:…` |
//! | `modified`, `expires_at` | `bigint` | milliseconds since 1970; a time after the year 292,000,000 is negative |
//! | `attributes` | `jsonb` | an object of strings, or null |
//! | `checksum` | `bigint` | CRC-32C of the value |
//! | `value` | `bytea` | the value, stored uncompressed so that ranges read only their part |
//! | `session`, `validated`, `origin`, `validator` | | the engine's note, where the table is a frontend |

use std::collections::BTreeMap;
use std::sync::Arc;

use sqlx::Row as _;
use sqlx::postgres::PgRow;
use tiered_core::adapter::{Checksum, Note, Origin, Validator};
use tiered_core::{Attributes, Entry, Error, ErrorKind, Key, Metadata, Result, Timestamp, Version, adapter};

/// The columns of metadata, in the order that [`metadata`] reads them: behind a first one, which is the key.
pub(crate) const METADATA: &str = "version, modified, expires_at, attributes::text, checksum, octet_length(value)::bigint, session, validated, origin, validator";

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
    pub(crate) value: bytes::Bytes,
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

/// The key and the metadata of a row of the key and [`METADATA`]. An error names the key if the key is valid.
pub(crate) fn metadata(row: &PgRow) -> Result<(Key, Metadata)> {
    let key: &[u8] = row.try_get(0).map_err(|_| damaged("key"))?;
    let key =
        std::str::from_utf8(key).ok().and_then(|key| Key::new(key).ok()).ok_or_else(|| damaged("key"))?;
    let metadata = beside_key(row).map_err(|error| error.for_key(&key))?;
    Ok((key, metadata))
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
    let size = number(row.try_get(6).map_err(read("size"))?);
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

/// The entry of a row of the key, [`METADATA`] and then the value, or the part of it that was asked for.
pub(crate) fn entry(row: &PgRow) -> Result<(Key, Option<Entry>, Arc<Metadata>)> {
    let (key, metadata) = metadata(row)?;
    let (entry, metadata) = with_value(row, metadata).map_err(|error| error.for_key(&key))?;
    Ok((key, entry, metadata))
}

/// As [`entry`], of a row whose key is known and whose first column is another one.
pub(crate) fn entry_beside_key(row: &PgRow) -> Result<(Option<Entry>, Arc<Metadata>)> {
    with_value(row, beside_key(row)?)
}

fn with_value(row: &PgRow, metadata: Metadata) -> Result<(Option<Entry>, Arc<Metadata>)> {
    let metadata = Arc::new(metadata);
    let value: Option<Vec<u8>> = row.try_get(11).map_err(|_| damaged("value"))?;
    let entry = value.map(|value| Entry::from_parts(value.into(), Arc::clone(&metadata)));
    Ok((entry, metadata))
}
