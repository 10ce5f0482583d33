//! The shop as a process that is killed, and opened again.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use service::{Config, ServiceError, Shop};

fn start(folder: &Path) -> Child {
    Command::new(env!("CARGO_BIN_EXE_service"))
        .arg(folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("starts")
}

/// Hands orders over from `first` on without waiting, and kills the process after `answered` answers. Returns the orders
/// that were answered.
fn kill_after(folder: &Path, first: u32, answered: usize) -> Vec<u32> {
    let mut child = start(folder);
    let mut input = child.stdin.take().expect("piped");
    let writer = std::thread::spawn(move || {
        for number in first..first + 10_000 {
            // The process is gone.
            if writeln!(input, "{number}").is_err() {
                return;
            }
        }
    });
    let mut placed = Vec::new();
    let answers = BufReader::new(child.stdout.take().expect("piped")).lines();
    for line in answers.map_while(Result::ok) {
        placed.push(line.trim_start_matches("placed ").parse().expect("a number"));
        if placed.len() == answered {
            child.kill().expect("killed");
        }
    }
    let status = child.wait().expect("ended");
    assert!(!status.success(), "it was killed, and did not end by itself");
    writer.join().expect("ended");
    placed
}

#[tokio::test]
async fn answered_requests_survive_kills() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut answered = Vec::new();
    for round in 0..4_u32 {
        let first = round * 100_000;
        answered.extend(kill_after(folder.path(), first, 10 + 25 * round as usize));
        let shop = Shop::open(&Config::new(folder.path())).await.expect("opens, and recovers");
        let found = shop.orders_of("ada").await.expect("lists");
        for number in &answered {
            assert!(found.contains(number), "order {number} was answered, and is lost");
        }
        shop.shut_down().await.expect("closes");
    }
}

#[test]
fn a_terminated_process_flushes_before_it_exits() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut child = start(folder.path());
    let mut input = child.stdin.take().expect("piped");
    for number in 0..100 {
        writeln!(input, "{number}").expect("it listens");
    }
    drop(input);
    let output = child.wait_with_output().expect("ends");
    assert!(output.status.success());
    assert_eq!(output.stdout.lines().count(), 100);
    // Everything is in the database: it waits for no journal.
    std::fs::remove_dir_all(folder.path().join("journal")).expect("removed");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("builds");
    runtime.block_on(async {
        let shop = Shop::open(&Config::new(folder.path())).await.expect("opens");
        assert_eq!(shop.orders_of("ada").await.expect("lists").len(), 100);
        shop.shut_down().await.expect("closes");
    });
}

#[tokio::test]
async fn a_missing_journal_is_detected_and_can_be_abandoned_by_name() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = Config::new(folder.path());
    let answered = kill_after(folder.path(), 0, 50);
    let (journal, away) = (folder.path().join("journal"), folder.path().join("journal-on-a-lost-disk"));
    std::fs::rename(&journal, &away).expect("moved");
    let refused = Shop::open(&config).await.expect_err("its journal is missing");
    let ServiceError::JournalMissing(ids) = refused else { panic!("{refused}") };
    assert_eq!(ids.len(), 1);
    assert!(!journal.exists(), "a refused opening leaves no new journal behind");
    // The disk turns up: nothing is lost.
    std::fs::rename(&away, &journal).expect("moved back");
    let shop = Shop::open(&config).await.expect("opens");
    let found = shop.orders_of("ada").await.expect("lists");
    assert!(answered.iter().all(|number| found.contains(number)));
    shop.shut_down().await.expect("closes");
    // Killed again, and this time a person decides to go on without the journal.
    kill_after(folder.path(), 100_000, 50);
    std::fs::remove_dir_all(&journal).expect("lost");
    let refused = Shop::open(&config).await.expect_err("its journal is missing");
    let ServiceError::JournalMissing(ids) = refused else { panic!("{refused}") };
    config.give_up(&ids).await.expect("abandoned");
    let shop = Shop::open(&config).await.expect("opens");
    let found = shop.orders_of("ada").await.expect("lists");
    assert!(answered.iter().all(|number| found.contains(number)), "what was flushed before is there");
    shop.shut_down().await.expect("closes");
}
