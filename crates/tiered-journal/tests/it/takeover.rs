//! Owners that hang and come back: another process took the lease over, and what the old one had sent comes late.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use tiered_core::ownership::Lease;
use tiered_core::settings::OnPark;
use tiered_core::{
    CommitLevel, Durability, ErrorKind, Parked, Put, Store as _, StoreExt as _, TieredStore, ownership,
};
use tiered_journal::{JournalConfig, MemoryFolder};
use tokio::sync::Notify;

use crate::key;
use crate::picky::{Cut, State, picky, shared};
use crate::process::{Stack, Troubled, Unit, process, shown, until, write};

const KEYS: [&str; 3] = ["a", "b", "c"];

fn unit(of: &[(&str, &'static str)]) -> Unit {
    of.iter().map(|(name, value)| ((*name).to_owned(), Some(Bytes::from(*value)))).collect()
}

fn state(of: &[(&str, &'static str)]) -> State {
    of.iter().map(|(name, value)| ((*name).to_owned(), Bytes::from(*value))).collect()
}

fn stack(lease: Lease, on_park: OnPark) -> Stack {
    Stack { lease: Some(lease), on_park }
}

/// It neither reads nor writes.
async fn serves_nothing(store: &TieredStore) {
    let (read, put) = (store.get(&key("a")).await.err(), store.put(&key("a"), Put::new("x")).await.err());
    for refused in [read, put] {
        assert_eq!(refused.expect("another is the owner").kind(), ErrorKind::Locked);
    }
    assert!(store.peek(&key("a")).is_none());
}

fn records(parked: &[Parked]) -> Vec<usize> {
    parked.iter().map(|unit| unit.records.len()).collect()
}

/// When what the old owner had sent takes effect, where it ever does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lands {
    BeforeTheTakeover,
    AfterTheTakeover,
    AfterTheFirstFlush,
    Never,
}

const LANDS: [Lands; 4] =
    [Lands::BeforeTheTakeover, Lands::AfterTheTakeover, Lands::AfterTheFirstFlush, Lands::Never];

/// The old owner hangs, is taken over, comes back and parks what it has, is closed or crashes, and is opened again: when the
/// other has given the lease back, or over it.
async fn an_owner_comes_back(lands: Lands, on_park: OnPark, again: Lease, closes: bool) {
    let what = format!("{lands:?}, {on_park:?}, {again:?}, closes: {closes}");
    let (mine, theirs, back) = (MemoryFolder::new(), MemoryFolder::new(), shared());
    let before = stack(Lease::Acquire, on_park).open(&mine, &back).await.expect("the lease is free");
    write(&before, &unit(&[("a", "1")])).await;
    before.flush().await.expect("drains");
    let go_on = Arc::new(Notify::new());
    let cut = if lands == Lands::Never { Cut::Never } else { Cut::Late };
    back.cut_after(0, cut(Arc::clone(&go_on)));
    write(&before, &unit(&[("a", "2"), ("b", "2")])).await;
    back.reached.notified().await;
    write(&before, &unit(&[("c", "3")])).await;
    let it_goes_on = async || {
        go_on.notify_one();
        back.reached.notified().await;
    };
    if lands == Lands::BeforeTheTakeover {
        it_goes_on().await;
    }
    let after = stack(Lease::TakeOver, on_park).open(&theirs, &back).await.expect("taken over");
    if lands == Lands::AfterTheTakeover {
        it_goes_on().await;
    }
    write(&after, &unit(&[("a", "9")])).await;
    after.flush().await.expect("drains");
    if matches!(lands, Lands::AfterTheFirstFlush | Lands::Never) {
        it_goes_on().await;
    }
    let theirs_now = match lands {
        Lands::BeforeTheTakeover => state(&[("a", "9"), ("b", "2")]),
        _ => state(&[("a", "9")]),
    };
    assert_eq!(back.state(), theirs_now, "{what}");
    before.flush().await.expect_err("it is fenced");
    assert_eq!(records(&before.parked()), [2, 1], "{what}");
    serves_nothing(&before).await;
    // A retry there changes nothing either.
    let first = before.parked().first().map_or(0, Parked::sequence);
    before.retry_parked(first).expect("parked");
    until(|| before.parked().len() == 2).await;
    before.flush().await.expect_err("it is fenced");
    assert_eq!(back.state(), theirs_now, "{what}");
    if closes {
        before.close().await.expect_err("they are parked");
    }
    mine.crash(|| true);
    drop(before);
    let refused = stack(Lease::Acquire, on_park).open(&mine, &back).await.expect_err("another's");
    assert_eq!(refused.kind(), ErrorKind::Locked);
    if again == Lease::Acquire {
        after.close().await.expect("drains");
    }
    for _ in 0..2 {
        // However often it is opened: a person decides.
        let before = stack(again, on_park).open(&mine, &back).await.expect("its own again");
        assert_eq!(records(&before.parked()), [2, 1], "{what}");
        before.flush().await.expect_err("they are parked");
        assert_eq!(back.state(), theirs_now, "{what}");
        mine.crash(|| true);
    }
    let before = stack(again, on_park).open(&mine, &back).await.expect("its own");
    if again == Lease::TakeOver {
        let late = after.put(&key("a"), Put::new("10")).await.expect("it does not know yet");
        after.flush().await.expect_err("it knows now");
        late.receipt.durable(CommitLevel::Committed).await.expect_err("it is parked");
        serves_nothing(&after).await;
    }
    let (first, last) = (before.parked().into_iter().next(), before.parked().pop());
    before.drop_parked(first.expect("parked").sequence()).await.expect("parked");
    before.retry_parked(last.expect("parked").sequence()).expect("parked");
    before.flush().await.expect("decided");
    let decided: State = theirs_now.into_iter().chain(state(&[("c", "3")])).collect();
    assert_eq!(back.state(), decided, "{what}");
    assert_eq!(shown(&before, &KEYS).await, decided, "{what}");
    before.close().await.expect("nothing waits");
    let before = stack(Lease::Acquire, on_park).open(&mine, &back).await.expect("given back");
    assert_eq!((before.stats().backlog, before.parked().len()), (0, 0), "{what}");
    assert_eq!(shown(&before, &KEYS).await, decided, "{what}");
}

#[test]
fn an_owner_that_hung_flushes_and_serves_nothing_after_another_took_the_lease() {
    for lands in LANDS {
        for on_park in [OnPark::Auto, OnPark::Skip] {
            for again in [Lease::Acquire, Lease::TakeOver] {
                for closes in [true, false] {
                    process(an_owner_comes_back(lands, on_park, again, closes));
                }
            }
        }
    }
}

/// A put that has passed its gate when this returns.
async fn put_under_way(
    store: &TieredStore,
    name: &'static str,
) -> impl Future<Output = tiered_core::Written> {
    let writing = store.clone();
    let put = async move { writing.put(&key(name), Put::new("2")).await };
    let put = tokio::runtime::Handle::current().spawn(put);
    until(|| store.stats().gated == 1).await;
    async { put.await.expect("no panic").expect("it was on its way") }
}

/// Its record was on its way to the disk: it is kept as those before it, and who waits for it hears of that.
#[test]
fn an_append_in_progress_when_the_lease_is_lost_is_parked() {
    for on_park in [OnPark::Auto, OnPark::Skip] {
        process(async {
            let (mine, theirs, back) = (MemoryFolder::new(), MemoryFolder::new(), shared());
            let journal = Troubled::new(Stack::file(&mine));
            let opened = stack(Lease::Acquire, on_park).open_with(Arc::new(journal.clone()), &back).await;
            let before = opened.expect("the lease is free");
            back.down.store(true, Ordering::Relaxed);
            write(&before, &unit(&[("a", "1")])).await;
            let turn = journal.append_turn.lock().await;
            let written = put_under_way(&before, "c").await;
            back.down.store(false, Ordering::Relaxed);
            let after = stack(Lease::TakeOver, on_park).open(&theirs, &back).await.expect("taken over");
            until(|| before.parked().len() == 1).await;
            drop(turn);
            let resolved = written.await.receipt;
            let limit = std::time::Duration::from_mins(1);
            let resolved = tokio::time::timeout(limit, resolved.durable(CommitLevel::Committed)).await;
            resolved.expect("it does not wait for ever").expect_err("it is parked");
            assert_eq!(records(&before.parked()), [1, 1], "{on_park:?}");
            after.close().await.expect("nothing waits");
            assert_eq!(back.state(), State::new(), "{on_park:?}");
        });
    }
}

/// The same where the journal's place in the backend's mark is another's, as was found out late.
#[test]
fn an_append_in_progress_when_another_journal_takes_the_lease_is_not_flushed() {
    for on_park in [OnPark::Auto, OnPark::Skip] {
        let (mine, theirs, back) = (MemoryFolder::new(), MemoryFolder::new(), picky(true));
        let marked = Stack { lease: None, on_park };
        for disk in [&mine, &theirs] {
            process(async {
                for journal in ownership::journals(&back).await.expect("reads") {
                    ownership::abandon(&back, journal).await.expect("abandoned");
                }
                let store = marked.open(disk, &back).await.expect("it takes its place");
                back.down.store(true, Ordering::Relaxed);
                write(&store, &unit(&[("a", "1")])).await;
            });
            disk.crash(|| true);
            back.down.store(false, Ordering::Relaxed);
        }
        process(async {
            back.marks_down[0].store(true, Ordering::Relaxed);
            let journal = Troubled::new(Stack::file(&mine));
            let before = marked.open_with(Arc::new(journal.clone()), &back).await.expect("looked up later");
            let turn = journal.append_turn.lock().await;
            let written = put_under_way(&before, "c").await;
            back.marks_down[0].store(false, Ordering::Relaxed);
            back.down.store(false, Ordering::Relaxed);
            until(|| before.parked().len() == 1).await;
            for parked in before.parked() {
                before.drop_parked(parked.sequence()).await.expect("parked");
            }
            drop(turn);
            written.await.receipt.durable(CommitLevel::Committed).await.expect_err("it is parked");
            assert_eq!(records(&before.parked()), [1], "{on_park:?}");
            assert_eq!(back.state(), State::new(), "{on_park:?}");
        });
    }
}

/// The lease's record says how far a journal was flushed that has lost its end since: what is appended then has sequences
/// of before, and is flushed all the same.
#[test]
fn writes_after_a_truncated_journal_are_flushed_under_the_lease() {
    for survive in [0, 4] {
        let (disk, back) = (MemoryFolder::new(), picky(true));
        let open = async || {
            let config = JournalConfig::new("").segment_size(64 << 10).durability(Durability::ProcessKill);
            let journal = config.open_in(disk.attach()).expect("opens");
            stack(Lease::Acquire, OnPark::Auto).open_with(Arc::new(journal), &back).await.expect("its own")
        };
        let put = async |store: &TieredStore, number: u64| {
            store.put(&key(&format!("k{number}")), Put::new("1")).await.expect("acknowledged");
            store.flush().await.expect("drains");
        };
        process(async {
            let store = open().await;
            for number in 0..survive {
                put(&store, number).await;
            }
        });
        // What is there when it is opened again is synced then.
        disk.crash(|| true);
        process(async {
            let store = open().await;
            for number in survive..10 {
                put(&store, number).await;
            }
        });
        disk.crash(|| false);
        process(async {
            let store = open().await;
            back.down.store(true, Ordering::Relaxed);
            write(&store, &unit(&[("a", "1")])).await;
            write(&store, &unit(&[("b", "2")])).await;
        });
        disk.crash(|| true);
        back.down.store(false, Ordering::Relaxed);
        process(async {
            let store = open().await;
            assert_eq!(shown(&store, &KEYS).await, state(&[("a", "1"), ("b", "2")]), "{survive}");
            store.close().await.expect("drains");
        });
        let flushed = back.state();
        assert_eq!((flushed.get("a"), flushed.len()), (Some(&Bytes::from("1")), 12), "{survive}");
    }
}
