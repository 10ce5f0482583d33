//! `cargo xtask ci`: what CI runs.

use crate::stage::{self, cargo};
use crate::{setup, test, tidy};

/// The features of the facade and of the command, alone and together; `rocksdb`, which would be built again for each,
/// is compiled with all of them.
const FEATURES: [&str; 8] =
    ["", "journal", "moka", "redb", "postgres", "s3", "moka,redb", "moka,redb,journal,postgres,s3"];

/// Features of single crates, in addition: of what the command always has, and of test doubles.
const MORE_FEATURES: [(&str, &str); 4] =
    [("tiered", "toml"), ("tiered", "test-util"), ("tiered-core", ""), ("tiered-core", "test-util")];

/// The version of cargo-deny that is installed if it is missing.
const CARGO_DENY: &str = "0.20.2";

pub(crate) fn run() -> Result<(), String> {
    setup::run()?;
    stage::run("formatting", cargo(&["fmt", "--all", "--check"]))?;
    tidy::run()?;
    stage::run(
        "lints",
        cargo(&["clippy", "--workspace", "--all-features", "--all-targets", "--", "--deny", "warnings"]),
    )?;
    let both = FEATURES.iter().flat_map(|features| [("tiered", *features), ("tiered-cli", *features)]);
    for (package, features) in both.chain(MORE_FEATURES) {
        let arguments =
            ["check", "--quiet", "--package", package, "--no-default-features", "--features", features];
        stage::run(&format!("{package} with features [{features}]"), cargo(&arguments))?;
    }
    let mut documentation = cargo(&["doc", "--workspace", "--all-features", "--no-deps"]);
    documentation.env("RUSTDOCFLAGS", "--deny warnings");
    stage::run("documentation", documentation)?;
    if !cargo(&["deny", "--version"]).output().is_ok_and(|found| found.status.success()) {
        let install = ["install", "--quiet", "--locked", "cargo-deny", "--version", CARGO_DENY];
        stage::run("cargo-deny, which is not installed", cargo(&install))?;
    }
    stage::run(
        "dependencies",
        cargo(&["deny", "check", "--hide-inclusion-graph", "bans", "licenses", "sources"]),
    )?;
    test::run()
}
