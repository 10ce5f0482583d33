//! The journal on a disk that is full, fails, or loses power.

use std::io;

use tiered_conformance::Dice;
use tiered_core::adapter::journal::{Aside, Journal as _, JournalRecord, Sequence};
use tiered_core::{Durability, ErrorKind, Outcome, ParkReason, Parked};
use tiered_journal::{FileJournal, JournalConfig, MemoryFolder};

use crate::{BACKEND, delete, plain, put};

fn open(folder: &MemoryFolder) -> FileJournal {
    JournalConfig::new("").segment_size(64 << 10).open_in(folder.attach()).expect("opens")
}

#[tokio::test]
async fn a_full_disk_refuses_appends_and_still_records_parked_writes() {
    let folder = MemoryFolder::new();
    let journal = open(&folder);
    journal.recover(BACKEND).await.expect("new");
    let record = put("k", vec![7; 10 << 10]);
    let first = journal.append(std::slice::from_ref(&record)).await.expect("appends");
    folder.leave_free(0);
    // The segment's space is taken already.
    let mut last = first;
    let error = loop {
        match journal.append(std::slice::from_ref(&record)).await {
            Ok(sequence) => last = sequence,
            Err(error) => break error,
        }
    };
    assert!(last >= first + 4, "{last}");
    assert_eq!((error.kind(), error.outcome()), (ErrorKind::Full, Some(Outcome::NotApplied)), "{error}");
    let parked = Parked::new(vec![(first, record.clone())], ParkReason::Refused("refused".to_owned()));
    journal.set_aside(&Aside::new(vec![parked], Vec::new())).await.expect("the reserve is for that");
    // Draining makes room.
    journal.trim(last).await.expect("trims");
    folder.heal();
    assert_eq!(journal.append(&[delete("k")]).await.expect("appends again"), last + 1);
}

/// Every call of the disk fails once, in turn: with any error, and with one of a full disk.
#[tokio::test]
async fn a_failure_of_each_disk_call_has_the_documented_outcome() {
    let (mut unknown, mut full) = (0, 0);
    let reasons = [io::ErrorKind::Other, io::ErrorKind::StorageFull];
    for (failing, reason) in (0..60).flat_map(|failing| reasons.map(|reason| (failing, reason))) {
        let folder = MemoryFolder::new();
        let journal = open(&folder);
        let mut left = failing;
        folder.set_faults(move |_| {
            left -= 1;
            (left == -1).then_some(reason)
        });
        let Ok(recovered) = journal.recover(BACKEND).await else { continue };
        assert!(recovered.records.is_empty());
        let mut acknowledged: Vec<(Sequence, JournalRecord)> = Vec::new();
        let mut unclear: Vec<String> = Vec::new();
        let mut poisoned = false;
        for index in 0..14 {
            let record = put(&format!("k{index}"), vec![7; 10 << 10]);
            match journal.append(std::slice::from_ref(&record)).await {
                Ok(sequence) => {
                    assert!(!poisoned, "nothing is accepted after a failed append");
                    acknowledged.push((sequence, record));
                }
                // Refused before anything was written, and only for now.
                Err(error)
                    if error.kind() == ErrorKind::Full
                        && error.outcome() == Some(Outcome::NotApplied)
                        && !poisoned =>
                {
                    full += 1;
                }
                Err(error) => {
                    assert_eq!(
                        poisoned,
                        unclear.len() == 1 || error.outcome() == Some(Outcome::NotApplied) && poisoned
                    );
                    if error.outcome() == Some(Outcome::Unknown) {
                        assert!(!poisoned, "at most one append is unclear");
                        unclear.push(record.key.as_str().to_owned());
                        unknown += 1;
                    }
                    poisoned = true;
                }
            }
            if index == 7 {
                // What is not forgotten now is forgotten later.
                journal.trim(acknowledged.first().map_or(0, |(sequence, _)| *sequence)).await.ok();
            }
        }
        folder.heal();
        drop(journal);
        let journal = open(&folder);
        let recovered = journal.recover(BACKEND).await.expect("recovers").records;
        for (sequence, record) in acknowledged.iter().skip(8) {
            let found = recovered.iter().find(|(found, _)| found == sequence).expect("acknowledged");
            assert_eq!(plain(&found.1), plain(record), "{failing}");
        }
        for (_, record) in &recovered {
            let name = record.key.as_str();
            let known = acknowledged.iter().any(|(_, record)| record.key.as_str() == name);
            assert!(known || unclear.iter().any(|unclear| unclear == name), "{failing}: {name}");
        }
    }
    assert!(unknown >= 20 && full >= 1, "{unknown}, {full}");
}

/// Power is lost again and again, also while the journal is opened.
#[tokio::test]
async fn acknowledged_writes_survive_a_loss_of_power() {
    let (mut crashes, mut cut) = (0, 0);
    for seed in 0..400 {
        let mut dice = Dice::new(seed);
        let folder = MemoryFolder::new();
        // Acknowledged and not trimmed; then at most one that is unclear.
        let mut sure: Vec<(Sequence, JournalRecord)> = Vec::new();
        let mut unclear: Vec<JournalRecord> = Vec::new();
        for _ in 0..6 {
            let journal = open(&folder);
            let crash_after = dice.below(60);
            let mut left = crash_after;
            folder.set_faults(move |_| {
                left = left.saturating_sub(1);
                (left == 0).then_some(io::ErrorKind::Other)
            });
            let recovered = journal.recover(BACKEND).await;
            if let Ok(recovered) = recovered {
                for (sequence, record) in &sure {
                    let found = recovered.records.iter().find(|(found, _)| found == sequence);
                    let found = found.unwrap_or_else(|| panic!("seed {seed}: {sequence} was acknowledged"));
                    assert_eq!(plain(&found.1), plain(record), "seed {seed}");
                }
                let extra: Vec<_> = recovered
                    .records
                    .iter()
                    .filter(|(sequence, _)| sure.last().is_some_and(|(last, _)| sequence > last))
                    .collect();
                assert!(extra.len() <= unclear.len(), "seed {seed}");
                // What was found once is there from then on.
                sure = recovered.records;
                unclear.clear();
                cut += u64::from(journal.report().is_some_and(|report| report.cut_bytes > 0));
                while unclear.is_empty() {
                    let count = dice.below(3) + 1;
                    let size = usize::try_from(dice.below(9_000)).expect("small");
                    let group: Vec<JournalRecord> =
                        (0..count).map(|i| put(&format!("k{i}"), vec![1; size])).collect();
                    match journal.append(&group).await {
                        Ok(first) => sure.extend((first..).zip(group)),
                        Err(error) if error.outcome() == Some(Outcome::NotApplied) => break,
                        Err(_) => unclear = group,
                    }
                    if dice.below(4) == 0
                        && let Some((last, _)) = sure.get(sure.len() / 2).cloned()
                    {
                        journal.trim(last).await.ok();
                        sure.retain(|(sequence, _)| *sequence > last);
                    }
                }
            }
            folder.heal();
            drop(journal);
            crashes += 1;
            folder.crash(|| dice.below(2) == 0);
        }
    }
    assert!(crashes == 2_400 && cut > 50, "{crashes} crashes, {cut} torn ends");
}

/// Without syncs of its own a journal syncs a segment when it begins the next one, and before a list. One that failed is
/// the end, also on a full disk: what was not written is forgotten by then, and a second sync would say nothing of it.
#[tokio::test]
async fn a_failed_fsync_is_not_repeated() {
    for (kind, parks) in [
        (io::ErrorKind::Other, false),
        (io::ErrorKind::StorageFull, false),
        (io::ErrorKind::StorageFull, true),
    ] {
        let folder = MemoryFolder::new();
        let config = JournalConfig::new("journal").segment_size(64 << 10).durability(Durability::ProcessKill);
        let journal = config.open_in(folder.attach()).expect("opens");
        journal.recover(BACKEND).await.expect("new");
        let record = put("k", vec![7; 10 << 10]);
        let first = journal.append(std::slice::from_ref(&record)).await.expect("appends");
        let mut failed = false;
        folder.set_faults(move |call| {
            let fails = call == "sync" && !failed;
            failed |= fails;
            fails.then_some(kind)
        });
        if parks {
            let parked =
                Parked::new(vec![(first, record.clone())], ParkReason::Refused("refused".to_owned()));
            let aside = Aside::new(vec![parked], Vec::new());
            journal.set_aside(&aside).await.expect_err("the sync fails");
            journal.set_aside(&aside).await.expect_err("and is not repeated");
        }
        let mut refused = false;
        for _ in 0..30 {
            let appended = journal.append(std::slice::from_ref(&record)).await;
            assert!(!refused || appended.is_err(), "{kind}: accepted after a failed sync");
            refused |= appended.is_err();
        }
        assert!(refused, "{kind}: the segment was synced");
    }
}
