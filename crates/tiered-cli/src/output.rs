//! The command's output. A reader that closes the pipe early, as `| head` does, is not a failure and does not change
//! the exit code: the command drops the rest of its output and goes on.

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

    /// An entry that was written and has been removed since.
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

    /// The human-readable form.
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
        _ => "other",
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

/// Prints a message on standard error. A closed standard error is not a failure.
pub(crate) fn complain(text: &str) {
    writeln!(io::stderr().lock(), "{text}").ok();
}

/// Quotes the text for a shell: one word without special characters.
pub(crate) fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}

/// The lines of a long answer, written in large blocks, or line by line on a terminal.
pub(crate) struct Lines {
    /// `None` once the reader has closed the pipe.
    out: Option<BufWriter<io::Stdout>>,
    patient: bool,
}

impl Lines {
    pub(crate) fn new() -> Self {
        let out = io::stdout();
        let patient = !out.is_terminal();
        Self { out: Some(BufWriter::with_capacity(64 << 10, out)), patient }
    }

    pub(crate) fn text(&mut self, line: &str) -> Result<(), Failure> {
        let patient = self.patient;
        self.write(|out| {
            out.write_all(line.as_bytes())?;
            out.write_all(b"\n")?;
            if patient { Ok(()) } else { out.flush() }
        })
    }

    pub(crate) fn json(&mut self, object: &impl Serialize) -> Result<(), Failure> {
        self.text(&to_json(object)?)
    }

    /// Writes the rest. Without this call an error of the last block is lost.
    pub(crate) fn finish(mut self) -> Result<(), Failure> {
        self.write(BufWriter::flush)
    }

    fn write(
        &mut self,
        write: impl FnOnce(&mut BufWriter<io::Stdout>) -> io::Result<()>,
    ) -> Result<(), Failure> {
        let Some(out) = &mut self.out else { return Ok(()) };
        let written = write(out);
        if written.as_ref().is_err_and(is_gone)
            && let Some(out) = self.out.take()
        {
            // Dropped without another attempt to write the rest.
            drop(out.into_parts());
        }
        unless_gone(written).map_err(to_stdout)
    }
}

/// Returns true if the reader has closed the pipe.
fn is_gone(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::BrokenPipe
}

/// The result of a write. A closed pipe is not a failure.
pub(crate) fn unless_gone(written: io::Result<()>) -> io::Result<()> {
    written.or_else(|error| if is_gone(&error) { Ok(()) } else { Err(error) })
}

fn to_stdout(error: io::Error) -> Failure {
    Failure::Io("standard output".to_owned(), error)
}

fn to_json(object: &impl Serialize) -> Result<String, Failure> {
    serde_json::to_string(object).map_err(|error| to_stdout(io::Error::other(error)))
}

/// Prints bytes as they are.
pub(crate) fn bytes(bytes: &[u8]) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    unless_gone(out.write_all(bytes).and_then(|()| out.flush())).map_err(to_stdout)
}

/// Prints one object of JSON on a line of its own.
pub(crate) fn json(object: &impl Serialize) -> Result<(), Failure> {
    bytes(format!("{}\n", to_json(object)?).as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timestamps_are_printed_with_milliseconds() {
        assert_eq!(rfc3339(Timestamp::from_millis(1_500)), "1970-01-01T00:00:01.500Z");
        assert_eq!(rfc3339(Timestamp::from_millis(0)), "1970-01-01T00:00:00.000Z");
    }
}
