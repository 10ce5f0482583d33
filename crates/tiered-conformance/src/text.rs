//! What a failure says: the first difference, and little more.

use std::fmt::Debug;

/// Longest text of a failure, in characters.
pub(crate) const LONGEST: usize = 1_000;

/// How much of either side a difference shows, in characters.
const SHOWN: usize = 300;

/// `text`, cut after its first 1,000 characters.
pub(crate) fn clip(text: String) -> String {
    cut(&text, LONGEST).unwrap_or(text)
}

/// The beginning of `text`, where it has more than `most` characters.
fn cut(text: &str, most: usize) -> Option<String> {
    text.char_indices().nth(most)?;
    Some(text.chars().take(most - 1).chain(['…']).collect())
}

/// "expected …, saw …": both whole where they are short, else from a little before the first difference on.
pub(crate) fn differing<T: Debug + ?Sized>(expected: &T, seen: &T) -> String {
    let (expected, seen) = (format!("{expected:?}"), format!("{seen:?}"));
    let same = expected.chars().zip(seen.chars()).take_while(|(a, b)| a == b).count();
    let short = |text: &str| text.chars().count() <= SHOWN;
    let skipped = if short(&expected) && short(&seen) { 0 } else { same.saturating_sub(SHOWN / 4) };
    let window = |text: &str| {
        let rest: String = text.chars().skip(skipped).collect();
        let rest = cut(&rest, SHOWN).unwrap_or(rest);
        if skipped == 0 { rest } else { format!("…{rest}") }
    };
    format!("expected {}, saw {}", window(&expected), window(&seen))
}

/// The first place where two lists of names differ, in words; `None` where they are equal.
pub(crate) fn first_difference(expected: &[&str], seen: &[String]) -> Option<String> {
    let same = expected.iter().zip(seen).take_while(|(expected, seen)| expected == seen).count();
    if same == expected.len() && same == seen.len() {
        return None;
    }
    let name = |name: Option<&str>| {
        name.map_or_else(
            || "the end".to_owned(),
            |name| format!("{:?}", cut(name, SHOWN).unwrap_or_else(|| name.to_owned())),
        )
    };
    let (wanted, here) = (name(expected.get(same).copied()), name(seen.get(same).map(String::as_str)));
    let (all, listed) = (expected.len(), seen.len());
    Some(format!(
        "expected {wanted} at position {same}, saw {here}; expected {all} keys in all, saw {listed}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_shows_the_difference_and_not_the_whole_value() {
        assert_eq!(differing(&1, &2), "expected 1, saw 2");
        let (long, other) = ("x".repeat(5_000), format!("{}y{}", "x".repeat(2_500), "x".repeat(2_499)));
        let text = differing(long.as_str(), other.as_str());
        assert!(text.contains('y') && text.chars().count() < 700, "{text}");
        assert_eq!(clip("é".repeat(2_000)).chars().count(), LONGEST);
        assert_eq!(clip("short".to_owned()), "short");
    }

    #[test]
    fn lists_differ_at_their_first_difference() {
        let names: Vec<String> = (0..2_000).map(|index| format!("{index:05}")).collect();
        let all: Vec<&str> = names.iter().map(String::as_str).collect();
        assert_eq!(first_difference(&all, &names), None);
        let mut less = names.clone();
        less.remove(1_000);
        let text = first_difference(&all, &less).expect("they differ");
        let expected =
            "expected \"01000\" at position 1000, saw \"01001\"; expected 2000 keys in all, saw 1999";
        assert_eq!(text, expected);
        let text = first_difference(&all[..3], &[]).expect("they differ");
        assert_eq!(text, "expected \"00000\" at position 0, saw the end; expected 3 keys in all, saw 0");
    }
}
