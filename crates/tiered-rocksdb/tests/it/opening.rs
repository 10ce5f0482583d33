//! Opening: what is made, what is refused, and that nothing of others is touched.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use futures_util::FutureExt as _;
use futures_util::future::join_all;
use rocksdb::DB;
use tiered_core::{ErrorKind, Key, Outcome, Put, Store, StoreExt as _};
use tiered_rocksdb::{Access, Create, RocksdbConfig, WriteDurability};

/// Every file of a folder with its bytes.
fn snapshot(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(folder).expect("reads").map(|entry| entry.expect("an entry").path());
    entries.map(|path| (path.display().to_string(), fs::read(&path).expect("reads"))).collect()
}

#[tokio::test]
async fn each_path_that_is_not_a_database_has_its_error_and_is_unchanged() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name);
    fs::write(path("text"), "no database").expect("written");
    fs::create_dir(path("empty")).expect("made");
    fs::create_dir(path("photos")).expect("made");
    fs::write(path("photos/cat.png"), "a cat").expect("written");
    let theirs = DB::open_default(path("theirs")).expect("made");
    theirs.put("their key", "their value").expect("written");
    drop(theirs);
    let families = DB::open_cf(
        &{
            let mut options = rocksdb::Options::default();
            options.create_if_missing(true);
            options.create_missing_column_families(true);
            options
        },
        path("families"),
        ["users"],
    );
    drop(families.expect("made"));
    let table = [
        ("text", Create::IfAbsent, ErrorKind::Foreign),
        ("empty", Create::Never, ErrorKind::Foreign),
        ("photos", Create::IfAbsent, ErrorKind::Foreign),
        ("theirs", Create::IfAbsent, ErrorKind::Foreign),
        ("families", Create::IfAbsent, ErrorKind::Foreign),
        ("absent", Create::Never, ErrorKind::NotFound),
        ("no/such/folder", Create::IfAbsent, ErrorKind::NotFound),
        ("text/below-a-file", Create::IfAbsent, ErrorKind::NotFound),
    ];
    let before = ["photos", "theirs", "families"].map(|name| snapshot(&path(name)));
    for (name, create, kind) in table {
        let error = RocksdbConfig::new(path(name)).create(create).open().await.expect_err(name);
        assert_eq!(error.kind(), kind, "{name}: {}", error.chain());
        assert!(error.chain().contains(name.split('/').next().expect("a name")), "{}", error.chain());
    }
    assert_eq!(before, ["photos", "theirs", "families"].map(|name| snapshot(&path(name))));
    assert!(!path("absent").exists());
    RocksdbConfig::new(path("empty")).open().await.expect("an empty folder is initialised");
}

#[tokio::test]
async fn a_database_is_locked_while_open_and_free_after_its_close() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = RocksdbConfig::new(folder.path().join("d"));
    let store = config.clone().open().await.expect("opens");
    let error = config.clone().open().await.expect_err("open already");
    assert_eq!(error.kind(), ErrorKind::Locked, "{}", error.chain());
    store.close().await.expect("closes");
    config.open().await.expect("free again");
}

#[tokio::test]
async fn an_interrupted_creation_is_completed() {
    let folder = tempfile::tempdir().expect("a folder");
    let marker = "A RocksDB database of tiered is being made in this folder.\n";
    // Before RocksDB had written anything that matters.
    let path = folder.path().join("d");
    fs::create_dir(&path).expect("made");
    for name in ["LOCK", "IDENTITY", "MANIFEST-000001", "000001.dbtmp"] {
        fs::write(path.join(name), "").expect("written");
    }
    fs::write(path.join("tiered-making"), marker).expect("written");
    RocksdbConfig::new(&path).open().await.expect("opens").close().await.expect("closes");
    // Further on: a database without any column family of ours, and without data.
    let path = folder.path().join("e");
    drop(DB::open_default(&path).expect("made"));
    fs::write(path.join("tiered-making"), marker).expect("written");
    let error = RocksdbConfig::new(&path).create(Create::Never).open().await.expect_err("nothing yet");
    assert_eq!(error.kind(), ErrorKind::Foreign);
    RocksdbConfig::new(&path).open().await.expect("opens").close().await.expect("closes");
    // A finished one that has lost a file is not made anew.
    fs::remove_file(path.join("CURRENT")).expect("removed");
    let before = snapshot(&path);
    let error = RocksdbConfig::new(&path).open().await.expect_err("damaged");
    assert_eq!(error.kind(), ErrorKind::Foreign, "{}", error.chain());
    assert_eq!(snapshot(&path), before);
    // The marker itself was not finished: then there is nothing else.
    let path = folder.path().join("f");
    fs::create_dir(&path).expect("made");
    fs::write(path.join("tiered-making"), &marker[..9]).expect("written");
    RocksdbConfig::new(&path).open().await.expect("opens");
    assert!(!path.join("tiered-making").exists());
}

#[tokio::test]
async fn files_with_similar_names_are_not_touched() {
    let folder = tempfile::tempdir().expect("a folder");
    for name in
        ["LOG", "LOG.txt", "MANIFEST-of-the-party", "OPTIONS-for-dinner", "thesis.dbtmp", "LOCK", "IDENTITY"]
    {
        let path = folder.path().join(name);
        fs::create_dir(&path).expect("made");
        fs::write(path.join(name), "mine").expect("written");
        let before = snapshot(&path);
        let error = RocksdbConfig::new(&path).open().await.expect_err(name);
        assert_eq!(error.kind(), ErrorKind::Foreign, "{name}: {}", error.chain());
        assert_eq!(snapshot(&path), before, "{name}");
    }
    // An empty database of another program looks as one whose making was interrupted, but for the marker.
    let path = folder.path().join("theirs");
    drop(DB::open_default(&path).expect("made"));
    let before = snapshot(&path);
    let error = RocksdbConfig::new(&path).open().await.expect_err("theirs");
    assert_eq!(error.kind(), ErrorKind::Foreign, "{}", error.chain());
    assert_eq!(snapshot(&path), before);
}

#[tokio::test]
async fn a_read_only_open_changes_nothing_in_the_folder() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("d");
    let key = Key::new("k").expect("valid");
    let reading = RocksdbConfig::new(&path).access(Access::ReadOnly);
    assert_eq!(reading.clone().open().await.expect_err("absent").kind(), ErrorKind::NotFound);
    assert!(!path.exists(), "nothing is made");
    let store = RocksdbConfig::new(&path).open().await.expect("opens");
    store.put(&key, Put::new("v")).await.expect("written");
    store.close().await.expect("closes");
    let before = snapshot(&path);
    for _ in 0..2 {
        let store = reading.clone().open().await.expect("opens");
        assert_eq!(store.get(&key).await.expect("reads").expect("found").value(), "v");
        let error = store.put(&key, Put::new("w")).await.expect_err("only read");
        assert_eq!((error.kind(), error.outcome()), (ErrorKind::PermissionDenied, Some(Outcome::NotApplied)));
        store.close().await.expect("closes");
        assert_eq!(snapshot(&path), before);
    }
}

#[tokio::test]
async fn a_dropped_store_can_be_reopened_immediately() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = RocksdbConfig::new(folder.path().join("d"));
    for round in 0..10 {
        let store = config.clone().open().await.unwrap_or_else(|error| panic!("{round}: {}", error.chain()));
        store.put(&Key::new("k").expect("valid"), Put::new(vec![7; 200_000])).await.expect("written");
        drop(store);
    }
}

#[test]
fn opening_without_a_runtime_is_an_error() {
    let folder = tempfile::tempdir().expect("a folder");
    let opened = RocksdbConfig::new(folder.path().join("d")).open().now_or_never().expect("answers at once");
    assert_eq!(opened.expect_err("no runtime").kind(), ErrorKind::Config);
}

#[tokio::test]
async fn racing_creators_open_the_same_database_in_turn() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("d");
    let opened = join_all((0..8).map(|_| RocksdbConfig::new(&path).open())).await;
    assert_eq!(opened.iter().filter(|opened| opened.is_ok()).count(), 1, "the others find it locked");
    for error in opened.iter().filter_map(|opened| opened.as_ref().err()) {
        assert_eq!(error.kind(), ErrorKind::Locked, "{}", error.chain());
    }
}

/// A look reads names and markers one after the other, while another makes the database.
#[tokio::test]
async fn a_database_that_is_being_made_is_never_taken_for_something_else() {
    let folder = tempfile::tempdir().expect("a folder");
    for round in 0..30 {
        let config = RocksdbConfig::new(folder.path().join(round.to_string()));
        let mut making = std::pin::pin!(config.clone().open());
        let store = loop {
            tokio::select! {
                made = &mut making => break made.expect("opens"),
                seen = config.clone().exists() => {
                    assert!(seen.is_ok(), "{}", seen.expect_err("refused").chain());
                }
            }
        };
        store.close().await.expect("closes");
    }
}

#[tokio::test]
async fn unsynced_writes_survive_a_clean_close() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = RocksdbConfig::new(folder.path().join("d")).durability(WriteDurability::Buffer);
    let store = config.clone().open().await.expect("opens");
    let writes = (0..600).map(|index| {
        let store = &store;
        async move { store.put(&Key::new(format!("{index}")).expect("valid"), Put::new(vec![1; 3000])).await }
    });
    assert!(join_all(writes).await.iter().all(Result::is_ok));
    store.close().await.expect("closes");
    let store = config.open().await.expect("opens");
    assert_eq!(store.keys("").await.expect("lists").len(), 600);
}

#[tokio::test]
async fn a_value_not_in_the_block_cache_is_read_from_disk() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = RocksdbConfig::new(folder.path().join("d")).cache(RocksdbConfig::MIN_CACHE);
    let store = config.clone().open().await.expect("opens");
    let value = |index: u8| vec![index; 100 + 4_000 * usize::from(index)];
    for index in 0..100 {
        store
            .put(&Key::new(format!("{index}")).expect("valid"), Put::new(value(index)))
            .await
            .expect("written");
    }
    store.close().await.expect("closes");
    let store = config.open().await.expect("opens");
    for _ in 0..2 {
        for index in 0..100 {
            let read = store.get(&Key::new(format!("{index}")).expect("valid")).await.expect("reads");
            assert_eq!(*read.expect("found").value(), value(index));
        }
    }
}
