//! JSON Merge Patch, RFC 7396.

use serde_json::{Map, Value};

/// Applies `patch` to `target`, as RFC 7396 says: members of an object replace those of the target, and a `null` removes
/// them; anything but an object replaces the target.
///
/// # Examples
/// ```
/// use serde_json::json;
/// use tiered_values::merge_patch;
///
/// let mut target = json!({ "a": "b", "c": { "d": "e", "f": "g" } });
/// merge_patch(&mut target, &json!({ "a": "z", "c": { "f": null } }));
/// assert_eq!(target, json!({ "a": "z", "c": { "d": "e" } }));
/// ```
pub fn merge_patch(target: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    let Value::Object(members) = target else { return };
    for (name, part) in patch {
        if part.is_null() {
            members.remove(name);
        } else {
            merge_patch(members.entry(name.as_str()).or_insert(Value::Null), part);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The test cases of RFC 7396, appendix A: original, patch, result.
    #[test]
    fn the_cases_of_the_rfc_hold() {
        let cases = [
            (r#"{"a":"b"}"#, r#"{"a":"c"}"#, r#"{"a":"c"}"#),
            (r#"{"a":"b"}"#, r#"{"b":"c"}"#, r#"{"a":"b","b":"c"}"#),
            (r#"{"a":"b"}"#, r#"{"a":null}"#, "{}"),
            (r#"{"a":"b","b":"c"}"#, r#"{"a":null}"#, r#"{"b":"c"}"#),
            (r#"{"a":["b"]}"#, r#"{"a":"c"}"#, r#"{"a":"c"}"#),
            (r#"{"a":"c"}"#, r#"{"a":["b"]}"#, r#"{"a":["b"]}"#),
            (r#"{"a":{"b":"c"}}"#, r#"{"a":{"b":"d","c":null}}"#, r#"{"a":{"b":"d"}}"#),
            (r#"{"a":[{"b":"c"}]}"#, r#"{"a":[1]}"#, r#"{"a":[1]}"#),
            (r#"["a","b"]"#, r#"["c","d"]"#, r#"["c","d"]"#),
            (r#"{"a":"b"}"#, r#"["c"]"#, r#"["c"]"#),
            (r#"{"a":"foo"}"#, "null", "null"),
            (r#"{"a":"foo"}"#, r#""bar""#, r#""bar""#),
            (r#"{"e":null}"#, r#"{"a":1}"#, r#"{"e":null,"a":1}"#),
            ("[1,2]", r#"{"a":"b","c":null}"#, r#"{"a":"b"}"#),
            ("{}", r#"{"a":{"bb":{"ccc":null}}}"#, r#"{"a":{"bb":{}}}"#),
        ];
        let parse = |text: &str| serde_json::from_str::<Value>(text).expect("valid");
        for (original, patch, result) in cases {
            let mut target = parse(original);
            merge_patch(&mut target, &parse(patch));
            assert_eq!(target, parse(result), "{original} patched with {patch}");
        }
    }
}
