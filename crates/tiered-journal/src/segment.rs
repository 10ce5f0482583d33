//! Segments: preallocated files, named by their first sequence.

use std::io;

use tiered_core::adapter::journal::Sequence;

use crate::folder::{File, Folder};
use crate::format::{HEADER, Header};

const SUFFIX: &str = ".segment";
/// Ends the names of files that are being made.
pub(crate) const NEW: &str = ".new";

/// The name of the segment that begins with `first`.
pub(crate) fn name(first: Sequence) -> String {
    format!("{first:016x}{SUFFIX}")
}

/// The first sequence of the segment of this name.
pub(crate) fn first(name: &str) -> Option<Sequence> {
    let digits = name.strip_suffix(SUFFIX).filter(|digits| digits.len() == 16)?;
    let first = Sequence::from_str_radix(digits, 16).ok()?;
    // A plus sign or capitals would make it the name of another file.
    (self::name(first) == name).then_some(first)
}

/// Creates a file that appears under its name complete and durable, or not at all.
fn install(folder: &dyn Folder, name: &str, content: &[u8], len: u64) -> io::Result<Box<dyn File>> {
    let new = format!("{name}{NEW}");
    let file = folder.create(&new, len)?;
    let made = (|| {
        file.write_at(content, 0)?;
        file.sync()?;
        folder.rename(&new, name)?;
        folder.sync()
    })();
    if let Err(error) = made {
        // Keeping it is harmless: nothing has been written to it.
        folder.remove(&new).ok();
        return Err(error);
    }
    Ok(file)
}

/// Rewrites the valid part of a segment in place, and zeros after it. What was read may exist only in the page cache:
/// after a failed sync, another sync succeeds without writing it. In place, because there may be no room for another
/// file.
pub(crate) fn repair(folder: &dyn Folder, name: &str, good: &[u8], cut_bytes: u64) -> io::Result<()> {
    let file = folder.open(name)?;
    file.write_at(good, 0)?;
    let zeros = vec![0; usize::try_from(cut_bytes).map_err(io::Error::other)?];
    file.write_at(&zeros, good.len() as u64)?;
    file.sync()
}

/// Zeros are written ahead of the groups: as many as there are bytes of groups, within these bounds. Space that was only
/// allocated has to be noted as written by the file system when it is synced, which makes syncs of large groups take half as
/// long again.
const AHEAD: (u64, u64) = (4 << 10, 1 << 20);

/// The segment that is written to.
#[derive(Debug)]
pub(crate) struct Segment {
    pub(crate) first: Sequence,
    file: Box<dyn File>,
    /// Where the next group goes.
    at: u64,
    len: u64,
    /// What stands before this has been written, with groups or with zeros.
    written: u64,
}

impl Segment {
    /// Makes a segment with room for `room` bytes of groups. It appears under its name with its header, durably.
    pub(crate) fn create(folder: &dyn Folder, header: &Header, room: u64) -> io::Result<Self> {
        let len = HEADER as u64 + room;
        let file = install(folder, &name(header.first), &header.encode(), len)?;
        Ok(Self { first: header.first, file, at: HEADER as u64, len, written: HEADER as u64 })
    }

    /// Whether `bytes` more fit.
    pub(crate) fn has_room(&self, bytes: usize) -> bool {
        self.at + bytes as u64 <= self.len
    }

    /// Makes everything durable.
    pub(crate) fn sync(&self) -> io::Result<()> {
        self.file.sync()
    }

    /// Writes a group, and makes it durable where `sync` says so.
    pub(crate) fn append(&mut self, group: &[u8], sync: bool) -> io::Result<()> {
        let end = self.at + group.len() as u64;
        self.file.write_at(group, self.at)?;
        if sync {
            if end > self.written {
                self.write_ahead(end)?;
            }
            self.file.sync()?;
        }
        self.at = end;
        Ok(())
    }

    /// Writes zeros behind `end`, where zeros are.
    fn write_ahead(&mut self, end: u64) -> io::Result<()> {
        let (least, most) = AHEAD;
        let ahead = (end + (end - HEADER as u64).clamp(least, most)).min(self.len);
        let zeros = vec![0; usize::try_from(ahead.saturating_sub(end)).map_err(io::Error::other)?];
        self.file.write_at(&zeros, end)?;
        self.written = ahead;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_segment_number_has_exactly_one_file_name() {
        assert_eq!(first(&name(10)), Some(10));
        for other in ["+00000000000000a.segment", "000000000000000A.segment", "a.segment", "00000000000000a"]
        {
            assert_eq!(first(other), None, "{other}");
        }
    }
}
