//! `tokens`: text in headers of objects, and versions as text.
//!
//! The escapes of `tiered-s3` are compiled in from their file: they need nothing of that crate, which would bring the
//! whole driver along.

#[path = "../../crates/tiered-s3/src/header.rs"]
mod header;

use arbitrary::{Arbitrary, Unstructured};
use header::{escape, escape_name, percent_decode, unescape, unescape_name};
use tiered_core::{Attributes, Version};

#[derive(Arbitrary, Debug)]
struct Input<'a> {
    text: &'a str,
    attributes: Vec<(&'a str, &'a str)>,
}

/// A text as a header's value and name, and as a version; pairs as attributes.
pub fn tokens(data: &[u8]) {
    let Ok(Input { text, attributes }) = Input::arbitrary_take_rest(Unstructured::new(data)) else { return };
    value(text);
    name(text);
    version(text);
    attributes_fit(&attributes);
}

fn value(text: &str) {
    let escaped = escape(text);
    assert!(!escaped.is_empty(), "a header without a value is dropped");
    assert!(escaped.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic()), "{escaped:?}");
    assert_eq!(escaped.trim(), escaped);
    assert!(!escaped.contains("  "), "{escaped:?}");
    assert_eq!(unescape(&escaped), text);
    // What another client wrote: decoded where it can be, else as it is.
    let other = unescape(text);
    assert!(text == "%" || percent_decode(text).is_none_or(|decoded| decoded == other));
    assert_eq!(unescape(&escape(&other)), other);
}

fn name(text: &str) {
    let escaped = escape_name(text);
    assert!(!escaped.contains('_'));
    assert_eq!(unescape_name(&escaped).as_deref(), Some(text));
    if let Some(own) = unescape_name(text).filter(|_| !text.contains('_')) {
        assert_eq!(escape_name(&own), text, "a name is escaped in one way");
    }
}

fn version(text: &str) {
    if let Ok(version) = text.parse::<Version>() {
        let shown = version.to_string();
        assert!(
            shown == text || shown.eq_ignore_ascii_case(text) && version.as_token().is_none(),
            "{text:?}"
        );
        assert_eq!(shown.parse().ok(), Some(version));
    }
    if let Ok(version) = Version::from_token(text) {
        assert_eq!(version.as_token(), Some(text));
        assert_eq!(version.to_string().parse().ok(), Some(version));
    }
}

/// The limit of attributes is that of the headers that they become.
fn attributes_fit(pairs: &[(&str, &str)]) {
    let size = |all: &Attributes| -> usize {
        all.iter().map(|(name, value)| escape_name(name).len() + escape(value).len()).sum()
    };
    let mut all = Attributes::new();
    for (name, value) in pairs {
        let letters = |byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'_' | b'-');
        let named =
            (1..=64).contains(&name.len()) && name.bytes().all(letters) && !name.starts_with("tiered-");
        if let Ok(more) = all.clone().with(name, value) {
            assert!(named && !value.contains(char::is_control));
            assert_eq!(more.get(name), Some(*value));
            assert!(size(&more) <= Attributes::MAX_SIZE);
            all = more;
        } else {
            let replaced = all.get(name).map_or(0, |value| escape_name(name).len() + escape(value).len());
            let whole = size(&all) - replaced + escape_name(name).len() + escape(value).len();
            assert!(!named || value.contains(char::is_control) || whole > Attributes::MAX_SIZE);
        }
    }
}
