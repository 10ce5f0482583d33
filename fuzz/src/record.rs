//! `record`: records and chunks of an embedded engine's tables, damaged, forged or well made.

use std::sync::Arc;

use arbitrary::{Arbitrary, Unstructured};
use futures_util::{FutureExt as _, StreamExt as _};
use tiered_core::adapter::codec::{decode_metadata, encode_metadata};
use tiered_core::adapter::{Checksum, Note, Origin, Stamp, Validator, VersionMint};
use tiered_core::testing::ManualClock;
use tiered_core::{
    Attributes, Delete, Error, ErrorKind, Key, ListOptions, Metadata, Put, ReadOptions, Store as _,
    StoreExt as _, Timestamp, Version,
};
use tiered_embedded::{EmbeddedStore, Table};

use crate::allocation;
use crate::fake::Disk;

/// The largest value that a record may claim where the target writes over it: its chunks are removed by number.
const REMOVABLE: u64 = 64 << 20;

/// What a value may take before any of its chunks was seen, in bytes.
const UNSEEN: usize = 8 << 20;

/// Wall time, in milliseconds.
const NOW: u64 = 1_000;

#[derive(Arbitrary, Debug)]
struct Input<'a> {
    key: &'a str,
    record: Record<'a>,
    chunks: Vec<Chunk<'a>>,
    range: (u64, u64),
}

#[derive(Arbitrary, Debug)]
enum Record<'a> {
    /// Bytes as they are.
    Raw(&'a [u8]),
    /// Metadata and value from bytes, with the checksum that they need.
    Sealed { flags: u8, body: &'a [u8] },
    /// Well made, but for a size and a checksum that may be wrong.
    Built { made: Made<'a>, inline: Option<&'a [u8]>, size: Option<u64>, checksum: Option<u32> },
}

#[derive(Arbitrary, Debug)]
struct Made<'a> {
    version: u128,
    token: Option<&'a str>,
    modified: u64,
    expires_at: Option<u64>,
    attributes: Vec<(&'a str, &'a str)>,
    session: u64,
    origin: u8,
    validator: Option<&'a str>,
}

#[derive(Arbitrary, Debug)]
struct Chunk<'a> {
    index: u8,
    sealed: bool,
    content: &'a [u8],
}

/// Whatever lies in the tables: what is read is what was written, or an error; what is written over it is read.
pub fn record(data: &[u8]) {
    let Ok(input) = Input::arbitrary_take_rest(Unstructured::new(data)) else { return };
    let Ok(key) = Key::new(input.key) else { return };
    let bytes = input.record.bytes(&key, &input.chunks);
    let disk = Disk::default();
    disk.set(Table::Meta, key.as_str().as_bytes(), &bytes);
    let metadata = authentic(&key, &bytes);
    let version = metadata.as_ref().map_or(Version::from_u128(0), |metadata| metadata.version.clone());
    for chunk in &input.chunks {
        let sealed = if chunk.sealed {
            seal(&key, &version, u32::from(chunk.index), chunk.content)
        } else {
            chunk.content.to_vec()
        };
        disk.set(Table::Chunks, &chunk_key(&key, u32::from(chunk.index)), &sealed);
    }
    let clock = Arc::new(ManualClock::new(Timestamp::from_millis(NOW)));
    let stamp = Stamp::new(clock, Arc::new(VersionMint::seeded(1)));
    let store = now(disk.open(stamp)).expect("opens");
    reads(&store, &key, metadata.as_ref(), input.range, data.len());
    if metadata.is_none_or(|metadata| metadata.size <= REMOVABLE) {
        writes(&store, &disk, &key);
    }
}

/// A call that never waits.
fn now<T>(call: impl Future<Output = T>) -> T {
    call.now_or_never().expect("the engine never waits")
}

fn reads(store: &EmbeddedStore, key: &Key, metadata: Option<&Metadata>, range: (u64, u64), len: usize) {
    let head = now(store.head(key, &ReadOptions::new()));
    let listed = now(store.list(ListOptions::new()).collect::<Vec<_>>());
    let Some(metadata) = metadata else {
        for error in
            [head.expect_err("damaged"), listed.into_iter().next().expect("one").expect_err("damaged")]
        {
            assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
        }
        assert_eq!(now(store.get(key)).expect_err("damaged").kind(), ErrorKind::Corrupt);
        return;
    };
    let head = head.expect("the record is good");
    assert_eq!(head.is_some(), metadata.is_live(Timestamp::from_millis(NOW)));
    assert!(head.as_ref().is_none_or(|head| **head == *metadata));
    let listed: Vec<_> = listed.into_iter().map(|listed| listed.expect("the record is good")).collect();
    assert_eq!(listed.len(), usize::from(head.is_some()));
    assert!(listed.iter().all(|listed| listed.metadata == head && listed.key == *key));
    let most = UNSEEN + len * allocation::FACTOR;
    let whole = allocation::bounded(most, || now(store.get(key)));
    let part = allocation::bounded(most, || now(store.get_range(key, range.0..range.1)));
    match whole {
        Ok(None) => assert!(head.is_none()),
        Ok(Some(entry)) => {
            assert!(entry.verify().is_ok() && entry.metadata() == head.as_ref().expect("live"));
            assert_eq!(part.ok().flatten(), entry.slice(&(range.0..range.1)).ok());
        }
        Err(error) => {
            assert!(head.is_some());
            refused(&error);
            // A part may be whole where the value is not.
            part.err().iter().for_each(refused);
        }
    }
}

fn refused(error: &Error) {
    assert!(
        matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::TooLarge | ErrorKind::InvalidRange),
        "{error}"
    );
}

/// Whatever was there: a delete removes all of it, and a put replaces it.
fn writes(store: &EmbeddedStore, disk: &Disk, key: &Key) {
    for len in [0, 1_025, 70_000] {
        let put = Put::new(vec![7; len]);
        let written = now(store.put(key, put)).expect("written over whatever is there");
        let entry = now(store.get(key)).expect("reads").expect("just written");
        assert_eq!((entry.value().len(), entry.version()), (len, &written.version));
    }
    let deleted = now(store.delete(key, Delete::new().report_existed())).expect("deletes");
    assert_eq!(deleted.existed, tiered_core::Existed::Yes);
    assert!(now(store.get(key)).expect("reads").is_none());
    assert!(disk.keys(Table::Meta).is_empty());
}

impl Record<'_> {
    fn bytes(&self, key: &Key, chunks: &[Chunk<'_>]) -> Vec<u8> {
        match self {
            Self::Raw(bytes) => bytes.to_vec(),
            Self::Sealed { flags, body } => seal_record(key, *flags, body),
            Self::Built { made, inline, size, checksum } => {
                let chunked: Vec<u8> = chunks.iter().flat_map(|chunk| chunk.content).copied().collect();
                let value = inline.unwrap_or(&chunked);
                let mut metadata = made.metadata(value);
                metadata.size = size.unwrap_or(metadata.size);
                metadata.checksum = checksum.map(Checksum::from_u32).or(metadata.checksum);
                let mut body = Vec::new();
                encode_metadata(&metadata, &mut body);
                body.extend_from_slice(inline.unwrap_or_default());
                seal_record(key, u8::from(inline.is_some()), &body)
            }
        }
    }
}

impl Made<'_> {
    fn metadata(&self, value: &[u8]) -> Metadata {
        let token = self.token.and_then(|token| Version::from_token(token).ok());
        let with =
            |all: Attributes, (name, value): &(&str, &str)| all.clone().with(name, value).unwrap_or(all);
        let origin = match self.origin % 8 {
            1 => Origin::Local,
            2 => Origin::Tombstone,
            _ => Origin::Backend,
        };
        let note = Note::default()
            .with_session(self.session, self.session)
            .with_origin(origin)
            .with_validator(self.validator.and_then(|text| Validator::new(text).ok()));
        let version = token.unwrap_or(Version::from_u128(self.version));
        Metadata::new(version, Timestamp::from_millis(self.modified), value.len() as u64)
            .with_expiry(self.expires_at.map(Timestamp::from_millis))
            .with_attributes(self.attributes.iter().fold(Attributes::new(), with))
            .with_checksum(Some(Checksum::of(value)))
            .with_note(note)
    }
}

/// The metadata of a record whose checksum holds, and that is one: read by other means.
fn authentic(key: &Key, bytes: &[u8]) -> Option<Metadata> {
    let (head, rest) = bytes.split_at_checked(4)?;
    let (crc, body) = rest.split_at_checked(4)?;
    let flags = *head.strip_prefix(b"tR\x02")?.first()?;
    if flags > 1 || crc_of(&[key.as_str().as_bytes(), head, body]).to_le_bytes() != *crc {
        return None;
    }
    let mut inline = body;
    let metadata = decode_metadata(&mut inline)?;
    let len = if flags == 1 { metadata.size } else { 0 };
    (inline.len() as u64 == len).then_some(metadata)
}

fn seal_record(key: &Key, flags: u8, body: &[u8]) -> Vec<u8> {
    let head = [b't', b'R', 2, flags];
    let crc = crc_of(&[key.as_str().as_bytes(), &head, body]);
    [&head[..], &crc.to_le_bytes(), body].concat()
}

fn seal(key: &Key, version: &Version, index: u32, content: &[u8]) -> Vec<u8> {
    let id = version.as_u128().unwrap_or_default().to_le_bytes();
    let token = version.as_token().unwrap_or_default().as_bytes();
    let crc = crc_of(&[key.as_str().as_bytes(), &id, token, &index.to_le_bytes(), content]);
    [&crc.to_le_bytes()[..], content].concat()
}

fn chunk_key(key: &Key, index: u32) -> Vec<u8> {
    [key.as_str().as_bytes(), &[0], &index.to_be_bytes()].concat()
}

fn crc_of(parts: &[&[u8]]) -> u32 {
    parts.iter().fold(0, |crc, part| {
        let crc = crc32c::crc32c_append(crc, &(part.len() as u64).to_le_bytes());
        crc32c::crc32c_append(crc, part)
    })
}
