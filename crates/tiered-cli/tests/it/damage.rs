//! Damaged keys: reported one by one, and repaired from the other store.

use std::fs;
use std::path::Path;

use crate::place::{Place, damage};

/// Flips a bit in the value of a small entry, which its record has inline.
fn damage_record(path: &Path, value: &[u8]) {
    let mut bytes = fs::read(path).expect("reads");
    let found: Vec<usize> = bytes
        .windows(value.len())
        .enumerate()
        .filter(|(_, window)| *window == value)
        .map(|(at, _)| at)
        .collect();
    assert!(!found.is_empty(), "the value is there");
    for at in found {
        *bytes.get_mut(at).expect("inside") ^= 1;
    }
    fs::write(path, bytes).expect("written");
}

const VALUE: &[u8] = b"a value that stands once in the file";

/// `a`, `b`, `c` and `large` in two stores; the record of `b` is damaged in `bad.redb`.
fn two(place: &Place) -> (String, String) {
    // Small files are verified as a whole when they are opened, which would find the damage at once.
    let (good, bad) = (place.url("good.redb?verify=never"), place.url("bad.redb?verify=never"));
    for key in ["a", "b", "c"] {
        place.put(&good, key, if key == "b" { VALUE } else { b"v" });
    }
    place.put(&good, "large", &vec![7; 100_000]);
    place.run(&["sync", "--from", &good, "--to", &bad, "--strategy", "full-sync"]).ends(0);
    damage_record(&place.path("bad.redb"), VALUE);
    (good, bad)
}

#[test]
fn a_listing_continues_past_damage_and_exits_with_6() {
    let place = Place::new();
    let (_, bad) = two(&place);
    let listed = place.run(&["--store", &bad, "list"]).ends(6).says("damaged: ").says("1 keys are damaged");
    assert_eq!(listed.text(), "a\nc\nlarge\n");
    assert!(listed.errors().contains('b'), "{}", listed.errors());
    assert_eq!(place.run(&["--store", &bad, "list", "c"]).ends(0).text(), "c\n", "of what was asked for");
}

#[test]
fn check_names_damaged_keys_and_continues() {
    let place = Place::new();
    let (good, bad) = two(&place);
    place.put(&good, "new", b"v");
    for (from, to, new) in [(&good, &bad, "missing"), (&bad, &good, "extra")] {
        let checked = place.run(&["check", "--from", from, "--to", to]).ends(6).says("1 of them are damaged");
        assert_eq!(checked.text(), format!("damaged b\n{new} new\n"));
    }
    // A listing does not read the chunks of large values.
    damage(&place.path("bad.redb"));
    let checked = place.run(&["check", "--from", &good, "--to", &bad, "--values", "--json"]).ends(6).text();
    assert_eq!(
        checked,
        "{\"key\":\"b\",\"kind\":\"damaged\"}\n{\"key\":\"large\",\"kind\":\"damaged\"}\n{\"key\":\"new\",\"kind\":\"missing\"}\n"
    );
}

#[test]
fn sync_repairs_the_target_and_removes_nothing_because_of_a_damaged_source() {
    for strategy in ["full-sync", "refresh"] {
        let place = Place::new();
        let (good, bad) = two(&place);
        let sync = |from: &str, to: &str| {
            place.run(&["sync", "--from", from, "--to", to, "--strategy", strategy, "--json"])
        };
        // Damaged at the source is present: nothing is removed at the target.
        let counts = sync(&bad, &good).ends(5).says("failed: b:").text();
        assert!(counts.contains("\"removed\":0") && counts.contains("\"damaged\":1"), "{counts}");
        assert_eq!(place.run(&["--store", &good, "get", "b"]).ends(0).0.stdout, VALUE);
        let counts = sync(&good, &bad).ends(0).text();
        assert!(counts.contains("\"copied\":1,\"repaired\":1"), "{counts}");
        place.run(&["check", "--from", &good, "--to", &bad, "--values"]).ends(0);
    }
}

#[test]
fn a_damaged_key_can_be_deleted_by_name() {
    let place = Place::new();
    let (_, bad) = two(&place);
    place.run(&["--store", &bad, "get", "b"]).ends(5);
    place.run(&["--store", &bad, "delete", "b"]).ends(0);
    place.run(&["--store", &bad, "list"]).ends(0);
}
