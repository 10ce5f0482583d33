//! Flipped bits: the right value or a clear error, never a panic, other data, or a silent absence.

use std::fs;

use bytes::Bytes;
use tiered_core::{ErrorKind, Key, Put, Store, StoreExt as _};
use tiered_redb::{Create, RedbConfig};

/// Flips tried. Spread over the whole file by a multiplicative step, the same in every run.
const FLIPS: u64 = 500;

#[tokio::test]
async fn a_flipped_bit_is_detected_or_harmless() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("d.redb");
    let config = RedbConfig::new(&path).cache(1 << 20).create(Create::Never);
    let values: Vec<(Key, Bytes)> = [10, 900, 5_000, 70_000]
        .into_iter()
        .enumerate()
        .map(|(index, size)| {
            let fill = u8::try_from(index).expect("small");
            (Key::new(format!("key-{index}")).expect("valid"), Bytes::from(vec![fill; size]))
        })
        .collect();
    let store = RedbConfig::new(&path).open().await.expect("opens");
    for (key, value) in &values {
        store.put(key, Put::new(value.clone())).await.expect("written");
    }
    store.close().await.expect("closes");
    let good = fs::read(&path).expect("reads");
    let bits = good.len() as u64 * 8;
    let mut noticed = 0;
    for flip in 0..FLIPS {
        let bit = flip.wrapping_mul(0x9E37_79B9_7F4A_7C15) % bits;
        let mut bad = good.clone();
        bad[usize::try_from(bit / 8).expect("fits")] ^= 1 << (bit % 8);
        fs::write(&path, &bad).expect("written");
        let store = match config.clone().open().await {
            Ok(store) => store,
            Err(error) => {
                let kinds = [ErrorKind::Corrupt, ErrorKind::Foreign];
                assert!(kinds.contains(&error.kind()), "bit {bit}: {}", error.chain());
                noticed += 1;
                continue;
            }
        };
        for (key, value) in &values {
            match store.get(key).await {
                Ok(Some(entry)) => assert_eq!(entry.value(), value, "bit {bit}: other data under {key}"),
                Ok(None) => panic!("bit {bit}: {key} is silently absent"),
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::Corrupt, "bit {bit}: {}", error.chain());
                    noticed += 1;
                }
            }
        }
        store.close().await.expect("closes");
    }
    assert!(noticed > 0, "no flip met anything that is checked");
}
