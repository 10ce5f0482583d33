//! The schemes that URLs of stores may have.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use tiered_core::adapter::url::StoreUrl;
use tiered_core::{AsStore, Create, Error, ErrorKind, Operation, Result, Store};

use crate::lifecycle::{Undo, closing};
use crate::open::read_only;
use crate::place::Place;
use crate::{layer, namespace};

/// Opens the stores of a scheme. A function `async fn(StoreUrl, Create) -> Result<impl Store>` is one.
///
/// # Examples
/// ```
/// use tiered::adapter::url::StoreUrl;
/// use tiered::{Create, MemoryStore, Opener, Result, Schemes};
///
/// /// `mine:NAME?size=…`
/// async fn mine(mut url: StoreUrl, _: Create) -> Result<MemoryStore> {
///     let _size = url.take("size");
///     url.finish(&["size"])?;
///     Ok(MemoryStore::new())
/// }
///
/// fn takes(opener: impl Opener) -> Schemes {
///     Schemes::standard().with("mine", opener)
/// }
/// takes(mine);
/// ```
pub trait Opener: Send + Sync + 'static {
    /// Opens the store that `url` names. It takes the parameters that it knows, and lets
    /// [`StoreUrl::finish`] refuse the others. `create` says whether an absent place is made. Under [`Create::Never`] an
    /// absent place is [`ErrorKind::NotFound`], under [`Create::New`] one that is there [`ErrorKind::AlreadyExists`]. What a
    /// failed opening has made is removed by the opener.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] for a URL that is no such store's; else those of the store.
    ///
    /// # Examples
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// use tiered::adapter::url::StoreUrl;
    /// use tiered::{Create, MemoryStore, Opener, Result};
    ///
    /// async fn mine(_: StoreUrl, _: Create) -> Result<MemoryStore> {
    ///     Ok(MemoryStore::new())
    /// }
    /// let store = Opener::open(&mine, StoreUrl::parse("mine:x")?, Create::IfAbsent).await?;
    /// # Ok::<(), tiered::Error>(()) }).unwrap();
    /// ```
    fn open(&self, url: StoreUrl, create: Create) -> BoxFuture<'_, Result<Arc<dyn Store>>>;

    /// Whether there is a store at the place that `url` names, without changing anything. The body given here refuses: a
    /// closure opens stores, and cannot tell.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] where it is not provided; [`ErrorKind::Foreign`] where there is something else.
    ///
    /// # Examples
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// use tiered::adapter::url::StoreUrl;
    /// use tiered::{Create, ErrorKind, MemoryStore, Opener, Result};
    ///
    /// async fn mine(_: StoreUrl, _: Create) -> Result<MemoryStore> {
    ///     Ok(MemoryStore::new())
    /// }
    /// let error = mine.exists(StoreUrl::parse("mine:x")?).await.unwrap_err();
    /// assert_eq!(error.kind(), ErrorKind::Unsupported);
    /// # Ok::<(), tiered::Error>(()) }).unwrap();
    /// ```
    fn exists(&self, url: StoreUrl) -> BoxFuture<'_, Result<bool>> {
        let refused = not_provided(&url, "exists", Operation::Open);
        async move { Err(refused) }.boxed()
    }

    /// Removes the store at the place that `url` names, with all that it has written, and nothing else. It fails with
    /// [`ErrorKind::NotFound`] where there is none, and with [`ErrorKind::Locked`] where the store is open. The body given
    /// here refuses.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] where it is not provided; else those of the store.
    ///
    /// # Examples
    /// ```
    /// use std::sync::Arc;
    ///
    /// use futures_util::FutureExt as _;
    /// use futures_util::future::BoxFuture;
    /// use tiered::adapter::url::StoreUrl;
    /// use tiered::{Create, MemoryStore, Opener, Result, Schemes, Store, Unflushed};
    ///
    /// struct Mine;
    ///
    /// impl Opener for Mine {
    ///     fn open(&self, _: StoreUrl, _: Create) -> BoxFuture<'_, Result<Arc<dyn Store>>> {
    ///         async { Ok(Arc::new(MemoryStore::new()) as Arc<dyn Store>) }.boxed()
    ///     }
    ///
    ///     fn destroy(&self, _: StoreUrl) -> BoxFuture<'_, Result<()>> {
    ///         async { Ok(()) }.boxed()
    ///     }
    /// }
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// Schemes::standard().with("mine", Mine).destroy("mine:x", Unflushed::Refuse).await?;
    /// # Ok::<(), tiered::Error>(()) }).unwrap();
    /// ```
    fn destroy(&self, url: StoreUrl) -> BoxFuture<'_, Result<()>> {
        let refused = not_provided(&url, "destroy", Operation::Destroy);
        async move { Err(refused) }.boxed()
    }
}

fn not_provided(url: &StoreUrl, method: &str, operation: Operation) -> Error {
    let message =
        format!("the scheme {}: cannot; implement Opener::{method} for it, beside open", url.scheme());
    Error::new(ErrorKind::Unsupported, message).during(operation)
}

impl<F, Opening, S> Opener for F
where
    F: Fn(StoreUrl, Create) -> Opening + Send + Sync + 'static,
    Opening: Future<Output = Result<S>> + Send + 'static,
    S: AsStore,
{
    fn open(&self, url: StoreUrl, create: Create) -> BoxFuture<'_, Result<Arc<dyn Store>>> {
        self(url, create).map(|opened| opened.map(AsStore::into_store)).boxed()
    }
}

/// What URLs may name: the schemes of this build, and those of the program.
///
/// Nothing is global: hand it to what opens stores ([`Stack::open_with`](crate::Stack::open_with)).
///
/// # Wrappers
///
/// A scheme may begin with wrappers, the outermost first, each followed by `+`. Their parameters stand among those of the
/// store:
///
/// | wrapper | parameters |
/// |---|---|
/// | `prefix+` | `prefix=users/` |
/// | `read-only+` | |
/// | `compressed+` | `compression=lz4` (default) or `zstd` |
/// | `encrypted+` | `keys_file=PATH` or `keys_env=NAME`: where the keys are, never the keys |
///
/// So `prefix+compressed+redb:data.redb?prefix=users/` is a prefix of a compressed redb store.
///
/// # Examples
/// ```
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// use tiered::adapter::url::StoreUrl;
/// use tiered::{Create, MemoryStore, Schemes, StoreExt};
///
/// let schemes = Schemes::standard().with("mine", |url: StoreUrl, _: Create| async move {
///     url.finish(&[])?;
///     Ok(MemoryStore::new())
/// });
/// let store = schemes.open("mine:", Create::IfAbsent).await?;
/// store.set("users/42", "Ada").await?;
/// assert!(schemes.open_to_read("mine:").await.is_ok());
/// assert!(schemes.open("yours:", Create::IfAbsent).await.is_err());
/// # Ok::<(), tiered::Error>(()) }).unwrap();
/// ```
#[derive(Clone, Default)]
pub struct Schemes {
    own: BTreeMap<String, Arc<dyn Opener>>,
}

impl Schemes {
    /// The schemes of this build ([`SCHEMES`](crate::SCHEMES)).
    pub fn standard() -> Self {
        Self::default()
    }

    /// With one more scheme, which replaces another of the same name. A name is a lower-case letter, then such letters,
    /// digits, `-` and `.`: no URL has another one, so that one is never opened.
    #[must_use]
    pub fn with(mut self, scheme: impl Into<String>, opener: impl Opener) -> Self {
        self.own.insert(scheme.into(), Arc::new(opener));
        self
    }

    /// Opens the store that `url` names. One that may be made, lasts and keeps marks has an [id](Self::id) then.
    ///
    /// # Errors
    /// As [`open`](crate::open); for a scheme of the program, its opener's. What a failed opening has made on this machine is
    /// removed again, unless it was used meanwhile.
    ///
    /// # Cancel safety
    /// As the opening of the store.
    pub async fn open(&self, url: &str, create: Create) -> Result<Arc<dyn Store>> {
        let undo = Undo::default();
        let opened = self.open_noting(url, create, &undo).await;
        undo.after(self, opened).await
    }

    /// Opens an existing store for reading, as [`open_to_read`](crate::open_to_read) does.
    ///
    /// # Errors
    /// As [`open_to_read`](crate::open_to_read); for a scheme of the program, its opener's.
    ///
    /// # Cancel safety
    /// As the opening of the store.
    pub async fn open_to_read(&self, url: &str) -> Result<Arc<dyn Store>> {
        let (layers, inside) = layer::split(url)?;
        let store = match (self.open_inside(&inside, Create::Never).await, read_only(&inside)) {
            (Err(error), Some(url)) if error.kind() == ErrorKind::PermissionDenied => {
                self.open_inside(&url, Create::Never).await
            }
            (opened, _) => opened,
        };
        let store = wrapped(&layers, store?).await?;
        let has_prefix = layers.iter().any(|layer| matches!(layer, layer::Layer::Prefix(_)));
        let checked = if has_prefix { namespace::check_whole(&*store).await } else { Ok(()) };
        match checked {
            Ok(()) => Ok(store),
            Err(error) => closing(&*store, Err(error)).await,
        }
    }

    pub(crate) fn opener(&self, scheme: &str) -> Option<&dyn Opener> {
        self.own.get(scheme).map(|opener| &**opener)
    }

    /// Opens the store of a URL without wrappers.
    pub(crate) async fn open_inside(&self, url: &str, create: Create) -> Result<Arc<dyn Store>> {
        let parsed = StoreUrl::parse(url)?;
        let Some(opener) = self.opener(parsed.scheme()) else {
            return Place::of(parsed).map_err(|error| self.with_own(error))?.open(create).await;
        };
        if create == Create::New && is_there(opener, StoreUrl::parse(url)?).await? {
            let message = "there is a store already; connect to it, or destroy it first";
            return Err(Error::new(ErrorKind::AlreadyExists, message).during(Operation::Open));
        }
        opener.open(parsed, create).await
    }

    /// The error of an unknown scheme says which ones the program has.
    pub(crate) fn with_own(&self, error: Error) -> Error {
        let is_unknown = error.kind() == ErrorKind::Config && error.message().starts_with("unknown scheme");
        if self.own.is_empty() || !is_unknown {
            return error;
        }
        let own: Vec<String> = self.own.keys().map(|name| format!("{name}:")).collect();
        let message = format!("{}, {}", error.message(), own.join(", "));
        Error::new(ErrorKind::Config, message).during(Operation::Open)
    }
}

/// Whether there is a store already, as far as an opener can tell: one that cannot has to refuse it by itself.
async fn is_there(opener: &dyn Opener, url: StoreUrl) -> Result<bool> {
    match opener.exists(url).await {
        Err(error) if error.kind() == ErrorKind::Unsupported => Ok(false),
        found => found,
    }
}

/// `store` in wrappers, of which the first is the outermost. Where one refuses it, it is closed.
pub(crate) async fn wrapped(layers: &[layer::Layer], store: Arc<dyn Store>) -> Result<Arc<dyn Store>> {
    let around = layers.iter().rev().try_fold(Arc::clone(&store), |store, layer| layer.around(store));
    if around.is_err() {
        store.close().await.ok();
    }
    around
}

impl fmt::Debug for Schemes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Schemes").field("own", &self.own.keys()).finish()
    }
}
