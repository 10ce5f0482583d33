//! A report on a journal without its store.

use std::path::Path;

use tiered_core::adapter::journal::Recovered;
use tiered_core::ownership::JournalId;
use tiered_core::{Operation, Result};

use crate::folder::OsFolder;
use crate::log::failed;
use crate::ownership::admit;
use crate::recovery::{Found, scan};

/// The state of a journal's files.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Report {
    /// The journal's own id, by which its backend names it; `None` for a new journal.
    pub journal: Option<JournalId>,
    /// The identity of the backend that it is bound to; `None` for a new journal.
    pub backend: Option<String>,
    /// Segments.
    pub segments: usize,
    /// Bytes of all segments, including preallocated space.
    pub bytes: u64,
    /// Records that wait for the backend according to the files: the backend may already have some of them.
    pub waiting: usize,
    /// Writes that the backend refused.
    pub parked: usize,
    /// Bytes at the end that are not a complete group: torn by a crash, or damaged.
    pub cut_bytes: u64,
}

impl Report {
    pub(crate) fn of(found: &Found) -> Self {
        Self {
            journal: found.bound.as_ref().map(|(journal, _)| JournalId::from_u128(*journal)),
            backend: found.bound.as_ref().map(|(_, backend)| String::from_utf8_lossy(backend).into_owned()),
            segments: found.segments.len(),
            bytes: found.bytes,
            waiting: found.waiting(),
            parked: found.recovered.aside.parked.len(),
            cut_bytes: found.last.as_ref().map_or(0, |last| last.cut_bytes),
        }
    }

    /// Reads the journal in the folder at `path` and checks every group. Changes and locks nothing: the last group of a
    /// journal in use may be incomplete. Blocks.
    ///
    /// # Errors
    /// [`ErrorKind::Corrupt`](tiered_core::ErrorKind::Corrupt), saying where, for what recovery would refuse;
    /// [`ErrorKind::Foreign`](tiered_core::ErrorKind::Foreign) for a folder that is no journal's.
    pub fn read(path: &Path) -> Result<(Self, Recovered)> {
        let folder = OsFolder::look(path).map_err(|error| failed("the journal cannot be read", &error));
        let found = folder.and_then(|folder| {
            admit(&folder).map_err(|error| failed("the journal cannot be read", &error))?;
            scan(&folder)
        });
        let found = found.map_err(|error| error.at_place(path.display()).during(Operation::Open))?;
        Ok((Self::of(&found), found.recovered))
    }
}
