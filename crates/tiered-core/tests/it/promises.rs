//! Promises about trouble: bounds, outages, a frontend that fails or hangs, reopening, deadlines.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use tiered_conformance::{Intercept, Interceptor};
use tiered_core::adapter::{Clock, Stamp, VersionMint};
use tiered_core::settings::{FillTiming, OnFull, OnOverdue, OnPark, OnUnknown, Reopen};
use tiered_core::testing::ManualClock;
use tiered_core::{
    Batch, Capabilities, CommitLevel, Delete, Durability, Error, ErrorKind, Event, Feature, FlushOrder, Key,
    MemoryStore, Outcome, Put, ReadOptions, Result, Sharing, Source, Staleness, Store, StoreExt as _,
    TieredBuilder, TieredStore, Timestamp, VolatileJournal, WritePolicy, Written,
};

/// What a store does with calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Mood {
    Well,
    /// Every call fails before it takes effect.
    Down,
    /// Writes never return.
    Hangs,
    /// Every call panics, writes after they took effect.
    Panics,
}

/// A memory store in a mood, that may pretend to outlive the process.
pub(crate) type Moody = Intercept<Moods, MemoryStore>;

#[derive(Debug)]
pub(crate) struct Moods(AtomicU8);

pub(crate) fn moody() -> Moody {
    declaring(|all| all)
}

/// Declares that it lasts, so that sessions are kept in it.
fn lasting() -> Moody {
    declaring(|all| all.named("lasting").with_durability(Durability::CleanClose))
}

fn declaring(change: impl FnOnce(Capabilities) -> Capabilities) -> Moody {
    Intercept::new(MemoryStore::new().declaring(change), Moods(AtomicU8::new(Mood::Well as u8)))
}

impl Moods {
    pub(crate) fn be(&self, mood: Mood) {
        self.0.store(mood as u8, Ordering::Relaxed);
    }

    fn is(&self, mood: Mood) -> bool {
        self.0.load(Ordering::Relaxed) == mood as u8
    }

    async fn write<T>(&self, apply: impl Future<Output = Result<T>>) -> Result<T> {
        if self.is(Mood::Hangs) {
            std::future::pending::<()>().await;
        }
        if self.is(Mood::Panics) {
            let applied = apply.await;
            self.call()?;
            return applied;
        }
        self.call()?;
        apply.await
    }

    fn call(&self) -> Result<()> {
        assert!(!self.is(Mood::Panics), "as a test said");
        if self.is(Mood::Down) {
            return Err(Error::new(ErrorKind::Unavailable, "down").outcome_is(Outcome::NotApplied));
        }
        Ok(())
    }
}

#[async_trait]
impl Interceptor for Moods {
    async fn before_read(&self) -> Result<()> {
        self.call()
    }
    async fn around_write<T, F>(&self, _inner: &dyn Store, _key: Option<&Key>, call: F) -> Result<T>
    where
        T: Send,
        F: Future<Output = Result<T>> + Send,
    {
        self.write(call).await
    }
    async fn mark(&self, inner: &dyn Store, name: &str) -> Result<Option<bytes::Bytes>> {
        inner.mark(name).await
    }
    async fn set_mark(&self, inner: &dyn Store, name: &str, value: Option<bytes::Bytes>) -> Result<()> {
        inner.set_mark(name, value).await
    }
    async fn close(&self, _inner: &dyn Store) -> Result<()> {
        // The data outlive the handle, as a file's would.
        Ok(())
    }
}

fn key(text: &str) -> Key {
    Key::new(text).expect("valid")
}

fn over(front: &Moody, back: &Moody) -> TieredBuilder {
    TieredStore::builder(front.clone(), back.clone())
}

fn behind(front: &Moody, back: &Moody) -> TieredBuilder {
    over(front, back).write_policy(WritePolicy::WriteBehind).journal(VolatileJournal::new())
}

#[tokio::test(start_paused = true)]
async fn during_an_outage_writes_are_acknowledged_up_to_the_bound_and_flushed_in_order() {
    let (front, back) = (moody(), moody());
    let builder = behind(&front, &back).max_pending_operations(10).on_full(OnFull::Fail);
    let store = builder.build().await.expect("builds");
    back.be(Mood::Down);
    let mut last = None;
    for round in 0..10 {
        last = Some(store.put(&key("k"), Put::new(format!("{round}"))).await.expect("within the bound"));
    }
    let full = store.put(&key("other"), Put::new("v")).await.expect_err("beyond the bound");
    assert_eq!((full.kind(), full.write_outcome()), (ErrorKind::Full, Outcome::NotApplied));
    let read = store.load(&key("k"), &ReadOptions::new()).await.expect("reads");
    assert_eq!(read.source, Source::Pending);
    assert_eq!(read.into_entry().expect("found").value(), "9");
    assert!(back.inner().snapshot().is_empty());
    tokio::time::sleep(Duration::from_mins(1)).await;
    assert_eq!(store.stats().backlog, 10, "an outage parks nothing and loses nothing");
    back.be(Mood::Well);
    last.expect("written").receipt.durable(CommitLevel::Committed).await.expect("lands");
    assert_eq!(back.inner().peek(&key("k")).expect("there").value(), "9");
    store.put(&key("other"), Put::new("v")).await.expect("there is room again");
    store.flush().await.expect("drains");
    assert_eq!((store.stats().backlog, store.stats().slots), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_write_to_a_full_queue_can_wait_for_room() {
    let (front, back) = (moody(), moody());
    let store = behind(&front, &back).max_pending_operations(1).build().await.expect("builds");
    back.be(Mood::Down);
    store.put(&key("a"), Put::new("v")).await.expect("within the bound");
    let (k, put) = (key("b"), Put::new("v"));
    let waiting = store.put(&k, put);
    let healing = async {
        tokio::time::sleep(Duration::from_secs(30)).await;
        back.be(Mood::Well);
    };
    let (written, ()) = futures_util::future::join(waiting, healing).await;
    written.expect("written when there was room");
    store.flush().await.expect("drains");
}

#[tokio::test(start_paused = true)]
async fn closing_without_a_backend_reports_the_writes_that_are_lost() {
    let (front, back) = (moody(), moody());
    let builder = behind(&front, &back).close_deadline(Duration::from_secs(1));
    let store = builder.build().await.expect("builds");
    back.be(Mood::Down);
    for name in ["a", "b"] {
        store.put(&key(name), Put::new("v")).await.expect("journaled");
    }
    let lost = store.close().await.expect_err("the journal is volatile");
    assert!(lost.to_string().contains("2 acknowledged writes"), "{lost}");
}

#[tokio::test(start_paused = true)]
async fn a_failing_frontend_never_serves_an_old_value() {
    for mood in [Mood::Down, Mood::Hangs] {
        let (front, back) = (moody(), moody());
        let store = over(&front, &back).build().await.expect("builds");
        let mut events = store.subscribe();
        store.put(&key("k"), Put::new("old")).await.expect("written");
        front.be(mood);
        store.put(&key("k"), Put::new("new")).await.expect("the backend has it");
        assert_eq!(front.inner().peek(&key("k")).expect("still there").value(), "old");
        assert_eq!(store.get(&key("k")).await.expect("reads").expect("found").value(), "new", "{mood:?}");
        assert_eq!(store.stats().quarantined, 1);
        let mut seen = Vec::new();
        for _ in 0..3 {
            seen.extend(events.next().await);
        }
        assert!(seen.contains(&Event::Quarantined { key: key("k") }), "{seen:?}");
        if mood == Mood::Down {
            front.be(Mood::Well);
            tokio::time::sleep(Duration::from_mins(1)).await;
            assert_eq!((store.stats().quarantined, store.stats().slots), (0, 0), "a removal has succeeded");
            assert!(front.inner().peek(&key("k")).is_none());
        }
    }
}

#[tokio::test(start_paused = true)]
async fn past_the_quarantine_bound_the_whole_frontend_is_quarantined() {
    let (front, back) = (moody(), moody());
    let store = over(&front, &back).max_quarantined(3).build().await.expect("builds");
    let names: Vec<Key> = (0..8).map(|index| key(&format!("k{index}"))).collect();
    for name in &names {
        store.put(name, Put::new("old")).await.expect("written");
    }
    front.be(Mood::Down);
    for name in &names {
        store.put(name, Put::new("new")).await.expect("the backend has it");
    }
    assert!(store.stats().quarantined <= 3, "the quarantine is bounded");
    front.be(Mood::Well);
    for name in &names {
        assert_eq!(store.get(name).await.expect("reads").expect("found").value(), "new");
    }
}

#[tokio::test]
async fn a_reopened_frontend_is_compared_trusted_or_cleared_as_asked() {
    for (reopen, expected) in
        [(Reopen::Revalidate, "theirs"), (Reopen::Trust, "ours"), (Reopen::Clear, "theirs")]
    {
        let (front, back) = (lasting(), moody());
        let store = over(&front, &back).build().await.expect("builds");
        store.put(&key("k"), Put::new("ours")).await.expect("written");
        store.close().await.expect("closes");
        back.inner().put(&key("k"), Put::new("theirs")).await.expect("another process writes");
        let store = over(&front, &back).reopen(reopen).build().await.expect("builds");
        assert_eq!(
            store.get(&key("k")).await.expect("reads").expect("found").value(),
            expected,
            "{reopen:?}"
        );
    }
}

#[tokio::test]
async fn trust_is_not_given_after_a_crash() {
    let (front, back) = (lasting(), moody());
    let store = over(&front, &back).build().await.expect("builds");
    store.put(&key("k"), Put::new("ours")).await.expect("written");
    // No close: the mark that the frontend is in use stays behind.
    drop(store);
    back.inner().put(&key("k"), Put::new("theirs")).await.expect("another process writes");
    let store = over(&front, &back).reopen(Reopen::Trust).build().await.expect("builds");
    assert_eq!(store.get(&key("k")).await.expect("reads").expect("found").value(), "theirs");
}

#[tokio::test]
async fn trust_is_not_given_to_a_frontend_that_was_detached() {
    let (front, back) = (lasting(), moody());
    let store = over(&front, &back).build().await.expect("builds");
    store.put(&key("k"), Put::new("ours")).await.expect("written");
    store.detach().await.expect("detached");
    back.inner().put(&key("k"), Put::new("theirs")).await.expect("written without the frontend");
    let store = over(&front, &back).reopen(Reopen::Trust).build().await.expect("builds");
    assert_eq!(store.get(&key("k")).await.expect("reads").expect("found").value(), "theirs");
}

/// A frontend that missed a write is not trusted after a clean close: whether the key was in quarantine, or the bound of
/// quarantines had put everything in doubt.
#[tokio::test]
async fn trust_is_not_given_where_the_frontend_missed_a_write() {
    for max_quarantined in [1_024, 0] {
        let (front, back) = (lasting(), moody());
        let store = over(&front, &back).max_quarantined(max_quarantined).build().await.expect("builds");
        store.put(&key("k"), Put::new("old")).await.expect("written");
        front.be(Mood::Down);
        store.put(&key("k"), Put::new("new")).await.expect("the backend has it");
        store.close().await.expect("closes");
        front.be(Mood::Well);
        assert_eq!(front.inner().get(&key("k")).await.expect("reads").expect("missed it").value(), "old");
        let store = over(&front, &back).reopen(Reopen::Trust).build().await.expect("builds");
        let read = store.get(&key("k")).await.expect("reads").expect("there");
        assert_eq!(read.value(), "new", "with at most {max_quarantined} in quarantine");
    }
}

#[tokio::test(start_paused = true)]
async fn a_write_past_its_deadline_is_unknown_and_its_key_serves_no_hits() {
    let (front, back) = (moody(), moody());
    let builder = over(&front, &back).write_deadline(Duration::from_millis(500));
    let store = builder.build().await.expect("builds");
    store.put(&key("k"), Put::new("v")).await.expect("written");
    back.be(Mood::Hangs);
    let error = store.put(&key("k"), Put::new("w")).await.expect_err("hangs");
    assert_eq!((error.kind(), error.write_outcome()), (ErrorKind::TimedOut, Outcome::Unknown));
    assert!(store.peek(&key("k")).is_none(), "a gated key serves no hits");
    assert_eq!(store.stats().gated, 1);
    let begun = tokio::time::Instant::now();
    let error = store.put(&key("k"), Put::new("x")).await.expect_err("the first one is under way");
    assert_eq!((error.kind(), error.write_outcome()), (ErrorKind::TimedOut, Outcome::NotApplied));
    assert_eq!(begun.elapsed().as_millis(), 500);
}

/// The deadline holds for a value that is late as for a backend that is.
#[tokio::test(start_paused = true)]
async fn a_streamed_put_ends_at_its_deadline() {
    let (front, back) = (moody(), moody());
    let through = over(&front, &back);
    let (front, back) = (moody(), moody());
    for builder in [through, behind(&front, &back)] {
        let builder = builder.write_deadline(Duration::from_millis(500));
        let store = builder.build().await.expect("builds");
        let begun = tokio::time::Instant::now();
        let stalled = Box::pin(futures_util::stream::pending());
        let late = store.put_stream(&key("k"), Put::new(""), stalled).await.expect_err("nothing comes");
        assert_eq!((late.kind(), begun.elapsed().as_millis()), (ErrorKind::TimedOut, 500));
        store.put(&key("k"), Put::new("v")).await.expect("the write ended with the call");
        assert_eq!(store.get(&key("k")).await.expect("reads").expect("found").value(), "v");
    }
}

/// What is streamed under write-behind must fit what may be pending, since the journal has it as a whole.
#[tokio::test]
async fn a_stream_into_a_journal_has_a_limit_and_one_through_it_has_none() {
    const LIMIT: usize = 100_000;
    let (front, back) = (moody(), moody());
    let through = over(&front, &back);
    let (front, back) = (moody(), moody());
    for (builder, is_limited) in [(through, false), (behind(&front, &back), true)] {
        let store = builder.max_pending_bytes(LIMIT as u64).build().await.expect("builds");
        for (size, fits) in [(LIMIT, true), (LIMIT + 1, !is_limited)] {
            let parts: Vec<_> = vec![7; size].chunks(999).map(|part| Ok(part.to_vec().into())).collect();
            let body = Box::pin(futures_util::stream::iter(parts));
            match store.put_stream(&key("k"), Put::new(""), body).await {
                Ok(_) => assert!(fits, "{size}"),
                Err(error) => {
                    assert!(!fits, "{size}: {}", error.chain());
                    assert_eq!(
                        (error.kind(), error.outcome()),
                        (ErrorKind::TooLarge, Some(Outcome::NotApplied))
                    );
                    assert!(error.to_string().contains("max-pending-bytes"), "{error}");
                }
            }
            let held = store.get(&key("k")).await.expect("reads").expect("found").size();
            assert_eq!(held, if fits { size } else { LIMIT } as u64);
        }
        // A value that is at hand may be larger.
        store.put(&key("k"), Put::new(vec![7; LIMIT + 1])).await.expect("written");
    }
}

/// A store that panics has failed: no old value is served, no call waits forever, and its message is passed on.
#[tokio::test(start_paused = true)]
async fn a_panic_in_a_tier_is_an_error_of_that_tier() {
    let (front, back) = (moody(), moody());
    let store = over(&front, &back).build().await.expect("builds");
    for batched in [false, true] {
        store.put(&key("k"), Put::new("old")).await.expect("written");
        back.be(Mood::Panics);
        let error = if batched {
            store.apply(Batch::new().put(key("k"), Put::new("new"))).await.err()
        } else {
            store.put(&key("k"), Put::new("new")).await.err()
        };
        let error = error.expect("it panicked");
        assert_eq!(error.write_outcome(), Outcome::Unknown);
        assert!(error.chain().contains("as a test said"), "{error}");
        let k = key("k");
        let readers = (0..3).map(|_| store.get(&k));
        for read in futures_util::future::join_all(readers).await {
            assert!(read.expect_err("the backend is asked, and panics").chain().contains("as a test said"));
        }
        back.be(Mood::Well);
        assert_eq!(store.get(&key("k")).await.expect("reads").expect("found").value(), "new");
    }
    front.be(Mood::Panics);
    store.put(&key("k"), Put::new("newer")).await.expect("the backend has it");
    assert_eq!(store.get(&key("k")).await.expect("reads").expect("found").value(), "newer");
    assert_eq!(store.stats().quarantined, 1);
    front.be(Mood::Well);
    tokio::time::sleep(Duration::from_mins(1)).await;
    assert_eq!((store.stats().quarantined, store.stats().slots), (0, 0), "a removal has succeeded");
}

/// What panics once may do so for ever: a strict write ends, as unknown.
#[tokio::test(start_paused = true)]
async fn a_panic_of_the_backend_ends_the_retries_of_a_write() {
    let (front, back) = (moody(), moody());
    let store = over(&front, &back).on_unknown(OnUnknown::Retry).build().await.expect("builds");
    store.put(&key("k"), Put::new("old")).await.expect("written");
    back.be(Mood::Panics);
    for batched in [false, true] {
        let written = async {
            if batched {
                store.apply(Batch::new().put(key("k"), Put::new("new"))).await.map(drop)
            } else {
                store.put(&key("k"), Put::new("new")).await.map(drop)
            }
        };
        let ended = tokio::time::timeout(Duration::from_mins(1), written).await.expect("it ends");
        let error = ended.expect_err("it panicked");
        assert!(error.chain().contains("as a test said"), "{}", error.chain());
    }
    back.be(Mood::Well);
    assert_eq!(store.get(&key("k")).await.expect("reads").expect("found").value(), "new");
}

#[tokio::test(start_paused = true)]
async fn a_flush_is_retried_after_a_panic_of_the_backend() {
    let (front, back) = (moody(), moody());
    let store = behind(&front, &back).build().await.expect("builds");
    back.be(Mood::Panics);
    store.put(&key("k"), Put::new("v")).await.expect("journaled");
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!((store.stats().backlog, store.stats().parked), (1, 0), "its effect is unknown");
    back.be(Mood::Well);
    store.flush().await.expect("drains");
    assert_eq!(back.inner().peek(&key("k")).expect("there").value(), "v");
}

#[tokio::test(start_paused = true)]
async fn a_second_close_returns_only_when_the_first_has_finished() {
    let (front, back) = (moody(), moody());
    let builder = behind(&front, &back).close_deadline(Duration::from_secs(1));
    let store = builder.build().await.expect("builds");
    back.be(Mood::Down);
    store.put(&key("k"), Put::new("v")).await.expect("journaled");
    let begun = tokio::time::Instant::now();
    let (first, second) = futures_util::future::join(store.close(), async {
        tokio::time::sleep(Duration::from_millis(1)).await;
        let second = store.close().await;
        assert_eq!(begun.elapsed().as_millis(), 1_000);
        second
    })
    .await;
    first.expect_err("the write is lost");
    second.expect("the first one told");
}

#[tokio::test]
async fn guarantees_and_capabilities_agree() {
    for policy in WritePolicy::ALL.iter().copied() {
        let (front, back) = (moody(), moody());
        let builder =
            if policy == WritePolicy::WriteBehind { behind(&front, &back) } else { over(&front, &back) };
        let store = builder.write_policy(policy).build().await.expect("builds");
        let (promised, declared) = (store.guarantees().clone(), store.capabilities());
        assert_eq!(promised.atomic_batches, declared.has(Feature::AtomicBatch), "{policy}");
        assert_eq!(promised.conditional_writes, declared.has(Feature::ConditionalPut), "{policy}");
        assert_eq!(promised.durability, declared.durability(), "{policy}");
    }
}

/// All that a stack promises, for each that promises something else.
#[tokio::test]
async fn guarantees_are_those_of_the_stack() {
    use FlushOrder as Order;
    use OnPark::{Auto, Halt, Skip};
    use Sharing::{Exclusive, Shared};
    use WritePolicy::{FrontendOnly, WriteAround, WriteBehind, WriteThrough};

    let promised = async |policy, on_park, atomic, sharing| {
        let back = declaring(|all| {
            let all = all.named("moody").with_sharing(sharing);
            if atomic { all } else { all.without(Feature::AtomicBatch) }
        });
        let front = moody();
        let builder = if policy == WritePolicy::WriteBehind {
            behind(&front, &back).on_park(on_park).declare_sole_writer()
        } else {
            over(&front, &back)
        };
        let promised = builder.write_policy(policy).build().await.expect("builds").guarantees().clone();
        (
            promised.linearizable,
            promised.flush_order,
            promised.atomic_batches,
            promised.max_stale != Staleness::None,
        )
    };
    for (policy, on_park, atomic, sharing, expected) in [
        (WriteThrough, Auto, true, Exclusive, (true, Order::Synchronous, true, false)),
        (WriteThrough, Auto, false, Shared, (false, Order::Synchronous, false, true)),
        (WriteAround, Auto, true, Shared, (false, Order::Synchronous, true, true)),
        (WriteBehind, Auto, true, Exclusive, (true, Order::Prefix, true, false)),
        (WriteBehind, Halt, true, Shared, (true, Order::Prefix, true, false)),
        (WriteBehind, Skip, true, Exclusive, (true, Order::PerKey, true, false)),
        (WriteBehind, Auto, false, Exclusive, (true, Order::PerKey, false, false)),
        (FrontendOnly, Auto, true, Exclusive, (false, Order::Never, false, false)),
    ] {
        let found = promised(policy, on_park, atomic, sharing).await;
        assert_eq!(found, expected, "{policy}, {on_park:?}, atomic: {atomic}, {sharing:?}");
    }
}

/// A write-behind store on a clock that is moved by hand, with a bound of a minute on the age of what is pending.
async fn bounded(back: &Moody, on_overdue: OnOverdue) -> (TieredStore, Arc<ManualClock>) {
    let clock = Arc::new(ManualClock::new(Timestamp::from_millis(1_000_000)));
    let stamp = Stamp::new(Arc::clone(&clock) as Arc<dyn Clock>, Arc::new(VersionMint::seeded(1)));
    let builder = behind(&moody(), back).max_pending_age(Duration::from_mins(1)).on_overdue(on_overdue);
    (builder.stamp(stamp).build().await.expect("builds"), clock)
}

#[tokio::test(start_paused = true)]
async fn no_write_is_acknowledged_while_an_older_one_is_overdue() {
    let back = moody();
    let (store, clock) = bounded(&back, OnOverdue::Fail).await;
    back.be(Mood::Down);
    store.put(&key("a"), Put::new("1")).await.expect("acknowledged");
    clock.advance(Duration::from_millis(59_999));
    store.put(&key("b"), Put::new("1")).await.expect("still within the bound");
    clock.advance(Duration::from_millis(1));
    let batch = Batch::new().put(key("d"), Put::new("1"));
    for refused in [
        store.put(&key("c"), Put::new("1")).await.err(),
        store.delete(&key("a"), Delete::new()).await.err(),
        store.apply(batch).await.err(),
    ] {
        let refused = refused.expect("the backend has nothing of the last minute");
        assert_eq!((refused.kind(), refused.write_outcome()), (ErrorKind::Full, Outcome::NotApplied));
    }
    assert_eq!(store.stats().backlog, 2);
    back.be(Mood::Well);
    store.flush().await.expect("flushed");
    store.put(&key("c"), Put::new("1")).await.expect("acknowledged again");
}

#[tokio::test(start_paused = true)]
async fn a_write_waits_until_none_is_overdue() {
    let back = moody();
    let (store, clock) = bounded(&back, OnOverdue::Block).await;
    back.be(Mood::Down);
    store.put(&key("a"), Put::new("1")).await.expect("acknowledged");
    clock.advance(Duration::from_mins(1));
    let late = {
        let store = store.clone();
        tokio::runtime::Handle::current().spawn(async move { store.put(&key("b"), Put::new("1")).await })
    };
    tokio::time::sleep(Duration::from_mins(10)).await;
    assert!(!late.is_finished() && store.stats().backlog == 1);
    back.be(Mood::Well);
    late.await.expect("ends").expect("acknowledged once the backend had the first");
    store.close().await.expect("drains");
}

#[tokio::test]
async fn blocking_on_overdue_writes_requires_a_maximum_age() {
    let builder = behind(&moody(), &moody()).max_pending_age(None).on_overdue(OnOverdue::Block);
    assert_eq!(builder.build().await.expect_err("of what age?").kind(), ErrorKind::Config);
}

#[tokio::test]
async fn with_synchronous_fills_the_second_read_is_a_hit() {
    let (front, back) = (moody(), moody());
    back.put(&key("k"), Put::new("v")).await.expect("written");
    back.put(&key("l"), Put::new("v")).await.expect("written");
    let store = over(&front, &back).fill(FillTiming::BeforeAnswer).build().await.expect("builds");
    assert_eq!(store.get(&key("k")).await.expect("reads").expect("there").value(), "v");
    assert!(store.peek(&key("k")).is_some(), "a hit");
    let many = store.get_many(&[key("l"), key("none")], &ReadOptions::new()).await;
    assert!(many[0].as_ref().expect("reads").entry().is_some() && store.peek(&key("l")).is_some());
}

/// Puts that hang for five seconds and take effect at their end, even where the caller no longer waits: so many.
#[derive(Debug)]
struct Late(MemoryStore, AtomicU8);

#[async_trait]
impl Interceptor for Late {
    async fn put(&self, inner: &dyn Store, key: &Key, put: Put) -> Result<Written> {
        if self.1.swap(0, Ordering::Relaxed) == 0 {
            return inner.put(key, put).await;
        }
        let (inner, key) = (self.0.clone(), key.clone());
        let late = tokio::runtime::Handle::current().spawn(async move {
            tokio::time::sleep(Duration::from_secs(5)).await;
            inner.put(&key, put).await
        });
        late.await.expect("it ends")
    }
}

/// A call of the frontend that is not waited for any longer is not forgotten: nothing that ends before it ends the key's
/// quarantine.
#[tokio::test(start_paused = true)]
async fn a_frontend_call_that_takes_effect_late_restores_no_old_value() {
    let inner = MemoryStore::new();
    let front = Intercept::new(inner.clone(), Late(inner, AtomicU8::new(1)));
    let store = TieredStore::builder(front.clone(), MemoryStore::new()).build().await.expect("builds");
    store.put(&key("k"), Put::new("old")).await.expect("the backend has it");
    assert!(store.peek(&key("k")).is_none(), "in quarantine");
    tokio::time::sleep(Duration::from_secs(1)).await;
    store.put(&key("k"), Put::new("new")).await.expect("written");
    for _ in 0..20 {
        assert_eq!(store.get(&key("k")).await.expect("reads").expect("there").value(), "new");
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    assert_eq!(store.stats().quarantined, 0, "the frontend is used again");
    assert_eq!(front.inner().get(&key("k")).await.expect("reads").expect("filled").value(), "new");
}
