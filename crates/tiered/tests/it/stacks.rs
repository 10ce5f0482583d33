//! Stacks that are created, connected to, destroyed, and told apart.

use std::fs;

use tiered::{
    Create, ErrorKind, Schemes, Stack, Store, StoreExt as _, TieredSettings, Unflushed, WritePolicy,
};

use crate::lifecycle::{Folder, kind};

fn settings(policy: WritePolicy) -> TieredSettings {
    let mut settings = TieredSettings::default();
    settings.write_policy = policy;
    settings
}

/// `front.redb` over `back.redb`.
fn stack(folder: &Folder, policy: WritePolicy) -> Stack {
    let (front, back) = (Stack::store(folder.url("front.redb")), Stack::store(folder.url("back.redb")));
    let journal = folder.path("journal").display().to_string();
    let journal = (policy == WritePolicy::WriteBehind).then_some(journal);
    Stack::tiers(front, back, settings(policy), journal)
}

#[tokio::test]
async fn a_stack_lives_from_create_to_destroy() {
    let schemes = Schemes::standard();
    for policy in [WritePolicy::WriteThrough, WritePolicy::WriteAround, WritePolicy::WriteBehind] {
        let folder = Folder::new();
        let stack = stack(&folder, policy);
        assert!(!stack.exists(&schemes).await.expect("tells"));
        assert_eq!(kind(stack.connect(&schemes).await), ErrorKind::NotFound);
        assert_eq!(kind(stack.destroy(&schemes, Unflushed::Refuse).await), ErrorKind::NotFound);
        assert_eq!(folder.names(), Vec::<String>::new(), "{policy}: a failed connect leaves nothing behind");
        let store = stack.create(&schemes).await.expect("created");
        store.set("k", "v").await.expect("written");
        let refused = stack.destroy(&schemes, Unflushed::Discard).await;
        assert_eq!(kind(refused), ErrorKind::Locked, "{policy}: open");
        assert!(store.contains("k").await.expect("reads"));
        store.close().await.expect("released");
        assert_eq!(kind(stack.create(&schemes).await), ErrorKind::AlreadyExists);
        let id = stack.id(&schemes).await.expect("reads").expect("an id");
        assert_eq!(schemes.id(&folder.url("back.redb")).await.expect("reads"), Some(id.clone()));
        let store = stack.connect(&schemes).await.expect("connected");
        assert!(store.contains("k").await.expect("reads"));
        store.close().await.expect("released");
        assert_eq!(stack.id(&schemes).await.expect("reads"), Some(id));
        fs::write(folder.path("notes.txt"), "of others").expect("written");
        stack
            .destroy(&schemes, Unflushed::Refuse)
            .await
            .unwrap_or_else(|error| panic!("{policy}: {}", error.chain()));
        assert_eq!(folder.names(), ["notes.txt"], "{policy}");
        assert!(!stack.exists(&schemes).await.expect("tells"));
    }
}

#[tokio::test]
async fn while_its_backend_is_open_elsewhere_nothing_of_a_stack_is_removed() {
    let (folder, schemes) = (Folder::new(), Schemes::standard());
    let stack = stack(&folder, WritePolicy::WriteBehind);
    stack.create(&schemes).await.expect("created").close().await.expect("released");
    let before = folder.names();
    let elsewhere = schemes.connect(&folder.url("back.redb")).await.expect("connected");
    for unflushed in [Unflushed::Refuse, Unflushed::Discard] {
        assert_eq!(kind(stack.destroy(&schemes, unflushed).await), ErrorKind::Locked, "{unflushed:?}");
        assert_eq!(folder.names(), before, "{unflushed:?}");
    }
    elsewhere.close().await.expect("closes");
    stack.destroy(&schemes, Unflushed::Refuse).await.expect("destroyed");
    assert_eq!(folder.names(), Vec::<String>::new());
}

#[tokio::test]
async fn under_frontend_only_the_backend_of_others_has_to_be_there_and_stays() {
    let (folder, schemes) = (Folder::new(), Schemes::standard());
    let stack = stack(&folder, WritePolicy::FrontendOnly);
    assert_eq!(kind(stack.create(&schemes).await), ErrorKind::NotFound);
    assert_eq!(folder.names(), Vec::<String>::new());
    let theirs = schemes.create(&folder.url("back.redb")).await.expect("created");
    theirs.set("theirs", "v").await.expect("written");
    theirs.close().await.expect("closes");
    let store = stack.create(&schemes).await.expect("created");
    store.set("local", "v").await.expect("written");
    store.close().await.expect("closes");
    assert!(stack.exists(&schemes).await.expect("tells"));
    stack.destroy(&schemes, Unflushed::Refuse).await.expect("destroyed");
    assert_eq!(folder.names(), ["back.redb"]);
    let theirs = schemes.connect(&folder.url("back.redb")).await.expect("connected");
    assert!(theirs.contains("theirs").await.expect("reads"));
}

#[tokio::test]
async fn a_failed_creation_leaves_what_was_there_and_nothing_else() {
    let schemes = Schemes::standard();
    for there in ["front.redb", "back.redb", "journal"] {
        let folder = Folder::new();
        let stack = stack(&folder, WritePolicy::WriteBehind);
        if there == "journal" {
            let journal = tiered::journal::JournalConfig::new(folder.path(there));
            drop(journal.open().await.expect("opens"));
        } else {
            schemes.create(&folder.url(there)).await.expect("created").close().await.expect("closes");
        }
        let before = fs::read(folder.path(there)).ok();
        assert_eq!(kind(stack.create(&schemes).await), ErrorKind::AlreadyExists, "{there}");
        assert_eq!(folder.names(), [there]);
        assert_eq!(fs::read(folder.path(there)).ok(), before, "{there}");
    }
    // The frontend cannot be made: the backend, which was made before it, is removed again.
    for create in [Create::New, Create::IfAbsent] {
        let folder = Folder::new();
        let front = Stack::store(folder.url("no-folder/front.redb"));
        let back = Stack::store(folder.url("back.redb"));
        let journal = folder.path("journal").display().to_string();
        let stack = Stack::tiers(front, back, settings(WritePolicy::WriteBehind), Some(journal));
        assert_eq!(kind(stack.open_with(&schemes, create).await), ErrorKind::NotFound);
        assert_eq!(folder.names(), Vec::<String>::new(), "{create:?}");
    }
    // The tiers do not fit: nothing of a nested stack stays either.
    let folder = Folder::new();
    let nested = stack(&folder, WritePolicy::WriteThrough);
    let refused = settings(WritePolicy::WriteThrough);
    let twice = Stack::tiers(Stack::store(folder.url("back.redb")), nested, refused, None);
    twice.create(&schemes).await.map(drop).expect_err("one file is two tiers");
    assert_eq!(folder.names(), Vec::<String>::new());
}

#[tokio::test]
async fn a_frontend_of_another_backend_is_refused_with_both_ids() {
    let (folder, schemes) = (Folder::new(), Schemes::standard());
    let one = stack(&folder, WritePolicy::WriteThrough);
    let store = one.create(&schemes).await.expect("created");
    store.set("k", "of one").await.expect("written");
    store.close().await.expect("closes");
    let other = folder.url("other.redb");
    schemes.create(&other).await.expect("created").close().await.expect("closes");
    let mixed = Stack::tiers(
        Stack::store(folder.url("front.redb")),
        Stack::store(&other),
        settings(WritePolicy::WriteThrough),
        None,
    );
    for create in [Create::Never, Create::IfAbsent] {
        let error = mixed.open_with(&schemes, create).await.map(drop).expect_err("refused");
        assert_eq!(error.kind(), ErrorKind::Config, "{}", error.chain());
        for id in [one.id(&schemes).await, mixed.id(&schemes).await] {
            let id = id.expect("reads").expect("an id");
            assert!(error.to_string().contains(&id), "{id}: {error}");
        }
    }
    assert_eq!(folder.names(), ["back.redb", "front.redb", "other.redb"], "what was there stays");
    // As the error says.
    schemes.destroy(&folder.url("front.redb"), Unflushed::Refuse).await.expect("destroyed");
    let store = mixed.connect(&schemes).await.expect("connected");
    assert!(!store.contains("k").await.expect("reads"));
}

/// A write-behind stack that was killed with an unflushed write.
async fn killed(folder: &Folder) -> Stack {
    let schemes = Schemes::standard();
    let origin = Folder::new();
    let behind = stack(&origin, WritePolicy::WriteBehind);
    behind.create(&schemes).await.expect("created").close().await.expect("closes");
    let id = schemes.id(&origin.url("back.redb")).await.expect("reads").expect("an id");
    // The journal alone, with a record, and the backend that names it.
    let journal = tiered::journal::JournalConfig::new(origin.path("journal")).open().await.expect("opens");
    {
        use tiered::adapter::journal::{Journal as _, JournalRecord};
        use tiered::adapter::{Stamp, verbatim};
        journal.recover(id.as_bytes()).await.expect("recovers");
        let entry = Stamp::system().entry(&tiered::Put::new("acknowledged"));
        let record = JournalRecord::new("k".parse().expect("a key"), verbatim(&entry));
        journal.append(&[record]).await.expect("appended");
    }
    drop(journal);
    let (report, _) = tiered::journal::Report::read(&origin.path("journal")).expect("reads");
    let back = schemes.connect(&origin.url("back.redb")).await.expect("opens");
    let named = report.journal.expect("an id").to_string();
    back.set_mark("tiered.journals", Some(named.into())).await.expect("set");
    back.close().await.expect("closes");
    for name in ["front.redb", "back.redb"] {
        fs::copy(origin.path(name), folder.path(name)).expect("copied");
    }
    fs::create_dir(folder.path("journal")).expect("made");
    for name in crate::lifecycle::names(&origin.path("journal")) {
        fs::copy(origin.path("journal").join(&name), folder.path("journal").join(&name)).expect("copied");
    }
    stack(folder, WritePolicy::WriteBehind)
}

#[tokio::test]
async fn acknowledged_writes_in_the_journal_are_lost_only_when_asked() {
    let (folder, schemes) = (Folder::new(), Schemes::standard());
    let stack = killed(&folder).await;
    let error = stack.destroy(&schemes, Unflushed::Refuse).await.expect_err("refused");
    assert_eq!(error.kind(), ErrorKind::Locked, "{}", error.chain());
    assert_eq!(folder.names(), ["back.redb", "front.redb", "journal"], "nothing was touched");
    let alone = schemes.destroy(&folder.url("back.redb"), Unflushed::Refuse).await.expect_err("refused");
    assert!(alone.to_string().contains("journal"), "{alone}");
    stack.destroy(&schemes, Unflushed::Discard).await.expect("destroyed");
    assert_eq!(folder.names(), Vec::<String>::new());
    // Flushed, it is destroyed without loss.
    let stack = killed(&folder).await;
    let store = stack.connect(&schemes).await.expect("connected");
    assert_eq!(store.get("k").await.expect("reads").expect("recovered").value(), "acknowledged");
    store.close().await.expect("flushed");
    stack.destroy(&schemes, Unflushed::Refuse).await.expect("destroyed");
    assert_eq!(folder.names(), Vec::<String>::new());
}

#[tokio::test]
async fn a_removal_that_ended_between_two_tiers_is_finished() {
    let schemes = Schemes::standard();
    for gone in [&["front.redb"][..], &["front.redb", "journal"]] {
        let folder = Folder::new();
        let stack = killed(&folder).await;
        let back = schemes.connect(&folder.url("back.redb")).await.expect("opens");
        // The removal has taken the journal out of the mark before it removed anything.
        back.set_mark("tiered.journals", None).await.expect("set");
        back.close().await.expect("closes");
        for name in gone {
            let path = folder.path(name);
            if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) }.expect("removed");
        }
        // Whatever is left is opened as a whole.
        if gone.len() > 1 {
            stack.connect(&schemes).await.expect("connected").close().await.expect("closes");
        }
        stack.destroy(&schemes, Unflushed::Discard).await.expect("destroyed");
        assert_eq!(folder.names(), Vec::<String>::new());
    }
}

#[tokio::test]
async fn wrapped_stacks_live_as_what_they_wrap() {
    let (folder, schemes) = (Folder::new(), Schemes::standard());
    let inside = stack(&folder, WritePolicy::WriteThrough);
    let users = inside.clone().under_prefix("users/");
    users.create(&schemes).await.expect("created").close().await.expect("closes");
    assert_eq!(kind(users.create(&schemes).await), ErrorKind::AlreadyExists);
    let store = inside.connect(&schemes).await.expect("connected");
    store.set("orders/1", "apples").await.expect("written");
    store.set("users/42", "Ada").await.expect("written");
    store.close().await.expect("closes");
    assert!(
        users.exists(&schemes).await.expect("tells") && users.id(&schemes).await.expect("reads").is_some()
    );
    users.destroy(&schemes, Unflushed::Refuse).await.expect("destroyed");
    assert!(!users.exists(&schemes).await.expect("tells"));
    assert_eq!(
        kind(inside.clone().only_read().destroy(&schemes, Unflushed::Refuse).await),
        ErrorKind::PermissionDenied
    );
    let store = inside.connect(&schemes).await.expect("connected");
    assert!(
        store.contains("orders/1").await.expect("reads") && !store.contains("users/42").await.expect("reads")
    );
    store.close().await.expect("closes");
    inside.compressed("lz4").destroy(&schemes, Unflushed::Refuse).await.expect("destroyed");
    assert_eq!(folder.names(), Vec::<String>::new());
}
