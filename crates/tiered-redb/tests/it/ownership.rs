//! Whose files these are: nothing of others is touched, and what the user named stays what it is.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::Path;

use tiered_core::{ErrorKind, Key, Put, Store, StoreExt as _};
use tiered_redb::RedbConfig;

async fn write_and_close(path: &Path) {
    let store = RedbConfig::new(path).open().await.expect("opens");
    store.put(&Key::new("k").expect("valid"), Put::new("v")).await.expect("written");
    store.close().await.expect("closes");
}

async fn assert_has_the_entry(path: &Path) {
    let store = RedbConfig::new(path).open().await.expect("opens");
    let entry = store.get(&Key::new("k").expect("valid")).await.expect("reads");
    assert_eq!(entry.expect("found").value(), "v");
    store.close().await.expect("closes");
}

/// The names in a folder, in order.
fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).expect("reads").map(|entry| entry.expect("an entry").file_name());
    let mut names: Vec<_> = entries.map(|name| name.to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

#[tokio::test]
async fn files_with_similar_names_are_kept() {
    let folder = tempfile::tempdir().expect("a folder");
    let others = ["users.new", "users.new-", "users.new-0000", "users.new-york", "users.tmp"];
    for name in others {
        fs::write(folder.path().join(name), name).expect("written");
    }
    fs::write(folder.path().join("empty"), "").expect("written");
    fs::write(folder.path().join("empty.new-zealand"), "kiwis").expect("written");
    write_and_close(&folder.path().join("users")).await;
    write_and_close(&folder.path().join("empty")).await;
    for name in others {
        assert_eq!(fs::read_to_string(folder.path().join(name)).expect(name), name);
    }
    assert_eq!(fs::read_to_string(folder.path().join("empty.new-zealand")).expect("there"), "kiwis");
    assert_eq!(names(folder.path()).len(), others.len() + 3, "nothing else is left behind");
}

#[tokio::test]
async fn an_empty_file_becomes_a_database_in_place() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name);
    File::create(path("file")).expect("made");
    fs::set_permissions(path("file"), Permissions::from_mode(0o600)).expect("set");
    fs::hard_link(path("file"), path("hard")).expect("linked");
    symlink("hard", path("soft")).expect("linked");
    let before = fs::metadata(path("file")).expect("there");
    write_and_close(&path("soft")).await;
    assert!(fs::symlink_metadata(path("soft")).expect("there").is_symlink());
    for name in ["file", "hard", "soft"] {
        let after = fs::metadata(path(name)).expect("there");
        assert_eq!(
            (after.ino(), after.mode(), after.uid(), after.gid(), after.nlink()),
            (before.ino(), before.mode(), before.uid(), before.gid(), 2),
            "{name}"
        );
        assert_has_the_entry(&path(name)).await;
    }
    assert_eq!(names(folder.path()), ["file", "hard", "soft"]);
}

#[tokio::test]
async fn a_dangling_link_creates_the_file_it_names() {
    let folder = tempfile::tempdir().expect("a folder");
    symlink("target", folder.path().join("link")).expect("linked");
    write_and_close(&folder.path().join("link")).await;
    assert_has_the_entry(&folder.path().join("target")).await;
    assert!(fs::symlink_metadata(folder.path().join("link")).expect("there").is_symlink());
}

#[tokio::test]
async fn a_new_database_has_default_file_permissions() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name);
    File::create(path("plain")).expect("made");
    write_and_close(&path("database")).await;
    let mode = |name: &str| fs::metadata(path(name)).expect("there").mode();
    assert_eq!(mode("database"), mode("plain"));
}

#[tokio::test]
async fn an_unfinished_creation_is_completed() {
    let folder = tempfile::tempdir().expect("a folder");
    let whole = folder.path().join("whole");
    RedbConfig::new(&whole).open().await.expect("opens").close().await.expect("closes");
    let whole = fs::read(whole).expect("reads");
    // As a loss of power may leave it: some of its pages, but never the first one.
    for (name, end, zeros) in [
        ("zeros", 4096, 0..4096),
        ("first-page", 8192, 0..4096),
        ("last-page", whole.len(), 4096..whole.len() - 4096),
        ("only-zeros", whole.len(), 0..whole.len()),
    ] {
        let mut content = whole[..end].to_vec();
        content[zeros].fill(0);
        content[..4096].fill(0);
        let path = folder.path().join(name);
        fs::write(&path, content).expect("written");
        let before = fs::metadata(&path).expect("there").ino();
        write_and_close(&path).await;
        assert_eq!(fs::metadata(&path).expect("there").ino(), before, "{name}");
        assert_has_the_entry(&path).await;
    }
}

#[tokio::test]
async fn a_database_with_a_damaged_header_is_not_overwritten_as_unfinished() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("d.redb");
    write_and_close(&path).await;
    let mut content = fs::read(&path).expect("reads");
    for zeros in [0..4, 0..9, 0..4096] {
        content[zeros].fill(0);
        fs::write(&path, &content).expect("written");
        let error = RedbConfig::new(&path).open().await.expect_err("damaged");
        assert_eq!(error.kind(), ErrorKind::Foreign, "{}", error.chain());
        assert!(fs::read(&path).expect("reads") == content, "it was touched");
    }
    // Too long for an unfinished file, whatever is in it.
    let zeros = vec![0; 2 << 20];
    fs::write(&path, &zeros).expect("written");
    let error = RedbConfig::new(&path).open().await.expect_err("zeros");
    assert_eq!(error.kind(), ErrorKind::Foreign, "{}", error.chain());
    assert!(fs::read(&path).expect("reads") == zeros, "it was touched");
}
