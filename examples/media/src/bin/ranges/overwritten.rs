//! A value that is overwritten all the time, while many read ranges of it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use futures_util::TryStreamExt as _;
use futures_util::future::try_join_all;
use media::film::Film;
use tiered::{Attributes, Entry, Key, Put, Store, StoreExt as _, TieredStore};

/// Bytes of the value: several blocks.
const SIZE: u64 = 5 << 18;

/// Most bytes of a range.
const MOST: u64 = 64 << 10;

/// Names which version of the value it is.
const NUMBER: &str = "number";

/// What readers saw.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    pub(crate) versions: u64,
    pub(crate) answers: u64,
    pub(crate) wrong: u64,
}

/// The versions that were written, by number.
#[derive(Debug, Default)]
struct Written {
    acknowledged: AtomicU64,
    answers: AtomicU64,
    wrong: AtomicU64,
}

/// Overwrites for so long, and reads.
pub(crate) async fn run(
    store: &TieredStore,
    key: &Key,
    readers: u64,
    time: Duration,
) -> anyhow::Result<Seen> {
    let (written, until) = (Written::default(), Instant::now() + time);
    write(store, key, 1, &written).await?;
    let writing = async {
        for number in 2.. {
            if Instant::now() >= until {
                break;
            }
            write(store, key, number, &written).await?;
        }
        Ok(())
    };
    let reading = (0..readers).map(|seed| read(store, key, seed, until, &written));
    let (_, ()) = futures_util::future::try_join(try_join_all(reading), writing).await?;
    let count = |of: &AtomicU64| of.load(Ordering::Relaxed);
    Ok(Seen {
        versions: count(&written.acknowledged),
        answers: count(&written.answers),
        wrong: count(&written.wrong),
    })
}

async fn write(store: &TieredStore, key: &Key, number: u64, written: &Written) -> anyhow::Result<()> {
    let parts: Vec<_> = Film::new(number, SIZE).stream().try_collect().await?;
    let value = parts.iter().fold(BytesMut::new(), |mut all, part| {
        all.extend_from_slice(part);
        all
    });
    let attributes = Attributes::new().with(NUMBER, &number.to_string())?;
    store.put(key, Put::new(value.freeze()).attributes(attributes)).await?;
    written.acknowledged.fetch_max(number, Ordering::SeqCst);
    Ok(())
}

async fn read(
    store: &TieredStore,
    key: &Key,
    seed: u64,
    until: Instant,
    written: &Written,
) -> anyhow::Result<()> {
    let mut dice = fastrand::Rng::with_seed(seed);
    while Instant::now() < until {
        let start = dice.u64(0..SIZE);
        let range = start..start + dice.u64(1..MOST);
        let least = written.acknowledged.load(Ordering::SeqCst);
        let entry = store.get_range(key, range).await?;
        // A hit waits for nothing: without this no other task would run.
        tokio::task::yield_now().await;
        written.answers.fetch_add(1, Ordering::Relaxed);
        if entry.is_none_or(|entry| !is_right(&entry, start, least)) {
            written.wrong.fetch_add(1, Ordering::Relaxed);
        }
    }
    Ok(())
}

/// Whether it is of one version, the one that it names, and that is not older than what was acknowledged before.
fn is_right(entry: &Entry, start: u64, least: u64) -> bool {
    let number = entry.metadata().attributes.get(NUMBER).and_then(|number| number.parse().ok()).unwrap_or(0);
    number >= least && Film::new(number, SIZE).first_wrong(start, entry.value()).is_none()
}
