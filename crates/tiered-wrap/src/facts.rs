//! What a wrapper keeps beside a value that it changes: size and checksum of the value as its caller knows it.
//!
//! Listings and `head` of the store inside tell the size of what is stored. So each wrapper that changes values adds one
//! attribute, `wrap-0` to `wrap-9`, which it takes out again. Where several are nested, the innermost has the highest number.
//! The outermost adds one only where the attributes leave room for [`LEVELS`] of them; without it, size and checksum are
//! read from the beginning of the value. So a number that is there always belongs to the wrapper that sees it.

use tiered_core::adapter::Checksum;
use tiered_core::{Attributes, Error, ErrorKind, Result};

/// What the names begin with; one digit follows.
const NAME: &str = "wrap-";

/// Most that one attribute takes, name included, in bytes.
const ROOM: usize = 84;

/// How many wrappers find room if the outermost does.
const LEVELS: usize = 4;

/// Size and checksum of a value as the wrapper's caller knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Facts {
    pub(crate) size: u64,
    /// Absent where it cannot be known without the value.
    pub(crate) checksum: Option<Checksum>,
}

fn number(name: &str) -> Option<u8> {
    match name.strip_prefix(NAME)?.as_bytes() {
        [digit] if digit.is_ascii_digit() => Some(digit - b'0'),
        _ => None,
    }
}

fn highest(attributes: &Attributes) -> Option<u8> {
    attributes.iter().filter_map(|(name, _)| number(name)).max()
}

/// With the wrapper's own attribute, where there is room for it.
///
/// # Errors
/// [`ErrorKind::InvalidInput`] where names of this kind are taken and leave no room for one more.
pub(crate) fn add(attributes: Attributes, text: &str) -> Result<Attributes> {
    let Some(highest) = highest(&attributes) else {
        let all = "x".repeat(ROOM * LEVELS);
        let fits = attributes.is_empty() || attributes.clone().with(&format!("{NAME}0"), &all).is_ok();
        return if fits { attributes.with(&format!("{NAME}0"), text) } else { Ok(attributes) };
    };
    let full = |error: Option<Error>| {
        let message = "the attributes leave no room for those of nested wrappers; shorten them, and use no name wrap-0 to wrap-9";
        let refused = Error::new(ErrorKind::InvalidInput, message);
        match error {
            Some(error) => refused.with_source(error),
            None => refused,
        }
    };
    if highest >= 9 {
        return Err(full(None));
    }
    attributes.with(&format!("{NAME}{}", highest + 1), text).map_err(|error| full(Some(error)))
}

/// The attributes without the wrapper's own, and that.
pub(crate) fn take(attributes: &Attributes) -> Result<(Attributes, Option<String>)> {
    let Some(highest) = highest(attributes) else { return Ok((attributes.clone(), None)) };
    let name = format!("{NAME}{highest}");
    let rest = Attributes::try_from_iter(attributes.iter().filter(|(other, _)| *other != name))?;
    Ok((rest, attributes.get(&name).map(str::to_owned)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(bytes: usize) -> Attributes {
        Attributes::new().with("n", &"x".repeat(bytes - 1)).expect("fits")
    }

    #[test]
    fn what_is_added_is_taken_out_again_at_any_depth() {
        let longest = "y".repeat(ROOM - NAME.len() - 1);
        for size in [
            1,
            1_000,
            Attributes::MAX_SIZE - ROOM * LEVELS - 6,
            Attributes::MAX_SIZE - 300,
            Attributes::MAX_SIZE,
        ] {
            let mut levels = vec![filled(size)];
            for _ in 0..LEVELS {
                let next =
                    add(levels.last().expect("one").clone(), &longest).expect("has room, or needs none");
                levels.push(next);
            }
            for pair in levels.windows(2).rev() {
                let (rest, text) = take(&pair[1]).expect("valid");
                assert_eq!(rest, pair[0]);
                assert_eq!(text.is_some(), pair[0] != pair[1]);
            }
        }
    }

    #[test]
    fn names_of_this_kind_that_leave_no_room_are_refused() {
        let taken =
            |name: &str, bytes: usize| Attributes::new().with(name, &"x".repeat(bytes)).expect("fits");
        for attributes in [taken("wrap-9", 1), taken("wrap-0", 1_780)] {
            assert_eq!(add(attributes, "facts").expect_err("no room").kind(), ErrorKind::InvalidInput);
        }
        let theirs = taken("wrap-3", 10);
        let (rest, text) = take(&add(theirs.clone(), "facts").expect("fits")).expect("valid");
        assert_eq!((rest, text.as_deref()), (theirs, Some("facts")));
    }
}
