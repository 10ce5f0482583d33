//! The lock of a folder.

use super::*;

#[test]
fn a_child_process_does_not_keep_the_lock() {
    let place = tempfile::tempdir().expect("a folder");
    let folder = OsFolder::open(place.path()).expect("opens");
    // As a child process has it until it calls exec.
    let inherited = folder.lock.as_ref().expect("locked").try_clone().expect("cloned");
    OsFolder::open(place.path()).expect_err("locked");
    drop(folder);
    OsFolder::open(place.path()).expect("nothing holds it");
    drop(inherited);
}
