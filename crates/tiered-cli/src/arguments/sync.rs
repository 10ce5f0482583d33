//! The options of `sync` and `check`.

use std::str::FromStr;

use clap::Args;
use globset::{GlobBuilder, GlobSet, GlobSetBuilder};

use super::rate::bytes_per_second;

/// What is brought in step with what, and how.
#[derive(Args)]
pub(crate) struct Sync {
    /// The source, which is only read.
    #[arg(long, value_name = "URL")]
    pub(crate) from: String,
    /// The target, which is created if it is absent.
    #[arg(long, value_name = "URL")]
    pub(crate) to: String,
    /// populate-missing copies what the target lacks; refresh also what differs; full-sync also removes from the
    /// target what the source lacks.
    #[arg(long)]
    pub(crate) strategy: String,
    #[command(flatten)]
    pub(crate) chosen: Chosen,
    /// Only counts what it would do; writes nothing.
    #[arg(long, conflicts_with_all = ["resume", "verify"])]
    pub(crate) dry_run: bool,
    /// Keeps how far it is in this file or store (a URL), and goes on from there if an earlier run did not end. A run after
    /// one that ended begins anew.
    #[arg(long, value_name = "FILE|URL", allow_hyphen_values = true)]
    pub(crate) resume: Option<String>,
    /// Only shard I of N, such as 2/8: a range of keys. The shards are of about the same size. Where they end is kept beside
    /// what --resume names, which all N processes share.
    #[arg(long, value_name = "I/N", requires = "resume")]
    pub(crate) shard: Option<Shard>,
    /// Compares both sides afterwards, as `check` does. Ends with 6 if they differ where they should not.
    #[arg(long)]
    pub(crate) verify: bool,
    /// Goes on afterwards with what the source tells of, until it is stopped. For sources with a feed of changes, such as
    /// Postgres. What fails is tried again.
    #[arg(long, conflicts_with_all = ["resume", "verify", "dry_run"])]
    pub(crate) follow: bool,
    /// At most so many bytes of values a second, such as 10MiB.
    #[arg(long, value_name = "BYTES", value_parser = bytes_per_second)]
    pub(crate) limit_rate: Option<u64>,
    /// So many batches of copies at a time.
    #[arg(long, value_name = "N", default_value_t = 16)]
    pub(crate) concurrency: usize,
    /// Ends when more keys than this have failed.
    #[arg(long, value_name = "N", default_value_t = 100)]
    pub(crate) max_failures: u64,
}

/// Which keys.
#[derive(Args)]
pub(crate) struct Chosen {
    /// Only keys that begin with this.
    #[arg(long, default_value = "", hide_default_value = true, allow_hyphen_values = true)]
    pub(crate) prefix: String,
    /// Only keys that match this pattern, or another one given so: `*` and `?` stop at `/`, `**` does not, and there are
    /// `[a-z]` and `{one,other}`. It is for the whole key.
    #[arg(long, value_name = "GLOB", allow_hyphen_values = true)]
    pub(crate) include: Vec<String>,
    /// No keys that match this pattern. May be given several times, and counts more than --include.
    #[arg(long, value_name = "GLOB", allow_hyphen_values = true)]
    pub(crate) exclude: Vec<String>,
}

impl Chosen {
    /// The patterns, compiled.
    ///
    /// # Errors
    /// What is wrong with a pattern.
    pub(crate) fn patterns(&self) -> Result<Patterns, String> {
        Ok(Patterns { include: patterns(&self.include)?, exclude: patterns(&self.exclude)? })
    }
}

fn patterns(globs: &[String]) -> Result<Option<GlobSet>, String> {
    if globs.is_empty() {
        return Ok(None);
    }
    let mut set = GlobSetBuilder::new();
    for glob in globs {
        let compiled = GlobBuilder::new(glob).literal_separator(true).backslash_escape(true).build();
        set.add(compiled.map_err(|error| format!("the pattern {glob:?}: {}", error.kind()))?);
    }
    set.build().map(Some).map_err(|error| error.to_string())
}

/// Patterns of keys.
#[derive(Clone, Default)]
pub(crate) struct Patterns {
    include: Option<GlobSet>,
    exclude: Option<GlobSet>,
}

impl Patterns {
    /// Whether there are any.
    pub(crate) const fn is_empty(&self) -> bool {
        self.include.is_none() && self.exclude.is_none()
    }

    /// Whether a key is one of those that are chosen.
    pub(crate) fn admit(&self, key: &str) -> bool {
        self.include.as_ref().is_none_or(|include| include.is_match(key))
            && !self.exclude.as_ref().is_some_and(|exclude| exclude.is_match(key))
    }
}

/// A shard of a sync, counted from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shard {
    pub(crate) index: usize,
    pub(crate) of: usize,
}

impl FromStr for Shard {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let numbers =
            text.split_once('/').and_then(|(index, of)| Some((index.parse().ok()?, of.parse().ok()?)));
        match numbers {
            Some((index, of)) if (1..=of).contains(&index) && of <= Self::MOST => Ok(Self { index, of }),
            _ => Err(format!("use I/N, such as 2/8: I from 1 to N, and N at most {}", Self::MOST)),
        }
    }
}

impl Shard {
    /// How many shards a sync can have.
    const MOST: usize = 10_000;
}

#[cfg(test)]
mod tests {
    use super::{Chosen, Shard};

    fn admitted(include: &[&str], exclude: &[&str], keys: &[&str]) -> String {
        let own = |globs: &[&str]| globs.iter().map(|glob| (*glob).to_owned()).collect();
        let chosen = Chosen { prefix: String::new(), include: own(include), exclude: own(exclude) };
        let patterns = chosen.patterns().expect("patterns");
        keys.iter().copied().filter(|key| patterns.admit(key)).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn keys_are_chosen_by_what_is_included_without_what_is_excluded() {
        let keys = ["users/1", "users/1/photo", "users/2.tmp", "orders/1"];
        assert_eq!(admitted(&[], &[], &keys), keys.join(" "));
        assert_eq!(admitted(&["users/*"], &[], &keys), "users/1 users/2.tmp");
        assert_eq!(admitted(&["users/**"], &["**.tmp"], &keys), "users/1 users/1/photo users/2.tmp");
        assert_eq!(admitted(&["users/**"], &["**/*.tmp"], &keys), "users/1 users/1/photo");
        assert_eq!(admitted(&["{users,orders}/1"], &[], &keys), "users/1 orders/1");
        assert_eq!(admitted(&[], &["users/[12]*"], &keys), "users/1/photo orders/1");
        let chosen = Chosen { prefix: String::new(), include: vec!["a[".to_owned()], exclude: vec![] };
        assert!(chosen.patterns().err().expect("refused").contains("\"a[\""));
    }

    #[test]
    fn a_shard_is_counted_from_one() {
        assert_eq!("2/8".parse(), Ok(Shard { index: 2, of: 8 }));
        for wrong in ["0/8", "9/8", "8", "1/0", "a/b", "1/10001", "1/2/3", "-1/2"] {
            assert!(wrong.parse::<Shard>().expect_err(wrong).contains("such as 2/8"));
        }
    }
}
