//! The life of a stack: created, connected to, looked for, destroyed, and told apart by its id.

use std::sync::Arc;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use tiered_core::{Create, Error, ErrorKind, Operation, Result, Store, Unflushed, ownership};

use super::Stack;
use super::opening::{Above, Opened};
use crate::layer::Layer;
use crate::lifecycle::{Undo, check_no_journals_but, closing, destroy_view, only_read};
use crate::namespace;
use crate::schemes::{Schemes, wrapped};

/// # Life
///
/// The end of a stack for this process is [`Store::close`]. A stack is where its backend is: under the write policy
/// `frontend-only`, whose backend others own, where its frontend is.
impl Stack {
    /// Makes a new stack, and opens it. The backend, the frontend and the journal have to be new; under the write policy
    /// `frontend-only` the backend belongs to others and has to be there. When it returns, all of it is there, also after
    /// a loss of power.
    ///
    /// # Errors
    /// [`ErrorKind::AlreadyExists`] where a tier or the journal is there; else as [`open`](Self::open). What this call has
    /// made on this machine is removed again, unless it was used meanwhile, and nothing else. On a server, under a prefix
    /// and in a scheme of the program an empty store may stay.
    ///
    /// # Cancel safety
    /// Dropped half-way it may leave new tiers without entries.
    ///
    /// # Examples
    /// ```
    /// # #[cfg(feature = "redb")]
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// # let folder = tempfile::tempdir().unwrap();
    /// # let url = format!("redb:{}", folder.path().join("data.redb").display());
    /// use tiered::{ErrorKind, Schemes, Stack, Store, TieredSettings};
    ///
    /// let schemes = Schemes::standard();
    /// let stack = Stack::tiers(Stack::store("memory:"), Stack::store(url), TieredSettings::default(), None);
    /// stack.create(&schemes).await?.close().await?;
    /// assert_eq!(stack.create(&schemes).await.map(drop).unwrap_err().kind(), ErrorKind::AlreadyExists);
    /// # Ok::<(), tiered::Error>(()) }).unwrap();
    /// ```
    pub fn create<'a>(&'a self, schemes: &'a Schemes) -> BoxFuture<'a, Result<Arc<dyn Store>>> {
        self.open_and_undo(schemes, Opened::With(Create::New))
    }

    /// Opens the stack, whose backend must be there. A frontend or a journal that is not there is made: a new, empty one.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] where the backend is not there; [`ErrorKind::Config`] where the frontend or the journal
    /// belongs to another backend; else as [`open`](Self::open). Nothing is left behind.
    ///
    /// # Cancel safety
    /// As the opening of the tiers.
    ///
    /// # Examples
    /// ```
    /// # #[cfg(feature = "redb")]
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// # let folder = tempfile::tempdir().unwrap();
    /// # let url = format!("redb:{}", folder.path().join("data.redb").display());
    /// use tiered::{ErrorKind, Schemes, Stack, TieredSettings};
    ///
    /// let stack = Stack::tiers(Stack::store("memory:"), Stack::store(url), TieredSettings::default(), None);
    /// let refused = stack.connect(&Schemes::standard()).await.map(drop);
    /// assert_eq!(refused.unwrap_err().kind(), ErrorKind::NotFound);
    /// # Ok::<(), tiered::Error>(()) }).unwrap();
    /// ```
    pub fn connect<'a>(&'a self, schemes: &'a Schemes) -> BoxFuture<'a, Result<Arc<dyn Store>>> {
        self.open_and_undo(schemes, Opened::With(Create::Never))
    }

    /// Whether the stack is there. Changes nothing. Where it is not, a frontend or a journal may be left all the same:
    /// [`create`](Self::create) names it.
    ///
    /// # Errors
    /// As [`Schemes::exists`].
    ///
    /// # Cancel safety
    /// Dropping it has no effect.
    ///
    /// # Examples
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// use tiered::{Schemes, Stack};
    ///
    /// assert!(!Stack::store("memory:").exists(&Schemes::standard()).await?);
    /// # Ok::<(), tiered::Error>(()) }).unwrap();
    /// ```
    pub fn exists<'a>(&'a self, schemes: &'a Schemes) -> BoxFuture<'a, Result<bool>> {
        async move {
            if let Some((layer, store)) = self.wrapper()? {
                let is_there = store.exists(schemes).await?;
                if !is_there || !matches!(layer, Layer::Prefix(_)) {
                    return Ok(is_there);
                }
                let store = wrapped(&[layer], store.open_to_read_with(schemes).await?).await?;
                return closing(&*store, namespace::holds_anything(&*store).await).await;
            }
            match (&self.url, &self.frontend, &self.backend) {
                (Some(url), None, None) => schemes.exists(url).await,
                (None, Some(_), Some(backend)) if self.owns_backend() => backend.exists(schemes).await,
                (None, Some(frontend), Some(_)) => frontend.exists(schemes).await,
                _ => Err(no_stack()),
            }
        }
        .boxed()
    }

    /// Removes the stack: the frontend, the journal and the backend, in this order, and nothing else. Under the write policy
    /// `frontend-only` the backend belongs to others and stays. When it returns, all of it is gone, also after a loss of
    /// power. Interrupted, it leaves a stack that `connect` refuses or opens as a whole, and that the next call removes.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] where there is nothing; [`ErrorKind::Locked`] where a tier or the journal is open elsewhere,
    /// or, under [`Unflushed::Refuse`], where the journal holds writes that the backend has not received, or parked ones,
    /// or where another stack's journal holds writes for the backend; [`ErrorKind::Unsupported`] where a scheme of the
    /// program cannot destroy. In these cases nothing was removed. Else as [`Schemes::destroy`].
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
    /// use tiered::{Schemes, Stack, Store, TieredSettings, Unflushed};
    ///
    /// let schemes = Schemes::standard();
    /// let stack = Stack::tiers(Stack::store("memory:"), Stack::store(url), TieredSettings::default(), None);
    /// stack.create(&schemes).await?.close().await?;
    /// stack.destroy(&schemes, Unflushed::Refuse).await?;
    /// assert!(!stack.exists(&schemes).await?);
    /// # Ok::<(), tiered::Error>(()) }).unwrap();
    /// ```
    pub fn destroy<'a>(&'a self, schemes: &'a Schemes, unflushed: Unflushed) -> BoxFuture<'a, Result<()>> {
        async move {
            if let Some((layer, store)) = self.wrapper()? {
                return match layer {
                    Layer::ReadOnly => Err(only_read()),
                    Layer::Prefix(_) => self.empty_prefix(schemes, unflushed).await,
                    _ => store.destroy(schemes, unflushed).await,
                };
            }
            match (&self.url, &self.frontend, &self.backend) {
                (Some(url), None, None) => schemes.destroy(url, unflushed).await,
                (None, Some(frontend), Some(backend)) => {
                    self.check_journal()?;
                    self.destroy_tiers(schemes, (frontend, backend), unflushed).await
                }
                _ => Err(no_stack()),
            }
        }
        .map(|destroyed: Result<()>| destroyed.map_err(|error| error.during(Operation::Destroy)))
        .boxed()
    }

    /// The id of the stack: that of its backend ([`ownership::id`]), or the name that the settings give it. Its frontend
    /// and its journal remember it, and refuse another backend. `None` where the backend keeps no marks, or has no id yet.
    ///
    /// # Errors
    /// As [`open_to_read`](Self::open_to_read).
    ///
    /// # Cancel safety
    /// As the opening of the backend.
    ///
    /// # Examples
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// use tiered::{Schemes, Stack, TieredSettings};
    ///
    /// let tier = Stack::store("memory:");
    /// let stack = Stack::tiers(tier.clone(), tier, TieredSettings::default(), None).backend_id("orders");
    /// assert_eq!(stack.id(&Schemes::standard()).await?.as_deref(), Some("orders"));
    /// # Ok::<(), tiered::Error>(()) }).unwrap();
    /// ```
    pub fn id<'a>(&'a self, schemes: &'a Schemes) -> BoxFuture<'a, Result<Option<String>>> {
        async move {
            if let Some((layer, store)) = self.wrapper()? {
                if !matches!(layer, Layer::Prefix(_)) {
                    return store.id(schemes).await;
                }
                let store = self.open_to_read_with(schemes).await?;
                return closing(&*store, ownership::id(&*store).await).await;
            }
            match (&self.url, &self.backend_id, &self.backend) {
                (Some(url), ..) => schemes.id(url).await,
                (None, Some(id), _) => Ok(Some(id.clone())),
                (None, None, Some(backend)) => backend.id(schemes).await,
                _ => Err(no_stack()),
            }
        }
        .boxed()
    }

    /// Removes what lies under the prefix that this stack is.
    pub(crate) async fn empty_prefix(&self, schemes: &Schemes, unflushed: Unflushed) -> Result<()> {
        let Some((layer, store)) = self.wrapper()? else { return Err(no_stack()) };
        // Without the check of the prefix: a half removed one is removed here.
        let opened = store.open_and_undo(schemes, Opened::With(Create::Never)).await?;
        let view = wrapped(&[layer], opened).await?;
        closing(&*view, destroy_view(&*view, unflushed).await).await
    }

    async fn destroy_tiers(
        &self,
        schemes: &Schemes,
        (frontend, backend): (&Self, &Self),
        unflushed: Unflushed,
    ) -> Result<()> {
        // Nothing is removed before all is known to be removable.
        for tier in [frontend, backend] {
            tier.exists(schemes).await?;
        }
        let journal = self.journal_at_rest(unflushed).await?;
        // Opened in any case: one that is open elsewhere is found before the frontend is gone.
        if self.owns_backend()
            && let Some(store) = self.open_backend(schemes, backend).await?
        {
            let checked = match unflushed {
                Unflushed::Refuse => check_no_journals_but(&*store, journal.as_deref()).await,
                Unflushed::Discard => Ok(()),
            };
            closing(&*store, checked).await?;
        }
        let mut found = Found::Nothing;
        found.add(frontend.destroy(schemes, unflushed).await)?;
        // Only once the frontend is gone: what is left by an interruption before keeps its journal.
        if let Some(journal) = journal.filter(|_| self.owns_backend())
            && let Some(store) = self.open_backend(schemes, backend).await?
        {
            let parted = ownership::abandon(&*store, journal.parse()?).await;
            closing(&*store, parted).await?;
        }
        found.add(self.destroy_journal(unflushed).await)?;
        if self.owns_backend() {
            found.add(backend.destroy(schemes, unflushed).await)?;
        }
        match found {
            Found::Something => Ok(()),
            Found::Nothing => Err(Error::new(ErrorKind::NotFound, "there is no such stack")),
        }
    }

    /// The backend; `None` where it is gone, or half gone.
    async fn open_backend(&self, schemes: &Schemes, backend: &Self) -> Result<Option<Arc<dyn Store>>> {
        let above = if self.has_durable_journal() { Above::Journal } else { Above::Nothing };
        let undo = Undo::default();
        let opened = backend.open_as(schemes, Opened::With(Create::Never), above, &undo).await;
        match undo.after(schemes, opened).await {
            Ok(store) => Ok(Some(store)),
            Err(error)
                if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Corrupt | ErrorKind::Foreign) =>
            {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// The id of the journal, which is not open and, under [`Unflushed::Refuse`], holds nothing. `None` where there is none.
    #[cfg(feature = "journal")]
    async fn journal_at_rest(&self, unflushed: Unflushed) -> Result<Option<String>> {
        let Some(place) = self.journal.as_deref().filter(|_| self.has_durable_journal()) else {
            return Ok(None);
        };
        match tiered_journal::JournalConfig::new(place).check_destroy(unflushed).await {
            Ok(id) => Ok(id.map(|id| id.to_string())),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    #[cfg(not(feature = "journal"))]
    #[expect(clippy::unused_async, reason = "as with the feature")]
    async fn journal_at_rest(&self, _: Unflushed) -> Result<Option<String>> {
        Ok(None)
    }

    #[cfg(feature = "journal")]
    async fn destroy_journal(&self, unflushed: Unflushed) -> Result<()> {
        match self.journal.as_deref().filter(|_| self.has_durable_journal()) {
            Some(place) => tiered_journal::JournalConfig::new(place).destroy(unflushed).await,
            None => Err(no_journal()),
        }
    }

    #[cfg(not(feature = "journal"))]
    #[expect(clippy::unused_async, reason = "as with the feature")]
    async fn destroy_journal(&self, _: Unflushed) -> Result<()> {
        Err(no_journal())
    }
}

/// Whether a removal has met anything.
enum Found {
    Nothing,
    Something,
}

impl Found {
    fn add(&mut self, destroyed: Result<()>) -> Result<()> {
        match destroyed {
            Ok(()) => *self = Self::Something,
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }
}

fn no_stack() -> Error {
    Error::new(ErrorKind::Config, "a stack needs a url, or a frontend and a backend").during(Operation::Open)
}

fn no_journal() -> Error {
    Error::new(ErrorKind::NotFound, "there is no journal")
}
