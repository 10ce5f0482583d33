//! The process that is killed. It says what it is about to do before it does it.

use std::io::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use serde_json::{Value, json};
use tiered::journal::JournalConfig;
use tiered::values::sweep::{Roots, Sweep, SweepReport};
use tiered::values::{Documents, Error, Log};
use tiered::{
    Create, Entry, Key, Put, Result as StoreResult, Store as _, StoreExt as _, TieredStore, WritePolicy,
};

type Ended<T = ()> = Result<T, Error>;

const ROOT: &str = "roots/main";

/// Runs what the parent asks for.
pub(crate) fn run(what: &str, stack: &str, place: &str) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let ended = runtime.expect("a runtime").block_on(async {
        let store = open(stack, place).await?;
        match what {
            "count" => count(&store).await?,
            "counted" => counted(&store).await?,
            "end" => {
                look(&store).await?;
                end(&store).await?;
            }
            _ => {
                look(&store).await?;
                work(&store).await?;
            }
        }
        Ok::<_, Error>(store.close().await?)
    });
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&format!("wrong: {error:?}"));
            ExitCode::FAILURE
        }
    }
}

/// One write to the pipe: what is in it survives this process.
fn say(line: &str) {
    if std::io::stdout().lock().write_all(format!("{line}\n").as_bytes()).is_err() {
        std::process::exit(1);
    }
}

async fn open(stack: &str, place: &str) -> Ended<TieredStore> {
    let frontend = tiered::open("moka:?capacity=1MiB", Create::IfAbsent).await?;
    #[cfg(feature = "postgres")]
    if stack == "postgres" {
        let url = tiered_services::Service::Postgres.required();
        let backend = tiered::postgres::PostgresConfig::from_url(&url)?.schema(place).open().await?;
        return Ok(TieredStore::builder(frontend, backend).build().await?);
    }
    let backend = tiered::open(&format!("redb:{place}/back.redb"), Create::IfAbsent).await?;
    Ok(match stack {
        "moka/journal/redb" => {
            let journal = JournalConfig::new(format!("{place}/journal")).open().await?;
            let builder = TieredStore::builder(frontend, backend).write_policy(WritePolicy::WriteBehind);
            builder.journal(journal).build().await?
        }
        "moka/redb" => TieredStore::builder(frontend, backend).build().await?,
        // Without a frontend that keeps anything.
        _ => {
            let builder = TieredStore::builder(frontend, backend).write_policy(WritePolicy::WriteAround);
            builder.max_fill(0).build().await?
        }
    })
}

fn log(store: &TieredStore) -> Ended<Log> {
    // Small segments: much is sealed and begun in little time.
    Log::builder(store.clone(), "log").segment_elements(std::num::NonZeroU32::new(7).expect("seven")).build()
}

fn roots() -> Roots {
    let references = |_: &Key, entry: &Entry| -> StoreResult<Vec<Key>> {
        String::from_utf8_lossy(entry.value()).lines().map(Key::new).collect()
    };
    Roots::new(references).under("roots/").leaves_under("parts/")
}

fn sweep(store: &TieredStore) -> Ended<Sweep> {
    Sweep::builder(store.clone()).prefix("parts/").build()
}

/// Says what there is.
async fn look(store: &TieredStore) -> Ended {
    let elements = log(store)?.read(0, usize::MAX).await?;
    let elements: Vec<_> = elements.iter().map(|(_, text)| String::from_utf8_lossy(text)).collect();
    say(&format!("log {}", elements.join(" ")));
    let count = Documents::new(store.clone())?.get_in("doc", ["count"]).await?;
    say(&format!("count {}", count.as_ref().and_then(Value::as_u64).unwrap_or(0)));
    for part in parts(store).await? {
        if !store.contains(part.as_str()).await? {
            say(&format!("lost {part}"));
        }
    }
    say("ready");
    Ok(())
}

/// What the root refers to.
async fn parts(store: &TieredStore) -> Ended<Vec<String>> {
    let root = store.get(ROOT).await?;
    let text = root.map(|root| String::from_utf8_lossy(root.value()).into_owned()).unwrap_or_default();
    Ok(text.lines().map(str::to_owned).collect())
}

/// Does everything at once until the process ends.
async fn work(store: &TieredStore) -> Ended {
    // Before a writer of this process begins: its record must stay.
    forget_the_dead(&sweep(store)?).await?;
    let (one, two) = (append(store), append(store));
    tokio::try_join!(one, two, increment(store), publish(store), collect(store))?;
    Ok(())
}

async fn append(store: &TieredStore) -> Ended {
    let (log, writer) = (log(store)?, fastrand::u64(..));
    for number in 0_u64.. {
        let element = format!("{writer:x}-{number}");
        say(&format!("append {element}"));
        log.append(element.clone()).await?;
        say(&format!("appended {element}"));
    }
    Ok(())
}

fn add_one(old: Option<&Value>) -> Value {
    json!(old.and_then(Value::as_u64).unwrap_or(0) + 1)
}

async fn increment(store: &TieredStore) -> Ended {
    let documents = Documents::new(store.clone())?;
    loop {
        say("increment");
        documents.update_in("doc", ["count"], add_one).await?;
        say("incremented");
    }
}

/// Replaces the root again and again: of its two parts it keeps one.
async fn publish(store: &TieredStore) -> Ended {
    let sweep = sweep(store)?;
    loop {
        let write = sweep.begin_write("publisher").await?;
        let root = store.get(ROOT).await?;
        let kept = parts(store).await?.pop();
        let part = format!("parts/{:x}", fastrand::u64(..));
        store.set(part.as_str(), "…").await?;
        // Long enough for two sweeps: without its record the part would be gone before the root names it.
        tokio::time::sleep(Duration::from_millis(fastrand::u64(..30))).await;
        let text: Vec<String> = kept.into_iter().chain([part]).collect();
        let put = Put::new(text.join("\n"));
        let put = match root {
            Some(root) => put.if_version(root.version().clone()),
            None => put.if_absent(),
        };
        store.set(ROOT, put).await?;
        say("published");
        write.end().await?;
    }
}

/// Sweeps again and again.
async fn collect(store: &TieredStore) -> Ended {
    let sweep = sweep(store)?;
    // Without a root everything would be garbage.
    while store.get(ROOT).await?.is_none() {
        tokio::task::yield_now().await;
    }
    loop {
        match sweep.run(&roots()).await {
            Ok(report) => say(&format!("swept {}", report.deleted)),
            // The root changes all the time.
            Err(Error::Contended { .. }) => {}
            Err(error) => return Err(error),
        }
    }
}

/// Removes the records of writers that were killed: all that there are, so no writer may be under way.
async fn forget_the_dead(sweep: &Sweep) -> Ended {
    for writer in sweep.writers().await? {
        sweep.forget_writer(writer.id).await?;
    }
    Ok(())
}

/// Brings the sweep to its end: nothing is left that nothing refers to.
async fn end(store: &TieredStore) -> Ended {
    let sweep = sweep(store)?;
    forget_the_dead(&sweep).await?;
    if store.get(ROOT).await?.is_none() {
        return Ok(());
    }
    loop {
        let SweepReport { deleted, observed, .. } = sweep.run(&roots()).await?;
        say(&format!("swept {deleted}"));
        if (deleted, observed) == (0, 0) {
            break;
        }
    }
    let live = parts(store).await?;
    for key in store.keys("parts/").await? {
        if !live.contains(&key.to_string()) {
            say(&format!("garbage {key}"));
        }
    }
    Ok(())
}

/// Half of 100 increments and half of 100 appends, several at a time.
async fn count(store: &TieredStore) -> Ended {
    let (documents, log) = (Documents::new(store.clone())?, log(store)?);
    let increments = (0..5).map(|_| async {
        for _ in 0..10 {
            documents.update_in("doc", ["count"], add_one).await?;
        }
        Ok::<_, Error>(())
    });
    let appends = (0..2).map(|_| async {
        for _ in 0..25 {
            log.append("element").await?;
        }
        Ok::<_, Error>(())
    });
    let (increments, appends) =
        (futures_util::future::try_join_all(increments), futures_util::future::try_join_all(appends));
    tokio::try_join!(increments, appends)?;
    Ok(())
}

async fn counted(store: &TieredStore) -> Ended {
    let count = Documents::new(store.clone())?.get_in("doc", ["count"]).await?;
    let elements = log(store)?.read(0, usize::MAX).await?.len();
    assert_eq!((count, elements), (Some(json!(100)), 100), "nothing is lost");
    Ok(())
}
