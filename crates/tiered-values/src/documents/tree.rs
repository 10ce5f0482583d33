//! Reading and changing a document in memory.

use serde_json::{Map, Value};

use super::path::Path;

/// A path that cannot be followed.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Blocked {
    /// How far it leads.
    pub(super) at: Path,
    pub(super) reason: &'static str,
}

/// Where a segment leads in an array.
enum Place {
    Element(usize),
    Behind,
}

fn place(segment: &str, len: usize) -> Result<Option<Place>, &'static str> {
    if segment == "-" {
        return Ok(Some(Place::Behind));
    }
    let is_number = !segment.is_empty() && segment.bytes().all(|byte| byte.is_ascii_digit());
    if !is_number || (segment.len() > 1 && segment.starts_with('0')) {
        return Err("an element of an array is a number without leading zeros, or -");
    }
    // A number that is too large is beyond any array.
    Ok(match segment.parse::<usize>() {
        Ok(index) if index < len => Some(Place::Element(index)),
        Ok(index) if index == len => Some(Place::Behind),
        _ => None,
    })
}

fn crossed(value: &Value) -> &'static str {
    match value {
        Value::Null => "the path leads through null, which has no members",
        Value::Bool(_) => "the path leads through a boolean, which has no members",
        Value::Number(_) => "the path leads through a number, which has no members",
        Value::String(_) => "the path leads through a text, which has no members",
        Value::Array(_) | Value::Object(_) => "the path leads on",
    }
}

/// What is at the path.
pub(super) fn find<'d>(document: &'d mut Value, path: &Path) -> Result<Option<&'d mut Value>, Blocked> {
    let mut value = document;
    for (done, segment) in path.segments().iter().enumerate() {
        let next = match value {
            Value::Object(members) => members.get_mut(segment),
            Value::Array(elements) => match place(segment, elements.len()) {
                Ok(Some(Place::Element(index))) => elements.get_mut(index),
                Ok(_) => None,
                Err(reason) => return Err(Blocked { at: path.until(done), reason }),
            },
            scalar => return Err(Blocked { at: path.until(done), reason: crossed(scalar) }),
        };
        let Some(next) = next else { return Ok(None) };
        value = next;
    }
    Ok(Some(value))
}

/// Takes what is at the path out of a document that is not used any more.
pub(super) fn take(document: &mut Value, path: &Path) -> Result<Option<Value>, Blocked> {
    Ok(find(document, path)?.map(Value::take))
}

/// Sets what is at the path, and makes what is missing on the way. Returns what was there.
pub(super) fn set(document: &mut Option<Value>, path: &Path, new: Value) -> Result<Option<Value>, Blocked> {
    let Some((last, way)) = path.segments().split_last() else {
        return Ok(document.replace(new));
    };
    let mut value = document.get_or_insert_with(empty);
    for (done, segment) in way.iter().enumerate() {
        let blocked = |reason| Blocked { at: path.until(done), reason };
        value = match value {
            Value::Object(members) => members.entry(segment.as_str()).or_insert_with(empty),
            Value::Array(elements) => {
                let index = index_for_writing(elements, segment).map_err(blocked)?;
                if index == elements.len() {
                    elements.push(empty());
                }
                elements.get_mut(index).ok_or_else(|| blocked(BEYOND))?
            }
            scalar => return Err(blocked(crossed(scalar))),
        };
    }
    let blocked = |reason| Blocked { at: path.until(way.len()), reason };
    match value {
        Value::Object(members) => Ok(members.insert(last.clone(), new)),
        Value::Array(elements) => {
            let index = index_for_writing(elements, last).map_err(blocked)?;
            if let Some(element) = elements.get_mut(index) {
                return Ok(Some(std::mem::replace(element, new)));
            }
            elements.push(new);
            Ok(None)
        }
        scalar => Err(blocked(crossed(scalar))),
    }
}

const BEYOND: &str = "the array has fewer elements; its length, or -, appends";

fn index_for_writing(elements: &[Value], segment: &str) -> Result<usize, &'static str> {
    match place(segment, elements.len())? {
        Some(Place::Element(index)) => Ok(index),
        Some(Place::Behind) => Ok(elements.len()),
        None => Err(BEYOND),
    }
}

/// Removes what is at the path, which is not the empty one. Returns what was there.
pub(super) fn remove(document: &mut Value, path: &Path) -> Result<Option<Value>, Blocked> {
    let Some((last, way)) = path.segments().split_last() else { return Ok(None) };
    let parent = path.until(way.len());
    match find(document, &parent)? {
        None => Ok(None),
        Some(Value::Object(members)) => Ok(members.remove(last)),
        Some(Value::Array(elements)) => match place(last, elements.len()) {
            Ok(Some(Place::Element(index))) => Ok(Some(elements.remove(index))),
            Ok(_) => Ok(None),
            Err(reason) => Err(Blocked { at: parent, reason }),
        },
        Some(scalar) => Err(Blocked { at: parent, reason: crossed(scalar) }),
    }
}

fn empty() -> Value {
    Value::Object(Map::new())
}

/// Whether arrays and objects nest deeper than `most`. Not recursive: the value may nest deeper than the stack allows.
pub(super) fn is_deeper(value: &Value, most: usize) -> bool {
    let mut rest = vec![(value, 0)];
    while let Some((value, depth)) = rest.pop() {
        let inside: Box<dyn Iterator<Item = &Value>> = match value {
            Value::Array(elements) => Box::new(elements.iter()),
            Value::Object(members) => Box::new(members.values()),
            _ => continue,
        };
        if depth == most {
            return true;
        }
        rest.extend(inside.map(|value| (value, depth + 1)));
    }
    false
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn path(pointer: &str) -> Path {
        Path::pointer(pointer).expect("valid")
    }

    #[test]
    fn an_absent_path_is_nothing_and_a_scalar_on_the_way_is_an_error() {
        let mut document = json!({ "a": [{ "b": null }, 7], "": 1 });
        let mut get = |at: &str| find(&mut document, &path(at)).map(Option::<&mut Value>::cloned);
        assert_eq!(get("/a/0/b"), Ok(Some(Value::Null)));
        assert_eq!(get("/"), Ok(Some(json!(1))));
        for absent in ["/x", "/x/y/z", "/a/2", "/a/-", "/a/99999999999999999999", "/a/0/c/d"] {
            assert_eq!(get(absent), Ok(None), "{absent}");
        }
        for (crossing, at) in [("/a/1/x", "/a/1"), ("/a/0/b/c", "/a/0/b"), ("/a/01", "/a"), ("/a/x", "/a")] {
            assert_eq!(get(crossing).expect_err(crossing).at, path(at));
        }
    }

    #[test]
    fn setting_makes_objects_on_the_way_and_appends_to_arrays() {
        let set = |document: Value, at: &str| {
            let mut document = Some(document);
            let old = set(&mut document, &path(at), json!("new")).map_err(|blocked| blocked.reason);
            (old, document.expect("there"))
        };
        assert_eq!(set(json!({}), "/a/b"), (Ok(None), json!({ "a": { "b": "new" } })));
        assert_eq!(set(json!([1]), "/-"), (Ok(None), json!([1, "new"])));
        assert_eq!(set(json!([1]), "/1/x"), (Ok(None), json!([1, { "x": "new" }])));
        assert_eq!(set(json!([1]), "/0"), (Ok(Some(json!(1))), json!(["new"])));
        assert_eq!(set(json!(false), ""), (Ok(Some(json!(false))), json!("new")));
        assert_eq!(set(json!([1]), "/2").0, Err(BEYOND));
        assert!(set(json!({ "a": null }), "/a/b").0.is_err());
    }

    #[test]
    fn removing_tells_what_was_there() {
        let remove = |mut document: Value, at: &str| {
            let old = remove(&mut document, &path(at)).map_err(|blocked| blocked.reason);
            (old, document)
        };
        assert_eq!(remove(json!({ "a": null }), "/a"), (Ok(Some(Value::Null)), json!({})));
        assert_eq!(remove(json!([1, 2, 3]), "/1"), (Ok(Some(json!(2))), json!([1, 3])));
        for absent in ["/x", "/x/y", "/a/3", "/a/-"] {
            assert_eq!(remove(json!({ "a": [] }), absent).0, Ok(None), "{absent}");
        }
        assert!(remove(json!({ "a": 1 }), "/a/b").0.is_err());
    }

    #[test]
    fn depth_is_counted_without_recursion() {
        let nested = |depth| (0..depth).fold(Value::Null, |inner, _| Value::Array(vec![inner]));
        assert!(!is_deeper(&nested(3), 3) && is_deeper(&nested(4), 3));
        assert!(!is_deeper(&json!(1), 0) && is_deeper(&json!([]), 0));
    }
}
