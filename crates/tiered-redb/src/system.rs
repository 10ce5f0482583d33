//! What creating and removing a database ask of the operating system, so that tests can fail any of it.

use std::fs::{self, File};
use std::io;
use std::ops::Bound;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::Path;

use redb::StorageBackend as _;
use redb::backends::FileBackend;

/// The calls of a creation and of a removal. All block.
pub(crate) trait System {
    /// A new file for reading and writing, with the rights that the process's umask leaves.
    fn create_new(&self, path: &Path) -> io::Result<File>;

    /// An existing file for reading and writing.
    fn open(&self, path: &Path) -> io::Result<File>;

    /// Locks a file against everyone who opens it as a database too; `None` where another holds it.
    fn lock(&self, file: &File) -> io::Result<Option<Lock>>;

    /// Whether `path` still names `file`.
    fn names(&self, path: &Path, file: &File) -> io::Result<bool>;

    /// Whether no name of `file` is left in any folder.
    fn is_nameless(&self, file: &File) -> io::Result<bool>;

    /// Writes at an offset, and makes the file longer where that is beyond its end.
    fn write_at(&self, file: &File, bytes: &[u8], offset: u64) -> io::Result<()>;

    /// Cuts a file.
    fn set_len(&self, file: &File, len: u64) -> io::Result<()>;

    /// Makes a file's content durable.
    fn sync(&self, file: &File) -> io::Result<()>;

    /// Makes the names in a folder durable.
    fn sync_folder(&self, folder: &Path) -> io::Result<()>;

    /// Makes the whole file system durable that `file` lies on.
    fn sync_all(&self, file: &File) -> io::Result<()>;

    /// Removes a file.
    fn remove(&self, path: &Path) -> io::Result<()>;
}

/// A file's lock, until this is dropped.
///
/// Released by name and not only by closing the file: a process that is started at that moment has the same file open
/// until it runs its own program.
#[derive(Debug)]
pub(crate) struct Lock(FileBackend);

impl Drop for Lock {
    fn drop(&mut self) {
        // What fails here is released when the file is closed.
        self.0.close().ok();
    }
}

/// The operating system itself.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Os;

impl System for Os {
    fn create_new(&self, path: &Path) -> io::Result<File> {
        File::options().read(true).write(true).create_new(true).open(path)
    }

    fn open(&self, path: &Path) -> io::Result<File> {
        File::options().read(true).write(true).open(path)
    }

    fn lock(&self, file: &File) -> io::Result<Option<Lock>> {
        // As redb does.
        let lock = Lock(FileBackend::new(file.try_clone()?).map_err(io::Error::other)?);
        Ok(lock.0.try_lock_range(Bound::Unbounded, Bound::Unbounded)?.then_some(lock))
    }

    fn names(&self, path: &Path, file: &File) -> io::Result<bool> {
        let opened = file.metadata()?;
        match fs::metadata(path) {
            Ok(named) => Ok((named.dev(), named.ino()) == (opened.dev(), opened.ino())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn is_nameless(&self, file: &File) -> io::Result<bool> {
        Ok(file.metadata()?.nlink() == 0)
    }

    fn write_at(&self, file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
        file.write_all_at(bytes, offset)
    }

    fn set_len(&self, file: &File, len: u64) -> io::Result<()> {
        file.set_len(len)
    }

    fn sync(&self, file: &File) -> io::Result<()> {
        file.sync_all()
    }

    fn sync_folder(&self, folder: &Path) -> io::Result<()> {
        File::open(folder)?.sync_all()
    }

    fn sync_all(&self, file: &File) -> io::Result<()> {
        #[cfg(target_os = "linux")]
        return rustix::fs::syncfs(file).map_err(io::Error::from);
        #[cfg(not(target_os = "linux"))]
        file.sync_all()
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }
}
