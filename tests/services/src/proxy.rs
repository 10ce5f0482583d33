//! A TCP proxy between an adapter and a real server, which does to connections what networks do.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// What happens to what is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mode {
    /// It is passed on.
    Pass,
    /// Requests are passed on, their answers swallowed.
    SwallowAnswers,
    /// The same, once a request that contains this text has been passed on.
    SwallowAfter(&'static str),
    /// Requests are held, also after the client has gone, and passed on when the mode changes.
    HoldRequests,
    /// The same, from the request on that contains this text.
    HoldFrom(&'static str),
    /// Drops all traffic in both directions without closing the connections, like a pulled cable.
    Silent,
    /// Answers come so many bytes at a time, every ten milliseconds.
    Drip(usize),
    /// The answer ends after so many bytes.
    Truncate(usize),
    /// The server is not asked: this is the answer.
    Answer(&'static str),
    /// The conditions of HTTP requests are taken off, so that the server seems to ignore them.
    WithoutConditions,
}

#[derive(Debug)]
struct State {
    /// For every connection without one of its own.
    mode: Mode,
    /// For the next connections, one each.
    next: VecDeque<Mode>,
    /// Counts cuts: a connection of an earlier one is reset.
    cuts: u64,
    refusing: bool,
}

/// A proxy that listens on a free port of loopback.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
    changed: watch::Sender<u64>,
    accepting: JoinHandle<()>,
}

impl Proxy {
    /// Starts a proxy of the server at `target`, a host and a port.
    ///
    /// # Errors
    /// Where no port can be listened on.
    pub async fn start(target: &str) -> io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let state =
            Arc::new(Mutex::new(State { mode: Mode::Pass, next: VecDeque::new(), cuts: 0, refusing: false }));
        let changed = watch::Sender::new(0);
        let (shared, notices, target) = (Arc::clone(&state), changed.clone(), target.to_owned());
        #[expect(clippy::disallowed_methods, reason = "a test's own runtime")]
        let accepting = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (own, refusing) = {
                    let mut state = lock(&shared);
                    (state.next.pop_front(), state.refusing)
                };
                if refusing {
                    continue;
                }
                let link = Link {
                    own,
                    state: Arc::clone(&shared),
                    changes: notices.subscribe(),
                    swallows: Arc::default(),
                };
                let target = target.clone();
                #[expect(clippy::disallowed_methods, reason = "a test's own runtime")]
                tokio::spawn(async move { link.run(client, &target).await.ok() });
            }
        });
        Ok(Self { address, state, changed, accepting })
    }

    /// Where to connect to, a host and a port.
    pub fn address(&self) -> String {
        self.address.to_string()
    }

    /// What happens on every connection from now on.
    pub fn set(&self, mode: Mode) {
        lock(&self.state).mode = mode;
        self.changed.send_modify(|count| *count += 1);
    }

    /// What happens on the next connection, and on it alone. May be given several times.
    pub fn next(&self, mode: Mode) {
        lock(&self.state).next.push_back(mode);
    }

    /// Modes for next connections that no connection has taken yet.
    pub fn left(&self) -> usize {
        lock(&self.state).next.len()
    }

    /// Resets every connection that there is.
    pub fn cut(&self) {
        lock(&self.state).cuts += 1;
        self.changed.send_modify(|count| *count += 1);
    }

    /// Whether new connections are closed at once.
    pub fn refuse(&self, refusing: bool) {
        lock(&self.state).refusing = refusing;
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
        self.cut();
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One connection.
#[derive(Clone, Debug)]
struct Link {
    own: Option<Mode>,
    state: Arc<Mutex<State>>,
    changes: watch::Receiver<u64>,
    /// Whether a request has been passed on after which answers are swallowed.
    swallows: Arc<AtomicBool>,
}

impl Link {
    fn mode(&self) -> Mode {
        self.own.clone().unwrap_or_else(|| lock(&self.state).mode.clone())
    }

    async fn run(self, client: TcpStream, target: &str) -> io::Result<()> {
        if let Mode::Answer(answer) = self.mode() {
            return answer_alone(client, answer).await;
        }
        // A server that serves one connection at a time is not to wait for one that brings it nothing.
        self.clone().other_mode(&Mode::HoldRequests).await;
        if !self.clone().drop_while_silent(&client).await? {
            return Ok(());
        }
        let server = TcpStream::connect(target).await?;
        let cuts = lock(&self.state).cuts;
        for stream in [&client, &server] {
            stream.set_nodelay(true)?;
        }
        let (from_client, to_client) = client.into_split();
        let (from_server, to_server) = server.into_split();
        let (up, down, mut watching) = (self.clone(), self.clone(), self.changes.clone());
        let passing = async {
            tokio::join!(up.requests(from_client, to_server), down.answers(from_server, to_client));
        };
        let cut = async { while watching.changed().await.is_ok() && lock(&self.state).cuts == cuts {} };
        tokio::select! {
            () = passing => {}
            () = cut => {}
        }
        Ok(())
    }

    /// Waits until another mode is set.
    async fn other_mode(&mut self, than: &Mode) {
        while self.mode() == *than {
            if self.changes.changed().await.is_err() {
                return;
            }
        }
    }

    /// Drops what the client sends in silence. Whether the client is still there when another mode is set.
    async fn drop_while_silent(mut self, client: &TcpStream) -> io::Result<bool> {
        let (mut lost, cuts) = (vec![0; 64 << 10], lock(&self.state).cuts);
        while self.mode() == Mode::Silent {
            tokio::select! {
                readable = client.readable() => {
                    readable?;
                    match client.try_read(&mut lost) {
                        Ok(0) => return Ok(false),
                        Ok(_) => {}
                        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                        Err(error) => return Err(error),
                    }
                }
                changed = self.changes.changed() => {
                    if changed.is_err() || lock(&self.state).cuts != cuts {
                        return Ok(false);
                    }
                }
            }
        }
        Ok(true)
    }

    async fn requests(mut self, mut from: OwnedReadHalf, mut to: OwnedWriteHalf) {
        let mut buffer = vec![0; 64 << 10];
        while let Ok(length @ 1..) = from.read(&mut buffer).await {
            let mut part = buffer.get(..length).unwrap_or_default().to_vec();
            match self.mode() {
                mode @ Mode::HoldRequests => self.other_mode(&mode).await,
                mode @ Mode::HoldFrom(text) if contains(&part, text) => self.other_mode(&mode).await,
                Mode::SwallowAfter(text) if contains(&part, text) => {
                    self.swallows.store(true, Ordering::Relaxed);
                }
                Mode::Silent => continue,
                Mode::WithoutConditions => strip(&mut part),
                _ => {}
            }
            if to.write_all(&part).await.is_err() {
                return;
            }
        }
    }

    async fn answers(self, mut from: OwnedReadHalf, mut to: OwnedWriteHalf) {
        let mut buffer = vec![0; 64 << 10];
        let mut seen = 0;
        while let Ok(length @ 1..) = from.read(&mut buffer).await {
            let part = buffer.get(..length).unwrap_or_default();
            let passed = match self.mode() {
                Mode::SwallowAnswers | Mode::Silent => continue,
                Mode::SwallowAfter(_) if self.swallows.load(Ordering::Relaxed) => continue,
                Mode::Truncate(limit) if seen + length > limit => {
                    to.write_all(part.get(..limit.saturating_sub(seen)).unwrap_or_default()).await.ok();
                    return;
                }
                Mode::Drip(bytes) => drip(part, bytes, &mut to).await,
                _ => to.write_all(part).await,
            };
            seen += length;
            if passed.is_err() {
                return;
            }
        }
        if matches!(self.mode(), Mode::SwallowAnswers | Mode::Silent) {
            // The client is not told that the server hung up.
            std::future::pending::<()>().await;
        }
        to.shutdown().await.ok();
    }
}

async fn drip(part: &[u8], bytes: usize, to: &mut OwnedWriteHalf) -> io::Result<()> {
    for drop in part.chunks(bytes.max(1)) {
        to.write_all(drop).await?;
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    Ok(())
}

fn contains(part: &[u8], text: &str) -> bool {
    part.windows(text.len().max(1)).any(|window| window == text.as_bytes())
}

/// Renames the headers that hold conditions.
fn strip(part: &mut [u8]) {
    for name in [&b"if-match:"[..], b"if-none-match:"] {
        let found: Vec<usize> = (0..part.len().saturating_sub(name.len()))
            .filter(|at| part.get(*at..at + name.len()).is_some_and(|bytes| bytes.eq_ignore_ascii_case(name)))
            .collect();
        for at in found {
            if let Some(first) = part.get_mut(at) {
                *first = b'x';
            }
        }
    }
}

/// Answers an HTTP request without asking the server.
async fn answer_alone(mut client: TcpStream, answer: &str) -> io::Result<()> {
    let mut request = Vec::new();
    let mut buffer = vec![0; 64 << 10];
    // To the end of the headers and of a body of the length that they give, so that the client sees no reset.
    loop {
        let length = client.read(&mut buffer).await?;
        request.extend_from_slice(buffer.get(..length).unwrap_or_default());
        let text = String::from_utf8_lossy(&request);
        let Some((head, _)) = text.split_once("\r\n\r\n") else {
            if length == 0 {
                return Ok(());
            }
            continue;
        };
        let body = head.lines().find_map(|line| {
            line.to_ascii_lowercase().strip_prefix("content-length:")?.trim().parse::<usize>().ok()
        });
        if length == 0 || request.len() >= head.len() + 4 + body.unwrap_or(0) {
            break;
        }
    }
    client.write_all(answer.as_bytes()).await?;
    client.shutdown().await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_connection_that_is_made_in_silence_reaches_the_server_when_the_mode_changes_and_without_what_was_sent()
     {
        let server = TcpListener::bind(("127.0.0.1", 0)).await.expect("listens");
        let proxy = Proxy::start(&server.local_addr().expect("bound").to_string()).await.expect("listens");
        proxy.set(Mode::Silent);
        let mut gone = TcpStream::connect(proxy.address()).await.expect("connects");
        gone.write_all(b"lost with its connection").await.expect("sent");
        drop(gone);
        let mut client = TcpStream::connect(proxy.address()).await.expect("connects");
        client.write_all(b"lost").await.expect("sent");
        let early = tokio::time::timeout(Duration::from_millis(100), server.accept()).await;
        assert!(early.is_err(), "a server that serves one connection at a time would wait for this one");
        proxy.set(Mode::Pass);
        let (mut accepted, _) = server.accept().await.expect("the one that is left");
        client.write_all(b"passed").await.expect("sent");
        client.shutdown().await.expect("ends");
        let mut text = String::new();
        accepted.read_to_string(&mut text).await.expect("reads");
        assert_eq!(text, "passed");
    }
}
