//! Whether a folder is a journal's, and its removal.
//!
//! A journal whose oldest or newest segments are gone looks like another journal. So the file [`REMOVING`] is durable
//! before any other is removed, and a folder that has it is not opened.

use std::fs;
use std::io::{self, Write as _};
use std::path::Path;

use tiered_core::adapter::opening::Before;
use tiered_core::ownership::JournalId;
use tiered_core::{Error, ErrorKind, Result, Unflushed};

use crate::folder::{Folder as _, OsFolder, sync_folder};
use crate::log::failed;
use crate::ownership::{
    LOCK, REMOVING, REMOVING_TEXT, admit, check_marker, is_being_removed, owns_reserve, unfinished,
};
use crate::recovery::scan;
use crate::{segment, side};

/// Whether there is a journal in the folder at `path`, a half removed one among them.
pub(crate) fn exists(path: &Path) -> Result<bool> {
    let names = match OsFolder::look(path).and_then(|folder| {
        admit(&folder).or_else(|error| if is_being_removed(&folder)? { Ok(()) } else { Err(error) })?;
        folder.names()
    }) {
        Ok(names) => names,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(failed("the journal's folder cannot be read", &error)),
    };
    // Journals of every version have a lock file.
    Ok(names.iter().any(|name| name == LOCK || segment::first(name).is_some()))
}

/// Whether the journal may be removed now, and its id.
pub(crate) fn check(path: &Path, unflushed: Unflushed) -> Result<Option<JournalId>> {
    let folder = lock(path)?;
    if is_being_removed(&folder).map_err(|error| not_removed(&error))? {
        return Ok(None);
    }
    check_flushed(&folder, unflushed)
}

/// Removes the journal in the folder at `path`, and the folder where nothing else is in it and it was not there before as
/// an empty one.
pub(crate) fn destroy(path: &Path, unflushed: Unflushed, before: Before) -> Result<()> {
    let folder = lock(path)?;
    let not_removed = |error: io::Error| not_removed(&error);
    let begun = is_being_removed(&folder).map_err(not_removed)?;
    // Before anything is changed: a file of another that has a name of ours stops it.
    let ours = files(&folder).map_err(not_removed)?;
    if !begun {
        check_flushed(&folder, unflushed)?;
        begin(path).and_then(|()| folder.sync()).map_err(not_removed)?;
    }
    remove_files(path, &folder, &ours).map_err(not_removed)?;
    if before == Before::Absent { remove_folder(path).map_err(not_removed) } else { Ok(()) }
}

fn lock(path: &Path) -> Result<OsFolder> {
    if !exists(path)? {
        return Err(Error::new(ErrorKind::NotFound, "there is no journal"));
    }
    OsFolder::lock(path).map_err(|error| not_removed(&error))
}

fn not_removed(error: &io::Error) -> Error {
    match error.kind() {
        io::ErrorKind::WouldBlock => {
            Error::new(ErrorKind::Locked, "another process or handle has the journal open; close it there")
        }
        _ => failed("the journal cannot be removed", error),
    }
}

/// The id of the journal, which holds nothing that may not be lost.
fn check_flushed(folder: &OsFolder, unflushed: Unflushed) -> Result<Option<JournalId>> {
    let found = match (scan(folder), unflushed) {
        (Ok(found), _) => found,
        // What cannot be read is discarded with the rest.
        (Err(error), Unflushed::Discard) if error.kind() == ErrorKind::Corrupt => return Ok(None),
        (Err(error), _) => return Err(error),
    };
    let (waiting, parked) = (found.waiting(), found.recovered.aside.parked.len());
    if unflushed == Unflushed::Refuse && (waiting > 0 || parked > 0) {
        let message = format!(
            "the journal holds {waiting} acknowledged writes that wait for the backend and {parked} parked ones; flush it, drop or retry what is parked, or discard them by Unflushed::Discard"
        );
        return Err(Error::new(ErrorKind::Locked, message));
    }
    Ok(found.bound.map(|(journal, _)| JournalId::from_u128(journal)))
}

fn begin(path: &Path) -> io::Result<()> {
    let mut file = fs::File::create(path.join(REMOVING))?;
    file.write_all(REMOVING_TEXT)?;
    file.sync_all()
}

/// The files of the journal alone, but for the lock and the marker of the removal. Refuses a file of another that has such
/// a name.
fn files(folder: &OsFolder) -> io::Result<Vec<String>> {
    let mut names = folder.names()?;
    check_marker(folder, &names)?;
    let reserve = owns_reserve(folder, &names)?;
    let half_made = unfinished(folder, &names)?;
    names.retain(|name| {
        segment::first(name).is_some()
            || name == side::ASIDE
            || name == side::RESERVE && reserve
            || half_made.contains(name)
    });
    Ok(names)
}

/// Removes the files of the journal. The lock's file goes last: until then nothing else makes a journal here.
fn remove_files(path: &Path, folder: &OsFolder, ours: &[String]) -> io::Result<()> {
    for name in ours {
        remove(path, name)?;
    }
    folder.sync()?;
    remove(path, REMOVING)?;
    folder.sync()?;
    remove(path, LOCK)?;
    folder.sync()
}

/// Removes the folder where it is empty: files of others stay.
fn remove_folder(path: &Path) -> io::Result<()> {
    if fs::remove_dir(path).is_ok() {
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        sync_folder(&fs::File::open(parent)?)?;
    }
    Ok(())
}

fn remove(path: &Path, name: &str) -> io::Result<()> {
    match fs::remove_file(path.join(name)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
