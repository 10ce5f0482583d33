//! The life of the places that URLs name: created, connected to, looked for, destroyed, and told apart by their ids.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use tiered_core::adapter::opening::Before;
use tiered_core::adapter::url::StoreUrl;
use tiered_core::{Create, Error, ErrorKind, Operation, Result, Store, Unflushed, ownership};

use crate::layer::{self, Layer};
use crate::schemes::{Schemes, wrapped};
use crate::{namespace, place};

/// # Life
///
/// [`create`](Self::create), [`connect`](Self::connect), [`exists`](Self::exists), [`destroy`](Self::destroy) and
/// [`id`](Self::id) are the life of one store. Its end for this process is [`Store::close`]. Those of a stack are the
/// methods of the same names of [`Stack`](crate::Stack).
///
/// A place in memory (`memory:`, `quick:`, `moka:`) never exists: it can always be created and connected to, and each time it is
/// another, empty store.
impl Schemes {
    /// Makes a new store at the place that `url` names, and opens it. Under `prefix+` the place is the prefix: the store
    /// around it may be there, and is made if it is not. When it returns, the store is there, also after a loss of power,
    /// and has an [id](Self::id) if it keeps marks.
    ///
    /// # Errors
    /// [`ErrorKind::AlreadyExists`] where there is one, [`ErrorKind::Foreign`] where there is something else; else as
    /// [`open`](Self::open). What this call has made on this machine is removed again, unless it was used meanwhile, and
    /// nothing else. On a server, under a prefix and in a scheme of the program an empty store may stay.
    ///
    /// # Cancel safety
    /// Dropped half-way it may leave an empty store.
    ///
    /// # Examples
    /// ```
    /// # #[cfg(feature = "redb")]
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// # let folder = tempfile::tempdir().unwrap();
    /// # let url = format!("redb:{}", folder.path().join("data.redb").display());
    /// use tiered::{ErrorKind, Schemes, Store};
    ///
    /// let schemes = Schemes::standard();
    /// schemes.create(&url).await?.close().await?;
    /// assert_eq!(schemes.create(&url).await.map(drop).unwrap_err().kind(), ErrorKind::AlreadyExists);
    /// # Ok::<(), tiered::Error>(()) }).unwrap();
    /// ```
    pub async fn create(&self, url: &str) -> Result<Arc<dyn Store>> {
        self.open(url, Create::New).await
    }

    /// Opens the store at the place that `url` names, which must be there.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] where there is none; [`ErrorKind::Corrupt`] where its removal was interrupted; else as
    /// [`open`](Self::open). Nothing is left behind.
    ///
    /// # Cancel safety
    /// As the opening of the store.
    ///
    /// # Examples
    /// ```
    /// # #[cfg(feature = "redb")]
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// # let folder = tempfile::tempdir().unwrap();
    /// # let url = format!("redb:{}", folder.path().join("data.redb").display());
    /// use tiered::{ErrorKind, Schemes};
    ///
    /// let refused = Schemes::standard().connect(&url).await.map(drop);
    /// assert_eq!(refused.unwrap_err().kind(), ErrorKind::NotFound);
    /// # Ok::<(), tiered::Error>(()) }).unwrap();
    /// ```
    pub async fn connect(&self, url: &str) -> Result<Arc<dyn Store>> {
        self.open(url, Create::Never).await
    }

    /// Whether there is a store at the place that `url` names. Changes nothing there.
    ///
    /// # Errors
    /// [`ErrorKind::Foreign`] where there is something else; [`ErrorKind::Unsupported`] for a scheme of the program that
    /// cannot tell; else those of the store.
    ///
    /// # Cancel safety
    /// Dropping it has no effect.
    ///
    /// # Examples
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// use tiered::Schemes;
    ///
    /// assert!(!Schemes::standard().exists("memory:").await?, "memory lasts no longer than its store");
    /// # Ok::<(), tiered::Error>(()) }).unwrap();
    /// ```
    pub async fn exists(&self, url: &str) -> Result<bool> {
        let (layers, inside) = layer::split(url)?;
        if !self.place(&inside)?.exists().await? {
            return Ok(false);
        }
        let Some(prefix) = prefix_of(&layers) else { return Ok(true) };
        let view = self.view(prefix, &inside).await?;
        closing(&*view, namespace::holds_anything(&*view).await).await
    }

    /// Removes the store at the place that `url` names, with everything that it has written, and nothing else: entries of
    /// others, a bucket, a database and a folder with other files stay. Under `prefix+` the keys with the prefix and
    /// its marks are removed, and the store around them stays. When it returns, the store is gone, also after a loss of
    /// power. Interrupted, it leaves a place that `connect` refuses or opens as a whole, and that the next call removes.
    ///
    /// The other handles of a store on a server cannot be seen from here, and fail from then on.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] where there is none, and for a place in memory; [`ErrorKind::Locked`] where it is open
    /// elsewhere, or, under [`Unflushed::Refuse`], a journal holds acknowledged writes for it;
    /// [`ErrorKind::PermissionDenied`] under `read-only+`; [`ErrorKind::Unsupported`] for a scheme of the program that
    /// cannot; else those of the store.
    ///
    /// # Cancel safety
    /// Dropped half-way it is as if it was interrupted.
    ///
    /// # Examples
    /// ```
    /// # #[cfg(feature = "redb")]
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// # let folder = tempfile::tempdir().unwrap();
    /// # let url = format!("redb:{}", folder.path().join("data.redb").display());
    /// use tiered::{Schemes, Store, Unflushed};
    ///
    /// let schemes = Schemes::standard();
    /// schemes.create(&url).await?.close().await?;
    /// schemes.destroy(&url, Unflushed::Refuse).await?;
    /// assert!(!schemes.exists(&url).await?);
    /// # Ok::<(), tiered::Error>(()) }).unwrap();
    /// ```
    pub async fn destroy(&self, url: &str, unflushed: Unflushed) -> Result<()> {
        let destroyed = self.destroy_place(url, unflushed).await;
        destroyed.map_err(|error| error.during(Operation::Destroy))
    }

    async fn destroy_place(&self, url: &str, unflushed: Unflushed) -> Result<()> {
        let (layers, inside) = layer::split(url)?;
        if layers.contains(&Layer::ReadOnly) {
            return Err(only_read());
        }
        if let Some(prefix) = prefix_of(&layers) {
            let view = self.view(prefix, &inside).await?;
            let emptied = destroy_view(&*view, unflushed).await;
            return closing(&*view, emptied).await;
        }
        let place = self.place(&inside)?;
        if unflushed == Unflushed::Refuse && place.lasts() {
            self.check_journals(&inside).await?;
        }
        place.destroy().await
    }

    /// The id of the store at the place that `url` names ([`ownership::id`]): the same after every opening, and no other
    /// store's. `None` where it has none yet, as one that an older version has made, or keeps no marks.
    ///
    /// # Errors
    /// As [`open_to_read`](Self::open_to_read).
    ///
    /// # Cancel safety
    /// As the opening of the store.
    ///
    /// # Examples
    /// ```
    /// # #[cfg(feature = "redb")]
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// # let folder = tempfile::tempdir().unwrap();
    /// # let url = format!("redb:{}", folder.path().join("data.redb").display());
    /// use tiered::{Schemes, Store};
    ///
    /// let schemes = Schemes::standard();
    /// schemes.create(&url).await?.close().await?;
    /// let id = schemes.id(&url).await?;
    /// assert!(id.is_some() && id == schemes.id(&url).await?);
    /// # Ok::<(), tiered::Error>(()) }).unwrap();
    /// ```
    pub async fn id(&self, url: &str) -> Result<Option<String>> {
        let store = self.open_to_read(url).await?;
        closing(&*store, ownership::id(&*store).await).await
    }

    /// Opens the store that `url` names, and enters in `undo` what that has made.
    pub(crate) async fn open_noting(&self, url: &str, create: Create, undo: &Undo) -> Result<Arc<dyn Store>> {
        let (layers, inside) = layer::split(url)?;
        if create == Create::New && layers.contains(&Layer::ReadOnly) {
            return Err(new_and_only_read());
        }
        let prefix = prefix_of(&layers);
        // A prefix of a store that is there may be new itself.
        let around = if prefix.is_some() && create == Create::New { Create::IfAbsent } else { create };
        let store = self.open_inside_noting(&inside, around, undo).await?;
        if let Some(prefix) = prefix {
            let view = Layer::Prefix(prefix.to_owned()).around(Arc::clone(&store));
            let checked = match &view {
                Ok(view) => check_prefix(&**view, create).await,
                Err(error) => Err(error.clone()),
            };
            if let Err(error) = checked {
                return closing(&*store, Err(error)).await;
            }
        }
        let store = wrapped(&layers, store).await?;
        match give_id(&*store, create).await {
            Ok(()) => Ok(store),
            Err(error) => closing(&*store, Err(error)).await,
        }
    }

    async fn open_inside_noting(&self, inside: &str, create: Create, undo: &Undo) -> Result<Arc<dyn Store>> {
        let url = StoreUrl::parse(inside)?;
        let before = if self.opener(url.scheme()).is_none() { place::before(&url) } else { None };
        let made = |store| {
            if let Some(before) = before {
                undo.add(Made::Place(inside.to_owned(), before));
            }
            Ok(store)
        };
        match create {
            Create::New => self.open_inside(inside, Create::New).await.and_then(made),
            // In two steps: which of them it was says whether it is new.
            Create::IfAbsent if before.is_some() => match self.open_inside(inside, Create::Never).await {
                // An empty file or folder is no store yet, and foreign where it is not to become one.
                Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Foreign) => {
                    match self.open_inside(inside, Create::New).await {
                        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                            self.open_inside(inside, Create::IfAbsent).await
                        }
                        opened => opened.and_then(made),
                    }
                }
                opened => opened,
            },
            Create::IfAbsent | Create::Never => self.open_inside(inside, create).await,
        }
    }

    /// The keys with a prefix in the store that `inside` names.
    async fn view(&self, prefix: &str, inside: &str) -> Result<Arc<dyn Store>> {
        wrapped(&[Layer::Prefix(prefix.to_owned())], self.open_inside(inside, Create::Never).await?).await
    }

    /// Refuses a store that a journal holds writes for.
    async fn check_journals(&self, inside: &str) -> Result<()> {
        let store = match self.open_inside(inside, Create::Never).await {
            Ok(store) => store,
            // What is damaged or half removed is removed all the same.
            Err(error) if matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::Foreign) => return Ok(()),
            Err(error) => return Err(error),
        };
        closing(&*store, check_no_journals(&*store).await).await
    }
}

/// Refuses a prefix that is not as `create` wants it: there, or new.
pub(crate) async fn check_prefix(view: &dyn Store, create: Create) -> Result<()> {
    namespace::check_whole(view).await?;
    if !namespace::lasts(view) {
        return Ok(());
    }
    match (namespace::holds_anything(view).await?, create) {
        (true, Create::New) => {
            let message = "there is a store under the prefix already; connect to it, or destroy it first";
            Err(Error::new(ErrorKind::AlreadyExists, message).during(Operation::Open))
        }
        (false, Create::Never) => {
            let message = "there is nothing under the prefix; create it first";
            Err(Error::new(ErrorKind::NotFound, message).during(Operation::Open))
        }
        _ => Ok(()),
    }
}

/// Gives a store that lasts its id, where it may be made.
pub(crate) async fn give_id(store: &dyn Store, create: Create) -> Result<()> {
    if create == Create::Never || !namespace::lasts(store) {
        return Ok(());
    }
    match ownership::ensure_id(store).await {
        // A store that is only read has the id that it has.
        Err(error)
            if create == Create::IfAbsent
                && matches!(error.kind(), ErrorKind::PermissionDenied | ErrorKind::Unsupported) =>
        {
            Ok(())
        }
        given => given.map(drop),
    }
}

/// Removes what lies in `view`: all that a prefix has.
pub(crate) async fn destroy_view(view: &dyn Store, unflushed: Unflushed) -> Result<()> {
    if unflushed == Unflushed::Refuse {
        check_no_journals(view).await?;
    }
    if !namespace::holds_anything(view).await? {
        return Err(Error::new(ErrorKind::NotFound, "there is nothing under the prefix"));
    }
    namespace::empty(view).await
}

pub(crate) async fn check_no_journals(store: &dyn Store) -> Result<()> {
    check_no_journals_but(store, None).await
}

/// Refuses a store that a journal holds writes for, other than that of the id `own`.
pub(crate) async fn check_no_journals_but(store: &dyn Store, own: Option<&str>) -> Result<()> {
    let journals: Vec<String> = ownership::journals(store).await?.iter().map(ToString::to_string).collect();
    let Some(journal) = journals.iter().find(|journal| Some(journal.as_str()) != own) else { return Ok(()) };
    let message = format!(
        "the journal {journal} may hold acknowledged writes for this store; open and close its stack to flush them, or discard them by Unflushed::Discard"
    );
    Err(Error::new(ErrorKind::Locked, message))
}

pub(crate) fn new_and_only_read() -> Error {
    let message = "a store that is only read cannot be new; leave out read-only";
    Error::new(ErrorKind::Config, message).during(Operation::Open)
}

pub(crate) fn only_read() -> Error {
    let message = "the store is only read by these settings; leave out read-only to destroy it";
    Error::new(ErrorKind::PermissionDenied, message).during(Operation::Destroy)
}

fn prefix_of(layers: &[Layer]) -> Option<&str> {
    layers.iter().find_map(|layer| match layer {
        Layer::Prefix(prefix) => Some(prefix.as_str()),
        _ => None,
    })
}

/// Closes a store after its use, without hiding the error of that.
pub(crate) async fn closing<T>(store: &dyn Store, result: Result<T>) -> Result<T> {
    let closed = store.close().await;
    let done = result?;
    closed?;
    Ok(done)
}

/// What an opening has made on this machine, to be removed again where it fails. What others can see, on a server, stays:
/// they may use it already, and lose nothing by a store that is empty.
#[derive(Debug, Default)]
pub(crate) struct Undo(Mutex<Vec<Made>>);

#[derive(Debug)]
pub(crate) enum Made {
    /// By its URL.
    Place(String, Before),
    #[cfg_attr(not(feature = "journal"), expect(dead_code, reason = "there are no journals"))]
    Journal(PathBuf, Before),
}

impl Undo {
    pub(crate) fn add(&self, made: Made) {
        self.0.lock().push(made);
    }

    /// Passes the end of an opening on. Where it failed, what it has made is taken back, the last first, unless it was used
    /// meanwhile.
    pub(crate) async fn after<T>(&self, schemes: &Schemes, opened: Result<T>) -> Result<T> {
        let Err(error) = opened else { return opened };
        let made: Vec<Made> = std::mem::take(&mut *self.0.lock());
        for made in made.into_iter().rev() {
            match schemes.take_back(&made).await {
                Ok(true) => {}
                Ok(false) => {
                    tracing::warn!(place = %made, "what a failed opening has made is in use, and stays");
                }
                Err(error) => {
                    tracing::warn!(place = %made, error = %error.chain(), "what a failed opening has made is left behind");
                }
            }
        }
        Err(error)
    }
}

impl fmt::Display for Made {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Place(url, _) => f.write_str(url),
            Self::Journal(path, _) => write!(f, "{}", path.display()),
        }
    }
}

impl Schemes {
    async fn take_back(&self, made: &Made) -> Result<bool> {
        match made {
            Made::Place(url, before) => match self.place(url)? {
                Place::Standard(place) => place.take_back(*before).await,
                Place::Own(..) => Ok(false),
            },
            Made::Journal(path, before) => take_back_journal(path, *before).await,
        }
    }

    fn place(&self, inside: &str) -> Result<Place<'_>> {
        let url = StoreUrl::parse(inside)?;
        Ok(match self.opener(url.scheme()) {
            Some(opener) => Place::Own(opener, url),
            None => Place::Standard(place::Place::of(url).map_err(|error| self.with_own(error))?),
        })
    }
}

#[cfg(feature = "journal")]
async fn take_back_journal(path: &Path, before: Before) -> Result<bool> {
    tiered_journal::JournalConfig::new(path).take_back(before).await
}

#[cfg(not(feature = "journal"))]
#[expect(clippy::unused_async, reason = "as with the feature")]
async fn take_back_journal(_: &Path, _: Before) -> Result<bool> {
    Ok(false)
}

/// The place of a URL without wrappers.
enum Place<'a> {
    Standard(place::Place),
    Own(&'a dyn crate::Opener, StoreUrl),
}

impl Place<'_> {
    /// Whether it may outlive the process.
    fn lasts(&self) -> bool {
        match self {
            Self::Standard(place) => place.lasts(),
            Self::Own(..) => true,
        }
    }

    async fn exists(self) -> Result<bool> {
        match self {
            Self::Standard(place) => place.exists().await,
            Self::Own(opener, url) => opener.exists(url).await,
        }
    }

    async fn destroy(self) -> Result<()> {
        match self {
            Self::Standard(place) => place.destroy().await,
            Self::Own(opener, url) => opener.destroy(url).await,
        }
    }
}
