//! The metadata of an entry as one text, which is kept beside its object: `v=…&m=…&e=…&c=…&a.NAME=…`.
//!
//! | name | holds |
//! |---|---|
//! | `v` | the write's id |
//! | `m`, `e` | when it was made, and when it expires: milliseconds since 1970 |
//! | `c` | the checksum of the value; absent where it was streamed |
//! | `a.` and a name | an attribute |

use std::fmt::Write as _;

use tiered_core::adapter::Checksum;
use tiered_core::{Attributes, Error, ErrorKind, Metadata, Result, Timestamp, Version};

/// What is read of a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) version: Version,
    pub(crate) modified: Timestamp,
    pub(crate) expires_at: Option<Timestamp>,
    pub(crate) attributes: Attributes,
    pub(crate) checksum: Option<Checksum>,
}

/// The text of these metadata.
pub(crate) fn write(metadata: &Metadata, checksum: Option<Checksum>) -> String {
    let mut text = format!("v={}&m={}", escape(&metadata.version.to_string()), metadata.modified.as_millis());
    let mut add = |name: &str, value: &str| {
        for part in ["&", name, "=", value] {
            text.push_str(part);
        }
    };
    if let Some(at) = metadata.expires_at {
        add("e", &at.as_millis().to_string());
    }
    if let Some(checksum) = checksum {
        add("c", &format!("{checksum:?}"));
    }
    for (name, value) in metadata.attributes.iter() {
        add(&format!("a.{name}"), &escape(value));
    }
    text
}

/// Reads a text of [`write`].
pub(crate) fn read(text: &str) -> Result<Record> {
    let (mut version, mut modified, mut expires_at, mut checksum) = (None, None, None, None);
    let mut attributes = Attributes::new();
    for pair in text.split('&') {
        let (name, value) = pair.split_once('=').ok_or_else(damaged)?;
        match name {
            "v" => version = Some(unescape(value)?.parse::<Version>().map_err(|_| damaged())?),
            "m" => modified = Some(time(value)?),
            "e" => expires_at = Some(time(value)?),
            "c" => checksum = Some(crc(value)?),
            name => {
                // What a later release may add is passed over.
                let Some(name) = name.strip_prefix("a.") else { continue };
                attributes = attributes.with(name, &unescape(value)?).map_err(|_| damaged())?;
            }
        }
    }
    let (Some(version), Some(modified)) = (version, modified) else { return Err(damaged()) };
    Ok(Record { version, modified, expires_at, attributes, checksum })
}

fn damaged() -> Error {
    Error::new(ErrorKind::Corrupt, "the metadata of the object are damaged; write the key again")
}

fn digits(text: &str, radix: u32) -> Result<u64> {
    let plain = text.bytes().all(|byte| byte.is_ascii_hexdigit());
    u64::from_str_radix(text, radix).ok().filter(|_| plain).ok_or_else(damaged)
}

fn time(text: &str) -> Result<Timestamp> {
    digits(text, 10).map(Timestamp::from_millis)
}

fn crc(text: &str) -> Result<Checksum> {
    u32::try_from(digits(text, 16)?).map(Checksum::from_u32).map_err(|_| damaged())
}

/// Text as printable ASCII, without what divides pairs, and without spaces that a server could drop.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    let mut before = None;
    let mut bytes = text.bytes().peekable();
    while let Some(byte) = bytes.next() {
        let single = byte == b' ' && bytes.peek().is_some() && before.is_some_and(|before| before != b' ');
        if byte.is_ascii_graphic() && !b"%&=".contains(&byte) || single {
            escaped.push(char::from(byte));
        } else if write!(escaped, "%{byte:02x}").is_err() {
            // Writing to a `String` cannot fail.
            break;
        }
        before = Some(byte);
    }
    escaped
}

fn unescape(text: &str) -> Result<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let pair = [rest.next().ok_or_else(damaged)?, rest.next().ok_or_else(damaged)?];
            let pair = std::str::from_utf8(&pair).map_err(|_| damaged())?;
            bytes.push(u8::try_from(digits(pair, 16)?).map_err(|_| damaged())?);
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).map_err(|_| damaged())
}

#[cfg(test)]
mod tests {
    use super::*;
    use tiered_core::Put;
    use tiered_core::adapter::{Stamp, with_version};

    #[test]
    fn metadata_are_the_same_after_writing_and_reading() {
        for version in [Version::from_u128(7), Version::from_token("W/\"ü&=%\"").expect("valid")] {
            for value in ["", " a  b ", "größe 鍵 🔑", "\"'=%;,&a.b=c"] {
                let attributes = Attributes::new().with("a.b_c-1", value).expect("valid");
                let put = with_version(Put::new("value").attributes(attributes), version.clone());
                let entry = Stamp::system().entry(&put.expires_at(Timestamp::from_millis(99)));
                let metadata = entry.metadata();
                let text = write(metadata, metadata.checksum);
                assert!(text.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic()), "{text}");
                let read = read(&text).expect("as written");
                assert_eq!(
                    (&read.version, read.modified, read.expires_at, &read.attributes, read.checksum),
                    (
                        &metadata.version,
                        metadata.modified,
                        metadata.expires_at,
                        &metadata.attributes,
                        metadata.checksum
                    )
                );
            }
        }
    }

    #[test]
    fn what_is_damaged_is_an_error() {
        let good = "v=00000000000000000000000000000007&m=5&c=0000002a&later=x";
        assert_eq!(read(good).expect("good").checksum, Some(Checksum::from_u32(42)));
        for (from, to) in
            [("v=", "w="), ("m=5", "m=+5"), ("m=5", "m="), ("c=0000002a", "c=+000002a"), ("=5", "5")]
        {
            let error = read(&good.replace(from, to)).expect_err("damaged");
            assert_eq!(error.kind(), ErrorKind::Corrupt, "{from} {to}");
        }
        for text in ["", "&", "v", "v=7&m=5", "v=00000000000000000000000000000007&m=5&a.X=1", "v=%6&m=5"] {
            assert!(read(text).is_err(), "{text}");
        }
    }
}
