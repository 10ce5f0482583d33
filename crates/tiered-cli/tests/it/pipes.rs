//! A reader that leaves, as `| head -1` does, changes no verdict.

use std::fs;
use std::process::{Command, Stdio};

use crate::place::{Place, damage};

/// The streams whose reader has left before anything is printed.
#[derive(Clone, Copy, Debug)]
enum Left {
    Output,
    Errors,
    Both,
}

/// How a command ends whose readers have left.
fn code(place: &Place, arguments: &[&str], left: Left) -> Option<i32> {
    let stream = |leaves: bool| if leaves { Stdio::piped() } else { Stdio::null() };
    let mut child = Command::new(env!("CARGO_BIN_EXE_tiered"))
        .args(arguments)
        .current_dir(place.folder())
        .stdin(Stdio::null())
        .stdout(stream(matches!(left, Left::Output | Left::Both)))
        .stderr(stream(matches!(left, Left::Errors | Left::Both)))
        .spawn()
        .expect("starts");
    drop((child.stdout.take(), child.stderr.take()));
    child.wait().expect("ends").code()
}

/// The exit code does not depend on the reader, as text or as JSON.
fn ends(place: &Place, arguments: &[&str], expected: i32) {
    for json in [&[][..], &["--json"]] {
        let arguments = [arguments, json].concat();
        place.run(&arguments).ends(expected);
        for left in [Left::Output, Left::Errors, Left::Both] {
            assert_eq!(code(place, &arguments, left), Some(expected), "{arguments:?}, {left:?} left");
        }
    }
}

#[test]
fn check_keeps_its_exit_code_into_a_closed_pipe() {
    let place = Place::new();
    // More than what fits into a pipe and the command's own buffer.
    let store = place.url("from.redb");
    place.fill("from.redb", 3_000);
    place.put(&place.url("to.redb"), "other", b"v");
    for more in [&[][..], &["--values"]] {
        ends(&place, &[&["check", "--from", &store, "--to", &place.url("to.redb")], more].concat(), 6);
    }
}

#[test]
fn sync_keeps_its_exit_code_into_a_closed_pipe() {
    let place = Place::new();
    let (from, to) = (place.url("from.redb"), place.url("to.redb?max_value=4"));
    place.put(&from, "a", b"fits");
    place.put(&from, "b", b"too large");
    ends(&place, &["sync", "--from", &from, "--to", &to, "--strategy", "populate-missing"], 4);
    place.put(&from, "large", &vec![7; 100_000]);
    damage(&place.path("from.redb"));
    let to = place.url("whole.redb");
    ends(&place, &["sync", "--from", &from, "--to", &to, "--strategy", "populate-missing"], 5);
}

#[test]
fn conformance_keeps_its_exit_code_into_a_closed_pipe() {
    let place = Place::new();
    place.put(&place.url("d.redb"), "k", b"v");
    // The suite writes.
    ends(&place, &["conformance", &place.url("d.redb?access=read-only")], 6);
}

#[test]
fn other_commands_exit_as_usual_into_a_closed_pipe() {
    let place = Place::new();
    let store = place.url("d.redb");
    place.fill("d.redb", 3_000);
    ends(&place, &["--store", &store, "list"], 0);
    ends(&place, &["--store", &store, "get", "key-1"], 0);
    ends(&place, &["--store", &store, "head", "key-1"], 0);
    ends(&place, &["--store", &store, "get", "absent"], 1);
    ends(&place, &["--store", &store, "put", "empty"], 0);
    ends(&place, &["--store", &store, "put", "key-1", "--if-absent"], 3);
    ends(&place, &["--store", &place.url("absent.redb"), "list"], 4);
    ends(&place, &["--store", "no-url", "list"], 2);
    ends(&place, &["no-command"], 2);
    ends(&place, &["--help"], 0);
    fs::write(place.path("no-database"), "something else, and longer than a header").expect("written");
    ends(&place, &["--store", &place.url("no-database"), "list"], 2);
}

#[cfg(unix)]
#[test]
fn a_value_can_be_written_to_standard_output_by_its_path() {
    let place = Place::new();
    let store = place.url("d.redb");
    place.put(&store, "k", &vec![7; 1_000_000]);
    assert_eq!(code(&place, &["--store", &store, "get", "k", "-o", "/dev/stdout"], Left::Output), Some(0));
}

#[cfg(unix)]
#[test]
fn a_full_disk_is_not_reported_as_a_closed_pipe() {
    let place = Place::new();
    let store = place.url("d.redb");
    place.put(&store, "k", b"v");
    let full = fs::File::options().write(true).open("/dev/full").expect("opens");
    let ended = Command::new(env!("CARGO_BIN_EXE_tiered"))
        .args(["--store", &store, "list"])
        .stdout(full)
        .stderr(Stdio::null())
        .status()
        .expect("runs");
    assert_eq!(ended.code(), Some(4));
}
