//! The bytes of the records.

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use tiered_core::adapter::Checksum;
use tiered_core::{Key, Version};

const HEAD: [u8; 4] = *b"TGCH";
const WRITER: [u8; 4] = *b"TGCW";
const SNAPSHOT: [u8; 4] = *b"TGCS";
const FORMAT: u8 = 1;
/// Magic and format.
const START: usize = 5;
/// The checksum at the end.
const TAIL: usize = 4;

/// The latest completed generation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Head {
    /// The id that the head got when it was created; zero where there is none.
    pub(super) series: u128,
    pub(super) generation: u64,
    /// The run whose snapshot it is.
    pub(super) run: u128,
    /// How many chunks the snapshot has.
    pub(super) chunks: u64,
}

/// What a writer under way says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct WriterRecord {
    pub(super) series: u128,
    /// The generation that was complete when it began.
    pub(super) generation: u64,
    pub(super) label: String,
}

/// An entry that was not live.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Observation {
    pub(super) key: Key,
    pub(super) version: Version,
    /// The generation that observed it first.
    pub(super) since: u64,
}

impl Head {
    pub(super) fn encode(&self) -> Bytes {
        let mut bytes = begin(HEAD);
        bytes.put_u128(self.series);
        bytes.put_u64(self.generation);
        bytes.put_u128(self.run);
        bytes.put_u64(self.chunks);
        finish(bytes)
    }

    pub(super) fn decode(bytes: &Bytes) -> Result<Self, &'static str> {
        let mut rest = checked(bytes, HEAD)?;
        if rest.len() != 48 {
            return Err("the head has another length");
        }
        Ok(Self {
            series: rest.get_u128(),
            generation: rest.get_u64(),
            run: rest.get_u128(),
            chunks: rest.get_u64(),
        })
    }
}

impl WriterRecord {
    pub(super) fn encode(&self) -> Bytes {
        let mut bytes = begin(WRITER);
        bytes.put_u128(self.series);
        bytes.put_u64(self.generation);
        bytes.put_slice(self.label.as_bytes());
        finish(bytes)
    }

    pub(super) fn decode(bytes: &Bytes) -> Result<Self, &'static str> {
        let mut rest = checked(bytes, WRITER)?;
        if rest.len() < 24 {
            return Err("the record is too short");
        }
        let (series, generation) = (rest.get_u128(), rest.get_u64());
        Ok(Self { series, generation, label: String::from_utf8_lossy(&rest).into_owned() })
    }
}

/// A chunk that is being filled.
#[derive(Debug)]
pub(super) struct ChunkBytes(BytesMut);

impl ChunkBytes {
    pub(super) fn new() -> Self {
        Self(begin(SNAPSHOT))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.len() == START
    }

    /// How many bytes it would have with one more observation.
    pub(super) fn len_with(&self, observation: &Observation, version: &str) -> usize {
        self.0.len() + 2 + observation.key.len() + 2 + version.len() + 8 + TAIL
    }

    pub(super) fn push(&mut self, observation: &Observation, version: &str) {
        // Keys and versions are shorter than 64 KiB.
        put_text(&mut self.0, observation.key.as_str());
        put_text(&mut self.0, version);
        self.0.put_u64(observation.since);
    }

    /// The bytes; what is left is empty.
    pub(super) fn take(&mut self) -> Bytes {
        finish(std::mem::replace(&mut self.0, begin(SNAPSHOT)))
    }
}

/// The observations of a chunk, in the order of their keys.
pub(super) fn decode_chunk(bytes: &Bytes) -> Result<Vec<Observation>, &'static str> {
    const CUT: &str = "an observation is cut";
    let mut rest = checked(bytes, SNAPSHOT)?;
    let mut observations = Vec::new();
    while !rest.is_empty() {
        let (key, version) = (take_text(&mut rest).ok_or(CUT)?, take_text(&mut rest).ok_or(CUT)?);
        let key = Key::new(key).map_err(|_| "an observation has no key")?;
        let version = version.parse().map_err(|_| "an observation has no version")?;
        if rest.len() < 8 {
            return Err(CUT);
        }
        observations.push(Observation { key, version, since: rest.get_u64() });
    }
    Ok(observations)
}

fn begin(magic: [u8; 4]) -> BytesMut {
    let mut bytes = BytesMut::new();
    bytes.put_slice(&magic);
    bytes.put_u8(FORMAT);
    bytes
}

fn finish(mut bytes: BytesMut) -> Bytes {
    let checksum = Checksum::of(&bytes).as_u32();
    bytes.put_u32(checksum);
    bytes.freeze()
}

/// What stands between magic, format and checksum.
fn checked(bytes: &Bytes, magic: [u8; 4]) -> Result<Bytes, &'static str> {
    if bytes.len() < START + TAIL || !bytes.starts_with(&magic) {
        return Err("it is no record of a sweep");
    }
    let body = bytes.slice(..bytes.len() - TAIL);
    let mut tail = bytes.slice(bytes.len() - TAIL..);
    if Checksum::of(&body).as_u32() != tail.get_u32() {
        return Err("its checksum does not match");
    }
    if body.get(START - 1) != Some(&FORMAT) {
        return Err("it has another format; use a newer version of the library");
    }
    Ok(body.slice(START..))
}

fn put_text(bytes: &mut BytesMut, text: &str) {
    bytes.put_u16(u16::try_from(text.len()).unwrap_or(u16::MAX));
    bytes.put_slice(text.as_bytes());
}

fn take_text(rest: &mut Bytes) -> Option<String> {
    let len = usize::from(rest.try_get_u16().ok()?);
    let text = (rest.len() >= len).then(|| rest.split_to(len))?;
    String::from_utf8(text.to_vec()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::ordered::from_bytes;

    /// If this fails, the format has changed and needs another number.
    #[test]
    fn the_bytes_of_format_1_stay_as_they_are() {
        let head = Head { series: 1, generation: 2, run: 3, chunks: 4 };
        assert_eq!(Head::decode(&head.encode()), Ok(head));
        let writer = WriterRecord { series: 1, generation: 2, label: "w".to_owned() };
        assert_eq!(WriterRecord::decode(&writer.encode()), Ok(writer.clone()));
        let observation =
            Observation { key: Key::new("k").expect("valid"), version: Version::from_u128(7), since: 9 };
        let mut chunk = ChunkBytes::new();
        assert!(chunk.is_empty());
        let version = observation.version.to_string();
        let len = chunk.len_with(&observation, &version);
        chunk.push(&observation, &version);
        let chunk = chunk.take();
        assert_eq!(chunk.len(), len);
        assert_eq!(decode_chunk(&chunk).expect("whole"), [observation]);
        let texts = [head.encode(), writer.encode(), chunk.clone()].map(|bytes| from_bytes(&bytes));
        assert_eq!(texts, FORMAT_1);
        for bytes in [head.encode(), writer.encode(), chunk] {
            for bit in 0..bytes.len() * 8 {
                let mut damaged = bytes.to_vec();
                damaged[bit / 8] ^= 1 << (bit % 8);
                let damaged = Bytes::from(damaged);
                Head::decode(&damaged).expect_err("one bit differs");
                WriterRecord::decode(&damaged).expect_err("one bit differs");
                decode_chunk(&damaged).expect_err("one bit differs");
            }
            for len in 0..bytes.len() {
                decode_chunk(&bytes.slice(..len)).expect_err("cut");
            }
        }
    }

    const FORMAT_1: [&str; 3] = [
        "5447434801000000000000000000000000000000010000000000000002000000000000000000000000000000030000000000000004a4f0405c",
        "5447435701000000000000000000000000000000010000000000000002774edff4dd",
        "544743530100016b0020303030303030303030303030303030303030303030303030303030303030303700000000000000093895976e",
    ];
}
