//! Two processes over one Postgres: what one writes, the other's frontend shows as soon as the feed of changes says so; and
//! nothing stays stale where the feed was cut.
//!
//! A program of its own: it starts itself as the second process.
#![allow(clippy::print_stdout, reason = "the two processes speak through it")]

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, UNIX_EPOCH};

use tiered::postgres::sqlx::{AssertSqlSafe, Connection as _, PgConnection, raw_sql};
use tiered::postgres::{Feed, PostgresConfig};
use tiered::settings::MaxStale;
use tiered::{Create, Key, Put, Store as _, StoreExt as _, TieredStore};
use tiered_services::{Mode, Proxy, Service};

/// Writes whose lag is measured.
const WRITES: usize = 100;

/// The lag at the median that is allowed: twenty times what is usual.
const ALLOWED: Duration = Duration::from_millis(100);

/// How long the reader may take to see a write in the end: the feed looks after a silent connection every few seconds.
const PATIENCE: Duration = Duration::from_mins(1);

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.iter().any(|argument| argument == "--list") {
        if !arguments.iter().any(|argument| argument == "--ignored") {
            println!("two_processes: test");
        }
        return ExitCode::SUCCESS;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.expect("a runtime");
    match arguments.as_slice() {
        [read, url, schema] if read == "read" => runtime.block_on(read_until_told(url, schema)),
        _ => runtime.block_on(write_and_watch()),
    }
    ExitCode::SUCCESS
}

fn key() -> Key {
    Key::new("k").expect("valid")
}

/// Microseconds by the clock that both processes share.
fn now() -> u64 {
    UNIX_EPOCH.elapsed().map_or(0, |since| u64::try_from(since.as_micros()).unwrap_or(u64::MAX))
}

async fn stack(url: &str, schema: &str) -> TieredStore {
    let config = PostgresConfig::from_url(url).expect("a URL").schema(schema).feed(Feed::On);
    let backend = config.timeout(Duration::from_secs(2)).open().await.expect("opens");
    let frontend = tiered::open("moka:?capacity=1MiB", Create::IfAbsent).await.expect("opens");
    // Nothing but the feed makes an entry old.
    let builder = TieredStore::builder(frontend, backend).max_stale(MaxStale::Unlimited);
    builder.build().await.expect("builds")
}

/// The second process: prints each new value and how long it took to show.
async fn read_until_told(url: &str, schema: &str) {
    let store = stack(url, schema).await;
    let mut last = None;
    loop {
        // A backend that cannot be reached is no reason to stop looking.
        let seen = store.get(&key()).await.ok().flatten().map(|entry| entry.value().clone());
        if seen.is_some() && seen != last {
            let text = String::from_utf8_lossy(seen.as_deref().unwrap_or_default()).into_owned();
            let written = text.split(' ').next().and_then(|at| at.parse().ok()).unwrap_or(0);
            println!("{text} {}", now().saturating_sub(written));
            std::io::stdout().flush().expect("the first process listens");
            last = seen;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// The second process, and what it says.
struct Reader {
    child: Child,
    lines: Receiver<String>,
}

impl Reader {
    fn start(url: &str, schema: &str) -> Self {
        let program = std::env::current_exe().expect("this program");
        let mut child = Command::new(program)
            .args(["read", url, schema])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("starts");
        let output = child.stdout.take().expect("an output");
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Self { child, lines }
    }

    /// Waits until it has seen `value`; the lag.
    fn sees(&self, value: &str) -> Duration {
        loop {
            let line = self.lines.recv_timeout(PATIENCE).expect("it is seen");
            if let Some(lag) = line.strip_prefix(value) {
                return Duration::from_micros(lag.trim().parse().expect("a number"));
            }
        }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

async fn write_and_watch() {
    let schema = format!("tiered_feed_{}", std::process::id());
    let url = Service::Postgres.required();
    let proxy = Proxy::start(&Service::Postgres.address()).await.expect("listens");
    let proxied = url.replace(&Service::Postgres.address(), &proxy.address());
    let store = stack(&url, &schema).await;
    let write = async |text: &str| {
        let value = format!("{} {text}", now());
        store.put(&key(), Put::new(value.clone())).await.expect("written");
        value
    };
    let first = write("first").await;
    let reader = Reader::start(&proxied, &schema);
    reader.sees(&first);
    let mut lags = Vec::with_capacity(WRITES);
    for index in 0..WRITES {
        let value = write(&index.to_string()).await;
        lags.push(reader.sees(&value));
    }
    lags.sort_unstable();
    let median = *lags.get(WRITES / 2).expect("lags");
    let last = *lags.last().expect("lags");
    println!("a write shows in the other process after {median:?} at the median, {last:?} at most");
    assert!(median <= ALLOWED, "{median:?}");
    // The feed is cut, in each way that there is; meanwhile others write.
    for way in ["reset", "pulled cable"] {
        if way == "reset" {
            proxy.refuse(true);
            proxy.cut();
        } else {
            proxy.set(Mode::Silent);
        }
        let unheard = write(way).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(reader.lines.try_recv().is_err(), "nothing gets through");
        if way == "reset" {
            proxy.refuse(false);
        } else {
            // What is silent for so long is taken for dead.
            tokio::time::sleep(Duration::from_secs(8)).await;
            proxy.set(Mode::Pass);
        }
        println!("after a {way}, the write shows after {:?}", reader.sees(&unheard));
        let heard = write("again").await;
        reader.sees(&heard);
    }
    drop(reader);
    store.close().await.expect("closes");
    let mut connection = PgConnection::connect(&url).await.expect("connects");
    let drop = AssertSqlSafe(format!("DROP SCHEMA {schema} CASCADE"));
    raw_sql(drop).execute(&mut connection).await.expect("dropped");
    connection.close().await.expect("closes");
    println!("test result: ok. 1 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out");
}
