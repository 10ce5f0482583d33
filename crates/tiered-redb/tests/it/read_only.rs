//! Reading a file that may not be written to.

use std::fs;
use std::path::Path;

use tiered_core::{Batch, Delete, ErrorKind, Key, Outcome, Put, Store, StoreExt as _};
use tiered_redb::{Access, RedbConfig, RedbStore};

fn key(name: &str) -> Key {
    Key::new(name).expect("valid")
}

async fn make(path: &Path) -> RedbStore {
    let store = RedbConfig::new(path).open().await.expect("opens");
    store.put(&key("k"), Put::new("v")).await.expect("written");
    store.put(&key("large"), Put::new(vec![7; 200_000])).await.expect("written");
    store.set_mark("mark", Some("m".into())).await.expect("marked");
    store
}

fn reading(path: &Path) -> RedbConfig {
    RedbConfig::new(path).access(Access::ReadOnly)
}

#[tokio::test]
async fn a_read_only_store_reads_everything_and_writes_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("d.redb");
    make(&path).await.close().await.expect("closes");
    let before = fs::read(&path).expect("reads");
    // Two at a time.
    let other = reading(&path).open().await.expect("opens");
    let store = reading(&path).open().await.expect("opens");
    assert_eq!(store.get(&key("k")).await.expect("reads").expect("found").value(), "v");
    assert_eq!(store.get(&key("large")).await.expect("reads").expect("found").value().len(), 200_000);
    assert_eq!(store.keys("").await.expect("lists").len(), 2);
    assert_eq!(store.mark("mark").await.expect("reads").expect("marked"), "m");
    let refused = [
        store.put(&key("k"), Put::new("w")).await.err(),
        store.delete(&key("k"), Delete::new()).await.err(),
        store.apply(Batch::new().put(key("k"), Put::new("w"))).await.err(),
        store.set_mark("mark", None).await.err(),
    ];
    for error in refused {
        let error = error.expect("refused");
        assert_eq!(
            (error.kind(), error.outcome()),
            (ErrorKind::PermissionDenied, Some(Outcome::NotApplied)),
            "{}",
            error.chain()
        );
    }
    store.flush().await.expect("there is nothing to flush");
    let error = RedbConfig::new(&path).open().await.expect_err("it is read");
    assert_eq!(error.kind(), ErrorKind::Locked, "{}", error.chain());
    store.close().await.expect("closes");
    assert_eq!(store.get(&key("k")).await.expect_err("closed").kind(), ErrorKind::Closed);
    drop(other);
    assert!(fs::read(&path).expect("reads") == before, "the file was changed");
    RedbConfig::new(&path).open().await.expect("free again");
}

#[tokio::test]
async fn a_read_only_open_creates_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("absent");
    assert_eq!(reading(&path).open().await.expect_err("absent").kind(), ErrorKind::NotFound);
    assert!(!path.exists());
    fs::write(&path, "").expect("written");
    assert_eq!(reading(&path).open().await.expect_err("empty").kind(), ErrorKind::Foreign);
    assert_eq!(fs::metadata(&path).expect("there").len(), 0);
}

#[tokio::test]
async fn an_open_writer_excludes_readers() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("d.redb");
    let _writer = make(&path).await;
    assert_eq!(reading(&path).open().await.expect_err("written").kind(), ErrorKind::Locked);
}

#[tokio::test]
async fn a_read_only_open_after_an_unclean_close_says_what_to_do() {
    let folder = tempfile::tempdir().expect("a folder");
    let (path, copy) = (folder.path().join("d.redb"), folder.path().join("copy.redb"));
    let writer = make(&path).await;
    // As a killed process leaves it.
    fs::copy(&path, &copy).expect("copied");
    writer.close().await.expect("closes");
    let error = reading(&copy).open().await.expect_err("unrepaired");
    assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{}", error.chain());
    assert!(error.to_string().contains("open it once with read-write access"), "{error}");
    RedbConfig::new(&copy).open().await.expect("repaired").close().await.expect("closes");
    reading(&copy).open().await.expect("opens");
}
