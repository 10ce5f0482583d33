//! Store URLs: `scheme:PATH?name=value&…`, naming one store.
//!
//! A scheme is as in any URL: a lower-case letter, then such letters, digits, `+`, `-` and `.`.
//! PATH is literal up to the first `?`: no escapes, so any path can be pasted. Parameters are optional; unknown and
//! repeated ones are errors, so that a misspelling never silently means the default.

use std::collections::BTreeMap;
use std::fmt;

use crate::error::{Error, ErrorKind, Operation, Result};
pub use crate::quantity::{format_bytes, format_duration, parse_bytes, parse_duration};

/// A parsed store URL. Take its parameters, then [`finish`](StoreUrl::finish).
///
/// # Examples
/// ```
/// use tiered_core::adapter::url::{StoreUrl, parse_bytes};
///
/// let mut url = StoreUrl::parse("moka:?capacity=64MiB")?;
/// let capacity = url.take("capacity").map(|text| parse_bytes(&text)).transpose()?;
/// url.finish(&["capacity", "ttl"])?;
/// assert_eq!(capacity, Some(64 << 20));
/// # Ok::<(), tiered_core::Error>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct StoreUrl {
    scheme: String,
    path: String,
    parameters: BTreeMap<String, String>,
}

fn refuse<T>(message: String) -> Result<T> {
    Err(Error::new(ErrorKind::Config, message).during(Operation::Open))
}

impl StoreUrl {
    /// Parses `text`.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] where the scheme is missing or none, or a parameter is malformed or repeated.
    pub fn parse(text: &str) -> Result<Self> {
        // What else stands before a colon may be a user's name or a piece of a secret.
        let Some((scheme, rest)) = text.split_once(':').filter(|(scheme, _)| is_scheme(scheme)) else {
            return refuse(
                "a store is named by a URL such as redb:data.redb, moka:?capacity=64MiB or memory:"
                    .to_owned(),
            );
        };
        let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
        let mut parameters = BTreeMap::new();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let Some((name, value)) = pair.split_once('=') else {
                // What it says may be a piece of a secret.
                return refuse(format!("a parameter of {scheme}: has no value; write name=value"));
            };
            if parameters.insert(name.to_owned(), value.to_owned()).is_some() {
                return refuse(if is_name(name) {
                    format!("the parameter {name} of {scheme}: is given twice; give it once")
                } else {
                    format!("a parameter of {scheme}: is given twice; give it once")
                });
            }
        }
        Ok(Self { scheme: scheme.to_owned(), path: path.to_owned(), parameters })
    }

    /// What stands before the colon.
    pub fn scheme(&self) -> &str {
        &self.scheme
    }

    /// What stands between the colon and the question mark.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Takes a parameter.
    pub fn take(&mut self, name: &str) -> Option<String> {
        self.parameters.remove(name)
    }

    /// Refuses parameters that were not taken.
    ///
    /// # Errors
    /// [`ErrorKind::Config`], naming the `known` ones.
    pub fn finish(&self, known: &[&str]) -> Result<()> {
        match self.parameters.keys().next() {
            None => Ok(()),
            Some(name) if !is_name(name) => refuse(format!(
                "{}: has a parameter that it does not know; it has {}",
                self.scheme,
                known.join(", ")
            )),
            Some(name) => {
                refuse(format!("{}: has no parameter {name}; it has {}", self.scheme, known.join(", ")))
            }
        }
    }
}

fn is_scheme(text: &str) -> bool {
    let letter = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"+.-".contains(&byte);
    text.bytes().next().is_some_and(|byte| byte.is_ascii_lowercase()) && text.bytes().all(letter)
}

/// Whether it looks like a parameter's name: what does not may be a piece of a secret with an `&` in it.
fn is_name(text: &str) -> bool {
    text.len() <= 24 && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')
}

impl fmt::Debug for StoreUrl {
    // Values of parameters may be secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.parameters.keys().collect();
        f.debug_struct("StoreUrl")
            .field("scheme", &self.scheme)
            .field("parameters", &names)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_literal_up_to_the_first_question_mark() {
        let mut url = StoreUrl::parse("redb:/a b/%20&c=d?cache=1MiB").expect("parses");
        assert_eq!((url.scheme(), url.path()), ("redb", "/a b/%20&c=d"));
        assert_eq!(url.take("cache").as_deref(), Some("1MiB"));
        assert!(url.finish(&[]).is_ok());
    }

    #[test]
    fn an_unknown_parameter_is_refused() {
        assert!(StoreUrl::parse("no-colon").is_err());
        assert!(StoreUrl::parse(":path").is_err());
        for scheme in ["Redb", "a b", "redb\n", "1", "postgres//user"] {
            assert!(StoreUrl::parse(&format!("{scheme}:path")).is_err(), "{scheme}");
        }
        assert!(StoreUrl::parse("moka:?ttl").is_err());
        assert!(StoreUrl::parse("moka:?ttl=1s&ttl=2s").is_err());
        let url = StoreUrl::parse("moka:?tll=1s").expect("parses");
        let message = url.finish(&["capacity", "ttl"]).expect_err("unknown").to_string();
        assert!(message.contains("no parameter tll") && message.contains("capacity, ttl"), "{message}");
    }

    #[test]
    fn errors_do_not_show_the_values_of_parameters() {
        let url = StoreUrl::parse("s3:bucket?secret=hunter2").expect("parses");
        assert!(!format!("{url:?}").contains("hunter2"));
        let error = StoreUrl::parse("s3:bucket?secret=hunt&er2").expect_err("malformed");
        assert!(!error.to_string().contains("er2"), "{error}");
        let error = StoreUrl::parse("s3:bucket?secret=hunt&Er2=x&Er2=y").expect_err("repeated");
        assert!(!error.to_string().contains("Er2"), "{error}");
        let error = StoreUrl::parse("postgres//user:hunter2@host/d").expect_err("no colon behind the scheme");
        assert!(!error.to_string().contains("user"), "{error}");
    }
}
