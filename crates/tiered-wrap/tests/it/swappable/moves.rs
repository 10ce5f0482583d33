//! Moving to another backend while calls go on.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use tiered_conformance::{Intercept, Interceptor};
use tiered_core::adapter::BatchOutcomes;
use tiered_core::{
    Attributes, Batch, Capabilities, Delete, Entry, Error, ErrorKind, Feature, Key, MemoryStore, Put,
    ReadOptions, Result, Sharing, Store, StoreExt as _, TieredStore, WritePolicy, Written, ownership,
};
use tiered_wrap::{MoveOptions, Swappable};
use tokio::runtime::Handle;
use tokio::sync::mpsc;

use super::{attach, key};

/// Everything that a store holds, with versions.
async fn all(store: &dyn Store) -> Vec<(Key, String, String)> {
    let mut all = Vec::new();
    for key in store.keys("").await.expect("lists") {
        let entry =
            store.load(&key, &ReadOptions::new()).await.expect("reads").into_entry().expect("is there");
        let value = String::from_utf8_lossy(entry.value()).into_owned();
        all.push((key, value, entry.version().to_string()));
    }
    all
}

async fn filled(entries: usize) -> MemoryStore {
    let memory = MemoryStore::new();
    for index in 0..entries {
        memory.put(&key(&format!("k{index:05}")), Put::new(index.to_string())).await.expect("stored");
    }
    memory
}

/// Puts of the key `late` take effect after a while, whether or not their callers wait.
#[derive(Debug)]
struct Late {
    memory: MemoryStore,
    capabilities: Capabilities,
}

#[async_trait]
impl Interceptor for Late {
    fn capabilities<'s>(&'s self, _: &'s dyn Store) -> &'s Capabilities {
        &self.capabilities
    }

    fn peek(&self, _: &dyn Store, _: &Key) -> Option<Entry> {
        None
    }

    async fn put(&self, _: &dyn Store, key: &Key, put: Put) -> Result<Written> {
        let (memory, key) = (self.memory.clone(), key.clone());
        let late = async move {
            if key.as_str() == "late" {
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
            memory.put(&key, put).await
        };
        Handle::current().spawn(late).await.expect("runs")
    }
}

/// Tells of each batch before it is applied, and waits for the test to answer.
#[derive(Debug)]
struct Watched {
    batches: mpsc::Sender<tokio::sync::oneshot::Sender<()>>,
    /// So many writes succeed.
    writes: AtomicI64,
}

#[async_trait]
impl Interceptor for Watched {
    async fn before_write(&self) -> Result<()> {
        match self.writes.fetch_sub(1, Ordering::AcqRel) {
            ..=0 => Err(Error::new(ErrorKind::PermissionDenied, "the disk is read-only")),
            _ => Ok(()),
        }
    }

    async fn apply(&self, inner: &dyn Store, batch: Batch) -> Result<BatchOutcomes> {
        self.before_write().await?;
        let (answer, answered) = tokio::sync::oneshot::channel();
        if self.batches.send(answer).await.is_ok() {
            answered.await.ok();
        }
        inner.apply(batch).await
    }
}

fn watched(
    memory: &MemoryStore,
) -> (Intercept<Watched, MemoryStore>, mpsc::Receiver<tokio::sync::oneshot::Sender<()>>) {
    let (batches, told) = mpsc::channel(1);
    (Intercept::new(memory.clone(), Watched { batches, writes: AtomicI64::new(i64::MAX) }), told)
}

#[tokio::test]
async fn everything_moves_with_its_version_attributes_and_expiry() {
    let from = filled(2_500).await;
    let attributes = Attributes::new().with("kind", "person").expect("valid");
    let put = Put::new("Ada").attributes(attributes.clone()).expires_in(Duration::from_hours(1));
    from.put(&key("users/42"), put).await.expect("stored");
    let before = all(&from).await;
    let to = MemoryStore::new();
    let store = Swappable::new(from.clone());
    let moved = store.move_to(to.clone(), &MoveOptions::new().batch(100)).await.expect("moved");
    assert_eq!((moved.copied, moved.copied_again), (2_501, 0));
    assert_eq!(all(&to).await, before);
    assert_eq!(all(&*moved.before).await, before);
    let metadata = |store: MemoryStore| async move {
        store.head(&key("users/42"), &ReadOptions::new()).await.expect("reads").expect("is there")
    };
    assert_eq!(metadata(to).await, metadata(from).await);
}

#[tokio::test]
async fn what_is_written_and_deleted_meanwhile_moves_as_well() {
    let from = filled(2_000).await;
    let to = MemoryStore::new();
    let (watched, mut told) = watched(&to);
    let store = Swappable::new(from.clone());
    let mut moving = Handle::current().spawn({
        let store = store.clone();
        async move { store.move_to(watched, &MoveOptions::new().batch(100).concurrency(2)).await }
    });
    // Behind what was copied already, and before it.
    let mut batches = 0;
    let moved = loop {
        let answer = tokio::select! {
            moved = &mut moving => break moved.expect("runs").expect("moved"),
            Some(answer) = told.recv() => answer,
        };
        if batches == 10 {
            store.set("k00000", "new").await.expect("stored");
            store.set("k01999", "new").await.expect("stored");
            store.set("a-new-one", "new").await.expect("stored");
            store.delete(&key("k00001"), Delete::new()).await.expect("deleted");
            store.delete(&key("k01998"), Delete::new()).await.expect("deleted");
            store
                .apply(Batch::new().best_effort().put(key("k00002"), Put::new("new")))
                .await
                .expect("applied");
        }
        batches += 1;
        answer.send(()).ok();
    };
    assert!(moved.copied_again >= 3, "{moved:?}");
    assert_eq!(all(&to).await, all(&from).await);
    assert!(all(&to).await.iter().any(|(key, value, _)| key.as_str() == "k00002" && value == "new"));
    assert!(!to.contains("k00001").await.expect("reads"));
}

/// A write that is under way while its key is copied takes effect afterwards, before calls wait.
#[tokio::test(start_paused = true)]
async fn calls_do_not_wait_for_the_rate_at_which_data_move() {
    let from = MemoryStore::new();
    for index in 0..20 {
        from.put(&key(&format!("k{index:05}")), Put::new(vec![1; 100])).await.expect("stored");
    }
    let to = MemoryStore::new();
    let store = Swappable::new(from);
    let options = MoveOptions::new().bytes_per_second(100);
    let begun = tokio::time::Instant::now();
    let moving = Handle::current().spawn({
        let (store, to) = (store.clone(), to.clone());
        async move { store.move_to(to, &options).await }
    });
    // A third of it is copied.
    tokio::time::sleep(Duration::from_secs(7)).await;
    assert!(to.contains("k00000").await.expect("reads") && !to.contains("k00019").await.expect("reads"));
    for index in 0..3 {
        store.put(&key(&format!("late/{index}")), Put::new(vec![2; 1_000])).await.expect("stored");
    }
    let moved = moving.await.expect("runs").expect("moved");
    // 2,000 bytes while calls go on, and 3,000 while they wait.
    assert!(begun.elapsed() >= Duration::from_secs(19), "{:?}", begun.elapsed());
    assert!(moved.paused < Duration::from_secs(1), "calls waited {:?}", moved.paused);
    assert_eq!((moved.copied_again, to.keys("").await.expect("lists").len()), (3, 23));
}

#[tokio::test]
async fn a_write_that_takes_effect_after_its_key_was_copied_is_copied_again() {
    for is_dropped in [false, true] {
        let memory = filled(200).await;
        memory.set("late", "old").await.expect("stored");
        let lifetime = Duration::from_millis(if is_dropped { 300 } else { 0 });
        let capabilities =
            memory.capabilities().clone().without(Feature::Peeks).with_request_lifetime(lifetime);
        let from = Intercept::new(memory.clone(), Late { memory: memory.clone(), capabilities });
        let to = MemoryStore::new();
        let (watched, mut told) = watched(&to);
        let store = Swappable::new(from);
        let moving = Handle::current().spawn({
            let store = store.clone();
            async move { store.move_to(watched, &MoveOptions::new().batch(100)).await }
        });
        let answer = told.recv().await.expect("a batch");
        let write = Handle::current().spawn({
            let store = store.clone();
            async move { store.set("late", "new").await.map(drop) }
        });
        tokio::time::sleep(Duration::from_millis(20)).await;
        if is_dropped {
            write.abort();
        }
        // So many that they are copied in a round of their own, while calls go on.
        for index in 0..1_500 {
            store.set(format!("more{index}").as_str(), "new").await.expect("stored");
        }
        drop((answer, told));
        moving.await.expect("runs").expect("moved");
        assert_eq!(memory.get("late").await.expect("reads").expect("is there").value(), "new");
        assert_eq!(to.get("late").await.expect("reads").expect("is there").value(), "new");
        assert_eq!(all(&to).await, all(&memory).await);
    }
}

#[tokio::test]
async fn a_move_that_fails_changes_nothing_and_goes_on_when_it_is_called_again() {
    let from = filled(2_000).await;
    let to = MemoryStore::new();
    let (failing, mut told) = watched(&to);
    failing.writes.store(8, Ordering::Release);
    Handle::current().spawn(async move {
        while let Some(answer) = told.recv().await {
            answer.send(()).ok();
        }
    });
    let store = Swappable::new(from.clone());
    store.move_to(failing, &MoveOptions::new().batch(100)).await.expect_err("fails half-way");
    assert_eq!(store.inside().capabilities().name(), "memory");
    let part = to.keys("").await.expect("lists").len();
    assert!(part > 0 && part < 2_000, "{part}");
    store.set("k00000", "new").await.expect("stored");
    store.delete(&key("k00001"), Delete::new()).await.expect("deleted");
    let moved = store.move_to(to.clone(), &MoveOptions::new()).await.expect("goes on");
    assert!(moved.copied < 2_000, "{moved:?}");
    assert_eq!(all(&to).await, all(&from).await);
}

#[tokio::test]
async fn a_target_that_holds_something_else_is_refused() {
    let store = Swappable::new(filled(10).await);
    let other = filled(1).await;
    let error = store.move_to(other.clone(), &MoveOptions::new()).await.expect_err("not empty");
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.to_string().contains("k00000"), "{error}");
    assert_eq!(other.keys("").await.expect("lists").len(), 1);
    let inside = store.inside();
    assert!(store.move_to(inside, &MoveOptions::new()).await.is_err());
    let less = MemoryStore::new().declaring(|all| all.without(Feature::AtomicBatch));
    assert_eq!(store.move_to(less, &MoveOptions::new()).await.expect_err("lacks").kind(), ErrorKind::Config);
}

#[tokio::test]
async fn a_store_that_lists_only_a_part_is_not_moved() {
    let builder = TieredStore::builder(MemoryStore::new(), filled(3).await);
    let stack = builder.write_policy(WritePolicy::FrontendOnly).build().await.expect("builds");
    let store = Swappable::new(stack);
    let target = MemoryStore::new();
    let error = store.move_to(target.clone(), &MoveOptions::new()).await.expect_err("would lose the rest");
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
    assert!(target.keys("").await.expect("lists").is_empty());
}

#[tokio::test]
async fn a_store_that_others_may_write_moves_only_where_that_is_ruled_out() {
    let shared = || MemoryStore::new().declaring(|all| all.with_sharing(Sharing::Shared));
    let store = Swappable::new(shared());
    store.set("a", "1").await.expect("stored");
    let error = store.move_to(shared(), &MoveOptions::new()).await.expect_err("others may write");
    assert!(error.to_string().contains("declare_sole_writer"), "{error}");
    let moved = store.move_to(shared(), &MoveOptions::new().declare_sole_writer()).await.expect("moved");
    assert_eq!(moved.copied, 1);
}

#[tokio::test]
async fn the_new_store_stands_in_for_the_old_one_by_its_id() {
    let (from, to) = (filled(3).await, MemoryStore::new());
    let id = ownership::ensure_id(&from).await.expect("marks");
    ownership::ensure_id(&to).await.expect("marks");
    let store = Swappable::new(from.clone());
    let stack = TieredStore::builder(MemoryStore::new(), store.clone()).build().await.expect("builds");
    store.move_to(to.clone(), &MoveOptions::new()).await.expect("moved");
    assert_eq!(ownership::id(&to).await.expect("marks"), id);
    assert_ne!(ownership::id(&from).await.expect("marks"), id);
    assert_eq!(to.mark("tiered.moving").await.expect("marks"), None);
    stack.set("k00003", "new").await.expect("stored");
    assert!(to.contains("k00003").await.expect("reads") && !from.contains("k00003").await.expect("reads"));
    // And back again.
    store.move_to(MemoryStore::new(), &MoveOptions::new()).await.expect("moved");
    assert_eq!(ownership::id(&store).await.expect("marks"), id);
}

#[tokio::test]
async fn no_exchange_comes_between_while_data_moves() {
    let from = filled(500).await;
    let to = MemoryStore::new();
    let (watched, mut told) = watched(&to);
    let store = Swappable::new(from);
    let moving = Handle::current().spawn({
        let store = store.clone();
        async move { store.move_to(watched, &MoveOptions::new().batch(100)).await }
    });
    let answer = told.recv().await.expect("a batch");
    assert_eq!(attach(&store).await.expect_err("data moves").kind(), ErrorKind::Locked);
    drop((answer, told));
    moving.await.expect("runs").expect("moved");
    attach(&store).await.expect("attached");
}

/// A store some of whose entries are damaged until they are repaired.
#[derive(Debug, Default)]
struct Damaged(std::sync::atomic::AtomicBool);

impl Damaged {
    /// Every third entry.
    fn is_damaged(&self, key: &Key) -> bool {
        let number = key.as_str().trim_start_matches('k').parse::<usize>().unwrap_or(1);
        number.is_multiple_of(3) && !self.0.load(Ordering::Relaxed)
    }

    fn damage(&self, key: &Key) -> Result<()> {
        if self.is_damaged(key) {
            return Err(Error::new(ErrorKind::Corrupt, "its record is damaged").for_key(key));
        }
        Ok(())
    }
}

#[async_trait]
impl Interceptor for Damaged {
    async fn load(&self, inner: &dyn Store, key: &Key, options: &ReadOptions) -> Result<tiered_core::Read> {
        self.damage(key)?;
        inner.load(key, options).await
    }

    fn derived_reads(&self) -> tiered_conformance::DerivedReads {
        tiered_conformance::DerivedReads::Load
    }

    fn list(&self, inner: &dyn Store, options: tiered_core::ListOptions) -> tiered_core::ListStream {
        let now = Self(self.0.load(Ordering::Relaxed).into());
        let all = inner.list(options);
        Box::pin(futures_util::StreamExt::map(all, move |listed| {
            let listed = listed?;
            now.damage(&listed.key)?;
            Ok(listed)
        }))
    }
}

#[tokio::test]
async fn a_move_stops_after_so_many_damaged_entries_and_names_one_and_goes_on_once_they_are_repaired() {
    for (most, copied) in [(0, 0..=20), (40, 60..=100), (u64::MAX, 200..=200)] {
        let inside = Intercept::new(
            filled(300).await.declaring(|all| all.with(Feature::DetectsCorruption).without(Feature::Peeks)),
            Damaged::default(),
        );
        let inside = std::sync::Arc::new(inside);
        let shared: std::sync::Arc<dyn Store> =
            std::sync::Arc::<Intercept<Damaged, MemoryStore>>::clone(&inside);
        let store = Swappable::new(shared);
        let target =
            MemoryStore::new().declaring(|all| all.with(Feature::DetectsCorruption).without(Feature::Peeks));
        let options = MoveOptions::new().batch(10).concurrency(1).max_failures(most);
        let error = store.move_to(target.clone(), &options).await.expect_err("damaged");
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{}", error.chain());
        let named = error.key().expect("names one");
        assert!(inside.is_damaged(named), "{named}: {}", error.chain());
        assert!(error.message().contains("nothing was exchanged"), "{}", error.chain());
        let there = target.keys("").await.expect("lists").len();
        assert!(copied.contains(&there), "{there} were copied until more than {most} had failed");
        store.set("k00001", "written since").await.expect("the store inside is the one before");
        assert_eq!(inside.get("k00001").await.expect("reads").expect("there").value(), "written since");
        inside.0.store(true, Ordering::Relaxed);
        let moved = store.move_to(target.clone(), &options).await.expect("repaired");
        assert_eq!(target.keys("").await.expect("lists").len(), 300);
        let copied = usize::try_from(moved.copied).expect("few");
        assert_eq!(copied, 300 - there + usize::from(there > 0), "what was copied is skipped");
        assert_eq!(all(&target).await, all(&*moved.before).await);
    }
}
