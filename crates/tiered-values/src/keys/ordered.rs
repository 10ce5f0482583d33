//! Texts that sort by bytes as the values that they stand for.
//!
//! # Examples
//! ```
//! use tiered_values::ordered;
//!
//! assert_eq!(ordered::from_u64(255), "00000000000000ff");
//! assert!(ordered::from_u64(9) < ordered::from_u64(10));
//! assert!(ordered::from_i64(-1) < ordered::from_i64(0));
//! assert_eq!(ordered::to_i64(&ordered::from_i64(-7)), Some(-7));
//! assert_eq!(ordered::to_bytes(&ordered::from_bytes(b"\x00\xff")).as_deref(), Some(&b"\x00\xff"[..]));
//! assert_eq!(ordered::to_u64("ff"), None);
//! ```

use std::fmt::Write as _;

/// 16 hexadecimal digits.
///
/// # Examples
/// ```
/// assert_eq!(tiered_values::ordered::from_u64(10), "000000000000000a");
/// ```
pub fn from_u64(number: u64) -> String {
    format!("{number:016x}")
}

/// The number of such a text; `None` for any other.
///
/// # Examples
/// ```
/// assert_eq!(tiered_values::ordered::to_u64("000000000000000a"), Some(10));
/// ```
pub fn to_u64(text: &str) -> Option<u64> {
    (text.len() == 16 && is_hex(text)).then(|| u64::from_str_radix(text, 16).ok())?
}

/// 16 hexadecimal digits; negative numbers come first.
///
/// # Examples
/// ```
/// assert_eq!(tiered_values::ordered::from_i64(0), "8000000000000000");
/// ```
pub fn from_i64(number: i64) -> String {
    from_u64(number.cast_unsigned() ^ (1 << 63))
}

/// The number of such a text; `None` for any other.
///
/// # Examples
/// ```
/// assert_eq!(tiered_values::ordered::to_i64("7fffffffffffffff"), Some(-1));
/// ```
pub fn to_i64(text: &str) -> Option<i64> {
    to_u64(text).map(|number| (number ^ (1 << 63)).cast_signed())
}

/// Two hexadecimal digits for each byte, as [`Key::from_bytes`](tiered_core::Key::from_bytes) has them.
///
/// # Examples
/// ```
/// assert_eq!(tiered_values::ordered::from_bytes(b"\x01\xab"), "01ab");
/// ```
pub fn from_bytes(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        // Writing to a `String` cannot fail.
        if write!(text, "{byte:02x}").is_err() {
            break;
        }
    }
    text
}

/// The bytes of such a text; `None` for any other.
///
/// # Examples
/// ```
/// assert_eq!(tiered_values::ordered::to_bytes("01ab"), Some(vec![1, 0xab]));
/// ```
pub fn to_bytes(text: &str) -> Option<Vec<u8>> {
    if !text.len().is_multiple_of(2) || !is_hex(text) {
        return None;
    }
    let pairs = (0..text.len()).step_by(2).map(|at| text.get(at..at + 2));
    pairs.map(|pair| u8::from_str_radix(pair?, 16).ok()).collect()
}

/// Upper-case digits would be a second text for the same value.
fn is_hex(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
}
