//! Making and opening the file.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use redb::{Builder, Database, Durability, StorageBackend, TableDefinition};
use rustix::fs::{FlockOperation, flock};
use tiered_core::{Error, ErrorKind, Result, VersionMint};
use tiered_embedded::{Engine, Opening, io_error};

use crate::config::{Create, RedbConfig, Verify};
use crate::engine::{RedbEngine, make_tables};
use crate::error::map;

/// What says that a database is ours.
const MARKER: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("tiered");
const FORMAT: &str = "format";
const FORMAT_VERSION: &[u8] = b"2";

/// The first bytes of every redb file.
const MAGIC: [u8; 4] = *b"redb";

/// The largest file that [`Verify::Auto`] checks: about a second of reading.
const VERIFY_UP_TO: u64 = 256 << 20;

/// Opens the file of `config`, after making it where that is asked for.
pub(crate) fn open(config: &RedbConfig, opening: Opening) -> Result<Box<dyn Engine>> {
    let create = match opening {
        Opening::First => config.create,
        // A file that went away while it was open must not come back empty.
        Opening::Again => Create::Never,
    };
    open_file(config, create).map(|database| Box::new(RedbEngine::new(database)) as Box<dyn Engine>)
}

/// Opens the database on a backend of the user's own, after making it where that is empty.
pub(crate) fn open_on(config: &RedbConfig, backend: impl StorageBackend) -> Result<Box<dyn Engine>> {
    let database = contained(|| {
        let check = config.verify != Verify::Never;
        let mut builder = Builder::new();
        builder.set_cache_size(config.cache).set_check_integrity_on_open(check);
        let database = builder.create_with_backend(backend).map_err(map)?;
        let is_new = {
            use redb::ReadableDatabase as _;
            let transaction = database.begin_read().map_err(map)?;
            transaction.list_tables().map_err(map)?.next().is_none()
        };
        if is_new {
            initialise_tables(&database)?;
        } else {
            check_marker(&database)?;
        }
        Ok(database)
    });
    Ok(Box::new(RedbEngine::new(database?)))
}

fn open_file(config: &RedbConfig, create_it: Create) -> Result<Database> {
    let path = &config.path;
    let len = match fs::metadata(path) {
        Ok(found) if found.is_dir() => {
            return Err(Error::new(
                ErrorKind::Foreign,
                format!("{} is a folder; name a file", path.display()),
            ));
        }
        Ok(found) => found.len(),
        Err(error) if error.kind() == io::ErrorKind::NotFound && create_it == Create::IfAbsent => {
            create(config)?;
            return open_existing(config, 0);
        }
        Err(error) => return Err(at(path, io_error(error))),
    };
    if len == 0 {
        if create_it == Create::Never {
            let message = format!("{} is empty, and no database yet; write to it first", path.display());
            return Err(Error::new(ErrorKind::Foreign, message));
        }
        initialise(config)?;
    }
    open_existing(config, len)
}

/// Names the path in an error.
fn at(path: &Path, error: Error) -> Error {
    error.at_place(path.display())
}

fn open_existing(config: &RedbConfig, len: u64) -> Result<Database> {
    let path = &config.path;
    let mut magic = [0; 4];
    let read = File::open(path).and_then(|mut file| file.read_exact(&mut magic));
    if read.is_err_and(|error| error.kind() != io::ErrorKind::UnexpectedEof) || magic != MAGIC {
        let readable = File::open(path).map_err(|error| at(path, io_error(error)));
        readable?;
        let message =
            format!("{} is no database; name another file, this one was not touched", path.display());
        return Err(Error::new(ErrorKind::Foreign, message));
    }
    let check = match config.verify {
        Verify::Auto => len <= VERIFY_UP_TO,
        Verify::Always => true,
        Verify::Never => false,
    };
    let opened = contained(|| {
        Builder::new().set_cache_size(config.cache).set_check_integrity_on_open(check).open(path).map_err(map)
    });
    let database = opened.map_err(|error| at(path, error))?;
    contained(|| check_marker(&database)).map_err(|error| at(path, error))?;
    Ok(database)
}

/// Runs redb on a file that may be damaged: a panic of its own checks is damage found.
pub(crate) fn contained<T>(run: impl FnOnce() -> Result<T>) -> Result<T> {
    // The database is dropped after a panic, so that nothing half-changed is used again.
    catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|_| {
        Err(Error::new(ErrorKind::Corrupt, "the file is damaged; restore it from another tier or a backup"))
    })
}

/// Refuses a redb file of another program, before anything is written to it.
fn check_marker(database: &Database) -> Result<()> {
    use redb::ReadableDatabase as _;
    let transaction = database.begin_read().map_err(map)?;
    let marker = transaction.open_table(MARKER).map_err(map)?;
    let format = marker.get(FORMAT).map_err(map)?;
    match format.as_ref().map(redb::AccessGuard::value) {
        Some(FORMAT_VERSION) => Ok(()),
        Some(_) => Err(Error::new(
            ErrorKind::Foreign,
            "the file has the format of another version of tiered; use that version, and sync to a new one",
        )),
        None => Err(Error::new(ErrorKind::Foreign, "the file is a redb database of another program")),
    }
}

/// Makes the database under another name and links it into place.
fn create(config: &RedbConfig) -> Result<()> {
    let _turn = lock_folder(&config.path)?;
    let made = make(config)?;
    let linked = fs::hard_link(&made, &config.path);
    fs::remove_file(&made).map_err(|error| at(&made, io_error(error)))?;
    match linked {
        // Somebody else made it in the meantime: theirs is opened.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(at(&config.path, io_error(error))),
        Ok(()) => sync_folder(&config.path),
    }
}

/// Puts a database in the place of an empty file.
fn initialise(config: &RedbConfig) -> Result<()> {
    let path = &config.path;
    let _turn = lock_folder(path)?;
    // Somebody may have put theirs in place before the lock was taken.
    if fs::metadata(path).map_err(|error| at(path, io_error(error)))?.len() > 0 {
        return Ok(());
    }
    let made = make(config)?;
    fs::rename(&made, path).map_err(|error| at(path, io_error(error)))?;
    sync_folder(path)
}

/// Makes creators in one folder take turns; released when the file is dropped.
fn lock_folder(path: &Path) -> Result<File> {
    let folder = File::open(folder_of(path)).map_err(|error| at(path, io_error(error)))?;
    flock(&folder, FlockOperation::LockExclusive).map_err(|error| at(path, io_error(error.into())))?;
    Ok(folder)
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn make(config: &RedbConfig) -> Result<PathBuf> {
    remove_leftovers(&config.path);
    let mut name = config.path.as_os_str().to_owned();
    name.push(format!(".new-{}", VersionMint::from_entropy().mint()));
    let made = PathBuf::from(name);
    let build = || -> Result<()> {
        let database = Builder::new().set_cache_size(config.cache).create(&made).map_err(map)?;
        initialise_tables(&database)?;
        database.close().map_err(map)?;
        File::open(&made).and_then(|file| file.sync_all()).map_err(io_error)
    };
    build().map_err(|error| at(&config.path, error))?;
    Ok(made)
}

fn initialise_tables(database: &Database) -> Result<()> {
    let mut transaction = database.begin_write().map_err(map)?;
    transaction.set_durability(Durability::Immediate).map_err(map)?;
    {
        make_tables(&transaction)?;
        let mut marker = transaction.open_table(MARKER).map_err(map)?;
        marker.insert(FORMAT, FORMAT_VERSION).map_err(map)?;
    }
    transaction.commit().map_err(map)
}

/// Removes what interrupted creations left behind, under the folder's lock. What cannot be removed does no harm.
fn remove_leftovers(path: &Path) {
    let Some(name) = path.file_name() else { return };
    let prefix = format!("{}.new-", name.to_string_lossy());
    let Ok(entries) = fs::read_dir(folder_of(path)) else { return };
    for entry in entries.flatten() {
        if entry.file_name().to_string_lossy().starts_with(&prefix) {
            fs::remove_file(entry.path()).ok();
        }
    }
}

/// Makes a new name durable.
fn sync_folder(path: &Path) -> Result<()> {
    File::open(folder_of(path))
        .and_then(|folder| folder.sync_all())
        .map_err(|error| at(path, io_error(error)))
}
