//! `get`, `put`, `delete`, `head`.

use std::fs;
use std::io::Read;
use std::path::Path;

use tiered::{Create, Delete, Key, Put, ReadOptions, Store};

use super::closing;
use crate::arguments::Place;
use crate::exit::{ABSENT, Failure, OK};
use crate::output::{self, Described};
use crate::stack;

pub(super) async fn get(place: &Place, json: bool, key: &str, to: Option<&Path>) -> Result<u8, Failure> {
    let key = Key::new(key)?;
    let store = stack::open(place, Create::Never).await?;
    let read = store.load(&key, &ReadOptions::new()).await.map_err(Failure::from);
    let read = closing(&*store, read).await?;
    let source = read.source;
    let Some(entry) = read.into_entry() else {
        output::complain(&format!("{key} is absent"));
        return Ok(ABSENT);
    };
    if let Some(path) = to {
        fs::write(path, entry.value()).map_err(|error| Failure::Io(path.display().to_string(), error))?;
    }
    if json {
        output::json(&Described::new(key.as_str(), entry.metadata(), source))?;
    } else if to.is_none() {
        output::bytes(entry.value())?;
    }
    Ok(OK)
}

pub(super) async fn put(place: &Place, json: bool, key: &str, file: Option<&Path>) -> Result<u8, Failure> {
    let key = Key::new(key)?;
    // What cannot be read makes no store.
    let mut input: Box<dyn Read + Send> = match file {
        Some(path) => {
            Box::new(fs::File::open(path).map_err(|error| Failure::Io(path.display().to_string(), error))?)
        }
        None => Box::new(std::io::stdin()),
    };
    let store = stack::open(place, Create::IfAbsent).await?;
    let write = async {
        let value = read_within(&mut input, store.capabilities().value_limit(), file)?;
        store.capabilities().check_value(value.len() as u64)?;
        store.put(&key, Put::new(value)).await?;
        Ok(store.load(&key, &ReadOptions::new().range(0..0)).await?)
    };
    let read = closing(&*store, write.await).await?;
    if let Some(entry) = read.entry().filter(|_| json) {
        output::json(&Described::new(key.as_str(), entry.metadata(), read.source))?;
    }
    Ok(OK)
}

/// Reads a value, but no more than one byte beyond the limit: what is too large is refused, not collected.
fn read_within(input: &mut dyn Read, limit: u64, file: Option<&Path>) -> Result<Vec<u8>, Failure> {
    let mut value = Vec::new();
    let name = || file.map_or_else(|| "standard input".to_owned(), |path| path.display().to_string());
    input
        .take(limit.saturating_add(1))
        .read_to_end(&mut value)
        .map_err(|error| Failure::Io(name(), error))?;
    Ok(value)
}

pub(super) async fn delete(place: &Place, key: &str) -> Result<u8, Failure> {
    let key = Key::new(key)?;
    let store = stack::open(place, Create::Never).await?;
    let deleted = store.delete(&key, Delete::new()).await.map_err(Failure::from);
    let deleted = closing(&*store, deleted).await?;
    if deleted.existed {
        return Ok(OK);
    }
    output::complain(&format!("{key} is absent"));
    Ok(ABSENT)
}

pub(super) async fn head(place: &Place, json: bool, key: &str) -> Result<u8, Failure> {
    let key = Key::new(key)?;
    let store = stack::open(place, Create::Never).await?;
    // A read of no bytes tells the tier as well.
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
