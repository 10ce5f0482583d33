//! The time of a hit beside that of moka's own look-up, measured in turns in one run and printed as ratios.
#![allow(clippy::print_stdout, reason = "a benchmark prints its figures")]

use std::future::Future;
use std::hint::black_box;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use tiered::adapter::{Clock as _, SystemClock};
use tiered::{Create, Key, Put, Store, StoreExt as _, TieredStore};

/// Hits of one turn.
const HITS: u32 = 200_000;
/// Turns; the median of each side counts, so that a busy moment of the machine does not.
const TURNS: usize = 31;

fn ready<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => unreachable!("a hit waits for nothing"),
    }
}

fn time(mut hit: impl FnMut()) -> f64 {
    let clock = SystemClock::new();
    let started = clock.uptime();
    for _ in 0..HITS {
        hit();
    }
    clock.uptime().saturating_sub(started).as_secs_f64() * 1e9 / f64::from(HITS)
}

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times.get(times.len() / 2).copied().unwrap_or_default()
}

fn main() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("builds");
    let key = Key::new("users/42/profile").expect("valid");
    let (store, entry) = runtime.block_on(async {
        let frontend = tiered::open("moka:", Create::IfAbsent).await.expect("opens");
        let backend = tiered::open("memory:", Create::IfAbsent).await.expect("opens");
        let store = TieredStore::builder(frontend, backend).build().await.expect("builds");
        store.put(&key, Put::new(vec![1; 1000])).await.expect("written");
        let entry = store.get(&key).await.expect("reads").expect("a hit");
        (store, entry)
    });
    let shared: Arc<dyn Store> = Arc::new(store.clone());
    let raw: moka::sync::Cache<Key, tiered::Entry, foldhash::fast::RandomState> =
        moka::sync::Cache::builder()
            .max_capacity(64 << 20)
            .eviction_policy(moka::policy::EvictionPolicy::lru())
            .build_with_hasher(foldhash::fast::RandomState::default());
    raw.insert(key.clone(), entry);
    let (mut own, mut dynamic, mut theirs) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..TURNS {
        theirs.push(time(|| drop(black_box(raw.get(black_box(&key))))));
        own.push(time(|| drop(black_box(ready(store.get(black_box(&key)))))));
        dynamic.push(time(|| drop(black_box(ready(shared.get(black_box(&key)))))));
    }
    let (own, dynamic, theirs) = (median(own), median(dynamic), median(theirs));
    println!("moka::sync::Cache::get        {theirs:6.1} ns   1.00");
    println!("TieredStore::get, a hit       {own:6.1} ns   {:.2}", own / theirs);
    println!("Arc<dyn Store>::get, a hit    {dynamic:6.1} ns   {:.2}", dynamic / theirs);
}
