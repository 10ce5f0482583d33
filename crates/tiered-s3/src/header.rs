//! Text in headers: what is not printable ASCII is escaped, and so are spaces that a server could drop. A header
//! without a value would be dropped as a whole: a percent sign alone stands for that. A name with an underscore is dropped
//! by some servers and proxies: it is escaped by a dot.

use std::borrow::Cow;

use percent_encoding::{percent_decode_str, percent_encode_byte};

/// Stands for no text.
const EMPTY: &str = "%";

/// The text as a header's value.
pub(crate) fn escape(text: &str) -> String {
    if text.is_empty() {
        return EMPTY.to_owned();
    }
    let mut escaped = String::with_capacity(text.len());
    let mut before = None;
    let mut bytes = text.bytes().peekable();
    while let Some(byte) = bytes.next() {
        let single = byte == b' ' && bytes.peek().is_some() && before.is_some_and(|before| before != b' ');
        if byte.is_ascii_graphic() && byte != b'%' || single {
            escaped.push(char::from(byte));
        } else {
            escaped.push_str(percent_encode_byte(byte));
        }
        before = Some(byte);
    }
    escaped
}

/// The text of a header's value; the value itself where it is not what [`escape`] gives.
pub(crate) fn unescape(value: &str) -> String {
    if value == EMPTY {
        return String::new();
    }
    percent_decode(value).unwrap_or_else(|| value.to_owned())
}

/// Decodes percent-encoding; `None` where it is malformed or not UTF-8.
pub(crate) fn percent_decode(text: &str) -> Option<String> {
    // The library leaves what is malformed as it stands.
    let is_pair = |after: &str| after.bytes().take(2).filter(u8::is_ascii_hexdigit).count() == 2;
    if !text.split('%').skip(1).all(is_pair) {
        return None;
    }
    percent_decode_str(text).decode_utf8().ok().map(Cow::into_owned)
}

/// The name of an attribute as a header has it.
pub(crate) fn escape_name(name: &str) -> String {
    name.replace('.', "..").replace('_', ".-")
}

/// Decodes a name from [`escape_name`]; `None` if it is malformed.
pub(crate) fn unescape_name(header: &str) -> Option<String> {
    let mut name = String::with_capacity(header.len());
    let mut rest = header.chars();
    while let Some(next) = rest.next() {
        name.push(match next {
            '.' => match rest.next()? {
                '.' => '.',
                '-' => '_',
                _ => return None,
            },
            plain => plain,
        });
    }
    Some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_encoded_header_decodes_to_the_same_text() {
        for text in ["", "plain text", " a  b ", "100%", "größe 鍵 🔑", "\"'=%;,", "%41", " "] {
            let escaped = escape(text);
            assert!(escaped.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic()), "{escaped}");
            assert_eq!(escaped.trim(), escaped);
            assert!(!escaped.is_empty() && !escaped.contains("  "), "{escaped}");
            assert_eq!(unescape(&escaped), text);
        }
        for name in ["content-type", "a.b_c-1", "._-", "_", "..", "-."] {
            assert!(!escape_name(name).contains('_'));
            assert_eq!(unescape_name(&escape_name(name)).as_deref(), Some(name));
        }
        assert_eq!(unescape_name("a.b"), None);
        assert_eq!(unescape("50%"), "50%", "of another client");
        assert_eq!(unescape("%zz"), "%zz");
    }
}
