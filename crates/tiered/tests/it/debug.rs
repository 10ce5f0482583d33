//! `{:?}` of what the facade offers: no value, no secret, and no more than a few lines however much is stored.

use std::fmt::Debug;
use std::sync::Arc;

use tiered::adapter::journal::Journal as _;
use tiered::adapter::journal::{Aside, JournalRecord, Recovered};
use tiered::sync::{FullSync, PopulateMissing, SyncOptions, sync};
use tiered::{
    Action, Attributes, Batch, Capabilities, Delete, Durability, Entry, Key, ListOptions, MemoryStore,
    ParkReason, Parked, Put, ReadOptions, Sharing, Stack, Store as _, StoreExt as _, TieredSettings,
    TieredStore, Timestamp, VolatileJournal, WritePolicy,
};
use tiered_core::testing::ManualClock;

/// What must not be seen: it is every value, every attribute and every password.
const CANARY: &str = "hunter2";

/// Bytes that one thing may print.
const ENOUGH: usize = 6_000;

/// Entries of a store, and operations of a batch.
const MANY: usize = 2_000;

fn quiet(what: &str, shown: &dyn Debug) {
    for text in [format!("{shown:?}"), format!("{shown:#?}")] {
        assert!(!text.contains(CANARY), "{what} shows a value or a secret: {text}");
        let bytes: Vec<String> = CANARY.bytes().map(|byte| byte.to_string()).collect();
        assert!(!text.contains(&bytes.join(", ")), "{what} shows a value as numbers");
        assert!(
            text.len() < ENOUGH,
            "{what} shows {} bytes: {}…",
            text.len(),
            text.get(..500).unwrap_or(&text)
        );
    }
}

fn key(number: usize) -> Key {
    Key::new(format!("key-{number}")).expect("valid")
}

fn put() -> Put {
    Put::new(CANARY).attributes(Attributes::new().with("session", CANARY).expect("valid"))
}

fn record(number: usize) -> JournalRecord {
    JournalRecord::new(key(number), put())
}

fn records() -> Vec<(u64, JournalRecord)> {
    (0..MANY).map(|number| (number as u64 + 1, record(number))).collect()
}

/// A store with many entries whose values are the canary.
async fn full() -> MemoryStore {
    let store = MemoryStore::new();
    for number in 0..MANY {
        store.put(&key(number), put()).await.expect("written");
    }
    store
}

#[test]
fn debug_of_puts_and_entries_shows_no_values() {
    quiet("Put", &put());
    quiet("Put of a copy", &put().if_absent());
    quiet("Attributes", &put().attributes);
    quiet("Action", &Action::Put(put()));
    quiet("Delete", &Delete::new());
    let batch = (0..MANY).fold(Batch::new(), |batch, number| batch.put(key(number), put()));
    quiet("Batch", &batch);
    quiet("ReadOptions", &ReadOptions::new());
    quiet("ListOptions", &ListOptions::new().prefix("users/"));
}

#[tokio::test]
async fn debug_of_answers_shows_no_values() {
    let store = full().await;
    let key = key(1);
    quiet("MemoryStore", &store);
    quiet("Written", &store.put(&key, put()).await.expect("written"));
    let entry: Entry = store.get(&key).await.expect("reads").expect("found");
    quiet("Metadata", entry.metadata());
    quiet("Put::replacing", &Put::replacing(&entry, CANARY));
    quiet("Entry", &entry);
    quiet("Read", &store.load(&key, &ReadOptions::new()).await.expect("reads"));
    let refused = store.put(&key, put().if_absent()).await.map(drop).expect_err("refused");
    quiet("Error", &refused);
    quiet("Deleted", &store.delete(&key, Delete::new()).await.expect("deleted"));
    let batch = Batch::new().put(key.clone(), put()).delete(key, Delete::new());
    quiet("BatchOutcomes", &store.apply(batch).await.expect("applied"));
    quiet("Capabilities", store.capabilities());
    quiet("Capabilities", &Capabilities::new("mine", Durability::PowerLoss, Sharing::Exclusive));
}

#[tokio::test]
async fn debug_of_journal_records_shows_no_values() {
    let journal = VolatileJournal::new();
    let all: Vec<JournalRecord> = records().into_iter().map(|(_, record)| record).collect();
    journal.append(&all).await.expect("appended");
    quiet("VolatileJournal", &journal);
    quiet("JournalRecord", &record(1));
    let parked = Parked::new(records(), ParkReason::Refused("too large".to_owned()));
    quiet("Parked", &parked);
    let aside = Aside::new(vec![parked; 100], (0..MANY as u64).collect());
    quiet("Aside", &aside);
    let mut recovered = Recovered::default();
    (recovered.records, recovered.aside) = (records(), aside);
    quiet("Recovered", &recovered);
}

#[tokio::test]
async fn debug_of_a_tiered_store_shows_no_pending_values() {
    let (frontend, backend) = (Arc::new(full().await), Arc::new(full().await));
    let builder = TieredStore::builder(frontend, backend)
        .write_policy(WritePolicy::WriteBehind)
        .journal(VolatileJournal::new());
    quiet("TieredBuilder", &builder);
    let store = builder.build().await.expect("builds");
    let events = store.subscribe();
    for number in 0..MANY {
        // The flusher shares this thread, so that most are still pending below.
        drop(store.put(&key(number), put()).await.expect("journaled"));
    }
    quiet("TieredStore", &store);
    quiet("Guarantees", store.guarantees());
    quiet("Stats", &store.stats());
    quiet("Events", &events);
    quiet("TieredSettings", &TieredSettings::default());
    store.close().await.expect("closes");
}

#[tokio::test]
async fn debug_of_a_sync_report_shows_no_values() {
    let from: Arc<dyn tiered::Store> = Arc::new(full().await);
    let to: Arc<dyn tiered::Store> = Arc::new(MemoryStore::new());
    let options = SyncOptions::new().on_progress(|progress| quiet("SyncProgress", progress));
    quiet("SyncOptions", &options);
    quiet("SyncReport", &sync(&from, &to, &FullSync, &options).await.expect("syncs"));
    quiet("PopulateMissing", &PopulateMissing);
}

#[test]
fn debug_of_clocks_and_stacks_shows_no_values() {
    quiet("ManualClock", &ManualClock::new(Timestamp::from_millis(7)));
    let secret = format!("postgres://user:{CANARY}@host/database?sslkey={CANARY}");
    quiet("Stack", &Stack::store(&secret));
    let parsed = tiered::adapter::url::StoreUrl::parse(&secret).expect("a URL");
    quiet("StoreUrl", &parsed);
    let tiers = Stack::tiers(Stack::store("moka:"), Stack::store(secret), TieredSettings::default(), None);
    quiet("Stack of tiers", &tiers);
}

#[cfg(feature = "moka")]
#[tokio::test]
async fn debug_of_moka_shows_no_values() {
    let config = tiered::moka::MokaConfig::new(1 << 20);
    quiet("MokaConfig", &config);
    let store = config.build().expect("builds");
    for number in 0..MANY {
        store.put(&key(number), put()).await.expect("written");
    }
    quiet("MokaStore", &store);
}

#[cfg(feature = "quick")]
#[tokio::test]
async fn debug_of_quick_shows_no_values() {
    let config = tiered::quick::QuickConfig::new(1 << 20);
    quiet("QuickConfig", &config);
    let store = config.build().expect("builds");
    for number in 0..MANY {
        store.put(&key(number), put()).await.expect("written");
    }
    quiet("QuickStore", &store);
}

#[cfg(feature = "redb")]
#[tokio::test]
async fn debug_of_redb_shows_no_values() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = tiered::redb::RedbConfig::new(folder.path().join("d.redb"));
    quiet("RedbConfig", &config);
    let store = config.open().await.expect("opens");
    let batch = (0..MANY).fold(Batch::new(), |batch, number| batch.put(key(number), put()));
    store.apply(batch).await.expect("written");
    quiet("RedbStore", &store);
    store.close().await.expect("closes");
}

#[cfg(feature = "journal")]
#[tokio::test]
async fn debug_of_a_journal_shows_no_values() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = tiered::journal::JournalConfig::new(folder.path().join("journal"));
    quiet("JournalConfig", &config);
    let journal = config.open().await.expect("opens");
    journal.recover(b"backend").await.expect("recovers");
    let stamped = full().await.get(&key(1)).await.expect("reads").expect("found");
    let record = JournalRecord::new(key(1), tiered::adapter::verbatim(&stamped));
    journal.append(&vec![record; MANY]).await.expect("appended");
    quiet("FileJournal", &journal);
    journal.close().await.expect("closes");
    let (report, recovered) = tiered::journal::Report::read(&folder.path().join("journal")).expect("reads");
    quiet("Report", &report);
    quiet("Recovered", &recovered);
}

#[cfg(feature = "postgres")]
#[test]
fn debug_of_postgres_shows_no_password() {
    let url = format!("postgres://user:{CANARY}@localhost/database?options=-c%20a%3D{CANARY}");
    quiet("PostgresConfig", &tiered::postgres::PostgresConfig::from_url(&url).expect("reads"));
}

#[cfg(feature = "s3")]
#[test]
fn debug_of_s3_shows_no_credentials() {
    let config = tiered::s3::S3Config::new("bucket").endpoint(&format!("https://user:{CANARY}@localhost"));
    quiet("S3Config", &config);
}
