//! The file that `get -o` writes.

use std::fs::{self, File, Metadata};
use std::io::{self, Seek as _, SeekFrom, Write as _};
use std::path::Path;

use crate::output;

/// Writes a value to a file. An existing one keeps its links, mode, owner and attributes.
///
/// The file is replaced atomically: a concurrent reader sees the old content or the new one. If replacing it would lose
/// a hard link, the owner or an attribute, its content is overwritten in place.
pub(crate) fn write(path: &Path, value: &[u8]) -> io::Result<()> {
    // The target of a link is written; the link stays.
    let is_link = fs::symlink_metadata(path).is_ok_and(|found| found.is_symlink());
    match (fs::canonicalize(path), is_link) {
        (Ok(path), _) => {
            let found = fs::metadata(&path)?;
            if !found.is_file() {
                // A device or a pipe.
                return output::unless_gone(fs::write(&path, value));
            }
            if replace(&path, Some(&found), value).is_ok_and(|replaced| replaced) {
                return Ok(());
            }
            overwrite(&path, found.len(), value)
        }
        // A pipe has no path of its own.
        (Err(_), true) => output::unless_gone(fs::write(path, value)),
        (Err(_), false) => replace(path, None, value).map(drop),
    }
}

/// Replaces or creates a file; returns false if replacing `found` would lose something.
fn replace(path: &Path, found: Option<&Metadata>, value: &[u8]) -> io::Result<bool> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut options = tempfile::Builder::new();
    #[cfg(unix)]
    options.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    let mut file = options.tempfile_in(folder)?;
    if let Some(found) = found {
        if !is_replaceable(path, found, &file.as_file().metadata()?)? {
            return Ok(false);
        }
        file.as_file().set_permissions(found.permissions())?;
    }
    file.write_all(value)?;
    file.persist(path)?;
    Ok(true)
}

/// Returns true if a new file with the old mode keeps everything that the old file had.
#[cfg(unix)]
fn is_replaceable(path: &Path, old: &Metadata, new: &Metadata) -> io::Result<bool> {
    use std::os::unix::fs::MetadataExt as _;
    let same_owner = (old.uid(), old.gid()) == (new.uid(), new.gid());
    // A write-protected file is not replaced through its folder.
    File::options().write(true).open(path)?;
    Ok(same_owner && old.nlink() == 1 && old.dev() == new.dev() && !has_attributes(path))
}

#[cfg(not(unix))]
fn is_replaceable(_: &Path, _: &Metadata, _: &Metadata) -> io::Result<bool> {
    Ok(true)
}

/// Whether a file has extended attributes, such as a list of access rights.
#[cfg(unix)]
fn has_attributes(path: &Path) -> bool {
    rustix::fs::listxattr(path, &mut [0; 0]).is_ok_and(|bytes| bytes > 0)
}

/// Overwrites a file. The part beyond the old length is written first: if the disk is full, the old content stays.
fn overwrite(path: &Path, old: u64, value: &[u8]) -> io::Result<()> {
    let mut file = File::options().write(true).open(path)?;
    let (beginning, end) =
        value.split_at_checked(usize::try_from(old).unwrap_or(usize::MAX)).unwrap_or((value, &[]));
    if !end.is_empty() {
        let grown =
            file.seek(SeekFrom::Start(old)).and_then(|_| file.write_all(end)).and_then(|()| file.sync_data());
        if let Err(error) = grown {
            file.set_len(old)?;
            return Err(error);
        }
    }
    file.rewind()?;
    file.write_all(beginning)?;
    file.set_len(value.len() as u64)
}
