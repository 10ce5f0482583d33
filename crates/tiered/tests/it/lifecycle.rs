//! Stores by URL that are created, connected to, looked for, destroyed, and told apart.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use tempfile::TempDir;
use tiered::adapter::url::StoreUrl;
use tiered::{Create, Error, ErrorKind, MemoryStore, Result, Schemes, Store, StoreExt as _, Unflushed};

/// A folder that URLs lie in.
pub(crate) struct Folder(TempDir);

impl Folder {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().expect("a folder"))
    }

    pub(crate) fn path(&self, name: &str) -> std::path::PathBuf {
        self.0.path().join(name)
    }

    pub(crate) fn url(&self, name: &str) -> String {
        format!("redb:{}", self.path(name).display())
    }

    /// The names in it, in order.
    pub(crate) fn names(&self) -> Vec<String> {
        names(self.0.path())
    }
}

pub(crate) fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).expect("reads").map(|entry| entry.expect("an entry").file_name());
    let mut names: Vec<_> = entries.map(|name| name.to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

pub(crate) fn kind<T>(result: Result<T>) -> ErrorKind {
    result.map(drop).expect_err("refused").kind()
}

async fn keys(store: &dyn Store) -> Vec<String> {
    let keys = store.keys("").await.expect("lists");
    keys.iter().map(|key| key.as_str().to_owned()).collect()
}

#[tokio::test]
async fn a_store_by_url_lives_from_create_to_destroy_and_keeps_its_id() {
    let (folder, schemes) = (Folder::new(), Schemes::standard());
    let url = folder.url("d.redb");
    assert!(!schemes.exists(&url).await.expect("tells"));
    assert_eq!(kind(schemes.connect(&url).await), ErrorKind::NotFound);
    assert_eq!(kind(schemes.destroy(&url, Unflushed::Refuse).await), ErrorKind::NotFound);
    assert_eq!(folder.names(), Vec::<String>::new(), "a failed connect leaves nothing behind");
    let store = schemes.create(&url).await.expect("created");
    store.set("k", "v").await.expect("written");
    assert_eq!(kind(schemes.destroy(&url, Unflushed::Discard).await), ErrorKind::Locked);
    store.close().await.expect("released");
    assert_eq!(kind(schemes.create(&url).await), ErrorKind::AlreadyExists);
    let id = schemes.id(&url).await.expect("reads").expect("an id");
    let store = schemes.connect(&url).await.expect("connected");
    assert!(store.contains("k").await.expect("reads"));
    store.close().await.expect("released");
    assert_eq!(schemes.id(&url).await.expect("reads"), Some(id.clone()), "the id is kept");
    schemes.destroy(&url, Unflushed::Refuse).await.expect("destroyed");
    assert_eq!(folder.names(), Vec::<String>::new());
    schemes.create(&url).await.expect("created").close().await.expect("released");
    assert_ne!(schemes.id(&url).await.expect("reads"), Some(id), "another store");
}

#[tokio::test]
async fn a_store_that_an_opening_makes_has_an_id_too() {
    let (folder, schemes) = (Folder::new(), Schemes::standard());
    let url = folder.url("d.redb");
    schemes.open(&url, Create::IfAbsent).await.expect("opens").close().await.expect("closes");
    let id = schemes.id(&url).await.expect("reads");
    assert!(id.is_some());
    schemes.open(&url, Create::IfAbsent).await.expect("opens").close().await.expect("closes");
    assert_eq!(schemes.id(&url).await.expect("reads"), id);
}

#[tokio::test]
async fn memory_never_exists_and_can_always_be_created() {
    let schemes = Schemes::standard();
    let quick = cfg!(feature = "quick").then_some("quick:");
    for url in ["memory:", "moka:"].into_iter().chain(quick) {
        for _ in 0..2 {
            schemes.create(url).await.expect("created").set("k", "v").await.expect("written");
            assert!(keys(&*schemes.connect(url).await.expect("connected")).await.is_empty());
            assert!(!schemes.exists(url).await.expect("tells"));
        }
        assert_eq!(kind(schemes.destroy(url, Unflushed::Refuse).await), ErrorKind::NotFound);
    }
}

#[tokio::test]
async fn what_a_wrapper_refuses_leaves_no_store_behind() {
    let (folder, schemes) = (Folder::new(), Schemes::standard());
    let inside = folder.path("d.redb");
    let url = format!("encrypted+redb:{}?keys_file={}", inside.display(), folder.path("no-keys").display());
    for create in [Create::IfAbsent, Create::New] {
        schemes.open(&url, create).await.map(drop).expect_err("no keys");
        assert_eq!(folder.names(), Vec::<String>::new());
    }
    let plain = format!("redb:{}", inside.display());
    schemes.create(&plain).await.expect("created").close().await.expect("closes");
    schemes.open(&url, Create::IfAbsent).await.map(drop).expect_err("no keys");
    assert_eq!(folder.names(), ["d.redb"], "what was there stays");
}

#[tokio::test]
async fn a_prefix_is_a_place_of_its_own() {
    let (folder, schemes) = (Folder::new(), Schemes::standard());
    let inside = folder.url("d.redb");
    let of = |prefix: &str| format!("prefix+redb:{}?prefix={prefix}", folder.path("d.redb").display());
    let (users, orders) = (of("users/"), of("orders/"));
    assert!(!schemes.exists(&users).await.expect("tells"));
    for url in [&users, &orders] {
        let store = schemes.create(url).await.expect("created");
        store.set("k", "v").await.expect("written");
        store.set_mark("mine", Some("v".into())).await.expect("set");
        store.close().await.expect("closes");
        assert!(schemes.exists(url).await.expect("tells"));
        assert_eq!(kind(schemes.create(url).await), ErrorKind::AlreadyExists);
    }
    assert_ne!(schemes.id(&users).await.expect("reads"), schemes.id(&orders).await.expect("reads"));
    schemes.destroy(&users, Unflushed::Refuse).await.expect("destroyed");
    assert!(!schemes.exists(&users).await.expect("tells"));
    assert_eq!(kind(schemes.connect(&users).await), ErrorKind::NotFound);
    assert_eq!(kind(schemes.destroy(&users, Unflushed::Refuse).await), ErrorKind::NotFound);
    let store = schemes.connect(&orders).await.expect("connected");
    assert_eq!(keys(&*store).await, ["k"]);
    assert_eq!(store.mark("mine").await.expect("reads").expect("set"), "v");
    store.close().await.expect("closes");
    assert_eq!(
        kind(schemes.destroy(&format!("read-only+{inside}"), Unflushed::Refuse).await),
        ErrorKind::PermissionDenied
    );
    assert_eq!(kind(schemes.create(&format!("read-only+{}", folder.url("new"))).await), ErrorKind::Config);
    assert_eq!(folder.names(), ["d.redb"]);
}

#[tokio::test]
async fn a_half_removed_prefix_is_not_opened_and_is_finished() {
    let (folder, schemes) = (Folder::new(), Schemes::standard());
    let url = format!("prefix+redb:{}?prefix=users/", folder.path("d.redb").display());
    let store = schemes.create(&url).await.expect("created");
    for key in ["a", "b"] {
        store.set(key, "v").await.expect("written");
    }
    // As a killed process leaves it.
    store.set_mark("tiered.destroying", Some("1".into())).await.expect("set");
    store.delete(&"a".parse().expect("a key"), tiered::Delete::new()).await.expect("removed");
    store.close().await.expect("closes");
    for create in [Create::Never, Create::IfAbsent, Create::New] {
        let error = schemes.open(&url, create).await.map(drop).expect_err("refused");
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{create:?}: {}", error.chain());
    }
    assert_eq!(kind(schemes.open_to_read(&url).await), ErrorKind::Corrupt);
    assert!(schemes.exists(&url).await.expect("tells"));
    schemes.destroy(&url, Unflushed::Refuse).await.expect("destroyed");
    let store = schemes.create(&url).await.expect("created");
    assert!(keys(&*store).await.is_empty());
}

#[tokio::test]
async fn a_scheme_of_the_program_that_only_opens_says_what_is_missing() {
    let shared = MemoryStore::new();
    let open = move |_: StoreUrl, _: Create| {
        let shared = shared.clone();
        async move { Ok::<_, Error>(shared) }
    };
    let schemes = Schemes::standard().with("mine", open);
    let store: Arc<dyn Store> = schemes.create("mine:").await.expect("opens");
    store.set("k", "v").await.expect("written");
    for error in [
        schemes.exists("mine:").await.map(drop).expect_err("cannot tell"),
        schemes.destroy("mine:", Unflushed::Discard).await.expect_err("cannot"),
    ] {
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(error.to_string().contains("implement Opener::"), "{error}");
    }
}
