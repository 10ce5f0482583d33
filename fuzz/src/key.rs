//! `key`: what is a key, how keys are ordered, and what is listed of them.

use std::borrow::Borrow;

use arbitrary::{Arbitrary, Unstructured};
use tiered_core::adapter::{check_mark, prefix_end};
use tiered_core::{ErrorKind, Key, ListOptions};

#[derive(Arbitrary, Debug)]
struct Input<'a> {
    text: &'a str,
    other: &'a str,
    bytes: &'a [u8],
}

/// Two texts and some bytes as keys, prefixes and names of marks.
pub fn key(data: &[u8]) {
    let Ok(Input { text, other, bytes }) = Input::arbitrary_take_rest(Unstructured::new(data)) else {
        return;
    };
    let (one, two) = (parse(text), parse(other));
    if let (Some(one), Some(two)) = (&one, &two) {
        assert_eq!(one.cmp(two), text.as_bytes().cmp(other.as_bytes()));
        assert_eq!(one == two, text == other);
    }
    prefixes(text, other);
    if let Some(key) = &one {
        listed(key, other, two.as_ref());
    }
    hexadecimal(bytes, text.as_bytes());
    let named = (1..=64).contains(&text.len())
        && text.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'_' | b'-'));
    assert_eq!(check_mark(text, None).is_ok(), named);
}

/// Category Cc: C0, DEL and C1.
fn is_control(c: char) -> bool {
    matches!(c, '\0'..='\u{1f}' | '\u{7f}'..='\u{9f}')
}

fn parse(text: &str) -> Option<Key> {
    let is_key = (1..=1024).contains(&text.len()) && !text.chars().any(is_control);
    let parsed = Key::new(text);
    assert_eq!(parsed.is_ok(), is_key, "{text:?}");
    assert_eq!(text.parse::<Key>().ok(), parsed.as_ref().ok().cloned());
    assert_eq!(Key::try_from(text).ok(), parsed.as_ref().ok().cloned());
    assert_eq!(Key::try_from(text.to_owned()).ok(), parsed.as_ref().ok().cloned());
    match parsed {
        Ok(key) => {
            assert_eq!((key.as_str(), key.len(), key.to_string().as_str()), (text, text.len(), text));
            assert_eq!((Borrow::<str>::borrow(&key), AsRef::<str>::as_ref(&key)), (text, text));
            Some(key)
        }
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::InvalidKey);
            assert!(!error.chain().contains(is_control), "{error}");
            None
        }
    }
}

/// The end of a prefix is the least that follows all that begin with it.
fn prefixes(prefix: &str, other: &str) {
    let (prefix, other) = (prefix.as_bytes(), other.as_bytes());
    let inside = other >= prefix && prefix_end(prefix).is_none_or(|end| other < end.as_slice());
    assert_eq!(inside, other.starts_with(prefix));
}

fn listed(key: &Key, prefix: &str, after: Option<&Key>) {
    let options = ListOptions::new().prefix(prefix);
    assert_eq!(options.contains(key), key.as_str().starts_with(prefix));
    if let Some(after) = after {
        let options = ListOptions::new().start_after(after.clone());
        assert_eq!(options.contains(key), key.as_str().as_bytes() > after.as_str().as_bytes());
    }
}

/// Binary ids become keys of the same order, and can be had back.
fn hexadecimal(one: &[u8], two: &[u8]) {
    let key = |bytes: &[u8]| {
        let key = Key::from_bytes(bytes);
        assert_eq!(key.is_ok(), (1..=512).contains(&bytes.len()));
        let key = key.ok()?;
        let digits = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
        let back: Option<Vec<u8>> = key.as_str().as_bytes().chunks(2).map(digits).collect();
        assert_eq!(back.as_deref(), Some(bytes));
        Some(key)
    };
    if let (Some(first), Some(second)) = (key(one), key(two)) {
        assert_eq!(first.cmp(&second), one.cmp(two));
    }
}
