//! What every `--help` says, as one file that people read.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::Command;

/// The help of a command, then that of each command below it.
fn helps(path: &[&str], text: &mut String) {
    let ran = Command::new(env!("CARGO_BIN_EXE_tiered")).args(path).arg("--help").output().expect("runs");
    assert!(ran.status.success(), "{path:?}");
    let help = String::from_utf8(ran.stdout).expect("utf-8");
    let lines: Vec<&str> = help.lines().map(str::trim_end).collect();
    write!(text, "$ tiered {}\n{}\n\n", [path, &["--help"]].concat().join(" "), lines.join("\n"))
        .expect("a string");
    let listed =
        lines.iter().skip_while(|line| **line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    // A line that goes on with what the one before says is indented further.
    let names = listed.filter_map(|line| {
        line.strip_prefix("  ")?.split_whitespace().next().filter(|_| !line.starts_with("   "))
    });
    for name in names.filter(|name| *name != "help") {
        helps(&[path, &[name]].concat(), text);
    }
}

#[test]
fn the_help_of_every_command_matches_its_snapshot() {
    let mut text = String::new();
    helps(&[], &mut text);
    let expected = include_str!("help.txt");
    let seen = Path::new(env!("CARGO_TARGET_TMPDIR")).join("help.txt");
    fs::write(&seen, &text).expect("written");
    assert!(text == expected, "the helps differ from tests/it/help.txt; read and copy {}", seen.display());
}
