//! `get`, `put`, `delete`, `head`.

use std::fs;
use std::io::Read as _;
use std::path::Path;

use tiered::{Create, Delete, Key, Put, ReadOptions, Source, Store};

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
        eprintln!("{key} is absent");
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
    let mut value = Vec::new();
    match file {
        Some(path) => {
            value = fs::read(path).map_err(|error| Failure::Io(path.display().to_string(), error))?;
        }
        None => {
            std::io::stdin()
                .read_to_end(&mut value)
                .map_err(|error| Failure::Io("standard input".to_owned(), error))?;
        }
    }
    let store = stack::open(place, Create::IfAbsent).await?;
    let write = async {
        store.put(&key, Put::new(value)).await?;
        Ok(store.head(&key, &ReadOptions::new()).await?)
    };
    let written = closing(&*store, write.await).await?;
    match written {
        Some(metadata) if json => {
            output::json(&Described::new(key.as_str(), &metadata, source_of(place)))?;
        }
        _ => {}
    }
    Ok(OK)
}

/// Where a write goes in the end.
fn source_of(place: &Place) -> Source {
    match (&place.backend, place.write_policy.as_deref()) {
        (Some(_), Some("frontend-only")) => Source::Frontend,
        (Some(_), _) => Source::Backend,
        (None, _) if place.config.is_some() => Source::Backend,
        (None, _) => Source::Store,
    }
}

pub(super) async fn delete(place: &Place, key: &str) -> Result<u8, Failure> {
    let key = Key::new(key)?;
    let store = stack::open(place, Create::Never).await?;
    let deleted = store.delete(&key, Delete::new()).await.map_err(Failure::from);
    let deleted = closing(&*store, deleted).await?;
    if deleted.existed {
        return Ok(OK);
    }
    eprintln!("{key} is absent");
    Ok(ABSENT)
}

pub(super) async fn head(place: &Place, json: bool, key: &str) -> Result<u8, Failure> {
    let key = Key::new(key)?;
    let store = stack::open(place, Create::Never).await?;
    // A read of no bytes tells the tier as well.
    let read = store.load(&key, &ReadOptions::new().range(0..0)).await.map_err(Failure::from);
    let read = closing(&*store, read).await?;
    let Some(entry) = read.entry() else {
        eprintln!("{key} is absent");
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
