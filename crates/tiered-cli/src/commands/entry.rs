//! `get`, `put`, `delete`, `head`.

use std::fs;
use std::io::{self, Read};
use std::path::Path;

use tiered::{Capabilities, Create, Delete, Existed, Key, Precondition, Put, ReadOptions, Schemes, Store};

use super::closing;
use crate::arguments::{Condition, Place};
use crate::exit::{ABSENT, Failure, OK};
use crate::output::{self, Described};
use crate::{output_file, stack};

pub(super) async fn get(
    schemes: &Schemes,
    place: &Place,
    json: bool,
    key: &str,
    to: Option<&Path>,
) -> Result<u8, Failure> {
    let key = Key::new(key)?;
    let store = stack::open_to_read(schemes, place).await?;
    let read = store.load(&key, &ReadOptions::new()).await.map_err(Failure::from);
    let read = closing(&*store, read).await?;
    let source = read.source;
    let Some(entry) = read.into_entry() else {
        output::complain(&format!("{key} is absent"));
        return Ok(ABSENT);
    };
    if let Some(path) = to {
        output_file::write(path, entry.value())
            .map_err(|error| Failure::Io(path.display().to_string(), error))?;
    }
    if json {
        output::json(&Described::new(key.as_str(), entry.metadata(), source))?;
    } else if to.is_none() {
        output::bytes(entry.value())?;
    }
    Ok(OK)
}

pub(super) async fn put(
    schemes: &Schemes,
    place: &Place,
    json: bool,
    key: &str,
    file: Option<&Path>,
    condition: &Condition,
) -> Result<u8, Failure> {
    let key = Key::new(key)?;
    let precondition = condition.precondition()?;
    let name = file.map_or_else(|| "standard input".to_owned(), |path| path.display().to_string());
    let failed = |error| Failure::Io(name.clone(), error);
    let mut input: Box<dyn Read + Send> = match file {
        Some(path) => Box::new(fs::File::open(path).map_err(failed)?),
        None => Box::new(io::stdin()),
    };
    // The store is opened only after the input has arrived, so a slow pipe locks out no other process. A store may
    // allow larger values than this; the rest is read once its limit is known.
    let mut value = Vec::new();
    let before = if file.is_some() { 0 } else { Capabilities::DEFAULT_MAX_VALUE };
    input.by_ref().take(before).read_to_end(&mut value).map_err(failed)?;
    let store = stack::open(schemes, place, Create::IfAbsent).await?;
    let write = async {
        let limit = store.capabilities().max_value();
        let rest = limit.saturating_add(1).saturating_sub(value.len() as u64);
        input.take(rest).read_to_end(&mut value).map_err(failed)?;
        store.capabilities().check_value(value.len() as u64)?;
        let size = value.len() as u64;
        let written = store.put(&key, Put::new(value).precondition(precondition)).await?;
        Ok((size, written, store.load(&key, &ReadOptions::new().range(0..0)).await?))
    };
    let (size, written, read) = closing(&*store, write.await).await?;
    if json {
        // Another process may have replaced the entry: print what was written, without what the store filled in.
        let entry = read.entry().filter(|entry| *entry.version() == written.version);
        match entry {
            Some(entry) => output::json(&Described::new(key.as_str(), entry.metadata(), read.source))?,
            None => output::json(&Described::replaced(key.as_str(), size, &written.version))?,
        }
    }
    Ok(OK)
}

pub(super) async fn delete(
    schemes: &Schemes,
    place: &Place,
    key: &str,
    if_version: Option<&str>,
) -> Result<u8, Failure> {
    let key = Key::new(key)?;
    // The exit code says whether there was an entry.
    let mut delete = Delete::new().report_existed();
    if let Some(version) = if_version {
        delete = delete.precondition(Precondition::Matches(version.parse()?));
    }
    let store = stack::open(schemes, place, Create::Never).await?;
    let deleted = store.delete(&key, delete).await.map_err(Failure::from);
    let deleted = closing(&*store, deleted).await?;
    if deleted.existed == Existed::No {
        output::complain(&format!("{key} is absent"));
        return Ok(ABSENT);
    }
    // `Existed::Unknown` means that the entry was damaged; it is deleted as well.
    Ok(OK)
}

pub(super) async fn head(schemes: &Schemes, place: &Place, json: bool, key: &str) -> Result<u8, Failure> {
    let key = Key::new(key)?;
    let store = stack::open_to_read(schemes, place).await?;
    // A read of zero bytes also shows which tier answers.
    let read = store.load(&key, &ReadOptions::new().range(0..0)).await.map_err(Failure::from);
    let read = closing(&*store, read).await?;
    let Some(entry) = read.entry() else {
        output::complain(&format!("{key} is absent"));
        return Ok(ABSENT);
    };
    let described = Described::new(key.as_str(), entry.metadata(), read.source);
    if json {
        output::json(&described)?;
    } else {
        described.print()?;
    }
    Ok(OK)
}
