//! Any sequence of operations answers as a map does, under each pair of policies.

use std::collections::BTreeMap;

use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use tiered_core::{
    Batch, Delete, ErrorKind, Key, MemoryStore, Put, ReadOptions, ReadPolicy, Store, StoreExt as _,
    TieredStore, VolatileJournal, WritePolicy,
};

/// Cases of each pair of policies.
const CASES: u32 = 5_000;

#[derive(Clone, Debug)]
enum Operation {
    Get(u8),
    GetMany(Vec<u8>),
    Head(u8),
    Range(u8, u64, u64),
    List(u8),
    Put(u8, u8),
    Create(u8, u8),
    Update(u8, u8),
    Delete(u8),
    Batch(Vec<(u8, Option<u8>)>),
    Invalidate(u8),
    Flush,
}

fn operation() -> impl Strategy<Value = Operation> {
    let key = 0..5_u8;
    prop_oneof![
        key.clone().prop_map(Operation::Get),
        prop::collection::vec(key.clone(), 0..4).prop_map(Operation::GetMany),
        key.clone().prop_map(Operation::Head),
        (key.clone(), 0..12_u64, 0..12_u64).prop_map(|(k, a, b)| Operation::Range(k, a, b)),
        (0..6_u8).prop_map(Operation::List),
        (key.clone(), any::<u8>()).prop_map(|(k, v)| Operation::Put(k, v)),
        (key.clone(), any::<u8>()).prop_map(|(k, v)| Operation::Create(k, v)),
        (key.clone(), any::<u8>()).prop_map(|(k, v)| Operation::Update(k, v)),
        key.clone().prop_map(Operation::Delete),
        prop::collection::vec((key.clone(), any::<Option<u8>>()), 0..4).prop_map(Operation::Batch),
        key.prop_map(Operation::Invalidate),
        Just(Operation::Flush),
    ]
}

fn key(number: u8) -> Key {
    Key::new(format!("k{number}")).expect("valid")
}

fn value(number: u8) -> Vec<u8> {
    vec![number; usize::from(number) % 10]
}

type Model = BTreeMap<Key, Vec<u8>>;

/// Carries out one operation on the store and on the model.
async fn step(store: &TieredStore, model: &mut Model, operation: &Operation) {
    let found = |entry: Option<tiered_core::Entry>| entry.map(|entry| entry.value().to_vec());
    match operation {
        Operation::Get(k) => {
            let read = store.get(&key(*k)).await.expect("reads");
            assert_eq!(found(read), model.get(&key(*k)).cloned());
        }
        Operation::GetMany(keys) => {
            let keys: Vec<Key> = keys.iter().map(|k| key(*k)).collect();
            let reads = store.get_many(&keys, &ReadOptions::new()).await.into_iter();
            let reads: Vec<_> = reads.map(|read| found(read.expect("reads").into_entry())).collect();
            assert_eq!(reads, keys.iter().map(|key| model.get(key).cloned()).collect::<Vec<_>>());
        }
        Operation::Head(k) => {
            let head = store.head(&key(*k), &ReadOptions::new()).await.expect("reads");
            assert_eq!(head.map(|head| head.size), model.get(&key(*k)).map(|value| value.len() as u64));
        }
        Operation::Range(k, a, b) => match (store.get_range(&key(*k), *a..*b).await, model.get(&key(*k))) {
            (Err(error), Some(value)) => {
                assert_eq!(error.kind(), ErrorKind::InvalidRange);
                assert!(a > b || *a > value.len() as u64, "{a}..{b} of {} bytes", value.len());
            }
            (Ok(Some(entry)), Some(value)) => {
                let (start, end) = (usize::try_from(*a).expect("small"), usize::try_from(*b).expect("small"));
                assert_eq!(Some(&entry.value()[..]), value.get(start..end.min(value.len())));
            }
            // A range that cannot be may be refused before the key is looked up.
            (Ok(None), None) => {}
            (Err(error), None) => assert!(error.kind() == ErrorKind::InvalidRange && a > b),
            (read, expected) => unreachable!("{read:?} instead of {expected:?}"),
        },
        Operation::List(after) => {
            let prefix = if *after == 5 { String::new() } else { format!("k{after}") };
            let keys = store.keys(&prefix).await.expect("lists");
            let expected = model.keys().filter(|key| key.as_str().starts_with(&prefix)).cloned();
            assert_eq!(keys, expected.collect::<Vec<_>>());
        }
        Operation::Put(k, v) => {
            store.put(&key(*k), Put::new(value(*v))).await.expect("written");
            model.insert(key(*k), value(*v));
        }
        Operation::Create(k, v) => {
            let created = store.put(&key(*k), Put::new(value(*v)).if_absent()).await;
            assert_eq!(created.is_ok(), !model.contains_key(&key(*k)));
            model.entry(key(*k)).or_insert_with(|| value(*v));
        }
        Operation::Update(k, v) => {
            let longer = |old: Option<&[u8]>| [old.unwrap_or_default(), &value(*v)].concat();
            let change = |old: Option<&tiered_core::Entry>| {
                Some(Put::new(longer(old.map(|entry| entry.value().as_ref()))))
            };
            store.update(&key(*k), change).await.expect("updated");
            let new = longer(model.get(&key(*k)).map(Vec::as_slice));
            model.insert(key(*k), new);
        }
        Operation::Delete(k) => {
            let deleted = store.delete(&key(*k), Delete::new().report_existed()).await.expect("deleted");
            assert_eq!(deleted.existed, model.remove(&key(*k)).is_some().into());
        }
        Operation::Batch(operations) => {
            let mut batch = Batch::new().best_effort();
            for (k, v) in operations {
                batch = match v {
                    Some(v) => batch.put(key(*k), value(*v)),
                    None => batch.delete(key(*k), Delete::new()),
                };
            }
            let outcomes = store.apply(batch).await.expect("applied");
            assert!(outcomes.iter().all(Result::is_ok) && outcomes.len() == operations.len());
            for (k, v) in operations {
                match v {
                    Some(v) => drop(model.insert(key(*k), value(*v))),
                    None => drop(model.remove(&key(*k))),
                }
            }
        }
        Operation::Invalidate(k) => store.invalidate(&key(*k)).await.expect("dropped"),
        Operation::Flush => store.flush().await.expect("flushed"),
    }
}

fn check(write: WritePolicy, read: ReadPolicy) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("builds");
    let config = ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(CASES) };
    let cases = TestRunner::new(config).run(&prop::collection::vec(operation(), 0..24), |operations| {
        runtime.block_on(async {
            let (front, back) = (MemoryStore::new(), MemoryStore::new());
            let mut builder = TieredStore::builder(front, back.clone());
            if write == WritePolicy::WriteBehind {
                builder = builder.journal(VolatileJournal::new());
            }
            let store = builder.write_policy(write).read_policy(read).build().await.expect("builds");
            let mut model = Model::new();
            // Dropping what only the frontend has is what these pairs are asked to do: no map does that.
            let forgets = write == WritePolicy::FrontendOnly || read == ReadPolicy::FrontendOnly;
            for operation in operations.iter().filter(|o| !(forgets && matches!(o, Operation::Invalidate(_))))
            {
                step(&store, &mut model, operation).await;
            }
            store.flush().await.expect("flushed");
            let kept: Model =
                back.snapshot().into_iter().map(|(k, entry)| (k, entry.value().to_vec())).collect();
            // The backend has it all, or nothing where it is never written.
            assert_eq!(kept, if write == WritePolicy::FrontendOnly { Model::new() } else { model });
        });
        Ok(())
    });
    assert!(cases.is_ok(), "{write} {read}: {}", cases.expect_err("failed"));
}

macro_rules! pairs {
    ($($name:ident: $write:ident $read:ident),* $(,)?) => {
        $(
            #[test]
            fn $name() {
                check(WritePolicy::$write, ReadPolicy::$read);
            }
        )*
    };
}

pairs! {
    write_through: WriteThrough FrontendFirst,
    write_through_reading_the_frontend: WriteThrough FrontendOnly,
    write_behind: WriteBehind FrontendFirst,
    write_behind_reading_the_frontend: WriteBehind FrontendOnly,
    write_around: WriteAround FrontendFirst,
    frontend_only: FrontendOnly FrontendFirst,
    frontend_only_reading_the_frontend: FrontendOnly FrontendOnly,
}
