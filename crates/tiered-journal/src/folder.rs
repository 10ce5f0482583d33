//! Where a journal keeps its files: a folder of the operating system, or a replacement for tests.

use std::fmt;
use std::fs;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};

use tiered_core::adapter::opening::{Held, PlaceId};

use crate::ownership::{LOCK, LOCK_TEXT, admit};

/// A folder of files. All calls block.
pub trait Folder: fmt::Debug + Send + Sync + 'static {
    /// The names of its files.
    fn names(&self) -> io::Result<Vec<String>>;

    /// Creates a file of `len` zero bytes with its space allocated, replacing one of that name. Its name survives a
    /// power loss only after [`sync`](Self::sync).
    fn create(&self, name: &str, len: u64) -> io::Result<Box<dyn File>>;

    /// An existing file.
    fn open(&self, name: &str) -> io::Result<Box<dyn File>>;

    /// Removes a file.
    fn remove(&self, name: &str) -> io::Result<()>;

    /// Gives a file another name, replacing one of that name.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Makes creations, removals and names durable.
    fn sync(&self) -> io::Result<()>;
}

/// A file of a [`Folder`]. All calls block.
pub trait File: fmt::Debug + Send + Sync {
    /// All of it.
    fn read(&self) -> io::Result<Vec<u8>>;

    /// Writes at an offset within the file.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;

    /// Makes content and length durable.
    fn sync(&self) -> io::Result<()>;
}

/// A folder on local disk, locked for as long as this lives.
#[derive(Debug)]
pub struct OsFolder {
    path: PathBuf,
    folder: fs::File,
    /// Held, not used; without it nothing may be written.
    lock: Option<fs::File>,
    /// Lists the folder as held while it is locked: dropped after the lock.
    held: Option<Arc<Held>>,
}

impl OsFolder {
    /// Opens the folder at `path`, creates it if it is absent, and locks it.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] where another process or handle holds it; [`io::ErrorKind::InvalidData`] where it
    /// holds something else than a journal: then it was not touched.
    pub fn open(path: &Path) -> io::Result<Self> {
        let is_new = match Self::look(path) {
            Ok(found) => {
                admit(&found)?;
                false
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                fs::create_dir_all(path)?;
                true
            }
            Err(error) => return Err(error),
        };
        Self::lock(path).inspect_err(|_| {
            if is_new {
                // Only where it is empty.
                fs::remove_dir(path).ok();
            }
        })
    }

    /// Locks the folder of a journal.
    pub(crate) fn lock(path: &Path) -> io::Result<Self> {
        if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            match fs::File::open(parent) {
                Ok(parent) => sync_folder(&parent)?,
                // This process may have no access to the parent folder, although it has access to this one. Syncing the
                // parent is then left to its owner.
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {}
                Err(error) => return Err(error),
            }
        }
        let name = path.join(LOCK);
        let (lock, is_new) = match fs::File::options().create_new(true).write(true).open(&name) {
            Ok(lock) => (lock, true),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                (fs::File::options().write(true).open(&name)?, false)
            }
            Err(error) => return Err(error),
        };
        match lock.try_lock() {
            Ok(()) => {}
            Err(fs::TryLockError::WouldBlock) => return Err(io::ErrorKind::WouldBlock.into()),
            Err(fs::TryLockError::Error(error)) => {
                if is_new {
                    fs::remove_file(&name).ok();
                }
                let message = format!("the file system cannot lock {}: {error}", name.display());
                return Err(io::Error::new(error.kind(), message));
            }
        }
        // The journal was removed between our opening of the file and our lock.
        if !names(&name, &lock)? {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let held = PlaceId::of(path).ok().map(|place| Arc::new(Held::new(place)));
        if is_new {
            lock.write_all_at(LOCK_TEXT, 0).and_then(|()| lock.sync_all()).inspect_err(|_| {
                // On a full disk the space taken so far is released, under the lock.
                fs::remove_file(&name).ok();
            })?;
        }
        Ok(Self { path: path.to_owned(), folder: fs::File::open(path)?, lock: Some(lock), held })
    }

    /// Tells openings in this process that the folder is being released.
    pub(crate) fn held(&self) -> Weak<Held> {
        self.held.as_ref().map(Arc::downgrade).unwrap_or_default()
    }

    /// Opens the folder at `path` read-only and without its lock; it may be in use.
    pub fn look(path: &Path) -> io::Result<Self> {
        Ok(Self { path: path.to_owned(), folder: fs::File::open(path)?, lock: None, held: None })
    }
}

impl Drop for OsFolder {
    fn drop(&mut self) {
        if let Some(lock) = &self.lock {
            // The lock is released explicitly, not only by closing the file: a child process has the same file open
            // until it calls exec. If the release fails, closing the file releases the lock.
            lock.unlock().ok();
        }
    }
}

impl Folder for OsFolder {
    fn names(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.path)? {
            names.push(entry?.file_name().to_string_lossy().into_owned());
        }
        Ok(names)
    }

    fn create(&self, name: &str, len: u64) -> io::Result<Box<dyn File>> {
        let path = self.path.join(name);
        let made = (|| {
            let file = fs::File::options().create(true).truncate(true).read(true).write(true).open(&path)?;
            allocate(&file, len)?;
            Ok(file)
        })();
        match made {
            Ok(file) => Ok(Box::new(OsFile(file))),
            Err(error) => {
                // On a full disk the space taken so far is released.
                fs::remove_file(&path).ok();
                Err(error)
            }
        }
    }

    fn open(&self, name: &str) -> io::Result<Box<dyn File>> {
        let file = fs::File::options().read(true).write(self.lock.is_some()).open(self.path.join(name))?;
        Ok(Box::new(OsFile(file)))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.path.join(name))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.path.join(from), self.path.join(to))
    }

    fn sync(&self) -> io::Result<()> {
        sync_folder(&self.folder)
    }
}

/// Whether `path` still names `file`.
fn names(path: &Path, file: &fs::File) -> io::Result<bool> {
    use std::os::unix::fs::MetadataExt as _;
    let opened = file.metadata()?;
    match fs::metadata(path) {
        Ok(named) => Ok((named.dev(), named.ino()) == (opened.dev(), opened.ino())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// Makes the names in a folder durable: by a sync of the file system, where folders have none.
pub(crate) fn sync_folder(folder: &fs::File) -> io::Result<()> {
    let Err(error) = folder.sync_all() else { return Ok(()) };
    #[cfg(target_os = "linux")]
    let has_none = matches!(error.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported)
        || error.raw_os_error() == Some(rustix::io::Errno::BADF.raw_os_error());
    #[cfg(target_os = "linux")]
    if has_none {
        return rustix::fs::syncfs(folder).map_err(io::Error::from);
    }
    // A sync that failed is not repeated.
    Err(error)
}

/// Allocates the space of `len` zero bytes: writing them later cannot fail for lack of room.
fn allocate(file: &fs::File, len: u64) -> io::Result<()> {
    if len == 0 {
        return Ok(());
    }
    #[cfg(target_os = "linux")]
    match rustix::fs::fallocate(file, rustix::fs::FallocateFlags::empty(), 0, len) {
        Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => {}
        result => return result.map_err(io::Error::from),
    }
    // The file system cannot reserve space: writing zeros takes it.
    let zeros = vec![0; 64 << 10];
    let mut at = 0;
    while at < len {
        let part = usize::try_from(len - at).unwrap_or(usize::MAX).min(zeros.len());
        file.write_all_at(zeros.get(..part).unwrap_or_default(), at)?;
        at += part as u64;
    }
    Ok(())
}

#[derive(Debug)]
struct OsFile(fs::File);

impl File for OsFile {
    fn read(&self) -> io::Result<Vec<u8>> {
        let len = usize::try_from(self.0.metadata()?.len()).map_err(io::Error::other)?;
        let mut content = vec![0; len];
        self.0.read_exact_at(&mut content, 0)?;
        Ok(content)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.0.write_all_at(bytes, offset)
    }

    fn sync(&self) -> io::Result<()> {
        self.0.sync_data()
    }
}

#[cfg(test)]
mod tests;
