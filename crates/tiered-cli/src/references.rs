//! How a value names the keys that it refers to.

use serde_json::Value;
use tiered::sync::Walk;
use tiered::{Entry, Error, ErrorKind, Key, Result};

use crate::arguments::References;

/// Reads references as the command line says.
pub(crate) fn walk(how: References) -> impl Walk + 'static {
    move |_: &Key, entry: &Entry| -> Result<Vec<Key>> {
        match &how {
            References::Lines => in_lines(entry.value()),
            References::Json(pointer) => in_json(entry.value(), pointer),
            References::Git => crate::git::references(entry.value()),
        }
    }
}

fn refuse(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidInput, message)
}

fn in_lines(value: &[u8]) -> Result<Vec<Key>> {
    let text = std::str::from_utf8(value).map_err(|_| {
        refuse("the value is no text, and names no keys; leave out what refers to nothing by --leaves-under")
    })?;
    text.lines().filter(|line| !line.is_empty()).map(Key::new).collect()
}

fn in_json(value: &[u8], pointer: &str) -> Result<Vec<Key>> {
    let value: Value = serde_json::from_slice(value).map_err(|error| {
        refuse("the value is no JSON; leave out what refers to nothing by --leaves-under").with_source(error)
    })?;
    let key = |value: &Value| match value {
        Value::String(text) => Key::new(text),
        _ => Err(refuse(format!("{pointer:?} has an element that is no text"))),
    };
    match value.pointer(pointer) {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(Value::Array(elements)) => elements.iter().map(key).collect(),
        Some(value) => Ok(vec![key(value)?]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_read_or_refused() {
        let texts = |found: Result<Vec<Key>>| -> Vec<String> {
            found.expect("read").iter().map(|key| key.as_str().to_owned()).collect()
        };
        assert_eq!(texts(in_lines(b"a\n\nb c\r\n")), ["a", "b c"]);
        in_lines(b"a\tb").expect_err("no key");
        in_lines(&[0xff]).expect_err("no text");
        let json = br#"{"parts": ["a", "b"], "next": "c", "none": null, "size": 3, "mixed": ["a", 1]}"#;
        assert_eq!(texts(in_json(json, "/parts")), ["a", "b"]);
        assert_eq!(texts(in_json(json, "/next")), ["c"]);
        assert_eq!(texts(in_json(json, "/none")), [""; 0]);
        assert_eq!(texts(in_json(json, "/absent")), [""; 0]);
        assert_eq!(texts(in_json(br#"["x"]"#, "")), ["x"]);
        for pointer in ["/size", "/mixed", ""] {
            in_json(json, pointer).expect_err("no texts");
        }
        in_json(b"no json", "").expect_err("no JSON");
    }
}
