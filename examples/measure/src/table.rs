//! What was measured, beside what it may be.

use anyhow::ensure;

/// Lines of a table that is printed as it grows.
#[derive(Debug)]
pub struct Table {
    exceeded: Vec<String>,
}

impl Table {
    #[must_use]
    pub fn begin() -> Self {
        println!("| | measured | at most |\n|---|---|---|");
        Self { exceeded: Vec::new() }
    }

    /// What may be no more than `most`.
    pub fn at_most(&mut self, what: impl Into<String>, measured: u64, most: u64) {
        let what = what.into();
        println!("| {what} | {measured} | {most} |");
        if measured > most {
            self.exceeded.push(what);
        }
    }

    pub fn note(&mut self, what: &str, measured: u64) {
        println!("| {what} | {measured} | |");
    }

    /// Fails where something was more than it may be.
    pub fn end(self) -> anyhow::Result<()> {
        ensure!(self.exceeded.is_empty(), "more than it may be: {}", self.exceeded.join("; "));
        Ok(())
    }
}
