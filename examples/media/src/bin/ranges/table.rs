//! What was measured, beside what it may be.

use anyhow::ensure;

/// Lines of a table that is printed as it grows.
pub(crate) struct Table {
    exceeded: Vec<&'static str>,
}

impl Table {
    pub(crate) fn begin() -> Self {
        println!("| | measured | at most |\n|---|---|---|");
        Self { exceeded: Vec::new() }
    }

    /// What may be no more than `most`.
    pub(crate) fn at_most(&mut self, what: &'static str, measured: u64, most: u64) {
        println!("| {what} | {measured} | {most} |");
        if measured > most {
            self.exceeded.push(what);
        }
    }

    pub(crate) fn note(&mut self, what: &'static str, measured: u64) {
        println!("| {what} | {measured} | |");
    }

    /// Fails where something was more than it may be.
    pub(crate) fn end(self) -> anyhow::Result<()> {
        ensure!(self.exceeded.is_empty(), "more than it may be: {}", self.exceeded.join("; "));
        Ok(())
    }
}
