//! Whose files these are: a folder of others is refused untouched, and theirs in a folder of ours stay.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};

use futures_util::FutureExt as _;
use tiered_core::adapter::journal::{Aside, Journal as _};
use tiered_core::{ErrorKind, ParkReason, Parked};
use tiered_journal::{JournalConfig, Report};

use crate::{BACKEND, put};

/// Every file of a folder with its bytes.
fn snapshot(folder: &Path) -> BTreeMap<PathBuf, Option<Vec<u8>>> {
    let entries = fs::read_dir(folder).expect("reads").map(|entry| entry.expect("an entry").path());
    entries.map(|path| (path.clone(), fs::read(&path).ok())).collect()
}

async fn open(path: &Path) -> tiered_core::Result<tiered_journal::FileJournal> {
    JournalConfig::new(path).segment_size(64 << 10).open().await
}

/// A journal with one record and one that is parked, closed.
async fn make(path: &Path) {
    let journal = open(path).await.expect("opens");
    journal.recover(BACKEND).await.expect("new");
    let refused = put("refused", "v");
    let first = journal.append(&[refused.clone(), put("k", "v")]).await.expect("appends");
    let parked = Parked::new(vec![(first, refused)], ParkReason::Refused("too large".to_owned()));
    journal.set_aside(&Aside::new(vec![parked], Vec::new())).await.expect("parks");
    journal.close().await.expect("closes");
}

#[tokio::test]
async fn a_folder_with_other_files_is_refused_and_unchanged() {
    let folder = tempfile::tempdir().expect("a folder");
    let long = "0000000000000001.segment";
    let names = ["thesis.new", "reserve", "aside", "aside.new", "lock", long, "0000000000000001.segment.new"];
    let more = [".hidden", "users.segment", "a folder"];
    for (index, name) in names.into_iter().chain(more).enumerate() {
        let path = folder.path().join(index.to_string());
        fs::create_dir(&path).expect("made");
        match name {
            "a folder" => fs::create_dir(path.join(name)).expect("made"),
            name => fs::write(path.join(name), "mine").expect("written"),
        }
        refuse(&path, name).await;
    }
    let path = folder.path().join("not-utf-8");
    fs::create_dir(&path).expect("made");
    fs::write(path.join(OsString::from_vec(vec![b'a', 0xff])), "mine").expect("written");
    refuse(&path, "a").await;
    // Empty files of others are theirs too.
    let path = folder.path().join("empty");
    fs::create_dir(&path).expect("made");
    fs::write(path.join("lock"), "").expect("written");
    fs::write(path.join("thesis.new"), "").expect("written");
    refuse(&path, "thesis.new").await;
}

async fn refuse(path: &Path, name: &str) {
    let before = snapshot(path);
    let error = open(path).await.expect_err(name);
    assert_eq!(error.kind(), ErrorKind::Foreign, "{name}: {}", error.chain());
    assert!(error.to_string().contains(name), "{name}: {error}");
    let error = Report::read(path).expect_err(name);
    assert_eq!(error.kind(), ErrorKind::Foreign, "{name}: {}", error.chain());
    assert_eq!(snapshot(path), before, "{name}");
}

#[tokio::test]
async fn other_files_in_a_journal_folder_are_kept() {
    let folder = tempfile::tempdir().expect("a folder");
    make(folder.path()).await;
    let others = ["thesis.new", "notes.txt", "1.segment", "reserve.new", "0000000000000001.segment.new.new"];
    for name in others {
        fs::write(folder.path().join(name), name).expect("written");
    }
    fs::write(folder.path().join("reserve"), "a wildlife reserve").expect("written");
    let journal = open(folder.path()).await.expect("opens");
    let recovered = journal.recover(BACKEND).await.expect("recovers");
    assert_eq!((recovered.records.len(), recovered.aside.parked.len()), (2, 1));
    journal.close().await.expect("closes");
    for name in others {
        assert_eq!(fs::read_to_string(folder.path().join(name)).expect(name), name);
    }
    assert_eq!(fs::read_to_string(folder.path().join("reserve")).expect("there"), "a wildlife reserve");
}

#[tokio::test]
async fn another_programs_file_under_a_name_the_journal_needs_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    for (index, name) in ["aside.new", "0000000000000009.segment.new"].into_iter().enumerate() {
        let path = folder.path().join(index.to_string());
        make(&path).await;
        fs::write(path.join(name), "mine").expect("written");
        let before = snapshot(&path);
        let journal = open(&path).await.expect("the folder is a journal");
        let error = journal.recover(BACKEND).await.expect_err(name);
        assert_eq!(error.kind(), ErrorKind::Foreign, "{name}: {}", error.chain());
        assert!(error.to_string().contains(name) && error.to_string().contains("move it away"), "{error}");
        assert_eq!(snapshot(&path), before, "{name}");
    }
}

#[tokio::test]
async fn unfinished_journal_files_are_removed() {
    let folder = tempfile::tempdir().expect("a folder");
    make(folder.path()).await;
    let segment = fs::read(folder.path().join("0000000000000001.segment")).expect("reads");
    let aside = fs::read(folder.path().join("aside")).expect("reads");
    let unfinished = [
        ("aside.new", aside[..9].to_vec()),
        ("0000000000000007.segment.new", vec![0; 70_000]),
        ("0000000000000008.segment.new", Vec::new()),
        ("0000000000000009.segment.new", segment[..600].to_vec()),
        ("reserve", vec![0; 100]),
    ];
    for (name, content) in &unfinished {
        fs::write(folder.path().join(name), content).expect("written");
    }
    let journal = open(folder.path()).await.expect("opens");
    assert_eq!(journal.recover(BACKEND).await.expect("recovers").records.len(), 2);
    for (name, _) in unfinished.iter().take(4) {
        assert!(!folder.path().join(name).exists(), "{name}");
    }
    assert_eq!(fs::metadata(folder.path().join("reserve")).expect("there").len(), 1 << 20);
}

#[tokio::test]
async fn an_empty_restored_or_unfinished_folder_becomes_a_journal() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name);
    // Empty; a fresh file system; one whose making was interrupted; a backup without the lock; one of before.
    for name in ["empty", "mounted", "begun", "restored", "of-before"] {
        fs::create_dir(path(name)).expect("made");
    }
    fs::create_dir(path("mounted/lost+found")).expect("made");
    fs::write(path("begun/lock"), "").expect("written");
    for name in ["restored", "of-before"] {
        make(&path("whole")).await;
        for file in ["0000000000000001.segment", "aside", "reserve"] {
            fs::copy(path("whole").join(file), path(name).join(file)).expect("copied");
        }
        fs::remove_dir_all(path("whole")).expect("removed");
    }
    fs::write(path("of-before/lock"), "").expect("written");
    for name in ["empty", "mounted", "begun", "restored", "of-before"] {
        make_or_go_on(&path(name)).await;
    }
}

async fn make_or_go_on(path: &Path) {
    let journal = open(path).await.expect("opens");
    journal.recover(BACKEND).await.expect("recovers");
    journal.append(&[put("k", "v")]).await.expect("appends");
    journal.close().await.expect("closes");
    assert!(Report::read(path).expect("reads").0.waiting >= 1);
}

#[tokio::test]
async fn a_dropped_journal_can_be_reopened_immediately() {
    let folder = tempfile::tempdir().expect("a folder");
    for round in 0..20 {
        let journal = open(folder.path()).await.unwrap_or_else(|error| panic!("{round}: {}", error.chain()));
        journal.recover(BACKEND).await.expect("recovers");
        // Begun, and left alone.
        assert!(journal.append(&[put("k", vec![7; 1 << 20])]).now_or_never().is_none());
        drop(journal);
    }
}

#[test]
fn opening_a_journal_without_a_runtime_is_an_error() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("journal");
    let opened = JournalConfig::new(&path).open().now_or_never().expect("answers at once");
    let error = opened.expect_err("no runtime");
    assert_eq!(error.kind(), ErrorKind::Config, "{}", error.chain());
    assert!(!path.exists());
}
