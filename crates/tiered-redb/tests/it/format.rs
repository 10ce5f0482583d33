//! A database of an older version of tiered: read, written to, and refused by that version from then on.

use std::path::Path;

use redb::{Database, ReadableDatabase, ReadableTable as _, TableDefinition};
use tiered_core::{Delete, Durability, Key, Put, Store, StoreExt as _};
use tiered_redb::{Access, Create, RedbConfig, RedbStore};

const MARKER: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("tiered");
const META: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("meta");
const CHUNKS: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("chunks");

/// What the last version with format 2 had written for a key `old` with a value of 1,500 bytes, and `small` with `tiny`.
const OLD: &str = "745202004d92d137000100000000000000a12de8cfdd3ae1f0cb0b5622a2010000dc050000000000006a12091700000000000000000000000000000000000000";
const SMALL: &str = "745202015f1daa04000200000000000000a12de8cfdd3ae1f0510c5622a201000004000000000000005e6ffe600000000000000000000000000000000000000074696e79";
const SEAL: &str = "4d8d16fb";
const CHUNK: &[u8] = b"old\0\0\0\0\0";

fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<_> = hex.chars().map(|digit| digit.to_digit(16).expect("a digit")).collect();
    let (pairs, _) = digits.as_chunks::<2>();
    pairs.iter().map(|[high, low]| u8::try_from(high * 16 + low).expect("a byte")).collect()
}

fn value() -> Vec<u8> {
    (0..1_500_u32).map(|index| u8::try_from(index % 251).expect("a byte")).collect()
}

/// Makes a database of format 2.
async fn make(path: &Path) {
    RedbConfig::new(path).open().await.expect("made").close().await.expect("closes");
    let database = Database::open(path).expect("opens");
    let transaction = database.begin_write().expect("begins");
    {
        transaction.open_table(MARKER).expect("opens").insert("format", &b"2"[..]).expect("set");
        let mut meta = transaction.open_table(META).expect("opens");
        meta.insert(&b"old"[..], bytes(OLD).as_slice()).expect("set");
        meta.insert(&b"small"[..], bytes(SMALL).as_slice()).expect("set");
        let chunk = [bytes(SEAL), value()].concat();
        transaction.open_table(CHUNKS).expect("opens").insert(CHUNK, chunk.as_slice()).expect("set");
    }
    transaction.commit().expect("commits");
}

/// Its format, and the names of its chunks.
fn look(path: &Path) -> (Vec<u8>, Vec<Vec<u8>>) {
    let database = Database::open(path).expect("opens");
    let transaction = database.begin_read().expect("begins");
    let marker = transaction.open_table(MARKER).expect("opens");
    let format = marker.get("format").expect("reads").expect("there").value().to_vec();
    let chunks = transaction.open_table(CHUNKS).expect("opens");
    let names = chunks.iter().expect("reads").map(|pair| pair.expect("reads").0.value().to_vec());
    (format, names.collect())
}

async fn reads(store: &RedbStore) {
    let old = store.get("old").await.expect("reads").expect("there");
    assert_eq!(old.value(), &value());
    assert_eq!(
        store.get_range("old", 700..710).await.expect("reads").expect("there").value(),
        &value().into_iter().skip(700).take(10).collect::<Vec<u8>>()
    );
    assert_eq!(store.get("small").await.expect("reads").expect("there").value(), "tiny");
}

#[tokio::test]
async fn a_database_of_the_format_before_is_read_and_written_to() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("old.redb");
    make(&path).await;
    let config = RedbConfig::new(&path).create(Create::Never);
    let store = config.clone().access(Access::ReadOnly).open().await.expect("opens");
    reads(&store).await;
    store.close().await.expect("closes");
    assert_eq!(look(&path).0, b"2", "a reader changes nothing");

    let store = config.clone().open().await.expect("opens");
    assert_eq!(store.capabilities().durability(), Durability::PowerLoss);
    reads(&store).await;
    store.set("new", vec![7; 5_000]).await.expect("written");
    store.close().await.expect("closes");
    let (format, names) = look(&path);
    assert_eq!(format, b"3", "the version before refuses it now");
    assert_eq!(names.len(), 2);

    let store = config.open().await.expect("opens");
    reads(&store).await;
    store.put(&Key::new("old").expect("valid"), Put::new(vec![1; 3_000])).await.expect("written");
    assert_eq!(store.get("old").await.expect("reads").expect("there").value(), &vec![1; 3_000]);
    assert_eq!(store.get("new").await.expect("reads").expect("there").value(), &vec![7; 5_000]);
    store.delete(&Key::new("new").expect("valid"), Delete::new()).await.expect("removed");
    store.close().await.expect("closes");
    let (_, names) = look(&path);
    assert_eq!(names.len(), 1, "the old chunk is gone with its entry");
    assert!(!names.iter().any(|name| name == CHUNK));
}
