//! A folder in memory that loses what was not synced, and injects faults: for tests and simulations.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::folder::{File, Folder};

/// What is written in one piece, or torn between two of them.
const SECTOR: usize = 512;

/// Decides which call fails, by its name (`create`, `open`, `read`, `write`, `sync`, `rename`, `remove`,
/// `sync folder`), and how.
type Faults = Box<dyn FnMut(&'static str) -> Option<io::ErrorKind> + Send>;

/// The folder. Cloning shares it.
#[derive(Clone, Default)]
pub struct MemoryFolder(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    names: BTreeMap<String, usize>,
    /// The names that survive a loss of power, and what was done since to the others.
    synced_names: BTreeMap<String, usize>,
    renames: Vec<NameChange>,
    files: Vec<Content>,
    /// Bytes that fit.
    capacity: Option<u64>,
    faults: Option<Faults>,
    /// After a power loss, handles of the old process fail.
    generation: u64,
}

#[derive(Clone, Debug)]
struct NameChange {
    name: String,
    file: Option<usize>,
}

#[derive(Debug, Default)]
struct Content {
    now: Vec<u8>,
    synced: Vec<u8>,
    dirty: BTreeSet<usize>,
}

impl MemoryFolder {
    /// An empty folder.
    pub fn new() -> Self {
        Self::default()
    }

    /// A handle for one process: after [`crash`](Self::crash) it fails.
    pub fn attach(&self) -> Arc<dyn Folder> {
        Arc::new(Attached { folder: self.clone(), generation: self.0.lock().generation })
    }

    /// Lets calls fail as `faults` says. Of a failing write the first half is written.
    pub fn set_faults(&self, faults: impl FnMut(&'static str) -> Option<io::ErrorKind> + Send + 'static) {
        self.0.lock().faults = Some(Box::new(faults));
    }

    /// Ends all faults.
    pub fn heal(&self) {
        let mut state = self.0.lock();
        (state.faults, state.capacity) = (None, None);
    }

    /// Leaves this many bytes free.
    pub fn leave_free(&self, bytes: u64) {
        let mut state = self.0.lock();
        state.capacity = Some(state.used() + bytes);
    }

    /// Simulates a power loss. For each unsynced sector, and for each change of a name up to the first that is lost,
    /// `keep` decides whether it is on the disk. Existing handles fail from now on.
    pub fn crash(&self, mut keep: impl FnMut() -> bool) {
        let mut state = self.0.lock();
        state.generation += 1;
        let mut names = state.synced_names.clone();
        for change in std::mem::take(&mut state.renames) {
            if !keep() {
                break;
            }
            change.apply(&mut names);
        }
        state.names.clone_from(&names);
        state.synced_names = names;
        for file in &mut state.files {
            let mut after = file.synced.clone();
            if !file.dirty.is_empty() && keep() {
                after.resize(file.now.len(), 0);
            }
            for sector in std::mem::take(&mut file.dirty) {
                let range = sector * SECTOR..((sector + 1) * SECTOR).min(file.now.len());
                if let (true, Some(from)) = (keep(), file.now.get(range.clone()))
                    && let Some(to) = after.get_mut(range)
                {
                    to.copy_from_slice(from);
                }
            }
            file.now.clone_from(&after);
            file.synced = after;
        }
    }

    /// The content of a file.
    pub fn content(&self, name: &str) -> Option<Vec<u8>> {
        let state = self.0.lock();
        state.files.get(*state.names.get(name)?).map(|file| file.now.clone())
    }

    /// Replaces the content of a file, durably.
    pub fn set_content(&self, name: &str, content: &[u8]) {
        let mut state = self.0.lock();
        let file = state.names.get(name).copied().unwrap_or(usize::MAX);
        if let Some(file) = state.files.get_mut(file) {
            *file = Content { now: content.to_vec(), synced: content.to_vec(), dirty: BTreeSet::new() };
        }
    }
}

impl NameChange {
    fn apply(self, names: &mut BTreeMap<String, usize>) {
        match self.file {
            Some(file) => names.insert(self.name, file),
            None => names.remove(&self.name),
        };
    }
}

impl State {
    fn used(&self) -> u64 {
        self.names.values().filter_map(|file| self.files.get(*file)).map(|file| file.now.len() as u64).sum()
    }

    fn change(&mut self, name: &str, file: Option<usize>) {
        let change = NameChange { name: name.to_owned(), file };
        self.renames.push(change.clone());
        change.apply(&mut self.names);
    }

    fn find(&self, name: &str) -> io::Result<usize> {
        self.names.get(name).copied().ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

impl fmt::Debug for MemoryFolder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryFolder").field("names", &self.0.lock().names).finish_non_exhaustive()
    }
}

#[derive(Clone, Debug)]
struct Attached {
    folder: MemoryFolder,
    generation: u64,
}

impl Attached {
    /// Runs `run`, unless the call is to fail. The flag says whether it is: of a write half is done then, and a sync takes
    /// what it could not write for written, as Linux does, so that another one says nothing.
    fn with<T>(
        &self,
        call: &'static str,
        run: impl FnOnce(&mut State, bool) -> io::Result<T>,
    ) -> io::Result<T> {
        let mut state = self.folder.0.lock();
        if state.generation != self.generation {
            return Err(io::Error::other("the power is off"));
        }
        match state.faults.as_mut().and_then(|faults| faults(call)) {
            Some(kind) if matches!(call, "write" | "sync") => run(&mut state, true).and(Err(kind.into())),
            Some(kind) => Err(kind.into()),
            None => run(&mut state, false),
        }
    }
}

impl Folder for Attached {
    fn names(&self) -> io::Result<Vec<String>> {
        self.with("open", |state, _| Ok(state.names.keys().cloned().collect()))
    }

    fn create(&self, name: &str, len: u64) -> io::Result<Box<dyn File>> {
        self.with("create", |state, _| {
            let len = usize::try_from(len).map_err(io::Error::other)?;
            if state.capacity.is_some_and(|capacity| state.used() + len as u64 > capacity) {
                return Err(io::ErrorKind::StorageFull.into());
            }
            let file = state.files.len();
            state.files.push(Content { now: vec![0; len], ..Content::default() });
            state.change(name, Some(file));
            Ok(Box::new(Opened { folder: self.clone(), file }) as Box<dyn File>)
        })
    }

    fn open(&self, name: &str) -> io::Result<Box<dyn File>> {
        self.with("open", |state, _| {
            let file = state.find(name)?;
            Ok(Box::new(Opened { folder: self.clone(), file }) as Box<dyn File>)
        })
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.with("remove", |state, _| {
            state.find(name)?;
            state.change(name, None);
            Ok(())
        })
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.with("rename", |state, _| {
            let file = state.find(from)?;
            state.change(to, Some(file));
            state.change(from, None);
            Ok(())
        })
    }

    fn sync(&self) -> io::Result<()> {
        self.with("sync folder", |state, _| {
            state.synced_names.clone_from(&state.names);
            state.renames.clear();
            Ok(())
        })
    }
}

#[derive(Debug)]
struct Opened {
    folder: Attached,
    file: usize,
}

impl Opened {
    fn with<T>(
        &self,
        call: &'static str,
        run: impl FnOnce(&mut Content, bool) -> io::Result<T>,
    ) -> io::Result<T> {
        self.folder.with(call, |state, fails| {
            let file = state.files.get_mut(self.file).ok_or(io::ErrorKind::NotFound)?;
            run(file, fails)
        })
    }
}

impl File for Opened {
    fn read(&self) -> io::Result<Vec<u8>> {
        self.with("read", |file, _| Ok(file.now.clone()))
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.with("write", |file, fails| {
            let bytes = if fails { bytes.get(..bytes.len() / 2).unwrap_or_default() } else { bytes };
            let offset = usize::try_from(offset).map_err(io::Error::other)?;
            let end = offset + bytes.len();
            file.now.get_mut(offset..end).ok_or(io::ErrorKind::UnexpectedEof)?.copy_from_slice(bytes);
            file.dirty.extend(offset / SECTOR..end.div_ceil(SECTOR));
            Ok(())
        })
    }

    fn sync(&self) -> io::Result<()> {
        self.with("sync", |file, fails| {
            let Content { now, synced, dirty } = file;
            let dirty = std::mem::take(dirty);
            if fails {
                return Ok(());
            }
            synced.resize(now.len(), 0);
            for sector in dirty {
                let range = sector * SECTOR..((sector + 1) * SECTOR).min(now.len());
                if let (Some(from), Some(to)) = (now.get(range.clone()), synced.get_mut(range)) {
                    to.copy_from_slice(from);
                }
            }
            Ok(())
        })
    }
}
