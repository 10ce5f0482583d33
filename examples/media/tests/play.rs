//! Films are played as they are, and what was read once is not read again.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::TryStreamExt as _;
use media::film::Film;
use media::requests::{Asked, Counted, Requests};
use media::{player, server};
use tiered::quick::QuickConfig;
use tiered::{Key, MemoryStore, Put, Store, TieredStore};
use tiered_conformance::Intercept;

const SIZE: u64 = 8 << 20;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_many_players_read_is_read_of_the_backend_once() {
    let (film, key) = (Film::new(0, SIZE), Key::new("film").expect("valid"));
    let requests = Arc::new(Requests::default());
    let backend = Intercept::new(MemoryStore::new(), Counted(Arc::clone(&requests)));
    let frontend = QuickConfig::new(64 << 20).build().expect("opens");
    let store = TieredStore::builder(frontend, backend).build().await.expect("builds");
    let parts: Vec<Bytes> = film.stream().try_collect().await.expect("made");
    store.put(&key, Put::new(parts.concat())).await.expect("written");
    store.invalidate_all().await.expect("dropped");
    requests.begin_anew();
    let address = server::start(store.clone()).await.expect("listens");
    let until = Instant::now() + Duration::from_secs(2);
    let players = (0..8).map(|seed| tokio::spawn(player::play(address, key.clone(), film, seed, until)));
    let mut requested = 0;
    for player in players.collect::<Vec<_>>() {
        requested += player.await.expect("ends").expect("plays").requests;
    }
    let Asked { requests: asked, bytes, .. } = requests.so_far();
    assert!(requested > 8, "{requested} requests in two seconds");
    // Each block at most once, and at most one request each.
    assert!(bytes <= SIZE, "{bytes} bytes were read of a film of {SIZE}");
    assert!(asked <= SIZE / (256 << 10), "{asked} requests");
    store.close().await.expect("closes");
}
