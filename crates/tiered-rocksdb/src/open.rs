//! Making and opening the folder.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::time::Duration;

use rocksdb::{Cache, ColumnFamilyDescriptor, DB, Options, WriteOptions};
use tiered_core::Create;
use tiered_core::{Error, ErrorKind, Result};
use tiered_embedded::{Access, Engine, Opening, io_error};

use crate::config::RocksdbConfig;
use crate::engine::{CHUNKS, MARKS, META, RocksdbEngine, family_options, options};
use crate::error::map;
use crate::marker::{MAKING, Marker, REMOVING};
use crate::{marker, seal};

/// In the default column family: which format the others have.
const FORMAT: &[u8] = b"tiered";
const FORMAT_VERSION: &[u8] = b"3";

/// A format that is read as well: its values lie under their keys. What is written to it is of the present format, and older
/// versions of tiered refuse it from then on.
const FORMAT_BEFORE: &[u8] = b"2";
const DEFAULT: &str = "default";

/// What lies at the path.
pub(crate) enum Found {
    /// Nothing.
    Absent,
    /// An empty folder, or a marked one where making a database was interrupted.
    Bare,
    /// A database of ours.
    Ours,
    /// One whose removal was interrupted.
    HalfRemoved,
}

/// Opens the folder of `config`, and creates the database first if the configuration says so.
pub(crate) fn open(config: &RocksdbConfig, opening: Opening) -> Result<Box<dyn Engine>> {
    let create = match (opening, config.access) {
        (Opening::First, Access::ReadWrite) => config.create,
        (Opening::First, Access::ReadOnly) if config.create == Create::New => {
            let message = "a database that is only read cannot be new; leave out read-only access";
            return Err(Error::new(ErrorKind::Config, message).at_place(config.path.display()));
        }
        // A folder that was removed while it was open must not be recreated empty.
        (Opening::Again, _) | (_, Access::ReadOnly) => Create::Never,
    };
    open_folder(config, create).map_err(|error| error.at_place(config.path.display()))
}

/// Opens the folder of `config`, whatever that says of creation and of its path in messages.
pub(crate) fn open_folder(config: &RocksdbConfig, create: Create) -> Result<Box<dyn Engine>> {
    open_found(config, create, &inspect_patiently(&config.path)?)
}

/// Opens the folder, which was seen as `found` a moment ago.
fn open_found(config: &RocksdbConfig, create: Create, found: &Found) -> Result<Box<dyn Engine>> {
    let path = &config.path;
    match (found, create) {
        (Found::HalfRemoved, _) => return Err(half_removed()),
        (Found::Ours, Create::New) => return Err(already_there()),
        (Found::Ours, _) => {}
        (Found::Bare, Create::IfAbsent | Create::New) => marker::set(path, MAKING).map_err(io_error)?,
        (Found::Bare, Create::Never) => {
            return Err(foreign("the folder is empty and not a database yet; write to it first"));
        }
        (Found::Absent, Create::Never) => return Err(io_error(io::ErrorKind::NotFound.into())),
        (Found::Absent, Create::IfAbsent | Create::New) => {
            if !make_folder(path)? {
                // Another process made it in the meantime: RocksDB's lock decides between us, if it is ours.
                return open_folder(config, create);
            }
        }
    }
    if matches!(*found, Found::Ours) {
        seal::check(path, config.access)?;
    }
    let cache = Cache::new_lru_cache(config.cache);
    let shared = family_options(&cache, false);
    let families = [
        ColumnFamilyDescriptor::new(DEFAULT, shared.clone()),
        ColumnFamilyDescriptor::new(META, shared.clone()),
        ColumnFamilyDescriptor::new(CHUNKS, family_options(&cache, true)),
        ColumnFamilyDescriptor::new(MARKS, shared),
    ];
    let options = options(config);
    let database = match config.access {
        Access::ReadWrite => DB::open_cf_descriptors(&options, path, families),
        // A log that is left is replayed in memory.
        Access::ReadOnly => DB::open_cf_descriptors_read_only(&options, path, families, false),
    };
    let engine = RocksdbEngine::new(database.map_err(map)?, path.clone(), config.access);
    // Again, under RocksDB's lock: a removal may have begun between the first look and this.
    if marker::look(path, REMOVING).map_err(io_error)? == Marker::Whole {
        return Err(half_removed());
    }
    // Under RocksDB's lock: of two that make it, the second finds what the first has made.
    if create == Create::New && has_format(engine.database())? {
        return Err(already_there());
    }
    check_format(engine.database(), config.access)?;
    if config.access == Access::ReadWrite {
        marker::clear(path, MAKING).map_err(io_error)?;
    }
    Ok(Box::new(engine))
}

fn half_removed() -> Error {
    let message = "the removal of this database was interrupted, and a part of it is gone; destroy it again";
    Error::new(ErrorKind::Corrupt, message)
}

fn already_there() -> Error {
    Error::new(ErrorKind::AlreadyExists, "there is a store already; connect to it, or destroy it first")
}

fn has_format(database: &DB) -> Result<bool> {
    Ok(database.get(FORMAT).map_err(map)?.is_some())
}

fn foreign(message: &str) -> Error {
    Error::new(ErrorKind::Foreign, message.to_owned())
}

/// Inspects the folder. Another process that is opening it replaces files meanwhile, which looks like damage for a
/// moment, or like a folder of something else where it was made between two looks; the error is then RocksDB's lock.
pub(crate) fn inspect_patiently(path: &Path) -> Result<Found> {
    patiently(|| inspect(path))
}

/// Looks up to three times.
fn patiently(mut look: impl FnMut() -> Result<Found>) -> Result<Found> {
    const ATTEMPTS: u32 = 3;
    for _ in 1..ATTEMPTS {
        match look() {
            Err(error)
                if matches!(
                    error.kind(),
                    ErrorKind::Corrupt | ErrorKind::Foreign | ErrorKind::Unavailable | ErrorKind::Other
                ) =>
            {
                std::thread::sleep(Duration::from_millis(10));
            }
            seen => return seen,
        }
    }
    look()
}

/// Looks at the folder without touching it.
fn inspect(path: &Path) -> Result<Found> {
    match fs::metadata(path) {
        Ok(found) if !found.is_dir() => return Err(foreign("the path is a file; give a folder")),
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Found::Absent),
        Err(error) => return Err(io_error(error)),
    }
    let mut names = BTreeSet::new();
    for entry in fs::read_dir(path).map_err(io_error)? {
        names.insert(entry.map_err(io_error)?.file_name().to_string_lossy().into_owned());
    }
    // A fresh file system, mounted for us, brings it along.
    names.remove("lost+found");
    match marker::look(path, REMOVING).map_err(io_error)? {
        Marker::Whole => return Ok(Found::HalfRemoved),
        // Nothing was removed yet.
        Marker::Begun => {
            names.remove(REMOVING.name);
        }
        Marker::Absent | Marker::Foreign => {}
    }
    let marker = marker::look(path, MAKING).map_err(io_error)?;
    if marker == Marker::Begun {
        names.remove(MAKING.name);
    }
    if !names.contains("CURRENT") {
        return if names.is_empty() || marker == Marker::Whole {
            Ok(Found::Bare)
        } else {
            Err(foreign("the folder holds something else; use another folder, this one was not touched"))
        };
    }
    let found: BTreeSet<String> = DB::list_cf(&Options::default(), path).map_err(map)?.into_iter().collect();
    let ours = [DEFAULT, META, CHUNKS, MARKS];
    if found.iter().any(|name| !ours.contains(&name.as_str())) || !found.contains(DEFAULT) {
        return Err(foreign(
            "the folder is a RocksDB database of another program; use another folder, this one was not touched",
        ));
    }
    if found.len() > 1 {
        return Ok(Found::Ours);
    }
    // No column family of ours: one whose making was interrupted has the marker.
    if marker == Marker::Whole {
        return Ok(Found::Bare);
    }
    Err(foreign(
        "the folder is a RocksDB database of another program; use another folder, this one was not touched",
    ))
}

/// Makes the folder and marks it; false where there is one.
fn make_folder(path: &Path) -> Result<bool> {
    match fs::create_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(false),
        made => made.map_err(io_error)?,
    }
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let marked = marker::set(path, MAKING).and_then(|()| File::open(parent)?.sync_all());
    marked.map(|()| true).map_err(|error| {
        // Only where it is empty.
        fs::remove_dir(path).ok();
        io_error(error)
    })
}

/// Refuses another format; names ours in a new database.
fn check_format(database: &DB, access: Access) -> Result<()> {
    match database.get(FORMAT).map_err(map)?.as_deref() {
        Some(FORMAT_VERSION) => Ok(()),
        Some(FORMAT_BEFORE) if access == Access::ReadOnly => Ok(()),
        Some(FORMAT_BEFORE) => write_format(database),
        Some(_) => Err(foreign(
            "the database has the format of another version of tiered; open it with that version and sync it to a new store",
        )),
        None if access == Access::ReadOnly => {
            Err(foreign("the folder holds no database yet; write to it first"))
        }
        None => write_format(database),
    }
}

fn write_format(database: &DB) -> Result<()> {
    let mut durable = WriteOptions::default();
    durable.set_sync(true);
    database.put_opt(FORMAT, FORMAT_VERSION, &durable).map_err(map)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_removal_that_began_after_the_look_is_found_under_the_lock() {
        let folder = tempfile::tempdir().expect("a folder");
        let config = RocksdbConfig::new(folder.path().join("d.rocksdb"));
        open_folder(&config, Create::New).expect("made").close().expect("closes");
        let found = inspect_patiently(&config.path).expect("looks");
        assert!(matches!(found, Found::Ours));
        marker::set(&config.path, REMOVING).expect("set");
        for create in [Create::Never, Create::IfAbsent] {
            let refused = open_found(&config, create, &found).map(drop).expect_err("half removed");
            assert_eq!(refused.kind(), ErrorKind::Corrupt, "{create:?}");
        }
    }

    #[test]
    fn what_looks_foreign_for_a_moment_is_looked_at_again_and_what_stays_so_is_refused() {
        let mut looks = 0;
        let seen = patiently(|| {
            looks += 1;
            if looks == 1 { Err(foreign("half made")) } else { Ok(Found::Ours) }
        });
        assert!(matches!(seen, Ok(Found::Ours)) && looks == 2);
        let refused = patiently(|| Err(foreign("something else"))).err().expect("refused");
        assert_eq!(refused.kind(), ErrorKind::Foreign);
    }
}
