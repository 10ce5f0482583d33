//! What users of konserve's stores rely on, as one list of scenarios, on stacks of every kind, async and blocking.

use std::io::{Cursor, Read as _};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use serde_json::{Value, json};
use tiered::blocking::{BlockingStore, Runtime};
use tiered::hooks::{self, Mutation};
use tiered::values::sweep::{KeepList, Sweep};
use tiered::values::{Documents, Log, StoreTools as _};
use tiered::wrap::{Compressed, Compression, Encrypted, EncryptionKey, Keys};
use tiered::{
    Applied, Attributes, Batch, Create, Delete, Entry, Error, Existed, Key, ListOptions, Operation, Put,
    ReadOptions, ReadPolicy, Result, Store, StoreExt as _, TieredStore, Timestamp, WritePolicy,
};
use tiered_tests::{Tier, Tiers};

type Tested<T = ()> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

fn key(text: &str) -> Key {
    Key::new(text).expect("valid")
}

fn attributes(name: &str, value: &str) -> Attributes {
    Attributes::new().with(name, value).expect("valid")
}

fn count(entry: Option<&Entry>) -> u32 {
    entry.and_then(|entry| std::str::from_utf8(entry.value()).ok()?.parse().ok()).unwrap_or(0)
}

/// Values under keys: put, overwrite, update, exists, dissoc, binary, metadata, batches, many keys at once.
async fn values(store: &Arc<dyn Store>) -> Tested {
    assert!(store.get("foo").await?.is_none() && !store.contains("foo").await?);
    store.set("foo", "bar").await?;
    assert!(store.contains("foo").await?);
    assert_eq!(store.get("foo").await?.ok_or("there")?.value(), "bar");
    store.set("foo", "overwritten").await?;
    assert_eq!(store.get("foo").await?.ok_or("there")?.value(), "overwritten");

    store.set("count", "1").await?;
    let (old, new) = store.update("count", |old| Some(Put::new((count(old) + 1).to_string()))).await?;
    assert_eq!((count(old.as_ref()), new.is_some()), (1, true));
    assert_eq!(count(store.get("count").await?.as_ref()), 2);

    let ask = || Delete::new().report_existed();
    assert_eq!(store.delete(&key("foo"), ask()).await?.existed, Existed::Yes);
    assert_eq!(store.delete(&key("foo"), ask()).await?.existed, Existed::No);
    assert!(store.get("foo").await?.is_none());

    // Any bytes are a value: none, zeros, what is no text.
    for bytes in [&[][..], &[0], &[0xff, 0x00, 0xfe]] {
        store.set("binary", bytes.to_vec()).await?;
        assert_eq!(store.get("binary").await?.ok_or("an empty value is a value")?.value(), bytes);
    }

    let put = Put::new("x").attributes(attributes("type", "text"));
    let written = store.put(&key("described"), put).await?;
    let metadata = store.head(&key("described"), &ReadOptions::new()).await?.ok_or("there")?;
    assert_eq!((metadata.attributes.get("type"), metadata.size), (Some("text"), 1));
    assert_eq!(metadata.version, written.version);

    // In the order given; the last operation on a key wins.
    let batch = Batch::new()
        .put(key("multi/1"), Put::new("first").attributes(attributes("number", "1")))
        .put(key("multi/2"), Put::new("second").attributes(attributes("number", "2")))
        .put(key("multi/1"), Put::new("third").attributes(attributes("number", "3")))
        .delete(key("described"), Delete::new());
    for applied in store.apply(batch).await? {
        applied?;
    }
    let first = store.get("multi/1").await?.ok_or("there")?;
    assert_eq!(
        (first.value().as_ref(), first.metadata().attributes.get("number")),
        (&b"third"[..], Some("3"))
    );

    let wanted = [key("multi/2"), key("absent"), key("multi/1")];
    let found = store.get_existing(&wanted).await?;
    assert_eq!(found.iter().map(|(key, _)| key.as_str()).collect::<Vec<_>>(), ["multi/2", "multi/1"]);
    assert!(store.get_existing(&[]).await?.is_empty());
    assert_eq!(store.contains_many(&wanted).await?, [true, false, true]);

    let listed: Vec<_> = store.list(ListOptions::new().prefix("multi/")).try_collect().await?;
    assert_eq!(listed.iter().map(|listed| listed.key.as_str()).collect::<Vec<_>>(), ["multi/1", "multi/2"]);
    Ok(())
}

/// A value that is written and read part by part, and a file.
async fn streams(store: &Arc<dyn Store>) -> Tested {
    let parts = ["a ", "streamed ", "value"].map(|part| Ok(part.into()));
    store.put_stream(&key("stream"), Put::new(""), stream::iter(parts).boxed()).await?;
    let (metadata, body) =
        store.read_stream(&key("stream"), &ReadOptions::new()).await?.ok_or("just written")?;
    let read: Vec<_> = body.try_collect().await?;
    assert_eq!((metadata.size, read.concat().as_slice()), (16, &b"a streamed value"[..]));
    assert_eq!(store.get_range("stream", 2..10).await?.ok_or("there")?.value(), "streamed");

    let file = tempfile::NamedTempFile::new()?;
    std::fs::write(file.path(), vec![7; 300_000])?;
    store.set("file", std::fs::read(file.path())?).await?;
    assert_eq!(store.get("file").await?.ok_or("there")?.value().len(), 300_000);
    Ok(())
}

/// Nested reads and writes of documents, of which each change is one of the whole.
async fn documents(store: &Arc<dyn Store>) -> Tested {
    let documents = Documents::new(Arc::clone(store))?;
    documents.assoc_in("doc", ["bar"], json!({ "baz": 43 })).await?;
    assert_eq!(documents.get_in("doc", ["bar", "baz"]).await?, Some(json!(43)));
    let (old, new) = documents.update_in("doc", ["bar", "baz"], increment).await?;
    assert_eq!((old, new), (Some(json!(43)), json!(44)));
    // An absent path is none, a null is a value, and neither changes what is stored.
    documents.assoc_in("doc", ["nil"], Value::Null).await?;
    assert_eq!(documents.get_in("doc", ["nil"]).await?, Some(Value::Null));
    assert_eq!(documents.get_in("doc", ["no", "such"]).await?, None);
    assert_eq!(documents.get("doc").await?, Some(json!({ "bar": { "baz": 44 }, "nil": null })));
    assert_eq!(documents.dissoc_in("doc", ["bar", "baz"]).await?, Some(json!(44)));
    assert_eq!(documents.get("doc").await?, Some(json!({ "bar": {}, "nil": null })));
    Ok(())
}

fn increment(old: Option<&Value>) -> Value {
    json!(old.and_then(Value::as_u64).unwrap_or(0) + 1)
}

/// An append log.
async fn logs(store: &Arc<dyn Store>) -> Tested {
    let log = Log::new(Arc::clone(store), "log")?;
    assert_eq!(log.append("one").await?, 0);
    assert_eq!(log.append("two").await?, 1);
    let (lengths, end) = log.fold(0, 0, |sum, _, element| sum + element.len()).await?;
    assert_eq!((lengths, end), (6, 2));
    assert_eq!(log.read(1, 10).await?, [(1, "two".into())]);
    Ok(())
}

/// Five tasks change one number twenty times each, and four append twenty-five elements each.
async fn concurrently(store: &Arc<dyn Store>) -> Tested {
    let documents = Documents::new(Arc::clone(store))?;
    let updates = stream::iter(0..5).map(|_| async {
        for _ in 0..20 {
            documents.update_in("shared", ["count"], increment).await?;
        }
        Ok::<_, tiered::values::Error>(())
    });
    updates.buffer_unordered(5).try_collect::<Vec<_>>().await?;
    assert_eq!(documents.get_in("shared", ["count"]).await?, Some(json!(100)));
    let appends = stream::iter(0..4).map(|task| async move {
        let log = Log::new(Arc::clone(store), "shared-log")?;
        for element in 0..25 {
            log.append(format!("{task}/{element}")).await?;
        }
        Ok::<_, tiered::values::Error>(())
    });
    appends.buffer_unordered(4).try_collect::<Vec<_>>().await?;
    let mut elements = Log::new(Arc::clone(store), "shared-log")?.read(0, 1_000).await?;
    elements.sort_by(|(_, one), (_, other)| one.cmp(other));
    elements.dedup_by(|(_, one), (_, other)| one == other);
    assert_eq!(elements.len(), 100);
    Ok(())
}

/// A sweep with a keep-list and a cut-off: what is kept stays, and what is too new stays until the cut-off moves.
async fn sweeps(store: &Arc<dyn Store>) -> Tested {
    for name in ["s/kept", "s/garbage", "s/new"] {
        store.set(name, "1").await?;
    }
    let cut_off = store.head(&key("s/new"), &ReadOptions::new()).await?.ok_or("there")?.modified;
    store.set("s/new", "2").await?;
    let sweep = || Sweep::builder(Arc::clone(store)).prefix("s/");
    let strict = sweep().older_than(Timestamp::from_millis(0)).build()?;
    let keep = KeepList::new(strict.horizon().await?, ["s/kept"])?;
    strict.run(&keep).await?;
    assert_eq!(strict.run(&keep).await?.deleted, 0, "everything is newer than the cut-off");
    let sweep = sweep().older_than(cut_off.saturating_add(Duration::from_hours(1))).build()?;
    let keep = KeepList::new(sweep.horizon().await?, ["s/kept"])?;
    assert_eq!(sweep.dry_run(&keep).await?.deleted, 2, "a dry run tells");
    assert_eq!(store.keys("s/").await?.len(), 3, "and deletes nothing");
    assert_eq!(sweep.run(&keep).await?.deleted, 2);
    assert_eq!(store.keys("s/").await?, [key("s/kept")]);
    Ok(())
}

async fn all(store: &Arc<dyn Store>) -> Tested {
    values(store).await?;
    streams(store).await?;
    documents(store).await?;
    logs(store).await?;
    sweeps(store).await?;
    concurrently(store).await
}

/// The same values without async.
fn blocking(store: &BlockingStore) -> Tested {
    store.set("b/foo", "bar")?;
    store.set("b/foo", "overwritten")?;
    assert_eq!(store.get("b/foo")?.ok_or("there")?.value(), "overwritten");
    let (old, _) = store.update("b/count", |old| Some(Put::new((count(old) + 1).to_string())))?;
    assert_eq!(count(old.as_ref()), 0);
    assert_eq!(store.delete("b/foo", Delete::new().report_existed())?.existed, Existed::Yes);
    assert!(!store.contains("b/foo")?);
    store.write_from("b/stream", Put::new(""), Cursor::new(vec![9; 100_000]))?;
    let mut read = Vec::new();
    store.read("b/stream", &ReadOptions::new())?.ok_or("there")?.read_to_end(&mut read)?;
    assert_eq!(read, vec![9; 100_000]);
    let batch = Batch::new().put(key("b/multi"), Put::new("x").attributes(attributes("number", "1")));
    for applied in store.apply(batch)? {
        applied?;
    }
    let metadata = store.head("b/multi", &ReadOptions::new())?.ok_or("there")?;
    assert_eq!(metadata.attributes.get("number"), Some("1"));
    let found = store.get_many(&[key("b/multi"), key("b/absent")], &ReadOptions::new());
    let found: Vec<bool> =
        found.into_iter().map(|read| Ok(read?.entry().is_some())).collect::<Result<_>>()?;
    assert_eq!(found, [true, false]);
    assert_eq!(store.keys("b/")?.len(), 3);
    let documents = Documents::new(Arc::clone(store.inner()))?;
    std::thread::scope(|scope| {
        let tasks: Vec<_> = (0..5)
            .map(|_| {
                scope.spawn(|| {
                    for _ in 0..20 {
                        store.runtime().wait(documents.update_in("b/doc", ["count"], increment))?;
                    }
                    Ok::<_, tiered::values::Error>(())
                })
            })
            .collect();
        tasks.into_iter().try_for_each(|task| task.join().expect("no panic"))
    })?;
    assert_eq!(store.runtime().wait(documents.get_in("b/doc", ["count"]))?, Some(json!(100)));
    let log = Log::new(Arc::clone(store.inner()), "b/log")?;
    store.runtime().wait(log.append("one"))?;
    store.runtime().wait(log.append("two"))?;
    assert_eq!(store.runtime().wait(log.range())?, 0..2);
    let sweep = Sweep::builder(Arc::clone(store.inner())).prefix("b/multi").build()?;
    store.runtime().wait(async {
        for _ in 0..2 {
            let keep = KeepList::new(sweep.horizon().await?, ["b/no such key"])?;
            sweep.run(&keep).await?;
        }
        Ok::<_, tiered::values::Error>(())
    })?;
    assert!(!store.contains("b/multi")?);
    Ok(())
}

/// Hooks: the right operation for each write, none for a fill, silent after removal. Closes the store.
async fn hooked(store: Arc<dyn Store>) -> Tested {
    let tiers = TieredStore::builder(tiered::MemoryStore::new(), store).build().await?;
    let seen = Arc::new(Mutex::new(Vec::new()));
    let writer = Arc::clone(&seen);
    let handle = tiers.add_hook(hooks::after(move |mutation: &Mutation, ended: &Result<Applied>| {
        writer.lock().expect("whole").push((mutation.operation(), mutation.key().to_string(), ended.is_ok()));
    }));
    let taken = || std::mem::take(&mut *seen.lock().expect("whole"));
    let put = |name: &str| (Operation::Put, name.to_owned(), true);
    let deleted = |name: &str| (Operation::Delete, name.to_owned(), true);

    tiers.set("h/one", "1").await?;
    tiers.update("h/one", |old| Some(Put::new((count(old) + 1).to_string()))).await?;
    tiers.delete(&key("h/one"), Delete::new()).await?;
    assert_eq!(taken(), [put("h/one"), put("h/one"), deleted("h/one")]);

    let batch = Batch::new().best_effort().put(key("h/two"), "2").put(key("h/three"), "3");
    tiers.apply(batch.delete(key("h/one"), Delete::new())).await?;
    assert_eq!(taken(), [put("h/two"), put("h/three"), deleted("h/one")]);

    let documents = Documents::new(tiers.clone())?;
    documents.assoc_in("h/doc", ["name"], json!("Ada")).await?;
    Log::new(tiers.clone(), "h/log")?.append("element").await?;
    assert!(taken().iter().all(|(operation, _, held)| *operation == Operation::Put && *held));

    tiers.invalidate("h/two").await?;
    assert_eq!(tiers.get("h/two").await?.ok_or("there")?.value(), "2");
    assert_eq!(taken(), [], "a fill is no mutation");

    handle.remove();
    tiers.set("h/two", "3").await?;
    assert_eq!(taken(), [], "silent after removal");
    Ok(tiers.close().await?)
}

/// Runs every scenario on a store of its own.
fn on<F, Fut>(open: F)
where
    F: Fn(std::path::PathBuf) -> Fut,
    Fut: Future<Output = Result<Arc<dyn Store>>>,
{
    let (runtime, folder) = (Runtime::new().expect("starts"), tempfile::tempdir().expect("a folder"));
    let store = runtime.wait(open(folder.path().to_owned())).expect("opens");
    let ended = runtime.wait(async { Ok::<_, Error>(all(&store).await) });
    ended.expect("waits").expect("every scenario holds");
    let store = BlockingStore::new(store, runtime);
    blocking(&store).expect("every scenario holds without async");
    let tiers = Arc::clone(store.inner());
    let ended = store.runtime().wait(async { Ok::<_, Error>(hooked(tiers).await) });
    ended.expect("waits").expect("hooks are called");
}

async fn stack(tiers: &[Tier], write: WritePolicy, folder: &std::path::Path) -> Result<Arc<dyn Store>> {
    Tiers { tiers: tiers.to_vec(), write, read: ReadPolicy::FrontendFirst }.open(folder).await
}

#[test]
fn the_scenarios_hold_in_memory() {
    on(|_| tiered::open("memory:", Create::IfAbsent));
}

#[test]
fn the_scenarios_hold_on_moka_over_redb_under_every_policy_that_writes_the_backend() {
    for write in [WritePolicy::WriteThrough, WritePolicy::WriteAround, WritePolicy::WriteBehind] {
        on(|folder| async move { stack(&[Tier::Moka, Tier::Redb], write, &folder).await });
    }
}

#[test]
fn the_scenarios_hold_on_three_tiers() {
    on(|folder| async move {
        stack(&[Tier::Memory, Tier::Moka, Tier::Redb], WritePolicy::WriteThrough, &folder).await
    });
}

#[test]
fn the_scenarios_hold_on_an_encrypted_compressed_stack() {
    on(|folder| async move {
        let tiers = stack(&[Tier::Moka, Tier::Redb], WritePolicy::WriteThrough, &folder).await?;
        let keys = Keys::new(EncryptionKey::new("2026-a", [7; 32])?);
        let wrapped = Compressed::new(Encrypted::new(tiers, keys)?, Compression::Lz4)?;
        Ok(Arc::new(wrapped) as Arc<dyn Store>)
    });
}

#[test]
fn the_scenarios_hold_in_front_of_an_encrypted_store() {
    on(|folder| async move {
        let keys = Keys::new(EncryptionKey::new("2026-a", [7; 32])?);
        let redb = stack(&[Tier::Redb], WritePolicy::WriteThrough, &folder).await?;
        let frontend = tiered::open("moka:?capacity=64MiB", Create::IfAbsent).await?;
        let tiers = TieredStore::builder(frontend, Encrypted::new(redb, keys)?).build().await?;
        Ok(Arc::new(tiers) as Arc<dyn Store>)
    });
}

#[cfg(feature = "postgres")]
#[test]
fn the_scenarios_hold_on_moka_over_postgres() {
    tiered_services::Service::Postgres.required();
    on(|folder| async move {
        let tiers = Tiers {
            tiers: vec![Tier::Moka, Tier::Postgres],
            write: WritePolicy::WriteThrough,
            read: ReadPolicy::FrontendFirst,
        };
        tiers.open(&folder).await
    });
}
