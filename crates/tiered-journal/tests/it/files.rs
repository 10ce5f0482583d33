//! The journal on real files.

use std::path::Path;

use tiered_core::adapter::journal::{Aside, Journal as _};
use tiered_core::{Durability, ErrorKind, Outcome, ParkReason, Parked};
use tiered_journal::{FileJournal, JournalConfig, Report};

use crate::{BACKEND, assert_same, delete, put};

async fn open(path: &Path) -> FileJournal {
    JournalConfig::new(path).segment_size(64 << 10).open().await.expect("opens")
}

fn segments(path: &Path) -> usize {
    let names = std::fs::read_dir(path).expect("a folder").map(|entry| entry.expect("an entry").file_name());
    names.filter(|name| name.to_string_lossy().ends_with(".segment")).count()
}

#[tokio::test]
async fn appended_records_are_recovered() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut batch = vec![put("a", "1"), delete("b"), put("c", vec![3; 5000])];
    batch[0].continues = true;
    batch[1].continues = true;
    let single = put("a", "");
    let journal = open(folder.path()).await;
    assert_eq!(journal.durability(), Durability::PowerLoss);
    assert!(journal.recover(BACKEND).await.expect("new").records.is_empty());
    assert_eq!(journal.append(&batch).await.expect("appends"), 1);
    assert_eq!(journal.append(std::slice::from_ref(&single)).await.expect("appends"), 4);
    // Without a close: as after a crash.
    drop(journal);
    let journal = open(folder.path()).await;
    let recovered = journal.recover(BACKEND).await.expect("recovers");
    assert_same(&recovered.records, 1, &[batch, vec![single.clone()]].concat());
    journal.trim(2).await.expect("trims");
    assert_eq!(journal.append(&[delete("d")]).await.expect("appends"), 5);
    journal.close().await.expect("closes");
    let journal = open(folder.path()).await;
    let recovered = journal.recover(BACKEND).await.expect("recovers");
    assert_eq!(
        recovered.records.first().map(|(sequence, _)| *sequence),
        Some(3),
        "trimmed records are removed"
    );
    assert_eq!(recovered.records.len(), 3);
    journal.trim(5).await.expect("trims");
    journal.close().await.expect("closes");
    let journal = open(folder.path()).await;
    assert!(journal.recover(BACKEND).await.expect("recovers").records.is_empty());
    assert_eq!(journal.append(&[single]).await.expect("appends"), 6, "sequences are not used again");
}

#[tokio::test]
async fn trimming_removes_segments_that_are_no_longer_needed() {
    let folder = tempfile::tempdir().expect("a folder");
    let journal = open(folder.path()).await;
    journal.recover(BACKEND).await.expect("new");
    let record = put("k", vec![7; 10 << 10]);
    let mut last = 0;
    for _ in 0..40 {
        last = journal.append(std::slice::from_ref(&record)).await.expect("appends");
    }
    assert!(segments(folder.path()) >= 6);
    journal.trim(last).await.expect("trims");
    assert_eq!(segments(folder.path()), 1);
    // A group larger than a segment has one of its own.
    let large = put("large", vec![1; 1 << 20]);
    let first = journal.append(std::slice::from_ref(&large)).await.expect("appends");
    drop(journal);
    let journal = open(folder.path()).await;
    let recovered = journal.recover(BACKEND).await.expect("recovers");
    let from_large: Vec<_> =
        recovered.records.into_iter().filter(|(sequence, _)| *sequence >= first).collect();
    assert_same(&from_large, first, &[large]);
}

#[tokio::test]
async fn a_journal_belongs_to_one_backend_and_one_handle() {
    let folder = tempfile::tempdir().expect("a folder");
    let journal = open(folder.path()).await;
    journal.recover(BACKEND).await.expect("new");
    journal.append(&[put("k", "v")]).await.expect("appends");
    let error = JournalConfig::new(folder.path()).open().await.expect_err("held");
    assert_eq!(error.kind(), ErrorKind::Locked, "{error}");
    journal.close().await.expect("closes");
    let error = journal.append(&[put("k", "v")]).await.expect_err("closed");
    assert_eq!((error.kind(), error.outcome()), (ErrorKind::Closed, Some(Outcome::NotApplied)));
    let other = open(folder.path()).await;
    let error = other.recover(b"backend-2").await.expect_err("another's");
    assert_eq!(error.kind(), ErrorKind::Config, "{error}");
    assert!(error.to_string().contains("backend-1"), "{error}");
    drop(other);
    // Nothing was lost by the attempt.
    let records = open(folder.path()).await.recover(BACKEND).await.expect("recovers").records;
    assert_eq!(records.len(), 1);
}

#[tokio::test]
async fn parked_writes_survive_the_removal_of_their_segment() {
    let folder = tempfile::tempdir().expect("a folder");
    let journal = open(folder.path()).await;
    journal.recover(BACKEND).await.expect("new");
    let refused = put("refused", "v");
    let first = journal.append(std::slice::from_ref(&refused)).await.expect("appends");
    let parked = Parked::new(vec![(first, refused.clone())], ParkReason::Refused("too large".to_owned()));
    let aside = Aside::new(vec![parked], vec![first + 1]);
    journal.set_aside(&aside).await.expect("parks");
    let mut last = journal.append(&[put("dropped", "v"), put("waits", "v")]).await.expect("appends") + 1;
    let (report, _) = Report::read(folder.path()).expect("reads, although it is in use");
    assert_eq!((report.waiting, report.parked), (1, 1));
    for _ in 0..40 {
        last = journal.append(&[put("k", vec![7; 10 << 10])]).await.expect("appends");
    }
    journal.trim(last).await.expect("trims");
    journal.close().await.expect("closes");
    let journal = open(folder.path()).await;
    let recovered = journal.recover(BACKEND).await.expect("recovers");
    assert!(recovered.records.is_empty());
    assert_same(&recovered.aside.parked[0].records, first, &[refused]);
    assert_eq!(recovered.aside.parked[0].reason, ParkReason::Refused("too large".to_owned()));
    assert!(recovered.aside.dropped.is_empty(), "trimmed");
}

#[tokio::test]
async fn wrong_settings_and_places_say_what_to_do() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("file");
    std::fs::write(&file, "x").expect("writes");
    let open = |config: JournalConfig| async move { config.open().await.expect_err("refused") };
    let small = JournalConfig::new(folder.path()).segment_size(100);
    assert_eq!(open(small).await.kind(), ErrorKind::Config);
    let volatile = JournalConfig::new(folder.path()).durability(Durability::Volatile);
    assert_eq!(open(volatile).await.kind(), ErrorKind::Config);
    let error = open(JournalConfig::new(&file)).await;
    assert!(error.to_string().contains("file"), "{error}");
    let journal = JournalConfig::new(folder.path().join("new")).open().await.expect("is made");
    let error = journal.append(&[put("k", "v")]).await.expect_err("not recovered");
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    let too_long = journal.recover(&[b'x'; 300]).await.expect_err("too long");
    assert_eq!(too_long.kind(), ErrorKind::Config);
}
