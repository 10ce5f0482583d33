//! The time to live that a store gives to what is put without one.

use std::sync::Arc;
use std::time::Duration;

use futures_util::stream;
use tiered_core::adapter::{Stamp, VersionMint};
use tiered_core::settings::DefaultTtl;
use tiered_core::sync::{PopulateMissing, SyncOptions, sync};
use tiered_core::testing::ManualClock;
use tiered_core::{
    Batch, MemoryStore, Put, Store, StoreExt as _, TieredSettings, TieredStore, Timestamp, VolatileJournal,
    WritePolicy,
};

use crate::scripted::key;

const HOUR: Duration = Duration::from_hours(1);

fn clock() -> (Arc<ManualClock>, Stamp) {
    let clock = Arc::new(ManualClock::new(Timestamp::from_millis(1_000_000)));
    let stamp = Stamp::new(Arc::clone(&clock) as _, Arc::new(VersionMint::seeded(7)));
    (clock, stamp)
}

#[tokio::test(start_paused = true)]
async fn every_policy_gives_it_and_a_puts_own_word_wins() {
    for policy in [
        WritePolicy::WriteThrough,
        WritePolicy::WriteAround,
        WritePolicy::WriteBehind,
        WritePolicy::FrontendOnly,
    ] {
        let (clock, stamp) = clock();
        let tier = || MemoryStore::with_stamp(stamp.clone());
        let mut builder = TieredStore::builder(tier(), tier())
            .stamp(stamp.clone())
            .write_policy(policy)
            .default_ttl(HOUR)
            .prefix_ttl("kept/", DefaultTtl::Never)
            .prefix_ttl("kept/for a while/", HOUR * 2);
        if policy == WritePolicy::WriteBehind {
            builder = builder.journal(VolatileJournal::new());
        }
        let store = builder.build().await.expect("it fits");
        store.set("plain", "1").await.expect("set");
        store.set("never", Put::new("1").never_expires()).await.expect("set");
        store.set("short", Put::new("1").expires_in(HOUR / 2)).await.expect("set");
        store.set("kept/1", "1").await.expect("set");
        store.set("kept/for a while/1", "1").await.expect("set");
        store.apply(Batch::new().best_effort().put(key("batch"), "1")).await.expect("apply");
        let body = stream::iter([Ok("1".into())]);
        store.put_stream(&key("streamed"), Put::new(""), Box::pin(body)).await.expect("streamed");
        let there = async || {
            let mut there = Vec::new();
            for name in ["plain", "batch", "streamed", "short", "kept/for a while/1", "kept/1", "never"] {
                if store.contains(name).await.expect("contains") {
                    there.push(name);
                }
            }
            there
        };
        assert_eq!(there().await.len(), 7, "{policy:?}");
        clock.advance(HOUR / 2);
        assert_eq!(there().await, ["plain", "batch", "streamed", "kept/for a while/1", "kept/1", "never"]);
        clock.advance(HOUR / 2);
        assert_eq!(there().await, ["kept/for a while/1", "kept/1", "never"], "{policy:?}");
        clock.advance(HOUR);
        assert_eq!(there().await, ["kept/1", "never"], "{policy:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_replaced_keeps_its_own_and_copies_are_exact() {
    let (clock, stamp) = clock();
    let tier = || MemoryStore::with_stamp(stamp.clone());
    let builder = TieredStore::builder(tier(), tier()).stamp(stamp.clone()).default_ttl(HOUR);
    let store = builder.build().await.expect("it fits");
    store.set("k", Put::new("1").never_expires()).await.expect("set");
    store.update("k", |old| old.map(|old| Put::replacing(old, "2"))).await.expect("update");
    let source = tier();
    source.set("copied", "1").await.expect("set");
    sync(&source, &store, &PopulateMissing, &SyncOptions::new()).await.expect("sync");
    clock.advance(HOUR * 2);
    assert_eq!(store.keys("").await.expect("keys"), [key("copied"), key("k")]);
}

#[tokio::test(start_paused = true)]
async fn a_tier_that_is_a_stack_gives_its_own_only_to_what_has_none() {
    let (_, stamp) = clock();
    let tier = || MemoryStore::with_stamp(stamp.clone());
    let below = TieredStore::builder(tier(), tier()).stamp(stamp.clone()).default_ttl(HOUR);
    let below = below.build().await.expect("it fits");
    let above = TieredStore::builder(tier(), below).stamp(stamp.clone()).build().await.expect("it fits");
    above.set("k", "1").await.expect("set");
    let expiry = above.get("k").await.expect("get").expect("there").metadata().expires_at;
    assert_eq!(expiry, None, "the stack above stamps what is put into it");
}

#[test]
fn settings_read_and_write_it() {
    let text = "default-ttl = \"1h\"\nprefix-ttl = { \"a/\" = \"never\", \"b/\" = \"30m\" }\n";
    let settings: TieredSettings = toml::from_str(text).expect("valid");
    assert_eq!(settings.default_ttl, DefaultTtl::After(HOUR));
    assert_eq!(settings.prefix_ttl["a/"], DefaultTtl::Never);
    assert_eq!(settings.prefix_ttl["b/"], DefaultTtl::After(HOUR / 2));
    let again: TieredSettings = toml::from_str(&toml::to_string(&settings).expect("writes")).expect("reads");
    assert_eq!(again, settings);
    let error = toml::from_str::<TieredSettings>("default-ttl = 60").expect_err("no unit").to_string();
    assert!(error.contains("never"), "{error}");
}
