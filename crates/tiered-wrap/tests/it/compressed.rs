//! What is compressed, what is kept, and what cannot be read.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use tiered_conformance::{Intercept, Interceptor};
use tiered_core::{
    Attributes, ByteStream, Delete, Error, ErrorKind, Freshness, Key, ListOptions, MemoryStore, Metadata,
    Outcome, Precondition, Put, Read, ReadOptions, Result, Store, StoreExt as _, adapter,
};
use tiered_wrap::{Compressed, Compression};

/// Bytes of a head without an index.
const HEAD: u64 = 24;

fn key(text: &str) -> Key {
    Key::new(text).expect("valid")
}

/// Bytes that do not shrink.
fn noise(len: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    };
    (0..len).map(|_| next()).collect()
}

fn store(inside: &MemoryStore) -> Compressed {
    Compressed::new(inside.clone(), Compression::Lz4).expect("wraps")
}

async fn stored(inside: &MemoryStore, name: &str) -> Bytes {
    inside.get(name).await.expect("read").expect("there").into_value()
}

#[tokio::test]
async fn what_does_not_shrink_is_kept() {
    let inside = MemoryStore::new();
    let store = store(&inside);
    let (text, noise) = ("a line of text\n".repeat(20_000), noise(300_000));
    // Half of the frames shrink.
    let mixed = [text.as_bytes(), &noise].concat();
    for (name, value) in [("text", text.as_bytes()), ("noise", &noise), ("mixed", &mixed), ("tiny", b"tiny")]
    {
        store.set(name, value.to_vec()).await.expect("written");
        assert_eq!(store.get(name).await.expect("read").expect("there").value(), value);
        let size = stored(&inside, name).await.len() as u64;
        assert!(size <= HEAD + value.len() as u64, "{name}: {size} bytes for {}", value.len());
    }
    assert!(stored(&inside, "text").await.len() < 20_000);
    assert_eq!(stored(&inside, "noise").await.len() as u64, HEAD + 300_000);
    assert!(stored(&inside, "mixed").await.len() < 330_000);
}

#[tokio::test]
async fn a_range_of_a_large_value_reads_its_frames_alone() {
    let inside = MemoryStore::new();
    let store = store(&inside);
    let value = noise(1 << 20);
    store.set("k", value.clone()).await.expect("written");
    // What lies in other frames may be damaged.
    let mut damaged = stored(&inside, "k").await.to_vec();
    let last = damaged.len() - 1;
    damaged[last] ^= 1;
    damaged[100_000] ^= 1;
    replace(&inside, "k", damaged).await;
    let range = 500_000..700_000;
    let part =
        store.get_range("k", range.start as u64..range.end as u64).await.expect("read").expect("there");
    assert_eq!(part.value(), &value[range]);
    assert_eq!(store.get("k").await.expect_err("damaged").kind(), ErrorKind::Corrupt);
}

/// Puts other bytes in the place of a stored value, and nothing else.
async fn replace(inside: &MemoryStore, name: &str, bytes: Vec<u8>) {
    let entry = inside.get(name).await.expect("read").expect("there");
    inside.put(&key(name), adapter::verbatim(&entry).value(bytes)).await.expect("written");
}

#[tokio::test]
async fn a_cut_value_and_one_of_another_codec_are_errors_and_stay() {
    let inside = MemoryStore::new();
    let store = store(&inside);
    let text = "a line of text\n".repeat(20_000);
    store.set("k", text.clone()).await.expect("written");
    let whole = stored(&inside, "k").await;
    let mut later = whole.to_vec();
    later[3] = 2;
    let mut unknown = whole.to_vec();
    unknown[4] = 200;
    let mut long = whole.to_vec();
    long.push(0);
    let cases = [
        (whole[..whole.len() - 1].to_vec(), ErrorKind::Corrupt),
        (whole[..30].to_vec(), ErrorKind::Corrupt),
        (long, ErrorKind::Corrupt),
        (whole[..10].to_vec(), ErrorKind::Corrupt),
        (Vec::new(), ErrorKind::Foreign),
        (b"a value that another program wrote, and longer than a head".to_vec(), ErrorKind::Foreign),
        (later, ErrorKind::Unsupported),
        (unknown, ErrorKind::Corrupt),
    ];
    for (bytes, kind) in cases {
        replace(&inside, "k", bytes.clone()).await;
        let before = inside.snapshot();
        let read = store.get("k").await.expect_err("not readable");
        assert_eq!((read.kind(), read.key()), (kind, Some(&key("k"))), "{}", read.chain());
        let range = store.get_range("k", 70_000..70_001).await.expect_err("not readable");
        assert_eq!(range.kind(), kind, "{}", range.chain());
        let streamed = match store.read_stream(&key("k"), &ReadOptions::new()).await {
            Ok(streamed) => {
                let (_, body) = streamed.expect("there");
                let parts: Vec<_> = body.collect().await;
                parts.into_iter().find_map(Result::err)
            }
            Err(error) => Some(error),
        };
        assert_eq!(streamed.expect("not readable").kind(), kind);
        let many = store.get_many(&[key("k")], &ReadOptions::new()).await;
        assert_eq!(many[0].as_ref().expect_err("not readable").kind(), kind);
        let repair = Put::new("repaired").precondition(Precondition::Damaged);
        assert!(store.put(&key("k"), repair).await.is_err(), "memory finds no damage");
        assert_eq!(inside.snapshot(), before, "nothing is overwritten");
    }
}

#[tokio::test]
async fn every_flipped_bit_of_a_head_is_found() {
    let inside = MemoryStore::new();
    let store = store(&inside);
    store.set("k", "a line of text\n".repeat(10_000)).await.expect("written");
    let whole = stored(&inside, "k").await;
    // The head, and the index of three frames.
    for bit in 0..(24 + 12) * 8 {
        let mut bytes = whole.to_vec();
        bytes[bit / 8] ^= 1 << (bit % 8);
        replace(&inside, "k", bytes).await;
        assert!(store.get("k").await.is_err(), "bit {bit}");
        assert!(store.get_range("k", 0..10).await.is_err(), "bit {bit}");
    }
}

#[tokio::test]
async fn a_listing_goes_on_after_a_value_that_cannot_be_read() {
    let inside = MemoryStore::new();
    let store = store(&inside);
    for name in ["a", "c"] {
        store.set(name, "value").await.expect("written");
    }
    inside.set("b", "a value that another program wrote").await.expect("written");
    let listed: Vec<_> = store.list(ListOptions::new()).collect().await;
    assert_eq!(listed.len(), 3);
    let error = listed[1].as_ref().expect_err("foreign");
    assert_eq!(error.damaged_key(), Some(&key("b")), "{}", error.chain());
    assert_eq!(listed[2].as_ref().expect("listed").size, 5);
    // An unconditional write replaces it, as any other.
    store.delete(&key("b"), Delete::new()).await.expect("deleted");
    assert_eq!(store.keys("").await.expect("lists").len(), 2);
}

#[tokio::test]
async fn sizes_are_those_of_the_values_however_full_the_attributes_are() {
    let inside = MemoryStore::new();
    let store = store(&inside);
    let full = Attributes::new().with("n", &"x".repeat(Attributes::MAX_SIZE - 1)).expect("fits");
    for (name, attributes) in [("few", Attributes::new()), ("full", full)] {
        let put = Put::new("a line\n".repeat(1_000)).attributes(attributes.clone());
        store.put(&key(name), put).await.expect("written");
        let head = store.head(&key(name), &ReadOptions::new()).await.expect("read").expect("there");
        assert_eq!((head.size, &head.attributes), (7_000, &attributes));
        let listed = store.list(ListOptions::new().prefix(name)).next().await.expect("one").expect("listed");
        assert_eq!(listed.metadata.as_deref(), Some(&*head));
        assert!(head.checksum.is_none(), "beneath this store it would stand in the clear");
    }
}

#[tokio::test]
async fn a_value_beyond_the_limit_is_refused_before_it_is_written() {
    let inside = MemoryStore::new().declaring(|all| all.with_max_value(1_000));
    let store = store(&inside);
    assert_eq!(store.capabilities().max_value(), 1_000 - HEAD);
    let error = store
        .set("k", vec![0; 1_000])
        .await
        .expect_err("it would fit compressed, and is refused all the same");
    assert_eq!((error.kind(), error.write_outcome()), (ErrorKind::TooLarge, Outcome::NotApplied));
    let tiny = MemoryStore::new().declaring(|all| all.with_max_value(HEAD - 1));
    let refused = Compressed::new(tiny, Compression::Lz4).expect_err("no room for a head");
    assert_eq!(refused.kind(), ErrorKind::Config);
}

#[cfg(feature = "zstd")]
#[tokio::test]
async fn values_of_both_methods_are_read_by_either() {
    let inside = MemoryStore::new();
    let stores = [
        store(&inside),
        Compressed::new(inside.clone(), Compression::from_name("zstd").expect("there")).expect("wraps"),
    ];
    let value = "a line of text\n".repeat(20_000);
    for (store, name) in stores.iter().zip(["lz4", "zstd"]) {
        store.set(name, value.clone()).await.expect("written");
    }
    for store in &stores {
        for name in ["lz4", "zstd"] {
            assert_eq!(store.get(name).await.expect("read").expect("there").value(), value.as_bytes());
            let part = store.get_range(name, 100_000..100_010).await.expect("read").expect("there");
            assert_eq!(part.value(), &value.as_bytes()[100_000..100_010]);
        }
    }
}

/// Compares a checksum of its own at the end of a stream, as S3 does, and finds damage.
#[derive(Debug)]
struct DamagedAtTheEnd;

#[async_trait]
impl Interceptor for DamagedAtTheEnd {
    async fn read_stream(
        &self,
        inner: &dyn Store,
        key: &Key,
        options: &ReadOptions,
    ) -> Result<Option<(Arc<Metadata>, ByteStream)>> {
        let damage = || stream::once(async { Err(Error::new(ErrorKind::Corrupt, "another checksum")) });
        let found = inner.read_stream(key, options).await?;
        Ok(found.map(|(metadata, body)| (metadata, body.chain(damage()).boxed())))
    }
}

#[tokio::test]
async fn damage_that_the_store_inside_tells_of_at_the_end_of_a_stream_is_told() {
    let inside = MemoryStore::new();
    store(&inside).set("k", noise(200_000)).await.expect("written");
    let damaged = Compressed::new(Intercept::new(inside, DamagedAtTheEnd), Compression::Lz4).expect("wraps");
    for options in [ReadOptions::new(), ReadOptions::new().range(70_000..70_010)] {
        let (_, body) = damaged.read_stream(&key("k"), &options).await.expect("begins").expect("there");
        let error = body.try_collect::<Vec<_>>().await.expect_err("damaged at the end");
        assert_eq!((error.kind(), error.key()), (ErrorKind::Corrupt, Some(&key("k"))), "{}", error.chain());
    }
}

/// Lists sizes alone, and remembers an absence in its cached reads.
#[derive(Debug)]
struct RemembersAbsence;

#[async_trait]
impl Interceptor for RemembersAbsence {
    fn list(&self, inner: &dyn Store, options: ListOptions) -> tiered_core::ListStream {
        let listing = inner.list(options);
        listing.map_ok(|listed| tiered_core::Listed::new(listed.key, listed.size)).boxed()
    }

    async fn load(&self, inner: &dyn Store, key: &Key, options: &ReadOptions) -> Result<Read> {
        if options.freshness == Freshness::Cached {
            return Ok(Read::from_store(tiered_core::Lookup::Absent));
        }
        inner.load(key, options).await
    }
}

#[tokio::test]
async fn a_listed_key_is_listed_though_a_tier_inside_remembers_its_absence() {
    let inside = MemoryStore::new();
    store(&inside).set("k", "value").await.expect("written");
    let over = Compressed::new(Intercept::new(inside, RemembersAbsence), Compression::Lz4).expect("wraps");
    let listed: Vec<_> = over.list(ListOptions::new()).try_collect().await.expect("lists");
    assert_eq!(
        listed.iter().map(|listed| (listed.key.as_str(), listed.size)).collect::<Vec<_>>(),
        [("k", 5)]
    );
}

/// Replaces the value by one that takes less room, between the read of the head and the stream.
#[derive(Debug)]
struct Replaces(MemoryStore, AtomicBool);

#[async_trait]
impl Interceptor for Replaces {
    async fn read_stream(
        &self,
        inner: &dyn Store,
        key: &Key,
        options: &ReadOptions,
    ) -> Result<Option<(Arc<Metadata>, ByteStream)>> {
        if !self.1.swap(true, Ordering::Relaxed) {
            store(&self.0).put(key, Put::new(vec![0; 400_000])).await?;
        }
        inner.read_stream(key, options).await
    }
}

#[tokio::test]
async fn a_range_of_both_values_is_read_though_the_new_one_takes_less_room() {
    let inside = MemoryStore::new();
    store(&inside).set("k", noise(400_000)).await.expect("written");
    let replaces = Replaces(inside.clone(), AtomicBool::new(false));
    let over = Compressed::new(Intercept::new(inside, replaces), Compression::Lz4).expect("wraps");
    let options = ReadOptions::new().range(390_000..390_004);
    let (_, body) = over.read_stream(&key("k"), &options).await.expect("read").expect("there");
    let read = body.try_collect::<Vec<_>>().await.expect("read").concat();
    assert_eq!(read, [0; 4]);
}

/// Lists a key that is gone when it is looked up, without its metadata.
#[derive(Debug)]
struct FirstIsGone;

#[async_trait]
impl Interceptor for FirstIsGone {
    fn list(&self, inner: &dyn Store, options: ListOptions) -> tiered_core::ListStream {
        let listing = inner.list(options);
        listing.map_ok(|listed| tiered_core::Listed::new(listed.key, listed.size)).boxed()
    }

    async fn load(&self, inner: &dyn Store, key: &Key, options: &ReadOptions) -> Result<Read> {
        if key.as_str() == "a" {
            return Ok(Read::from_store(tiered_core::Lookup::Absent));
        }
        inner.load(key, options).await
    }
}

#[tokio::test]
async fn a_limit_counts_the_keys_that_are_listed() {
    let inside = MemoryStore::new();
    for name in ["a", "b", "c", "d"] {
        store(&inside).set(name, "value").await.expect("written");
    }
    let over = Compressed::new(Intercept::new(inside, FirstIsGone), Compression::Lz4).expect("wraps");
    let listed: Vec<_> = over.list(ListOptions::new().limit(2)).try_collect().await.expect("lists");
    assert_eq!(listed.iter().map(|listed| listed.key.as_str()).collect::<Vec<_>>(), ["b", "c"]);
}
