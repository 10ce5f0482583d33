//! What a hook is.

use std::sync::Arc;

use async_trait::async_trait;

use super::mutation::Mutation;
use crate::batch::Applied;
use crate::error::Result;

/// Code that runs before and after each mutation; see the [module](crate::hooks). Closures are hooks by [`before`] and [`after`].
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
    /// Refuse the write: its caller gets the error, with the key and [`Outcome::NotApplied`](crate::Outcome::NotApplied). A refused operation fails its
    /// batch. In a batch [per item](crate::Atomicity::PerItem) it fails alone.
    ///
    /// # Cancel safety
    /// Must be safe to drop at each `.await`: it is dropped when the caller goes away and at the write deadline.
    ///
    /// # Examples
    /// ```
    /// use tiered_core::adapter::async_trait;
    /// use tiered_core::hooks::{Hook, Mutation};
    /// use tiered_core::{Error, ErrorKind, Operation, Result};
    ///
    /// struct NoDeletes;
    ///
    /// #[async_trait]
    /// impl Hook for NoDeletes {
    ///     async fn before(&self, mutation: &Mutation) -> Result<()> {
    ///         match mutation.operation() {
    ///             Operation::Delete => Err(Error::new(ErrorKind::PermissionDenied, "records are kept")),
    ///             _ => Ok(()),
    ///         }
    ///     }
    /// }
    /// ```
    async fn before(&self, _mutation: &Mutation) -> Result<()> {
        Ok(())
    }

    /// Called with the outcome at the store that decides it: the journal under write-behind, the frontend under
    /// frontend-only, else the backend. The outcome of an error is known ([`Error::outcome`](crate::Error::outcome) is not
    /// `None`). Here: does nothing.
    ///
    /// Under `on-unknown = "retry"` it is called once, when the retries have ended.
    ///
    /// # Examples
    /// ```
    /// use tiered_core::adapter::async_trait;
    /// use tiered_core::hooks::{Hook, Mutation};
    /// use tiered_core::{Applied, Key, Result};
    ///
    /// /// Hands the keys of what was written to a task.
    /// struct Changed(tokio::sync::mpsc::UnboundedSender<Key>);
    ///
    /// #[async_trait]
    /// impl Hook for Changed {
    ///     async fn after(&self, mutation: &Mutation, ended: &Result<Applied>) {
    ///         if ended.is_ok() {
    ///             self.0.send(mutation.key().clone()).ok();
    ///         }
    ///     }
    /// }
    /// ```
    async fn after(&self, _mutation: &Mutation, _ended: &Result<Applied>) {}
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
