//! Writes of unknown outcome that are driven forward.

use std::time::Duration;

use tiered_core::settings::OnUnknown;
use tiered_core::{
    Batch, Capabilities, Delete, Error, ErrorKind, Existed, Feature, MemoryStore, Outcome, Put, Sharing,
    Store, StoreExt as _, TieredBuilder, TieredStore, VolatileJournal, WritePolicy,
};

use crate::scripted::{self, Fate, Scripted, key, scripted, shared};

fn driving(builder: TieredBuilder, write_policy: WritePolicy) -> TieredBuilder {
    builder.write_policy(write_policy).on_unknown(OnUnknown::Retry)
}

async fn over(backend: &Scripted) -> TieredStore {
    let builder = TieredStore::builder(MemoryStore::new(), backend.clone());
    driving(builder, WritePolicy::WriteThrough).build().await.expect("it fits")
}

/// A value that was there before.
async fn with_old(backend: &Scripted) -> TieredStore {
    backend.inner().put(&key("k"), Put::new("old")).await.expect("put");
    over(backend).await
}

#[tokio::test(start_paused = true)]
async fn a_put_is_retried_until_its_outcome_is_known() {
    let backend = scripted();
    let store = with_old(&backend).await;
    backend.then(Fate::RequestLost).then(Fate::RequestLost).then(Fate::AnswerLost);
    let written = store.put(&key("k"), Put::new("new")).await.expect("it is driven forward");
    let entry = backend.inner().get(&key("k")).await.expect("get").expect("there");
    assert_eq!((entry.value().as_ref(), entry.version()), (b"new".as_slice(), &written.version));
    assert_eq!(store.get(&key("k")).await.expect("get").expect("there"), entry);
    assert_eq!(store.stats().unknowns, 3);
}

#[tokio::test(start_paused = true)]
async fn a_retried_write_recognises_its_own_version_as_success() {
    let backend = scripted();
    let store = over(&backend).await;
    backend.then(Fate::AnswerLost);
    let created = store.put(&key("k"), Put::new("1").if_absent()).await.expect("its own");
    backend.then(Fate::AnswerLost);
    let replaced = store.put(&key("k"), Put::new("2").if_version(created.version)).await.expect("its own");
    backend.then(Fate::AnswerLost);
    let deleted = store
        .delete(&key("k"), Delete::new().if_version(replaced.version).report_existed())
        .await
        .expect("its own");
    assert_eq!(deleted.existed, Existed::Yes);
    assert!(backend.inner().get(&key("k")).await.expect("get").is_none());
    let gone = store.delete(&key("k"), Delete::new().report_existed()).await.expect("nothing to do");
    assert_eq!(gone.existed, Existed::No);
}

#[tokio::test(start_paused = true)]
async fn a_retried_write_whose_condition_never_held_is_refused() {
    let backend = scripted();
    let store = with_old(&backend).await;
    let other = tiered_core::Version::from_u128(7);
    let refused = store.delete(&key("k"), Delete::new().if_version(other)).await.expect_err("refused");
    assert_eq!(
        (refused.kind(), refused.write_outcome()),
        (ErrorKind::PreconditionFailed, Outcome::NotApplied)
    );
    assert_eq!(backend.writes(), 0, "it is seen before anything is sent");
    backend.then(Fate::RequestLost);
    let refused = store.put(&key("k"), Put::new("new").if_absent()).await.expect_err("refused");
    assert_eq!(refused.write_outcome(), Outcome::NotApplied, "no other process can have written it");
    assert_eq!(store.get(&key("k")).await.expect("get").expect("there").value(), "old");
}

#[tokio::test(start_paused = true)]
async fn a_retried_write_does_not_undo_a_later_write_of_another_process() {
    let backend = shared();
    let store = with_old(&backend).await;
    backend.then(Fate::Overtaken("theirs"));
    store.put(&key("k"), Put::new("ours")).await.expect("overwritten before or after: either is allowed");
    assert_eq!(backend.inner().get(&key("k")).await.expect("get").expect("there").value(), "theirs");
    assert_eq!(store.get(&key("k")).await.expect("get").expect("there").value(), "theirs");
    let seen = store.get(&key("k")).await.expect("get").expect("there").version().clone();
    backend.then(Fate::Overtaken("theirs again"));
    let error =
        store.put(&key("k"), Put::new("ours").if_version(seen)).await.expect_err("the order is unknown");
    assert_eq!(error.write_outcome(), Outcome::Unknown);
    assert_eq!(store.get(&key("k")).await.expect("get").expect("there").value(), "theirs again");
}

#[tokio::test(start_paused = true)]
async fn a_batch_is_retried_until_its_outcome_is_known() {
    for atomic in [true, false] {
        let inner =
            MemoryStore::new().declaring(|all| if atomic { all } else { all.without(Feature::AtomicBatch) });
        let backend = scripted::over(inner, Sharing::Exclusive);
        let store = with_old(&backend).await;
        backend.then(Fate::AnswerLost).then(Fate::AnswerLost);
        let batch = Batch::new().best_effort().put(key("a"), Put::new("1")).delete(key("k"), Delete::new());
        let outcomes = store.apply(batch).await.expect("driven");
        assert!(outcomes.iter().all(Result::is_ok), "{outcomes:?}");
        assert_eq!(backend.inner().get(&key("a")).await.expect("get").expect("there").value(), "1");
        assert!(backend.inner().get(&key("k")).await.expect("get").is_none());
        let refused = Batch::new().best_effort().put(key("a"), Put::new("2").if_absent());
        let refused = store.apply(refused).await.map(|outcomes| outcomes.into_iter().all(|one| one.is_err()));
        assert!(refused.is_err() || refused.is_ok_and(|all| all), "a condition that does not hold");
    }
}

#[tokio::test(start_paused = true)]
async fn a_best_effort_batch_is_retried_without_its_refused_items() {
    for atomic in [true, false] {
        let memory = MemoryStore::new();
        let memory = if atomic { memory } else { memory.declaring(|all| all.without(Feature::AtomicBatch)) };
        let backend = scripted::over(memory, Sharing::Exclusive);
        let store = with_old(&backend).await;
        backend.then(Fate::AnswerLost);
        let batch = Batch::new()
            .per_item()
            .put(key("k"), Put::new("never").if_absent())
            .put(key("a"), Put::new("1").if_absent())
            .put(key("b"), Put::new("2"));
        let outcomes = store.apply(batch).await.expect("driven");
        assert_eq!(outcomes.iter().map(Result::is_ok).collect::<Vec<_>>(), [false, true, true]);
        let outcome = outcomes[0].as_ref().map_err(tiered_core::Error::write_outcome).map(drop);
        assert_eq!(outcome, Err(Outcome::NotApplied));
        assert_eq!(backend.inner().get(&key("a")).await.expect("get").expect("there").value(), "1");
        assert_eq!(backend.inner().get(&key("b")).await.expect("get").expect("there").value(), "2");
    }
}

/// Found by the simulation: an error that said that the rest of the batch was applied was given for what had been refused.
#[tokio::test(start_paused = true)]
async fn the_error_of_a_best_effort_batch_is_not_the_error_of_its_refused_items() {
    let backend = scripted();
    let store = with_old(&backend).await;
    assert_eq!(store.get(&key("k")).await.expect("get").expect("there").value(), "old");
    backend.then(Fate::Applied);
    let batch = Batch::new()
        .per_item()
        .put(key("k"), Put::new("new"))
        .put(key("a"), Put::new("1"))
        .put(key("k"), Put::new("never").if_absent());
    let outcomes = store.apply(batch).await.expect("one for each");
    let outcomes: Vec<_> =
        outcomes.iter().map(|outcome| outcome.as_ref().map(drop).map_err(Error::write_outcome)).collect();
    assert_eq!(outcomes, [Err(Outcome::Applied), Err(Outcome::Applied), Err(Outcome::NotApplied)]);
    assert_eq!(store.get(&key("k")).await.expect("get").expect("there").value(), "new");
}

/// Found by the simulation: a put that a delete of the same batch replaced was looked for, and not found.
#[tokio::test(start_paused = true)]
async fn a_retried_batch_is_recognised_by_its_last_operation_on_each_key() {
    for backend in [scripted(), shared()] {
        let old = backend.inner().put(&key("k"), Put::new("old")).await.expect("put").version;
        let store = over(&backend).await;
        let batch = Batch::new().put(key("k"), Put::new("replaced"));
        let batch = batch.delete(key("k"), Delete::new().if_version(old));
        backend.then(Fate::AnswerLost);
        let applied = store.apply(batch).await;
        assert!(backend.inner().get(&key("k")).await.expect("get").is_none());
        if backend.capabilities().sharing() == Sharing::Exclusive {
            assert!(applied.expect("its own").iter().all(Result::is_ok));
        } else {
            let error = applied.expect_err("another process could have deleted it");
            assert_eq!(error.write_outcome(), Outcome::Unknown, "{}", error.chain());
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_write_past_its_deadline_answers_unknown_and_continues() {
    let backend = scripted();
    let builder = TieredStore::builder(MemoryStore::new(), backend.clone());
    let builder = driving(builder, WritePolicy::WriteAround).write_deadline(Duration::from_millis(5));
    let store = builder.build().await.expect("it fits");
    for _ in 0..8 {
        backend.then(Fate::RequestLost);
    }
    let late = store.put(&key("k"), Put::new("new")).await.expect_err("no answer in time");
    assert_eq!(late.write_outcome(), Outcome::Unknown);
    store.close().await.expect("it waits for the write");
    assert_eq!(backend.inner().get(&key("k")).await.expect("get").expect("there").value(), "new");
}

#[tokio::test]
async fn retrying_until_known_is_refused_over_a_backend_that_cannot_support_it() {
    let unconditional = |all: Capabilities| all.without(Feature::ConditionalDelete);
    let build = |backend: Scripted, policy: WritePolicy| {
        let builder = TieredStore::builder(MemoryStore::new(), backend);
        let builder = driving(builder, policy);
        match policy {
            WritePolicy::WriteBehind => builder.journal(VolatileJournal::new()),
            _ => builder,
        }
        .build()
    };
    for policy in [WritePolicy::WriteBehind, WritePolicy::FrontendOnly] {
        let refused = build(scripted(), policy).await.expect_err("not used");
        assert!(refused.message().contains("does not use"), "{refused}");
    }
    let refused = build(
        scripted::over(MemoryStore::new().declaring(unconditional), Sharing::Exclusive),
        WritePolicy::WriteThrough,
    )
    .await;
    assert!(refused.expect_err("no fence").message().contains("conditional"), "it says what is missing");
}

/// It may have taken effect before another write replaced it: changing the value again could apply it twice.
#[tokio::test(start_paused = true)]
async fn an_update_of_unknown_outcome_is_not_repeated() {
    let backend = shared();
    let store = over(&backend).await;
    store.put(&key("k"), Put::new("1")).await.expect("written");
    backend.then(Fate::Overtaken("theirs"));
    let mut changes = 0;
    let change = |_: Option<&tiered_core::Entry>| {
        changes += 1;
        Some(Put::new("2"))
    };
    let error = store.update(&key("k"), change).await.expect_err("unknown outcome");
    assert_eq!((error.write_outcome(), changes), (Outcome::Unknown, 1));
    assert_eq!(store.get(&key("k")).await.expect("reads").expect("there").value(), "theirs");
}

/// No other process deletes the entry it creates. So a lost request is sent again.
#[tokio::test(start_paused = true)]
async fn a_declared_sole_writer_resends_a_lost_create() {
    let backend = shared();
    let builder = TieredStore::builder(MemoryStore::new(), backend.clone());
    let builder = driving(builder, WritePolicy::WriteThrough).declare_sole_writer();
    let store = builder.build().await.expect("it fits");
    backend.then(Fate::RequestLost);
    store.put(&key("k"), Put::new("1").if_absent()).await.expect("driven forward");
    // Where others write it could come back over their delete.
    let shared = shared();
    let store = over(&shared).await;
    shared.then(Fate::RequestLost);
    let error = store.put(&key("k"), Put::new("1").if_absent()).await.expect_err("unknown outcome");
    assert_eq!((error.write_outcome(), shared.writes()), (Outcome::Unknown, 1));
}
