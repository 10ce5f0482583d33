//! What the command prints.

use std::collections::BTreeMap;
use std::io::{self, BufWriter, IsTerminal as _, Write as _};

use serde::Serialize;
use tiered::{Metadata, Source, Timestamp, Version};

use crate::exit::Failure;

/// An entry, without its value.
#[derive(Debug, Serialize)]
pub(crate) struct Described<'a> {
    pub(crate) key: &'a str,
    pub(crate) size: u64,
    pub(crate) version: String,
    pub(crate) modified: Option<String>,
    pub(crate) expires_at: Option<String>,
    pub(crate) attributes: BTreeMap<&'a str, &'a str>,
    pub(crate) tier: &'static str,
}

impl<'a> Described<'a> {
    pub(crate) fn new(key: &'a str, metadata: &'a Metadata, source: Source) -> Self {
        Self {
            key,
            size: metadata.size,
            version: metadata.version.to_string(),
            modified: Some(rfc3339(metadata.modified)),
            expires_at: metadata.expires_at.map(rfc3339),
            attributes: metadata.attributes.iter().collect(),
            tier: tier(source),
        }
    }

    /// An entry that was written and is no longer there.
    pub(crate) fn replaced(key: &'a str, size: u64, version: &Version) -> Self {
        Self {
            key,
            size,
            version: version.to_string(),
            modified: None,
            expires_at: None,
            attributes: BTreeMap::new(),
            tier: tier(Source::Store),
        }
    }

    /// For people.
    pub(crate) fn print(&self) -> Result<(), Failure> {
        let mut text = format!(
            "key         {}\nsize        {}\nversion     {}\nmodified    {}\nexpires     {}\ntier        {}\n",
            self.key,
            self.size,
            self.version,
            self.modified.as_deref().unwrap_or("-"),
            self.expires_at.as_deref().unwrap_or("never"),
            self.tier
        );
        for (name, value) in &self.attributes {
            text.push_str("attribute   ");
            text.push_str(name);
            text.push('=');
            text.push_str(value);
            text.push('\n');
        }
        bytes(text.as_bytes())
    }
}

fn tier(source: Source) -> &'static str {
    match source {
        Source::Store => "store",
        Source::Frontend => "frontend",
        Source::Backend => "backend",
        Source::Pending => "pending",
    }
}

/// RFC 3339 with milliseconds, in UTC.
pub(crate) fn rfc3339(at: Timestamp) -> String {
    let millis = i64::try_from(at.as_millis()).unwrap_or(i64::MAX);
    match jiff::Timestamp::from_millisecond(millis) {
        Ok(time) => format!("{time:.3}"),
        // Beyond the year 9999.
        Err(_) => "9999-12-31T23:59:59.999Z".to_owned(),
    }
}

/// Says something to a person, on standard error. Nobody may be listening, which is no reason to fail.
pub(crate) fn complain(text: &str) {
    writeln!(io::stderr().lock(), "{text}").ok();
}

/// Lines of a long answer, written in large pieces, and at once where a person looks on.
pub(crate) struct Lines {
    out: BufWriter<io::Stdout>,
    patient: bool,
}

impl Lines {
    pub(crate) fn new() -> Self {
        let out = io::stdout();
        let patient = !out.is_terminal();
        Self { out: BufWriter::with_capacity(64 << 10, out), patient }
    }

    pub(crate) fn text(&mut self, line: &str) -> Result<(), Failure> {
        let written = self.out.write_all(line.as_bytes()).and_then(|()| self.out.write_all(b"\n"));
        let written = if self.patient { written } else { written.and_then(|()| self.out.flush()) };
        written.map_err(to_stdout)
    }

    pub(crate) fn json(&mut self, object: &impl Serialize) -> Result<(), Failure> {
        let line = serde_json::to_string(object).map_err(|error| to_stdout(io::Error::other(error)))?;
        self.text(&line)
    }

    /// Writes what is left. Without it an error of the last piece would be lost.
    pub(crate) fn finish(mut self) -> Result<(), Failure> {
        self.out.flush().map_err(to_stdout)
    }
}

fn to_stdout(error: io::Error) -> Failure {
    Failure::Io("standard output".to_owned(), error)
}

/// Prints bytes as they are.
pub(crate) fn bytes(bytes: &[u8]) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    out.write_all(bytes).and_then(|()| out.flush()).map_err(to_stdout)
}

/// Prints one object of JSON on a line of its own.
pub(crate) fn json(object: &impl Serialize) -> Result<(), Failure> {
    let mut line = serde_json::to_string(object).map_err(|error| to_stdout(io::Error::other(error)))?;
    line.push('\n');
    bytes(line.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_has_milliseconds() {
        assert_eq!(rfc3339(Timestamp::from_millis(1_500)), "1970-01-01T00:00:01.500Z");
        assert_eq!(rfc3339(Timestamp::from_millis(0)), "1970-01-01T00:00:00.000Z");
    }
}
