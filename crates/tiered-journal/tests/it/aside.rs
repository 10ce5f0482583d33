//! The list of what is set aside, and the reserve for it: damaged, cut, ahead of the log, and without room.

use tiered_core::adapter::journal::{Aside, Journal as _, JournalRecord, Sequence};
use tiered_core::{Durability, ErrorKind, ParkReason, Parked};
use tiered_journal::{FileJournal, JournalConfig, MemoryFolder};

use crate::{BACKEND, assert_same, batch, delete, plain, put};

const RESERVE: usize = 1 << 20;

fn open(folder: &MemoryFolder) -> FileJournal {
    JournalConfig::new("").segment_size(64 << 10).open_in(folder.attach()).expect("opens")
}

fn parked(first: Sequence, records: &[JournalRecord]) -> Parked {
    let records = (first..).zip(records.iter().cloned()).collect();
    Parked::new(records, ParkReason::Refused("too large".to_owned()))
}

/// A list with a batch, a single write and dropped sequences, beside the log that it belongs to.
async fn listed() -> (MemoryFolder, Vec<Vec<JournalRecord>>) {
    let folder = MemoryFolder::new();
    let journal = open(&folder);
    journal.recover(BACKEND).await.expect("new");
    let units =
        vec![batch(vec![put("a", vec![1; 200]), delete("b"), put("c", "3")]), vec![put("d", vec![2; 300])]];
    let mut aside = Aside::default();
    for unit in &units {
        let first = journal.append(unit).await.expect("appends");
        aside.parked.push(parked(first, unit));
    }
    aside.dropped.push(journal.append(&[put("dropped", "x")]).await.expect("appends"));
    journal.set_aside(&aside).await.expect("is set aside");
    (folder, units)
}

async fn recovered(folder: &MemoryFolder) -> Result<Aside, (ErrorKind, String)> {
    let recovered = open(folder).recover(BACKEND).await;
    recovered.map(|recovered| recovered.aside).map_err(|error| (error.kind(), error.to_string()))
}

#[tokio::test]
async fn every_flipped_bit_and_every_truncation_of_the_parked_list_is_detected() {
    let (folder, units) = listed().await;
    let whole = recovered(&folder).await.expect("whole");
    assert_eq!((whole.parked.len(), whole.dropped.as_slice()), (2, [5].as_slice()));
    assert_same(&whole.parked[0].records, 1, &units[0]);
    assert_same(&whole.parked[1].records, 4, &units[1]);
    let good = folder.content("aside").expect("a list");
    let noticed = |error: (ErrorKind, String), what: &str| {
        assert_eq!(error.0, ErrorKind::Corrupt, "{what}");
        assert!(error.1.contains("parked writes"), "{what}: {}", error.1);
    };
    for bit in 0..good.len() * 8 {
        let mut bad = good.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        folder.set_content("aside", &bad);
        noticed(recovered(&folder).await.expect_err("damaged"), &format!("bit {bit}"));
    }
    for cut in 0..good.len() {
        folder.set_content("aside", &good[..cut]);
        noticed(recovered(&folder).await.expect_err("cut"), &format!("cut at {cut}"));
    }
    let mut longer = good.clone();
    longer.push(0);
    folder.set_content("aside", &longer);
    noticed(recovered(&folder).await.expect_err("too long"), "a byte more");
    folder.set_content("aside", &good);
    assert_eq!(recovered(&folder).await.expect("whole again").parked.len(), 2);
}

/// Every bit of the reserve may be anything: it is never read.
#[tokio::test]
async fn a_damaged_reserve_is_harmless_and_a_short_one_is_made_again() {
    let (folder, _) = listed().await;
    assert_eq!(folder.content("reserve").expect("taken").len(), RESERVE);
    folder.set_content("reserve", &vec![0xFF; RESERVE]);
    recovered(&folder).await.expect("recovers");
    // As a process leaves it that is killed while it takes the space.
    for left in [0, 4096] {
        folder.set_content("reserve", &vec![0; left]);
        recovered(&folder).await.expect("recovers");
        assert_eq!(folder.content("reserve").expect("taken").len(), RESERVE, "{left} bytes were left");
    }
}

/// Where appends are not synced, the list must not outlive the records that it names: their sequences are used again.
#[tokio::test]
async fn after_a_loss_of_power_a_drop_applies_to_no_other_write() {
    let folder = MemoryFolder::new();
    let unsynced = || {
        let config = JournalConfig::new("").segment_size(64 << 10).durability(Durability::ProcessKill);
        config.open_in(folder.attach()).expect("opens")
    };
    let journal = unsynced();
    journal.recover(BACKEND).await.expect("new");
    let first = journal.append(&[put("refused", "x")]).await.expect("appends");
    journal.set_aside(&Aside::new(Vec::new(), vec![first])).await.expect("is set aside");
    drop(journal);
    folder.crash(|| false);
    let journal = unsynced();
    journal.recover(BACKEND).await.expect("recovers");
    let record = put("k", "v");
    let sequence = journal.append(std::slice::from_ref(&record)).await.expect("appends");
    drop(journal);
    let recovered = unsynced().recover(BACKEND).await.expect("recovers");
    let found = recovered.records.iter().find(|(found, _)| *found == sequence).expect("acknowledged");
    assert_eq!(plain(&found.1), plain(&record));
    assert!(!recovered.aside.dropped.contains(&sequence), "the acknowledged write counts as dropped");
}

/// No room at every write of the list: the one before stays, and with the reserve there is room once.
#[tokio::test]
async fn the_parked_list_is_replaced_or_kept_whichever_disk_call_fails() {
    for failing in 0..24 {
        let (folder, units) = listed().await;
        let journal = open(&folder);
        journal.recover(BACKEND).await.expect("recovers");
        let mut left = failing;
        folder.set_faults(move |_| {
            left -= 1;
            (left == -1).then_some(std::io::ErrorKind::StorageFull)
        });
        let next = Aside::new(vec![parked(4, &units[1])], vec![1, 2, 3]);
        let stored = journal.set_aside(&next).await;
        folder.heal();
        drop(journal);
        let found = recovered(&folder).await.expect("one of both lists").parked.len();
        assert!(if stored.is_ok() { found == 1 } else { found == 1 || found == 2 }, "{failing}: {found}");
    }
}
