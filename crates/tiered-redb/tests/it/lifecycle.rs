//! A database that is new, looked for, and destroyed.

use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::Path;

use tiered_core::adapter::opening::Before;
use tiered_core::{Create, ErrorKind, Key, Put, Store, StoreExt as _, ownership};
use tiered_redb::{Access, RedbConfig};

async fn make(path: &Path) {
    RedbConfig::new(path).create(Create::New).open().await.expect("made").close().await.expect("closes");
}

async fn refused(path: &Path) -> ErrorKind {
    RedbConfig::new(path).destroy().await.expect_err("refused").kind()
}

#[tokio::test]
async fn a_new_database_is_new_and_a_destroyed_one_gone() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("d.redb");
    assert!(!RedbConfig::new(&path).exists().await.expect("tells"));
    assert_eq!(refused(&path).await, ErrorKind::NotFound);
    make(&path).await;
    assert!(RedbConfig::new(&path).exists().await.expect("tells"));
    let again = RedbConfig::new(&path).create(Create::New).open().await.expect_err("there");
    assert_eq!(again.kind(), ErrorKind::AlreadyExists, "{}", again.chain());
    RedbConfig::new(&path).destroy().await.expect("destroyed");
    assert!(!path.exists());
    make(&path).await;
}

#[tokio::test]
async fn of_concurrent_creations_of_a_new_database_one_succeeds() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("d.redb");
    let open = || RedbConfig::new(&path).create(Create::New).open();
    let (one, two, three) = tokio::join!(open(), open(), open());
    let mut made = Vec::new();
    for opened in [one, two, three] {
        match opened {
            Ok(store) => made.push(store),
            Err(error) => assert!(
                matches!(error.kind(), ErrorKind::AlreadyExists | ErrorKind::Locked),
                "{}",
                error.chain()
            ),
        }
    }
    assert_eq!(made.len(), 1);
}

#[tokio::test]
async fn an_open_database_is_not_destroyed() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("d.redb");
    let store = RedbConfig::new(&path).open().await.expect("opens");
    store.set("k", "v").await.expect("written");
    assert!(RedbConfig::new(&path).exists().await.expect("tells"));
    assert_eq!(refused(&path).await, ErrorKind::Locked);
    assert!(store.get("k").await.expect("reads").is_some());
    store.close().await.expect("closes");
    RedbConfig::new(&path).destroy().await.expect("destroyed");
}

#[tokio::test]
async fn what_is_no_database_of_ours_stays() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("text");
    fs::write(&path, "a text of another program").expect("written");
    let other = folder.path().join("other.redb");
    drop(redb::Database::create(&other).expect("made"));
    let empty = folder.path().join("empty");
    File::create(&empty).expect("made");
    for (place, kind) in [
        (&path, ErrorKind::Foreign),
        (&other, ErrorKind::Foreign),
        (&folder.path().to_owned(), ErrorKind::Foreign),
        (&empty, ErrorKind::NotFound),
    ] {
        let before = fs::read(place).ok();
        assert_eq!(refused(place).await, kind, "{}", place.display());
        let exists = RedbConfig::new(place).exists().await.map_err(|error| error.kind());
        let expected = if kind == ErrorKind::Foreign { Err(kind) } else { Ok(false) };
        assert_eq!(exists, expected, "{}", place.display());
        assert_eq!(fs::read(place).ok(), before, "{}", place.display());
    }
}

#[tokio::test]
async fn a_link_to_the_file_stays() {
    let folder = tempfile::tempdir().expect("a folder");
    let (path, link) = (folder.path().join("d.redb"), folder.path().join("link"));
    make(&path).await;
    symlink(&path, &link).expect("linked");
    RedbConfig::new(&link).destroy().await.expect("destroyed");
    assert!(!path.exists() && link.is_symlink());
}

#[tokio::test]
async fn a_database_that_was_not_closed_cleanly_is_destroyed() {
    let folder = tempfile::tempdir().expect("a folder");
    let (path, killed) = (folder.path().join("d.redb"), folder.path().join("killed.redb"));
    let store = RedbConfig::new(&path).open().await.expect("opens");
    store.put(&Key::new("k").expect("valid"), Put::new("v")).await.expect("written");
    // As a killed process leaves it.
    fs::copy(&path, &killed).expect("copied");
    assert!(RedbConfig::new(&killed).exists().await.expect("tells"));
    RedbConfig::new(&killed).destroy().await.expect("destroyed");
    assert!(!killed.exists());
    store.close().await.expect("closes");
}

#[tokio::test]
async fn read_only_settings_neither_make_nor_destroy() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("d.redb");
    make(&path).await;
    let config = || RedbConfig::new(&path).access(Access::ReadOnly);
    assert_eq!(config().destroy().await.expect_err("refused").kind(), ErrorKind::PermissionDenied);
    assert_eq!(config().create(Create::New).open().await.expect_err("refused").kind(), ErrorKind::Config);
    assert!(path.exists());
}

/// What a user of the database does between its making and the attempt to take it back, and whether it is gone then.
type Use = (&'static str, fn(&tiered_redb::RedbStore) -> futures_util::future::BoxFuture<'_, ()>, bool);

#[tokio::test]
async fn only_a_database_that_was_never_used_is_taken_back() {
    use futures_util::FutureExt as _;
    let uses: [Use; 5] = [
        ("nothing", |_| async {}.boxed(), true),
        (
            "an opening",
            |store| async { drop(ownership::ensure_id(store).await.expect("an id")) }.boxed(),
            true,
        ),
        ("an entry", |store| async { drop(store.set("k", "v").await.expect("written")) }.boxed(), false),
        (
            "a mark",
            |store| async { store.set_mark("mine", Some("v".into())).await.expect("set") }.boxed(),
            false,
        ),
        (
            "a journal",
            |store| async { store.set_mark("tiered.journals", Some("v".into())).await.expect("set") }.boxed(),
            false,
        ),
    ];
    for (what, uses, taken) in uses {
        for before in [Before::Absent, Before::Empty] {
            let folder = tempfile::tempdir().expect("a folder");
            let path = folder.path().join("d.redb");
            if before == Before::Empty {
                File::create(&path).expect("prepared");
            }
            assert_eq!(Before::at(&path), before);
            let store = RedbConfig::new(&path).create(Create::New).open().await.expect("made");
            uses(&store).await;
            let again = || async { RedbConfig::new(&path).take_back(before).await.expect("no error") };
            assert!(!again().await, "{what}: it is open");
            store.close().await.expect("closes");
            assert_eq!(again().await, taken, "{what}");
            match (taken, before) {
                (true, Before::Absent) => assert!(!path.exists(), "{what}"),
                (true, Before::Empty) => assert_eq!(fs::metadata(&path).expect("there").len(), 0, "{what}"),
                (false, _) => assert!(RedbConfig::new(&path).exists().await.expect("tells"), "{what}"),
            }
        }
    }
}
