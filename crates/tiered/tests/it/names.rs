//! The public names, compared with `docs/public-api.txt`.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Names of `pub use` and of public items in a crate's root and in its public modules that are files.
fn names(file: &Path, module: &str, found: &mut BTreeSet<String>) {
    let text = fs::read_to_string(file).expect("reads");
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        let Some(item) = line.strip_prefix("pub ") else { continue };
        if let Some(used) = item.strip_prefix("use ") {
            let mut used = used.to_owned();
            while !used.ends_with(';') {
                used.push_str(lines.next().expect("a statement ends").trim());
            }
            let used = used.trim_end_matches([';', '}']);
            let list = used.rsplit_once('{').map_or(used, |(_, list)| list);
            for name in list.split(',').filter(|name| !name.trim().is_empty()) {
                let name = name.rsplit(" as ").next().unwrap_or(name);
                let name = name.rsplit("::").next().unwrap_or(name).trim();
                found.insert(format!("{module}::{name}"));
            }
            continue;
        }
        let mut words =
            item.split(|c: char| !c.is_alphanumeric() && c != '_').filter(|word| !word.is_empty());
        let is_item = |word: &&str| !["async", "const", "unsafe"].contains(word);
        let first = words.next().unwrap_or_default();
        let kind = if is_item(&first) { first } else { "fn or const" };
        let name = words.find(|word| is_item(word) && *word != "fn").unwrap_or_default();
        found.insert(format!("{module}::{name}"));
        if kind == "mod" {
            let folder = file.parent().expect("a file has a folder");
            names(&folder.join(format!("{name}.rs")), &format!("{module}::{name}"), found);
        }
    }
}

/// After a deliberate change run it with `TIERED_BLESS=1`, and look at the difference.
#[test]
fn the_public_names_match_their_snapshot() {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut found = BTreeSet::new();
    for (folder, name) in [("tiered", "tiered"), ("tiered-core", "tiered_core")] {
        names(&root.join(format!("crates/{folder}/src/lib.rs")), name, &mut found);
    }
    let list = root.join("docs/public-api.txt");
    if std::env::var_os("TIERED_BLESS").is_some() {
        let names: Vec<&str> = found.iter().map(String::as_str).collect();
        fs::write(&list, names.join("\n") + "\n").expect("writes");
    }
    let listed = fs::read_to_string(&list).expect("reads");
    let listed: BTreeSet<String> = listed.lines().map(str::to_owned).collect();
    let new: Vec<&String> = found.difference(&listed).collect();
    let gone: Vec<&String> = listed.difference(&found).collect();
    assert!(
        new.is_empty() && gone.is_empty(),
        "docs/public-api.txt: new {new:?}, gone {gone:?}; see the test's comment"
    );
}
