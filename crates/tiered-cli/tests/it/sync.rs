//! `sync`: which keys, how fast, in shards, and going on where an earlier run was stopped.

use std::fs;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use serde_json::Value;

use crate::place::Place;

/// The counts that a run printed.
fn counts(text: &str) -> Value {
    serde_json::from_str(text.trim()).expect("JSON")
}

fn count(counts: &Value, name: &str) -> u64 {
    counts.get(name).and_then(Value::as_u64).expect("a count")
}

#[test]
fn keys_are_included_and_excluded_by_patterns_in_sync_and_check() {
    let place = Place::new();
    let (from, to) = (place.url("from.redb"), place.url("to.redb"));
    for key in ["users/1", "users/1.tmp", "users/2/photo", "orders/1"] {
        place.put(&from, key, b"v");
    }
    let chosen = ["--include", "users/**", "--exclude", "**/*.tmp"];
    let sync =
        [&["sync", "--from", &from, "--to", &to, "--strategy", "full-sync", "--json"][..], &chosen].concat();
    let copied = counts(&place.run(&sync).ends(0).text());
    assert_eq!((count(&copied, "listed_from"), count(&copied, "copied")), (2, 2));
    let listed = place.run(&["--store", &to, "list"]).ends(0).text();
    assert_eq!(listed, "users/1\nusers/2/photo\n");
    let check = ["check", "--from", &from, "--to", &to];
    place.run(&[&check[..], &chosen].concat()).ends(0);
    let differences = place.run(&check).ends(6).text();
    assert_eq!(differences, "missing orders/1\nmissing users/1.tmp\n");
    assert_eq!(
        place.run(&[&check[..], &["--prefix", "users/"]].concat()).ends(6).text(),
        "missing users/1.tmp\n"
    );
    place.run(&[&sync[..], &["--include", "a["]].concat()).ends(2).says("the pattern \"a[\"");
}

#[test]
fn a_verified_sync_says_what_differs_afterwards() {
    let place = Place::new();
    let (from, to) = (place.url("from.redb"), place.url("to.redb"));
    place.put(&from, "a", b"new");
    place.put(&to, "a", b"old");
    place.put(&to, "extra", b"old");
    let sync = |strategy: &str| {
        place.run(&["sync", "--from", &from, "--to", &to, "--verify", "--strategy", strategy])
    };
    // What a strategy leaves as it is counts as it should be.
    sync("populate-missing").ends(0);
    sync("refresh").ends(0);
    sync("full-sync").ends(0);
    place.run(&["check", "--from", &from, "--to", &to]).ends(0);
    let dry = ["sync", "--from", &from, "--to", &to, "--strategy", "refresh", "--verify", "--dry-run"];
    place.run(&dry).ends(2).says("--dry-run");
}

#[test]
fn a_sync_that_was_killed_goes_on_where_it_was_and_counts_every_key_once() {
    let place = Place::new();
    place.fill("from.redb", 20_000);
    let (from, to) = (place.url("from.redb"), place.url("to.redb"));
    let sync =
        ["sync", "--from", &from, "--to", &to, "--strategy", "full-sync", "--resume", "state.json", "--json"];
    // Of 20,000 bytes: it takes four seconds.
    let slowly = [&sync[..], &["--limit-rate", "5000B"]].concat();
    let mut killed = 0;
    for milliseconds in [1_500, 1_500] {
        let mut child = Command::new(env!("CARGO_BIN_EXE_tiered"));
        let child =
            child.args(&slowly).current_dir(place.folder()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = child.spawn().expect("starts");
        sleep(Duration::from_millis(milliseconds));
        killed += u64::from(child.try_wait().expect("looks").is_none());
        child.kill().expect("killed");
        child.wait().expect("ended");
    }
    assert_eq!(killed, 2, "it ended before it was killed");
    let kept: Value =
        serde_json::from_slice(&fs::read(place.path("state.json")).expect("kept")).expect("JSON");
    let settled = count(&kept["checkpoint"]["report"], "listed_from");
    assert!((1_000..20_000).contains(&settled), "{kept}");
    let last = place.run(&sync).ends(0).says("keys are settled");
    let report = counts(&last.text());
    assert_eq!(count(&report, "listed_from"), 20_000);
    assert_eq!(count(&report, "copied") + count(&report, "skipped"), 20_000);
    // At most what was under way, and not yet kept, was copied by a run that did not count it.
    assert!(count(&report, "skipped") <= 2 * 4_000, "{report}");
    place.run(&["check", "--from", &from, "--to", &to, "--values"]).ends(0);
    // It has ended: the next run begins anew.
    let anew = place.run(&sync).ends(0);
    assert!(!anew.errors().contains("goes on"), "{}", anew.errors());
    assert_eq!(count(&counts(&anew.text()), "skipped"), 20_000);
}

#[test]
fn a_key_that_failed_keeps_no_later_run_from_what_is_new() {
    let place = Place::new();
    let (from, to) = (place.url("from.redb"), place.url("to.redb"));
    for key in ["b", "c", "d"] {
        place.put(&from, key, if key == "c" { b"too long for it" } else { b"v" });
    }
    let sync = |to: &str| {
        let sync =
            ["sync", "--from", &from, "--to", to, "--strategy", "refresh", "--resume", "state", "--json"];
        place.run(&sync)
    };
    let narrow = format!("{to}?max_value=4");
    let first = counts(&sync(&narrow).ends(4).says("failed: c").text());
    assert_eq!((count(&first, "copied"), count(&first, "failed")), (2, 1));
    // It came to the end: the next run begins anew, and finds what was put before the key that fails.
    place.put(&from, "a", b"v");
    let second = counts(&sync(&narrow).ends(4).text());
    assert_eq!((count(&second, "copied"), count(&second, "skipped"), count(&second, "failed")), (1, 2, 1));
    let third = counts(&sync(&to).ends(0).text());
    assert_eq!((count(&third, "listed_from"), count(&third, "copied"), count(&third, "failed")), (4, 1, 0));
}

#[test]
fn a_sync_that_stopped_at_its_bound_of_failures_names_them_and_tries_them_again() {
    let place = Place::new();
    let (from, to) = (place.url("from.redb"), place.url("to.redb"));
    for key in ["a", "b", "c"] {
        place.put(&from, key, if key == "b" { b"too long for it" } else { b"v" });
    }
    let sync = |to: &str| {
        // Made by the first run, and named without its folder.
        let sync =
            ["sync", "--from", "redb:from.redb", "--to", to, "--strategy", "refresh", "--resume", "state"];
        place.run(&[&sync[..], &["--json", "--max-failures", "0"]].concat())
    };
    sync("redb:to.redb?max_value=4").ends(4).says("more than 0 entries failed");
    let kept = fs::read_to_string(place.path("state")).expect("kept");
    assert!(kept.contains("\"failed\": [\n      \"b\"\n    ]"), "{kept}");
    let second = counts(&sync(&to).ends(0).says("goes on after \"c\"").text());
    assert_eq!(
        (count(&second, "listed_from"), count(&second, "copied"), count(&second, "failed")),
        (3, 3, 0)
    );
}

#[test]
fn a_checkpoint_of_another_sync_or_form_is_refused_with_the_difference() {
    let place = Place::new();
    let (from, to) = (place.url("from.redb"), place.url("to.redb"));
    place.put(&from, "a", b"v");
    let sync = |more: &[&str]| {
        let sync = ["sync", "--from", &from, "--to", &to, "--resume", "state"];
        place.run(&[&sync[..], more].concat())
    };
    sync(&["--strategy", "refresh"]).ends(0);
    let other = sync(&["--strategy", "full-sync"]).ends(2);
    other.says("state cannot be resumed from: it belongs to another sync: its --strategy was \"refresh\"");
    sync(&["--strategy", "refresh", "--prefix", "x"]).ends(2).says("its --prefix was \"\", and is \"x\" now");
    fs::write(place.path("state"), "{\"format\": 2}").expect("written");
    sync(&["--strategy", "refresh"]).ends(2).says("state cannot be resumed from");
    fs::write(place.path("state"), "").expect("written");
    sync(&["--strategy", "refresh"]).ends(2).says("state cannot be resumed from");
    place
        .run(&["sync", "--from", &from, "--to", &to, "--strategy", "refresh", "--resume", "no/state"])
        .ends(4);
    let same = ["sync", "--from", &from, "--to", &to, "--strategy", "refresh", "--resume", &to];
    place.run(&same).ends(2).says("a place of its own");
    let lost = ["sync", "--from", &from, "--to", &to, "--strategy", "refresh", "--resume", "memory:"];
    place.run(&lost).ends(2).says("lasting store");
}

#[test]
fn shards_are_ranges_that_one_process_decided_and_together_the_whole() {
    let place = Place::new();
    place.fill("from.redb", 5_000);
    place.fill("extra.redb", 6_000);
    fs::rename(place.path("extra.redb"), place.path("to.redb")).expect("renamed");
    let (from, to, state) = (place.url("from.redb"), place.url("to.redb"), place.url("state.redb"));
    for keeps in [state.as_str(), "state"] {
        let (mut copied, mut removed, mut listed) = (0, 0, Vec::new());
        for shard in ["3/4", "1/4", "4/4", "2/4"] {
            let report = place.run(&[
                "sync",
                "--from",
                &from,
                "--to",
                &to,
                "--strategy",
                "full-sync",
                "--resume",
                keeps,
                "--shard",
                shard,
                "--json",
                "--verify",
            ]);
            let report = counts(&report.ends(0).text());
            copied += count(&report, "copied");
            removed += count(&report, "removed");
            listed.push(count(&report, "listed_from"));
        }
        assert_eq!(listed.iter().sum::<u64>(), 5_000);
        assert!(listed.iter().all(|listed| (1_000..1_500).contains(listed)), "{listed:?}");
        let expected = if keeps == "state" { (0, 0) } else { (5_000, 1_000) };
        assert_eq!((copied, removed), expected);
    }
    // Split anew while a shard was under way: it belongs to another range.
    let text = fs::read_to_string(place.path("state.2-of-4"))
        .expect("kept")
        .replace("\"ended\": true", "\"ended\": false");
    fs::write(place.path("state.2-of-4"), text).expect("written");
    let borders = fs::read_to_string(place.path("state.shards")).expect("kept");
    fs::write(place.path("state.shards"), borders.replacen("\"key-", "\"key-0", 1)).expect("written");
    let sync = [
        "sync",
        "--from",
        &from,
        "--to",
        &to,
        "--strategy",
        "full-sync",
        "--resume",
        "state",
        "--shard",
        "2/4",
    ];
    place.run(&sync).ends(2).says("another range of keys");
    for file in ["state.shards", "state.1-of-4", "state.4-of-4"] {
        assert!(place.path(file).exists(), "{file}");
    }
    place.run(&["check", "--from", &from, "--to", &to]).ends(0);
    let sync = ["sync", "--from", &from, "--to", &to, "--strategy", "refresh"];
    place.run(&[&sync[..], &["--shard", "1/2"]].concat()).ends(2).says("--resume");
    place.run(&[&sync[..], &["--resume", "x", "--shard", "3/2"]].concat()).ends(2).says("such as 2/8");
    // More shards than keys: some have nothing to do.
    place.put(&place.url("few.redb"), "only", b"v");
    let few = place.url("few.redb");
    for shard in ["1/3", "2/3", "3/3"] {
        let target = place.url("few-to.redb");
        let sync = [
            "sync",
            "--from",
            &few,
            "--to",
            &target,
            "--strategy",
            "full-sync",
            "--resume",
            "few",
            "--shard",
        ];
        place.run(&[&sync[..], &[shard]].concat()).ends(0);
    }
    place.run(&["check", "--from", &few, "--to", &place.url("few-to.redb")]).ends(0);
}

#[test]
fn the_rate_is_a_limit() {
    let place = Place::new();
    let (from, to) = (place.url("from.redb"), place.url("to.redb"));
    for key in ["a", "b", "c"] {
        place.put(&from, key, &[7; 10_000]);
    }
    let sync = ["sync", "--from", &from, "--to", &to, "--strategy", "refresh", "--json", "--limit-rate"];
    // Half a second for each, and none behind the last.
    let report = counts(&place.run(&[&sync[..], &["20000B"]].concat()).ends(0).text());
    let seconds = report.get("seconds").and_then(Value::as_f64).expect("seconds");
    assert!(seconds >= 0.9, "{report}");
    place.run(&[&sync[..], &["0B"]].concat()).ends(2).says("nothing would ever be copied");
}

#[test]
fn a_source_that_tells_of_no_changes_cannot_be_followed() {
    let place = Place::new();
    let (from, to) = (place.url("from.redb"), place.url("to.redb"));
    place.put(&from, "k", b"v");
    let follow = ["sync", "--from", &from, "--to", &to, "--strategy", "full-sync", "--follow"];
    place.run(&follow).ends(2).says("has no feed of changes");
    assert!(!place.path("to.redb").exists(), "nothing is made");
}
