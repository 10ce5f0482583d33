//! Files of the user's own: what the command writes to, and what it may only read.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Output};

use crate::place::Place;

#[test]
fn an_output_file_keeps_its_permissions_and_links() {
    let place = Place::new();
    let store = place.url("d.redb");
    place.put(&store, "long", &vec![7; 100_000]);
    place.put(&store, "short", b"v");
    let get = |key: &str, to: &str| {
        let to = place.path(to);
        place.run(&["--store", &store, "get", key, "-o", to.to_str().expect("utf-8")]).ends(0);
    };
    for name in ["alone", "linked"] {
        fs::write(place.path(name), "old").expect("written");
        fs::set_permissions(place.path(name), Permissions::from_mode(0o640)).expect("set");
    }
    fs::hard_link(place.path("linked"), place.path("twin")).expect("linked");
    symlink("linked", place.path("soft")).expect("linked");
    symlink("new", place.path("dangling")).expect("linked");
    for (key, value) in [("long", vec![7; 100_000]), ("short", b"v".to_vec())] {
        get(key, "alone");
        get(key, "soft");
        get(key, "dangling");
        for name in ["alone", "linked", "twin", "new"] {
            assert!(fs::read(place.path(name)).expect("reads") == value, "{name}");
        }
        for name in ["alone", "linked"] {
            assert_eq!(fs::metadata(place.path(name)).expect("there").mode() & 0o777, 0o640, "{name}");
        }
        for name in ["soft", "dangling"] {
            assert!(fs::symlink_metadata(place.path(name)).expect("there").is_symlink(), "{name}");
        }
    }
    assert_eq!(fs::metadata(place.path("twin")).expect("there").nlink(), 2);
    let names = fs::read_dir(place.path("")).expect("reads").count();
    assert_eq!(names, 7, "nothing else is left behind");
}

/// Runs the command as a user without write permission, also if the tests run as root.
fn run_as_other(place: &Place, arguments: &[&str]) -> Output {
    let program = place.path("program");
    if !program.exists() {
        fs::copy(env!("CARGO_BIN_EXE_tiered"), &program).expect("copied");
    }
    let mut command = Command::new(program);
    command.args(arguments).current_dir(place.path(""));
    if fs::metadata("/proc/self").expect("there").uid() == 0 {
        // The user nobody.
        command.uid(65_534).gid(65_534);
    }
    command.output().expect("runs")
}

fn protect(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).expect("set");
}

#[test]
fn a_read_only_database_can_be_read() {
    let place = Place::new();
    protect(&place.path(""), 0o755);
    let (a, b) = (place.url("a.redb"), place.url("b.redb"));
    for store in [&a, &b] {
        place.put(store, "k", b"v");
    }
    place.put(&b, "extra", b"v");
    // The program is copied before its folder is protected.
    run_as_other(&place, &["--version"]);
    for name in ["a.redb", "b.redb"] {
        protect(&place.path(name), 0o444);
    }
    protect(&place.path(""), 0o555);
    let run = |arguments: &[&str], code: i32, says: &str| {
        let ran = run_as_other(&place, arguments);
        let text = [ran.stdout, ran.stderr].concat();
        let text = String::from_utf8_lossy(&text);
        assert_eq!(ran.status.code(), Some(code), "{arguments:?}: {text}");
        assert!(text.contains(says), "{arguments:?}: {text}");
    };
    run(&["--store", &a, "get", "k"], 0, "v");
    run(&["--store", &a, "head", "k"], 0, "version");
    run(&["--store", &b, "list"], 0, "extra\nk");
    run(&["check", "--from", &a, "--to", &b], 6, "extra extra");
    run(&["--frontend", "moka:", "--backend", &a, "get", "k"], 0, "v");
    run(&["--store", &a, "put", "k"], 4, "forbids");
    run(&["--store", &format!("{a}?access=read-write"), "get", "k"], 4, "forbids");
    run(&["--store", &format!("{a}?access=read-only"), "put", "k"], 4, "reading only");
    protect(&place.path(""), 0o755);
}

#[test]
fn a_folder_of_the_user_is_not_removed_as_a_journal() {
    let place = Place::new();
    let docs = place.path("docs");
    fs::create_dir(&docs).expect("made");
    for name in ["thesis.new", "reserve"] {
        fs::write(docs.join(name), name).expect("written");
    }
    let backend = place.url("d.redb");
    let stack = ["--frontend", "moka:", "--backend", &backend, "--write-policy", "write-behind"];
    let journal = ["--journal", "docs", "put", "k"];
    place.run_with(&[&stack[..], &journal].concat(), b"v").ends(2).says("use another folder");
    place.run(&["--journal", "docs", "journal", "verify"]).ends(2).says("use another folder");
    assert_eq!(fs::read_dir(&docs).expect("reads").count(), 2);
    for name in ["thesis.new", "reserve"] {
        assert_eq!(fs::read_to_string(docs.join(name)).expect("there"), name);
    }
}

#[test]
fn files_beside_a_database_are_kept() {
    let place = Place::new();
    for name in ["users.new-york", "users.new-0000"] {
        fs::write(place.path(name), name).expect("written");
    }
    place.put(&place.url("users"), "k", b"v");
    for name in ["users.new-york", "users.new-0000"] {
        assert_eq!(fs::read_to_string(place.path(name)).expect("there"), name);
    }
}
