//! Whether there is a database in the folder, and its removal.
//!
//! RocksDB removes its files one by one, in no order, and what is left may open as a database that lacks entries. So the
//! marker of the removal is durable before the first file goes, and goes last: until then the folder does not open.

use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::time::Duration;

use rocksdb::{DB, Options};
use tiered_core::adapter::opening::Before;
use tiered_core::{Create, Error, ErrorKind, Result};
use tiered_embedded::{Access, io_error, is_unused};

use crate::config::RocksdbConfig;
use crate::error::map;
use crate::marker::{self, MAKING, Marker, REMOVING};
use crate::open::{Found, inspect_patiently, open_folder};
use crate::seal;

/// Whether there is a database of ours. Changes nothing.
pub(crate) fn exists(config: &RocksdbConfig) -> Result<bool> {
    match inspect_patiently(&config.path) {
        Ok(Found::Absent | Found::Bare) => Ok(false),
        Ok(Found::Ours | Found::HalfRemoved) => Ok(true),
        // A damaged one is there.
        Err(error) if error.kind() == ErrorKind::Corrupt => Ok(true),
        Err(error) => Err(error.at_place(config.path.display())),
    }
}

/// Removes the files of the database, and the folder where nothing else is in it.
pub(crate) fn destroy(config: &RocksdbConfig) -> Result<()> {
    destroy_folder(config).map_err(|error| error.at_place(config.path.display()))
}

fn destroy_folder(config: &RocksdbConfig) -> Result<()> {
    if config.access == Access::ReadOnly {
        let message = "the database is only read by these settings; leave out read-only access to destroy it";
        return Err(Error::new(ErrorKind::PermissionDenied, message));
    }
    let path = &config.path;
    let absent = || Err(Error::new(ErrorKind::NotFound, "there is no database in the folder"));
    match inspect_patiently(path)? {
        Found::Absent => return absent(),
        Found::Bare if marker::look(path, MAKING).map_err(io_error)? != Marker::Whole => return absent(),
        // Its making was interrupted, or goes on: only under RocksDB's lock can that be told.
        Found::Bare => begin(config, Create::IfAbsent)?,
        Found::Ours => begin(config, Create::Never)?,
        Found::HalfRemoved => {}
    }
    // Where another opening was faster the marker stays: whether another removal has begun under it cannot be told.
    remove_files(path)?;
    finish(path, Before::Absent).map_err(io_error)
}

/// Removes a database that was just made, where it was not used since; whether it was removed.
pub(crate) fn take_back(config: &RocksdbConfig, before: Before) -> Result<bool> {
    take_back_folder(config, before).map_err(|error| error.at_place(config.path.display()))
}

fn take_back_folder(config: &RocksdbConfig, before: Before) -> Result<bool> {
    let path = &config.path;
    if !matches!(inspect_patiently(path)?, Found::Ours) {
        return Ok(false);
    }
    let engine = open_folder(config, Create::Never)?;
    let unused = is_unused(&*engine);
    // Set under RocksDB's lock: an opening that waits for that finds the marker.
    let marked = match unused {
        Ok(true) => marker::set(path, REMOVING).map_err(io_error),
        _ => Ok(()),
    };
    engine.close()?;
    marked?;
    if !unused? {
        return Ok(false);
    }
    remove_files(path)?;
    finish(path, before).map(|()| true).map_err(io_error)
}

/// Removes RocksDB's files, under its lock. Another opening that has the lock for a moment finds the marker, and lets go.
fn remove_files(path: &Path) -> Result<()> {
    const ATTEMPTS: u32 = 10;
    for _ in 1..ATTEMPTS {
        match DB::destroy(&Options::default(), path).map_err(map) {
            Err(error) if error.kind() == ErrorKind::Locked => std::thread::sleep(Duration::from_millis(10)),
            removed => return removed,
        }
    }
    DB::destroy(&Options::default(), path).map_err(map)
}

/// Sets the marker while nothing else has the database open.
fn begin(config: &RocksdbConfig, create: Create) -> Result<()> {
    let path = &config.path;
    let engine = match open_folder(config, create) {
        Ok(engine) => Some(engine),
        // It was seen to be ours, and cannot be opened: it is removed all the same, under RocksDB's own lock.
        Err(error) if error.kind() == ErrorKind::Corrupt => None,
        Err(error) => return Err(error),
    };
    let marked = marker::set(path, REMOVING).map_err(io_error);
    let closed = match engine {
        Some(engine) => engine.close(),
        None => Ok(()),
    };
    marked?;
    if let Err(error) = closed {
        tracing::warn!(folder = %path.display(), error = %error.chain(), "a database was not closed cleanly before its removal");
    }
    Ok(())
}

/// Removes our own files, the marker last, and the folder unless it was there before as an empty one.
fn finish(path: &Path, before: Before) -> io::Result<()> {
    let folder = match File::open(path) {
        Ok(folder) => folder,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    seal::clear(path)?;
    marker::clear(path, MAKING)?;
    folder.sync_all()?;
    marker::clear(path, REMOVING)?;
    // Only where it is empty: files of others stay.
    if before == Before::Absent && fs::remove_dir(path).is_ok() {
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        File::open(parent)?.sync_all()?;
    }
    Ok(())
}
