//! Making and opening the folder.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::time::Duration;

use rocksdb::{Cache, ColumnFamilyDescriptor, DB, Options, WriteOptions};
use tiered_core::{Error, ErrorKind, Result};
use tiered_embedded::{Engine, Opening, io_error};

use crate::config::{Create, RocksdbConfig};
use crate::engine::{CHUNKS, MARKS, META, RocksdbEngine, family_options, options};
use crate::error::map;
use crate::seal;

/// In the default column family: which format the others have.
const FORMAT: &[u8] = b"tiered";
const FORMAT_VERSION: &[u8] = b"2";
const DEFAULT: &str = "default";

/// What lies at the path.
enum Found {
    /// Nothing.
    Absent,
    /// An empty folder, or one where making a database was interrupted.
    Bare,
    /// A database of ours.
    Ours,
}

/// Opens the folder of `config`, after making the database where that is asked for.
pub(crate) fn open(config: &RocksdbConfig, opening: Opening) -> Result<Box<dyn Engine>> {
    let create = match opening {
        Opening::First => config.create,
        // A folder that went away while it was open must not come back empty.
        Opening::Again => Create::Never,
    };
    open_folder(config, create).map_err(|error| error.at_place(config.path.display()))
}

fn open_folder(config: &RocksdbConfig, create: Create) -> Result<Box<dyn Engine>> {
    let path = &config.path;
    let found = inspect_patiently(path)?;
    match (&found, create) {
        (Found::Ours, _) | (Found::Bare, Create::IfAbsent) => {}
        (Found::Bare, Create::Never) => {
            return Err(foreign("the folder is empty, and no database yet; write to it first"));
        }
        (Found::Absent, Create::Never) => return Err(io_error(io::ErrorKind::NotFound.into())),
        (Found::Absent, Create::IfAbsent) => make_folder(path)?,
    }
    if matches!(found, Found::Ours) {
        seal::check(path)?;
    }
    let cache = Cache::new_lru_cache(config.cache);
    let shared = family_options(&cache, false);
    let families = [
        ColumnFamilyDescriptor::new(DEFAULT, shared.clone()),
        ColumnFamilyDescriptor::new(META, shared.clone()),
        ColumnFamilyDescriptor::new(CHUNKS, family_options(&cache, true)),
        ColumnFamilyDescriptor::new(MARKS, shared),
    ];
    let database = DB::open_cf_descriptors(&options(config), path, families).map_err(map)?;
    let engine = RocksdbEngine::new(database, path.clone());
    check_format(engine.database())?;
    Ok(Box::new(engine))
}

fn foreign(message: &str) -> Error {
    Error::new(ErrorKind::Foreign, message.to_owned())
}

/// Looks at the folder. Somebody who is just opening it replaces files under our eyes, which looks like damage for a
/// moment; then RocksDB's lock is what is to be reported.
fn inspect_patiently(path: &Path) -> Result<Found> {
    const ATTEMPTS: u32 = 3;
    for _ in 1..ATTEMPTS {
        match inspect(path) {
            Err(error)
                if matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::Unavailable | ErrorKind::Other) =>
            {
                std::thread::sleep(Duration::from_millis(10));
            }
            seen => return seen,
        }
    }
    inspect(path)
}

/// Looks at the folder without touching it.
fn inspect(path: &Path) -> Result<Found> {
    match fs::metadata(path) {
        Ok(found) if !found.is_dir() => return Err(foreign("the path is a file; name a folder")),
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Found::Absent),
        Err(error) => return Err(io_error(error)),
    }
    let mut names = BTreeSet::new();
    for entry in fs::read_dir(path).map_err(io_error)? {
        names.insert(entry.map_err(io_error)?.file_name().to_string_lossy().into_owned());
    }
    if !names.contains("CURRENT") {
        return if names.iter().all(|name| is_remnant(name)) {
            Ok(Found::Bare)
        } else {
            Err(foreign("the folder holds something else; name another, this one was not touched"))
        };
    }
    let found: BTreeSet<String> = DB::list_cf(&Options::default(), path).map_err(map)?.into_iter().collect();
    let ours = [DEFAULT, META, CHUNKS, MARKS];
    if found.iter().any(|name| !ours.contains(&name.as_str())) || !found.contains(DEFAULT) {
        return Err(foreign("the folder is a RocksDB database of another program; it was not touched"));
    }
    if found.len() > 1 {
        return Ok(Found::Ours);
    }
    // No column family of ours: one whose making was interrupted holds nothing, one of another program something.
    let database = DB::open_for_read_only(&quiet(), path, false).map_err(map)?;
    let mut pairs = database.raw_iterator();
    pairs.seek_to_first();
    if pairs.valid() {
        return Err(foreign("the folder is a RocksDB database of another program; it was not touched"));
    }
    pairs.status().map_err(map)?;
    Ok(Found::Bare)
}

/// Options for looking only.
fn quiet() -> Options {
    let mut options = Options::default();
    options.set_info_logger(crate::engine::logger());
    options
}

/// Whether a file of this name may be there before the making of a database has come far enough to matter.
fn is_remnant(name: &str) -> bool {
    let begins = ["LOG", "MANIFEST-", "OPTIONS-"].iter().any(|prefix| name.starts_with(prefix));
    // A fresh file system, mounted for us, brings the last one along.
    let half_written = Path::new(name).extension().is_some_and(|extension| extension == "dbtmp");
    begins || half_written || ["LOCK", "IDENTITY", "lost+found"].contains(&name)
}

fn make_folder(path: &Path) -> Result<()> {
    match fs::create_dir(path) {
        // Somebody else made it in the meantime: RocksDB's lock decides between us.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(io_error(error)),
        Ok(()) => {
            let parent =
                path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
            File::open(parent).and_then(|parent| parent.sync_all()).map_err(io_error)
        }
    }
}

/// Refuses another format; names ours in a new database.
fn check_format(database: &DB) -> Result<()> {
    match database.get(FORMAT).map_err(map)?.as_deref() {
        Some(FORMAT_VERSION) => Ok(()),
        Some(_) => Err(foreign(
            "the database has the format of another version of tiered; use that version, and sync to a new one",
        )),
        None => {
            let mut durable = WriteOptions::default();
            durable.set_sync(true);
            database.put_opt(FORMAT, FORMAT_VERSION, &durable).map_err(map)
        }
    }
}
