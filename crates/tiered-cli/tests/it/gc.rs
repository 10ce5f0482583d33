//! `gc`: dry run first, two runs, roots and keep-lists.

use std::fs;

use crate::place::Place;

fn filled(place: &Place) -> String {
    let store = place.url("d.redb");
    for (key, value) in [
        ("roots/1", "nodes/1\n"),
        ("nodes/1", "leaves/1\n\nleaves/2\n"),
        ("leaves/1", "\u{1}"),
        ("leaves/2", "x"),
        ("leaves/3", "x"),
        ("nodes/2", "leaves/3"),
    ] {
        place.put(&store, key, value.as_bytes());
    }
    store
}

#[test]
fn what_no_root_refers_to_is_deleted_by_the_second_run_that_is_applied() {
    let place = Place::new();
    let store = filled(&place);
    let gc = ["--store", &store, "gc", "--roots-under", "roots/", "--leaves-under", "leaves/", "--keys"];
    let applied = [&gc[..], &["--apply"]].concat();
    for _ in 0..2 {
        let dry = place.run(&gc).ends(0).says("dry run, and no entry was changed; add --apply");
        assert!(
            dry.text().starts_with("observed leaves/3\nobserved nodes/2\ngeneration 0; listed 6, live 4; "),
            "{}",
            dry.text()
        );
        assert!(
            dry.text().contains("would be deleted 0, would be observed for a later run 2"),
            "{}",
            dry.text()
        );
    }
    let first = place.run(&applied).ends(0);
    assert!(
        !first.errors().contains("dry run") && first.text().contains("; deleted 0, observed"),
        "{}",
        first.text()
    );
    let dry = place.run(&gc).ends(0).text();
    assert!(dry.starts_with("deleted leaves/3\ndeleted nodes/2\ngeneration 1; "), "{dry}");
    let list = |expected: &str| {
        let listed = place.run(&["--store", &store, "list"]).ends(0).text();
        let listed: Vec<&str> = listed.lines().filter(|key| !key.starts_with("tiered.gc/")).collect();
        assert_eq!(listed.join(" "), expected);
    };
    list("leaves/1 leaves/2 leaves/3 nodes/1 nodes/2 roots/1");
    let second = place.run(&applied).ends(0).text();
    assert!(second.contains("; deleted 2, observed for a later run 0"), "{second}");
    list("leaves/1 leaves/2 nodes/1 roots/1");
    // Again: nothing is left to do.
    let third = place.run(&[&applied[..], &["--json"]].concat()).ends(0).text();
    let expected =
        "{\"outcome\":\"completed\",\"generation\":2,\"horizon\":2,\"listed\":4,\"live\":4,\"observed\":0,";
    assert!(third.starts_with(expected), "{third}");
}

#[test]
fn a_keep_list_needs_the_horizon_that_was_printed_before() {
    let place = Place::new();
    let store = filled(&place);
    let keep = place.path("keep");
    let keep = keep.to_str().expect("utf-8");
    fs::write(keep, "roots/1\n\nleaves/1\n").expect("written");
    let horizon = || {
        let text = place.run(&["--store", &store, "gc"]).ends(0).text();
        text.strip_prefix("horizon ").expect("printed").trim_end().to_owned()
    };
    place.run(&["--store", &store, "gc", "--keep", keep]).ends(2).says("--horizon");
    place.run(&["--store", &store, "gc", "--keep", keep, "--horizon", "x"]).ends(2).says("no horizon");
    let run = |horizon: &str| {
        let arguments = ["--store", &store, "gc", "--keep", keep, "--horizon", horizon, "--json", "--apply"];
        place.run(&arguments).ends(0).text()
    };
    let old = horizon();
    assert!(run(&old).contains("\"observed\":4"));
    let second = run(&old);
    assert!(second.contains("\"deleted\":0") && second.contains("\"held_back\":4"), "{second}");
    let third = run(&horizon());
    assert!(third.contains("\"deleted\":4") && third.contains("\"held_back\":0"), "{third}");
    let from_pipe = ["--store", &store, "gc", "--keep", "-", "--horizon", &horizon(), "--json"];
    let piped = place.run_with(&from_pipe, b"roots/1\nleaves/1").ends(0).text();
    assert!(piped.starts_with("{\"outcome\":\"dry-run\"") && piped.contains("\"live\":2"), "{piped}");
    place.run_with(&from_pipe, b"a\nb\tc").ends(2).says("line 2");
    place.run_with(&from_pipe, b"").ends(2).says("the keep-list is empty");
}

#[test]
fn references_in_json_and_a_cut_off() {
    let place = Place::new();
    let store = place.url("d.redb");
    place.put(&store, "roots/1", br#"{"parts": ["a", "b"]}"#);
    for key in ["a", "b", "c"] {
        place.put(&store, key, b"{}");
    }
    let gc =
        ["--store", &store, "gc", "--root", "roots/1", "--references", "json=/parts", "--json", "--apply"];
    assert!(place.run(&gc).ends(0).text().contains("\"observed\":1"));
    let spared = place.run(&[&gc[..], &["--older-than", "7d"]].concat()).ends(0).text();
    assert!(spared.contains("\"deleted\":0") && spared.contains("\"too_new\":1"), "{spared}");
    let other = place.run(&[&gc[..], &["--prefix", "roots/"]].concat()).ends(0).text();
    assert!(other.contains("\"listed\":1,\"live\":1"), "{other}");
    assert!(place.run(&gc).ends(0).text().contains("\"deleted\":1"));
    // A value that is no JSON ends it before anything is deleted.
    place.put(&store, "a", b"no JSON");
    place.run(&gc).ends(2).says("no JSON");
    let wrong = ["--store", &store, "gc", "--root", "roots/1", "--references", "xml"];
    place.run(&wrong).ends(2).says("json=/POINTER");
    place.run(&["--store", &store, "gc", "--root", "typo"]).ends(4).says("does not exist");
}

#[test]
fn the_record_of_a_crashed_writer_is_shown_and_forgotten() {
    let place = Place::new();
    let store = filled(&place);
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("builds");
    let id = runtime.block_on(async {
        use tiered::Store as _;
        let disk = std::sync::Arc::new(
            tiered_redb::RedbConfig::new(place.path("d.redb")).open().await.expect("opens"),
        );
        let sweep = tiered::values::sweep::Sweep::new(disk.clone()).expect("builds");
        let id = sweep.begin_write("importer").await.expect("begins").id().to_string();
        disk.close().await.expect("closes");
        id
    });
    let gc = ["--store", &store, "gc", "--roots-under", "roots/", "--leaves-under", "leaves/", "--apply"];
    place.run(&gc).ends(0);
    let held = place.run(&gc).ends(0).says(&format!("gc --forget-writer {id}")).says("importer");
    assert!(held.text().contains("2 held back"), "{}", held.text());
    let status = place.run(&["--store", &store, "gc", "--json"]).ends(0).text();
    assert!(status.contains(&id) && status.contains("\"label\":\"importer\""), "{status}");
    place.run(&["--store", &store, "gc", "--forget-writer", &id]).ends(0);
    place.run(&["--store", &store, "gc", "--forget-writer", &id]).ends(1);
    place.run(&["--store", &store, "gc", "--forget-writer", "x"]).ends(2).says("32 hexadecimal digits");
    assert!(place.run(&gc).ends(0).text().contains("; deleted 2, "));
}

#[test]
fn what_would_be_ignored_or_is_not_said_is_refused() {
    let place = Place::new();
    let store = filled(&place);
    place.run(&["--store", &store, "gc", "--apply"]).ends(2).says("say what is live");
    place.run(&["--store", &store, "gc", "--references", "lines"]).ends(2);
    place.run(&["--store", &store, "gc", "--roots-under", "none/"]).ends(2).says("no root was found");
    place.run(&["--store", "moka:", "gc"]).ends(2).says("evicts");
    // One that is misspelled among several.
    let gc =
        ["--store", &store, "gc", "--roots-under", "roots/", "--roots-under", "tag/", "--leaves-under", ""];
    place.run(&[&gc[..], &["--apply"]].concat()).ends(4).says("there is no root under \"tag/\"");
    let allowed = place.run(&[&gc[..], &["--allow-empty", "--json"]].concat()).ends(0);
    assert!(allowed.text().contains("\"prefixes_without_roots\":[\"tag/\"]"), "{}", allowed.text());
    // What lists its frontend alone.
    let front = place.url("front.redb");
    for policy in [["--write-policy", "frontend-only"], ["--read-policy", "frontend-only"]] {
        let stack = [&["--frontend", &front, "--backend", &store], &policy[..], &["gc"]].concat();
        place.run(&stack).ends(2).says("lists its frontend alone");
    }
    let absent = place.url("absent.redb");
    place.run(&["--store", &absent, "gc", "--roots-under", "roots/"]).ends(4);
    assert!(!place.path("absent.redb").exists());
}

#[test]
fn a_stack_is_swept_in_both_tiers() {
    let place = Place::new();
    let (front, back) = (place.url("front.redb"), place.url("back.redb"));
    let stack = ["--frontend", &front, "--backend", &back];
    place.put(&back, "seed", b"");
    for (key, value) in [("roots/1", "leaves/1"), ("leaves/1", ""), ("leaves/2", "")] {
        place.run_with(&[&stack[..], &["put", key]].concat(), value.as_bytes()).ends(0);
    }
    let gc =
        [&stack[..], &["gc", "--roots-under", "roots/", "--leaves-under", "leaves/", "--apply"]].concat();
    place.run(&gc).ends(0);
    place.run(&["--store", &front, "get", "leaves/2"]).ends(0);
    place.run(&gc).ends(0);
    for tier in [&front, &back] {
        place.run(&["--store", tier, "get", "leaves/1"]).ends(0);
        place.run(&["--store", tier, "get", "leaves/2"]).ends(1);
    }
}
