//! A secret in an input: nothing that is shown may contain it.

/// Stands for a secret. It looks like no name of anything: such names may be shown.
const SECRET: &str = "Hunter2Hunter2";

/// The input with a secret for each `$`.
pub(crate) fn planted(text: &str) -> String {
    text.replace('$', SECRET)
}

/// Whether the secret is in `text`.
pub(crate) fn is_in(text: &str) -> bool {
    text.contains(SECRET)
}

/// What people and logs get to see: no secret, and one line.
pub(crate) fn assert_showable(text: &str) {
    assert!(!is_in(text), "the secret is shown: {text}");
    assert!(!text.contains(char::is_control), "more than a line: {text:?}");
}
