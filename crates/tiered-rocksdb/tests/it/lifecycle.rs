//! A database that is new, looked for, and destroyed.

use std::fs;
use std::path::Path;

use rocksdb::DB;
use tiered_core::{ErrorKind, Store as _, StoreExt as _};
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
