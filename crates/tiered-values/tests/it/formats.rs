//! The record of codec and schema version, and the codecs.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tiered_core::{Attributes, MemoryStore, Put, StoreExt as _};
use tiered_values::{Codec, Error, FORMAT_ATTRIBUTE, Json, MessagePack, OnMismatch, Postcard, Typed};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Shape {
    Empty,
    Circle { radius: f64 },
    Lines(Vec<(i32, i32)>),
}

fn shapes() -> Vec<Shape> {
    vec![Shape::Empty, Shape::Circle { radius: 0.5 }, Shape::Lines(vec![(1, -1), (i32::MAX, i32::MIN)])]
}

#[test]
fn each_codec_gives_back_what_it_was_given_and_refuses_the_rest() {
    fn check(codec: &dyn Codec<Shape>) {
        for shape in shapes() {
            let bytes = codec.encode(&shape).expect("encodes");
            assert_eq!(codec.decode(&bytes).expect("decodes"), shape, "{}", codec.name());
            let longer = [&bytes[..], b"\0"].concat();
            codec.decode(&longer).expect_err("a byte too many");
            codec.decode(&bytes[..bytes.len() - 1]).expect_err("a byte too few");
        }
    }
    check(&Json);
    check(&MessagePack);
    check(&Postcard);
}

#[tokio::test]
async fn a_value_of_another_codec_or_schema_is_an_error_of_its_own_and_stays() {
    let store = Arc::new(MemoryStore::new());
    let first = Typed::<u32>::new(store.clone(), Json).expect("valid");
    first.put("k", &1).await.expect("written");
    let others = [
        Typed::<u32>::builder(store.clone(), Json).schema(2).build(),
        Typed::<u32>::new(store.clone(), Postcard),
        Typed::<u32>::new(store.clone(), MessagePack),
    ];
    for other in others {
        let other = other.expect("valid");
        let error = other.get("k").await.expect_err("of another format");
        assert!(matches!(&error, Error::Format { found: Some(found), .. } if found == "json/1"), "{error}");
        other.update("k", |_| 9).await.expect_err("of another format");
        other.get_with("k", || async { Ok::<_, Error>(Some(9)) }).await.expect_err("of another format");
        assert!(other.get_many(["k"]).await[0].is_err());
    }
    assert_eq!(first.get("k").await.expect("read"), Some(1));
}

#[tokio::test]
async fn a_mismatch_can_be_a_counted_miss_that_writes_replace() {
    let store = Arc::new(MemoryStore::new());
    let old = Typed::<u32>::new(store.clone(), Json).expect("valid");
    let new = Typed::<String>::builder(store.clone(), Json).schema(2).on_mismatch(OnMismatch::Miss);
    let new = new.build().expect("valid");
    for key in ["updated", "loaded"] {
        old.put(key, &1).await.expect("written");
        assert_eq!(new.get(key).await.expect("read"), None);
    }
    assert_eq!(new.stats().mismatches, 2);
    let (before, _) = new.update("updated", |before| format!("{before:?}")).await.expect("written");
    assert_eq!(before, None);
    let loaded = new.get_with("loaded", || async { Ok::<_, Error>(Some("new".to_owned())) }).await;
    assert_eq!(loaded.expect("loaded").as_deref(), Some("new"));
    for (key, value) in [("updated", "None"), ("loaded", "new")] {
        assert_eq!(new.get(key).await.expect("read").as_deref(), Some(value));
        old.get(key).await.expect_err("of another format now");
    }
}

#[tokio::test]
async fn a_value_that_does_not_decode_is_an_error_also_where_mismatches_are_misses() {
    let store = Arc::new(MemoryStore::new());
    let attributes = Attributes::new().with(FORMAT_ATTRIBUTE, "json/1").expect("valid");
    store.set("k", Put::new("{").attributes(attributes)).await.expect("written");
    let typed = Typed::<u32>::builder(store, Json).on_mismatch(OnMismatch::Miss).build().expect("valid");
    let error = typed.get("k").await.expect_err("damaged");
    assert!(matches!(error, Error::Decode { .. }));
    assert_eq!(tiered_core::Error::from(error).kind(), tiered_core::ErrorKind::Corrupt);
}

#[tokio::test]
async fn an_update_keeps_the_expiry_and_the_attributes_of_others() {
    let store = Arc::new(MemoryStore::new());
    let typed = Typed::<u32>::new(store.clone(), Json).expect("valid");
    let attributes = Attributes::new().with(FORMAT_ATTRIBUTE, "json/1").expect("valid");
    let attributes = attributes.with("owner", "ada").expect("valid");
    let at = tiered_core::Timestamp::from_millis(4_102_444_800_000);
    store.set("k", Put::new("1").attributes(attributes).expires_at(at)).await.expect("written");
    typed.update("k", |old| old.unwrap_or(&0) + 1).await.expect("written");
    let entry = store.get("k").await.expect("read").expect("there");
    let metadata = entry.metadata();
    assert_eq!((metadata.expires_at, metadata.attributes.get("owner")), (Some(at), Some("ada")));
    assert_eq!(metadata.attributes.get(FORMAT_ATTRIBUTE), Some("json/1"));
}

#[test]
fn a_store_that_keeps_no_attributes_is_refused() {
    let without = |all: tiered_core::Capabilities| all.without(tiered_core::Feature::KeepsMetadata);
    let error =
        Typed::<u32>::new(MemoryStore::new().declaring(without), Json).expect_err("no record is kept");
    assert_eq!(tiered_core::Error::from(error).kind(), tiered_core::ErrorKind::Unsupported);
}

/// The errors of serde quote what they found.
#[test]
fn values_stay_out_of_errors() {
    fn check<C: Codec<String> + Codec<u32> + Codec<Shape>>(codec: &C) {
        let bytes = codec.encode(&"canary".to_owned()).expect("encodes");
        let errors =
            [Codec::<u32>::decode(codec, &bytes).map(drop), Codec::<Shape>::decode(codec, &bytes).map(drop)];
        for error in errors {
            let error = error.expect_err("of another type");
            assert!(!format!("{error} {error:?}").contains("canary"), "{error:?}");
        }
    }
    check(&Json);
    check(&MessagePack);
    check(&Postcard);
}

#[test]
fn a_codec_with_a_name_that_no_attribute_can_hold_is_refused() {
    #[derive(Debug)]
    struct Named(&'static str);
    impl Codec<u32> for Named {
        fn name(&self) -> &str {
            self.0
        }
        fn encode(&self, _: &u32) -> Result<bytes::Bytes, tiered_values::BoxError> {
            Ok(bytes::Bytes::new())
        }
        fn decode(&self, _: &[u8]) -> Result<u32, tiered_values::BoxError> {
            Ok(0)
        }
    }
    for name in ["", "Json", "a/b", "naïve"] {
        Typed::<u32>::new(MemoryStore::new(), Named(name)).expect_err(name);
    }
    Typed::<u32>::new(MemoryStore::new(), Named("v2.custom_codec-x")).expect("valid");
}
