//! A walk in four shards, whose roots have most keys in common: whenever some are killed, what refers to a key is in the target only with
//! that key. In the end there is exactly what is reachable, and few keys were copied twice.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Child;
use std::thread;
use std::time::Duration;

use futures_util::TryStreamExt as _;
use tiered::{Key, ListOptions, Read, ReadOptions, Store};
use tokio::runtime::{Handle, Runtime};

use crate::{Done, Places, start, write};

/// The shards, and how often each is killed.
const SHARDS: usize = 4;
const KILLS: usize = 15;

const ROOTS: usize = 40;
/// Trees that no other root reaches, of each root.
const OWN: usize = 30;
/// Trees that many roots reach.
const TREES: usize = 1_200;
const LEAVES: usize = 12_000;
/// Nothing refers to these.
const GARBAGE: usize = 200;

/// So slow that no shard has copied what it alone reaches before it is killed for the last time, although each start moves some
/// hundred keys at once.
const RATE: &str = "1000B";

pub(crate) fn run(runtime: &Runtime) {
    let places = Places::new("walk");
    let graph = graph();
    runtime.block_on(fill(&places, &graph));
    let done: Vec<Done> = thread::scope(|scope| {
        let (places, graph) = (&places, &graph);
        let shards = (1..=SHARDS).map(|shard| {
            let runtime = runtime.handle().clone();
            scope.spawn(move || carry_out(places, graph, shard, &runtime))
        });
        let shards: Vec<_> = shards.collect();
        shards.into_iter().map(|shard| shard.join().expect("ended")).collect()
    });
    runtime.block_on(judge(&places, &graph, &done));
}

/// What each key refers to.
type Graph = BTreeMap<String, Vec<String>>;

fn graph() -> Graph {
    let tree = |number: usize| format!("trees/{:04}", number % TREES);
    let leaf = |number: usize| format!("leaves/{:05}", number % LEAVES);
    let mut graph = Graph::new();
    for root in 0..ROOTS {
        let mut trees: Vec<String> = (0..40).map(|place| tree(root * 30 + place * 7)).collect();
        for place in 0..OWN {
            let name = format!("own/{root:02}-{place:02}");
            let leaves = (0..16).map(|leaf| format!("{name}-{leaf:02}"));
            graph.extend(leaves.clone().map(|leaf| (leaf, Vec::new())));
            graph.insert(name.clone(), leaves.collect());
            trees.push(name);
        }
        graph.insert(format!("roots/{root:02}"), trees);
    }
    for number in 0..TREES {
        let mut references: Vec<String> = (0..16).map(|place| leaf(number * 10 + place * 101)).collect();
        match number % 60 {
            // A cycle of two.
            0 => references.push(tree(number + 1)),
            1 => references.push(tree(number + TREES - 1)),
            _ => {}
        }
        graph.insert(tree(number), references);
    }
    graph.extend((0..LEAVES).map(|number| (leaf(number), Vec::new())));
    graph.extend((0..GARBAGE).map(|number| (format!("garbage/{number:03}"), vec![leaf(number)])));
    graph
}

/// What the roots reach, and they themselves.
fn reachable(graph: &Graph) -> BTreeSet<String> {
    let mut found: BTreeSet<String> = BTreeSet::new();
    let mut open: Vec<&String> = graph.keys().filter(|key| key.starts_with("roots/")).collect();
    while let Some(key) = open.pop() {
        if found.insert(key.clone()) {
            open.extend(&graph[key]);
        }
    }
    found
}

/// Fills the source, makes the target, and has each write to it noted from now on.
async fn fill(places: &Places, graph: &Graph) {
    let (source, target) = (places.open("source").await, places.open("target").await);
    let entries = graph.iter().map(|(key, references)| {
        let value = serde_json::to_string(references).expect("JSON");
        (key.clone(), format!("{value:<100}"))
    });
    write(&*source, entries).await;
    source.close().await.expect("closes");
    target.close().await.expect("closes");
    places.note_writes().await;
}

fn begin(places: &Places, shard: usize, rate: &str) -> Child {
    let named = format!("{shard}/{SHARDS}");
    let [from, to, state] = ["source", "target", &format!("state_{shard}")].map(|table| places.url(table));
    start(&[
        "walk",
        "--from",
        &from,
        "--to",
        &to,
        "--roots-under",
        "roots/",
        "--format",
        "json",
        "--resume",
        &state,
        "--shard",
        &named,
        "--limit-rate",
        rate,
        "--concurrency",
        "1",
        "--json",
    ])
}

/// How long a shard may take to write something, however busy the machine is.
const PATIENCE: u32 = 60_000;

/// Runs a shard, kills it at random moments, and then lets it end. Every other time something is written before it dies.
fn carry_out(places: &Places, graph: &Graph, shard: usize, runtime: &Handle) -> Done {
    let mut dice = fastrand::Rng::with_seed(u64::try_from(shard).unwrap_or_default());
    let mut killed = 0;
    for kill in 0..KILLS {
        let before = runtime.block_on(places.written());
        let mut child = begin(places, shard, RATE);
        thread::sleep(Duration::from_millis(dice.u64(100..1_500)));
        for _ in 0..PATIENCE / 50 {
            if kill % 2 == 0 || runtime.block_on(places.written()) > before {
                break;
            }
            thread::sleep(Duration::from_millis(50));
        }
        killed += usize::from(child.try_wait().expect("looks").is_none());
        child.kill().expect("killed");
        child.wait().expect("ended");
        if shard == 1 {
            runtime.block_on(look(places, graph));
        }
    }
    let before = runtime.block_on(places.written());
    assert!(before > 0, "the kills came before anything was copied");
    let output = begin(places, shard, "1GiB").wait_with_output().expect("ends");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "shard {shard}: {errors}");
    Done { killed, report: serde_json::from_slice(&output.stdout).expect("JSON") }
}

/// Whatever is in the target has what it refers to there.
async fn look(places: &Places, graph: &Graph) {
    let target = places.open("target").await;
    let before = keys(&*target).await;
    let after = keys(&*target).await;
    for key in &before {
        for reference in &graph[key] {
            assert!(after.contains(reference), "{key} is there without {reference}");
        }
    }
    target.close().await.expect("closes");
}

async fn judge(places: &Places, graph: &Graph, done: &[Done]) {
    let reachable = reachable(graph);
    let target = places.open("target").await;
    assert_eq!(keys(&*target).await, reachable, "the target is what the roots reach");
    let names: Vec<Key> = reachable.iter().map(|name| Key::new(name).expect("valid")).collect();
    for (key, read) in names.iter().zip(target.get_many(&names, &ReadOptions::new()).await) {
        let read: Read = read.expect("read");
        let value = read.entry().expect("listed").value().clone();
        let references: Vec<String> = serde_json::from_slice(&value).expect("as it was written");
        assert_eq!(references, graph[key.as_str()], "{key}");
    }
    target.close().await.expect("closes");
    let sum = |name: &str| done.iter().map(|done| done.count(name)).sum::<usize>();
    assert_eq!(sum("roots"), ROOTS, "{done:?}");
    assert_eq!(sum("failed") + sum("vanished") + sum("missing") + sum("changed"), 0, "{done:?}");
    for shard in done {
        let (copied, skipped) = (shard.count("copied"), shard.count("skipped"));
        assert_eq!(copied + skipped, shard.count("reachable"), "{done:?}");
        assert!(shard.count("resumed") > 0, "a shard began anew: {done:?}");
    }
    // Two shards that copy a key at the same moment both write it, with the same content: Postgres takes a row of the same version,
    // checksum and size for an earlier attempt of the same write.
    let twice = usize::try_from(places.written_twice().await).expect("a count");
    assert!(twice * 10 < reachable.len(), "{twice} keys were copied twice");
    let killed: usize = done.iter().map(|done| done.killed).sum();
    assert!(killed > SHARDS * KILLS / 2, "only {killed} were killed before they had ended");
    // Otherwise the kills came after all was copied.
    assert!(sum("copied") > 0, "{done:?}");
    places.remove().await;
    println!(
        "test killed_walks: {SHARDS} shards, killed {killed} times: {} keys are reachable, {twice} were copied twice, {} by the last runs",
        reachable.len(),
        sum("copied")
    );
}

async fn keys(store: &dyn Store) -> BTreeSet<String> {
    let listed = store.list(ListOptions::new()).map_ok(|listed| listed.key.as_str().to_owned());
    listed.try_collect().await.expect("listed")
}
