//! A disk that loses what was not synced, as a loss of power does.

use std::collections::BTreeSet;
use std::io;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use redb::StorageBackend;
use tiered_conformance::Dice;

/// What is written in one piece, or torn between two of them.
const SECTOR: usize = 512;

/// The disk. Cloning shares it.
#[derive(Clone, Debug, Default)]
pub struct Disk(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    /// What the process sees.
    now: Vec<u8>,
    /// What is certainly on the platter.
    synced: Vec<u8>,
    /// Sectors that differ, perhaps.
    dirty: BTreeSet<usize>,
    /// A process that lost power reaches the disk no more.
    generation: u64,
    /// Held by the handle that is open: the lock of a file.
    lock: Weak<()>,
}

impl Disk {
    /// A process that uses the disk, until it loses power.
    pub fn process(&self) -> Process {
        Process { generation: self.0.lock().generation, disk: self.clone() }
    }

    /// Takes the power away: of what was not synced each sector is on the platter or is not. Handles are cut off.
    pub fn crash(&self, dice: &mut Dice) {
        let mut state = self.0.lock();
        state.generation += 1;
        state.lock = Weak::new();
        let mut after = state.synced.clone();
        // A file that grew may have its new length, with or without its content.
        if dice.below(2) == 0 && state.now.len() > after.len() {
            let len = state.now.len();
            after.resize(len, 0);
        }
        for sector in &state.dirty {
            let range = sector * SECTOR..((sector + 1) * SECTOR).min(state.now.len());
            if let (Some(from), true) = (state.now.get(range.clone()), dice.below(2) == 0)
                && let Some(to) = after.get_mut(range)
            {
                to.copy_from_slice(from);
            }
        }
        state.now.clone_from(&after);
        state.synced = after;
        state.dirty.clear();
    }
}

/// A process that opens the file of a [`Disk`], perhaps again and again.
#[derive(Clone, Debug)]
pub struct Process {
    disk: Disk,
    generation: u64,
}

impl Process {
    /// Opens the file.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] while it is open already, and any after the process has lost power.
    pub fn attach(&self) -> io::Result<Attached> {
        let mut state = self.disk.0.lock();
        if state.generation != self.generation {
            return Err(powerless());
        }
        if state.lock.strong_count() > 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let lock = Arc::new(());
        state.lock = Arc::downgrade(&lock);
        Ok(Attached { generation: self.generation, disk: self.disk.clone(), _lock: lock })
    }
}

fn powerless() -> io::Error {
    io::Error::other("the power is off")
}

/// A process's handle on a [`Disk`].
#[derive(Clone, Debug)]
pub struct Attached {
    disk: Disk,
    generation: u64,
    _lock: Arc<()>,
}

impl Attached {
    fn with<T>(&self, run: impl FnOnce(&mut State) -> T) -> io::Result<T> {
        let mut state = self.disk.0.lock();
        if state.generation != self.generation {
            return Err(powerless());
        }
        Ok(run(&mut state))
    }
}

fn sectors(from: usize, to: usize) -> std::ops::Range<usize> {
    from / SECTOR..to.div_ceil(SECTOR)
}

impl StorageBackend for Attached {
    fn len(&self) -> io::Result<u64> {
        self.with(|state| state.now.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let offset = usize::try_from(offset).map_err(io::Error::other)?;
        self.with(|state| match state.now.get(offset..offset + out.len()) {
            Some(found) => {
                out.copy_from_slice(found);
                Ok(())
            }
            None => Err(io::ErrorKind::UnexpectedEof.into()),
        })?
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let len = usize::try_from(len).map_err(io::Error::other)?;
        self.with(|state| {
            let before = state.now.len();
            state.now.resize(len, 0);
            state.dirty.extend(sectors(before.min(len), before.max(len)));
        })
    }

    fn sync_data(&self) -> io::Result<()> {
        self.with(|state| {
            let State { now, synced, dirty, .. } = state;
            synced.resize(now.len(), 0);
            for sector in std::mem::take(dirty) {
                let range = sector * SECTOR..((sector + 1) * SECTOR).min(now.len());
                if let (Some(from), Some(to)) = (now.get(range.clone()), synced.get_mut(range)) {
                    to.copy_from_slice(from);
                }
            }
        })
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let offset = usize::try_from(offset).map_err(io::Error::other)?;
        self.with(|state| match state.now.get_mut(offset..offset + data.len()) {
            Some(place) => {
                place.copy_from_slice(data);
                state.dirty.extend(sectors(offset, offset + data.len()));
                Ok(())
            }
            None => Err(io::ErrorKind::UnexpectedEof.into()),
        })?
    }

    fn close(&self) -> io::Result<()> {
        Ok(())
    }
}
