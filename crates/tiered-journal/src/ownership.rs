//! Tells the journal's files from foreign ones.
//!
//! A folder is a journal's if its lock file says so, or if a segment begins with the journal's magic. Nothing is
//! written to any other folder unless it is empty. In a journal's folder only files of exact names are touched. A file
//! is replaced or removed only if it holds the journal's content: a magic, or zeros if it was not written yet.

use std::fmt;
use std::io;

use crate::folder::Folder;
use crate::format::SEGMENT_MAGIC;
use crate::{segment, side};

/// Held while the journal is open.
pub(crate) const LOCK: &str = "lock";

/// The content of a journal's lock file. Journals of older versions have an empty one.
pub(crate) const LOCK_TEXT: &[u8] = b"This folder is a write-behind journal of tiered.\n";

/// There from before the first file of a journal is removed until after the last but its lock.
pub(crate) const REMOVING: &str = "removing";

/// The content of that file.
pub(crate) const REMOVING_TEXT: &[u8] = b"The write-behind journal in this folder is being removed.\n";

/// A folder that new file systems contain.
const FRESH: &str = "lost+found";

/// A file that is not ours.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct NotOurs {
    name: String,
    /// Whether the folder is a journal's.
    in_journal: bool,
}

impl fmt::Display for NotOurs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = &self.name;
        if self.in_journal {
            write!(f, "{name} is not a file of the journal but has a name that it needs; move it away")
        } else {
            write!(f, "the folder holds {name}, which is not part of a journal; use another folder")
        }
    }
}

impl std::error::Error for NotOurs {}

/// An I/O error, or a foreign file, which is an I/O error of the kind `InvalidData`.
fn refuse<T>(name: &str, in_journal: bool) -> io::Result<T> {
    Err(io::Error::new(io::ErrorKind::InvalidData, NotOurs { name: name.to_owned(), in_journal }))
}

/// Whether the removal of a journal in the folder has begun. A foreign file of that name says nothing.
pub(crate) fn is_being_removed(folder: &dyn Folder) -> io::Result<bool> {
    match folder.open(REMOVING) {
        // The writing of an unfinished one had not returned: nothing was removed yet.
        Ok(file) => Ok(file.read()? == REMOVING_TEXT),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// Refuses a foreign file that has the name of the marker of a removal, which would be overwritten.
pub(crate) fn check_marker(folder: &dyn Folder, names: &[String]) -> io::Result<()> {
    let is_there = names.iter().any(|name| name == REMOVING);
    if is_there && !REMOVING_TEXT.starts_with(&folder.open(REMOVING)?.read()?) {
        return refuse(REMOVING, true);
    }
    Ok(())
}

/// The removal of the journal was interrupted.
#[derive(Debug)]
pub(crate) struct Interrupted;

impl fmt::Display for Interrupted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "the removal of this journal was interrupted, and a part of it may be gone; destroy it again",
        )
    }
}

impl std::error::Error for Interrupted {}

/// Refuses a folder that is not a journal's and cannot become one, and a half removed journal. Changes nothing.
pub(crate) fn admit(folder: &dyn Folder) -> io::Result<()> {
    let mut names = folder.names()?;
    names.sort_unstable();
    if names.iter().any(|name| name == REMOVING) && is_being_removed(folder)? {
        return Err(io::Error::new(io::ErrorKind::InvalidData, Interrupted));
    }
    let has_lock = names.iter().any(|name| name == LOCK);
    let lock = if has_lock { folder.open(LOCK)?.read()? } else { Vec::new() };
    if !LOCK_TEXT.starts_with(&lock) {
        return refuse(LOCK, false);
    }
    if lock == LOCK_TEXT || has_segment(folder, &names)? {
        return Ok(());
    }
    for name in &names {
        if name == LOCK || name == FRESH {
            continue;
        }
        // Journals of older versions have an empty lock file. Recovery reports damage.
        let exact = name == side::ASIDE || segment::first(name).is_some();
        if !has_lock || !exact && !is_replaceable(folder, name)? {
            return refuse(name, false);
        }
    }
    Ok(())
}

/// Whether any segment begins as ours do.
fn has_segment(folder: &dyn Folder, names: &[String]) -> io::Result<bool> {
    for name in names.iter().filter(|name| segment::first(name).is_some()) {
        if folder.open(name)?.read()?.starts_with(&SEGMENT_MAGIC) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The files whose making was interrupted. Refuses one that has such a name and is not ours: the name is needed.
pub(crate) fn unfinished(folder: &dyn Folder, names: &[String]) -> io::Result<Vec<String>> {
    let mut unfinished = Vec::new();
    for name in names.iter().filter(|name| *name != side::RESERVE && magic_of(name).is_some()) {
        if !is_replaceable(folder, name)? {
            return refuse(name, true);
        }
        unfinished.push(name.clone());
    }
    Ok(unfinished)
}

/// Returns true if the reserve is the journal's, or absent. The journal works without one: a foreign file is not an
/// error.
pub(crate) fn owns_reserve(folder: &dyn Folder, names: &[String]) -> io::Result<bool> {
    if names.iter().any(|name| name == side::RESERVE) {
        is_replaceable(folder, side::RESERVE)
    } else {
        Ok(true)
    }
}

/// What a file begins with that is replaced or removed without being read; `None` for any other name.
fn magic_of(name: &str) -> Option<&'static [u8]> {
    match name {
        side::RESERVE => Some(&[]),
        side::ASIDE_NEW => Some(&side::ANY_MAGIC),
        _ => {
            segment::first(name.strip_suffix(segment::NEW)?)?;
            Some(&SEGMENT_MAGIC)
        }
    }
}

/// Whether a file has such a name and our content: its magic, or zeros only.
fn is_replaceable(folder: &dyn Folder, name: &str) -> io::Result<bool> {
    let Some(magic) = magic_of(name) else { return Ok(false) };
    let content = folder.open(name)?.read()?;
    Ok(!magic.is_empty() && content.starts_with(magic) || content.iter().all(|byte| *byte == 0))
}
