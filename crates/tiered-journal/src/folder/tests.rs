//! The lock of a folder.

use super::*;

#[test]
fn a_process_that_is_started_meanwhile_keeps_no_lock() {
    let place = tempfile::tempdir().expect("a folder");
    let folder = OsFolder::open(place.path()).expect("opens");
    // As a child process has it until it calls exec.
    let inherited = folder.lock.as_ref().expect("locked").try_clone().expect("cloned");
    OsFolder::open(place.path()).expect_err("locked");
    drop(folder);
    OsFolder::open(place.path()).expect("nothing holds it");
    drop(inherited);
}
