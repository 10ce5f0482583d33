//! Text in headers: what is not printable ASCII is escaped, and so are spaces that a server could drop. A header
//! without a value would be dropped as a whole: a percent sign alone stands for that. A name with an underscore is dropped
//! by some servers and proxies: it is escaped by a dot.

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
            escaped.push('%');
            for half in [byte >> 4, byte & 15] {
                escaped.push(char::from_digit(u32::from(half), 16).unwrap_or('0').to_ascii_uppercase());
            }
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

/// What percent signs and two digits stand for; `None` where they are malformed or no UTF-8.
pub(crate) fn percent_decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(if byte == b'%' {
            let mut digit = || rest.next().and_then(|byte| char::from(byte).to_digit(16));
            u8::try_from(digit()? * 16 + digit()?).ok()?
        } else {
            byte
        });
    }
    String::from_utf8(bytes).ok()
}

/// The name of an attribute as a header has it.
pub(crate) fn escape_name(name: &str) -> String {
    name.replace('.', "..").replace('_', ".-")
}

/// The name of an attribute that [`escape_name`] gave; `None` where it is none.
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
    fn round_trips() {
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
