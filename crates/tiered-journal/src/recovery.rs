//! Reads and checks a journal's files.

use std::io;

use bytes::Bytes;
use tiered_core::adapter::journal::{Aside, JournalRecord, Recovered, Sequence};
use tiered_core::{Error, ErrorKind, Result};

use crate::folder::Folder;
use crate::format::{ALIGN, GROUP_MAGIC, Group, HEADER, Header, NoHeader};
use crate::log::failed;
use crate::{ownership, segment, side};

/// The content of the files.
#[derive(Debug, Default)]
pub(crate) struct Found {
    /// The journal's id and its backend, once it has a segment.
    pub(crate) bound: Option<(u128, Vec<u8>)>,
    /// The first sequences of its segments.
    pub(crate) segments: Vec<Sequence>,
    /// The sequence of the next record.
    pub(crate) next: Sequence,
    /// The backend has everything before this.
    pub(crate) trimmed: Sequence,
    pub(crate) recovered: Recovered,
    /// Bytes of all segments.
    pub(crate) bytes: u64,
    /// The last segment, and where its good groups end.
    pub(crate) last: Option<Last>,
    /// Files whose making was interrupted.
    pub(crate) unfinished: Vec<String>,
    /// Whether the reserve may be replaced and removed.
    pub(crate) owns_reserve: bool,
}

/// The segment that may have been written to last.
#[derive(Debug)]
pub(crate) struct Last {
    pub(crate) segment: Sequence,
    /// Its header and good groups.
    pub(crate) good: Bytes,
    /// Bytes behind them that are not zero: torn or damaged.
    pub(crate) cut_bytes: u64,
}

/// Reads everything and changes nothing.
pub(crate) fn scan(folder: &dyn Folder) -> Result<Found> {
    let unreadable = |error: io::Error| failed("the journal cannot be read", &error);
    let names = folder.names().map_err(unreadable)?;
    let mut segments: Vec<Sequence> = names.iter().filter_map(|name| segment::first(name)).collect();
    segments.sort_unstable();
    let mut found = Found { next: 1, trimmed: 1, ..Found::default() };
    for (index, first) in segments.iter().enumerate() {
        let content = folder.open(&segment::name(*first)).and_then(|file| file.read()).map_err(unreadable)?;
        found.bytes += content.len() as u64;
        found.read_segment(*first, &Bytes::from(content), index + 1 == segments.len())?;
    }
    if names.iter().any(|name| name == side::ASIDE) {
        let bytes = folder.open(side::ASIDE).and_then(|file| file.read()).map_err(unreadable)?;
        let aside = found.bound.as_ref().and_then(|(journal, _)| side::decode(*journal, &bytes.into()));
        found.recovered.aside = aside.ok_or_else(|| {
            Error::new(
                ErrorKind::Corrupt,
                "the file of parked writes is damaged; removing it gives up the writes that are parked",
            )
            .at_place(side::ASIDE)
        })?;
    }
    found.owns_reserve = ownership::owns_reserve(folder, &names).map_err(unreadable)?;
    found.unfinished = ownership::unfinished(folder, &names).map_err(unreadable)?;
    let trimmed = found.trimmed;
    found.recovered.records.retain(|(sequence, _)| *sequence >= trimmed);
    found.recovered.aside.dropped.retain(|sequence| *sequence >= trimmed);
    Ok(found)
}

impl Found {
    fn read_segment(&mut self, first: Sequence, content: &Bytes, is_last: bool) -> Result<()> {
        let name = segment::name(first);
        let damaged = |what: String| Err(Error::new(ErrorKind::Corrupt, what).at_place(&name));
        let header = match Header::decode(content) {
            Ok(header) if header.first == first => header,
            Err(NoHeader::OtherFormat(format)) => {
                let message =
                    format!("the journal has format {format}; use the version of tiered that wrote it");
                return Err(Error::new(ErrorKind::Foreign, message).at_place(&name));
            }
            Ok(_) | Err(NoHeader::Damaged) => {
                return damaged(format!("the header is damaged; {RESTORE}"));
            }
        };
        self.recovered.marked |= header.marked;
        match &self.bound {
            None => {
                self.bound = Some((header.journal, header.backend));
                // What is before the oldest segment was trimmed.
                self.next = first;
                self.trimmed = first;
            }
            Some((journal, _)) if *journal != header.journal => {
                return damaged(
                    "the segment belongs to another journal; put it back where it came from".to_owned(),
                );
            }
            Some(_) if self.next != first => {
                return damaged(format!(
                    "records {} to {} are missing before this segment: a segment was removed, or the end of the one before is damaged; {RESTORE}",
                    self.next,
                    first.saturating_sub(1)
                ));
            }
            Some(_) => {}
        }
        self.segments.push(first);
        let mut at = HEADER;
        while let Some(group) = self.group_at(content, at) {
            let Some(records) = group.records() else {
                return damaged(format!(
                    "the group at byte {at} holds no records; it was written by a faulty program"
                ));
            };
            // If it were accepted, records that are appended from now on would count as trimmed.
            if group.trimmed > group.first {
                return damaged(format!(
                    "the group at byte {at} says that the backend has more than there was; it was written by a faulty program"
                ));
            }
            at += group.len;
            self.take(&group, records);
        }
        let rest = content.get(at..).unwrap_or_default();
        let cut_bytes = rest.len() - rest.iter().rev().take_while(|byte| **byte == 0).count();
        if is_last {
            self.last = Some(Last { segment: first, good: content.slice(..at), cut_bytes: cut_bytes as u64 });
        }
        if cut_bytes == 0 {
            return Ok(());
        }
        if let Some(good) = self.good_group_after(content, at) {
            return damaged(format!(
                "the group at byte {at} is damaged, and a good one follows at byte {good}: {RESTORE}"
            ));
        }
        Ok(())
    }

    fn take(&mut self, group: &Group<'_>, records: Vec<(Sequence, JournalRecord)>) {
        self.next = group.first + u64::from(group.count);
        self.trimmed = self.trimmed.max(group.trimmed);
        self.recovered.records.extend(records);
    }

    /// The group at a place, if it is the next one.
    fn group_at<'s>(&self, content: &'s Bytes, at: usize) -> Option<Group<'s>> {
        let (journal, _) = self.bound.as_ref()?;
        Group::decode(*journal, content.get(at..)?).filter(|group| group.first == self.next)
    }

    /// Where a whole group lies beyond `at`, if anywhere.
    fn good_group_after(&self, content: &[u8], at: usize) -> Option<usize> {
        let (journal, _) = self.bound.as_ref()?;
        let places = content.get(at..)?.chunks(ALIGN).enumerate();
        places
            .filter(|(_, chunk)| chunk.starts_with(&GROUP_MAGIC))
            .map(|(index, _)| at + index * ALIGN)
            .find(|at| content.get(*at..).is_some_and(|rest| Group::decode(*journal, rest).is_some()))
    }
}

const RESTORE: &str = "restore the journal from a backup, or move it away and lose what is only in it";

impl Found {
    /// How many records wait for the backend: neither trimmed nor set aside.
    pub(crate) fn waiting(&self) -> usize {
        let Aside { parked, dropped, .. } = &self.recovered.aside;
        let is_aside = |sequence: &Sequence| {
            dropped.contains(sequence)
                || parked.iter().any(|parked| parked.records.iter().any(|(parked, _)| parked == sequence))
        };
        self.recovered.records.iter().filter(|(sequence, _)| !is_aside(sequence)).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::MemoryFolder;
    use crate::format::encode_group;

    #[test]
    fn a_group_cannot_trim_beyond_its_own_records() {
        for (trimmed, is_good) in [(6, true), (7, true), (8, false)] {
            let folder = MemoryFolder::new();
            let header = Header { journal: 1, first: 7, backend: b"backend".to_vec(), marked: true };
            let mut content = header.encode();
            encode_group(1, 7, trimmed, &[], &mut content).expect("encodes");
            folder.attach().create(&segment::name(7), 0).expect("creates");
            folder.set_content(&segment::name(7), &content);
            assert_eq!(scan(folder.attach().as_ref()).is_ok(), is_good, "{trimmed}");
        }
    }
}
