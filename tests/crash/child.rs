//! The process that is killed. It says what it is about to do before it does it.

use std::io::Write as _;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::TryStreamExt as _;
use tiered::{
    Batch, Delete, Entry, Error, Key, ListOptions, Outcome, Put, Store, StoreExt as _, TieredStore,
};
use tiered_conformance::Dice;

use crate::stack::Stack;

/// Writers, and the keys of each.
const WRITERS: u64 = 6;
const KEYS: u64 = 4;

/// Why the child ends with an error; the parent prints it.
type Ended<T> = Result<T, String>;

pub(crate) fn run(what: &str, stack: &str, place: &str, first: u64) -> ExitCode {
    let Some(stack) = Stack::named(stack) else { return ExitCode::from(2) };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let ended = runtime.expect("a runtime").block_on(async {
        match what {
            "work" => work(stack, place, first).await,
            "close" => close(stack, place).await,
            _ => cold(stack, place).await,
        }
    });
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            say(&format!("wrong: {why}"));
            ExitCode::FAILURE
        }
    }
}

/// One write to the pipe: what is in it survives this process.
fn say(line: &str) {
    if std::io::stdout().lock().write_all(format!("{line}\n").as_bytes()).is_err() {
        // Nobody listens any more.
        std::process::exit(1);
    }
}

fn told(error: &Error) -> String {
    error.chain()
}

/// The value of an operation: its id, and bytes that follow from it.
fn value(id: u64) -> Vec<u8> {
    let mut value = format!("{id}:").into_bytes();
    let len = usize::try_from(id * 37 % 3_000).unwrap_or(0);
    value.extend((0..len).map(|at| u8::try_from((at as u64 ^ id) % 251).unwrap_or(0)));
    value
}

/// The operation that wrote a value.
fn id_of(entry: &Entry) -> Ended<u64> {
    let bytes = entry.value();
    let digits = bytes.split(|byte| *byte == b':').next().unwrap_or_default();
    let id = std::str::from_utf8(digits).ok().and_then(|digits| digits.parse().ok()).unwrap_or(0);
    if *bytes != value(id) {
        return Err(format!("a value of {} bytes that no operation wrote, perhaps of {id}", bytes.len()));
    }
    Ok(id)
}

/// Says what every key has: of those listed, and of all others that there can be.
async fn look(store: &dyn Store) -> Ended<()> {
    let listing = store.list(ListOptions::new()).map_ok(|listed| listed.key);
    let listed: Vec<Key> = listing.try_collect().await.map_err(|error| told(&error))?;
    for writer in 0..WRITERS {
        for index in 0..KEYS {
            let key = key(writer, index);
            let entry = store.get(&key).await.map_err(|error| told(&error))?;
            if entry.is_some() != listed.contains(&key) {
                return Err(format!(
                    "{key} is listed: {}, is there: {}",
                    listed.contains(&key),
                    entry.is_some()
                ));
            }
            if let Some(entry) = entry {
                say(&format!("value {key} {}", id_of(&entry)?));
            }
        }
    }
    say("found");
    Ok(())
}

fn key(writer: u64, index: u64) -> Key {
    Key::try_from(format!("w{writer}/k{index}")).expect("valid")
}

async fn cold(stack: &Stack, place: &str) -> Ended<()> {
    let backend = stack.open_backend(place).await.map_err(|error| told(&error))?;
    look(&*backend).await?;
    backend.close().await.map_err(|error| told(&error))?;
    say("done");
    Ok(())
}

async fn close(stack: &Stack, place: &str) -> Ended<()> {
    let store = stack.open(place).await.map_err(|error| told(&error))?;
    look(&store).await?;
    store.flush().await.map_err(|error| told(&error))?;
    store.close().await.map_err(|error| told(&error))?;
    say("done");
    Ok(())
}

async fn work(stack: &Stack, place: &str, first: u64) -> Ended<()> {
    let store = stack.open(place).await.map_err(|error| told(&error))?;
    look(&store).await?;
    let next = AtomicU64::new(first);
    let writers = (0..WRITERS).map(|writer| write(&store, writer, &next, first));
    futures_util::future::try_join_all(writers).await.map(drop)
}

/// Writes until the process is killed.
async fn write(store: &TieredStore, writer: u64, next: &AtomicU64, seed: u64) -> Ended<()> {
    let mut dice = Dice::new(seed.wrapping_mul(31).wrapping_add(writer));
    loop {
        let id = next.fetch_add(1, Ordering::Relaxed);
        let (one, two) = (key(writer, dice.below(KEYS)), key(writer, dice.below(KEYS)));
        let (ended, expected) = match dice.below(10) {
            0 | 1 => {
                say(&format!("delete {id} {one}"));
                (store.delete(&one, Delete::new()).await.map(drop), None)
            }
            2 | 3 if one != two => {
                say(&format!("put {id} {one} {two}"));
                let batch = Batch::new().put(one.clone(), Put::new(value(id))).put(two, Put::new(value(id)));
                (store.apply(batch).await.map(drop), Some(id))
            }
            _ => {
                say(&format!("put {id} {one}"));
                (store.put(&one, Put::new(value(id))).await.map(drop), Some(id))
            }
        };
        match ended {
            Ok(()) => say(&format!("ok {id}")),
            Err(error) if error.write_outcome() == Outcome::NotApplied => say(&format!("refused {id}")),
            Err(error) => return Err(format!("write {id}: {}", told(&error))),
        }
        // What was acknowledged is what is read: nobody else writes the key.
        let entry = store.get(&one).await.map_err(|error| told(&error))?;
        let found = entry.as_ref().map(id_of).transpose()?;
        if found != expected {
            return Err(format!("{one} has {found:?} after {expected:?} was acknowledged"));
        }
        if dice.below(4) == 0 {
            tokio::time::sleep(Duration::from_millis(dice.below(4))).await;
        }
    }
}
