//! What results of 0.14 tell beside the object.

use std::time::Duration;

use tiered_core::{
    CommitLevel, Freshness, MemoryStore, Source, TieredStore, VolatileJournal, WritePolicy, Written,
};
use tiered_object_store::Answer;
use tiered_object_store::v0_14::ObjectView;
use tiered_object_store::v0_14::object_store::path::Path;
use tiered_object_store::v0_14::object_store::{
    Extensions, GetOptions, GetResult, ObjectStore, ObjectStoreExt,
};

fn answer(got: &GetResult) -> Answer {
    *got.extensions.get::<Answer>().expect("told")
}

#[tokio::test]
async fn a_read_tells_which_tier_answered() {
    let stack = TieredStore::builder(MemoryStore::new(), MemoryStore::new()).build().await.expect("builds");
    let view = ObjectView::new(stack.clone());
    let path = Path::from("a");
    view.put(&path, "value".into()).await.expect("puts");
    let hit = answer(&view.get(&path).await.expect("gets"));
    assert_eq!((hit.source(), hit.is_hit(), hit.is_stale()), (Source::Frontend, true, false));
    let mut fresh = Extensions::new();
    fresh.insert(Freshness::Authoritative);
    let asked = GetOptions::new().with_extensions(fresh);
    let miss = answer(&view.get_opts(&path, asked).await.expect("gets"));
    assert_eq!((miss.source(), miss.is_hit(), miss.age()), (Source::Backend, false, Duration::ZERO));
}

#[tokio::test]
async fn a_write_gives_its_receipt() {
    let stack = TieredStore::builder(MemoryStore::new(), MemoryStore::new())
        .write_policy(WritePolicy::WriteBehind)
        .journal(VolatileJournal::new())
        .build()
        .await
        .expect("builds");
    let view = ObjectView::new(stack);
    let put = view.put(&Path::from("a"), "value".into()).await.expect("puts");
    let written = put.extensions.get::<Written>().expect("told");
    assert_eq!(written.level, CommitLevel::Journaled);
    written.receipt.durable(CommitLevel::Committed).await.expect("reaches the backend");
}
