//! A journal used as the engine uses one.

use std::num::NonZeroU8;

use arbitrary::Arbitrary;
use tiered_core::adapter::journal::{Aside, Journal as _, JournalRecord};
use tiered_core::{Action, Attributes, Delete, Key, ParkReason, Parked, Put, Timestamp, Version, adapter};
use tiered_journal::{FileJournal, MemoryFolder};

use super::{BACKEND, image, now, place, plain, plain_all, plain_aside, recover, stamp};

/// Steps that are carried out.
const STEPS: usize = 24;

/// Records of a group.
const GROUP: usize = 5;

#[derive(Arbitrary, Debug)]
pub(super) enum Step {
    Append(Vec<Record>),
    /// Forgets so many more records.
    Trim(u8),
    /// Sets records aside that are not trimmed: some parked, some dropped.
    SetAside {
        from: u8,
        count: u8,
        dropped: u8,
    },
    /// The process ends without a close.
    Reopen,
    Close,
}

#[derive(Arbitrary, Debug)]
pub(super) struct Record {
    key: u8,
    continues: bool,
    action: Kind,
}

#[derive(Arbitrary, Debug)]
enum Kind {
    Put { fill: u8, size: u8, expires_at: Option<u32>, token: bool, attribute: Option<NonZeroU8> },
    Delete { version: Option<u16> },
}

/// What was written to a journal.
#[derive(Debug, Default)]
pub(super) struct Written {
    /// From sequence 1 on.
    pub(super) records: Vec<JournalRecord>,
    /// Everything before this is trimmed.
    pub(super) trimmed: u64,
    pub(super) aside: Aside,
}

impl Record {
    fn record(&self) -> JournalRecord {
        let action = match &self.action {
            Kind::Put { fill, size, expires_at, token, attribute } => {
                let mut put = Put::new(vec![*fill; bytes(*size)]);
                if let Some(at) = expires_at {
                    put = put.expires_at(Timestamp::from_millis(u64::from(*at)));
                }
                if let Some(length) = attribute {
                    let value = "é".repeat(usize::from(length.get()));
                    put = put.attributes(Attributes::new().with("name", &value).expect("fits"));
                }
                if *token {
                    put = adapter::with_version(put, Version::from_token("\"etag\"").expect("a token"));
                }
                Action::Put(adapter::verbatim(&stamp().entry(&put)))
            }
            Kind::Delete { version: None } => Action::Delete(Delete::new()),
            Kind::Delete { version: Some(id) } => Action::Delete(adapter::delete_with_version(
                Delete::new(),
                Version::from_u128(u128::from(*id)),
            )),
        };
        let key = Key::new(format!("k{}", self.key)).expect("a key");
        let record = JournalRecord::new(key, action);
        if self.continues { record.continued() } else { record }
    }
}

/// Most are small; the largest takes more than a segment.
fn bytes(size: u8) -> usize {
    match usize::from(size) {
        255 => 70_000,
        size => size * size / 8,
    }
}

/// Carries the steps out on a new journal, whose id is always the same. It is left as a process leaves it that is killed.
pub(super) fn carried_out(steps: &[Step]) -> (MemoryFolder, Written) {
    let folder = MemoryFolder::new();
    place(&folder, &image::name(1), &image::header(1, BACKEND));
    let mut written = Written { trimmed: 1, ..Written::default() };
    let mut journal = opened(&folder, &mut written, 1);
    for step in steps.iter().take(STEPS) {
        match step {
            Step::Append(records) if records.is_empty() => {}
            Step::Append(records) => {
                let records: Vec<_> = records.iter().take(GROUP).map(Record::record).collect();
                let first = now(journal.append(&records)).expect("there is room");
                assert_eq!(first, written.records.len() as u64 + 1);
                written.records.extend(records);
            }
            Step::Trim(more) => {
                let last = (written.trimmed + u64::from(*more)).min(written.records.len() as u64 + 1) - 1;
                now(journal.trim(last)).expect("trims");
                written.trimmed = written.trimmed.max(last + 1);
            }
            Step::SetAside { from, count, dropped } => {
                written.aside = written.set_aside(*from, *count, *dropped);
                now(journal.set_aside(&written.aside)).expect("there is room");
            }
            Step::Reopen => journal = opened(&folder, &mut written, 1),
            Step::Close => {
                now(journal.close()).expect("closes");
                let trimmed = written.trimmed;
                journal = opened(&folder, &mut written, trimmed);
            }
        }
    }
    (folder, written)
}

/// Opens the journal, which holds what was written and not trimmed. What was trimmed may be there again, but for what
/// comes before `forgotten`.
fn opened(folder: &MemoryFolder, written: &mut Written, forgotten: u64) -> FileJournal {
    let (journal, recovered) = recover(folder).expect("nothing is damaged");
    let first = recovered.records.first().map_or(written.records.len() as u64 + 1, |(first, _)| *first);
    assert!((forgotten..=written.trimmed).contains(&first), "records from {first} on: {}", written.trimmed);
    let expected: Vec<_> = (first..).zip(written.from(first).iter().map(plain)).collect();
    assert_eq!(plain_all(&recovered.records), expected);
    // What was dropped and is trimmed needs no mention.
    written.aside.dropped.retain(|sequence| recovered.aside.dropped.contains(sequence) || *sequence >= first);
    assert_eq!(plain_aside(&recovered.aside), plain_aside(&written.aside));
    // A trim that was not written down is forgotten.
    written.trimmed = first;
    journal
}

impl Written {
    /// The records from a sequence on.
    pub(super) fn from(&self, first: u64) -> &[JournalRecord] {
        let index = usize::try_from(first - 1).expect("few records");
        self.records.get(index..).unwrap_or_default()
    }

    fn set_aside(&self, from: u8, count: u8, dropped: u8) -> Aside {
        let first = self.trimmed + u64::from(from % 8);
        let records: Vec<_> =
            (first..).zip(self.from(first).iter().cloned()).take(usize::from(count % 8)).collect();
        let (given_up, parked) = records.split_at(usize::from(dropped).min(records.len()));
        let dropped = given_up.iter().map(|(sequence, _)| *sequence).collect();
        let parked = parked.chunks(2).map(|records| Parked::new(records.to_vec(), reason(count)));
        Aside::new(parked.collect(), dropped)
    }
}

fn reason(count: u8) -> ParkReason {
    match count % 4 {
        0 => ParkReason::LeaseLost,
        1 => ParkReason::Abandoned,
        _ => ParkReason::Refused("é".repeat(usize::from(count))),
    }
}
