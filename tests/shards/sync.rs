//! A sync in four shards, each a process of its own over one Postgres, which are killed again and again: in the end the target
//! is what one run would have made, no key was copied twice, and the counts add up.
//!
//! A program of its own: it starts itself as those processes.
#![allow(clippy::print_stdout, reason = "a line for what was done")]

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, ExitCode, Stdio};
use std::thread;
use std::time::Duration;

use futures_util::StreamExt as _;
use serde_json::Value;
use tiered::postgres::sqlx::{AssertSqlSafe, Connection as _, PgConnection, Row as _, query, raw_sql};
use tiered::{Batch, Create, Key, ListOptions, Put, Schemes, Store, Version};
use tiered_services::Service;

/// The shards, and how often each is killed.
const SHARDS: usize = 4;
const KILLS: usize = 25;

/// Keys of the source; every fifth is another in the target before, and the target has so many more.
const KEYS: usize = 12_000;
const EXTRA: usize = 1_000;

/// So slow that no shard ends before it is killed for the last time: it has 69,000 bytes, of which each start moves some
/// hundred at once.
const RATE: &str = "1000B";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.iter().any(|argument| argument == "--list") {
        if !arguments.iter().any(|argument| argument == "--ignored") {
            println!("killed_shards: test");
        }
        return ExitCode::SUCCESS;
    }
    if let [run, command @ ..] = arguments.as_slice()
        && run == "run"
    {
        let line = ["tiered".to_owned()].into_iter().chain(command.to_vec());
        return ExitCode::from(tiered_cli::run_with(&Schemes::standard(), line.map(Into::into)));
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.expect("a runtime");
    let places = Places::new();
    runtime.block_on(places.fill());
    let done: Vec<Done> = thread::scope(|scope| {
        let shards = (1..=SHARDS).map(|shard| {
            scope.spawn({
                let places = &places;
                move || places.carry_out(shard)
            })
        });
        let shards: Vec<_> = shards.collect();
        shards.into_iter().map(|shard| shard.join().expect("ended")).collect()
    });
    runtime.block_on(places.judge(&done));
    ExitCode::SUCCESS
}

/// How a shard ended.
#[derive(Debug)]
struct Done {
    killed: usize,
    report: Value,
}

impl Done {
    fn count(&self, name: &str) -> usize {
        let count = self.report.get(name).and_then(Value::as_u64).expect("a count");
        usize::try_from(count).expect("small")
    }
}

/// The three tables: source, target, and what the shards keep.
struct Places {
    server: String,
    schema: String,
}

impl Places {
    fn new() -> Self {
        let schema = format!("tiered_shards_{}", std::process::id());
        Self { server: Service::Postgres.required(), schema }
    }

    fn url(&self, table: &str) -> String {
        let joined = if self.server.contains('?') { '&' } else { '?' };
        format!("{}{joined}schema={}&table={table}", self.server, self.schema)
    }

    async fn open(&self, table: &str) -> std::sync::Arc<dyn Store> {
        tiered::open(&self.url(table), Create::IfAbsent).await.expect("opens")
    }

    async fn sql(&self, text: &str) {
        let mut connection = PgConnection::connect(&self.server).await.expect("connects");
        let text = AssertSqlSafe(text.replace("{schema}", &self.schema));
        raw_sql(text).execute(&mut connection).await.expect("runs");
        connection.close().await.expect("closes");
    }

    /// Fills both sides, and has each write to the target noted from now on.
    async fn fill(&self) {
        let (source, target) = (self.open("source").await, self.open("target").await);
        write(&*source, (0..KEYS).map(name), "new value of the source").await;
        write(&*target, (0..KEYS).step_by(5).map(name), "old value").await;
        write(&*target, (0..EXTRA).map(|number| format!("{}-extra", name(number * 11))), "extra").await;
        source.close().await.expect("closes");
        target.close().await.expect("closes");
        self.sql(
            "CREATE TABLE {schema}.written (key bytea, transaction bigint);
             CREATE FUNCTION {schema}.note() RETURNS trigger LANGUAGE plpgsql AS
                 'BEGIN INSERT INTO {schema}.written VALUES (NEW.key, txid_current()); RETURN NEW; END';
             CREATE TRIGGER note AFTER INSERT OR UPDATE ON {schema}.target
                 FOR EACH ROW EXECUTE FUNCTION {schema}.note()",
        )
        .await;
    }

    fn start(&self, shard: usize, rate: &str) -> Child {
        let named = format!("{shard}/{SHARDS}");
        let [from, to, state] = ["source", "target", "state"].map(|table| self.url(table));
        let program = std::env::current_exe().expect("this program");
        let arguments = [
            "run",
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
        let mut command = Command::new(program);
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().expect("starts")
    }

    /// Runs a shard, kills it at random moments, and then lets it end.
    fn carry_out(&self, shard: usize) -> Done {
        let mut dice = fastrand::Rng::with_seed(u64::try_from(shard).unwrap_or_default());
        let mut killed = 0;
        for _ in 0..KILLS {
            let mut child = self.start(shard, RATE);
            // Its first line says that it has opened everything and begins.
            let mut line = String::new();
            let errors = child.stderr.as_mut().expect("piped");
            BufReader::new(errors).read_line(&mut line).expect("says so");
            thread::sleep(Duration::from_millis(dice.u64(0..400)));
            killed += usize::from(child.try_wait().expect("looks").is_none());
            child.kill().expect("killed");
            child.wait().expect("ended");
        }
        let output = self.start(shard, "1GiB").wait_with_output().expect("ends");
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "shard {shard}: {errors}");
        let settled = errors.split_once("goes on after").map(|(_, rest)| !rest.contains("\": 0 keys"));
        assert_eq!(settled, Some(true), "shard {shard} began anew: {errors}");
        Done { killed, report: serde_json::from_slice(&output.stdout).expect("JSON") }
    }

    async fn judge(&self, done: &[Done]) {
        let (source, target) = (self.open("source").await, self.open("target").await);
        assert_eq!(
            versions(&*source).await,
            versions(&*target).await,
            "the target is what one run makes of it"
        );
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
        let twice = self.written_twice().await;
        assert_eq!(twice, 0, "keys were copied twice");
        let killed: usize = done.iter().map(|done| done.killed).sum();
        assert!(killed > SHARDS * KILLS / 2, "only {killed} were killed before they had ended");
        self.sql("DROP SCHEMA {schema} CASCADE").await;
        println!(
            "test killed_shards: {SHARDS} shards, killed {killed} times: {} copied, {} found copied by a run that was killed",
            sum("copied"),
            sum("skipped")
        );
        println!("test result: ok. 1 passed; 0 failed");
    }

    /// Keys that two transactions have written. One may write a row in two steps.
    async fn written_twice(&self) -> i64 {
        let mut connection = PgConnection::connect(&self.server).await.expect("connects");
        let text =
            "SELECT count(*) - count(DISTINCT key) FROM (SELECT DISTINCT * FROM {schema}.written) AS once";
        let row = query(AssertSqlSafe(text.replace("{schema}", &self.schema)));
        row.fetch_one(&mut connection).await.expect("counts").get(0)
    }
}

fn name(number: usize) -> String {
    format!("items/{number:06}")
}

async fn write(store: &dyn Store, names: impl Iterator<Item = String>, value: &'static str) {
    let names: Vec<String> = names.collect();
    for some in names.chunks(1_000) {
        let keys = some.iter().map(|name| Key::new(name).expect("valid"));
        let batch = keys.fold(Batch::new().best_effort(), |batch, key| batch.put(key, Put::new(value)));
        for written in store.apply(batch).await.expect("written") {
            written.expect("written");
        }
    }
}

async fn versions(store: &dyn Store) -> Vec<(Key, Option<Version>)> {
    let listing = store.list(ListOptions::new());
    let listed = listing.map(|listed| listed.map(|listed| (listed.key, listed.version)).expect("listed"));
    listed.collect().await
}
