//! `walk`: what is reachable, by lines and by JSON, and what is not there.

use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use serde_json::Value;

use crate::place::Place;

fn walk(from: &str, to: &str, more: &[&str]) -> Vec<String> {
    let walk = ["walk", "--from", from, "--to", to, "--json"];
    walk.iter().chain(more).map(|word| (*word).to_owned()).collect()
}

/// Runs a walk that ends with `code`; what it counted.
fn run(place: &Place, arguments: &[String], code: i32) -> Value {
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    serde_json::from_str(place.run(&arguments).ends(code).text().trim()).expect("JSON")
}

fn count(counts: &Value, name: &str) -> u64 {
    counts.get(name).and_then(Value::as_u64).expect("a count")
}

#[test]
fn what_a_root_reaches_is_copied_and_nothing_else() {
    let place = Place::new();
    let (from, to) = (place.url("from.redb"), place.url("to.redb"));
    for (key, value) in [
        ("roots/1", "trees/1\ntrees/2\n"),
        ("trees/1", "leaves/1\nleaves/2"),
        ("trees/2", "leaves/2\n"),
        ("leaves/1", "no text of keys:\t1"),
        ("leaves/2", "2"),
        ("roots/2", "leaves/3"),
        ("leaves/3", "3"),
    ] {
        place.put(&from, key, value.as_bytes());
    }
    let leaves = ["--root", "roots/1", "--leaves-under", "leaves/"];
    let dry = run(&place, &walk(&from, &to, &[&leaves[..], &["--dry-run"]].concat()), 0);
    assert_eq!((count(&dry, "reachable"), count(&dry, "copied")), (5, 5));
    assert!(!place.path("to.redb").exists(), "a dry run makes nothing");
    let done = run(&place, &walk(&from, &to, &leaves), 0);
    let counted =
        ["roots", "reachable", "copied", "skipped", "missing", "failed"].map(|name| count(&done, name));
    assert_eq!(counted, [1, 5, 5, 0, 0, 0]);
    let listed = place.run(&["--store", &to, "list"]).ends(0).text();
    assert_eq!(listed, "leaves/1\nleaves/2\nroots/1\ntrees/1\ntrees/2\n");
    let again = run(&place, &walk(&from, &to, &leaves), 0);
    assert_eq!((count(&again, "copied"), count(&again, "skipped")), (0, 5));
    // A dry run looks at what is there.
    place.put(&from, "leaves/2", b"newer");
    let dry = run(&place, &walk(&from, &to, &[&leaves[..], &["--dry-run"]].concat()), 0);
    assert_eq!((count(&dry, "copied"), count(&dry, "skipped")), (1, 4));
}

#[test]
fn references_can_be_json_and_what_is_missing_holds_back_what_refers_to_it() {
    let place = Place::new();
    let (from, to) = (place.url("from.redb"), place.url("to.redb"));
    for (key, value) in [
        ("a", r#"{"parts": ["b", "c"]}"#),
        ("b", r#"{"parts": null}"#),
        ("c", r#"{"parts": "gone"}"#),
        ("cycle", r#"{"parts": ["cycle", "b"]}"#),
        ("broken", "no JSON"),
    ] {
        place.put(&from, key, value.as_bytes());
    }
    let json = ["--references", "json=/parts"];
    let counts =
        run(&place, &walk(&from, &to, &[&json[..], &["--root", "a", "--root", "cycle"]].concat()), 6);
    let counted =
        ["roots", "reachable", "copied", "missing", "held_back", "cycles"].map(|name| count(&counts, name));
    assert_eq!(counted, [2, 5, 2, 1, 3, 1]);
    let listed = place.run(&["--store", &to, "list"]).ends(0).text();
    assert_eq!(listed, "b\ncycle\n");
    let broken = run(&place, &walk(&from, &to, &[&json[..], &["--root", "broken"]].concat()), 4);
    assert_eq!(count(&broken, "failed"), 1);
    place.run(&["walk", "--from", &from, "--to", &to]).ends(2).says("--root");
    place.run(&["walk", "--from", &from, "--to", &from, "--root", "a"]).ends(2).says("two stores");
}

#[test]
fn ten_thousand_keys_of_a_wide_tree_are_walked_in_batches() {
    let place = Place::new();
    place.fill("from.redb", 10_000);
    let (from, to) = (place.url("from.redb"), place.url("to.redb"));
    let names: Vec<String> = (0..10_000).map(|number| format!("key-{number}")).collect();
    place.put(&from, "root", names.join("\n").as_bytes());
    let done = run(&place, &walk(&from, &to, &["--root", "root", "--leaves-under", "key-"]), 0);
    assert_eq!((count(&done, "reachable"), count(&done, "copied")), (10_001, 10_001));
    place.run(&["check", "--from", &from, "--to", &to, "--values"]).ends(0);
}

#[test]
fn the_next_release_copies_only_what_is_new_where_the_target_is_trusted() {
    let place = Place::new();
    let (from, to) = (place.url("from.redb"), place.url("to.redb"));
    for (key, value) in [("releases/1", "parts/1\nparts/2"), ("parts/1", ""), ("parts/2", "")] {
        place.put(&from, key, value.as_bytes());
    }
    let workspace = place.url("workspace.redb");
    let first = ["--root", "releases/1", "--workspace", &workspace];
    assert_eq!(count(&run(&place, &walk(&from, &to, &first), 0), "copied"), 3);
    // A workspace serves one walk.
    place.run(&walk(&from, &to, &first).iter().map(String::as_str).collect::<Vec<_>>()).ends(2);
    for (key, value) in [("releases/2", "releases/1\nparts/3"), ("parts/3", "")] {
        place.put(&from, key, value.as_bytes());
    }
    let second =
        ["--root", "releases/2", "--trust-present", "--limit-rate", "1MiB", "--workspace", "memory:"];
    let done = run(&place, &walk(&from, &to, &second), 0);
    let counted = ["reachable", "trusted", "copied", "skipped"].map(|name| count(&done, name));
    assert_eq!(counted, [3, 1, 2, 0]);
    let listed = place.run(&["--store", &to, "list"]).ends(0).text();
    assert_eq!(listed, "parts/1\nparts/2\nparts/3\nreleases/1\nreleases/2\n");
}

#[test]
fn a_walk_that_was_killed_goes_on_with_what_it_knew_and_reads_no_reference_again() {
    let place = Place::new();
    place.fill("from.redb", 20_000);
    let (from, to) = (place.url("from.redb"), place.url("to.redb"));
    let names: Vec<String> = (0..20_000).map(|number| format!("key-{number}")).collect();
    for (root, names) in names.chunks(1_000).enumerate() {
        place.put(&from, &format!("root-{root}"), names.join("\n").as_bytes());
    }
    let resumed =
        walk(&from, &to, &["--roots-under", "root-", "--leaves-under", "key-", "--resume", "state"]);
    // Copying takes 4 seconds at least, however fast the machine is; the search as long as it takes.
    let slowly = [&resumed[..], &["--limit-rate".to_owned(), "5000B".to_owned()]].concat();
    let mut there = 0;
    for _ in 0..60 {
        let mut child = Command::new(env!("CARGO_BIN_EXE_tiered"));
        let child =
            child.args(&slowly).current_dir(place.folder()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = child.spawn().expect("starts");
        sleep(Duration::from_secs(2));
        assert!(child.try_wait().expect("looks").is_none(), "it ended before it was killed");
        child.kill().expect("killed");
        child.wait().expect("ended");
        there = place.run(&["--store", &to, "list"]).text().lines().count();
        if there > 1_000 {
            break;
        }
    }
    assert!((1_001..20_020).contains(&there), "{there} keys were copied by walks that were killed");
    assert!(place.path("state").exists(), "nothing is kept");
    let other = walk(&from, &to, &["--root", "root-1", "--leaves-under", "key-", "--resume", "state"]);
    let other: Vec<&str> = other.iter().map(String::as_str).collect();
    place.run(&other).ends(2).says("another walk, which did not end");
    let done = run(&place, &resumed, 0);
    let counted = ["roots", "reachable", "resumed", "missing", "failed"].map(|name| count(&done, name));
    assert_eq!(counted, [20, 20_020, 20_020, 0, 0]);
    assert_eq!(count(&done, "copied") + count(&done, "skipped"), 20_020);
    assert!(count(&done, "skipped") > 1_000, "{done}");
    place.run(&["check", "--from", &from, "--to", &to, "--values"]).ends(0);
    // It has ended: nothing is kept, and the next run begins anew.
    assert!(!place.path("state").exists(), "the file is removed once the walk has ended");
    let anew = run(&place, &resumed, 0);
    assert_eq!(["resumed", "copied", "skipped"].map(|name| count(&anew, name)), [0, 0, 20_020]);
}

#[test]
fn what_a_walk_keeps_is_in_a_file_of_its_own() {
    let place = Place::new();
    let (from, to) = (place.url("from.redb"), place.url("to.redb"));
    place.put(&from, "root", b"leaf");
    place.put(&from, "leaf", b"");
    place.put(&place.url("users.redb"), "users/42", b"Ada");
    let refused = |resume: &str, hint: &str| {
        let line = walk(&from, &to, &["--root", "root", "--resume", resume]);
        place.run(&line.iter().map(String::as_str).collect::<Vec<_>>()).ends(2).says(hint);
    };
    refused(&from, "a place of its own");
    refused("memory:", "a lasting store");
    refused("what?", "question mark");
    // Another's database stays as it is.
    refused("users.redb", "has entries");
    let users = place.run(&["--store", &place.url("users.redb"), "list"]).ends(0).text();
    assert_eq!(users, "users/42\n");
    // A store that is named by a URL stays, and serves the next walk.
    let kept = place.url("kept.redb");
    for root in ["root", "leaf"] {
        let line = walk(&from, &to, &["--root", root, "--resume", &kept]);
        assert_eq!(count(&run(&place, &line, 0), "resumed"), 0);
    }
    let line = walk(&from, &to, &["--root", "root", "--resume", "x", "--dry-run"]);
    place.run(&line.iter().map(String::as_str).collect::<Vec<_>>()).ends(2).says("--dry-run");
}

#[test]
fn shards_walk_from_their_roots_and_copy_what_they_share_once() {
    let place = Place::new();
    place.fill("from.redb", 3_000);
    let (from, to) = (place.url("from.redb"), place.url("to.redb"));
    // Each root shares half of its keys with the next one.
    let mut options = Vec::new();
    for root in 0..6 {
        let parts: Vec<String> =
            (root * 400..(root + 2) * 400).map(|number| format!("key-{number}")).collect();
        place.put(&from, &format!("root-{root}"), parts.join("\n").as_bytes());
        options.extend(["--root".to_owned(), format!("root-{root}")]);
    }
    let all: Vec<String> = (0..6).map(|root| format!("root-{root}")).collect();
    place.put(&from, "top", all.join("\n").as_bytes());
    let named: Vec<&str> = options.iter().map(String::as_str).collect();
    for (roots, new) in [(&named[..], 2_806), (&["--roots-under", "root-"][..], 0)] {
        let (mut copied, mut of_roots) = (0, 0);
        for shard in ["2/3", "3/3", "1/3"] {
            let line = walk(
                &from,
                &to,
                &[roots, &["--leaves-under", "key-", "--shard", shard, "--resume", "kept"]].concat(),
            );
            let done = run(&place, &line, 0);
            copied += count(&done, "copied");
            of_roots += count(&done, "roots");
        }
        // 2,800 keys and the roots, once.
        assert_eq!((copied, of_roots), (new, 6));
    }
    // What is above is copied in the end, without a look at what is below.
    let single = ["--root", "top", "--leaves-under", "key-"];
    let line = walk(&from, &to, &[&single[..], &["--shard", "1/2"]].concat());
    let refused = place.run(&line.iter().map(String::as_str).collect::<Vec<_>>()).ends(2);
    refused.says("there is only 1").says("without --shard, with --trust-present");
    let last = run(&place, &walk(&from, &to, &[&single[..], &["--trust-present"]].concat()), 0);
    assert_eq!(["reachable", "trusted", "copied"].map(|name| count(&last, name)), [7, 6, 1]);
    let none = walk(&from, &to, &["--roots-under", "no-such-"]);
    place.run(&none.iter().map(String::as_str).collect::<Vec<_>>()).ends(2).says("begins with \"no-such-\"");
}
