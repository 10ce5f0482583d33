//! Values that say which write they are of, and whether a byte of them is another's.

use std::ops::Range;

use bytes::Bytes;
use tiered_core::Entry;

use crate::history::Value;

/// Digits that begin a value.
const DIGITS: usize = 16;

/// Values with a multiple of this number are large.
pub(crate) const LARGE: Value = 13;

/// The bytes of value number `number`: most are small, some take several chunks of a disk tier.
pub(crate) fn encode(number: Value) -> Bytes {
    let size = match number {
        n if n % 97 == 0 => 150_000,
        n if n % LARGE == 0 => 3_000,
        _ => 40,
    };
    let mut value = format!("{number:0DIGITS$}").into_bytes();
    let salt = number.to_le_bytes()[0];
    // Bytes at the same place of two blocks differ.
    value.extend((DIGITS..size).map(|at| {
        let [low, high, ..] = at.to_le_bytes();
        salt.wrapping_add(low).wrapping_add(high.wrapping_mul(31))
    }));
    Bytes::from(value)
}

/// What is wrong with an answer to a read of `range`, of the value with this number, if anything: it must be that piece of that
/// very value.
pub(crate) fn judge_part(number: Value, bytes: &Bytes, size: u64, range: &Range<u64>) -> Result<(), String> {
    let right = encode(number);
    if size != right.len() as u64 {
        return Err(format!("value {number} has {} bytes, not {size}", right.len()));
    }
    let at = |at: u64| usize::try_from(at.min(size)).unwrap_or(usize::MAX);
    let piece = right.get(at(range.start)..at(range.end)).unwrap_or_default();
    if *bytes == piece { Ok(()) } else { Err(format!("bytes {range:?} of value {number} are not its own")) }
}

/// The number of an entry's value; an error says what is wrong with its bytes.
pub(crate) fn decode(entry: &Entry) -> Result<Value, String> {
    decode_bytes(entry.value(), entry.is_whole())
}

/// The number of a value, or of its beginning.
pub(crate) fn decode_bytes(bytes: &Bytes, is_whole: bool) -> Result<Value, String> {
    let number = bytes.get(..DIGITS).and_then(|digits| std::str::from_utf8(digits).ok()?.parse().ok());
    let Some(number) = number else { return Err(format!("bytes that were never written: {bytes:?}")) };
    let right = encode(number);
    let whole = if is_whole { *bytes == right } else { right.starts_with(bytes) };
    if whole { Ok(number) } else { Err(format!("value {number} with bytes that are not its own")) }
}
