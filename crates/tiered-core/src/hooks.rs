//! Hooks: code of the program that runs before and after each mutation of a tiered store.
//!
//! [`TieredStore::subscribe`](crate::TieredStore::subscribe) is a feed: it tells of everything that happens, later, and a
//! slow receiver misses some of it. A hook is part of the write: it may refuse it, it misses none, and the write's answer
//! waits for it.
//!
//! # What calls a hook
//!
//! Each put and each delete of this store in this process, single, streamed or in a batch, is one mutation. Fills,
//! invalidations, expiry, and syncs into the frontend are none. Neither is the recovery of a journal: its writes were
//! mutations of the session that acknowledged them. Writes of other processes are none either.
//!
//! | | [`before`](Hook::before) | [`after`](Hook::after) |
//! |---|---|---|
//! | is called | when the write has its key's gate and nothing has been written | when its outcome is known, before the write is answered and before the next write of the key begins |
//! | number of calls | at most one | one for each mutation that every hook let pass |
//! | order | of registration; in a batch, that of its operations | the same |
//! | a failure | refuses the write: [`Outcome::NotApplied`](crate::Outcome::NotApplied)(crate::Outcome::NotApplied) | cannot be reported; the write is answered as it ended |
//! | a panic | refuses the write | is logged and counted in [`Stats::hook_panics`](crate::Stats::hook_panics) |
//! | a delay | delays the write and later ones of its keys; at the write deadline the write fails with [`Outcome::NotApplied`](crate::Outcome::NotApplied)(crate::Outcome::NotApplied) | delays the answer and later writes of its keys; at the write deadline the caller gets [`Outcome::Unknown`](crate::Outcome::Unknown) |
//! | a caller that goes away | ends it at its next `.await`, with no effect | does not stop it |
//!
//! Reads never wait for a hook, with one exception: where the frontend alone answers reads, a read waits for a write of its
//! key, hooks included.
//!
//! # A hook may not call its store
//!
//! The write holds the gates of its keys, so such a call could wait for itself. Every call that a hook makes to its own store
//! fails with [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported). To call the store, send what is to be done to a task,
//! and do not wait for that task in the hook.

mod registry;
mod watch;

use std::sync::Arc;

use async_trait::async_trait;

use crate::batch::Applied;
use crate::effect::{Effect, Write};
use crate::entry::Entry;
use crate::error::{Operation, Result};
use crate::key::Key;
use crate::version::Precondition;
use crate::write::Existed;

pub use registry::HookHandle;
pub(crate) use registry::Hooks;
pub(crate) use watch::after_all;

/// Code that runs before and after each mutation; see the [module](self). Closures are hooks by [`before`] and [`after`].
///
/// # Examples
/// ```
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// use std::sync::Arc;
/// use std::sync::atomic::{AtomicU64, Ordering};
/// use tiered_core::adapter::async_trait;
/// use tiered_core::hooks::{Hook, Mutation};
/// use tiered_core::{Applied, Error, ErrorKind, MemoryStore, Outcome, Result, StoreExt, TieredStore};
///
/// /// Keeps values under `users/` small, and counts what was written.
/// #[derive(Default)]
/// struct Rules(AtomicU64);
///
/// #[async_trait]
/// impl Hook for Rules {
///     async fn before(&self, mutation: &Mutation) -> Result<()> {
///         let size = mutation.new_entry().map_or(0, |entry| entry.size());
///         if mutation.key().as_str().starts_with("users/") && size > 1024 {
///             return Err(Error::new(ErrorKind::InvalidInput, "a user has at most 1024 bytes"));
///         }
///         Ok(())
///     }
///
///     async fn after(&self, _: &Mutation, ended: &Result<Applied>) {
///         match ended {
///             Ok(_) => { self.0.fetch_add(1, Ordering::Relaxed); }
///             Err(error) if error.write_outcome() == Outcome::Unknown => println!("{error}"),
///             Err(_) => {}
///         }
///     }
/// }
///
/// let rules = Arc::new(Rules::default());
/// let tiers = TieredStore::builder(MemoryStore::new(), MemoryStore::new());
/// let store = tiers.hook(Arc::clone(&rules)).build().await?;
/// store.set("users/42", "Ada").await?;
/// assert!(store.set("users/43", vec![0; 2000]).await.is_err());
/// assert_eq!(rules.0.load(Ordering::Relaxed), 1);
/// # Ok::<(), tiered_core::Error>(()) }).unwrap();
/// ```
#[async_trait]
pub trait Hook: Send + Sync + 'static {
    /// Called before anything is written. Here: lets the write pass.
    ///
    /// # Errors
    /// Refuse the write: its caller gets the error, with the key and [`Outcome::NotApplied`](crate::Outcome::NotApplied)(crate::Outcome::NotApplied). A refused operation fails its
    /// batch. In a batch [per item](crate::Atomicity::PerItem) it fails alone.
    ///
    /// # Cancel safety
    /// Must be safe to drop at each `.await`: it is dropped when the caller goes away and at the write deadline.
    async fn before(&self, mutation: &Mutation) -> Result<()> {
        let _ = mutation;
        Ok(())
    }

    /// Called with the outcome at the store that decides it: the journal under write-behind, the frontend under
    /// frontend-only, else the backend. The outcome of an error is known ([`Error::outcome`](crate::Error::outcome) is not
    /// `None`). Here: does nothing.
    ///
    /// Under `on-unknown = "retry"` it is called once, when the retries have ended.
    async fn after(&self, mutation: &Mutation, ended: &Result<Applied>) {
        let _ = (mutation, ended);
    }
}

#[async_trait]
impl<H: Hook + ?Sized> Hook for Arc<H> {
    async fn before(&self, mutation: &Mutation) -> Result<()> {
        self.as_ref().before(mutation).await
    }

    async fn after(&self, mutation: &Mutation, ended: &Result<Applied>) {
        self.as_ref().after(mutation, ended).await;
    }
}

/// One put or delete, as hooks see it. Cloning it is cheap.
///
/// # Examples
/// ```
/// use tiered_core::hooks::{Mutation, Old};
/// use tiered_core::Operation;
///
/// fn describe(mutation: &Mutation) -> String {
///     let what = match (mutation.operation(), mutation.new_entry()) {
///         (Operation::Delete, _) => "deleted".to_owned(),
///         (_, Some(entry)) => format!("{} bytes", entry.size()),
///         (_, None) => "a streamed value".to_owned(),
///     };
///     match mutation.old() {
///         Old::Entry(old) => format!("{}: {} bytes before, {what}", mutation.key(), old.size()),
///         Old::Absent => format!("{}: new, {what}", mutation.key()),
///         _ => format!("{}: {what}", mutation.key()),
///     }
/// }
/// ```
#[derive(Clone, Debug)]
pub struct Mutation {
    write: Write,
    body: Body,
    old: Old,
}

/// Where the value of a put is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Body {
    /// In the write.
    AtHand,
    /// It streams to the backend.
    Streamed,
}

/// What a key had before a mutation, where the store knows it without asking a tier.
///
/// It is known of a key with a pending write (write-behind), of one whose entry is in a memory frontend and may be served,
/// and after the write where its precondition tells. Over a backend that others write, an entry of the frontend may be
/// older than the one that is replaced, as a hit may.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub enum Old {
    /// Not known.
    #[default]
    Unknown,
    /// Nothing.
    Absent,
    /// This entry.
    Entry(Entry),
}

impl Mutation {
    fn new(write: Write, body: Body) -> Self {
        Self { write, body, old: Old::Unknown }
    }

    /// The key.
    pub const fn key(&self) -> &Key {
        self.write.key()
    }

    /// [`Operation::Put`] or [`Operation::Delete`].
    pub const fn operation(&self) -> Operation {
        match self.write.effect() {
            Effect::Put(_) => Operation::Put,
            Effect::Delete(_) => Operation::Delete,
        }
    }

    /// What a put stores, stamped. `None` for a delete, and for a put whose value streams to the backend.
    pub fn new_entry(&self) -> Option<&Entry> {
        self.write.entry().filter(|_| self.body == Body::AtHand)
    }

    /// What the key had, where it is known already.
    pub const fn old(&self) -> &Old {
        &self.old
    }

    /// What must be so for the mutation to take effect.
    pub const fn precondition(&self) -> &Precondition {
        self.write.precondition()
    }

    /// Learns from the outcome what the key had: a condition on absence that held.
    fn learn(&mut self, ended: &Result<Applied>) {
        let was_absent = *self.write.precondition() == Precondition::Absent
            || matches!(ended, Ok(Applied::Delete(deleted)) if deleted.existed == Existed::No);
        if ended.is_ok() && was_absent {
            self.old = Old::Absent;
        }
    }
}

/// A hook of a closure that runs before each mutation, and may refuse it.
///
/// The closure runs in an async task: it must not block.
///
/// # Examples
/// ```
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// use tiered_core::hooks::{self, Mutation};
/// use tiered_core::{Delete, Error, ErrorKind, Key, MemoryStore, Operation, Store, StoreExt, TieredStore};
///
/// let store = TieredStore::builder(MemoryStore::new(), MemoryStore::new()).build().await?;
/// let keep = store.add_hook(hooks::before(|mutation: &Mutation| match mutation.operation() {
///     Operation::Delete => Err(Error::new(ErrorKind::PermissionDenied, "records are kept")),
///     _ => Ok(()),
/// }));
/// store.set("order/1", "paid").await?;
/// assert!(store.delete(&Key::new("order/1")?, Delete::new()).await.is_err());
/// keep.remove();
/// store.delete(&Key::new("order/1")?, Delete::new()).await?;
/// # Ok::<(), tiered_core::Error>(()) }).unwrap();
/// ```
pub fn before(hook: impl Fn(&Mutation) -> Result<()> + Send + Sync + 'static) -> impl Hook {
    Before(hook)
}

/// A hook of a closure that runs after each mutation.
///
/// The closure runs in an async task: it must not block.
///
/// # Examples
/// ```
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// use tiered_core::hooks::{self, Mutation};
/// use tiered_core::{Applied, MemoryStore, Result, StoreExt, TieredStore};
///
/// let store = TieredStore::builder(MemoryStore::new(), MemoryStore::new()).build().await?;
/// let (changed, mut to_index) = tokio::sync::mpsc::unbounded_channel();
/// store.add_hook(hooks::after(move |mutation: &Mutation, ended: &Result<Applied>| {
///     if ended.is_ok() {
///         changed.send(mutation.key().clone()).ok();
///     }
/// }));
/// store.set("users/42", "Ada").await?;
/// assert_eq!(to_index.try_recv().unwrap().as_str(), "users/42");
/// # Ok::<(), tiered_core::Error>(()) }).unwrap();
/// ```
pub fn after(hook: impl Fn(&Mutation, &Result<Applied>) + Send + Sync + 'static) -> impl Hook {
    After(hook)
}

struct Before<F>(F);

#[async_trait]
impl<F: Fn(&Mutation) -> Result<()> + Send + Sync + 'static> Hook for Before<F> {
    async fn before(&self, mutation: &Mutation) -> Result<()> {
        (self.0)(mutation)
    }
}

struct After<F>(F);

#[async_trait]
impl<F: Fn(&Mutation, &Result<Applied>) + Send + Sync + 'static> Hook for After<F> {
    async fn after(&self, mutation: &Mutation, ended: &Result<Applied>) {
        (self.0)(mutation, ended);
    }
}
