//! `create`, `exists`, `destroy` and `id`.

use std::fs;

use crate::place::Place;

#[test]
fn a_store_lives_from_create_to_destroy() {
    let place = Place::new();
    let url = place.url("d.redb");
    let run = |rest: &[&str]| place.run(&[&["--store", &url][..], rest].concat());
    assert_eq!(run(&["exists"]).ends(1).text(), "absent\n");
    run(&["get", "k"]).ends(4);
    run(&["id"]).ends(4);
    let id = run(&["create"]).ends(0).text();
    assert!(id.trim().len() >= 16, "{id}");
    run(&["create"]).ends(4).says("already");
    assert_eq!(run(&["exists"]).ends(0).text(), "exists\n");
    assert_eq!(run(&["--json", "exists"]).ends(0).text(), "{\"exists\":true}\n");
    place.put(&url, "k", b"v");
    assert_eq!(run(&["id"]).ends(0).text(), id, "the id is kept");
    run(&["destroy"]).ends(2).says("nothing was changed; add --yes");
    run(&["get", "k"]).ends(0);
    run(&["destroy", "--yes"]).ends(0);
    assert!(!place.path("d.redb").exists());
    run(&["destroy", "--yes"]).ends(4).says("not found");
    place.run(&["--store", "memory:", "create"]).ends(2).says("ends with this command");
}

#[test]
fn what_is_no_store_is_not_destroyed() {
    let place = Place::new();
    fs::write(place.path("notes"), "of others").expect("written");
    let url = place.url("notes");
    place.run(&["--store", &url, "exists"]).ends(2).says("not a store");
    place.run(&["--store", &url, "destroy", "--yes", "--discard-unflushed"]).ends(2);
    assert_eq!(fs::read(place.path("notes")).expect("reads"), b"of others");
}

#[test]
fn a_stack_of_options_and_of_a_file_lives_alike() {
    let place = Place::new();
    let (front, back) = (place.url("front.redb"), place.url("back.redb"));
    let options =
        ["--frontend", &front, "--backend", &back, "--write-policy", "write-behind", "--journal", "journal"];
    let toml = format!(
        "journal = 'journal'\n[frontend]\nurl = '{front}'\n[backend]\nurl = '{back}'\n[policy]\nwrite-policy = 'write-behind'\n"
    );
    fs::write(place.path("stack.toml"), toml).expect("written");
    for stack in [&options[..], &["--config", "stack.toml"]] {
        let run = |rest: &[&str]| place.run_with(&[stack, rest].concat(), b"v");
        run(&["exists"]).ends(1);
        let id = run(&["create"]).ends(0).text();
        run(&["put", "k"]).ends(0);
        assert_eq!(place.run(&["--store", &back, "id"]).ends(0).text(), id, "that of the backend");
        assert_eq!(run(&["id"]).ends(0).text(), id);
        run(&["create"]).ends(4);
        run(&["destroy"]).ends(2).says("destroy removes");
        run(&["destroy", "--yes"]).ends(0);
        for name in ["front.redb", "back.redb", "journal"] {
            assert!(!place.path(name).exists(), "{name}");
        }
    }
}
