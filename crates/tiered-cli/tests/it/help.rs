//! What every `--help` says, as one file that people read.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::Command;

const ALL: [&[&str]; 23] = [
    &[],
    &["get"],
    &["put"],
    &["delete"],
    &["list"],
    &["head"],
    &["sync"],
    &["check"],
    &["gc"],
    &["flush"],
    &["replay"],
    &["journal"],
    &["journal", "list"],
    &["journal", "verify"],
    &["journal", "retry"],
    &["journal", "drop"],
    &["journal", "abandon"],
    &["create"],
    &["exists"],
    &["destroy"],
    &["id"],
    &["conformance"],
    &["demo"],
];

#[test]
fn the_help_of_every_command_matches_its_snapshot() {
    let mut text = String::new();
    for path in ALL {
        let ran = Command::new(env!("CARGO_BIN_EXE_tiered")).args(path).arg("--help").output().expect("runs");
        assert!(ran.status.success(), "{path:?}");
        let help = String::from_utf8(ran.stdout).expect("utf-8");
        let lines: Vec<&str> = help.lines().map(str::trim_end).collect();
        write!(text, "$ tiered {}\n{}\n\n", [path, &["--help"]].concat().join(" "), lines.join("\n"))
            .expect("a string");
    }
    let expected = include_str!("help.txt");
    let seen = Path::new(env!("CARGO_TARGET_TMPDIR")).join("help.txt");
    fs::write(&seen, &text).expect("written");
    assert!(text == expected, "the helps differ from tests/it/help.txt; read and copy {}", seen.display());
}
