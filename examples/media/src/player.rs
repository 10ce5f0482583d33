//! A player, which checks every byte.

use std::net::SocketAddr;
use std::ops::Range;
use std::time::Instant;

use anyhow::{Context as _, ensure};
use tiered::Key;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;

use crate::film::Film;

/// What a player asks for at a time.
const ASKED: u64 = 1 << 20;

/// What most people look at, in bytes from the beginning.
const POPULAR: u64 = 32 << 20;

/// What was played.
#[derive(Debug, Default)]
pub struct Played {
    pub requests: u64,
    pub bytes: u64,
}

impl Played {
    pub fn add(&mut self, other: &Self) {
        self.requests += other.requests;
        self.bytes += other.bytes;
    }
}

/// Plays until then: nine of ten times somewhere near the beginning, else anywhere; each time for some requests on end.
pub async fn play(
    server: SocketAddr,
    key: Key,
    film: Film,
    seed: u64,
    until: Instant,
) -> anyhow::Result<Played> {
    let mut dice = fastrand::Rng::with_seed(seed);
    let mut connection = BufReader::with_capacity(16 << 10, TcpStream::connect(server).await?);
    let mut buffer = vec![0; 64 << 10];
    let mut played = Played::default();
    while Instant::now() < until {
        let near = if dice.u8(0..10) < 9 { POPULAR.min(film.size()) } else { film.size() };
        let mut at = dice.u64(0..near);
        for _ in 0..dice.u8(1..8) {
            if at >= film.size() || Instant::now() >= until {
                break;
            }
            let end = (at + ASKED).min(film.size());
            request(&mut connection, &key, film, at..end, &mut buffer).await?;
            played.add(&Played { requests: 1, bytes: end - at });
            at = end;
        }
    }
    Ok(played)
}

async fn request(
    connection: &mut BufReader<TcpStream>,
    key: &Key,
    film: Film,
    Range { start, end }: Range<u64>,
    buffer: &mut [u8],
) -> anyhow::Result<()> {
    let request =
        format!("GET /films/{key} HTTP/1.1\r\nhost: media\r\nrange: bytes={start}-{}\r\n\r\n", end - 1);
    connection.get_mut().write_all(request.as_bytes()).await?;
    let mut line = String::new();
    connection.read_line(&mut line).await?;
    ensure!(line.starts_with("HTTP/1.1 206"), "the server answered {line:?}");
    while line != "\r\n" {
        line.clear();
        ensure!(connection.read_line(&mut line).await? > 0, "the answer ended in its head");
    }
    let mut at = start;
    while at < end {
        let most = usize::try_from(end - at).map_or(buffer.len(), |left| left.min(buffer.len()));
        let free = buffer.get_mut(..most).context("it fits")?;
        let count = connection.read(free).await?;
        ensure!(count > 0, "the answer ended {} bytes too early", end - at);
        let wrong = film.first_wrong(at, buffer.get(..count).context("was read")?);
        ensure!(wrong.is_none(), "byte {wrong:?} is wrong");
        at += count as u64;
    }
    Ok(())
}
