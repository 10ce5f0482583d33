//! A store whose journal holds writes for it, opened alone; and the journal abandoned by name.

use std::sync::Arc;
use std::time::Duration;

use tiered::{Key, MemoryStore, Put, Store as _, TieredStore, WritePolicy};
use tiered_conformance::{Fault, FaultStore, Faults};

use crate::place::Place;

/// A journal in the folder `journal` with one acknowledged write that `back.redb` does not have. Returns its id.
fn unflushed(place: &Place) -> String {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("builds");
    runtime.block_on(async {
        let backend = tiered_redb::RedbConfig::new(place.path("back.redb")).open().await.expect("opens");
        let faults = Arc::new(Faults::new(1).with(Fault::ErrorBefore, 1));
        faults.heal();
        let backend = FaultStore::new("backend", Arc::new(backend), Arc::clone(&faults));
        let journal = tiered::journal::JournalConfig::new(place.path("journal")).open().await.expect("opens");
        let store = TieredStore::builder(MemoryStore::new(), backend)
            .write_policy(WritePolicy::WriteBehind)
            .close_deadline(Duration::ZERO)
            .journal(journal)
            .build()
            .await
            .expect("builds");
        faults.resume();
        store.put(&Key::new("k").expect("valid"), Put::new("acknowledged")).await.expect("journaled");
        store.close().await.expect("closes, and the journal keeps the rest");
    });
    let verified = place.run(&["--journal", "journal", "--json", "journal", "verify"]).ends(0).text();
    let id = verified.split("\"journal\":\"").nth(1).and_then(|rest| rest.split('"').next());
    id.expect("an id").to_owned()
}

#[test]
fn opening_a_backend_without_its_journal_warns() {
    let place = Place::new();
    let back = place.url("back.redb");
    let id = unflushed(&place);
    let other = place.url("other.redb");
    place.put(&other, "k", b"v");
    for arguments in [
        &["--store", &back, "put", "k"][..],
        &["--store", &back, "get", "k"],
        &["--store", &back, "list"],
        &["--store", &back, "head", "k"],
        &["sync", "--from", &other, "--to", &back, "--strategy", "full-sync", "--dry-run"],
        &["sync", "--from", &other, "--to", &back, "--strategy", "full-sync"],
        &["sync", "--from", &back, "--to", &other, "--strategy", "full-sync"],
        &["check", "--from", &back, "--to", &other],
        &["--store", &back, "delete", "k"],
        &["conformance", &back],
    ] {
        place.run(arguments).ends(0).says(&format!("journal abandon {id}"));
    }
    std::fs::write(place.path("one.toml"), format!("url = {back:?}")).expect("written");
    place.run(&["--config", "one.toml", "put", "k"]).ends(0).says(&format!("journal abandon {id}"));
    let quiet = place.run(&["--store", &other, "get", "k"]).ends(0).errors();
    assert_eq!(quiet, "", "a store without a journal needs no warning");
    // A stack without that journal is refused.
    place
        .run(&["--frontend", "moka:", "--backend", &back, "get", "k"])
        .ends(4)
        .says(&format!("the journal {id} holds acknowledged writes"));
}

#[test]
fn journal_list_prints_the_id_and_whether_the_backend_names_it() {
    let place = Place::new();
    let back = place.url("back.redb");
    let id = unflushed(&place);
    let journal = |rest: &[&str]| place.run(&[&["--journal", "journal"], rest].concat()).ends(0);
    let verified = journal(&["journal", "verify"]).text();
    assert!(verified.contains(&format!("journal   {id}\n")), "{verified}");
    assert!(verified.contains("not known; ask with --store"), "{verified}");
    let verified = journal(&["--store", &back, "journal", "verify"]).text();
    assert!(verified.contains("named     the backend names it\n"), "{verified}");
    let verified = journal(&["--store", &back, "--json", "journal", "verify"]).text();
    assert!(verified.contains("\"named_by_backend\":\"yes\""), "{verified}");
    let listed = journal(&["--store", &back, "journal", "list"]);
    assert_eq!(listed.errors(), format!("journal {id}: the backend names it\n"));
    assert_eq!(listed.text(), "1\tput\tk\t12\twaits\n");
    let stack = journal(&["--frontend", "moka:", "--backend", &back, "journal", "list"]);
    assert_eq!(stack.errors(), format!("journal {id}: the backend names it\n"));
    // The lock of a store that is in use is no failure of a look at the journal.
    let absent = journal(&["--store", &place.url("absent.redb"), "journal", "list"]);
    assert!(absent.errors().contains("the backend cannot be asked"), "{}", absent.errors());
}

#[test]
fn a_missing_journal_can_be_abandoned_by_name() {
    let place = Place::new();
    let back = place.url("back.redb");
    let id = unflushed(&place);
    let abandon = |rest: &[&str]| place.run(&[&["--store", &back, "journal", "abandon"], rest].concat());
    let told = abandon(&[&id, "--journal", "journal"]).ends(2).says("1 that wait and 0 that were refused");
    assert_eq!(told.text(), "1\tput\tk\t12\twaits\n");
    abandon(&[&id]).ends(2).says("nothing was changed; add --yes").says("loses every acknowledged write");
    place.run(&["--store", &back, "get", "k"]).ends(1).says(&id);
    abandon(&["00000000000000000000000000000007", "--yes"]).ends(1).says(&format!("it names {id}"));
    abandon(&["00000000000000000000000000000007", "--yes", "--journal", "journal"])
        .ends(2)
        .says(&format!("the journal in that folder is {id}"));
    abandon(&["seven", "--yes"]).ends(2).says("32 hexadecimal digits");
    place.run(&["journal", "abandon", &id, "--yes"]).ends(2).says("--store URL");
    abandon(&[&id, "--yes"]).ends(0).says("no longer waits for the journal");
    abandon(&[&id, "--yes"]).ends(1).says("it names none");
    place.put(&back, "k", b"newer");
    assert_eq!(place.run(&["--store", &back, "get", "k"]).ends(0).errors(), "");
    // Opened again, the journal parks what it holds, and the newer value stays.
    let stack =
        ["--frontend", "moka:", "--backend", &back, "--write-policy", "write-behind", "--journal", "journal"];
    place.run(&[&stack[..], &["flush"]].concat()).ends(4).says("abandoned by name");
    let listed = place.run(&["--journal", "journal", "journal", "list"]).ends(0).text();
    assert!(listed.contains("refused: the journal was abandoned by name"), "{listed}");
    place.run(&[&stack[..], &["journal", "drop", "1"]].concat()).ends(0);
    assert_eq!(place.run(&["--store", &back, "get", "k"]).ends(0).text(), "newer");
    let verified = ["--journal", "journal", "--store", &back, "journal", "verify"];
    assert!(place.run(&verified).ends(0).text().contains("it is empty"));
}

#[test]
fn a_stack_over_a_stack_opens_beneath_its_journal() {
    let place = Place::new();
    let toml = |journal: &str| {
        format!(
            "journal = '{journal}'\n[policy]\nwrite-policy = 'write-behind'\n[frontend]\nurl = 'moka:'\n\
             [backend.frontend]\nurl = 'moka:'\n[backend.backend]\nurl = '{}'\n",
            place.url("back.redb")
        )
    };
    std::fs::write(place.path("deep.toml"), toml("journal")).expect("written");
    let deep = |rest: &[&str]| place.run(&[&["--config", "deep.toml"], rest].concat());
    deep(&["put", "k"]).ends(0);
    // What a crash left: the lowest backend names the journal of the stack above.
    let verified = place.run(&["--journal", "journal", "--json", "journal", "verify"]).ends(0).text();
    let id = verified.split("\"journal\":\"").nth(1).and_then(|rest| rest.split('"').next()).expect("an id");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("builds");
    runtime.block_on(async {
        let store = tiered_redb::RedbConfig::new(place.path("back.redb")).open().await.expect("opens");
        store.set_mark("tiered.journals", Some(format!("+{id}").into())).await.expect("marked");
        store.close().await.expect("closes");
    });
    deep(&["get", "k"]).ends(0);
}
