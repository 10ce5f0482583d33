//! A record as a careful user of an engine writes it by hand: version, time and value, behind a CRC-32C over the key and all of
//! them. What is read is copied out of the engine and checked.

use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;

/// The checksum, the version, the time.
const HEADER: usize = 4 + 16 + 8;

/// The record of a value.
pub fn write(key: &str, value: &[u8]) -> Result<Vec<u8>> {
    let time = SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis() as u64;
    let mut record = Vec::with_capacity(HEADER + value.len());
    record.extend_from_slice(&[0; 4]);
    record.extend_from_slice(&fastrand::u128(..).to_le_bytes());
    record.extend_from_slice(&time.to_le_bytes());
    record.extend_from_slice(value);
    let crc = checksum(key, record.get(4..).unwrap_or_default()).to_le_bytes();
    for (place, byte) in record.iter_mut().zip(crc) {
        *place = byte;
    }
    Ok(record)
}

/// The value in a record, copied.
pub fn read(key: &str, record: &[u8]) -> Result<Bytes> {
    let (crc, body) = record.split_first_chunk().context("the record is too short")?;
    ensure!(u32::from_le_bytes(*crc) == checksum(key, body), "the record of {key} is damaged");
    Ok(Bytes::copy_from_slice(record.get(HEADER..).context("the record is too short")?))
}

fn checksum(key: &str, body: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(key.as_bytes()), body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_read_as_it_was_written() {
        let record = write("a", b"value").expect("the clock is after 1970");
        assert_eq!(read("a", &record).expect("it is whole"), "value");
        read("b", &record).expect_err("it is of another key");
        let mut damaged = record;
        *damaged.last_mut().expect("it is not empty") ^= 1;
        read("a", &damaged).expect_err("it is damaged");
    }
}
