//! Reads while the backend or the frontend is in trouble.

use std::sync::Arc;
use std::time::Duration;

use tiered_conformance::{DerivedReads, Intercept, Interceptor};
use tiered_core::adapter::{Clock, Stamp, VersionMint};
use tiered_core::settings::ServeStale;
use tiered_core::testing::ManualClock;
use tiered_core::{
    ErrorKind, Feature, MemoryStore, Outcome, Put, ReadOptions, Sharing, Source, Store, StoreExt as _,
    TieredBuilder, TieredStore, Timestamp, VolatileJournal, WritePolicy,
};

use crate::promises::{Mood, moody};
use crate::scripted::{Reading, Scripted, key, over, scripted};

/// A store over a scripted backend, on a clock that is moved by hand.
struct Bench {
    clock: Arc<ManualClock>,
    backend: Scripted,
    store: TieredStore,
}

impl Bench {
    async fn new(set: impl FnOnce(TieredBuilder) -> TieredBuilder) -> Self {
        let clock = Arc::new(ManualClock::new(Timestamp::from_millis(1_000_000)));
        let stamp = Stamp::new(Arc::clone(&clock) as Arc<dyn Clock>, Arc::new(VersionMint::seeded(1)));
        let backend = over(MemoryStore::with_stamp(stamp.clone()), Sharing::Shared);
        let frontend = Arc::new(MemoryStore::with_stamp(stamp.clone()));
        let builder = set(TieredStore::builder(frontend, backend.clone()).stamp(stamp));
        Self { clock, backend, store: builder.build().await.expect("it fits") }
    }

    async fn read(&self) -> tiered_core::Result<(Option<String>, bool)> {
        let read = self.store.load(&key("k"), &ReadOptions::new()).await?;
        let value = read.entry().map(|entry| String::from_utf8_lossy(entry.value()).into_owned());
        Ok((value, read.stale))
    }

    fn wait(&self, millis: u64) {
        self.clock.advance(Duration::from_millis(millis));
    }
}

fn value(text: &str, stale: bool) -> (Option<String>, bool) {
    (Some(text.to_owned()), stale)
}

#[tokio::test]
async fn an_absence_is_cached_until_its_negative_ttl() {
    let bench = Bench::new(|builder| builder.negative_ttl(Duration::from_millis(500))).await;
    assert_eq!(bench.read().await.expect("read"), (None, false));
    let (reads, read) =
        (bench.backend.reads(), bench.store.load(&key("k"), &ReadOptions::new()).await.expect("read"));
    assert_eq!((bench.backend.reads(), read.source), (reads, Source::Frontend), "the backend is spared");
    assert_eq!(bench.store.stats().absence_hits, 1);
    assert!(bench.store.head(&key("k"), &ReadOptions::new()).await.expect("head").is_none());
    bench.backend.inner().put(&key("k"), Put::new("theirs")).await.expect("put");
    assert_eq!(bench.read().await.expect("read"), (None, false), "another's write is seen later");
    bench.wait(501);
    assert_eq!(bench.read().await.expect("read"), value("theirs", false));
    bench.store.delete(&key("k"), tiered_core::Delete::new()).await.expect("delete");
    assert_eq!(bench.read().await.expect("read"), (None, false));
    bench.store.put(&key("k"), Put::new("ours")).await.expect("put");
    assert_eq!(bench.read().await.expect("read"), value("ours", false), "one's own at once");
}

#[tokio::test]
async fn a_stale_entry_within_its_bound_is_served_during_an_outage() {
    let bench = Bench::new(|builder| {
        builder.max_stale(Duration::from_millis(100)).serve_stale(Duration::from_secs(1))
    })
    .await;
    bench.store.put(&key("k"), Put::new("1").expires_in(Duration::from_mins(10))).await.expect("put");
    bench.backend.reads_are(Reading::Down);
    assert_eq!(bench.read().await.expect("a hit"), value("1", false));
    bench.wait(101);
    assert_eq!(bench.read().await.expect("stale"), value("1", true));
    let fresh = ReadOptions::new().authoritative();
    assert_eq!(
        bench.store.load(&key("k"), &fresh).await.expect_err("asked for").kind(),
        ErrorKind::Unavailable
    );
    bench.store.put(&key("k"), Put::new("2").expires_in(Duration::from_mins(10))).await.expect("put");
    bench.wait(101);
    assert_eq!(bench.read().await.expect("stale"), value("2", true), "with every write of this store");
    bench.wait(1_000);
    bench.read().await.expect_err("too old by now");
    assert_eq!(bench.store.stats().stale_answers, 2);
    bench.backend.reads_are(Reading::Well);
    assert_eq!(bench.read().await.expect("compared"), value("2", false));
    bench.backend.reads_are(Reading::Down);
    bench.wait(600_000);
    bench.read().await.expect_err("never past its expiry");
}

#[tokio::test]
async fn a_stale_answer_of_a_nested_store_stays_marked_and_keeps_its_age() {
    let bench = Bench::new(|builder| {
        builder.max_stale(Duration::from_millis(100)).serve_stale(ServeStale::Unlimited)
    })
    .await;
    let builder = TieredStore::builder(MemoryStore::new(), bench.store.clone());
    let outer = builder.max_stale(Duration::ZERO).build().await.expect("it fits");
    bench.store.put(&key("k"), Put::new("1")).await.expect("put");
    bench.backend.reads_are(Reading::Down);
    bench.wait(250);
    let read = outer.load(&key("k"), &ReadOptions::new()).await.expect("stale");
    assert_eq!((read.stale, read.age), (true, Duration::from_millis(250)));
}

#[tokio::test(start_paused = true)]
async fn a_read_waits_for_a_slow_backend_up_to_its_time_limits() {
    let bench = Bench::new(|builder| {
        builder
            .max_stale(Duration::from_millis(100))
            .serve_stale(ServeStale::Unlimited)
            .soft_read_timeout(Duration::from_millis(20))
            .read_timeout(Duration::from_millis(300))
    })
    .await;
    bench.store.put(&key("k"), Put::new("1")).await.expect("put");
    bench.backend.reads_are(Reading::Hangs);
    bench.wait(101);
    let begun = tokio::time::Instant::now();
    assert_eq!(bench.read().await.expect("stale"), value("1", true));
    assert_eq!(begun.elapsed().as_millis(), 20);
    let begun = tokio::time::Instant::now();
    let late = bench.store.get(&key("other")).await.expect_err("nothing to serve instead");
    assert_eq!((late.kind(), begun.elapsed().as_millis()), (ErrorKind::TimedOut, 300));
}

#[tokio::test]
async fn a_read_follows_no_load_that_was_sent_longer_ago_than_a_hit_may_be_old() {
    let bench = Bench::new(|builder| builder.max_stale(Duration::from_millis(100))).await;
    bench.backend.inner().put(&key("k"), Put::new("1")).await.expect("put");
    bench.backend.reads_are(Reading::Hangs);
    let reading = || {
        let store = bench.store.clone();
        tokio::runtime::Handle::current().spawn(async move { store.get(&key("k")).await })
    };
    let before = bench.backend.reads();
    let first = reading();
    tokio::task::yield_now().await;
    bench.wait(100);
    let second = reading();
    while bench.store.stats().joined == 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(bench.backend.reads() - before, 1, "two readers share a load");
    bench.wait(1);
    bench.backend.reads_are(Reading::Well);
    assert_eq!(bench.read().await.expect("another load"), value("1", false));
    assert_eq!(bench.backend.reads() - before, 2);
    assert!(!first.is_finished() && !second.is_finished());
    first.abort();
    second.abort();
}

#[tokio::test(start_paused = true)]
async fn a_soft_timeout_of_zero_waits_for_no_backend() {
    let bench = Bench::new(|builder| {
        let builder = builder.max_stale(Duration::from_millis(100)).serve_stale(ServeStale::Unlimited);
        builder.soft_read_timeout(Duration::ZERO)
    })
    .await;
    bench.store.put(&key("k"), Put::new("1")).await.expect("put");
    bench.backend.reads_are(Reading::Hangs);
    bench.wait(101);
    let begun = tokio::time::Instant::now();
    assert_eq!(bench.read().await.expect("stale"), value("1", true));
    assert!(begun.elapsed() <= Duration::from_millis(1), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn the_breaker_rejects_calls_to_a_backend_that_keeps_failing() {
    let bench = Bench::new(|builder| builder.backend_breaker(3, Duration::from_secs(1))).await;
    bench.backend.reads_are(Reading::Down);
    let before = bench.backend.reads();
    for _ in 0..5 {
        assert_eq!(bench.read().await.expect_err("down").kind(), ErrorKind::Unavailable);
    }
    assert_eq!((bench.backend.reads() - before, bench.store.stats().rejected_by_breaker), (3, 2));
    let refused = bench.store.put(&key("k"), Put::new("1")).await.expect_err("left alone");
    assert_eq!((refused.write_outcome(), bench.backend.writes()), (Outcome::NotApplied, 0));
    bench.backend.reads_are(Reading::Well);
    bench.wait(1_000);
    assert_eq!(bench.read().await.expect("one call tries"), (None, false));
    bench.store.put(&key("k"), Put::new("1")).await.expect("closed again");
}

#[tokio::test(start_paused = true)]
async fn reads_succeed_while_the_frontend_hangs() {
    let frontend = scripted();
    let backend = MemoryStore::new();
    let builder = TieredStore::builder(frontend.clone(), backend.clone())
        .frontend_breaker(2, Duration::from_mins(1))
        .frontend_patience(Duration::from_millis(100));
    let store = builder.build().await.expect("it fits");
    backend.put(&key("k"), Put::new("1")).await.expect("put");
    frontend.reads_are(Reading::Hangs);
    let begun = tokio::time::Instant::now();
    for _ in 0..50 {
        assert_eq!(store.get(&key("k")).await.expect("the backend has it").expect("there").value(), "1");
    }
    assert!(begun.elapsed() < Duration::from_millis(500), "{:?}: only the first ones wait", begun.elapsed());
    assert!(store.stats().rejected_by_breaker > 40);
}

#[tokio::test]
async fn an_error_is_not_reported_as_an_absence() {
    let frontend = scripted();
    let builder = TieredStore::builder(frontend.clone(), MemoryStore::new());
    let store = builder.read_policy(tiered_core::ReadPolicy::FrontendOnly).build().await.expect("it fits");
    frontend.reads_are(Reading::Down);
    assert_eq!(store.get(&key("k")).await.expect_err("the frontend is down").kind(), ErrorKind::Unavailable);
}

#[tokio::test]
async fn invalid_breaker_settings_are_refused() {
    let builder = || TieredStore::builder(MemoryStore::new(), MemoryStore::new());
    let second = Duration::from_secs(1);
    let local = builder().frontend_breaker(1, second).write_policy(WritePolicy::FrontendOnly);
    for builder in [builder().backend_breaker(0, second), builder().backend_breaker(1, Duration::ZERO), local]
    {
        assert_eq!(builder.build().await.expect_err("refused").kind(), ErrorKind::Config);
    }
}

/// Holds reads of `held` until they are let go. Writes never return.
#[derive(Debug)]
struct Held {
    reached: tokio::sync::Semaphore,
    go_on: tokio::sync::Semaphore,
}

#[async_trait::async_trait]
impl Interceptor for Held {
    fn derived_reads(&self) -> DerivedReads {
        DerivedReads::Load
    }
    async fn load(
        &self,
        inner: &dyn Store,
        of: &tiered_core::Key,
        options: &ReadOptions,
    ) -> tiered_core::Result<tiered_core::Read> {
        let read = inner.load(of, options).await;
        if *of == key("held") {
            self.reached.add_permits(1);
            self.go_on.acquire().await.expect("open").forget();
        }
        read
    }
    async fn before_write(&self) -> tiered_core::Result<()> {
        std::future::pending().await
    }
    async fn set_mark(
        &self,
        inner: &dyn Store,
        name: &str,
        value: Option<bytes::Bytes>,
    ) -> tiered_core::Result<()> {
        inner.set_mark(name, value).await
    }
}

/// A fill that does not happen asks the frontend's breaker for nothing: the one call that is let through is left for
/// others.
#[tokio::test]
async fn a_revoked_fill_does_not_use_up_the_probe_of_a_half_open_breaker() {
    let inner = MemoryStore::new().declaring(|all| all.without(Feature::Peeks));
    for name in ["held", "other"] {
        inner.put(&key(name), Put::new("v")).await.expect("written");
    }
    let held = Held { reached: tokio::sync::Semaphore::new(0), go_on: tokio::sync::Semaphore::new(0) };
    let back = Arc::new(Intercept::new(inner, held));
    let front = moody();
    let clock = Arc::new(ManualClock::new(Timestamp::from_millis(1_000_000)));
    let stamp = Stamp::new(Arc::clone(&clock) as Arc<dyn Clock>, Arc::new(VersionMint::seeded(1)));
    let store = TieredStore::builder(front.clone(), Arc::clone(&back))
        .frontend_breaker(1, Duration::from_secs(1))
        .write_policy(WritePolicy::WriteBehind)
        .journal(VolatileJournal::new())
        .stamp(stamp)
        .build()
        .await
        .expect("builds");
    let reading = {
        let store = store.clone();
        tokio::runtime::Handle::current()
            .spawn(async move { store.load(&key("held"), &tiered_core::ReadOptions::new()).await })
    };
    back.reached.acquire().await.expect("open").forget();
    front.be(Mood::Down);
    store.get(&key("other")).await.expect("the backend serves it");
    store.put(&key("held"), Put::new("newer")).await.expect("acknowledged: the fill is revoked");
    front.be(Mood::Well);
    clock.advance(std::time::Duration::from_secs(1));
    back.go_on.add_permits(1);
    reading.await.expect("ends").expect("answered");
    let before = store.stats().rejected_by_breaker;
    store.get(&key("other")).await.expect("reads");
    assert_eq!(store.stats().rejected_by_breaker, before, "the frontend is asked again");
}
