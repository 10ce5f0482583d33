//! Stacks of any depth from data.

mod around;
mod lifecycle;
mod opening;
#[cfg(all(test, feature = "toml"))]
mod tests;

use std::fmt;
use std::sync::Arc;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use serde::Deserialize;
use tiered_core::Create;
use tiered_core::adapter::url::StoreUrl;
use tiered_core::ownership::Lease;
use tiered_core::{Error, ErrorKind, Operation, Result, Store, TieredSettings, TieredStore};

use crate::lifecycle::Undo;
use crate::schemes::Schemes;
use around::{Around, OfCompressed, OfEncrypted, OfPrefix};
use opening::{Above, Opened, VOLATILE};

/// A store, a tiered store of two stacks, or a wrapper around a stack, as settings describe it.
///
/// # Examples
/// ```
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// use tiered::{Create, Stack, Store, StoreExt, TieredSettings};
///
/// let tier = Stack::store("memory:");
/// let stack = Stack::tiers(tier.clone(), tier, TieredSettings::default(), None);
/// let store = stack.open(Create::IfAbsent).await?;
/// store.set("greeting", "hello").await?;
/// store.close().await?;
/// # Ok::<(), tiered::Error>(()) }).unwrap();
/// ```
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Stack {
    /// A single store.
    url: Option<String>,
    /// The fast tier.
    frontend: Option<Box<Stack>>,
    /// The authoritative tier; may be a stack itself.
    backend: Option<Box<Stack>>,
    /// The journal of write-behind: a folder's path, or `volatile:`.
    journal: Option<String>,
    /// Whether this stack is the only writer of a backend that could be shared, which write-behind needs.
    #[serde(default)]
    sole_writer: bool,
    /// Whether this stack is the only user of a frontend that could be shared.
    #[serde(default)]
    private_frontend: bool,
    /// How a backend that could be shared is owned instead: `acquire` or `take-over`.
    lease: Option<Lease>,
    /// Whether nothing writes the backend without this journal. Needed for a backend that keeps no marks.
    #[serde(default)]
    sole_journal: bool,
    /// The backend's name. Needed for a backend that keeps no marks: a journal then recognises it by this name.
    backend_id: Option<String>,
    /// How the tiers work together.
    policy: Option<TieredSettings>,
    /// The keys of a stack that begin with a prefix.
    prefix: Option<OfPrefix>,
    /// A stack that is only read.
    read_only: Option<Around>,
    /// A stack whose values are compressed.
    compressed: Option<OfCompressed>,
    /// A stack whose values are encrypted.
    encrypted: Option<OfEncrypted>,
}

impl Stack {
    fn empty() -> Self {
        Self {
            url: None,
            frontend: None,
            backend: None,
            journal: None,
            sole_writer: false,
            private_frontend: false,
            lease: None,
            sole_journal: false,
            backend_id: None,
            policy: None,
            prefix: None,
            read_only: None,
            compressed: None,
            encrypted: None,
        }
    }

    /// A single store.
    pub fn store(url: impl Into<String>) -> Self {
        Self { url: Some(url.into()), ..Self::empty() }
    }

    /// Two tiers.
    pub fn tiers(frontend: Self, backend: Self, policy: TieredSettings, journal: Option<String>) -> Self {
        Self {
            frontend: Some(Box::new(frontend)),
            backend: Some(Box::new(backend)),
            journal,
            policy: Some(policy),
            ..Self::empty()
        }
    }

    /// Declares that this stack is the only writer of the backend
    /// ([`TieredBuilder::declare_sole_writer`](tiered_core::TieredBuilder::declare_sole_writer)).
    ///
    /// # Examples
    /// ```
    /// use tiered::{Stack, TieredSettings};
    ///
    /// let tier = Stack::store("memory:");
    /// let stack = Stack::tiers(tier.clone(), tier, TieredSettings::default(), None).declare_sole_writer();
    /// ```
    #[must_use]
    pub fn declare_sole_writer(mut self) -> Self {
        self.sole_writer = true;
        self
    }

    /// Declares that this stack is the only user of the frontend
    /// ([`TieredBuilder::declare_private_frontend`](tiered_core::TieredBuilder::declare_private_frontend)).
    ///
    /// # Examples
    /// ```
    /// use tiered::{Stack, TieredSettings};
    ///
    /// let tier = Stack::store("memory:");
    /// let stack = Stack::tiers(tier.clone(), tier, TieredSettings::default(), None).declare_private_frontend();
    /// ```
    #[must_use]
    pub fn declare_private_frontend(mut self) -> Self {
        self.private_frontend = true;
        self
    }

    /// Owns the backend by a lease ([`TieredBuilder::lease`](tiered_core::TieredBuilder::lease)).
    ///
    /// # Examples
    /// ```
    /// use tiered::{Stack, TieredSettings};
    ///
    /// let tier = Stack::store("memory:");
    /// let stack = Stack::tiers(tier.clone(), tier, TieredSettings::default(), None).lease(Some(tiered::ownership::Lease::Acquire));
    /// ```
    #[must_use]
    pub fn lease(mut self, lease: Option<Lease>) -> Self {
        self.lease = lease;
        self
    }

    /// Declares that nothing writes the backend without the journal
    /// ([`TieredBuilder::declare_sole_journal`](tiered_core::TieredBuilder::declare_sole_journal)).
    ///
    /// # Examples
    /// ```
    /// use tiered::{Stack, TieredSettings};
    ///
    /// let tier = Stack::store("memory:");
    /// let stack = Stack::tiers(tier.clone(), tier, TieredSettings::default(), None).declare_sole_journal();
    /// ```
    #[must_use]
    pub fn declare_sole_journal(mut self) -> Self {
        self.sole_journal = true;
        self
    }

    /// Names the backend ([`TieredBuilder::backend_id`](tiered_core::TieredBuilder::backend_id)).
    ///
    /// # Examples
    /// ```
    /// use tiered::{Stack, TieredSettings};
    ///
    /// let tier = Stack::store("memory:");
    /// let stack = Stack::tiers(tier.clone(), tier, TieredSettings::default(), None).backend_id("orders");
    /// ```
    #[must_use]
    pub fn backend_id(mut self, id: impl Into<String>) -> Self {
        self.backend_id = Some(id.into());
        self
    }

    /// The URL of a single store; `None` for tiers and wrappers. It may hold secrets.
    ///
    /// # Examples
    /// ```
    /// use tiered::Stack;
    ///
    /// assert_eq!(Stack::store("redb:data.redb").url(), Some("redb:data.redb"));
    /// ```
    pub fn url(&self) -> Option<&str> {
        self.url.as_deref()
    }

    /// Whether a crash leaves the journal's writes for the next opening.
    fn has_durable_journal(&self) -> bool {
        self.journal.as_deref().is_some_and(|place| place != VOLATILE)
    }

    /// Reads a stack from TOML. `docs/stack.toml` is a documented sample.
    ///
    /// # Errors
    /// [`ErrorKind::Config`], with the line; never with its text, which may hold a secret.
    ///
    /// # Examples
    /// ```
    /// let stack = tiered::Stack::from_toml(r#"
    ///     [frontend]
    ///     url = "memory:"
    ///     [backend]
    ///     url = "memory:"
    ///     [policy]
    ///     write-policy = "write-around"
    /// "#)?;
    /// assert_eq!(stack.url(), None);
    /// # Ok::<(), tiered::Error>(())
    /// ```
    #[cfg(feature = "toml")]
    pub fn from_toml(text: &str) -> Result<Self> {
        toml::from_str(text).map_err(|error| {
            // Not the error's own text: that shows the line, and with it what may be a secret.
            let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
            let line = before.matches('\n').count() + 1;
            let message = without_text(error.message()).replace('\n', ", ");
            Error::new(ErrorKind::Config, format!("the settings cannot be read: line {line}: {message}"))
                .during(Operation::Open)
        })
    }

    /// Opens the stack. An absent frontend is always created; `create` applies to the other stores. What is new has to
    /// be so as a whole: see [`create`](Self::create) for [`Create::New`].
    ///
    /// # Errors
    /// [`ErrorKind::Config`] for a combination that cannot work, or outside a tokio runtime, saying what to change; else the
    /// tiers' own. Whatever fails, the tiers are closed, and what this call has made on this machine is removed again, unless
    /// it was used meanwhile.
    ///
    /// # Cancel safety
    /// As the opening of the tiers.
    ///
    /// # Panics
    /// In a tokio runtime without its time driver.
    pub fn open(&self, create: Create) -> BoxFuture<'_, Result<Arc<dyn Store>>> {
        async move { self.open_with(&Schemes::standard(), create).await }.boxed()
    }

    /// Opens the stack, as [`open`](Self::open) does, with the schemes of the program.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    ///
    /// # Cancel safety
    /// As the opening of the tiers.
    ///
    /// # Examples
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// use tiered::adapter::url::StoreUrl;
    /// use tiered::{Create, MemoryStore, Schemes, Stack};
    ///
    /// let schemes =
    ///     Schemes::standard().with("mine", |_: StoreUrl, _: Create| async { Ok(MemoryStore::new()) });
    /// let store = Stack::store("mine:").open_with(&schemes, Create::IfAbsent).await?;
    /// # Ok::<(), tiered::Error>(()) }).unwrap();
    /// ```
    pub fn open_with<'a>(
        &'a self,
        schemes: &'a Schemes,
        create: Create,
    ) -> BoxFuture<'a, Result<Arc<dyn Store>>> {
        self.open_and_undo(schemes, Opened::With(create))
    }

    /// Opens a stack of two tiers, as [`open`](Self::open) does.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] for a single store; else as `open`.
    ///
    /// # Cancel safety
    /// As the opening of the tiers.
    ///
    /// # Examples
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// use tiered::{Create, Stack, TieredSettings};
    ///
    /// let tier = Stack::store("memory:");
    /// let stack = Stack::tiers(tier.clone(), tier, TieredSettings::default(), None);
    /// let store = stack.open_tiered(Create::IfAbsent).await?;
    /// println!("{:?}", store.guarantees());
    /// # Ok::<(), tiered::Error>(()) }).unwrap();
    /// ```
    pub fn open_tiered(&self, create: Create) -> BoxFuture<'_, Result<TieredStore>> {
        async move { self.open_tiered_with(&Schemes::standard(), create).await }.boxed()
    }

    /// Opens a stack of two tiers, as [`open_tiered`](Self::open_tiered) does, with the schemes of the program.
    ///
    /// # Errors
    /// As [`open_tiered`](Self::open_tiered).
    ///
    /// # Cancel safety
    /// As the opening of the tiers.
    ///
    /// # Examples
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// use tiered::{Create, Schemes, Stack, TieredSettings};
    ///
    /// let tier = Stack::store("memory:");
    /// let stack = Stack::tiers(tier.clone(), tier, TieredSettings::default(), None);
    /// let store = stack.open_tiered_with(&Schemes::standard(), Create::IfAbsent).await?;
    /// # Ok::<(), tiered::Error>(()) }).unwrap();
    /// ```
    pub fn open_tiered_with<'a>(
        &'a self,
        schemes: &'a Schemes,
        create: Create,
    ) -> BoxFuture<'a, Result<TieredStore>> {
        async move {
            let opened = Opened::With(create);
            match (&self.frontend, &self.backend) {
                (Some(frontend), Some(backend)) if self.wrapper()?.is_none() => {
                    let undo = Undo::default();
                    let tiers = (&**frontend, &**backend);
                    let store = self.open_tiers(schemes, tiers, opened, Above::Nothing, &undo).await;
                    undo.after(schemes, store).await
                }
                _ => Err(Error::new(
                    ErrorKind::Config,
                    "a single store is not a stack; give a frontend and a backend",
                )
                .during(Operation::Open)),
            }
        }
        .boxed()
    }

    /// Opens an existing stack for reading. Only its authoritative store is opened, as by
    /// [`open_to_read`](crate::open_to_read), because reads write to a frontend. A stack with a journal is opened for
    /// writing, because recovery writes.
    ///
    /// # Errors
    /// As [`open`](Self::open) and [`open_to_read`](crate::open_to_read).
    ///
    /// # Cancel safety
    /// As the opening of the tiers.
    ///
    /// # Examples
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// use tiered::{Stack, StoreExt};
    ///
    /// let store = Stack::store("memory:").open_to_read().await?;
    /// assert!(store.get("users/42").await?.is_none());
    /// # Ok::<(), tiered::Error>(()) }).unwrap();
    /// ```
    pub fn open_to_read(&self) -> BoxFuture<'_, Result<Arc<dyn Store>>> {
        async move { self.open_to_read_with(&Schemes::standard()).await }.boxed()
    }

    /// Opens an existing stack for reading, as [`open_to_read`](Self::open_to_read) does, with the schemes of the program.
    ///
    /// # Errors
    /// As [`open_to_read`](Self::open_to_read).
    ///
    /// # Cancel safety
    /// As the opening of the tiers.
    ///
    /// # Examples
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// let store = tiered::Stack::store("memory:").open_to_read_with(&tiered::Schemes::standard()).await?;
    /// # Ok::<(), tiered::Error>(()) }).unwrap();
    /// ```
    pub fn open_to_read_with<'a>(&'a self, schemes: &'a Schemes) -> BoxFuture<'a, Result<Arc<dyn Store>>> {
        self.open_and_undo(schemes, Opened::ToRead)
    }

    fn has_no_settings(&self) -> bool {
        self.policy.is_none()
            && self.journal.is_none()
            && self.lease.is_none()
            && self.backend_id.is_none()
            && !self.sole_writer
            && !self.private_frontend
            && !self.sole_journal
    }
}

/// The parser's message without the text that it read, which may hold a password (`frontend = "postgres://…"` in place
/// of a table). What looks like the name of a setting stays.
#[cfg(feature = "toml")]
fn without_text(message: &str) -> String {
    // The expected part comes last and holds only names of this crate.
    let (found, expected) = message.split_at(message.rfind(", expected").unwrap_or(message.len()));
    let Some((before, quoted)) = found.split_once(['`', '"']) else { return message.to_owned() };
    let name = quoted.strip_suffix('`').unwrap_or_default();
    let is_name = (1..=32).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_lowercase() || b == b'-');
    if is_name { format!("{before}`{name}`{expected}") } else { format!("{before}…{expected}") }
}

impl fmt::Debug for Stack {
    // URLs may carry secrets: only the scheme is shown.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parsed = self.url.as_deref().and_then(|url| StoreUrl::parse(url).ok());
        let scheme = parsed.as_ref().map(StoreUrl::scheme);
        f.debug_struct("Stack")
            .field("scheme", &scheme)
            .field("frontend", &self.frontend)
            .field("backend", &self.backend)
            .field("journal", &self.journal)
            .field("sole_writer", &self.sole_writer)
            .field("private_frontend", &self.private_frontend)
            .field("lease", &self.lease)
            .field("sole_journal", &self.sole_journal)
            .field("backend_id", &self.backend_id)
            .field("policy", &self.policy)
            .field("prefix", &self.prefix)
            .field("read_only", &self.read_only)
            .field("compressed", &self.compressed)
            .field("encrypted", &self.encrypted)
            .finish()
    }
}
