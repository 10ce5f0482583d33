//! Hits, ranges, writes and reads of a disk, to be counted in instructions: `cargo xtask instructions` runs this program under callgrind, which
//! counts the same on a busy machine. `KIND NUMBER` makes so many calls of one kind; without arguments it lists the kinds.
#![allow(clippy::print_stdout, reason = "a benchmark prints its figures")]

mod disk;
mod quick;
mod ranges;
mod writes;

use std::future::Future;
use std::hint::black_box;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use serde::{Deserialize, Serialize};
use tiered::blocking::{BlockingStore, Runtime};
use tiered::values::{Codec as _, Postcard, Typed};
use tiered::{Create, Entry, Key, Put, Store, StoreExt as _, TieredStore};

/// A value of 100 bytes, as postcard writes it.
#[derive(Debug, Deserialize, Serialize)]
struct User {
    id: u64,
    name: String,
    visits: Vec<u32>,
}

impl User {
    fn sample() -> Self {
        Self {
            id: 1 << 40,
            name: "Ada Lovelace, mathematician of London".to_owned(),
            visits: (0..55).collect(),
        }
    }
}

fn ready<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => unreachable!("a hit waits for nothing"),
    }
}

/// What is counted: callgrind begins where this is entered and ends where it is left, on the thread that does so. What tasks do
/// meanwhile on others is not.
#[inline(never)]
pub(crate) fn counted<T>(work: impl FnOnce() -> T) -> T {
    black_box(work())
}

/// A stack, and what each kind of hit needs.
struct Hits {
    key: Key,
    entry: Entry,
    store: TieredStore,
    shared: Arc<dyn Store>,
    blocking: BlockingStore<TieredStore>,
    typed: Typed<User>,
    raw: moka::sync::Cache<Key, Entry, foldhash::fast::RandomState>,
}

impl Hits {
    fn new() -> Self {
        let runtime = Runtime::new().expect("starts");
        let key = Key::new("users/42/profile").expect("valid");
        let (store, typed, entry) = runtime
            .wait(async {
                let frontend = tiered::open("moka:", Create::IfAbsent).await?;
                let backend = tiered::open("memory:", Create::IfAbsent).await?;
                let store = TieredStore::builder(frontend, backend).build().await?;
                let typed = Typed::<User>::new(store.clone(), Postcard).expect("any store");
                typed.put(&key, &User::sample()).await.expect("written");
                let entry = store.get(&key).await?.expect("a hit");
                store.put(&Key::new("plain")?, Put::new(entry.value().clone())).await?;
                Ok::<_, tiered::Error>((store, typed, entry))
            })
            .expect("builds");
        assert_eq!(entry.size(), 100, "the sample has 100 bytes");
        let raw = moka::sync::Cache::builder()
            .max_capacity(64 << 20)
            .eviction_policy(moka::policy::EvictionPolicy::lru())
            .build_with_hasher(foldhash::fast::RandomState::default());
        raw.insert(key.clone(), entry.clone());
        let shared: Arc<dyn Store> = Arc::new(store.clone());
        let blocking = BlockingStore::new(store.clone(), runtime);
        Self { key, entry, store, shared, blocking, typed, raw }
    }

    fn hit(&self, kind: &str) -> bool {
        let key = black_box(&self.key);
        match kind {
            "moka" => drop(black_box(self.raw.get(key))),
            "store" => drop(black_box(ready(self.store.get(key)))),
            "dyn" => drop(black_box(ready(self.shared.get(key)))),
            "text" => drop(black_box(ready(self.store.get(black_box("users/42/profile"))))),
            "blocking" => drop(black_box(self.blocking.get(key))),
            "typed" => drop(black_box(ready(self.typed.get(key)))),
            "decode" => {
                drop(black_box(Postcard.decode(black_box(self.entry.value())).map(|user: User| user)));
            }
            _ => return false,
        }
        true
    }
}

/// The hits that can be counted. The first is what the others are compared with.
const HITS: [&str; 7] = ["store", "moka", "dyn", "text", "blocking", "typed", "decode"];

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let [kind, number] = arguments.as_slice() else {
        let kinds: [&[&str]; 5] = [&HITS, &quick::KINDS, &ranges::KINDS, &disk::KINDS, &writes::KINDS];
        for kinds in kinds {
            println!("{}", kinds.join(" "));
        }
        return;
    };
    let number = number.parse().unwrap_or(0);
    if quick::KINDS.contains(&kind.as_str()) {
        return quick::hit(kind, number);
    }
    if ranges::KINDS.contains(&kind.as_str()) {
        return ranges::hit(kind, number);
    }
    if disk::KINDS.contains(&kind.as_str()) {
        return disk::read(kind, number);
    }
    if writes::KINDS.contains(&kind.as_str()) {
        return writes::write(kind, number);
    }
    let hits = Hits::new();
    counted(|| {
        for _ in 0..number {
            assert!(hits.hit(kind), "no such hit: {kind}");
        }
    });
}
