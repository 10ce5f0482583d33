//! `journal`: a journal's files, from any bytes, or well made and then damaged.

mod damage;
mod image;
mod script;

use std::sync::Arc;

use arbitrary::{Arbitrary, Unstructured};
use futures_util::FutureExt as _;
use tiered_core::adapter::journal::{Aside, Journal as _, JournalRecord, Recovered};
use tiered_core::adapter::{Stamp, VersionMint};
use tiered_core::testing::ManualClock;
use tiered_core::{Action, Delete, Entry, Error, ErrorKind, Key, ParkReason, Put, Timestamp};
use tiered_journal::{FileJournal, JournalConfig, MemoryFolder};

use crate::allocation;

const BACKEND: &[u8] = b"backend";

/// The file of what is set aside.
const ASIDE: &str = "aside";

/// The smallest segment that the journal takes.
const SEGMENT: u64 = 64 << 10;

/// Space that a journal takes for parking, in bytes.
const RESERVE: usize = 1 << 20;

#[derive(Arbitrary, Debug)]
enum Input<'a> {
    /// Bytes as a segment.
    Segment(&'a [u8]),
    /// Bytes as the groups of a segment, each with the checksum that it needs.
    Groups { first: u32, groups: Vec<Forged<'a>>, end: &'a [u8] },
    /// Bytes as the file of what is set aside.
    Aside(&'a [u8]),
    /// The same, with the checksum that it needs.
    SealedAside(&'a [u8]),
    /// A journal that was used as the engine would, and then damaged.
    Used { steps: Vec<script::Step>, damages: Vec<damage::Damage> },
}

#[derive(Arbitrary, Debug)]
struct Forged<'a> {
    count: u8,
    /// From the group's first record to what the backend had.
    trimmed: i8,
    payload: &'a [u8],
}

/// What is recovered was appended, all of it before the damage; else an error says where. Then the journal goes on.
pub fn journal(data: &[u8]) {
    let Ok(input) = Input::arbitrary_take_rest(Unstructured::new(data)) else { return };
    match input {
        Input::Segment(bytes) => segment(1, bytes),
        Input::Groups { first, groups, end } => {
            let mut next = u64::from(first);
            let mut content = image::header(next, BACKEND);
            for Forged { count, trimmed, payload } in groups {
                let trimmed = next.saturating_add_signed(i64::from(trimmed));
                content.extend(image::group(next, trimmed, u32::from(count), payload));
                next += u64::from(count);
            }
            content.extend_from_slice(end);
            segment(u64::from(first), &content);
        }
        Input::Aside(bytes) => aside(bytes),
        Input::SealedAside(bytes) => aside(&image::aside(bytes)),
        Input::Used { steps, damages } => {
            let (folder, written) = script::carried_out(&steps);
            damage::recovers(&folder, &written, &damages);
        }
    }
}

fn open(folder: &MemoryFolder) -> FileJournal {
    JournalConfig::new("").segment_size(SEGMENT).open_in(folder.attach()).expect("the settings are right")
}

/// A call of a journal in memory, which never waits.
fn now<T>(call: impl Future<Output = T>) -> T {
    call.now_or_never().expect("a folder in memory never waits")
}

/// Recovers what is in the folder.
fn recover(folder: &MemoryFolder) -> Result<(FileJournal, Recovered), Error> {
    let journal = open(folder);
    let recovered = now(journal.recover(BACKEND))?;
    let report = journal.report().expect("recovered");
    assert!(report.waiting <= recovered.records.len());
    assert_eq!(report.parked, recovered.aside.parked.len());
    let sequences = recovered.records.iter().map(|(sequence, _)| *sequence);
    assert!(sequences.clone().zip(sequences.skip(1)).all(|(one, next)| next == one + 1), "there are gaps");
    Ok((journal, recovered))
}

/// Puts a file into the folder.
fn place(folder: &MemoryFolder, name: &str, content: &[u8]) {
    folder.attach().create(name, 0).expect("a folder in memory takes it");
    folder.set_content(name, content);
}

/// A refusal says which file is damaged.
fn assert_says_where(error: &Error) {
    assert!(matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::Foreign), "{error}");
    assert!(error.chain().contains(".segment") || error.chain().contains(ASIDE), "{error}");
}

/// What can be compared of a record.
type Plain = (Key, Option<(Entry, String)>, Option<Delete>, bool);

fn plain(record: &JournalRecord) -> Plain {
    let (entry, delete) = match &record.action {
        Action::Put(put) => {
            let entry = stamp().entry(put);
            // An entry's equality leaves the note out.
            let note = format!("{:?}", entry.metadata().note);
            (Some((entry, note)), None)
        }
        Action::Delete(delete) => (None, Some(delete.clone())),
    };
    (record.key.clone(), entry, delete, record.continues)
}

fn plain_all(records: &[(u64, JournalRecord)]) -> Vec<(u64, Plain)> {
    records.iter().map(|(sequence, record)| (*sequence, plain(record))).collect()
}

/// Gives complete puts nothing, and the others what makes them complete.
fn stamp() -> Stamp {
    let clock = Arc::new(ManualClock::new(Timestamp::from_millis(1)));
    Stamp::new(clock, Arc::new(VersionMint::seeded(1)))
}

/// What can be compared of what is set aside: reasons with their records, and what was dropped.
type PlainAside = (Vec<(ParkReason, Vec<(u64, Plain)>)>, Vec<u64>);

fn plain_aside(aside: &Aside) -> PlainAside {
    let parked = aside.parked.iter().map(|parked| (parked.reason.clone(), plain_all(&parked.records)));
    (parked.collect(), aside.dropped.clone())
}

/// Any segment that begins with `first`.
fn segment(first: u64, content: &[u8]) {
    let folder = MemoryFolder::new();
    place(&folder, &image::name(first), content);
    match allocation::bounded(RESERVE + content.len() * allocation::FACTOR, || recover(&folder)) {
        Ok((journal, recovered)) => {
            let good = image::groups(content);
            for (sequence, _) in &recovered.records {
                let holds = good.iter().any(|group| (group.first..group.next).contains(sequence));
                assert!(holds, "record {sequence} is of no group whose checksum holds");
            }
            goes_on(&folder, journal, &recovered);
        }
        Err(error) => assert_says_where(&error),
    }
}

/// Any file of what is set aside.
fn aside(content: &[u8]) {
    let folder = MemoryFolder::new();
    place(&folder, &image::name(1), &image::header(1, BACKEND));
    place(&folder, ASIDE, content);
    match allocation::bounded(RESERVE + content.len() * allocation::FACTOR, || recover(&folder)) {
        Ok((journal, mut recovered)) => {
            // Both formats are read; their checksums are the same.
            let good = image::aside(&content[24.min(content.len())..]);
            assert_eq!(good.get(4..), content.get(4..), "its checksum holds");
            for parked in &mut recovered.aside.parked {
                assert!(!parked.records.is_empty(), "what is parked is of no records");
                // Longer reasons are cut when they are written.
                if let ParkReason::Refused(text) = &mut parked.reason {
                    text.truncate(text.floor_char_boundary(1024));
                }
            }
            now(journal.set_aside(&recovered.aside)).expect("a folder in memory takes it");
            goes_on(&folder, journal, &recovered);
        }
        Err(error) => {
            assert_says_where(&error);
        }
    }
}

/// What is appended to a journal that was recovered is recovered behind what was, and what is aside stays there.
fn goes_on(folder: &MemoryFolder, journal: FileJournal, before: &Recovered) {
    let put = tiered_core::adapter::verbatim(&stamp().entry(&Put::new("more")));
    let key = Key::new("more").expect("a key");
    let more = [JournalRecord::new(key.clone(), put).continued(), JournalRecord::new(key, Delete::new())];
    let first = now(journal.append(&more)).expect("a folder in memory takes it");
    drop(journal);
    let (journal, after) = recover(folder).expect("what was recovered is recovered again");
    let mut expected = plain_all(&before.records);
    expected.extend((first..).zip(more.iter().map(plain)));
    assert_eq!(plain_all(&after.records), expected);
    assert_eq!(plain_aside(&after.aside), plain_aside(&before.aside));
    assert_eq!(journal.report().expect("recovered").cut_bytes, 0, "the damage was cut off");
}
