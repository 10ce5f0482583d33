//! The process that is killed. It says what it is about to do before it does it.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::ops::Range;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::TryStreamExt as _;
use tiered::{
    Action, Batch, Delete, Entry, Error, ErrorKind, Key, ListOptions, Outcome, Parked, Put, Store,
    StoreExt as _,
};
use tiered_conformance::Dice;

use crate::stack::{Opened, Stack};
use crate::step::Doom;
use crate::value;

/// Writers, and the keys of each.
const WRITERS: u64 = 6;
const KEYS: u64 = 4;

/// Writes of each writer where the process is to end at a step: enough to begin segments and to remove some.
const WRITES: u64 = 16;

/// The most bytes of a range: they lie in several blocks.
const LONGEST: u64 = 700_000;

/// Why the child ends with an error; the parent prints it.
type Ended<T> = Result<T, String>;

/// Runs what the parent asks for; `doom` says where this process ends, if at a step.
pub(crate) fn run(what: &str, stack: &str, place: &str, first: u64, doom: &Doom) -> ExitCode {
    let Some(stack) = Stack::named(stack) else { return ExitCode::from(2) };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let ended = runtime.expect("a runtime").block_on(async {
        match what {
            "work" => work(stack, place, first, doom, u64::MAX).await,
            "steps" => work(stack, place, first, doom, WRITES).await,
            "close" => close(stack, place, doom).await,
            "alone" => alone(stack, place).await,
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
        // The parent has closed the pipe.
        std::process::exit(1);
    }
}

fn told(error: &Error) -> String {
    error.chain()
}

/// The operation that wrote an entry.
fn id_of(entry: &Entry) -> Ended<u64> {
    let bytes = entry.value();
    value::id(bytes).ok_or_else(|| format!("a value of {} bytes that no operation wrote", bytes.len()))
}

/// What a key has.
async fn read(store: &dyn Store, key: &Key) -> Ended<Option<u64>> {
    let entry = store.get(key).await.map_err(|error| told(&error))?;
    entry.as_ref().map(id_of).transpose()
}

/// Some bytes of what a key has, and where they are; `None` if it has nothing there.
async fn part(store: &dyn Store, key: &Key, dice: &mut Dice) -> Ended<(Range<u64>, Option<Bytes>)> {
    let start = dice.below(value::STREAMED as u64);
    let range = start..start + dice.below(LONGEST);
    let part = match store.get_range(key, range.clone()).await {
        Ok(entry) => entry.map(Entry::into_value),
        Err(error) if error.kind() == ErrorKind::InvalidRange => None,
        Err(error) => return Err(told(&error)),
    };
    Ok((range, part))
}

/// Whether a part of what a key had is of the value of this operation.
fn check_part(key: &Key, (range, part): &(Range<u64>, Option<Bytes>), id: Option<u64>) -> Ended<()> {
    let value = id.map(value::of).unwrap_or_default();
    let at = |at: u64| usize::try_from(at).unwrap_or(usize::MAX).min(value.len());
    let expected = value.get(at(range.start)..at(range.end)).unwrap_or_default();
    if part.as_deref().unwrap_or_default() == expected {
        return Ok(());
    }
    let found = part.as_ref().map(Bytes::len);
    Err(format!(
        "{range:?} of {key} is not of operation {id:?}: {found:?} bytes, {} expected",
        expected.len()
    ))
}

fn keys() -> impl Iterator<Item = Key> {
    (0..WRITERS).flat_map(|writer| (0..KEYS).map(move |index| key(writer, index)))
}

fn key(writer: u64, index: u64) -> Key {
    Key::try_from(format!("w{writer}/k{index}")).expect("valid")
}

/// Says what every key has: of those listed, and of all others that there can be.
async fn look(store: &dyn Store) -> Ended<()> {
    let listing = store.list(ListOptions::new()).map_ok(|listed| listed.key);
    let listed: Vec<Key> = listing.try_collect().await.map_err(|error| told(&error))?;
    let mut dice = Dice::new(u64::from(std::process::id()));
    for key in keys() {
        // Where an earlier process left blocks, of them.
        let part = part(store, &key, &mut dice).await?;
        let found = read(store, &key).await?;
        check_part(&key, &part, found)?;
        if found.is_some() != listed.contains(&key) {
            return Err(format!("{key} is listed: {}, is there: {}", listed.contains(&key), found.is_some()));
        }
        if let Some(id) = found {
            say(&format!("value {key} {id}"));
        }
    }
    say("found");
    Ok(())
}

async fn cold(stack: &Stack, place: &str) -> Ended<()> {
    let backend = stack.open_backend(place).await.map_err(|error| told(&error))?;
    look(&*backend).await?;
    backend.close().await.map_err(|error| told(&error))?;
    say("done");
    Ok(())
}

/// Opens the backend without its journal. It is refused, or there is nothing that it would not see.
async fn alone(stack: &Stack, place: &str) -> Ended<()> {
    match stack.open_alone(place).await {
        Ok(store) => {
            look(&store).await?;
            store.close().await.map_err(|error| told(&error))?;
        }
        Err(error) if error.kind() == ErrorKind::Locked => say("locked-out"),
        Err(error) => return Err(told(&error)),
    }
    say("done");
    Ok(())
}

/// Brings everything to the backend, what is parked included, and closes.
async fn close(stack: &Stack, place: &str, doom: &Doom) -> Ended<()> {
    let opened = stack.open(place, doom).await.map_err(|error| told(&error))?;
    look(&opened.store).await?;
    opened.leniency.for_all();
    while let Err(error) = opened.store.flush().await {
        if opened.store.parked().is_empty() {
            return Err(told(&error));
        }
        for parked in opened.store.parked() {
            retry(&opened, &parked)?;
        }
    }
    opened.store.close().await.map_err(|error| told(&error))?;
    say("done");
    Ok(())
}

/// Works for so many rounds of each writer, then closes the stack.
async fn work(stack: &Stack, place: &str, first: u64, doom: &Doom, rounds: u64) -> Ended<()> {
    let opened = stack.open(place, doom).await.map_err(|error| told(&error))?;
    look(&opened.store).await?;
    if stack.refuses {
        settle(stack, &opened).await?;
    }
    let shared = Shared {
        opened: &opened,
        refuses: stack.refuses,
        next: AtomicU64::new(first),
        given_up: Mutex::default(),
        writing: AtomicUsize::new(usize::try_from(WRITERS).unwrap_or(0)),
    };
    let writers = (0..WRITERS).map(|writer| shared.write(writer, first, rounds));
    let decide = async { if stack.refuses { shared.decide(first).await } else { Ok(()) } };
    futures_util::future::try_join(futures_util::future::try_join_all(writers), decide).await?;
    settle(stack, &opened).await?;
    if let Err(error) = opened.store.close().await
        && !is_refusal(stack, &error)
    {
        return Err(told(&error));
    }
    for call in doom.calls_met() {
        say(&format!("met {call}"));
    }
    say("done");
    Ok(())
}

fn is_refusal(stack: &Stack, error: &Error) -> bool {
    stack.refuses && matches!(error.kind(), ErrorKind::TooLarge | ErrorKind::Other)
}

/// Flushes. What a key shows is then in the backend, or it is among what is parked, or behind it in line.
async fn settle(stack: &Stack, opened: &Opened) -> Ended<()> {
    if let Err(error) = opened.store.flush().await
        && !is_refusal(stack, &error)
    {
        return Err(told(&error));
    }
    let parked: BTreeSet<u64> = opened.store.parked().iter().flat_map(ids).collect();
    if stack.halts() && !parked.is_empty() {
        return Ok(());
    }
    for key in keys() {
        let (shown, has) = (read(&opened.store, &key).await?, read(&*opened.inner, &key).await?);
        if shown != has && !shown.is_some_and(|id| parked.contains(&id)) {
            return Err(format!(
                "{key} shows {shown:?}, the backend has {has:?} after a flush, and parked are {parked:?}"
            ));
        }
    }
    Ok(())
}

/// The operations in a parked unit.
fn ids(parked: &Parked) -> BTreeSet<u64> {
    let puts = parked.records.iter().filter_map(|(_, record)| match &record.action {
        Action::Put(put) => value::id(&put.value),
        Action::Delete(_) => None,
    });
    puts.collect()
}

/// Puts a parked unit back in line, unless a later write has replaced it meanwhile.
fn retry(opened: &Opened, parked: &Parked) -> Ended<()> {
    let each = |what: &str| ids(parked).iter().for_each(|id| say(&format!("{what} {id}")));
    each("retry");
    match opened.store.retry_parked(parked.sequence()) {
        Err(error) if error.kind() != ErrorKind::InvalidInput => Err(told(&error)),
        _ => {
            each("retried");
            Ok(())
        }
    }
}

/// What the writers share with the one who decides on parked writes.
struct Shared<'s> {
    opened: &'s Opened,
    /// Whether a write may be dropped after it was acknowledged.
    refuses: bool,
    next: AtomicU64,
    /// Operations whose drop has begun.
    given_up: Mutex<BTreeSet<u64>>,
    /// Writers that are not done.
    writing: AtomicUsize,
}

impl Shared<'_> {
    async fn write(&self, writer: u64, seed: u64, rounds: u64) -> Ended<()> {
        let store = &self.opened.store;
        let mut dice = Dice::new(seed.wrapping_mul(31).wrapping_add(writer));
        for _ in 0..rounds {
            let id = self.next.fetch_add(1, Ordering::Relaxed);
            let (one, two) = (key(writer, dice.below(KEYS)), key(writer, dice.below(KEYS)));
            let (ended, expected) = match dice.below(10) {
                0 | 1 => {
                    say(&format!("delete {id} {one}"));
                    (store.delete(&one, Delete::new()).await.map(drop), None)
                }
                2 | 3 if one != two => {
                    say(&format!("put {id} {one} {two}"));
                    let put = || Put::new(value::of(id));
                    let batch = Batch::new().put(one.clone(), put()).put(two, put());
                    (store.apply(batch).await.map(drop), Some(id))
                }
                _ if value::is_streamed(id) => {
                    say(&format!("put {id} {one}"));
                    (store.put_stream(&one, Put::new(""), value::parts(id)).await.map(drop), Some(id))
                }
                _ => {
                    say(&format!("put {id} {one}"));
                    (store.put(&one, Put::new(value::of(id))).await.map(drop), Some(id))
                }
            };
            match ended {
                Ok(()) => say(&format!("ok {id}")),
                Err(error) if error.write_outcome() == Outcome::NotApplied => say(&format!("refused {id}")),
                Err(error) => return Err(format!("write {id}: {}", told(&error))),
            }
            // A read returns what was acknowledged: no other writer uses the key.
            if !self.refuses && dice.below(3) == 0 {
                for _ in 0..=dice.below(4) {
                    check_part(&one, &part(store, &one, &mut dice).await?, expected)?;
                }
            }
            let found = read(store, &one).await?;
            let given_up = expected.is_some_and(|id| self.is_given_up(id));
            if found != expected && !given_up {
                return Err(format!("{one} has {found:?} after {expected:?} was acknowledged"));
            }
            if dice.below(8) == 0 {
                let key = key(dice.below(WRITERS), dice.below(KEYS));
                store.contains(&key).await.map_err(|error| told(&error))?;
            }
            if dice.below(4) == 0 {
                tokio::time::sleep(Duration::from_millis(dice.below(4))).await;
            }
        }
        self.writing.fetch_sub(1, Ordering::Relaxed);
        Ok(())
    }

    fn is_given_up(&self, id: u64) -> bool {
        self.given_up.lock().expect("a panic ends the process").contains(&id)
    }

    /// Retries and drops parked writes while others are written.
    async fn decide(&self, seed: u64) -> Ended<()> {
        let mut dice = Dice::new(seed.wrapping_mul(37));
        while self.writing.load(Ordering::Relaxed) > 0 {
            tokio::time::sleep(Duration::from_millis(1 + dice.below(4))).await;
            for parked in self.opened.store.parked() {
                match dice.below(6) {
                    0 | 1 => self.drop_parked(&parked).await?,
                    2 => retry(self.opened, &parked)?,
                    3 | 4 => {
                        self.opened.leniency.for_these(ids(&parked));
                        retry(self.opened, &parked)?;
                        tokio::time::sleep(Duration::from_millis(dice.below(8))).await;
                        self.opened.leniency.for_these(BTreeSet::new());
                    }
                    _ => {}
                }
            }
        }
        Ok(())
    }

    async fn drop_parked(&self, parked: &Parked) -> Ended<()> {
        let ids = ids(parked);
        self.given_up.lock().expect("a panic ends the process").extend(&ids);
        let each = |what: &str| ids.iter().for_each(|id| say(&format!("{what} {id}")));
        each("drop");
        match self.opened.store.drop_parked(parked.sequence()).await {
            Ok(()) => each("dropped"),
            // A later write replaced it, or it was accepted.
            Err(error) if error.kind() == ErrorKind::InvalidInput => each("kept"),
            Err(error) => return Err(told(&error)),
        }
        Ok(())
    }
}
