//! Flipped bits: the right value or a clear error, never other data or a silent absence.

use std::fs;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use tiered_core::{ErrorKind, Key, Put, Store, StoreExt as _};
use tiered_rocksdb::{Create, RocksdbConfig, RocksdbStore};

/// Flips tried. Spread over each file by a multiplicative step, the same in every run.
const FLIPS: u64 = 500;

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> =
        fs::read_dir(folder).expect("reads").map(|entry| entry.expect("an entry").path()).collect();
    files.sort();
    files
}

fn copy(from: &Path, to: &Path) {
    fs::remove_dir_all(to).ok();
    fs::create_dir(to).expect("made");
    for file in files(from) {
        fs::copy(&file, to.join(file.file_name().expect("a name"))).expect("copied");
    }
}

fn values() -> Vec<(Key, Bytes)> {
    let sizes = [10, 900, 5_000, 70_000];
    (0_u8..)
        .zip(sizes)
        .map(|(index, size)| {
            let value: Vec<u8> =
                (0..size).map(|at: u32| at.to_le_bytes()[0].wrapping_mul(31) ^ index).collect();
            (Key::new(format!("key-{index}")).expect("valid"), Bytes::from(value))
        })
        .collect()
}

/// What became of a store with one flipped bit: whether that was noticed.
async fn check(store: &RocksdbStore, at: &str) -> bool {
    let mut noticed = false;
    for (key, value) in values() {
        match store.get(&key).await {
            Ok(found) => {
                let found = found.map(|entry| entry.value().clone());
                assert_eq!(found, Some(value), "{at}: other data under {key}, or none");
            }
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Corrupt, "{at}: {}", error.chain());
                assert_eq!(error.key(), Some(&key), "{at}: {}", error.chain());
                noticed = true;
            }
        }
    }
    noticed
}

#[tokio::test]
async fn a_flipped_bit_is_detected_or_harmless() {
    let folder = tempfile::tempdir().expect("a folder");
    let (good, bad) = (folder.path().join("good"), folder.path().join("bad"));
    let small = |path: &Path| RocksdbConfig::new(path).cache(1 << 20).write_buffer(1 << 20);
    let store = small(&good).open().await.expect("opens");
    for (key, value) in values() {
        store.put(&key, Put::new(value)).await.expect("written");
    }
    store.close().await.expect("closes");
    // Each file in turn, so that the small ones (manifest, current) are met as often as the tables.
    let places: Vec<PathBuf> =
        files(&good).into_iter().filter(|file| fs::metadata(file).expect("there").len() > 0).collect();
    let mut noticed = 0;
    for flip in 0..FLIPS {
        let place = &places[usize::try_from(flip).expect("small") % places.len()];
        let bits = fs::metadata(place).expect("there").len() * 8;
        let bit = flip.wrapping_mul(0x9E37_79B9_7F4A_7C15) % bits;
        copy(&good, &bad);
        let name = place.file_name().expect("a name").to_string_lossy().into_owned();
        let at = format!("{name} bit {bit}");
        let mut bytes = fs::read(place).expect("reads");
        bytes[usize::try_from(bit / 8).expect("fits")] ^= 1 << (bit % 8);
        fs::write(bad.join(&name), bytes).expect("written");
        match small(&bad).create(Create::Never).open().await {
            Ok(store) => {
                noticed += u64::from(check(&store, &at).await);
                store.close().await.ok();
            }
            Err(error) => {
                let kinds = [ErrorKind::Corrupt, ErrorKind::Foreign];
                assert!(kinds.contains(&error.kind()), "{at}: {}", error.chain());
                noticed += 1;
            }
        }
    }
    assert!(noticed > FLIPS / 10, "too few flips met anything that is checked: {noticed}");
}
