//! `cargo xtask tidy`: the rules of ARCHITECTURE.md that a machine can check.

mod face;
mod house;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::planted;
use crate::stage::{cargo, root};

/// Longest source file, tests not counted.
const MAX_LINES: usize = 600;

/// Most crates in a dependency tree, normal edges, the crate itself included.
const TREES: [(&str, usize); 2] = [("tiered-core", 40), ("tiered", 90)];

/// What each feature of `tiered` costs at most, by itself: crates beside those of a build without features.
const FEATURES: [(&str, usize); 14] = [
    ("blocking", 2),
    ("encryption", 20),
    ("journal", 6),
    ("lz4", 4),
    ("moka", 12),
    ("msgpack", 10),
    ("object-store", 48),
    ("postcard", 12),
    ("quick", 8),
    ("redb", 8),
    ("toml", 8),
    ("values", 8),
    ("wrap", 3),
    ("zstd", 11),
];

pub(crate) fn run() -> Result<(), String> {
    println!("--- tidy");
    let mut faults = Vec::new();
    let files = tracked()?;
    for file in &files {
        // Passes over a file that is deleted and not yet committed.
        let Ok(text) = fs::read_to_string(root().join(file)) else { continue };
        words(file, &text, &mut faults);
        if file.extension().is_some_and(|extension| extension == "rs") {
            source(file, &text, &mut faults);
        }
    }
    house::check(&files, &mut faults);
    face::check(&mut faults)?;
    planted::check(&mut faults)?;
    trees(&mut faults)?;
    for fault in &faults {
        eprintln!("{fault}");
    }
    if faults.is_empty() { Ok(()) } else { Err(format!("tidy found {} faults", faults.len())) }
}

fn tracked() -> Result<Vec<PathBuf>, String> {
    let output = Command::new("git")
        .args(["ls-files", "--cached", "--others", "--exclude-standard"])
        .current_dir(root())
        .output()
        .map_err(|error| format!("git ls-files: {error}"))?;
    Ok(String::from_utf8_lossy(&output.stdout).lines().map(PathBuf::from).collect())
}

fn is_test(file: &Path) -> bool {
    file.components().any(|part| part.as_os_str() == "tests") || file.ends_with("tests.rs")
}

/// Words that must not occur in the project.
fn words(file: &Path, text: &str, faults: &mut Vec<String>) {
    if file.extension().is_some_and(|extension| extension == "lock") || file.ends_with("xtask/src/tidy.rs") {
        return;
    }
    for (number, line) in text.lines().enumerate() {
        for word in [
            "/root/",
            "/work/",
            "todo!(",
            "unimplemented!(",
            "#[ignore",
            "```ignore",
            "FIXME",
            "static.crates",
        ] {
            // What an author of an adapter pins with a reason becomes an ignored test of his.
            let pinned = word == "#[ignore" && file.ends_with("crates/tiered-conformance/src/suite.rs");
            if line.contains(word) && !pinned {
                faults.push(format!("{}:{}: {word} does not belong here", file.display(), number + 1));
            }
        }
    }
}

fn source(file: &Path, text: &str, faults: &mut Vec<String>) {
    let lines = text.lines().take_while(|line| !line.starts_with("#[cfg(test)]")).count();
    if lines > MAX_LINES && !is_test(file) {
        faults.push(format!("{}: {lines} lines; {MAX_LINES} is the most", file.display()));
    }
    if !text.starts_with("//!") {
        faults.push(format!("{}: the first line must say what the file is, after //!", file.display()));
    }
}

/// The crates that a package is built of, with its default features.
fn tree(package: &str) -> Result<Vec<String>, String> {
    tree_with(package, &[])
}

fn tree_with(package: &str, selection: &[&str]) -> Result<Vec<String>, String> {
    let mut command =
        cargo(&["tree", "--package", package, "--edges", "normal,build", "--prefix", "none", "--no-dedupe"]);
    let output = command.args(selection).output().map_err(|error| format!("cargo tree: {error}"))?;
    if !output.status.success() {
        return Err(format!("cargo tree --package {package}: {}", String::from_utf8_lossy(&output.stderr)));
    }
    let text = String::from_utf8_lossy(&output.stdout);
    let mut crates: Vec<String> =
        text.lines().filter_map(|line| line.split(' ').next()).map(str::to_owned).collect();
    crates.sort_unstable();
    crates.dedup();
    Ok(crates)
}

/// Who depends on whom, and on how many.
fn trees(faults: &mut Vec<String>) -> Result<(), String> {
    for (package, most) in TREES {
        let count = tree(package)?.len();
        println!("{package}: {count} crates, at most {most}");
        if count > most {
            faults.push(format!("{package} depends on {count} crates; {most} is the most"));
        }
    }
    let without = tree_with("tiered", &["--no-default-features"])?.len();
    print!("tiered without features: {without} crates; more for each:");
    for (feature, most) in FEATURES {
        let with = tree_with("tiered", &["--no-default-features", "--features", feature])?;
        let more = with.len().saturating_sub(without);
        print!(" {feature} {more}");
        if more > most {
            faults.push(format!("the feature {feature} of tiered costs {more} crates; {most} is the most"));
        }
    }
    println!();
    let adapters = [
        "tiered-moka",
        "tiered-object-store",
        "tiered-quick",
        "tiered-redb",
        "tiered-rocksdb",
        "tiered-postgres",
        "tiered-s3",
        "tiered-wrap",
    ];
    for adapter in adapters {
        for other in tree(adapter)? {
            let foreign = adapters.contains(&other.as_str()) && other != adapter;
            if foreign || ["tiered-conformance", "tiered-tests", "tiered"].contains(&other.as_str()) {
                faults.push(format!("{adapter} must not depend on {other}"));
            }
        }
    }
    if tree("tiered-core")?.iter().any(|name| name.starts_with("tiered-") && name != "tiered-core") {
        faults.push("tiered-core must not depend on another crate of ours".to_owned());
    }
    if tree("tiered-cli")?.iter().any(|name| name == "cc") {
        faults.push("tiered-cli must build without a C compiler".to_owned());
    }
    Ok(())
}
