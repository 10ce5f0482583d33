//! A database that is new, looked for, and destroyed.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use rocksdb::DB;
use tiered_core::adapter::opening::Before;
use tiered_core::{ErrorKind, Store as _, StoreExt as _, ownership};
use tiered_rocksdb::{Create, RocksdbConfig};

async fn make(path: &Path) {
    let store = RocksdbConfig::new(path).create(Create::New).open().await.expect("made");
    store.set("k", vec![7; 100_000]).await.expect("written");
    store.close().await.expect("closes");
}

async fn refused(path: &Path) -> ErrorKind {
    RocksdbConfig::new(path).destroy().await.expect_err("refused").kind()
}

#[tokio::test]
async fn a_new_database_is_new_and_a_destroyed_one_gone() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("d.rocksdb");
    assert!(!RocksdbConfig::new(&path).exists().await.expect("tells"));
    assert_eq!(refused(&path).await, ErrorKind::NotFound);
    make(&path).await;
    assert!(RocksdbConfig::new(&path).exists().await.expect("tells"));
    let again = RocksdbConfig::new(&path).create(Create::New).open().await.expect_err("there");
    assert_eq!(again.kind(), ErrorKind::AlreadyExists, "{}", again.chain());
    RocksdbConfig::new(&path).destroy().await.expect("destroyed");
    assert!(!path.exists());
    make(&path).await;
}

#[tokio::test]
async fn an_open_database_is_not_destroyed() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("d.rocksdb");
    let store = RocksdbConfig::new(&path).open().await.expect("opens");
    store.set("k", "v").await.expect("written");
    assert_eq!(refused(&path).await, ErrorKind::Locked);
    assert!(!path.join("tiered-removing").exists());
    store.close().await.expect("closes");
    RocksdbConfig::new(&path).destroy().await.expect("destroyed");
}

#[tokio::test]
async fn files_of_others_stay_and_so_does_their_folder() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("d.rocksdb");
    make(&path).await;
    fs::write(path.join("notes.txt"), "of others").expect("written");
    RocksdbConfig::new(&path).destroy().await.expect("destroyed");
    let left: Vec<_> =
        fs::read_dir(&path).expect("reads").map(|entry| entry.expect("an entry").file_name()).collect();
    assert_eq!(left, ["notes.txt"]);
    let theirs = folder.path().join("theirs");
    drop(DB::open_default(&theirs).expect("made"));
    assert_eq!(refused(&theirs).await, ErrorKind::Foreign);
    let exists = RocksdbConfig::new(&theirs).exists().await.expect_err("foreign");
    assert_eq!(exists.kind(), ErrorKind::Foreign);
    DB::open_default(&theirs).expect("still a database");
}

#[tokio::test]
async fn an_interrupted_removal_is_not_opened_and_is_finished() {
    let folder = tempfile::tempdir().expect("a folder");
    for gone in 0..4 {
        let path = folder.path().join(format!("{gone}.rocksdb"));
        make(&path).await;
        // As a killed process leaves it, with ever fewer files.
        let text = "A RocksDB database of tiered is being removed from this folder.\n";
        fs::write(path.join("tiered-removing"), text).expect("written");
        let mut names: Vec<_> =
            fs::read_dir(&path).expect("reads").map(|entry| entry.expect("an entry").path()).collect();
        names.sort();
        for name in names.iter().filter(|name| !name.ends_with("tiered-removing")).take(gone) {
            fs::remove_file(name).expect("removed");
        }
        for create in [Create::Never, Create::IfAbsent, Create::New] {
            let error = RocksdbConfig::new(&path).create(create).open().await.expect_err("refused");
            assert_eq!(error.kind(), ErrorKind::Corrupt, "{}", error.chain());
            assert!(error.to_string().contains("destroy it again"), "{error}");
        }
        assert!(RocksdbConfig::new(&path).exists().await.expect("tells"));
        RocksdbConfig::new(&path).destroy().await.expect("destroyed");
        assert!(!path.exists());
    }
}

#[tokio::test]
async fn only_a_database_that_was_never_used_is_taken_back() {
    for (used, taken) in [(false, true), (true, false)] {
        for before in [Before::Absent, Before::Empty] {
            let folder = tempfile::tempdir().expect("a folder");
            let path = folder.path().join("d.rocksdb");
            if before == Before::Empty {
                fs::create_dir(&path).expect("prepared");
            }
            let store = RocksdbConfig::new(&path).create(Create::New).open().await.expect("made");
            ownership::ensure_id(&store).await.expect("an id");
            if used {
                store.set("k", "v").await.expect("written");
            }
            let again = || async { RocksdbConfig::new(&path).take_back(before).await.expect("no error") };
            assert!(!again().await, "it is open");
            store.close().await.expect("closes");
            assert_eq!(again().await, taken);
            match (taken, before) {
                (true, Before::Absent) => assert!(!path.exists()),
                (true, Before::Empty) => assert_eq!(fs::read_dir(&path).expect("there").count(), 0),
                (false, _) => assert!(RocksdbConfig::new(&path).exists().await.expect("tells")),
            }
        }
    }
}

/// A removal that begins while another opening waits for RocksDB's lock does not win: what is open is not marked as half
/// removed.
#[tokio::test]
async fn what_was_opened_beside_a_removal_is_whole() {
    const OPENINGS: u32 = 60;
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("d.rocksdb");
    let over = AtomicBool::new(false);
    // Both run on threads of their own beneath.
    let removals = async {
        let mut removed = 0;
        while !over.load(Ordering::Relaxed) {
            removed += u32::from(RocksdbConfig::new(&path).destroy().await.is_ok());
        }
        removed
    };
    let opens = async {
        let mut opened = 0;
        while opened < OPENINGS {
            // Refused where the removal has the lock, or has begun.
            let Ok(store) = RocksdbConfig::new(&path).open().await else { continue };
            opened += 1;
            assert!(!path.join("tiered-removing").exists(), "opening {opened}");
            store.set("k", "v").await.expect("written");
            assert!(!path.join("tiered-removing").exists(), "opening {opened}, written");
            store.close().await.expect("closes");
        }
        over.store(true, Ordering::Relaxed);
    };
    let (removed, ()) = tokio::join!(removals, opens);
    assert!(removed > 0, "removals were among them");
}
