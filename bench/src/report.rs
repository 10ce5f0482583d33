//! What a run found: rows of figures, judged by their targets. Kept as JSON; tables and plots are made from it.

pub mod markdown;
pub mod plot;
pub mod readme;

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use crate::machine::Machine;
use crate::measure::Measured;
use crate::statistics::{Percentiles, Summary};
use crate::targets::{Bound, Target, Verdict};

/// The file of all results, within the folder of the output.
pub const RESULTS: &str = "results.json";

/// The results of all groups that were ever run into one folder, each from its latest run.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct Report {
    /// By the group's name.
    pub groups: BTreeMap<String, Group>,
}

/// The results of one group, and where they were measured.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Group {
    /// A heading.
    pub title: String,
    /// What is measured, and how.
    pub about: String,
    /// The command that measured it.
    pub command: String,
    /// When it ended.
    pub date: String,
    /// Whether it was a quick look.
    pub quick: bool,
    /// Where it ran.
    pub machine: Machine,
    /// The figures.
    pub rows: Vec<Row>,
    /// A table of what the rows say together.
    pub overview: Option<Overview>,
    /// What is not there, and why.
    pub missing: Vec<Missing>,
    /// What a reader should know.
    pub notes: Vec<String>,
}

/// A table made by its group.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Overview {
    /// The heading of each column.
    pub columns: Vec<String>,
    /// The cells of each row.
    pub rows: Vec<Vec<String>>,
}

/// What was not measured.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Missing {
    /// Its name.
    pub what: String,
    /// The reason.
    pub why: String,
}

/// One figure of one side.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Row {
    /// Rows of one panel share a table and a plot.
    pub panel: String,
    /// What was done: rows of one case are compared with each other.
    pub case: String,
    /// Who did it.
    pub side: String,
    /// Whether it is a store of this project.
    pub is_ours: bool,
    /// The unit of the figure.
    pub unit: String,
    /// Whether more is better.
    pub more_is_better: bool,
    /// The figure.
    pub summary: Summary,
    /// The waits, where a person waits.
    pub percentiles: Option<Percentiles>,
    /// The cost relative to the reference of the case: 2 is twice as slow, or half as many.
    pub ratio: Option<f64>,
    /// What is aimed at, in words.
    pub target: Option<String>,
    /// Where the target comes from.
    pub source: Option<String>,
    /// Whether it was reached.
    pub verdict: Verdict,
}

/// How the rows of one case are made.
#[derive(Clone, Copy, Debug)]
pub struct Case<'a> {
    /// The panel.
    pub panel: &'a str,
    /// The case within it.
    pub name: &'a str,
    /// The unit of its figures.
    pub unit: &'a str,
    /// Whether more is better.
    pub more_is_better: bool,
    /// The side that the others are compared with.
    pub reference: &'a str,
    /// What is aimed at.
    pub target: Target,
}

impl Case<'_> {
    /// The rows of what was measured.
    pub fn rows(&self, measured: &[Measured]) -> Vec<Row> {
        let values = || measured.iter().map(|side| side.summary.median);
        let best = values().fold(f64::NAN, if self.more_is_better { f64::max } else { f64::min });
        let reference =
            measured.iter().find(|side| side.side == self.reference).map(|side| side.summary.median);
        measured.iter().map(|side| self.row(side, reference, best)).collect()
    }

    fn row(&self, measured: &Measured, reference: Option<f64>, best: f64) -> Row {
        let value = measured.summary.median;
        let ratio = reference.map(|reference| self.ratio(value, reference)).filter(|ratio| ratio.is_finite());
        let is_met = match self.target.bound {
            Bound::Ratio(most) => ratio.is_some_and(|ratio| ratio <= most),
            Bound::AtMost(most) => value <= most,
            Bound::PointsBelowBest(points) => best - value <= points,
        };
        let verdict = match (measured.is_ours, is_met) {
            (true, true) => Verdict::Met,
            (true, false) => Verdict::Missed,
            (false, _) if measured.side == self.reference => Verdict::Reference,
            (false, _) => Verdict::Peer,
        };
        let is_ours = measured.is_ours;
        Row {
            panel: self.panel.to_owned(),
            case: self.name.to_owned(),
            side: measured.side.clone(),
            is_ours,
            unit: self.unit.to_owned(),
            more_is_better: self.more_is_better,
            summary: measured.summary,
            percentiles: measured.percentiles,
            ratio,
            target: is_ours.then(|| self.target_in_words()),
            source: is_ours.then(|| self.target.source.to_owned()),
            verdict,
        }
    }

    fn ratio(&self, value: f64, reference: f64) -> f64 {
        if self.more_is_better { reference / value } else { value / reference }
    }

    fn target_in_words(&self) -> String {
        match self.target.bound {
            Bound::Ratio(most) => format!("ratio ≤ {most}"),
            Bound::AtMost(most) => format!("≤ {} {}", markdown::figure(most), self.unit),
            Bound::PointsBelowBest(0.0) => "the best of the case".to_owned(),
            Bound::PointsBelowBest(points) => format!("≤ {points} points below the best"),
        }
    }
}

impl Report {
    /// What a folder holds; an empty report where it holds none.
    pub fn read(folder: &Path) -> Result<Self> {
        let path = folder.join(RESULTS);
        match std::fs::read(&path) {
            Ok(text) => serde_json::from_slice(&text).with_context(|| format!("{}", path.display())),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(error).with_context(|| format!("{}", path.display())),
        }
    }

    /// Writes the results, their tables and their plots.
    pub fn write(&self, folder: &Path) -> Result<()> {
        std::fs::create_dir_all(folder).with_context(|| format!("{}", folder.display()))?;
        let write = |name: &str, text: &str| {
            std::fs::write(folder.join(name), text)
                .with_context(|| format!("{}", folder.join(name).display()))
        };
        write(RESULTS, &format!("{}\n", serde_json::to_string_pretty(self)?))?;
        for (name, group) in &self.groups {
            if let Some(picture) = plot::svg(group)? {
                write(&format!("{name}.svg"), &picture)?;
            }
        }
        write("README.md", &markdown::page(self))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::statistics::Summary;

    fn measured(side: &str, is_ours: bool, value: f64) -> Measured {
        Measured { side: side.to_owned(), is_ours, summary: Summary::of(&[value]), percentiles: None }
    }

    fn case(more_is_better: bool, bound: Bound) -> Case<'static> {
        let target = Target { bound, source: "a test" };
        Case { panel: "p", name: "c", unit: "ns", more_is_better, reference: "moka", target }
    }

    fn verdicts(case: Case<'_>, ours: f64, theirs: f64) -> (Option<f64>, Verdict) {
        let rows = case.rows(&[measured("tiered", true, ours), measured("moka", false, theirs)]);
        assert_eq!(rows[1].verdict, Verdict::Reference);
        (rows[0].ratio, rows[0].verdict)
    }

    #[test]
    fn a_ratio_is_a_cost_whichever_way_is_better() {
        assert_eq!(verdicts(case(false, Bound::Ratio(1.2)), 12.0, 10.0), (Some(1.2), Verdict::Met));
        assert_eq!(verdicts(case(true, Bound::Ratio(1.2)), 5.0, 10.0), (Some(2.0), Verdict::Missed));
    }

    #[test]
    fn other_bounds_look_at_the_figure() {
        assert_eq!(verdicts(case(false, Bound::AtMost(11.0)), 12.0, 10.0).1, Verdict::Missed);
        assert_eq!(verdicts(case(true, Bound::PointsBelowBest(1.0)), 9.5, 10.0).1, Verdict::Met);
        assert_eq!(verdicts(case(true, Bound::PointsBelowBest(0.0)), 9.5, 10.0).1, Verdict::Missed);
    }
}
