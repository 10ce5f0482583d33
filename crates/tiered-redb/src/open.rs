//! Opening the file.

use std::fs::{self, File};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};

use redb::{Builder, Database, Durability, ReadableDatabase, StorageBackend, TableDefinition};
use tiered_core::Create;
use tiered_core::{Error, ErrorKind, Result};
use tiered_embedded::{Access, Engine, Opening, io_error};

use crate::config::{RedbConfig, Verify};
use crate::create::{Content, Made, create, inspect};
use crate::destroy;
use crate::engine::{ReadOnlyEngine, RedbEngine, make_tables};
use crate::error::map;
use crate::system::Os;

/// What says that a database is ours.
const MARKER: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("tiered");
const FORMAT: &str = "format";
const FORMAT_VERSION: &[u8] = b"3";

/// A format that is read as well: its values lie under their keys. What is written to it is of the present format.
const FORMAT_BEFORE: &[u8] = b"2";

/// The largest file that [`Verify::Auto`] checks: about a second of reading.
const VERIFY_UP_TO: u64 = 256 << 20;

/// Opens the file of `config`, and creates it first if the configuration says so.
pub(crate) fn open(config: &RedbConfig, opening: Opening) -> Result<Box<dyn Engine>> {
    let create = match (opening, config.access) {
        (Opening::First, Access::ReadWrite) => config.create,
        (Opening::First, Access::ReadOnly) if config.create == Create::New => {
            let message = "a database that is only read cannot be new; leave out read-only access";
            return Err(Error::new(ErrorKind::Config, message).at_place(config.path.display()));
        }
        // A file that was removed while it was open must not be recreated empty.
        (Opening::Again, _) | (_, Access::ReadOnly) => Create::Never,
    };
    open_file(config, create).map_err(|error| error.at_place(config.path.display()))
}

/// Opens the database on a custom backend, and creates it if the backend is empty.
pub(crate) fn open_on(config: &RedbConfig, backend: impl StorageBackend) -> Result<Box<dyn Engine>> {
    let database = contained(|| {
        let database = builder(config, config.verify != Verify::Never).create_with_backend(backend);
        let database = database.map_err(map)?;
        let is_new = {
            let transaction = database.begin_read().map_err(map)?;
            transaction.list_tables().map_err(map)?.next().is_none()
        };
        if is_new {
            initialise_tables(&database)?;
        } else {
            claim_format(&database)?;
        }
        Ok(database)
    });
    Ok(Box::new(RedbEngine::new(database?, config.capacity)))
}

fn open_file(config: &RedbConfig, create_it: Create) -> Result<Box<dyn Engine>> {
    let path = &config.path;
    let found = fs::metadata(path);
    if found.as_ref().is_ok_and(fs::Metadata::is_dir) {
        return Err(foreign("the path is a folder; name a file"));
    }
    let content = match (found.and_then(|_| File::open(path)), create_it) {
        (Ok(file), _) => inspect(&file)?,
        (Err(error), Create::IfAbsent | Create::New) if error.kind() == io::ErrorKind::NotFound => {
            Content::Empty
        }
        (Err(error), _) => return Err(io_error(error)),
    };
    let made = match (content, create_it) {
        (Content::Redb, Create::New) => return Err(already_there(config)),
        (Content::Redb, _) => Made::ByAnother,
        (Content::Empty | Content::Unfinished, Create::IfAbsent | Create::New) => create(&Os, path)?,
        (Content::Empty | Content::Unfinished, Create::Never) => {
            return Err(foreign("the file is empty, and no database yet; write to it first"));
        }
        (Content::Other, _) => {
            return Err(foreign("the file is not a database; use another file, this one was not touched"));
        }
    };
    if create_it == Create::New && made == Made::ByAnother {
        return Err(already_there(config));
    }
    let check = match config.verify {
        Verify::Auto => fs::metadata(path).map_err(io_error)?.len() <= VERIFY_UP_TO,
        Verify::Always => true,
        Verify::Never => false,
    };
    let opened = contained(|| open_existing(config, check));
    if let (Made::Here(before), Err(_)) = (made, &opened) {
        // What is left is a database without entries, which the next opening uses.
        destroy::take_back(config, before).ok();
    }
    opened
}

/// Why a database cannot be made where there is one.
fn already_there(config: &RedbConfig) -> Error {
    match check_ours(config) {
        Err(error) if error.kind() == ErrorKind::Foreign => error,
        _ => Error::new(
            ErrorKind::AlreadyExists,
            "there is a store already; connect to it, or destroy it first",
        ),
    }
}

/// Refuses a database that is not ours, without writing: [`ErrorKind::PermissionDenied`] where it was not closed cleanly.
pub(crate) fn check_ours(config: &RedbConfig) -> Result<()> {
    // Damage elsewhere in the file does not matter here.
    let builder = builder(config, false);
    contained(|| match builder.open_read_only(&config.path) {
        Ok(database) => check_marker(&database).map(drop),
        Err(error) => Err(unrepaired(error)),
    })
}

/// Refuses a database that is not ours, and repairs one that was not closed cleanly.
pub(crate) fn check_ours_and_repair(config: &RedbConfig) -> Result<()> {
    let builder = builder(config, false);
    contained(|| check_marker(&builder.open(&config.path).map_err(map)?).map(drop))
}

fn open_existing(config: &RedbConfig, check: bool) -> Result<Box<dyn Engine>> {
    let builder = builder(config, check);
    match config.access {
        Access::ReadWrite => {
            let database = builder.open(&config.path).map_err(map)?;
            claim_format(&database)?;
            Ok(Box::new(RedbEngine::new(database, config.capacity)))
        }
        Access::ReadOnly => {
            let database = builder.open_read_only(&config.path).map_err(unrepaired)?;
            check_marker(&database)?;
            Ok(Box::new(ReadOnlyEngine::new(database)))
        }
    }
}

/// What an opening for reading only failed with.
fn unrepaired(error: redb::DatabaseError) -> Error {
    if matches!(error, redb::DatabaseError::RepairAborted) {
        let message = "the database was not closed cleanly, and repairing it writes to it; open it once with read-write access";
        return Error::new(ErrorKind::PermissionDenied, message).with_source(error);
    }
    map(error)
}

fn builder(config: &RedbConfig, check: bool) -> Builder {
    let mut builder = Builder::new();
    builder.set_cache_size(config.cache).set_check_integrity_on_open(check);
    builder
}

fn foreign(message: &str) -> Error {
    Error::new(ErrorKind::Foreign, message.to_owned())
}

/// Runs redb on a file that may be damaged: a panic of its own checks is damage found.
pub(crate) fn contained<T>(run: impl FnOnce() -> Result<T>) -> Result<T> {
    // The database is dropped after a panic, so that nothing half-changed is used again.
    catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|_| {
        Err(Error::new(ErrorKind::Corrupt, "the file is damaged; restore it from another tier or a backup"))
    })
}

/// A format that can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    Present,
    Before,
}

/// As [`check_marker`], for a database that will be written to: from then on older versions of tiered refuse it.
fn claim_format(database: &Database) -> Result<()> {
    match check_marker(database)? {
        Format::Present => Ok(()),
        Format::Before => {
            let mut transaction = database.begin_write().map_err(map)?;
            transaction.set_durability(Durability::Immediate).map_err(map)?;
            transaction.open_table(MARKER).map_err(map)?.insert(FORMAT, FORMAT_VERSION).map_err(map)?;
            transaction.commit().map_err(map)
        }
    }
}

/// Refuses a redb file of another program, before anything is written to it.
fn check_marker(database: &impl ReadableDatabase) -> Result<Format> {
    let transaction = database.begin_read().map_err(map)?;
    let marker = transaction.open_table(MARKER).map_err(map)?;
    let format = marker.get(FORMAT).map_err(map)?;
    match format.as_ref().map(redb::AccessGuard::value) {
        Some(FORMAT_VERSION) => Ok(Format::Present),
        Some(FORMAT_BEFORE) => Ok(Format::Before),
        Some(_) => Err(foreign(
            "the file has the format of another version of tiered; open it with that version and sync it to a new store",
        )),
        None => Err(foreign("the file is a redb database of another program; use another file")),
    }
}

/// Makes a new database ours.
pub(crate) fn initialise_tables(database: &Database) -> Result<()> {
    let mut transaction = database.begin_write().map_err(map)?;
    transaction.set_durability(Durability::Immediate).map_err(map)?;
    {
        make_tables(&transaction)?;
        let mut marker = transaction.open_table(MARKER).map_err(map)?;
        marker.insert(FORMAT, FORMAT_VERSION).map_err(map)?;
    }
    transaction.commit().map_err(map)
}
