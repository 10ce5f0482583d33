//! Hooks: which calls they see, what they may refuse, and what a bad one does.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{FutureExt as _, stream};
use parking_lot::Mutex;
use tiered_core::hooks::{self, Hook, Mutation, Old};
use tiered_core::settings::OnUnknown;
use tiered_core::sync::{FullSync, SyncOptions};
use tiered_core::{
    Applied, Batch, CommitLevel, Delete, Error, ErrorKind, Freshness, Key, MemoryStore, Operation, Outcome,
    Put, ReadOptions, Result, Store, StoreExt as _, TieredBuilder, TieredStore, VolatileJournal, WritePolicy,
};

use crate::scripted::{Fate, key, scripted};

const POLICIES: [WritePolicy; 4] = [
    WritePolicy::WriteThrough,
    WritePolicy::WriteAround,
    WritePolicy::WriteBehind,
    WritePolicy::FrontendOnly,
];

/// Writes down what it sees.
#[derive(Clone, Debug, Default)]
struct Diary(Arc<Mutex<Vec<String>>>);

impl Diary {
    fn take(&self) -> Vec<String> {
        std::mem::take(&mut *self.0.lock())
    }
}

fn sign(mutation: &Mutation) -> String {
    let sign = match (mutation.operation(), mutation.new_entry()) {
        (Operation::Delete, _) => "-".to_owned(),
        (_, Some(entry)) => String::from_utf8_lossy(entry.value()).into_owned(),
        (_, None) => "~".to_owned(),
    };
    let old = match mutation.old() {
        Old::Entry(entry) => String::from_utf8_lossy(entry.value()).into_owned(),
        Old::Absent => "nothing".to_owned(),
        _ => "?".to_owned(),
    };
    format!("{}: {old} -> {sign}", mutation.key())
}

#[async_trait]
impl Hook for Diary {
    async fn before(&self, mutation: &Mutation) -> Result<()> {
        self.0.lock().push(format!("before {}", mutation.key()));
        Ok(())
    }

    async fn after(&self, mutation: &Mutation, ended: &Result<Applied>) {
        let ended = match ended {
            Ok(Applied::Put(written)) if written.level == CommitLevel::Journaled => "journaled".to_owned(),
            Ok(_) => "ok".to_owned(),
            Err(error) => format!("{:?}", error.outcome().expect("known")),
        };
        self.0.lock().push(format!("after {} {ended}", sign(mutation)));
    }
}

fn builder(policy: WritePolicy) -> TieredBuilder {
    let builder = TieredStore::builder(MemoryStore::new(), MemoryStore::new()).write_policy(policy);
    if policy == WritePolicy::WriteBehind { builder.journal(VolatileJournal::new()) } else { builder }
}

#[tokio::test(start_paused = true)]
async fn every_mutation_is_seen_once_with_its_old_and_new_value() {
    for policy in POLICIES {
        let diary = Diary::default();
        let store = builder(policy).hook(diary.clone()).build().await.expect("it fits");
        store.set("k", "1").await.expect("set");
        store.set("k", "2").await.expect("set");
        store.delete(&key("k"), Delete::new()).await.expect("delete");
        let seen = diary.take();
        let afters: Vec<&str> = seen.iter().filter_map(|line| line.strip_prefix("after ")).collect();
        let (journaled, known) = match policy {
            WritePolicy::WriteBehind => ("journaled", "1"),
            WritePolicy::WriteAround => ("ok", "?"),
            _ => ("ok", "1"),
        };
        assert_eq!(afters[0], format!("k: ? -> 1 {journaled}"), "{policy:?}");
        assert_eq!(afters[1], format!("k: {known} -> 2 {journaled}"), "{policy:?}");
        assert!(afters[2].ends_with("-> - ok"), "{policy:?}: {afters:?}");
        assert_eq!(seen.iter().filter(|line| *line == "before k").count(), 3, "{policy:?}");
        store.close().await.expect("close");
        assert!(diary.take().is_empty(), "a flush is no mutation");
    }
}

#[tokio::test(start_paused = true)]
async fn a_batch_is_seen_in_its_order() {
    for policy in POLICIES {
        let diary = Diary::default();
        let store = builder(policy).hook(diary.clone()).build().await.expect("it fits");
        let batch =
            Batch::new().best_effort().put(key("b"), "1").delete(key("a"), Delete::new()).put(key("b"), "2");
        store.apply(batch).await.expect("apply");
        let keys: Vec<String> = diary
            .take()
            .into_iter()
            .filter(|line| line.starts_with("after"))
            .map(|line| line.chars().skip(6).take(1).collect())
            .collect();
        assert_eq!(keys, ["b", "a", "b"], "{policy:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_streamed_put_is_seen_without_its_value() {
    let diary = Diary::default();
    let store = builder(WritePolicy::WriteThrough).hook(diary.clone()).build().await.expect("it fits");
    let parts = stream::iter([Ok(Bytes::from_static(b"12")), Ok(Bytes::from_static(b"34"))]);
    store.put_stream(&key("k"), Put::new("").if_absent(), Box::pin(parts)).await.expect("streamed");
    let seen = diary.take();
    assert!(seen.iter().any(|line| line.starts_with("after k: nothing ->")), "{seen:?}");
    assert_eq!(seen.len(), 2);
    assert_eq!(store.get("k").await.expect("get").expect("there").value(), "1234");
}

#[tokio::test(start_paused = true)]
async fn fills_syncs_and_invalidations_are_no_mutations() {
    let backend = MemoryStore::new();
    backend.set("k", "1").await.expect("set");
    let diary = Diary::default();
    let builder = TieredStore::builder(MemoryStore::new(), backend).hook(diary.clone());
    let store = builder.on_connect(tiered_core::sync::PopulateMissing).build().await.expect("it fits");
    store.invalidate("k").await.expect("invalidate");
    store.get("k").await.expect("get");
    store.sync(&FullSync, &SyncOptions::new()).await.expect("sync");
    assert_eq!(diary.take(), Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn a_hook_refuses_before_anything_is_written() {
    for policy in POLICIES {
        let diary = Diary::default();
        let refuse = |mutation: &Mutation| match mutation.key().as_str() {
            "no" => Err(Error::new(ErrorKind::PermissionDenied, "no such keys").outcome_is(Outcome::Applied)),
            _ => Ok(()),
        };
        let store =
            builder(policy).hook(hooks::before(refuse)).hook(diary.clone()).build().await.expect("it fits");
        let error = store.set("no", "1").await.expect_err("refused");
        assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{policy:?}");
        assert_eq!(error.outcome(), Some(Outcome::NotApplied), "{policy:?}: whatever the hook says");
        assert_eq!(error.key().map(Key::as_str), Some("no"));
        assert!(store.get("no").await.expect("get").is_none());
        assert_eq!(diary.take(), Vec::<String>::new(), "later hooks do not see what an earlier one refused");

        let batch = || Batch::new().best_effort().put(key("a"), "1").put(key("no"), "1").put(key("b"), "1");
        let error = store.apply(batch()).await.expect_err("as a whole");
        assert_eq!(error.outcome(), Some(Outcome::NotApplied));
        assert!(store.get("a").await.expect("get").is_none(), "{policy:?}");
        let outcomes = store.apply(batch().per_item()).await.expect("each by itself");
        let held: Vec<bool> = outcomes.iter().map(Result::is_ok).collect();
        assert_eq!(held, [true, false, true], "{policy:?}");
        assert!(store.get("b").await.expect("get").is_some());
        let outcomes = store.apply(Batch::new().per_item().put(key("no"), "1")).await.expect("answers");
        assert!(outcomes.len() == 1 && outcomes[0].is_err(), "{policy:?}");
        assert_eq!(store.stats().hook_refusals, 4, "{policy:?}");
        assert_eq!(store.stats().gated, 0, "{policy:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_outcome_is_the_one_of_the_backend() {
    let (diary, backend) = (Diary::default(), scripted());
    let builder = TieredStore::builder(MemoryStore::new(), backend.clone()).hook(diary.clone());
    let store = builder.build().await.expect("it fits");
    backend.then(Fate::AnswerLost);
    store.set("k", "1").await.expect_err("the outcome is unknown");
    backend.then(Fate::Applied);
    store.set("k", "2").await.expect_err("the answer is lost");
    store.put(&key("k"), Put::new("3").if_absent()).await.expect_err("it is there");
    let ends: Vec<String> = diary
        .take()
        .into_iter()
        .filter(|line| line.starts_with("after"))
        .map(|line| line.rsplit(' ').next().unwrap_or_default().to_owned())
        .collect();
    assert_eq!(ends, ["Unknown", "Applied", "NotApplied"]);
}

#[tokio::test(start_paused = true)]
async fn a_retried_write_is_one_mutation() {
    let (diary, backend) = (Diary::default(), scripted());
    let builder = TieredStore::builder(MemoryStore::new(), backend.clone()).on_unknown(OnUnknown::Retry);
    let store = builder.hook(diary.clone()).build().await.expect("it fits");
    backend.then(Fate::RequestLost).then(Fate::AnswerLost);
    store.set("k", "1").await.expect("driven forward");
    assert_eq!(diary.take().len(), 2);
}

/// A hook that calls its store.
struct Reentrant(Mutex<Option<TieredStore>>, Mutex<Vec<ErrorKind>>);

#[async_trait]
impl Hook for Reentrant {
    async fn before(&self, _: &Mutation) -> Result<()> {
        let store = self.0.lock().clone().expect("set");
        let fresh = ReadOptions::new().freshness(Freshness::Authoritative);
        let errors = [
            store.load(&key("k"), &fresh).await.map(drop),
            store.set("k", "2").await.map(drop),
            store.delete(&key("other"), Delete::new()).await.map(drop),
            store.apply(Batch::new().put(key("k"), "2")).await.map(drop),
            store.invalidate("k").await,
            store.flush().await,
            store.close().await,
            store.get_many(&[key("k")], &fresh).await.remove(0).map(drop),
            store.sync(&FullSync, &SyncOptions::new()).await.map(drop),
        ];
        self.1.lock().extend(errors.map(|ended| ended.expect_err("refused").kind()));
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn a_hook_may_not_call_its_store_and_may_call_another() {
    for policy in POLICIES {
        let store = builder(policy).build().await.expect("it fits");
        let hook = Arc::new(Reentrant(Mutex::new(Some(store.clone())), Mutex::default()));
        let handle = store.add_hook(Arc::clone(&hook));
        store.set("k", "1").await.expect("set");
        assert_eq!(*hook.1.lock(), [ErrorKind::Unsupported; 9], "{policy:?}");
        handle.remove();
        // The same calls from a hook of another store.
        let other = builder(policy).hook(Chained(store.clone())).build().await.expect("it fits");
        other.set("k", "copied").await.expect("set");
        assert_eq!(store.get("k").await.expect("get").expect("there").value(), "copied");
        hook.0.lock().take();
    }
}

/// Writes to another store what is written to its own.
struct Chained(TieredStore);

#[async_trait]
impl Hook for Chained {
    async fn after(&self, mutation: &Mutation, _: &Result<Applied>) {
        let entry = mutation.new_entry().expect("a put");
        self.0.put(mutation.key(), Put::new(entry.value().clone())).await.expect("another store");
    }
}

#[tokio::test(start_paused = true)]
async fn a_panic_before_refuses_and_one_after_is_counted() {
    for policy in POLICIES {
        let store = builder(policy).build().await.expect("it fits");
        let handle = store.add_hook(hooks::before(|_: &Mutation| panic!("a bug")));
        let error = store.set("k", "1").await.expect_err("refused");
        assert_eq!(error.outcome(), Some(Outcome::NotApplied), "{policy:?}");
        assert!(error.chain().contains("a bug"), "{}", error.chain());
        handle.remove();
        store.add_hook(hooks::after(|_: &Mutation, _: &Result<Applied>| panic!("a bug")));
        let diary = Diary::default();
        store.add_hook(diary.clone());
        store.set("k", "2").await.expect("it took effect");
        assert_eq!(diary.take().len(), 2, "{policy:?}: the next hook is called");
        assert_eq!((store.stats().hook_panics, store.stats().hook_refusals), (2, 1), "{policy:?}");
        assert_eq!(store.get("k").await.expect("get").expect("there").value(), "2");
        store.close().await.expect("nothing is left behind");
    }
}

/// Waits until it is let go.
#[derive(Clone, Debug)]
struct Slow {
    before: Duration,
    after: Duration,
}

#[async_trait]
impl Hook for Slow {
    async fn before(&self, _: &Mutation) -> Result<()> {
        tokio::time::sleep(self.before).await;
        Ok(())
    }

    async fn after(&self, _: &Mutation, _: &Result<Applied>) {
        tokio::time::sleep(self.after).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_delay_counts_against_the_write_deadline() {
    let (short, long) = (Duration::from_secs(1), Duration::from_mins(1));
    for policy in POLICIES {
        let build = |slow: Slow| builder(policy).write_deadline(short * 5).hook(slow).build();
        let store = build(Slow { before: long, after: Duration::ZERO }).await.expect("it fits");
        let error = store.set("k", "1").await.expect_err("late");
        assert_eq!(error.outcome(), Some(Outcome::NotApplied), "{policy:?}");
        assert!(store.get("k").await.expect("get").is_none());
        assert_eq!(store.stats().gated, 0, "{policy:?}: the key is free");

        let store = build(Slow { before: Duration::ZERO, after: long }).await.expect("it fits");
        let error = store.set("k", "1").await.expect_err("late");
        assert_eq!(error.outcome(), Some(Outcome::Unknown), "{policy:?}");
        // The next write of the key waits for the hook; another key does not.
        let error = store.set("k", "2").await.expect_err("late");
        assert_eq!(error.outcome(), Some(Outcome::NotApplied), "{policy:?}");
        tokio::time::sleep(long).await;
        assert_eq!(store.get("k").await.expect("get").expect("there").value(), "1", "{policy:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn hooks_of_one_key_run_in_the_order_of_its_writes() {
    for policy in POLICIES {
        let diary = Diary::default();
        let slow = Slow { before: Duration::from_millis(3), after: Duration::from_millis(7) };
        let store = builder(policy).hook(slow).hook(diary.clone()).build().await.expect("it fits");
        let writes = (0..20).map(|number| store.set("k", number.to_string()));
        for ended in futures_util::future::join_all(writes).await {
            ended.expect("set");
        }
        let last = store.get("k").await.expect("get").expect("there");
        let seen = diary.take();
        let kinds: Vec<&str> = seen.iter().filter_map(|line| line.split(' ').next()).collect();
        assert!(kinds.chunks(2).all(|pair| pair == ["before", "after"]), "{policy:?}: {seen:?}");
        let last = String::from_utf8_lossy(last.value()).into_owned();
        assert!(
            seen.last().is_some_and(|line| line.contains(&format!("-> {last} "))),
            "{policy:?}: {seen:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_goes_away_ends_before_and_not_after() {
    for policy in POLICIES {
        let diary = Diary::default();
        let second = Duration::from_secs(1);
        let slow = Slow { before: second, after: second };
        let store = builder(policy).hook(diary.clone()).hook(slow).build().await.expect("it fits");
        let write = tokio::time::timeout(second / 2, store.set("k", "1")).await;
        assert!(write.is_err());
        tokio::time::sleep(second * 5).await;
        assert_eq!(diary.take(), ["before k"], "{policy:?}");
        assert!(store.get("k").await.expect("get").is_none());

        let write = tokio::time::timeout(second * 3 / 2, store.set("k", "1")).await;
        assert!(write.is_err());
        assert_eq!(diary.take().len(), 2, "{policy:?}: it took effect, and the hook is told");
        store.close().await.expect("closing waits for the hook");
    }
}

#[tokio::test(start_paused = true)]
async fn a_removed_hook_is_silent() {
    let diary = Diary::default();
    let store = builder(WritePolicy::WriteThrough).build().await.expect("it fits");
    let slow = Slow { before: Duration::ZERO, after: Duration::from_secs(1) };
    store.add_hook(slow);
    let handle = store.add_hook(diary.clone());
    let mut write = Box::pin(store.set("k", "1"));
    assert!((&mut write).now_or_never().is_none());
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(diary.take(), ["before k"]);
    handle.remove();
    write.await.expect("set");
    store.set("k", "2").await.expect("set");
    assert_eq!(diary.take(), Vec::<String>::new(), "also for the write that was past `before`");
}

#[tokio::test(start_paused = true)]
async fn closing_waits_for_a_write_whose_hook_runs() {
    for policy in POLICIES {
        let second = Duration::from_secs(1);
        let slow = Slow { before: second, after: second };
        let (frontend, backend) = (scripted(), scripted());
        let mut builder =
            TieredStore::builder(frontend.clone(), backend.clone()).write_policy(policy).hook(slow);
        if policy == WritePolicy::WriteBehind {
            builder = builder.journal(VolatileJournal::new());
        }
        let store = builder.build().await.expect("it fits");
        let mut write = Box::pin(store.set("k", "1"));
        assert!((&mut write).now_or_never().is_none());
        let (written, closed) = tokio::join!(write, store.close());
        written.expect("it began before");
        closed.expect("closed");
        let home = if policy == WritePolicy::FrontendOnly { &frontend } else { &backend };
        let kept = home.inner().get("k").await.expect("get").expect("kept");
        assert_eq!(kept.value(), "1", "{policy:?}");
        let late = store.set("k", "2").await.expect_err("closed");
        assert_eq!((late.kind(), late.outcome()), (ErrorKind::Closed, Some(Outcome::NotApplied)));
    }
}

/// Writes to a store from the hook of another one; keeps how that ended.
struct Calls(Arc<Mutex<Option<TieredStore>>>, Arc<Mutex<Vec<Option<ErrorKind>>>>);

#[async_trait]
impl Hook for Calls {
    async fn after(&self, mutation: &Mutation, _: &Result<Applied>) {
        let store = self.0.lock().clone();
        if let Some(store) = store {
            let ended = store.set(mutation.key(), "from a hook").await;
            self.1.lock().push(ended.err().map(|error| error.kind()));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_hook_that_comes_back_by_way_of_another_store_is_refused() {
    for policy in POLICIES {
        let (other, ended) = (Arc::default(), Arc::<Mutex<_>>::default());
        let one = builder(policy).hook(Calls(Arc::clone(&other), Arc::clone(&ended))).build().await;
        let one = one.expect("it fits");
        // Its own hook calls the first store.
        let first = Arc::new(Mutex::new(Some(one.clone())));
        let two = builder(policy).hook(Calls(Arc::clone(&first), Arc::clone(&ended))).build().await;
        *other.lock() = Some(two.expect("it fits"));
        let write = tokio::time::timeout(Duration::from_mins(1), one.set("k", "1"));
        write.await.expect("no write waits for itself").expect("set");
        assert_eq!(
            *ended.lock(),
            [Some(ErrorKind::Unsupported), None],
            "{policy:?}: the inner call ends first"
        );
        first.lock().take();
        other.lock().take();
    }
}

#[tokio::test(start_paused = true)]
async fn the_hooks_of_a_batch_are_fixed_when_it_begins() {
    for policy in POLICIES {
        let slow = Slow { before: Duration::from_secs(1), after: Duration::ZERO };
        let store = builder(policy).hook(slow).build().await.expect("it fits");
        let batch = Batch::new().best_effort().put(key("a"), "1").put(key("b"), "1");
        let mut applied = Box::pin(store.apply(batch));
        assert!((&mut applied).now_or_never().is_none());
        let diary = Diary::default();
        store.add_hook(diary.clone());
        applied.await.expect("applied");
        assert_eq!(diary.take(), Vec::<String>::new(), "{policy:?}: half of a batch is seen by none");
    }
}
