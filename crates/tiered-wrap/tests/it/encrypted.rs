//! What encryption protects, and what it says where it cannot read.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::StreamExt as _;
use tiered_core::adapter::Checksum;
use tiered_core::{
    Attributes, Entry, ErrorKind, Feature, Key, ListOptions, MemoryStore, Metadata, Outcome, Precondition,
    Put, ReadOptions, Store, StoreExt as _, Version, adapter,
};
use tiered_wrap::{Encrypted, EncryptionKey, Keys};

fn key(text: &str) -> Key {
    Key::new(text).expect("valid")
}

fn a() -> EncryptionKey {
    EncryptionKey::new("a", [1; 32]).expect("valid")
}

fn b() -> EncryptionKey {
    EncryptionKey::new("b", [2; 32]).expect("valid")
}

fn store(inside: &MemoryStore) -> Encrypted {
    Encrypted::new(inside.clone(), Keys::new(a())).expect("wraps")
}

async fn entry(inside: &MemoryStore, name: &str) -> Entry {
    inside.get(name).await.expect("read").expect("there")
}

/// Puts other bytes in the place of a stored value, and nothing else.
async fn replace(inside: &MemoryStore, name: &str, bytes: impl Into<Bytes>) {
    let entry = entry(inside, name).await;
    inside.put(&key(name), adapter::verbatim(&entry).value(bytes)).await.expect("written");
}

fn value(len: usize) -> Vec<u8> {
    (0..len).map(|index| u8::try_from(index % 251).expect("small")).collect()
}

#[tokio::test]
async fn equal_versions_give_equal_ciphertext_and_others_do_not() {
    let (one, other) = (MemoryStore::new(), MemoryStore::new());
    let put = |version: u128| adapter::with_version(Put::new(value(100_000)), Version::from_u128(version));
    store(&one).put(&key("k"), put(7)).await.expect("written");
    store(&other).put(&key("k"), put(7)).await.expect("written");
    let retried = entry(&one, "k").await;
    assert_eq!(retried.value(), entry(&other, "k").await.value());
    // A retry under the same id is the same write.
    store(&one).put(&key("k"), put(7)).await.expect("written");
    let first = entry(&one, "k").await;
    assert_eq!(first.value(), retried.value());
    for (name, version) in [("k", 8), ("l", 7)] {
        store(&other).put(&key(name), put(version)).await.expect("written");
        let differs = entry(&other, name).await;
        let equal = first.value().iter().zip(differs.value()).skip(64).filter(|(a, b)| a == b).count();
        assert!(equal < 1_000, "{equal} of 100,000 bytes are equal");
    }
    // A copy between tiers has the version, and so the bytes.
    let copied = MemoryStore::new();
    let plain = store(&one).get("k").await.expect("read").expect("there");
    store(&copied).put(&key("k"), adapter::verbatim(&plain)).await.expect("written");
    assert_eq!(entry(&copied, "k").await, first);
}

#[tokio::test]
async fn every_flipped_bit_is_found_by_whole_reads_and_ranges() {
    let inside = MemoryStore::new();
    let store = store(&inside);
    store.set("k", value(20)).await.expect("written");
    let whole = entry(&inside, "k").await.into_value();
    for bit in 0..whole.len() * 8 {
        let mut bytes = whole.to_vec();
        bytes[bit / 8] ^= 1 << (bit % 8);
        replace(&inside, "k", bytes).await;
        assert!(store.get("k").await.is_err(), "bit {bit}");
        assert!(store.get_range("k", 3..4).await.is_err(), "bit {bit}");
    }
}

#[tokio::test]
async fn frames_can_be_neither_moved_nor_cut_off_nor_taken_from_elsewhere() {
    let inside = MemoryStore::new();
    let store = store(&inside);
    let (head, frame) = (80, (64 << 10) + 16);
    for name in ["k", "l"] {
        store.set(name, value(3 * (64 << 10))).await.expect("written");
    }
    let whole = entry(&inside, "k").await.into_value();
    let other = entry(&inside, "l").await.into_value();
    let part = |of: &Bytes, index: usize| of.slice(head + index * frame..head + (index + 1) * frame);
    let join = |parts: &[Bytes]| parts.concat();
    let begin = whole.slice(..head);
    let swapped = join(&[begin.clone(), part(&whole, 1), part(&whole, 0), part(&whole, 2)]);
    let cut = join(&[begin.clone(), part(&whole, 0), part(&whole, 1)]);
    let mixed = join(&[begin, part(&whole, 0), part(&other, 1), part(&whole, 2)]);
    for (what, bytes) in
        [("swapped", swapped), ("cut", cut), ("mixed", mixed), ("of another key", other.to_vec())]
    {
        replace(&inside, "k", bytes).await;
        for range in [None, Some(70_000..70_010)] {
            let read = match range.clone() {
                Some(range) => store.get_range("k", range).await,
                None => store.get("k").await,
            };
            assert_eq!(read.expect_err(what).kind(), ErrorKind::Corrupt, "{what} {range:?}");
        }
        let streamed = match store.read_stream(&key("k"), &ReadOptions::new()).await {
            Ok(streamed) => {
                let parts: Vec<_> = streamed.expect("there").1.collect().await;
                parts.into_iter().find_map(Result::err)
            }
            Err(error) => Some(error),
        };
        assert_eq!(streamed.expect(what).kind(), ErrorKind::Corrupt);
    }
    // Nor passes a value for that of another version.
    let old = entry(&inside, "l").await;
    store.set("l", "new").await.expect("written");
    let new = entry(&inside, "l").await;
    let copy = Entry::from_parts(old.into_value(), Arc::clone(new.metadata()));
    inside.put(&key("l"), adapter::verbatim(&copy)).await.expect("written");
    assert_eq!(store.get("l").await.expect_err("older").kind(), ErrorKind::Corrupt);
}

#[tokio::test]
async fn a_wrong_key_is_told_and_overwrites_nothing() {
    let inside = MemoryStore::new();
    store(&inside).set("k", "value").await.expect("written");
    let before = inside.snapshot();
    let wrong = Keys::new(EncryptionKey::new("a", [9; 32]).expect("valid"));
    for (keys, says) in [(Keys::new(b()), "not among the keys"), (wrong, "another key with the id")] {
        let store = Encrypted::new(inside.clone(), keys).expect("wraps");
        for error in [
            store.get("k").await.map(drop).expect_err("unreadable"),
            store.get_range("k", 0..1).await.map(drop).expect_err("unreadable"),
            store.read_stream(&key("k"), &ReadOptions::new()).await.map(drop).expect_err("unreadable"),
        ] {
            assert_eq!((error.kind(), error.key()), (ErrorKind::Config, Some(&key("k"))));
            assert!(error.message().contains(says), "{error}");
        }
        // Sizes are listed all the same, and no checksum that would be wrong.
        let listed = store.list(ListOptions::new().values(100)).next().await.expect("one").expect("listed");
        let metadata = listed.metadata.expect("listed");
        assert_eq!((listed.size, metadata.checksum, listed.value), (5, None, None));
        assert_eq!(inside.snapshot(), before);
    }
}

#[tokio::test]
async fn a_repair_replaces_what_is_damaged_and_nothing_else() {
    let folder = tempfile::tempdir().expect("a folder");
    // redb finds damage of its own, so the precondition is judged.
    let inside: Arc<dyn Store> =
        Arc::new(tiered_redb::RedbConfig::new(folder.path().join("data.redb")).open().await.expect("opens"));
    assert!(inside.capabilities().has(Feature::DetectsCorruption));
    let store = Encrypted::new(Arc::clone(&inside), Keys::new(a())).expect("wraps");
    let repair = || Put::new("repaired").precondition(Precondition::Damaged);
    store.set("k", "value").await.expect("written");
    let refused = store.put(&key("k"), repair()).await.expect_err("it is good");
    assert_eq!(refused.kind(), ErrorKind::PreconditionFailed);
    let other = Encrypted::new(Arc::clone(&inside), Keys::new(b())).expect("wraps");
    let refused = other.put(&key("k"), repair()).await.expect_err("a wrong key is no damage");
    assert_eq!(
        (refused.kind(), refused.write_outcome()),
        (ErrorKind::PreconditionFailed, Outcome::NotApplied)
    );
    let good = inside.get("k").await.expect("read").expect("there");
    let mut bytes = good.value().to_vec();
    *bytes.last_mut().expect("some") ^= 1;
    inside.put(&key("k"), adapter::verbatim(&good).value(bytes)).await.expect("written");
    assert_eq!(store.get("k").await.expect_err("damaged").kind(), ErrorKind::Corrupt);
    store.put(&key("k"), repair()).await.expect("repaired");
    assert_eq!(store.get("k").await.expect("read").expect("there").value(), "repaired");
    store.close().await.expect("closes");
}

#[tokio::test]
async fn head_and_list_tell_size_and_checksum_of_the_plaintext() {
    let inside = MemoryStore::new();
    let store = store(&inside);
    let full = Attributes::new().with("n", &"x".repeat(Attributes::MAX_SIZE - 1)).expect("fits");
    for (name, attributes) in [("few", Attributes::new().with("lang", "en").expect("valid")), ("full", full)]
    {
        store.put(&key(name), Put::new("plain").attributes(attributes.clone())).await.expect("written");
        let checksum = Some(Checksum::of(b"plain"));
        let head = store.head(&key(name), &ReadOptions::new()).await.expect("read").expect("there");
        assert_eq!((head.size, head.checksum, &head.attributes), (5, checksum, &attributes));
        let listed = store.list(ListOptions::new().prefix(name)).next().await.expect("one").expect("listed");
        assert_eq!((listed.size, listed.metadata.as_deref()), (5, Some(&*head)));
        // A checksum in the clear would tell a short value.
        let crc = format!("{:08x}", Checksum::of(b"plain").as_u32());
        let stored = entry(&inside, name).await;
        assert!(stored.metadata().attributes.iter().all(|(_, text)| !text.contains(&crc)));
        assert!(!stored.value().windows(4).any(|part| part == Checksum::of(b"plain").as_u32().to_le_bytes()));
    }
}

#[tokio::test]
async fn a_rotation_rewrites_what_is_under_another_key_and_keeps_the_rest() {
    let inside = MemoryStore::new();
    let old = store(&inside);
    let attributes = Attributes::new().with("lang", "en").expect("valid");
    for name in ["x/1", "x/2", "y"] {
        old.put(&key(name), Put::new(name.to_owned()).attributes(attributes.clone())).await.expect("written");
    }
    let before: Metadata = (**old.get("x/1").await.expect("read").expect("there").metadata()).clone();
    let both = Encrypted::new(inside.clone(), Keys::new(b()).and(a())).expect("wraps");
    both.set("x/3", "new").await.expect("written");
    let rotated = both.rotate("x/").await.expect("rotated");
    assert_eq!((rotated.rewritten, rotated.current, rotated.changed, rotated.failed), (2, 1, 0, 0));
    let after = both.get("x/1").await.expect("read").expect("there");
    assert_ne!(after.version(), &before.version, "another key is another version");
    let kept = (after.metadata().modified, &after.metadata().attributes, after.value());
    assert_eq!(kept, (before.modified, &attributes, &Bytes::from("x/1")));
    let new = Encrypted::new(inside.clone(), Keys::new(b())).expect("wraps");
    assert_eq!(new.get("x/2").await.expect("read").expect("there").value(), "x/2");
    let failed = new.rotate("").await.expect("rotated");
    assert_eq!((failed.current, failed.failed), (3, 1));
    assert_eq!(failed.first_error.expect("one").kind(), ErrorKind::Config);
    assert_eq!(both.rotate("").await.expect("rotated").rewritten, 1);
    assert_eq!(new.rotate("").await.expect("rotated").current, 4);
}

#[test]
fn neither_debug_nor_errors_show_a_key() {
    let secret = "5ec7e7".repeat(10) + "abcd";
    let bytes = [0x5e; 32];
    let key = EncryptionKey::new("id", bytes).expect("valid");
    let store = Encrypted::new(MemoryStore::new(), Keys::new(key.clone())).expect("wraps");
    let mut texts = vec![format!("{key:?} {store:?}")];
    for text in [
        secret.clone(),
        format!("{secret} = id"),
        format!("id = {secret}0"),
        format!("id = {}g", &secret[1..]),
        format!("a = {secret}\na = {secret}"),
        String::new(),
    ] {
        let error = Keys::from_text(&text).expect_err("no keys");
        assert_eq!(error.kind(), ErrorKind::Config);
        texts.push(format!("{} {error:?}", error.chain()));
    }
    // A key in the place of a name.
    for error in [Keys::from_env(&secret), Keys::from_file(&secret)] {
        let error = error.expect_err("no such place");
        texts.push(format!("{} {error:?}", error.chain()));
    }
    for text in texts {
        assert!(!text.contains("5ec7") && !text.contains("5e5e") && !text.contains("94, 94"), "{text}");
    }
    assert!(Keys::from_text(&format!("# first\n\n id = {secret} \n")).is_ok());
}

#[tokio::test]
async fn a_store_without_metadata_is_refused() {
    let plain = MemoryStore::new().declaring(|all| all.without(Feature::KeepsMetadata));
    let error = Encrypted::new(plain, Keys::new(a())).expect_err("no versions");
    assert_eq!(error.kind(), ErrorKind::Config);
}
