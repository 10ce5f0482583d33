//! The memory tier: the conformance suite, and what is its own.

use std::sync::Arc;
use std::time::Duration;

use tiered_conformance::{Eviction, Factory};
use tiered_core::{ErrorKind, Key, Put, Result, Store};
use tiered_moka::{MokaConfig, MokaStore};

struct Memory(MokaStore);

#[async_trait::async_trait]
impl Factory for Memory {
    async fn open(&self) -> Result<Arc<dyn Store>> {
        Ok(Arc::new(self.0.clone()))
    }

    fn eviction(&self) -> Eviction {
        Eviction::Never
    }
}

mod suite {
    //! Strictly, in a cache with room for all that the suite writes.
    tiered_conformance::suite!(super::Memory(
        tiered_moka::MokaConfig::new(256 << 20).max_value(4 << 20).build().expect("builds")
    ));
}

#[test]
fn settings_that_cannot_work_are_refused() {
    let kind = |config: MokaConfig| config.build().expect_err("refused").kind();
    assert_eq!(kind(MokaConfig::new(0)), ErrorKind::Config);
    assert_eq!(kind(MokaConfig::new(1).ttl(Duration::ZERO)), ErrorKind::Config);
    assert_eq!(kind(MokaConfig::new(1).ttl(Duration::MAX)), ErrorKind::Config);
}

#[tokio::test]
async fn memory_is_bounded_and_the_most_recently_used_stays() {
    let capacity = 1 << 20;
    let store = MokaConfig::new(capacity).build().expect("builds");
    let key = |index: usize| Key::new(format!("key-{index}")).expect("valid");
    for index in 0..5_000 {
        store.put(&key(index), Put::new(vec![0; 1024])).await.expect("written");
        // What has just been written is there: nothing rejects it.
        assert!(store.peek(&key(index)).is_some());
    }
    store.settle();
    assert!(store.used() <= capacity, "{} bytes in a cache of {capacity}", store.used());
    assert!(store.peek(&key(4_999)).is_some() && store.peek(&key(0)).is_none());
    let large = store.put(&key(0), Put::new(vec![0; 2 << 20])).await.expect_err("larger than the cache");
    assert_eq!(large.kind(), ErrorKind::TooLarge);
}
