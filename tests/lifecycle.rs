//! The life of stacks whose opening fails: what it has made goes again, and what others wrote meanwhile stays.

use std::fmt;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::{FutureExt as _, StreamExt as _, stream};
use tempfile::TempDir;
use tiered::adapter::url::StoreUrl;
use tiered::{
    Create, Error, ErrorKind, ListOptions, ListStream, MemoryStore, Opener, Result, Schemes, Stack, Store,
    StoreExt as _, TieredSettings, Unflushed, WritePolicy, ownership,
};
use tiered_conformance::{Intercept, Interceptor};

fn folder() -> TempDir {
    tempfile::tempdir().expect("a folder")
}

fn settings(policy: WritePolicy) -> TieredSettings {
    let mut settings = TieredSettings::default();
    settings.write_policy = policy;
    settings
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).expect("reads").map(|entry| entry.expect("an entry").file_name());
    let mut names: Vec<String> = entries.map(|name| name.to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// A scheme that does something, and then cannot be opened.
struct Fails<F>(F);

impl<F: Fn() -> BoxFuture<'static, ()> + Send + Sync + 'static> Opener for Fails<F> {
    fn open(&self, _: StoreUrl, _: Create) -> BoxFuture<'_, Result<Arc<dyn Store>>> {
        let meanwhile = (self.0)();
        async move {
            meanwhile.await;
            Err(Error::new(ErrorKind::PermissionDenied, "it never opens"))
        }
        .boxed()
    }
}

/// One handle of a store that others have open, too.
#[derive(Debug)]
struct Handle;

#[async_trait]
impl Interceptor for Handle {
    async fn close(&self, _: &dyn Store) -> Result<()> {
        Ok(())
    }
}

/// A store that is shared as that of a server is.
fn shared() -> Schemes {
    let shared = MemoryStore::new();
    Schemes::standard().with("mine", move |_: StoreUrl, _: Create| {
        let handle = Intercept::new(shared.clone(), Handle);
        async move { Ok::<_, Error>(handle) }
    })
}

/// Another process opens what this one has just made, writes to it, and has it open while this one fails.
async fn others_write_while_an_opening_fails(schemes: Schemes, url: &str) {
    for create in [Create::New, Create::IfAbsent] {
        let other = schemes.clone();
        let (theirs, place) = (Arc::new(tokio::sync::OnceCell::new()), url.to_owned());
        let meanwhile = {
            let theirs = Arc::clone(&theirs);
            move || {
                let (other, theirs, place) = (other.clone(), Arc::clone(&theirs), place.clone());
                async move {
                    let store = other.open(&place, Create::IfAbsent).await.expect("it is there");
                    store.set("before", "theirs").await.expect("written");
                    theirs.set(store).map_err(drop).expect("once");
                }
                .boxed()
            }
        };
        let failing = schemes.clone().with("fails", Fails(meanwhile));
        let stack = Stack::tiers(Stack::store("fails:"), Stack::store(url), TieredSettings::default(), None)
            .declare_sole_writer();
        let error = stack.open_with(&failing, create).await.map(drop).expect_err("it never opens");
        assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{url}: {}", error.chain());
        let theirs = theirs.get().expect("opened");
        theirs.set("after", "theirs").await.expect("their handle still works");
        for key in ["before", "after"] {
            assert!(theirs.contains(key).await.expect("reads"), "{url}, {create:?}: {key}");
        }
        theirs.close().await.expect("closes");
        schemes.destroy(url, Unflushed::Refuse).await.ok();
    }
}

#[tokio::test]
async fn what_others_wrote_to_a_store_of_the_program_survives_an_opening_that_fails() {
    others_write_while_an_opening_fails(shared(), "mine:").await;
    others_write_while_an_opening_fails(shared(), "prefix+mine:?prefix=a/").await;
}

#[cfg(feature = "postgres")]
#[tokio::test]
async fn what_others_wrote_to_postgres_survives_an_opening_that_fails() {
    let server = tiered_services::Service::Postgres.required();
    let and = if server.contains('?') { '&' } else { '?' };
    let url = format!("{server}{and}schema=tiered_lifecycle_{}", std::process::id());
    others_write_while_an_opening_fails(Schemes::standard(), &url).await;
    others_write_while_an_opening_fails(Schemes::standard(), &format!("prefix+{url}_prefix&prefix=a/")).await;
}

#[tokio::test]
async fn what_the_user_had_prepared_stays_and_is_empty_again() {
    let folder = folder();
    fs::write(folder.path().join("back.redb"), "").expect("prepared");
    fs::create_dir(folder.path().join("journal")).expect("prepared");
    let back = Stack::store(format!("redb:{}", folder.path().join("back.redb").display()));
    let journal = folder.path().join("journal").display().to_string();
    let stack = Stack::tiers(Stack::store("fails:"), back, settings(WritePolicy::WriteBehind), Some(journal));
    let schemes = Schemes::standard().with("fails", Fails(|| async {}.boxed()));
    for create in [Create::New, Create::IfAbsent] {
        stack.open_with(&schemes, create).await.map(drop).expect_err("the frontend never opens");
        assert_eq!(names(folder.path()), ["back.redb", "journal"], "{create:?}");
        assert_eq!(fs::read(folder.path().join("back.redb")).expect("reads"), b"", "{create:?}");
        assert!(names(&folder.path().join("journal")).is_empty(), "{create:?}");
    }
}

/// A backend that cannot be listed, so that a stack that fills its frontend fails once its journal is registered.
#[derive(Debug)]
struct Unlisted {
    /// Whether a mark can be removed.
    forgets: bool,
}

#[async_trait]
impl Interceptor for Unlisted {
    fn list(&self, _: &dyn Store, _: ListOptions) -> ListStream {
        stream::once(async { Err(Error::new(ErrorKind::Unavailable, "not now")) }).boxed()
    }

    async fn set_mark(&self, inner: &dyn Store, name: &str, value: Option<Bytes>) -> Result<()> {
        if value.is_none() && !self.forgets {
            return Err(Error::new(ErrorKind::Unavailable, "not now"));
        }
        inner.set_mark(name, value).await
    }
}

#[tokio::test]
async fn a_new_journal_goes_again_only_once_its_backend_has_forgotten_it() {
    for forgets in [true, false] {
        let folder = folder();
        let url = format!("redb:{}", folder.path().join("back.redb").display());
        Schemes::standard().create(&url).await.expect("created").close().await.expect("closes");
        let place = url.clone();
        let schemes = Schemes::standard().with("unlisted", move |_: StoreUrl, create: Create| {
            let place = place.clone();
            async move {
                let inner = Schemes::standard().open(&place, create).await?;
                Ok(Intercept::new(inner, Unlisted { forgets }))
            }
        });
        let policy = "write-policy = 'write-behind'\non-connect = 'populate-missing'";
        let policy: TieredSettings = toml::from_str(policy).expect("settings");
        let journal = folder.path().join("journal");
        let named = journal.display().to_string();
        let stack = Stack::tiers(Stack::store("memory:"), Stack::store("unlisted:"), policy, Some(named));
        let error = stack.connect(&schemes).await.map(drop).expect_err("it cannot be listed");
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{}", error.chain());
        let backend = Schemes::standard().connect(&url).await.expect("connects");
        let journals = ownership::journals(&*backend).await.expect("reads");
        assert_eq!(journal.exists(), !forgets, "a journal that is named stays");
        assert_eq!(journals.len(), usize::from(!forgets), "{journals:?}");
    }
}

/// A scheme that cannot tell now whether there is a store.
struct Unsure(Arc<AtomicUsize>);

impl fmt::Debug for Unsure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Unsure")
    }
}

impl Opener for Unsure {
    fn open(&self, _: StoreUrl, _: Create) -> BoxFuture<'_, Result<Arc<dyn Store>>> {
        self.0.fetch_add(1, Ordering::Relaxed);
        async { Ok(Arc::new(MemoryStore::new()) as Arc<dyn Store>) }.boxed()
    }

    fn exists(&self, _: StoreUrl) -> BoxFuture<'_, Result<bool>> {
        async { Err(Error::new(ErrorKind::Unavailable, "not now")) }.boxed()
    }
}

#[tokio::test]
async fn nothing_is_created_where_it_cannot_be_told_whether_there_is_a_store() {
    let opened = Arc::new(AtomicUsize::new(0));
    let schemes = Schemes::standard().with("unsure", Unsure(Arc::clone(&opened)));
    let error = schemes.create("unsure:").await.map(drop).expect_err("it cannot be told");
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert_eq!(opened.load(Ordering::Relaxed), 0);
    schemes.open("unsure:", Create::IfAbsent).await.expect("not asked for");
}

#[tokio::test]
async fn a_store_is_not_destroyed_while_a_journal_holds_writes_for_a_prefix_of_it() {
    let folder = folder();
    let url = format!("redb:{}", folder.path().join("d.redb").display());
    let schemes = Schemes::standard();
    let prefix = schemes.create(&format!("prefix+{url}?prefix=a/")).await.expect("created");
    let journal = "000000000000000000000000000000ff";
    prefix.set_mark("tiered.journals", Some(journal.into())).await.expect("set");
    prefix.close().await.expect("closes");
    let refused = schemes.destroy(&url, Unflushed::Refuse).await.expect_err("a journal holds writes");
    assert_eq!(refused.kind(), ErrorKind::Locked);
    assert!(refused.to_string().contains(journal), "{refused}");
    let store = schemes.connect(&url).await.expect("connects");
    assert!(ownership::abandon(&*store, journal.parse().expect("an id")).await.expect("abandoned"));
    assert!(!ownership::abandon(&*store, journal.parse().expect("an id")).await.expect("reads"));
    store.close().await.expect("closes");
    schemes.destroy(&url, Unflushed::Refuse).await.expect("destroyed");
}
