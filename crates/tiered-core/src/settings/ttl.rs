//! How long entries live that were put without an expiry.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::quantity::{self, Quantity};

/// When entries expire that were put with [`Expiry::Default`](crate::Expiry::Default).
///
/// In TOML: `"never"`, or a duration such as `"30m"`.
///
/// # Examples
/// ```
/// use std::time::Duration;
/// use tiered_core::TieredSettings;
/// use tiered_core::settings::DefaultTtl;
///
/// let settings: TieredSettings = serde_json::from_str(r#"{ "default-ttl": "30m" }"#).unwrap();
/// assert_eq!(settings.default_ttl, DefaultTtl::from(Duration::from_mins(30)));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum DefaultTtl {
    /// Never.
    #[default]
    Never,
    /// So long after the write.
    After(Duration),
}

impl From<Duration> for DefaultTtl {
    fn from(ttl: Duration) -> Self {
        Self::After(ttl)
    }
}

impl Quantity for DefaultTtl {
    fn expected(f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(r#""never", or "#)?;
        Duration::expected(f)
    }

    fn read(text: &str) -> Option<Self> {
        match text {
            "never" => Some(Self::Never),
            ttl => Duration::read(ttl).map(Self::After),
        }
    }

    fn write(&self) -> String {
        match self {
            Self::Never => "never".to_owned(),
            Self::After(ttl) => ttl.write(),
        }
    }
}

impl Serialize for DefaultTtl {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        quantity::serialize(self, serializer)
    }
}

impl<'de> Deserialize<'de> for DefaultTtl {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        quantity::deserialize(deserializer)
    }
}

/// The time to live of the longest of these prefixes that `key` begins with.
pub(crate) fn of_prefix(ttls: &BTreeMap<String, DefaultTtl>, key: &str) -> Option<DefaultTtl> {
    let matching = ttls.iter().filter(|(prefix, _)| key.starts_with(prefix.as_str()));
    matching.max_by_key(|(prefix, _)| prefix.len()).map(|(_, ttl)| *ttl)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_prefix_counts() {
        let second = DefaultTtl::After(Duration::from_secs(1));
        let ttls = BTreeMap::from([
            ("a/".to_owned(), second),
            ("a/b/".to_owned(), DefaultTtl::Never),
            ("a/c".to_owned(), DefaultTtl::After(Duration::from_secs(2))),
        ]);
        assert_eq!(of_prefix(&ttls, "a/x"), Some(second));
        assert_eq!(of_prefix(&ttls, "a/b/x"), Some(DefaultTtl::Never));
        assert_eq!(of_prefix(&ttls, "a/b"), Some(second));
        assert_eq!(of_prefix(&ttls, "b"), None);
        assert_eq!(of_prefix(&BTreeMap::from([(String::new(), second)]), "b"), Some(second));
    }
}
