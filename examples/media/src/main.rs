//! A media server: films in S3, read by ranges over HTTP by many players at a time, in little memory.
//!
//! It uploads a film, serves it, and plays it: most players begin where most people begin, and each reads on for a while. Every
//! byte that a player gets is checked. In the end it prints what the server asked of S3, and how much memory it took.
#![allow(clippy::print_stdout, reason = "the table is what it is for")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use clap::Parser;
use measure::bucket::Server;
use tiered::quick::QuickConfig;
use tiered::{Key, Put, Store, TieredStore};
use tiered_conformance::Intercept;

use media::film::Film;
use media::memory;
use media::player::{self, Played};
use media::requests::{Asked, Counted, Requests};
use media::server;

/// Serves and plays a film that is in S3.
#[derive(Debug, Parser)]
struct Arguments {
    #[command(flatten)]
    server: Server,
    /// Size of the film, in MiB.
    #[arg(long, default_value_t = 1024)]
    mebibytes: u64,
    /// Players at a time.
    #[arg(long, default_value_t = 64)]
    players: usize,
    /// How long they play, in seconds.
    #[arg(long, default_value_t = 20)]
    seconds: u64,
    /// Memory of the frontend, in MiB.
    #[arg(long, default_value_t = 32)]
    capacity: u64,
    /// How much memory the server may take more than before, players and upload included, in MiB.
    #[arg(long, default_value_t = 128)]
    allowed: u64,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let film = Film::new(0, arguments.mebibytes << 20);
    // A few parts of an upload are under way at a time.
    let s3 = arguments.server.bucket().await?.prefix("films/").multipart(5 << 20);
    let before = memory::peak()?;
    let requests = Arc::new(Requests::default());
    let backend = Intercept::new(s3.open().await?, Counted(Arc::clone(&requests)));
    let frontend = QuickConfig::new(arguments.capacity << 20).build()?;
    let store = TieredStore::builder(frontend, backend).build().await?;
    let key = Key::new(format!("{}-MiB", arguments.mebibytes))?;
    let began = Instant::now();
    store
        .put_stream(&key, Put::new(bytes::Bytes::new()), film.stream())
        .await
        .context("the film is not uploaded")?;
    println!("uploaded {} MiB in {:.1} s", arguments.mebibytes, began.elapsed().as_secs_f64());
    let uploaded = memory::peak()?.saturating_sub(before);
    requests.begin_anew();
    let address = server::start(store.clone()).await?;
    let until = Instant::now() + Duration::from_secs(arguments.seconds);
    let players = (0..arguments.players).map(|seed| {
        tokio::spawn(player::play(address, key.clone(), film, u64::try_from(seed).unwrap_or_default(), until))
    });
    let players: Vec<_> = players.collect();
    let mut played = Played::default();
    for player in players {
        played.add(&player.await??);
    }
    let stats = store.stats();
    let Asked { requests: asked, bytes, .. } = requests.so_far();
    let grown = memory::peak()?.saturating_sub(before);
    let mebibytes = |bytes: u64| bytes >> 20;
    println!("| | |\n|---|---|");
    println!("| players, requests of them | {}, {} |", arguments.players, played.requests);
    println!("| served, all of it checked | {} MiB |", mebibytes(played.bytes));
    println!("| read from S3 | {} MiB, {asked} requests |", mebibytes(bytes));
    println!("| blocks: had, fetched | {}, {} |", stats.block_hits, stats.block_fills);
    println!(
        "| memory beside what the program had: upload, all | {} MiB, {} MiB |",
        mebibytes(uploaded),
        mebibytes(grown)
    );
    store.close().await?;
    ensure!(played.requests > 0, "nothing was played");
    ensure!(
        mebibytes(grown) <= arguments.allowed,
        "it took {} MiB of memory, {} are allowed",
        mebibytes(grown),
        arguments.allowed
    );
    Ok(())
}
