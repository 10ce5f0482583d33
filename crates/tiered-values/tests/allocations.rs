//! A typed hit allocates what the decoding does, and nothing else.

use std::alloc::System;
use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use tiered_core::{Key, MemoryStore, TieredStore};
use tiered_moka::MokaConfig;
use tiered_values::{BoxError, Postcard, Result, Typed};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Polls once: a hit is ready at once.
fn at_once<T>(hit: impl Future<Output = Result<Option<T>>>) -> T {
    let mut hit = pin!(hit);
    match hit.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value.expect("reads").expect("a hit"),
        Poll::Pending => unreachable!("a hit waits for nothing"),
    }
}

fn hold<T>(value: &T) {
    std::hint::black_box(value);
}

#[test]
fn a_typed_hit_allocates_what_the_decoding_does() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("builds");
    let (plain, text, key) = runtime.block_on(async {
        let frontend = MokaConfig::new(1 << 20).build().expect("builds");
        let store = TieredStore::builder(frontend, MemoryStore::new()).build().await.expect("builds");
        let plain = Typed::<[u8; 32]>::new(store.clone(), Postcard).expect("valid");
        let text = Typed::<String>::new(store, Postcard).expect("valid");
        let key = Key::new("plain").expect("valid");
        plain.put(&key, &[7; 32]).await.expect("written");
        text.put("text", &"a text".to_owned()).await.expect("written");
        (plain, text, key)
    });
    let rounds = |expected: usize, hit: &dyn Fn()| {
        hit();
        // The cache allocates for its own housekeeping now and then: some rounds without it show what a hit does.
        (0..1000).any(|_| {
            let region = Region::new(ALLOCATOR);
            (0..10).for_each(|_| hit());
            let change = region.change();
            change.allocations == 10 * expected && change.reallocations == 0
        })
    };
    let loader = || async { Ok::<_, BoxError>(None) };
    assert!(rounds(0, &|| hold(&at_once(plain.get(&key)))), "an array is decoded in place");
    assert!(rounds(0, &|| hold(&at_once(plain.get("plain")))), "a short key is inline");
    assert!(rounds(0, &|| hold(&at_once(plain.get_with(&key, loader)))), "a hit calls no loader");
    assert!(rounds(1, &|| hold(&at_once(text.get("text")))), "a text is one allocation");
}
