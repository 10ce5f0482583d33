//! The log: appends groups to segments, and unlinks segments whose records are trimmed.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use tiered_core::adapter::journal::{Aside, JournalRecord, Sequence};
use tiered_core::{Durability, Error, ErrorKind, Outcome, Result};

use crate::folder::Folder;
use crate::format::{HEADER, Header, encode_group};
use crate::ownership::{Interrupted, NotOurs};
use crate::segment::{self, Segment};
use crate::side;

/// The buffer for a group is kept unless it grew beyond this: what a busy journal writes at a time.
const KEEP_BUFFER: usize = 1 << 20;

/// A journal's state and files. All calls block.
#[derive(Debug)]
pub(crate) struct Log {
    pub(crate) folder: Arc<dyn Folder>,
    /// What an append survives.
    pub(crate) durability: Durability,
    /// Bytes of groups in a segment; a larger group gets a segment of its own.
    pub(crate) segment_size: u64,
    pub(crate) journal: u128,
    pub(crate) backend: Vec<u8>,
    /// Whether the backend names the journal in a mark, as the headers of new segments say.
    pub(crate) marked: bool,
    /// The first sequences of finished segments, oldest first.
    pub(crate) finished: VecDeque<Sequence>,
    pub(crate) current: Option<Segment>,
    /// The sequence of the next record.
    pub(crate) next: Sequence,
    /// The backend has everything before this.
    pub(crate) trimmed: Sequence,
    /// The last `trimmed` that was written down.
    pub(crate) trimmed_on_disk: Sequence,
    /// What failed, after which nothing is accepted.
    pub(crate) poison: Option<io::Error>,
    pub(crate) buffer: Vec<u8>,
    /// Whether the reserve may be replaced and removed: a foreign file of that name is not touched.
    pub(crate) owns_reserve: bool,
}

impl Log {
    /// Appends a group; the sequence of its first record.
    pub(crate) fn append(&mut self, records: &[JournalRecord]) -> Result<Sequence> {
        self.check_poison()?;
        let mut buffer = std::mem::take(&mut self.buffer);
        buffer.clear();
        let appended = encode_group(self.journal, self.next, self.trimmed, records, &mut buffer)
            .and_then(|()| self.write(&buffer));
        if buffer.capacity() <= KEEP_BUFFER {
            self.buffer = buffer;
        }
        appended?;
        let first = self.next;
        self.next += records.len() as u64;
        self.trimmed_on_disk = self.trimmed;
        Ok(first)
    }

    fn write(&mut self, group: &[u8]) -> Result<()> {
        if !self.current.as_ref().is_some_and(|segment| segment.has_room(group.len())) {
            self.roll(group.len())?;
        }
        let Some(segment) = &mut self.current else { return Err(gone()) };
        segment.append(group, self.durability == Durability::PowerLoss).map_err(|error| {
            let failed =
                failed("the journal could not be written; close the store and open it again", &error);
            self.poison = Some(error);
            failed.outcome_is(Outcome::Unknown)
        })
    }

    /// Begins the first segment of a new journal.
    pub(crate) fn begin(&mut self) -> Result<()> {
        self.roll(0)
    }

    /// Begins a segment that says that the backend names the journal.
    pub(crate) fn note_marked(&mut self) -> Result<()> {
        if self.marked {
            return Ok(());
        }
        self.check_poison()?;
        self.marked = true;
        self.roll(0)
    }

    /// Begins the next segment. Nothing of a group is written when this fails.
    fn roll(&mut self, room: usize) -> Result<()> {
        let header = Header {
            journal: self.journal,
            first: self.next,
            backend: self.backend.clone(),
            marked: self.marked,
        };
        // Without syncs a loss of power takes the end of the journal, never its middle.
        self.sync_as_late_as_now()?;
        let made = Segment::create(self.folder.as_ref(), &header, self.segment_size.max(room as u64));
        let segment = made.map_err(|error| match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                Error::new(ErrorKind::Full, "the journal's disk is full; free some space")
                    .with_source(error)
                    .outcome_is(Outcome::NotApplied)
            }
            _ => {
                let failed = failed(
                    "the journal could not begin a segment; close the store and open it again",
                    &error,
                );
                self.poison = Some(error);
                failed.outcome_is(Outcome::NotApplied)
            }
        })?;
        self.finished.extend(self.current.replace(segment).map(|segment| segment.first));
        // One of that name had no records, and was replaced.
        if self.finished.back() == Some(&self.next) {
            self.finished.pop_back();
        }
        Ok(())
    }

    /// Syncs the segment if appends do not. A failed sync is never repeated: the kernel may have dropped the pages that
    /// it could not write.
    fn sync_as_late_as_now(&mut self) -> Result<()> {
        let Some(segment) = self.current.as_ref().filter(|_| self.durability < Durability::PowerLoss) else {
            return Ok(());
        };
        segment.sync().map_err(|error| {
            let message = "the journal could not be synced; close the store and open it again";
            let failed = failed(message, &error);
            self.poison = Some(error);
            failed.outcome_is(Outcome::NotApplied)
        })
    }

    /// Trims the records before `before`: unlinks every segment that holds no other record.
    pub(crate) fn trim(&mut self, before: Sequence) -> Result<()> {
        self.trimmed = self.trimmed.max(before.min(self.next));
        while let Some(oldest) = self.finished.front() {
            let end = self.finished.get(1).copied().or(self.current.as_ref().map(|segment| segment.first));
            if end.is_none_or(|end| end > self.trimmed) {
                break;
            }
            match self.folder.remove(&segment::name(*oldest)) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(failed("a segment could not be removed", &error)),
            }
            self.finished.pop_front();
        }
        Ok(())
    }

    /// Replaces what is set aside.
    pub(crate) fn set_aside(&mut self, aside: &Aside) -> Result<()> {
        let bytes = side::encode(self.journal, aside)?;
        if self.durability < Durability::PowerLoss {
            self.check_poison()?;
            // The records are synced before the list that names them. If a power loss took only the records, later
            // records would reuse their sequences.
            self.sync_as_late_as_now()?;
        }
        let stored = match side::store(self.folder.as_ref(), &bytes) {
            Err(error) if error.kind() == io::ErrorKind::StorageFull && self.owns_reserve => {
                // What the reserve is for.
                self.folder.remove(side::RESERVE).ok();
                side::store(self.folder.as_ref(), &bytes)
            }
            stored => stored,
        };
        stored.map_err(|error| failed("what is parked could not be written down", &error))?;
        self.reserve();
        Ok(())
    }

    /// Allocates the reserve if there is room for it.
    pub(crate) fn reserve(&self) {
        if !self.owns_reserve {
            tracing::warn!(
                "a foreign file has the name of the journal's reserve, so there is none for parking; move the file away"
            );
            return;
        }
        // A process that was killed while it took the space left less.
        let taken = self.folder.open(side::RESERVE).and_then(|file| file.read());
        if taken.is_ok_and(|taken| taken.len() as u64 >= side::RESERVE_SIZE) {
            return;
        }
        if let Err(error) = self.folder.create(side::RESERVE, side::RESERVE_SIZE) {
            tracing::warn!(%error, "the journal's disk is full: there is no reserve for parking; free some space");
        }
    }

    /// Records the trim position. The next owner recovers what is left.
    pub(crate) fn close(&mut self) -> Result<()> {
        if self.poison.is_some() || self.trimmed_on_disk == self.trimmed {
            return Ok(());
        }
        let mut group = Vec::new();
        encode_group(self.journal, self.next, self.trimmed, &[], &mut group)?;
        self.write(&group)?;
        if let Some(segment) = &self.current {
            segment.sync().map_err(|error| failed("the journal could not be closed", &error))?;
        }
        self.trimmed_on_disk = self.trimmed;
        self.trim(self.trimmed)
    }

    fn check_poison(&self) -> Result<()> {
        match &self.poison {
            None => Ok(()),
            Some(error) => {
                Err(failed("the journal failed earlier; close the store and open it again", error)
                    .outcome_is(Outcome::NotApplied))
            }
        }
    }
}

fn gone() -> Error {
    Error::new(ErrorKind::Other, "the journal has no segment").outcome_is(Outcome::NotApplied)
}

/// The error of a failed disk.
pub(crate) fn failed(message: &str, error: &io::Error) -> Error {
    if error.get_ref().is_some_and(<dyn std::error::Error + Send + Sync>::is::<NotOurs>) {
        return Error::new(ErrorKind::Foreign, error.to_string());
    }
    if error.get_ref().is_some_and(<dyn std::error::Error + Send + Sync>::is::<Interrupted>) {
        return Error::new(ErrorKind::Corrupt, error.to_string());
    }
    let kind = match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => ErrorKind::Full,
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => ErrorKind::PermissionDenied,
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => ErrorKind::NotFound,
        io::ErrorKind::WouldBlock => ErrorKind::Locked,
        _ => ErrorKind::Unavailable,
    };
    Error::new(kind, message).with_source(io::Error::new(error.kind(), error.to_string()))
}

/// The smallest segment, in bytes: in a smaller file most of the space would be its header.
pub(crate) const MIN_SEGMENT: u64 = 64 << 10;

const _: () = assert!(MIN_SEGMENT > HEADER as u64);
