//! Versions as e-tags: `"` 32 hexadecimal digits `"`, or `"t:` and a server's token, escaped, `"`. A list of e-tags is
//! divided by commas, so that none may stand in one.

use std::fmt::Write as _;

use tiered_core::Version;

/// What an e-tag of a server's token begins with.
const TOKEN: &str = "t:";

/// The e-tag of a version.
pub(crate) fn of(version: &Version) -> String {
    let Some(token) = version.as_token() else { return format!("\"{version}\"") };
    let mut text = format!("\"{TOKEN}");
    for byte in token.bytes() {
        if byte.is_ascii_graphic() && !b"\",%".contains(&byte) {
            text.push(char::from(byte));
        } else if write!(text, "%{byte:02x}").is_err() {
            // Writing to a `String` cannot fail.
            break;
        }
    }
    text.push('"');
    text
}

/// The version of an e-tag; `None` where it is none of ours.
pub(crate) fn parse(etag: &str) -> Option<Version> {
    let inside = etag.strip_prefix('"')?.strip_suffix('"')?;
    let Some(escaped) = inside.strip_prefix(TOKEN) else {
        return inside.parse().ok().filter(|version| of(version) == etag);
    };
    let mut bytes = Vec::with_capacity(escaped.len());
    let mut rest = escaped.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let digits = [rest.next()?, rest.next()?];
            bytes.push(u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?);
        } else {
            bytes.push(byte);
        }
    }
    // A version has one e-tag alone.
    Version::from_token(std::str::from_utf8(&bytes).ok()?).ok().filter(|version| of(version) == etag)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_and_its_etag_are_one_to_one() {
        for token in ["\"etag\"", "a,b", "W/\"ü 100%\"", "t:", "0123456789abcdef0123456789abcdef"] {
            let version = Version::from_token(token).expect("valid");
            let etag = of(&version);
            assert!(!etag.contains(',') && !etag.contains(' '), "{etag}");
            assert_eq!(parse(&etag), Some(version));
        }
        let version = Version::from_u128(u128::MAX);
        assert_eq!(parse(&of(&version)), Some(version));
    }

    #[test]
    fn what_is_no_etag_of_ours_is_no_version() {
        for text in ["", "*", "invalid", "\"\"", "\"12\"", "\"t:\"", "\"t:%6\"", "\"t:%61\"", "\"token:a\""] {
            assert_eq!(parse(text), None, "{text}");
        }
        let upper = of(&Version::from_u128(0xabc)).to_uppercase();
        assert_eq!(parse(&upper), None);
    }
}
