//! Values that say who wrote them.

use tiered::ByteStream;

/// Bytes of a value that is streamed: a disk tier stores them in several commits.
pub(crate) const STREAMED: usize = 2_300_000;

/// Bytes of a part of it.
const PART: usize = 100_000;

/// Whether an operation streams its value: one in thirty.
pub(crate) fn is_streamed(id: u64) -> bool {
    id % 30 == 7
}

/// The value of an operation, in parts.
pub(crate) fn parts(id: u64) -> ByteStream {
    let parts: Vec<_> = of(id).chunks(PART).map(|part| Ok(part.to_vec().into())).collect();
    Box::pin(futures_util::stream::iter(parts))
}

/// The value of an operation: its id, and bytes that follow from it.
pub(crate) fn of(id: u64) -> Vec<u8> {
    let mut value = format!("{id}:").into_bytes();
    if is_streamed(id) {
        value.resize(STREAMED, u8::try_from(id % 251).unwrap_or(0));
        return value;
    }
    let len = usize::try_from(id * 37 % 3_000).unwrap_or(0);
    value.extend((0..len).map(|at| u8::try_from((at as u64 ^ id) % 251).unwrap_or(0)));
    value
}

/// The operation that wrote a value; `None` where none did.
pub(crate) fn id(value: &[u8]) -> Option<u64> {
    let digits = value.split(|byte| *byte == b':').next().unwrap_or_default();
    let id = std::str::from_utf8(digits).ok()?.parse().ok()?;
    (value == of(id)).then_some(id)
}

/// Whether a backend that refuses some values refuses this operation's: one in eight.
pub(crate) fn is_refused(id: u64) -> bool {
    id % 8 == 3
}
