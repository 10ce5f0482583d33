//! The results as tables.

use std::fmt::Write as _;

use super::{Group, Missing, Overview, Report, Row};
use crate::targets::Verdict;

/// The page of all groups.
pub fn page(report: &Report) -> String {
    let mut text = String::from(
        "# Benchmarks\n\n\
         `cargo xtask bench` writes this page, `results.json` and the plots. Do not edit them.\n\n\
         Both sides are measured in one run, in turns (A B A B …). Each figure is the median of the rounds, with its\n\
         quartiles. The ratio is the cost relative to the reference of the case: 2 means twice as slow, or half as\n\
         many. p50 and p99 are waits of single operations.\n",
    );
    if report.groups.is_empty() {
        text.push_str("\nNothing has been measured yet.\n");
    }
    for (name, group) in &report.groups {
        one(&mut text, name, group);
    }
    text
}

fn one(text: &mut String, name: &str, group: &Group) {
    let machine = &group.machine;
    let effort = if group.quick { "a quick look, not a full run" } else { "a full run" };
    write!(
        text,
        "\n## {}\n\n{}\n\n* measured by `{}` on {}, {effort}\n\
         * {}, {} cores, load {} before, {} MiB of memory, {}; {}; tiered {}\n* {}\n",
        group.title,
        group.about,
        group.command,
        group.date,
        machine.processor,
        machine.cores,
        machine.load,
        machine.memory_mib,
        machine.system,
        machine.compiler,
        machine.revision,
        machine.versions.join(", "),
    )
    .ok();
    for note in &group.notes {
        writeln!(text, "* {note}").ok();
    }
    missing(text, &group.missing);
    if !group.rows.is_empty() {
        write!(text, "\n![{}]({name}.svg)\n", group.title).ok();
    }
    if let Some(overview) = &group.overview {
        text.push('\n');
        text.push_str(&table(overview));
    }
    for panel in panels(&group.rows) {
        write!(text, "\n### {} — {panel}\n\n", group.title).ok();
        text.push_str(&table(&rows(group.rows.iter().filter(|row| row.panel == panel))));
    }
    sources(text, &group.rows);
}

fn missing(text: &mut String, missing: &[Missing]) {
    for Missing { what, why } in missing {
        writeln!(text, "* missing: {what}: {why}").ok();
    }
}

/// Where the targets come from.
fn sources(text: &mut String, rows: &[Row]) {
    let mut named: Vec<(&str, &str)> =
        rows.iter().filter_map(|row| Some((row.target.as_deref()?, row.source.as_deref()?))).collect();
    named.sort_unstable();
    named.dedup();
    if !named.is_empty() {
        text.push('\n');
    }
    for (target, source) in named {
        writeln!(text, "Target \"{target}\": {source}.").ok();
    }
}

/// The panels, in the order of their rows.
pub fn panels(rows: &[Row]) -> Vec<&str> {
    let mut panels: Vec<&str> = Vec::new();
    for row in rows {
        if !panels.contains(&row.panel.as_str()) {
            panels.push(&row.panel);
        }
    }
    panels
}

fn rows<'r>(rows: impl Iterator<Item = &'r Row> + Clone) -> Overview {
    let waits = rows.clone().any(|row| row.percentiles.is_some());
    let mut columns = vec!["case", "side", "median", "quartiles", "ratio", "target", "verdict"];
    if waits {
        columns.splice(4..4, ["p50 (µs)", "p99 (µs)"]);
    }
    let cells = rows.map(|row| {
        let summary = &row.summary;
        let mut cells = vec![
            row.case.clone(),
            if row.is_ours { format!("**{}**", row.side) } else { row.side.clone() },
            format!("{} {}", figure(summary.median), row.unit),
            format!("{} … {}", figure(summary.lower), figure(summary.upper)),
            row.ratio.map_or_else(String::new, |ratio| format!("{ratio:.2}")),
            row.target.clone().unwrap_or_default(),
            in_words(row.verdict).to_owned(),
        ];
        if waits {
            let of = |pick: fn(&crate::statistics::Percentiles) -> f64| {
                row.percentiles.as_ref().map(pick).map_or_else(String::new, figure)
            };
            cells.splice(4..4, [of(|waits| waits.p50), of(|waits| waits.p99)]);
        }
        cells
    });
    Overview { columns: columns.into_iter().map(str::to_owned).collect(), rows: cells.collect() }
}

/// A verdict, in words.
pub fn in_words(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Met => "met",
        Verdict::Missed => "missed",
        Verdict::Reference => "reference",
        Verdict::Peer => "peer",
    }
}

/// What the rows of ours say, for the terminal.
pub fn outcome(rows: &[Row]) -> String {
    let line = |row: &Row| {
        format!(
            "{:<40} {:<28} {:>12} {:<8} {:>6}  {}\n",
            format!("{}, {}", row.panel, row.case),
            row.side,
            figure(row.summary.median),
            row.unit,
            row.ratio.map_or_else(String::new, |ratio| format!("{ratio:.2}")),
            in_words(row.verdict),
        )
    };
    rows.iter().map(line).collect()
}

/// A table in Markdown.
pub fn table(overview: &Overview) -> String {
    let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
    let mut text = line(&overview.columns);
    writeln!(text, "|{}", "---|".repeat(overview.columns.len())).ok();
    text.extend(overview.rows.iter().map(|row| line(row)));
    text
}

/// A figure with three or four digits that count, and thousands apart.
pub fn figure(value: f64) -> String {
    let size = value.abs();
    if size >= 1000.0 {
        let digits = format!("{value:.0}");
        let (sign, digits) = digits.strip_prefix('-').map_or(("", digits.as_str()), |rest| ("-", rest));
        let groups: Vec<&str> = digits
            .as_bytes()
            .rchunks(3)
            .rev()
            .map(|group| std::str::from_utf8(group).unwrap_or_default())
            .collect();
        return format!("{sign}{}", groups.join(","));
    }
    match size {
        100.0.. => format!("{value:.0}"),
        10.0..100.0 => format!("{value:.1}"),
        _ if size == 0.0 => "0".to_owned(),
        _ => format!("{value:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_have_few_digits_and_thousands_apart() {
        let shown = [0.0, 0.123, 1.0, 12.34, 123.4, 1234.5, 1_234_567.0, -1234.0].map(figure);
        assert_eq!(shown, ["0", "0.12", "1.00", "12.3", "123", "1,234", "1,234,567", "-1,234"]);
    }

    #[test]
    fn a_table_has_a_line_for_each_row() {
        let overview =
            Overview { columns: vec!["a".into(), "b".into()], rows: vec![vec!["1".into(), "2".into()]] };
        assert_eq!(table(&overview), "| a | b |\n|---|---|\n| 1 | 2 |\n");
    }
}
