//! A journal that is looked for and destroyed.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::path::Path;

use tiered_core::adapter::journal::Journal as _;
use tiered_core::adapter::opening::Before;
use tiered_core::{ErrorKind, Unflushed};
use tiered_journal::{JournalConfig, Report};

use crate::{BACKEND, put};

/// A closed journal that holds so many records.
async fn fill(path: &Path, records: u64) {
    let journal = JournalConfig::new(path).open().await.expect("opens");
    journal.recover(BACKEND).await.expect("recovers");
    for number in 0..records {
        journal.append(&[put(&format!("k{number}"), "v")]).await.expect("appended");
    }
    drop(journal);
}

async fn destroy(path: &Path, unflushed: Unflushed) -> Result<(), ErrorKind> {
    JournalConfig::new(path).destroy(unflushed).await.map_err(|error| error.kind())
}

#[tokio::test]
async fn a_journal_without_writes_is_destroyed_with_its_folder() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("journal");
    assert_eq!(destroy(&path, Unflushed::Refuse).await, Err(ErrorKind::NotFound));
    fill(&path, 0).await;
    assert!(JournalConfig::new(&path).exists().await.expect("tells"));
    assert_eq!(destroy(&path, Unflushed::Refuse).await, Ok(()));
    assert!(!path.exists());
}

#[tokio::test]
async fn acknowledged_writes_are_discarded_only_when_asked() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("journal");
    fill(&path, 3).await;
    assert_eq!(destroy(&path, Unflushed::Refuse).await, Err(ErrorKind::Locked));
    assert_eq!(Report::read(&path).expect("reads").0.waiting, 3, "nothing was touched");
    assert_eq!(destroy(&path, Unflushed::Discard).await, Ok(()));
    assert!(!path.exists());
}

#[tokio::test]
async fn files_of_others_stay_and_so_does_their_folder() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("journal");
    fill(&path, 1).await;
    for name in ["notes.txt", "0.segment", "removing.txt"] {
        fs::write(path.join(name), name).expect("written");
    }
    assert_eq!(destroy(&path, Unflushed::Discard).await, Ok(()));
    let mut left: Vec<_> =
        fs::read_dir(&path).expect("reads").map(|entry| entry.expect("an entry").file_name()).collect();
    left.sort();
    assert_eq!(left, ["0.segment", "notes.txt", "removing.txt"]);
    let other = folder.path().join("other");
    fs::create_dir(&other).expect("made");
    fs::write(other.join("notes.txt"), "notes").expect("written");
    assert_eq!(destroy(&other, Unflushed::Discard).await, Err(ErrorKind::Foreign));
    assert!(other.join("notes.txt").exists());
}

#[tokio::test]
async fn an_open_journal_is_not_destroyed() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("journal");
    let journal = JournalConfig::new(&path).open().await.expect("opens");
    assert_eq!(destroy(&path, Unflushed::Discard).await, Err(ErrorKind::Locked));
    drop(journal);
    assert_eq!(destroy(&path, Unflushed::Discard).await, Ok(()));
}

#[tokio::test]
async fn an_interrupted_removal_is_not_opened_and_is_finished() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("journal");
    // As a killed process leaves it, with ever fewer files.
    for gone in 0..3 {
        fill(&path, 2).await;
        let text: &[u8] = b"The write-behind journal in this folder is being removed.\n";
        fs::write(path.join("removing"), text).expect("written");
        let mut names: Vec<_> =
            fs::read_dir(&path).expect("reads").map(|entry| entry.expect("an entry").file_name()).collect();
        names.sort();
        for name in names.iter().filter(|name| *name != "lock" && *name != "removing").take(gone) {
            fs::remove_file(path.join(name)).expect("removed");
        }
        assert!(JournalConfig::new(&path).exists().await.expect("tells"));
        let error = JournalConfig::new(&path).open().await.expect_err("refused");
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{}", error.chain());
        assert!(error.to_string().contains("destroy it again"), "{error}");
        assert_eq!(Report::read(&path).expect_err("refused").kind(), ErrorKind::Corrupt);
        // What was discarded before is not asked for again.
        assert_eq!(destroy(&path, Unflushed::Refuse).await, Ok(()));
        assert!(!path.exists());
    }
}

#[tokio::test]
async fn a_file_of_another_that_has_a_name_of_ours_stops_a_removal_before_it_begins() {
    for foreign in ["removing", "aside.new", "0000000000000007.segment.new"] {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("journal");
        fill(&path, 0).await;
        fs::write(path.join(foreign), "of others").expect("written");
        let before = contents(&path);
        assert_eq!(destroy(&path, Unflushed::Discard).await, Err(ErrorKind::Foreign), "{foreign}");
        assert_eq!(contents(&path), before, "{foreign}: nothing was touched");
        fs::remove_file(path.join(foreign)).expect("moved away");
        assert_eq!(destroy(&path, Unflushed::Discard).await, Ok(()), "{foreign}");
    }
}

fn contents(path: &Path) -> BTreeMap<OsString, Vec<u8>> {
    let entries = fs::read_dir(path).expect("reads").map(|entry| entry.expect("an entry"));
    entries.map(|entry| (entry.file_name(), fs::read(entry.path()).expect("reads"))).collect()
}

#[tokio::test]
async fn a_journal_that_holds_nothing_is_taken_back_and_a_prepared_folder_stays() {
    for (records, taken) in [(0, true), (1, false)] {
        for before in [Before::Absent, Before::Empty] {
            let folder = tempfile::tempdir().expect("a folder");
            let path = folder.path().join("journal");
            if before == Before::Empty {
                fs::create_dir(&path).expect("prepared");
            }
            fill(&path, records).await;
            let gone = JournalConfig::new(&path).take_back(before).await.expect("no error");
            assert_eq!(gone, taken, "{records} records");
            match (taken, before) {
                (true, Before::Absent) => assert!(!path.exists()),
                (true, Before::Empty) => assert!(contents(&path).is_empty()),
                (false, _) => assert_eq!(Report::read(&path).expect("reads").0.waiting, 1),
            }
        }
    }
}
