//! The figures in the project's README: a marked section, made from the results.

use std::path::Path;

use anyhow::{Context as _, Result, bail};

use super::{Overview, Report, Row, markdown};

/// Where the section begins.
pub const BEGIN: &str = "<!-- benchmarks: written by `cargo xtask bench`, do not edit -->";
/// Where it ends.
pub const END: &str = "<!-- end of benchmarks -->";

/// The rows that the README shows: of which group, panel and case.
const SHOWN: [(&str, &str, &str); 6] = [
    ("hit", "100 B, Zipf 0.99", "1 task"),
    ("miss", "redb behind it, 100 B", "1 task"),
    ("mixed", "95 % reads", "8 tasks"),
    ("durable", "writes a second", "64 writers"),
    ("stampede", "time until all have an answer", "1,000 readers"),
    ("restart", "first hit", "redb behind it"),
];

/// Replaces the marked section of the README at `path`.
pub fn write(report: &Report, path: &Path) -> Result<()> {
    let text = std::fs::read_to_string(path).with_context(|| format!("{}", path.display()))?;
    let text = replaced(&text, &section(report)).with_context(|| format!("{}", path.display()))?;
    std::fs::write(path, text).with_context(|| format!("{}", path.display()))
}

fn replaced(text: &str, section: &str) -> Result<String> {
    let parts = text.split_once(BEGIN).and_then(|(before, rest)| Some((before, rest.split_once(END)?.1)));
    let Some((before, after)) = parts else {
        bail!("it has no section between \"{BEGIN}\" and \"{END}\"");
    };
    Ok(format!("{before}{BEGIN}\n{section}{END}{after}"))
}

fn section(report: &Report) -> String {
    let columns = ["group", "case", "side", "median", "ratio", "verdict"];
    let mut rows = Vec::new();
    let mut runs = Vec::new();
    for (name, panel, case) in SHOWN {
        let Some(group) = report.groups.get(name) else { continue };
        let shown: Vec<&Row> =
            group.rows.iter().filter(|row| row.panel == panel && row.case == case).collect();
        rows.extend(shown.iter().map(|row| cells(&group.title, row)));
        if !shown.is_empty() {
            let (effort, note) = if group.quick { (" --quick", ", a quick look") } else { ("", "") };
            let run = format!("`cargo xtask bench{effort}` on an {}{note}", group.machine.processor);
            if !runs.contains(&run) {
                runs.push(run);
            }
        }
    }
    if rows.is_empty() {
        return "No run of `cargo xtask bench` is recorded yet.\n".to_owned();
    }
    let overview = Overview { columns: columns.map(str::to_owned).to_vec(), rows };
    format!("{}\nMeasured by {}.\n", markdown::table(&overview), runs.join("; "))
}

fn cells(title: &str, row: &Row) -> Vec<String> {
    vec![
        title.to_owned(),
        format!("{}, {}", row.panel, row.case),
        if row.is_ours { format!("**{}**", row.side) } else { row.side.clone() },
        format!("{} {}", markdown::figure(row.summary.median), row.unit),
        row.ratio.map_or_else(String::new, |ratio| format!("{ratio:.2}")),
        markdown::in_words(row.verdict).to_owned(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_marked_section_changes() {
        let text = format!("before\n{BEGIN}\nold\n{END}\nafter\n");
        let found = replaced(&text, "new\n").expect("marked");
        assert_eq!(found, format!("before\n{BEGIN}\nnew\n{END}\nafter\n"));
        assert!(replaced("no marks", "new").is_err());
    }

    #[test]
    fn without_results_the_section_says_so() {
        assert_eq!(section(&Report::default()), "No run of `cargo xtask bench` is recorded yet.\n");
    }
}
