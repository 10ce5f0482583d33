//! Opening a stack: its journal, its tiers, and what is around them.

#[cfg(feature = "journal")]
use std::path::Path;
use std::sync::Arc;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use tiered_core::adapter::journal::Journal;
#[cfg(feature = "journal")]
use tiered_core::adapter::opening::Before;
use tiered_core::{
    Create, Error, ErrorKind, Operation, Result, Store, TieredBuilder, TieredStore, VolatileJournal,
    WritePolicy,
};
#[cfg(feature = "journal")]
use tiered_core::{Unflushed, ownership};

use super::Stack;
use crate::layer::Layer;
use crate::lifecycle::{Made, Undo, check_prefix, closing, give_id, new_and_only_read};
use crate::namespace;
use crate::schemes::{Schemes, wrapped};

impl Stack {
    /// Opens the stack, and removes what that has made where it fails.
    pub(super) fn open_and_undo<'a>(
        &'a self,
        schemes: &'a Schemes,
        opened: Opened,
    ) -> BoxFuture<'a, Result<Arc<dyn Store>>> {
        async move {
            let undo = Undo::default();
            let store = self.open_as(schemes, opened, Above::Nothing, &undo).await;
            undo.after(schemes, store).await
        }
        .boxed()
    }

    /// Opens the stack, and enters in `undo` what that has made.
    pub(super) fn open_as<'a>(
        &'a self,
        schemes: &'a Schemes,
        opened: Opened,
        above: Above,
        undo: &'a Undo,
    ) -> BoxFuture<'a, Result<Arc<dyn Store>>> {
        async move {
            let refuse = |why: &str| Err(Error::new(ErrorKind::Config, why).during(Operation::Open));
            if let Some((layer, store)) = self.wrapper()? {
                return self.open_wrapped(schemes, (layer, store), opened, above, undo).await;
            }
            match (&self.url, &self.frontend, &self.backend) {
                (Some(url), None, None) if self.has_no_settings() => match opened {
                    Opened::With(create) => schemes.open_noting(url, create, undo).await,
                    Opened::ToRead => schemes.open_to_read(url).await,
                },
                (None, Some(frontend), Some(backend)) => {
                    let tiers = (&**frontend, &**backend);
                    let store = self.open_tiers(schemes, tiers, opened, above, undo).await?;
                    Ok(Arc::new(store) as Arc<dyn Store>)
                }
                (Some(_), ..) => {
                    refuse("a stack has either a url, or a frontend, a backend and their policy")
                }
                _ => refuse("a stack needs a url, or a frontend and a backend"),
            }
        }
        .boxed()
    }

    async fn open_wrapped(
        &self,
        schemes: &Schemes,
        (layer, store): (Layer, &Self),
        opened: Opened,
        above: Above,
        undo: &Undo,
    ) -> Result<Arc<dyn Store>> {
        let is_prefix = matches!(layer, Layer::Prefix(_));
        let around = match opened {
            Opened::With(Create::New) if layer == Layer::ReadOnly => return Err(new_and_only_read()),
            // A prefix of a stack that is there may be new itself.
            Opened::With(Create::New) if is_prefix => Opened::With(Create::IfAbsent),
            opened => opened,
        };
        let store = store.open_as(schemes, around, above, undo).await?;
        let store = wrapped(&[layer], store).await?;
        if !is_prefix {
            return Ok(store);
        }
        let checked = match opened {
            Opened::ToRead => namespace::check_whole(&*store).await,
            Opened::With(create) => match check_prefix(&*store, create).await {
                Ok(()) => give_id(&*store, create).await,
                refused => refused,
            },
        };
        match checked {
            Ok(()) => Ok(store),
            Err(error) => closing(&*store, Err(error)).await,
        }
    }

    pub(super) async fn open_tiers(
        &self,
        schemes: &Schemes,
        (frontend, backend): (&Self, &Self),
        opened: Opened,
        above: Above,
        undo: &Undo,
    ) -> Result<TieredStore> {
        self.check_journal()?;
        // Opened first: its lock tells whether another process has the stack open.
        let journal = match self.journal.as_deref() {
            None => None,
            Some(place) => Some(open_journal(place, opened).await?),
        };
        let opened = if journal.is_some() { opened.for_writing() } else { opened };
        let (journal, new_journal) = journal.map_or((None, None), |(journal, made)| (Some(journal), made));
        let built = self.open_over(schemes, (frontend, backend), opened, (journal, above), undo).await;
        match (built, new_journal) {
            (Ok(store), made) => {
                if let Some(made) = made {
                    undo.add(made);
                }
                Ok(store)
            }
            (Err((error, backend)), made) => {
                // The frontend is closed. A journal is forgotten by its backend before it is removed.
                if let Some(made) = made
                    && forgotten(&made, backend.as_deref()).await
                {
                    undo.add(made);
                }
                if let Some(backend) = backend {
                    backend.close().await.ok();
                }
                Err(error)
            }
        }
    }

    /// Opens the tiers over a journal, and builds the stack; the backend with an error, where that is open.
    async fn open_over(
        &self,
        schemes: &Schemes,
        (frontend, backend): (&Self, &Self),
        opened: Opened,
        (journal, above): (Option<Arc<dyn Journal>>, Above),
        undo: &Undo,
    ) -> std::result::Result<TieredStore, (Error, Option<Arc<dyn Store>>)> {
        // The backend is opened first: no frontend is created for a backend that does not exist.
        let beneath = if self.has_durable_journal() { Above::Journal } else { above };
        let backend = backend.open_as(schemes, self.of_backend(opened), beneath, undo).await;
        let backend = backend.map_err(|error| (error, None))?;
        let frontend = match frontend.open_as(schemes, opened.of_frontend(), Above::Nothing, undo).await {
            Ok(frontend) => frontend,
            Err(error) => return Err((error, Some(backend))),
        };
        let tiers = (Arc::clone(&frontend), Arc::clone(&backend));
        match self.builder(tiers, journal, above).build().await {
            Ok(store) => Ok(store),
            Err(error) => {
                frontend.close().await.ok();
                Err((error, Some(backend)))
            }
        }
    }

    fn builder(
        &self,
        (frontend, backend): (Arc<dyn Store>, Arc<dyn Store>),
        journal: Option<Arc<dyn Journal>>,
        above: Above,
    ) -> TieredBuilder {
        let builder =
            TieredStore::builder(frontend, backend).settings(self.policy.clone().unwrap_or_default());
        let builder = match journal {
            Some(journal) => builder.journal(journal),
            None => builder,
        };
        let builder = if self.sole_writer { builder.declare_sole_writer() } else { builder };
        let builder = if self.private_frontend { builder.declare_private_frontend() } else { builder };
        let builder = match self.lease {
            Some(lease) => builder.lease(lease),
            None => builder,
        };
        let builder = if self.sole_journal { builder.declare_sole_journal() } else { builder };
        let builder = match &self.backend_id {
            Some(id) => builder.backend_id(id),
            None => builder,
        };
        // The journal of a store above holds writes that this store does not see; the store above serves them.
        match above {
            Above::Journal => builder.beneath_journal(),
            Above::Nothing => builder,
        }
    }

    /// The backend of a new stack is new, unless others own it.
    fn of_backend(&self, opened: Opened) -> Opened {
        if opened.is_new() && !self.owns_backend() { Opened::With(Create::Never) } else { opened }
    }

    /// Whether the stack writes its backend, or is above the backend of others.
    pub(super) fn owns_backend(&self) -> bool {
        self.policy.as_ref().is_none_or(|policy| policy.write_policy != WritePolicy::FrontendOnly)
    }

    pub(super) fn check_journal(&self) -> Result<()> {
        let settings = self.policy.clone().unwrap_or_default();
        let behind = settings.write_policy == WritePolicy::WriteBehind;
        if behind && self.journal.is_none() {
            let message = "write-behind needs a journal; name a folder for it, or volatile: where a crash may lose what is not flushed";
            return Err(Error::new(ErrorKind::Config, message).during(Operation::Open));
        }
        if !behind && self.journal.is_some() {
            let message = format!(
                "{} does not use a journal; remove `journal` or choose write-behind",
                settings.write_policy
            );
            return Err(Error::new(ErrorKind::Config, message).during(Operation::Open));
        }
        Ok(())
    }
}

/// Names a journal in memory, which a crash loses.
pub(super) const VOLATILE: &str = "volatile:";

/// How the backend of a stack is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Opened {
    With(Create),
    ToRead,
}

impl Opened {
    /// Recovering a journal writes.
    pub(super) fn for_writing(self) -> Self {
        match self {
            Self::With(create) => Self::With(create),
            Self::ToRead => Self::With(Create::Never),
        }
    }

    /// An absent frontend is made; that of a new stack is new.
    fn of_frontend(self) -> Self {
        match self {
            Self::With(Create::New) => self,
            _ => Self::With(Create::IfAbsent),
        }
    }

    fn is_new(self) -> bool {
        self == Self::With(Create::New)
    }
}

/// Whether a stack above this one has a journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Above {
    /// No journal that outlives the process.
    Nothing,
    /// At least one.
    Journal,
}

/// The journal at `place`, and how to remove it again where this has made it.
async fn open_journal(place: &str, opened: Opened) -> Result<(Arc<dyn Journal>, Option<Made>)> {
    if place == VOLATILE {
        return Ok((Arc::new(VolatileJournal::new()), None));
    }
    #[cfg(feature = "journal")]
    return {
        let config = tiered_journal::JournalConfig::new(place);
        let before = Before::at(Path::new(place));
        // What is no journal's is refused by the opening.
        let is_there = config.clone().exists().await.unwrap_or(true);
        if is_there && opened.is_new() {
            let message = "there is a journal already; connect to its stack, or destroy it first";
            return Err(Error::new(ErrorKind::AlreadyExists, message)
                .at_place(place)
                .during(Operation::Open));
        }
        let journal = config.open().await?;
        Ok((Arc::new(journal), (!is_there).then(|| Made::Journal(place.into(), before))))
    };
    #[cfg(not(feature = "journal"))]
    {
        let _ = opened;
        Err(Error::new(
            ErrorKind::Config,
            "this build has no journal on disk; enable the feature journal, or use volatile:",
        )
        .during(Operation::Open))
    }
}

/// Takes a journal that was just made, and holds nothing, out of the mark of the backend. Whether that does not name it:
/// else the journal has to stay, since a backend waits for the writes of a journal that it names.
#[cfg(feature = "journal")]
async fn forgotten(made: &Made, backend: Option<&dyn Store>) -> bool {
    let (Made::Journal(path, _), Some(backend)) = (made, backend) else { return true };
    let left = async {
        match tiered_journal::JournalConfig::new(path).check_destroy(Unflushed::Refuse).await? {
            Some(journal) => ownership::abandon(backend, journal).await.map(drop),
            None => Ok(()),
        }
    };
    left.await
        .inspect_err(|error| {
            tracing::warn!(journal = %path.display(), error = %error.chain(), "the journal of a failed opening stays: its backend may name it");
        })
        .is_ok()
}

#[cfg(not(feature = "journal"))]
#[expect(clippy::unused_async, reason = "as with the feature")]
async fn forgotten(_: &Made, _: Option<&dyn Store>) -> bool {
    true
}
