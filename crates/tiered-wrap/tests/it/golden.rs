//! The formats, as bytes that never change: values that an earlier version wrote stay readable.
//!
//! The bytes of encrypted values are those of another implementation of the documented format, over the AES-GCM-SIV of OpenSSL.

use tiered_core::adapter::Checksum;
use tiered_core::{Entry, Key, MemoryStore, Put, Store, StoreExt as _, Version, adapter};
use tiered_wrap::{Compressed, Compression, Encrypted, EncryptionKey, Keys};

const VERSION: u128 = 0x0123_4567_89ab_cdef_fedc_ba98_7654_3210;

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
}

fn unhex(digits: &str) -> Vec<u8> {
    let byte = |index: usize| u8::from_str_radix(&digits[index..index + 2], 16).expect("digits");
    (0..digits.len()).step_by(2).map(byte).collect()
}

/// What is stored of a put of `value` under [`VERSION`].
async fn stored(store: &dyn Store, inside: &MemoryStore, name: &str, value: &str, version: Version) -> Entry {
    let put = adapter::with_version(Put::new(value.to_owned()), version);
    store.put(&Key::new(name).expect("valid"), put).await.expect("written");
    assert_eq!(store.get(name).await.expect("read").expect("there").value(), value.as_bytes());
    inside.get(name).await.expect("read").expect("there")
}

fn noted(entry: &Entry) -> Option<&str> {
    entry.metadata().attributes.get("wrap-0")
}

#[tokio::test]
async fn a_compressed_value_is_these_bytes() {
    let inside = MemoryStore::new();
    let store = Compressed::new(inside.clone(), Compression::Lz4).expect("wraps");
    let version = Version::from_u128(VERSION);
    let short = stored(&store, &inside, "short", "hello", version.clone()).await;
    assert_eq!(hex(short.value()), "74777a010000000005000000000000004cbb719a43c1318e68656c6c6f");
    assert_eq!(noted(&short), Some("z1.5"));
    let long = stored(&store, &inside, "long", &"ab".repeat(50), version).await;
    assert_eq!(hex(long.value()), LONG);
}

/// Fifty times "ab", by lz4.
const LONG: &str = "74777a01010000006400000000000000e99263db54ccafaa0d0000002f616202004960616261626162";

/// What an encoder makes may change with its version. What was written stays readable.
#[tokio::test]
async fn compressed_bytes_of_before_are_read() {
    let inside = MemoryStore::new();
    let store = Compressed::new(inside.clone(), Compression::Lz4).expect("wraps");
    inside.set("long", unhex(LONG)).await.expect("written");
    assert_eq!(store.get("long").await.expect("read").expect("there").value(), "ab".repeat(50).as_bytes());
}

#[tokio::test]
async fn an_encrypted_value_is_these_bytes() {
    let inside = MemoryStore::new();
    let bytes = std::array::from_fn(|index| u8::try_from(index).expect("small"));
    let keys = Keys::new(EncryptionKey::new("2026-a", bytes).expect("valid"));
    let store = Encrypted::new(inside.clone(), keys).expect("wraps");
    let entry = stored(&store, &inside, "k", "hello", Version::from_u128(VERSION)).await;
    assert_eq!(
        hex(entry.value()),
        "7477650101060000323032362d6100000000000000000000000000000000000000000000000000008f7c63c3ab97dfe90500000000000000f86ddeac00000000f784afe51a4e2d59e9dd61e7ad11b85528e4909e71b064b754dbb110bc69cbdb90635babb3"
    );
    assert_eq!(noted(&entry), Some("e1.5.acde6df8.8f7c63c3.2026-a"));
    let token = Version::from_token("\"etag\"").expect("valid");
    let entry = stored(&store, &inside, "t", "", token).await;
    assert_eq!(
        hex(entry.value()),
        "7477650101060000323032362d6100000000000000000000000000000000000000000000000000008f7c63c3ab97dfe900000000000000003cb683c5000000004f29da931d8ca744249e79d3660ee05f"
    );
    // Two frames, by their checksum.
    let value: Vec<u8> =
        (0..65_546_u32).map(|index| u8::try_from((index * 7 + 3) % 256).expect("small")).collect();
    let put = adapter::with_version(Put::new(value), Version::from_u128(VERSION));
    store.put(&Key::new("k").expect("valid"), put).await.expect("written");
    let entry = inside.get("k").await.expect("read").expect("there");
    assert_eq!((entry.size(), entry.metadata().checksum.map(Checksum::as_u32)), (65_658, Some(0x119a_5e97)));
}
