//! Syncs and walks in shards, each shard a process of its own over one Postgres, which are killed again and again.
//!
//! A program of its own: it starts itself as those processes.
#![allow(clippy::print_stdout, reason = "a line for what was done")]

mod sync;
mod walk;

use std::process::{Child, Command, ExitCode, Stdio};

use serde_json::Value;
use tiered::postgres::sqlx::{AssertSqlSafe, Connection as _, PgConnection, Row as _, query, raw_sql};
use tiered::{Batch, Create, Key, Put, Schemes, Store};
use tiered_services::Service;
use tokio::runtime::Runtime;

/// A test.
type Test = fn(&Runtime);

/// The tests, by name.
const TESTS: [(&str, Test); 2] = [("killed_shards", sync::run), ("killed_walks", walk::run)];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.iter().any(|argument| argument == "--list") {
        if !arguments.iter().any(|argument| argument == "--ignored") {
            for (name, _) in TESTS {
                println!("{name}: test");
            }
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
    let names: Vec<&str> = TESTS.iter().map(|(name, _)| *name).collect();
    let asked = |name: &str| arguments.iter().any(|argument| argument == name);
    let all = !names.iter().any(|name| asked(name));
    let mut passed = 0;
    for (name, test) in TESTS {
        if all || asked(name) {
            test(&runtime);
            passed += 1;
        }
    }
    println!("test result: ok. {passed} passed; 0 failed");
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

/// The tables: source, target, and what the shards keep.
struct Places {
    server: String,
    schema: String,
}

impl Places {
    fn new(test: &str) -> Self {
        let schema = format!("tiered_shards_{test}_{}", std::process::id());
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

    /// Has each write to the target noted from now on.
    async fn note_writes(&self) {
        self.sql(
            "CREATE TABLE {schema}.written (key bytea, transaction bigint);
             CREATE FUNCTION {schema}.note() RETURNS trigger LANGUAGE plpgsql AS
                 'BEGIN INSERT INTO {schema}.written VALUES (NEW.key, txid_current()); RETURN NEW; END';
             CREATE TRIGGER note AFTER INSERT OR UPDATE ON {schema}.target
                 FOR EACH ROW EXECUTE FUNCTION {schema}.note()",
        )
        .await;
    }

    async fn remove(&self) {
        self.sql("DROP SCHEMA {schema} CASCADE").await;
    }

    /// Rows that were written so far.
    async fn written(&self) -> i64 {
        let mut connection = PgConnection::connect(&self.server).await.expect("connects");
        let text = "SELECT count(*) FROM {schema}.written".replace("{schema}", &self.schema);
        query(AssertSqlSafe(text)).fetch_one(&mut connection).await.expect("counts").get(0)
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

/// Starts this program as the command with `arguments`.
fn start(arguments: &[&str]) -> Child {
    let program = std::env::current_exe().expect("this program");
    let mut command = Command::new(program);
    command.arg("run").args(arguments);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("starts")
}

/// Writes all of these.
async fn write(store: &dyn Store, entries: impl Iterator<Item = (String, String)>) {
    let entries: Vec<(String, String)> = entries.collect();
    for some in entries.chunks(1_000) {
        let batch = some.iter().fold(Batch::new().best_effort(), |batch, (name, value)| {
            batch.put(Key::new(name).expect("valid"), Put::new(value.clone()))
        });
        for written in store.apply(batch).await.expect("written") {
            written.expect("written");
        }
    }
}
