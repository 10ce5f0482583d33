//! The marks of a prefix, among those of the store inside.
//!
//! ```text
//! prefix.<20 hex digits>..<name>             a mark whose name has at most 32 bytes
//! prefix.<20 hex digits>.v<32 hex digits>    the value of a mark with a longer name
//! prefix.<20 hex digits>.n<32 hex digits>    that name
//! ```
//! The core knows the first form, in which its own marks are: it looks for the journals of prefixes, among others. The
//! digits are the FNV-1a hash of the prefix, and of the name: a mark has a name of 64 bytes at most, which leaves no
//! room for both.

use bytes::Bytes;
use tiered_core::{Result, Store};

/// Longest name that is kept as it is, in bytes: what a name of 64 bytes leaves.
const SHORT: usize = 32;

/// How the marks of one prefix are named in the store inside.
#[derive(Clone, Debug)]
pub(super) struct Names {
    /// Before each of them.
    base: String,
}

impl Names {
    pub(super) fn of(prefix: &str) -> Self {
        let mut digits = hash(prefix);
        digits.truncate(20);
        Self { base: format!("prefix.{digits}") }
    }

    /// The mark that holds the value of `name`.
    pub(super) fn value(&self, name: &str) -> String {
        if name.len() <= SHORT {
            format!("{}..{name}", self.base)
        } else {
            format!("{}.v{}", self.base, hash(name))
        }
    }

    /// The mark that holds the name itself, where it is long.
    fn name(&self, name: &str) -> Option<String> {
        (name.len() > SHORT).then(|| format!("{}.n{}", self.base, hash(name)))
    }
}

pub(super) async fn set(inner: &dyn Store, names: &Names, name: &str, value: Option<Bytes>) -> Result<()> {
    let (of_value, of_name) = (names.value(name), names.name(name));
    let Some(of_name) = of_name else { return inner.set_mark(&of_value, value).await };
    // A name without a value counts as none: it is there before the value, and goes after it.
    if value.is_some() {
        inner.set_mark(&of_name, Some(Bytes::copy_from_slice(name.as_bytes()))).await?;
        return inner.set_mark(&of_value, value).await;
    }
    inner.set_mark(&of_value, None).await?;
    inner.set_mark(&of_name, None).await
}

pub(super) async fn names(inner: &dyn Store, names: &Names, prefix: &str) -> Result<Vec<String>> {
    let base = format!("{}.", names.base);
    let mut found = Vec::new();
    for mark in inner.mark_names(&base).await? {
        let Some(rest) = mark.strip_prefix(&base) else { continue };
        if let Some(name) = rest.strip_prefix('.') {
            found.push(name.to_owned());
        } else if let Some(digits) = rest.strip_prefix('v')
            && let Some(name) = inner.mark(&format!("{base}n{digits}")).await?
        {
            found.push(String::from_utf8_lossy(&name).into_owned());
        }
    }
    found.retain(|name| name.starts_with(prefix));
    found.sort_unstable();
    Ok(found)
}

/// 128-bit FNV-1a, as hexadecimal digits.
fn hash(text: &str) -> String {
    let hash = text.bytes().fold(0x6c62_272e_07bb_0142_62b8_2175_6295_c58d_u128, |hash, byte| {
        (hash ^ u128::from(byte)).wrapping_mul(0x0000_0000_0100_0000_0000_0000_0000_013b)
    });
    format!("{hash:032x}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_of_a_mark_fits_inside() {
        for len in [1, SHORT, SHORT + 1, 64] {
            let name = "n".repeat(len);
            let names = Names::of("tenants/größe/");
            for mark in names.name(&name).into_iter().chain([names.value(&name)]) {
                tiered_core::adapter::check_mark(&mark, None).expect("a valid name");
            }
        }
    }

    #[test]
    fn the_names_of_marks_stay_the_same() {
        let names = Names::of("users/");
        assert_eq!(names.value("tiered.identity"), "prefix.2fa866ea283c64bf6f3a..tiered.identity");
    }
}
