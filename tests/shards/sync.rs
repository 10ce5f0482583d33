//! A sync in four shards: in the end the target is what one run would have made, no key was copied twice, and the counts add up.

use std::io::{BufRead as _, BufReader};
use std::process::Child;
use std::thread;
use std::time::Duration;

use futures_util::StreamExt as _;
use tiered::{Key, ListOptions, Store, Version};
use tokio::runtime::Runtime;

use crate::{Done, Places, start, write};

/// The shards, and how often each is killed.
const SHARDS: usize = 4;
const KILLS: usize = 25;

/// Keys of the source; every fifth is another in the target before, and the target has so many more.
const KEYS: usize = 12_000;
const EXTRA: usize = 1_000;

/// So slow that no shard ends before it is killed for the last time: it has 69,000 bytes, of which each start moves some
/// hundred at once.
const RATE: &str = "1000B";

pub(crate) fn run(runtime: &Runtime) {
    let places = Places::new("sync");
    runtime.block_on(fill(&places));
    let done: Vec<Done> = thread::scope(|scope| {
        let places = &places;
        let shards: Vec<_> =
            (1..=SHARDS).map(|shard| scope.spawn(move || carry_out(places, shard))).collect();
        shards.into_iter().map(|shard| shard.join().expect("ended")).collect()
    });
    runtime.block_on(judge(&places, &done));
}

/// Fills both sides, and has each write to the target noted from now on.
async fn fill(places: &Places) {
    let (source, target) = (places.open("source").await, places.open("target").await);
    let all = (0..KEYS).map(|number| (name(number), "new value of the source".to_owned()));
    write(&*source, all).await;
    write(&*target, (0..KEYS).step_by(5).map(|number| (name(number), "old value".to_owned()))).await;
    let extra = (0..EXTRA).map(|number| (format!("{}-extra", name(number * 11)), "extra".to_owned()));
    write(&*target, extra).await;
    source.close().await.expect("closes");
    target.close().await.expect("closes");
    places.note_writes().await;
}

fn begin(places: &Places, shard: usize, rate: &str) -> Child {
    let named = format!("{shard}/{SHARDS}");
    let [from, to, state] = ["source", "target", "state"].map(|table| places.url(table));
    let arguments = [
        "sync",
        "--from",
        &from,
        "--to",
        &to,
        "--strategy",
        "full-sync",
        "--resume",
        &state,
        "--shard",
        &named,
        "--limit-rate",
        rate,
        "--concurrency",
        "4",
        "--json",
    ];
    start(&arguments)
}

/// Runs a shard, kills it at random moments, and then lets it end.
fn carry_out(places: &Places, shard: usize) -> Done {
    let mut dice = fastrand::Rng::with_seed(u64::try_from(shard).unwrap_or_default());
    let mut killed = 0;
    for _ in 0..KILLS {
        let mut child = begin(places, shard, RATE);
        // Its first line says that it has opened everything and begins.
        let mut line = String::new();
        let errors = child.stderr.as_mut().expect("piped");
        BufReader::new(errors).read_line(&mut line).expect("says so");
        thread::sleep(Duration::from_millis(dice.u64(0..400)));
        killed += usize::from(child.try_wait().expect("looks").is_none());
        child.kill().expect("killed");
        child.wait().expect("ended");
    }
    let output = begin(places, shard, "1GiB").wait_with_output().expect("ends");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "shard {shard}: {errors}");
    let settled = errors.split_once("goes on after").map(|(_, rest)| !rest.contains("\": 0 keys"));
    assert_eq!(settled, Some(true), "shard {shard} began anew: {errors}");
    Done { killed, report: serde_json::from_slice(&output.stdout).expect("JSON") }
}

async fn judge(places: &Places, done: &[Done]) {
    let (source, target) = (places.open("source").await, places.open("target").await);
    assert_eq!(versions(&*source).await, versions(&*target).await, "the target is what one run makes of it");
    source.close().await.expect("closes");
    target.close().await.expect("closes");
    let sum = |name: &str| done.iter().map(|done| done.count(name)).sum::<usize>();
    assert_eq!(sum("listed_from"), KEYS, "each key is counted once: {done:?}");
    assert_eq!(sum("copied") + sum("skipped"), KEYS, "{done:?}");
    assert_eq!(sum("failed") + sum("vanished"), 0, "{done:?}");
    // A run may remove keys just before it is killed. No later run lists these, so none counts them.
    assert!((EXTRA / 2..=EXTRA).contains(&sum("removed")), "{done:?}");
    for shard in done {
        let listed = shard.count("listed_from");
        assert!((KEYS / 5..KEYS / 3).contains(&listed), "the shards are not even: {done:?}");
    }
    let twice = places.written_twice().await;
    assert_eq!(twice, 0, "keys were copied twice");
    let killed: usize = done.iter().map(|done| done.killed).sum();
    assert!(killed > SHARDS * KILLS / 2, "only {killed} were killed before they had ended");
    places.remove().await;
    println!(
        "test killed_shards: {SHARDS} shards, killed {killed} times: {} copied, {} found copied by a run that was killed",
        sum("copied"),
        sum("skipped")
    );
}

fn name(number: usize) -> String {
    format!("items/{number:06}")
}

async fn versions(store: &dyn Store) -> Vec<(Key, Option<Version>)> {
    let listing = store.list(ListOptions::new());
    let listed = listing.map(|listed| listed.map(|listed| (listed.key, listed.version)).expect("listed"));
    listed.collect().await
}
