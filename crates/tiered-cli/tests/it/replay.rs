//! `replay`: hit ratios of memory tiers for a log of accesses.

use std::fmt::Write as _;
use std::fs;

use serde_json::Value;

use crate::place::Place;

/// Ten hot keys between scans over a thousand others.
fn log() -> String {
    let mut log = String::new();
    for round in 0..20 {
        for scanned in 0..500 {
            writeln!(log, "cold/{round}/{scanned} 1000").expect("a string");
            writeln!(log, "hot/{} 1000", scanned % 10).expect("a string");
        }
    }
    log
}

fn path(place: &Place, name: &str) -> String {
    place.path(name).display().to_string()
}

#[test]
fn a_log_shows_what_each_tier_and_capacity_would_have_saved() {
    let place = Place::new();
    let (trace, plot) = (path(&place, "log"), path(&place, "plot.svg"));
    fs::write(&trace, log()).expect("written");
    let capacities = ["replay", "--json", "--capacity", "64KiB,64MiB", "--plot", &plot, &trace];
    let rows: Vec<Value> = place
        .run(&capacities)
        .ends(0)
        .text()
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    assert_eq!(rows.len(), 6, "three tiers of two capacities");
    for row in &rows {
        let number = |name: &str| row[name].as_u64().expect("a number");
        assert_eq!(number("accesses"), 20_000);
        assert_eq!(number("hits") + number("backend_reads"), 20_000);
        assert_eq!(number("saved_bytes"), number("hits") * 1_000);
        if number("capacity") == 64 << 20 {
            // All but the first access to each of the ten that come again.
            assert_eq!(number("hits"), 9_990, "{row}");
        } else {
            assert!(number("hits") > 8_000, "the hot keys stay: {row}");
        }
    }
    let drawn = fs::read_to_string(&plot).expect("drawn");
    assert!(drawn.starts_with("<svg") && drawn.contains("tinylfu"), "{drawn}");
}

#[test]
fn a_table_is_printed_and_what_is_wrong_is_said() {
    let place = Place::new();
    let trace = path(&place, "log");
    fs::write(&trace, "a\nb\na\n").expect("written");
    let text = place.run(&["replay", &trace]).ends(0).text();
    assert!(text.contains("3 accesses to 2 keys") && text.contains("33.3"), "{text}");
    for (arguments, hint) in [
        (["--tier", "redb:x"], "not a tier in memory"),
        (["--tier", "memory:"], "capacity"),
        (["--capacity", "much"], "64MiB"),
        (["--value-size", "much"], "64MiB"),
    ] {
        place.run(&["replay", arguments[0], arguments[1], &trace]).ends(2).says(hint);
    }
    fs::write(&trace, "\n").expect("written");
    place.run(&["replay", &trace]).ends(2).says("no access");
}
