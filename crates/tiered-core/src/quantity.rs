//! Durations and sizes as text: in settings, in URLs and in messages. One grammar for all of them.

use std::fmt;
use std::marker::PhantomData;
use std::time::Duration;

use serde::de::{Deserializer, Unexpected, Visitor};
use serde::ser::Serializer;

use crate::error::{Error, ErrorKind, Operation, Result};

/// Units of bytes, the largest first. A number alone counts bytes.
const BYTES: [(&str, u64); 8] = [
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("kB", 1_000),
    ("B", 1),
    ("", 1),
];

/// Units of time in nanoseconds, the largest first.
const TIMES: [(&str, u128); 7] = [
    ("d", 86_400_000_000_000),
    ("h", 3_600_000_000_000),
    ("m", 60_000_000_000),
    ("s", 1_000_000_000),
    ("ms", 1_000_000),
    ("us", 1_000),
    ("ns", 1),
];

/// Parses a number of bytes: a number alone, or one with `B`, `KiB`, `MiB`, `GiB`, `kB`, `MB` or `GB`.
///
/// # Errors
/// [`ErrorKind::Config`].
///
/// # Examples
/// ```
/// use tiered_core::adapter::url::parse_bytes;
///
/// assert_eq!(parse_bytes("64MiB")?, 64 << 20);
/// assert_eq!(parse_bytes("4096")?, 4096);
/// # Ok::<(), tiered_core::Error>(())
/// ```
pub fn parse_bytes(text: &str) -> Result<u64> {
    u64::read(text)
        .ok_or_else(|| refuse(format!("{text:?} is not a number of bytes; write 4096, 64MiB or 1GiB")))
}

/// A number of bytes as text, in the largest of `GiB`, `MiB`, `KiB` and `B` that gives a whole number.
/// [`parse_bytes`] reads it back.
///
/// # Examples
/// ```
/// use tiered_core::adapter::url::format_bytes;
///
/// assert_eq!(format_bytes(64 << 20), "64MiB");
/// assert_eq!(format_bytes(1_000), "1000B");
/// ```
pub fn format_bytes(bytes: u64) -> String {
    bytes.write()
}

/// Parses a duration: numbers with units such as `ms`, `s`, `m`, `h` and `d`, as in `90s` or `1h 30m`. A number without
/// a unit is an error.
///
/// # Errors
/// [`ErrorKind::Config`].
///
/// # Examples
/// ```
/// use std::time::Duration;
/// use tiered_core::adapter::url::parse_duration;
///
/// assert_eq!(parse_duration("1m 30s")?, Duration::from_secs(90));
/// assert!(parse_duration("90").is_err());
/// # Ok::<(), tiered_core::Error>(())
/// ```
pub fn parse_duration(text: &str) -> Result<Duration> {
    Duration::read(text)
        .ok_or_else(|| refuse(format!("{text:?} is not a duration; write 500ms, 60s, 5m, 1h or 1h 30m")))
}

/// A duration as text, in days and smaller units. [`parse_duration`] reads it back.
///
/// # Examples
/// ```
/// use std::time::Duration;
/// use tiered_core::adapter::url::format_duration;
///
/// assert_eq!(format_duration(Duration::from_secs(90)), "1m 30s");
/// assert_eq!(format_duration(Duration::ZERO), "0s");
/// ```
pub fn format_duration(duration: Duration) -> String {
    duration.write()
}

fn refuse(message: String) -> Error {
    Error::new(ErrorKind::Config, message).during(Operation::Open)
}

/// A value that settings write as text with a unit: `#[serde(with = "crate::quantity")]`.
pub(crate) trait Quantity: Sized {
    /// Says in an error what was expected.
    fn expected(f: &mut fmt::Formatter<'_>) -> fmt::Result;

    /// The value of a text.
    fn read(text: &str) -> Option<Self>;

    /// The value of a number without a unit.
    fn read_number(_: u64) -> Option<Self> {
        None
    }

    /// The text that [`read`](Self::read) reads back.
    fn write(&self) -> String;
}

impl Quantity for Duration {
    fn expected(f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(r#"a duration with its unit, such as "500ms", "60s" or "1h 30m""#)
    }

    /// Adds up the numbers with their units. Each is parsed by itself, because humantime can panic where their sum
    /// overflows.
    fn read(text: &str) -> Option<Self> {
        let mut rest = text.trim();
        let mut sum = None;
        while !rest.is_empty() {
            let unit = rest.find(char::is_alphabetic)?;
            let end =
                rest.get(unit..)?.find(|c: char| !c.is_alphabetic()).map_or(rest.len(), |end| unit + end);
            let (part, behind) = rest.split_at_checked(end)?;
            let part = humantime::parse_duration(part).ok()?;
            sum = Some(sum.unwrap_or(Self::ZERO).checked_add(part)?);
            rest = behind.trim_start();
        }
        sum
    }

    // Not as humantime writes it: there 31 days are `1month 13h 26m 24s`.
    fn write(&self) -> String {
        let mut rest = self.as_nanos();
        let mut words = Vec::new();
        for (unit, nanos) in TIMES {
            if rest >= nanos {
                words.push(format!("{}{unit}", rest / nanos));
                rest %= nanos;
            }
        }
        if words.is_empty() { "0s".to_owned() } else { words.join(" ") }
    }
}

/// Bytes.
impl Quantity for u64 {
    fn expected(f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(r#"a number of bytes, such as 4096 or "64MiB""#)
    }

    fn read(text: &str) -> Option<Self> {
        BYTES.into_iter().find_map(|(unit, factor)| {
            let number = text.strip_suffix(unit)?.trim_end();
            let digits = number.bytes().all(|byte| byte.is_ascii_digit());
            number.parse::<Self>().ok().filter(|_| digits)?.checked_mul(factor)
        })
    }

    fn read_number(number: u64) -> Option<Self> {
        Some(number)
    }

    fn write(&self) -> String {
        let mut binary = BYTES.into_iter().filter(|(unit, _)| unit.ends_with("iB"));
        let fits = binary.find(|(_, factor)| *self > 0 && self.is_multiple_of(*factor));
        let (unit, factor) = fits.unwrap_or(("B", 1));
        format!("{}{unit}", self / factor)
    }
}

/// Written `off` where there is none.
impl<Q: Quantity> Quantity for Option<Q> {
    fn expected(f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Q::expected(f)?;
        f.write_str(r#", or "off""#)
    }

    fn read(text: &str) -> Option<Self> {
        if text == "off" { Some(None) } else { Q::read(text).map(Some) }
    }

    fn read_number(number: u64) -> Option<Self> {
        Q::read_number(number).map(Some)
    }

    fn write(&self) -> String {
        self.as_ref().map_or_else(|| "off".to_owned(), Q::write)
    }
}

/// For `#[serde(with = …)]`.
pub(crate) fn serialize<Q: Quantity, S: Serializer>(quantity: &Q, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&quantity.write())
}

/// For `#[serde(with = …)]`. Its errors say what to write.
pub(crate) fn deserialize<'de, Q: Quantity, D: Deserializer<'de>>(deserializer: D) -> Result<Q, D::Error> {
    let text = Text(PhantomData);
    // A binary format does not say what follows: it is what was written, a text.
    if deserializer.is_human_readable() {
        deserializer.deserialize_any(text)
    } else {
        deserializer.deserialize_str(text)
    }
}

struct Text<Q>(PhantomData<Q>);

impl<Q: Quantity> Visitor<'_> for Text<Q> {
    type Value = Q;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Q::expected(f)
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Q, E> {
        Q::read(text).ok_or_else(|| E::invalid_value(Unexpected::Str(text), &self))
    }

    fn visit_u64<E: serde::de::Error>(self, number: u64) -> Result<Q, E> {
        Q::read_number(number).ok_or_else(|| E::invalid_type(Unexpected::Unsigned(number), &self))
    }

    fn visit_i64<E: serde::de::Error>(self, number: i64) -> Result<Q, E> {
        let value = u64::try_from(number).ok().and_then(Q::read_number);
        value.ok_or_else(|| E::invalid_type(Unexpected::Signed(number), &self))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn bytes_have_a_unit_or_none() {
        let cases = [
            ("10", 10),
            ("10B", 10),
            ("1 KiB", 1 << 10),
            ("64MiB", 64 << 20),
            ("1GiB", 1 << 30),
            ("2kB", 2_000),
        ];
        for (text, bytes) in cases {
            assert_eq!(parse_bytes(text).expect(text), bytes);
        }
        for text in ["", "MiB", "64 MB ", "-1", "+1KiB", "1.5MiB", "64mib", "99999999999GiB"] {
            assert_eq!(parse_bytes(text).expect_err(text).kind(), ErrorKind::Config);
        }
    }

    #[test]
    fn durations_need_a_unit() {
        for (text, millis) in [
            ("5ms", 5),
            ("60s", 60_000),
            ("1.5s", 1_500),
            ("1h 30m", 5_400_000),
            ("1h30m", 5_400_000),
            (" 2 d ", 172_800_000),
            ("0s", 0),
        ] {
            assert_eq!(parse_duration(text).expect(text), Duration::from_millis(millis));
        }
        for text in ["", " ", "0", "5", "5s 3", "s", "+5s", "-5s", "5 parsecs", "99999999999999999999d"] {
            assert_eq!(parse_duration(text).expect_err(text).kind(), ErrorKind::Config);
        }
        // Their sum overflows.
        assert!(parse_duration("18446744073709551615s 1000ms").is_err());
    }

    #[test]
    fn texts_are_short() {
        let written = [
            (Duration::ZERO, "0s"),
            (Duration::from_mins(1), "1m"),
            (Duration::from_millis(1_500), "1s 500ms"),
            (Duration::from_hours(31 * 24), "31d"),
            (Duration::from_nanos(1_002_003), "1ms 2us 3ns"),
        ];
        for (duration, text) in written {
            assert_eq!(format_duration(duration), text);
        }
        for (bytes, text) in
            [(0, "0B"), (1 << 10, "1KiB"), (1_025, "1025B"), (64 << 20, "64MiB"), (5 << 40, "5120GiB")]
        {
            assert_eq!(format_bytes(bytes), text);
        }
    }

    proptest! {
        #[test]
        fn every_duration_is_read_back(seconds: u64, nanos in 0..1_000_000_000_u32) {
            let duration = Duration::new(seconds, nanos);
            prop_assert_eq!(parse_duration(&format_duration(duration)).ok(), Some(duration));
        }

        #[test]
        fn every_size_is_read_back(bytes: u64, shift in 0..64_u32) {
            for bytes in [bytes, bytes.checked_shl(shift).unwrap_or(bytes)] {
                prop_assert_eq!(parse_bytes(&format_bytes(bytes)).ok(), Some(bytes));
            }
        }

        #[test]
        fn no_text_panics(text in "[0-9a-z. µ]{0,40}") {
            parse_duration(&text).ok();
            parse_bytes(&text).ok();
        }
    }
}
