//! `import git`: objects first, references last, so that an import that is stopped leaves no reference whose objects are missing.

use std::path::Path;
use std::sync::Arc;

use futures_util::stream::{FuturesUnordered, StreamExt as _};
use serde::Serialize;
use tiered::adapter::{Clock as _, SystemClock};
use tiered::{Batch, Create, Error, ErrorKind, Feature, Key, Put, ReadOptions, Schemes, Store};
use tokio::sync::mpsc;

use crate::arguments::Git;
use crate::commands::closing;
use crate::exit::{FAILED, Failure, OK};
use crate::progress::Progress;
use crate::{output, stack};

/// Objects that are written together: at most so many, with so many bytes.
const TOGETHER: usize = 1_000;
const BYTES: usize = 4 << 20;

#[derive(Debug, Default, Serialize)]
struct Line {
    objects: u64,
    imported: u64,
    present: u64,
    references: u64,
    failed: u64,
    bytes: u64,
    seconds: f64,
}

/// Entries to write: all objects, or all references.
type Entries = Vec<(Key, Vec<u8>)>;

enum Read {
    Objects(Entries),
    References(Entries),
}

pub(super) async fn run(schemes: &Schemes, order: Git, json: bool) -> Result<u8, Failure> {
    // Before the target is made: it may be no repository.
    open(&order.dir)?;
    let to = stack::open_alone(schemes, &order.to, Create::IfAbsent).await?;
    let done = import(&to, &order, json).await;
    closing(&*to, done).await
}

fn open(dir: &Path) -> Result<gix::Repository, Failure> {
    let what = format!("{} is no git repository that can be read", dir.display());
    let unreadable = || Error::new(ErrorKind::Config, what.clone());
    let repository = gix::open(dir).map_err(|error| unreadable().with_source(error))?;
    if repository.is_shallow().map_err(|error| unreadable().with_source(error))? {
        return Err(Failure::Usage(format!(
            "{} is a shallow clone, whose oldest commits refer to what is not there; run git fetch --unshallow in it",
            dir.display()
        )));
    }
    match repository.object_hash() {
        gix::hash::Kind::Sha1 => Ok(repository),
        other => Err(Failure::Usage(format!(
            "{}: its ids are {other}; only repositories with SHA-1 can be imported",
            dir.display()
        ))),
    }
}

async fn import(to: &Arc<dyn Store>, order: &Git, json: bool) -> Result<u8, Failure> {
    let clock = SystemClock::new();
    let begun = clock.uptime();
    let shown = Progress::new("objects");
    let (sender, mut read) = mpsc::channel(2);
    let place = order.dir.clone();
    let reading = tokio::task::spawn_blocking(move || read_all(&open(&place)?, &sender));
    let (mut line, mut running) = (Line::default(), FuturesUnordered::new());
    let mut references = Vec::new();
    loop {
        while running.len() >= order.concurrency.max(1) {
            settle(running.next().await, &mut line, order.max_failures)?;
        }
        match read.recv().await {
            Some(Read::Objects(objects)) => {
                line.objects += objects.len() as u64;
                shown.say(format!("{} objects read, {} imported", line.objects, line.imported));
                running.push(write(Arc::clone(to), objects, Written::IfAbsent));
            }
            Some(Read::References(all)) => references = all,
            None => break,
        }
    }
    while !running.is_empty() {
        settle(running.next().await, &mut line, order.max_failures)?;
    }
    reading.await.map_err(|error| Failure::Usage(error.to_string()))??;
    shown.end();
    if line.failed == 0 {
        line.references = references.len() as u64;
        let mut last = Line::default();
        settle(
            Some(write(Arc::clone(to), references, Written::Always).await),
            &mut last,
            order.max_failures,
        )?;
        line.failed = last.failed;
    } else {
        output::complain("the references are left out, since objects failed; import again");
    }
    line.seconds = clock.uptime().saturating_sub(begun).as_secs_f64();
    print(&line, json)?;
    Ok(if line.failed == 0 { OK } else { FAILED })
}

fn unreadable(what: &str) -> Error {
    Error::new(ErrorKind::Other, format!("{what} of the repository cannot be read; see git fsck"))
}

/// Reads everything, and hands it over in parts. Ends early when the importer has ended.
fn read_all(repository: &gix::Repository, to: &mpsc::Sender<Read>) -> Result<(), Failure> {
    let (mut some, mut bytes) = (Entries::new(), 0);
    for id in repository.objects.iter().map_err(|error| unreadable("the objects").with_source(error))? {
        let id = id.map_err(|error| unreadable("the objects").with_source(error))?;
        let object = repository.find_object(id);
        let object = object.map_err(|error| unreadable(&format!("the object {id}")).with_source(error))?;
        let mut value = gix::objs::encode::loose_header(object.kind, object.data.len() as u64).to_vec();
        value.extend_from_slice(&object.data);
        bytes += value.len();
        some.push((Key::new(id.to_string())?, value));
        if some.len() >= TOGETHER || bytes >= BYTES {
            bytes = 0;
            if to.blocking_send(Read::Objects(std::mem::take(&mut some))).is_err() {
                return Ok(());
            }
        }
    }
    to.blocking_send(Read::Objects(some)).ok();
    let mut references = Entries::new();
    let all = repository.references().map_err(|error| unreadable("the references").with_source(error))?;
    for reference in all.all().map_err(|error| unreadable("the references").with_source(error))? {
        let reference = reference.map_err(|error| unreadable(&format!("a reference: {error}")))?;
        references.push(entry_of(reference.name().as_bstr(), reference.target())?);
    }
    if let Some(head) = repository.try_find_reference("HEAD").ok().flatten() {
        references.push(entry_of(head.name().as_bstr(), head.target())?);
    }
    to.blocking_send(Read::References(references)).ok();
    Ok(())
}

fn entry_of(name: &gix::bstr::BStr, target: gix::refs::TargetRef<'_>) -> Result<(Key, Vec<u8>), Failure> {
    let value = match target {
        gix::refs::TargetRef::Object(id) => format!("{id}\n").into_bytes(),
        gix::refs::TargetRef::Symbolic(name) => [b"ref: ", &**name.as_bstr(), b"\n"].concat(),
    };
    Ok((Key::new(name.to_string())?, value))
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Written {
    /// An object is its content: one that is there is the same.
    IfAbsent,
    Always,
}

/// What became of some entries.
#[derive(Debug, Default)]
struct Settled {
    imported: u64,
    present: u64,
    bytes: u64,
    failed: Vec<(Key, tiered::Error)>,
}

async fn write(to: Arc<dyn Store>, entries: Entries, written: Written) -> Settled {
    let mut settled = Settled::default();
    let keys: Vec<Key> = entries.iter().map(|(key, _)| key.clone()).collect();
    let heads = match written {
        Written::IfAbsent => to.get_many(&keys, &ReadOptions::new().authoritative().range(0..0)).await,
        Written::Always => Vec::new(),
    };
    let mut heads = heads.into_iter();
    let is_there = |head: Option<tiered::Result<tiered::Read>>| {
        head.and_then(Result::ok).is_some_and(|read| read.entry().is_some())
    };
    let lacking: Entries = entries.into_iter().filter(|_| !is_there(heads.next())).collect();
    settled.present = (keys.len() - lacking.len()) as u64;
    let sizes: Vec<(Key, u64)> =
        lacking.iter().map(|(key, value)| (key.clone(), value.len() as u64)).collect();
    let outcomes: Vec<tiered::Result<()>> = if to.capabilities().has(Feature::AtomicBatch) {
        let mut batch = Batch::new().per_item();
        for (key, value) in lacking {
            batch.push(key, Put::new(value).into());
        }
        match to.apply(batch).await {
            Ok(outcomes) => outcomes.into_iter().map(|outcome| outcome.map(drop)).collect(),
            Err(error) => sizes.iter().map(|_| Err(error.clone())).collect(),
        }
    } else {
        let puts = lacking.into_iter().map(|(key, value)| {
            let to = &to;
            async move { to.put(&key, Put::new(value)).await.map(drop) }
        });
        futures_util::stream::iter(puts).buffered(16).collect().await
    };
    for ((key, size), outcome) in sizes.into_iter().zip(outcomes) {
        match outcome {
            Ok(()) => {
                settled.imported += 1;
                settled.bytes += size;
            }
            Err(error) => settled.failed.push((key, error)),
        }
    }
    settled
}

/// Counts what became of entries.
fn settle(settled: Option<Settled>, line: &mut Line, max_failures: u64) -> Result<(), Failure> {
    let Settled { imported, present, bytes, failed } = settled.unwrap_or_default();
    line.imported += imported;
    line.present += present;
    line.bytes += bytes;
    for (key, error) in failed {
        line.failed += 1;
        if line.failed > max_failures {
            return Err(error.into());
        }
        output::complain(&format!("failed: {key}: {}", error.chain()));
    }
    Ok(())
}

fn print(line: &Line, json: bool) -> Result<(), Failure> {
    if json {
        return output::json(line);
    }
    let Line { objects, imported, present, references, failed, bytes, seconds } = line;
    let text = format!(
        "{objects} objects; imported {imported} ({bytes} bytes), present {present}, failed {failed}; {references} references; {seconds:.1} s\n"
    );
    output::bytes(text.as_bytes())
}
