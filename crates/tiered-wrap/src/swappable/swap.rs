//! Exchanging the store inside.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use tiered_core::{AsStore, Capabilities, Error, ErrorKind, Feature, Result, Store, TieredStore, ownership};
use tokio::time::{sleep, timeout};

use super::calls::{Quiet, WithoutStreams};
use super::{Shared, Swappable, refused};

impl Swappable {
    /// Exchanges the store inside for the one that `make` makes of it, and returns that one. Calls wait meanwhile, so `make` is
    /// to be quick: build a stack over the store that it is given.
    ///
    /// Both must hold the same data. Where both have an id ([`ownership::id`]), it must be the same: for another store use
    /// [`move_to`](Self::move_to).
    ///
    /// `make` must not call this store, whose calls wait for it, and must leave the store that it is given as it is: to take a
    /// stack apart use [`detach`](Self::detach).
    ///
    /// # Errors
    /// The store inside is the one before after any of them: that of `make`; [`ErrorKind::Config`] where the new store lacks what this
    /// one declares, or is another store by its id; [`ErrorKind::TimedOut`] where streams under way did not end, or writes
    /// could still take effect, within [`patience`](Self::patience); [`ErrorKind::Locked`] where the new store is claimed by
    /// someone else, another exchange is under way, or a store above this one has a durable journal: it counts the stacks beneath it,
    /// so none is attached while it is open.
    ///
    /// # Cancel safety
    /// Dropped half-way it goes on to its end, in a task of the runtime that it was called in.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    ///
    /// # Examples
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// use tiered_core::{MemoryStore, TieredStore};
    /// use tiered_wrap::Swappable;
    ///
    /// // A disk tier between memory and a server, put in while the service runs.
    /// let seam = Swappable::new(MemoryStore::new());
    /// let service = TieredStore::builder(MemoryStore::new(), seam.clone()).build().await?;
    /// let disk = MemoryStore::new();
    /// let stack = seam.swap(|server| TieredStore::builder(disk, server).build()).await?;
    /// # let _ = (service, stack);
    /// # Ok::<(), tiered_core::Error>(()) }).unwrap();
    /// ```
    pub async fn swap<F, Made, S>(&self, make: F) -> Result<S>
    where
        F: FnOnce(Arc<dyn Store>) -> Made + Send + 'static,
        Made: Future<Output = Result<S>> + Send + 'static,
        S: AsStore + Clone + Send + 'static,
    {
        let shared = Arc::clone(&self.0);
        run_to_end(async move { shared.swap(make).await }).await
    }
}

impl Swappable {
    /// Exchanges `stack`, which is the store inside, for its backend. What is pending in it is flushed first, while calls go on. Then
    /// calls wait until it is taken apart ([`TieredStore::detach`]). Returns the backend.
    ///
    /// # Errors
    /// The stack is inside and open as before after any of them: those of [`TieredStore::detach`], a parked write among them; and as
    /// [`swap`](Self::swap).
    ///
    /// # Cancel safety
    /// Dropped while it flushes it has no effect. After that it goes on to its end, in a task of the runtime that it was called
    /// in.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    ///
    /// # Examples
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// use tiered_core::{MemoryStore, StoreExt, TieredStore};
    /// use tiered_wrap::Swappable;
    ///
    /// let store = Swappable::new(MemoryStore::new());
    /// let stack = store.swap(|backend| TieredStore::builder(MemoryStore::new(), backend).build()).await?;
    /// store.set("users/42", "Ada").await?;
    /// store.detach(&stack).await?;
    /// assert!(store.contains("users/42").await?);
    /// # Ok::<(), tiered_core::Error>(()) }).unwrap();
    /// ```
    pub async fn detach(&self, stack: &TieredStore) -> Result<Arc<dyn Store>> {
        // Before anything is closed: a backend that may not stand in is refused.
        check_capabilities(stack.backend().capabilities(), &self.0.capabilities)?;
        stack.flush().await?;
        let (shared, stack) = (Arc::clone(&self.0), stack.clone());
        run_to_end(async move { shared.detach(&stack).await }).await
    }
}

/// Runs `task` to its end, whether or not its caller waits for it.
pub(super) async fn run_to_end<T: Send + 'static>(
    task: impl Future<Output = Result<T>> + Send + 'static,
) -> Result<T> {
    let ended = tokio::runtime::Handle::current().spawn(task).await;
    ended
        .unwrap_or_else(|error| Err(refused(ErrorKind::Other, "the exchange ended early").with_source(error)))
}

impl Shared {
    async fn swap<F, Made, S>(&self, make: F) -> Result<S>
    where
        F: FnOnce(Arc<dyn Store>) -> Made,
        Made: Future<Output = Result<S>>,
        S: AsStore + Clone,
    {
        let _exchange = self.calls.begin_exchange()?;
        let streams = self.calls.without_streams().await?;
        let quiet = self.quiet(&streams).await?;
        self.calls.check_open(&quiet)?;
        let before = Arc::clone(&self.calls.inside().store);
        let id = match self.id(&before).await {
            // Someone closed it behind this store's back; another can still take its place.
            Err(error) if error.kind() == ErrorKind::Closed => None,
            id => id?,
        };
        let claimed = self.lent.give_back().await;
        let attempt = AssertUnwindSafe(async { make(Arc::clone(&before)).await }).catch_unwind().await;
        let panicked = |_| Err(refused(ErrorKind::Other, "making the new store panicked"));
        let exchanged = async {
            let new = match attempt.unwrap_or_else(panicked) {
                Ok(new) => new,
                Err(error) if error.kind() == ErrorKind::Locked => {
                    return Err(above_a_journal(&before, error).await);
                }
                Err(error) => return Err(error),
            };
            let store = new.clone().into_store();
            check_capabilities(store.capabilities(), &self.capabilities)?;
            self.check_id(&store, id.as_deref()).await?;
            if let Some(claimed) = &claimed {
                claimed.claim_again(&store).await?;
            }
            Ok((new, store))
        };
        match exchanged.await {
            Ok((new, store)) => {
                self.calls.exchange(store, &quiet);
                Ok(new)
            }
            Err(error) => {
                if let Some(claimed) = &claimed
                    && let Err(lost) = claimed.claim_again(&before).await
                {
                    tracing::warn!(error = %lost.chain(), "after an exchange that failed the store before is claimed by someone else");
                }
                Err(error)
            }
        }
    }

    async fn detach(&self, stack: &TieredStore) -> Result<Arc<dyn Store>> {
        let _exchange = self.calls.begin_exchange()?;
        let streams = self.calls.without_streams().await?;
        let quiet = self.quiet(&streams).await?;
        self.calls.check_open(&quiet)?;
        let (inside, backend) = (Arc::clone(&self.calls.inside().store), Arc::clone(stack.backend()));
        let id = self.id(&inside).await?;
        self.check_id(&backend, id.as_deref()).await?;
        let patience = self.calls.patience();
        let late = |_| {
            Err(refused(
                ErrorKind::TimedOut,
                "the stack could not be flushed in time, and stays; try again when its backend is faster",
            ))
        };
        timeout(patience, stack.flush()).await.unwrap_or_else(late)?;
        let claimed = self.lent.give_back().await;
        // From its end on the stack is closed, so its backend is inside whatever else fails.
        let detached = stack.detach().await;
        let now = if detached.is_ok() { &backend } else { &inside };
        if let Some(claimed) = &claimed
            && let Err(lost) = claimed.claim_again(now).await
        {
            tracing::warn!(error = %lost.chain(), "after a stack was detached its backend is claimed by someone else");
        }
        detached?;
        self.calls.exchange(Arc::clone(&backend), &quiet);
        Ok(backend)
    }

    /// Waits until no call is under way and no write can still take effect, which it waits for while calls go on.
    pub(super) async fn quiet(&self, streams: &WithoutStreams) -> Result<Quiet> {
        let patience = self.calls.patience();
        let waited = timeout(patience, async {
            loop {
                if self.writes.take_unsettled() {
                    // A stack inside carries a write out although its caller left, and flushing waits for that. Whether
                    // something is parked there is no matter here.
                    let inside = Arc::clone(&self.calls.inside().store);
                    inside.flush().await.ok();
                }
                sleep(self.writes.late_for()).await;
                let quiet = self.calls.quiet(streams).await;
                if self.writes.are_settled() {
                    return quiet;
                }
            }
        });
        waited.await.map_err(|_| {
            // What was not waited for to its end is still to be waited for.
            self.writes.unsettle();
            refused(
                ErrorKind::TimedOut,
                format!(
                    "writes of unknown outcome could still take effect, or calls did not end, within {patience:?}, and nothing was exchanged; try again later, or raise patience(…)"
                ),
            )
        })
    }

    async fn id(&self, store: &Arc<dyn Store>) -> Result<Option<String>> {
        if self.capabilities.has(Feature::KeepsMarks) { ownership::id(store).await } else { Ok(None) }
    }

    async fn check_id(&self, store: &Arc<dyn Store>, before: Option<&str>) -> Result<()> {
        let Some(before) = before else { return Ok(()) };
        let now = self.id(store).await?;
        if now.as_deref() == Some(before) {
            return Ok(());
        }
        Err(refused(
            ErrorKind::Config,
            format!(
                "the new store is another one: its id is {}, and that of the store inside is {before}; put a stack over the store inside in its place, or move its data with move_to(…)",
                now.as_deref().unwrap_or("none")
            ),
        ))
    }
}

/// A stack could not be made over a store because a journal holds writes for it. Giving that up, as the error itself advises, would be
/// wrong where a service above has it open.
async fn above_a_journal(before: &Arc<dyn Store>, error: Error) -> Error {
    let Some(journal) = ownership::journals(before).await.ok().and_then(|all| all.into_iter().next()) else {
        return error;
    };
    let message = format!(
        "a stack cannot be attached beneath the journal {journal}: a durable journal counts the stacks between it and its backend. Close the store above that has it open, attach, and open it again"
    );
    refused(ErrorKind::Locked, message).with_source(error)
}

/// Refuses a store that has less than what is declared.
pub(super) fn check_capabilities(has: &Capabilities, declared: &Capabilities) -> Result<()> {
    let lacks = lacking(has, declared);
    if lacks.is_empty() {
        return Ok(());
    }
    let message = format!(
        "{} lacks what this store declares: {}; declare less from the start with Swappable::declaring(…)",
        has.name(),
        lacks.join(", ")
    );
    Err(refused(ErrorKind::Config, message))
}

/// What a store lacks of what is declared, in words.
fn lacking(has: &Capabilities, declared: &Capabilities) -> Vec<String> {
    /// Declaring these promises less, not more.
    const LESS: [Feature; 3] = [Feature::Evicts, Feature::PartialListings, Feature::RepeatsVersions];
    let feature = |feature: &&Feature| {
        let (more, less) = if LESS.contains(feature) { (has, declared) } else { (declared, has) };
        more.has(**feature) && !less.has(**feature)
    };
    let mut lacks: Vec<String> = Feature::ALL
        .iter()
        .filter(feature)
        .map(|feature| format!("{}{feature:?}", if LESS.contains(feature) { "not " } else { "" }))
        .collect();
    let mut limit = |name: &str, is_less: bool, declared: &dyn std::fmt::Debug| {
        if is_less {
            lacks.push(format!("{name} {declared:?}"));
        }
    };
    limit("durability", has.durability() < declared.durability(), &declared.durability());
    limit("sharing", has.sharing() != declared.sharing(), &declared.sharing());
    limit("max_key", has.max_key() < declared.max_key(), &declared.max_key());
    limit("max_value", has.max_value() < declared.max_value(), &declared.max_value());
    let lifetime: Duration = declared.request_lifetime();
    limit("request_lifetime", has.request_lifetime() > lifetime, &lifetime);
    lacks
}
