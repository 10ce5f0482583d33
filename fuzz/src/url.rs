//! `url`: what a store URL says, and that it says no secret to others.

use std::collections::BTreeMap;

use futures_util::FutureExt as _;
use tiered::{Capabilities, Create, ErrorKind, SCHEMES, Store as _};
use tiered_core::adapter::url::{StoreUrl, format_bytes, format_duration, parse_bytes, parse_duration};

use crate::secret;

/// Parameters whose values are shown where they are wrong: no secrets.
const SHOWN: [&str; 3] = ["capacity", "ttl", "max_value"];

/// Any text as a URL; a `$` in it stands for a secret.
pub fn url(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    quantities(text);
    let text = &secret::planted(text);
    let expected = Parts::of(text);
    let parsed = StoreUrl::parse(text);
    assert_eq!(parsed.is_ok(), expected.is_some(), "{text:?}");
    match (parsed, expected) {
        (Ok(url), Some(parts)) => {
            assert!(!secret::is_in(&format!("{url:?}")) || parts.shows_a_secret());
            assert_eq!((url.scheme(), url.path()), (parts.scheme, parts.path));
            refuses_the_unknown(&url, &parts);
            takes_what_is_there(url, &parts);
            opens(text, &parts);
        }
        (Err(error), _) => {
            assert_eq!(error.kind(), ErrorKind::Config);
            secret::assert_showable(&error.chain());
        }
        (Ok(_), None) => {}
    }
}

/// A URL, read by other means.
struct Parts<'a> {
    scheme: &'a str,
    path: &'a str,
    parameters: BTreeMap<&'a str, &'a str>,
}

impl<'a> Parts<'a> {
    fn of(text: &'a str) -> Option<Self> {
        let (scheme, rest) = text.split_once(':')?;
        let mut letters = scheme.chars();
        if !letters.next()?.is_ascii_lowercase()
            || !letters.all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "+.-".contains(c))
        {
            return None;
        }
        let (path, query) = match rest.find('?') {
            Some(mark) => (&rest[..mark], &rest[mark + 1..]),
            None => (rest, ""),
        };
        let mut parameters = BTreeMap::new();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=')?;
            if parameters.insert(name, value).is_some() {
                return None;
            }
        }
        Some(Self { scheme, path, parameters })
    }

    /// Whether a secret is where there is none by right.
    fn shows_a_secret(&self) -> bool {
        let shown = |(name, value): (&&str, &&str)| {
            secret::is_in(name) || SHOWN.contains(name) && secret::is_in(value)
        };
        self.parameters.iter().any(shown)
    }
}

fn refuses_the_unknown(url: &StoreUrl, parts: &Parts<'_>) {
    let finished = url.finish(&["known"]);
    assert_eq!(finished.is_ok(), parts.parameters.is_empty());
    if let Err(error) = finished {
        assert_eq!(error.kind(), ErrorKind::Config);
        secret::assert_showable(&error.chain());
    }
}

fn takes_what_is_there(mut url: StoreUrl, parts: &Parts<'_>) {
    for (name, value) in &parts.parameters {
        assert_eq!(url.take(name).as_deref(), Some(*value));
        assert_eq!(url.take(name), None, "a parameter is taken once");
    }
    assert!(url.finish(&[]).is_ok());
}

/// Opens what is in this process. All else would reach for the disk or the network.
fn opens(text: &str, parts: &Parts<'_>) {
    let elsewhere = parts.scheme == "postgresql" || SCHEMES.iter().any(|(name, ..)| *name == parts.scheme);
    if elsewhere && !["memory", "moka"].contains(&parts.scheme) {
        return;
    }
    let opened = tiered::open(text, Create::Never).now_or_never();
    let quantity = |name: &str| parts.parameters.get(name).map(|text| bytes_of(text));
    match opened.unwrap_or_else(|| panic!("{text:?} waits for something")) {
        Ok(store) => {
            assert!(elsewhere && parts.path.is_empty(), "{text:?}");
            assert!(parts.parameters.keys().all(|name| SHOWN.contains(name)), "{text:?}");
            let asked = quantity("max_value").unwrap_or(Some(Capabilities::DEFAULT_MAX_VALUE));
            assert!(asked.is_some_and(|asked| store.capabilities().max_value() <= asked), "{text:?}");
        }
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::Config);
            if !parts.shows_a_secret() {
                secret::assert_showable(&error.chain());
            }
        }
    }
}

/// A number of bytes, read by other means.
fn bytes_of(text: &str) -> Option<u64> {
    let (number, unit) = text.split_at(text.bytes().take_while(u8::is_ascii_digit).count());
    let factor = match unit.trim_start() {
        "" if unit.is_empty() => 1,
        "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        "kB" => 1_000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(factor)
}

fn quantities(text: &str) {
    if let Ok(bytes) = parse_bytes(text) {
        assert!(text.starts_with(|c: char| c.is_ascii_digit()), "{text:?}");
        assert!(bytes_of(text) == Some(bytes) || text.trim_end() != text, "{text:?}");
        assert_eq!(parse_bytes(&bytes.to_string()).ok(), Some(bytes));
        assert_eq!(parse_bytes(&format_bytes(bytes)).ok(), Some(bytes));
    }
    if let Ok(duration) = parse_duration(text) {
        let text = text.trim();
        assert!(text.starts_with(|c: char| c.is_ascii_digit()), "{text:?}");
        assert!(text.ends_with(char::is_alphabetic), "{text:?}");
        assert_eq!(parse_duration(&format_duration(duration)).ok(), Some(duration));
    }
}
