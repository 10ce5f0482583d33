//! Creates a database in a file that is empty, unfinished or absent.
//!
//! redb's own creation is not atomic. So the bytes of a new database are made in memory and written into the file under
//! its own name: no other file is made, replaced or removed, and an empty file that the user prepared keeps its links,
//! rights and owner. The first page comes last, and redb's magic with it. Until then the page says that the file is an
//! unfinished one of ours, and an opening fills it again.
//!
//! Creators of one file exclude each other by a lock on the file itself.

use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use redb::backends::InMemoryBackend;
use redb::{Builder, StorageBackend};
use tiered_core::adapter::opening::Before;
use tiered_core::{Error, ErrorKind, Result};
use tiered_embedded::io_error;

use crate::error::map;
use crate::open::initialise_tables;
use crate::system::{Lock, System};

/// The first bytes of every redb file.
pub(crate) const MAGIC: [u8; 9] = *b"redb\x1A\x0A\xA9\x0D\x0A";

/// Bytes of the first page: the smallest that redb uses.
const PAGE: usize = 4096;

/// What an unfinished file has in the first sector of its first page, behind zeros in the magic's place. A sector is
/// written as a whole, so a file has either this or the magic.
const DRAFT: &[u8] = b"tiered: an unfinished redb database, format 1";
const DRAFT_AT: usize = 64;

/// What a file is, by its first bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Content {
    Empty,
    /// One of ours that was never finished.
    Unfinished,
    /// A redb database, of this or another program.
    Redb,
    Other,
}

/// Who made a database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Made {
    /// This call, where there was nothing, or an empty or unfinished file.
    Here(Before),
    /// Another process, in the meantime.
    ByAnother,
}

/// Looks at a file. Longer ones than a new database are never unfinished.
pub(crate) fn inspect(mut file: &File) -> Result<Content> {
    let mut begin = [0; PAGE];
    let mut len = 0;
    while let Some(rest) = begin.get_mut(len..).filter(|rest| !rest.is_empty()) {
        match file.read(rest) {
            Ok(0) => break,
            Ok(more) => len += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(io_error(error)),
        }
    }
    let begin = begin.get(..len).unwrap_or_default();
    if begin.is_empty() {
        return Ok(Content::Empty);
    }
    if begin.starts_with(&MAGIC) {
        return Ok(Content::Redb);
    }
    if begin.iter().take(MAGIC.len()).any(|byte| *byte != 0) {
        return Ok(Content::Other);
    }
    if begin.get(DRAFT_AT..).is_some_and(|page| page.starts_with(DRAFT)) {
        return Ok(Content::Unfinished);
    }
    // Power may have been lost before all of it was on the disk.
    let image = image()?;
    let mut rest = Vec::new();
    file.take(image.len() as u64).read_to_end(&mut rest).map_err(io_error)?;
    let is_ours = len + rest.len() <= image.len()
        && begin.iter().chain(&rest).zip(&image).all(|(byte, ours)| *byte == 0 || byte == ours);
    Ok(if is_ours { Content::Unfinished } else { Content::Other })
}

/// Makes a database at `path`, where there is none or an empty or unfinished file. One that another process finishes
/// meanwhile is left as it is.
///
/// # Errors
/// `Locked` where another process is making it. Whatever goes wrong, a file that was made here is removed, and one that
/// was there is emptied.
pub(crate) fn create(system: &dyn System, path: &Path) -> Result<Made> {
    let path = &target(path)?;
    let (file, is_new) = match system.create_new(path) {
        Ok(file) => (file, true),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            (system.open(path).map_err(io_error)?, false)
        }
        Err(error) => return Err(io_error(error)),
    };
    let _lock = lock(system, &file, is_new)?;
    // Another creator failed and removed the file between our open and our lock.
    if !system.names(path, &file).map_err(io_error)? {
        return Err(Error::new(ErrorKind::Locked, "another process has just removed the file; try again"));
    }
    match inspect(&file)? {
        Content::Empty | Content::Unfinished => {}
        Content::Redb | Content::Other => return Ok(Made::ByAnother),
    }
    let filled = fill(system, &file)
        .and_then(|()| if is_new { sync_name(system, path, &file).map_err(io_error) } else { Ok(()) });
    if filled.is_err() {
        // Under the lock, so that no other creator's file is removed.
        let undone = if is_new { system.remove(path) } else { system.set_len(&file, 0) };
        // If undoing fails, the content marks the file as unfinished.
        undone.ok();
    }
    filled.map(|()| Made::Here(if is_new { Before::Absent } else { Before::Empty }))
}

/// What a link points to, also where that is not there yet.
pub(crate) fn target(path: &Path) -> Result<PathBuf> {
    /// The limit of Linux.
    const LINKS: usize = 40;
    let mut path = path.to_owned();
    for _ in 0..LINKS {
        match fs::read_link(&path) {
            Ok(next) => path = folder_of(&path).join(next),
            // No link, or nothing.
            Err(_) => return Ok(path),
        }
    }
    Err(Error::new(ErrorKind::NotFound, "the path is a link to itself; name a file"))
}

pub(crate) fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Locks a file that others may be filling too.
fn lock(system: &dyn System, file: &File, is_new: bool) -> Result<Option<Lock>> {
    match system.lock(file) {
        Ok(Some(lock)) => Ok(Some(lock)),
        Ok(None) => Err(Error::new(ErrorKind::Locked, "another process has the file open; close it there")),
        // This call has just created the file with `create_new`, which only one creator can do.
        Err(_) if is_new => Ok(None),
        Err(error) => {
            let message = "the file cannot be locked while a database is made in it; remove it, or use a file system with locks";
            Err(Error::new(ErrorKind::Unsupported, message).with_source(error))
        }
    }
}

/// Writes the image of a new database, the magic last.
fn fill(system: &dyn System, file: &File) -> Result<()> {
    let image = image()?;
    let (first, rest) = image.split_at_checked(PAGE).ok_or_else(|| no_image(PAGE))?;
    let mut draft = vec![0; PAGE];
    if let Some(place) = draft.get_mut(DRAFT_AT..DRAFT_AT + DRAFT.len()) {
        place.copy_from_slice(DRAFT);
    }
    let write = || {
        system.set_len(file, 0)?;
        system.write_at(file, &draft, 0)?;
        system.sync(file)?;
        system.write_at(file, rest, PAGE as u64)?;
        system.sync(file)?;
        system.write_at(file, first, 0)?;
        system.sync(file)
    };
    write().map_err(io_error)
}

/// Makes a new name durable, or the removal of one.
pub(crate) fn sync_name(system: &dyn System, path: &Path, file: &File) -> io::Result<()> {
    system.sync_folder(folder_of(path)).or_else(|error| match error.kind() {
        // Some file systems sync no folder, and some folders may be written to and not read. EBADF has no kind.
        io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported | io::ErrorKind::PermissionDenied => {
            system.sync_all(file)
        }
        _ if error.raw_os_error() == Some(rustix::io::Errno::BADF.raw_os_error()) => system.sync_all(file),
        // A sync that failed is not repeated.
        _ => Err(error),
    })
}

/// The bytes of a new database. They are always the same: redb uses neither a clock nor random numbers for them.
pub(crate) fn image() -> Result<Vec<u8>> {
    let memory = Memory::default();
    let database = Builder::new().set_cache_size(0).create_with_backend(memory.clone()).map_err(map)?;
    initialise_tables(&database)?;
    database.close().map_err(map)?;
    let len = memory.0.len().map_err(io_error)?;
    let mut bytes = vec![0; usize::try_from(len).map_err(no_image)?];
    memory.0.read(0, &mut bytes).map_err(io_error)?;
    Ok(bytes)
}

/// A copy of the database in `file`, which is left as it is; `None` where that is longer than `most`.
pub(crate) fn copy_of(mut file: &File, most: u64) -> Result<Option<Memory>> {
    if file.metadata().map_err(io_error)?.len() > most {
        return Ok(None);
    }
    let mut bytes = Vec::new();
    file.seek(io::SeekFrom::Start(0)).map_err(io_error)?;
    file.read_to_end(&mut bytes).map_err(io_error)?;
    let memory = Memory::default();
    memory.0.set_len(bytes.len() as u64).map_err(io_error)?;
    memory.0.write(0, &bytes).map_err(io_error)?;
    Ok(Some(memory))
}

fn no_image(_: impl std::fmt::Debug) -> Error {
    Error::new(ErrorKind::Other, "redb made no database")
}

/// Memory that lasts when the database in it is closed.
#[derive(Clone, Debug, Default)]
pub(crate) struct Memory(Arc<InMemoryBackend>);

impl StorageBackend for Memory {
    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.0.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.0.write(offset, data)
    }
}

#[cfg(test)]
mod tests;
