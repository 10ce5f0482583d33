//! Values that say who wrote them.

/// The value of an operation: its id, and bytes that follow from it.
pub(crate) fn of(id: u64) -> Vec<u8> {
    let mut value = format!("{id}:").into_bytes();
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
