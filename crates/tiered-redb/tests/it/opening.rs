//! Opening: what is made, what is refused, and that nothing of others is touched.

use std::fs;

use futures_util::future::join_all;
use tiered_core::{ErrorKind, Key, Put, Store, StoreExt as _};
use tiered_redb::{Create, RedbConfig, WriteDurability};

#[tokio::test]
async fn each_path_that_is_not_a_database_has_its_error() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name);
    fs::write(path("text"), "this is no database, and longer than a header of one").expect("written");
    fs::write(path("short"), "x").expect("written");
    fs::write(path("empty"), "").expect("written");
    fs::create_dir(path("folder")).expect("made");
    let other = redb::Database::create(path("other.redb")).expect("made");
    let transaction = other.begin_write().expect("begins");
    transaction.open_table(redb::TableDefinition::<u64, u64>::new("theirs")).expect("opens");
    transaction.commit().expect("commits");
    drop(other);
    let table = [
        ("text", Create::IfAbsent, ErrorKind::Foreign),
        ("short", Create::IfAbsent, ErrorKind::Foreign),
        ("empty", Create::Never, ErrorKind::Foreign),
        ("folder", Create::IfAbsent, ErrorKind::Foreign),
        ("other.redb", Create::IfAbsent, ErrorKind::Foreign),
        ("absent", Create::Never, ErrorKind::NotFound),
        ("no/such/folder", Create::IfAbsent, ErrorKind::NotFound),
        ("text/below-a-file", Create::IfAbsent, ErrorKind::NotFound),
    ];
    for (name, create, kind) in table {
        let error = RedbConfig::new(path(name)).create(create).open().await.expect_err(name);
        assert_eq!(error.kind(), kind, "{name}: {}", error.chain());
    }
    assert_eq!(
        fs::read(path("text")).expect("reads"),
        b"this is no database, and longer than a header of one"
    );
    assert_eq!(fs::read(path("short")).expect("reads"), b"x");
    assert!(!path("absent").exists());
    RedbConfig::new(path("empty")).open().await.expect("an empty file is initialised");
}

#[tokio::test]
async fn a_second_open_of_a_database_is_refused_as_locked() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = RedbConfig::new(folder.path().join("d.redb"));
    let store = config.clone().open().await.expect("opens");
    let error = config.clone().open().await.expect_err("open already");
    assert_eq!(error.kind(), ErrorKind::Locked);
    store.close().await.expect("closes");
    config.open().await.expect("free again");
}

#[tokio::test]
async fn racing_creators_open_the_same_database_in_turn() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("d.redb");
    let opened = join_all((0..8).map(|_| RedbConfig::new(&path).open())).await;
    let won = opened.iter().filter(|opened| opened.is_ok()).count();
    assert!(won <= 1, "the file is locked for the others");
    for error in opened.iter().filter_map(|opened| opened.as_ref().err()) {
        assert_eq!(error.kind(), ErrorKind::Locked, "{}", error.chain());
    }
}

#[tokio::test]
async fn buffered_writes_survive_a_clean_close() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = RedbConfig::new(folder.path().join("d.redb")).durability(WriteDurability::Buffer);
    let key = Key::new("k").expect("valid");
    let store = config.clone().open().await.expect("opens");
    let writes = (0..600).map(|index| {
        let store = &store;
        async move { store.put(&Key::new(format!("{index}")).expect("valid"), Put::new(vec![1; 3000])).await }
    });
    assert!(join_all(writes).await.iter().all(Result::is_ok));
    store.put(&key, Put::new("v")).await.expect("written");
    store.close().await.expect("closes");
    let store = config.open().await.expect("opens");
    assert_eq!(store.get(&key).await.expect("reads").expect("found").value(), "v");
    assert_eq!(store.keys("").await.expect("lists").len(), 601);
}
