//! Claims: an exclusive store is lent to one owner per scope.

use std::any::Any;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::watch;

use crate::error::{Error, ErrorKind, Operation, Result};
use crate::sync_primitives::time;

/// How long a build waits for a claim that its holder is about to give back.
const PATIENCE: Duration = Duration::from_secs(5);

/// A part of a store's keys.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Scope {
    /// All keys.
    Whole,
    /// The keys that begin with this.
    Prefix(String),
}

impl Scope {
    /// The keys that begin with `prefix`: all, where it is empty.
    pub fn prefix(prefix: &str) -> Self {
        if prefix.is_empty() { Self::Whole } else { Self::Prefix(prefix.to_owned()) }
    }

    /// Whether a key can be in both.
    ///
    /// # Examples
    /// ```
    /// use tiered_core::adapter::Scope;
    ///
    /// assert!(Scope::Whole.overlaps(&Scope::prefix("users/")));
    /// assert!(Scope::prefix("users/").overlaps(&Scope::prefix("users/42/")));
    /// assert!(!Scope::prefix("users/").overlaps(&Scope::prefix("orders/")));
    /// ```
    pub fn overlaps(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Whole, _) | (_, Self::Whole) => true,
            (Self::Prefix(one), Self::Prefix(other)) => one.starts_with(other) || other.starts_with(one),
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Whole => f.write_str("all keys"),
            Self::Prefix(prefix) => write!(f, "the keys under {prefix:?}"),
        }
    }
}

/// The claims on one store: what an exclusive adapter holds, one for all of its handles.
///
/// # Examples
/// ```
/// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
/// use tiered_core::adapter::{Claims, Scope};
///
/// let claims = Claims::new();
/// let users = claims.claim("memory", &Scope::prefix("users/")).await?;
/// assert!(claims.claim("memory", &Scope::Whole).await.is_err());
/// drop(users);
/// assert!(claims.claim("memory", &Scope::Whole).await.is_ok());
/// # Ok::<(), tiered_core::Error>(()) }).unwrap();
/// ```
#[derive(Clone, Default)]
pub struct Claims(Arc<Registry>);

#[derive(Default)]
struct Registry {
    held: Mutex<Held>,
    /// Counts what was given back, so that one can wait for it.
    released: watch::Sender<u64>,
}

#[derive(Default)]
struct Held {
    next: u64,
    scopes: Vec<Lent>,
}

#[derive(Clone)]
struct Lent {
    id: u64,
    scope: Scope,
    /// Whether its holder is about to give it back.
    leaving: bool,
}

impl Claims {
    /// No claims yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Lends `scope` until the claim is dropped. `store` is its name, for the error. Waits for a holder that is about to
    /// give it back ([`Claim::leave`]), for five seconds at most.
    ///
    /// # Errors
    /// [`ErrorKind::Locked`] where an overlapping scope is lent.
    ///
    /// # Cancel safety
    /// Dropping it leaves nothing behind.
    pub async fn claim(&self, store: &str, scope: &Scope) -> Result<Claim> {
        let mut released = self.0.released.subscribe();
        let wait = async {
            loop {
                released.mark_unchanged();
                let blocking = match self.try_claim(scope) {
                    Ok(claim) => return Ok(claim),
                    Err(blocking) => blocking,
                };
                // The registry holds the sender: the wait cannot fail.
                if !blocking.leaving || released.changed().await.is_err() {
                    return Err(blocking.scope);
                }
            }
        };
        let claimed = match time::timeout(PATIENCE, wait).await {
            Ok(claimed) => claimed,
            Err(_) => self.try_claim(scope).map_err(|blocking| blocking.scope),
        };
        claimed.map_err(|other| {
            let message = format!(
                "{other} of this store belong to another tiered store or sync of this process; use that one, close it first, or give each a store of its own"
            );
            Error::new(ErrorKind::Locked, message).during(Operation::Open).in_tier(store)
        })
    }

    fn try_claim(&self, scope: &Scope) -> Result<Claim, Lent> {
        let mut held = self.0.held.lock();
        let overlapping = |lent: &&Lent| lent.scope.overlaps(scope);
        let stays = held.scopes.iter().filter(overlapping).find(|lent| !lent.leaving);
        if let Some(lent) = stays.or_else(|| held.scopes.iter().find(overlapping)) {
            return Err(lent.clone());
        }
        let id = held.next;
        held.next += 1;
        held.scopes.push(Lent { id, scope: scope.clone(), leaving: false });
        Ok(Claim { lent: Some((Arc::clone(&self.0), id)), holds: None })
    }
}

impl fmt::Debug for Claims {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let held = self.0.held.lock();
        f.debug_set().entries(held.scopes.iter().map(|lent| &lent.scope)).finish()
    }
}

/// A scope that is lent. Dropping it gives the scope back.
#[must_use = "dropping it gives the scope back"]
pub struct Claim {
    lent: Option<(Arc<Registry>, u64)>,
    /// Dropped after what is lent.
    holds: Option<Box<dyn Any + Send + Sync>>,
}

impl Claim {
    /// A claim on a store that others may write to at any time: it keeps none of them out.
    pub const fn shared() -> Self {
        Self { lent: None, holds: None }
    }

    /// Keeps `guard` for as long as the scope is lent, and drops it right after: for a store that claims another one
    /// beneath it. What the claim kept before goes on being kept.
    ///
    /// # Examples
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
    /// use tiered_core::adapter::{Claims, Scope};
    ///
    /// let (above, beneath) = (Claims::new(), Claims::new());
    /// let inner = beneath.claim("engine", &Scope::Whole).await?;
    /// let outer = above.claim("wrapper", &Scope::Whole).await?.holding(inner);
    /// assert!(beneath.claim("engine", &Scope::Whole).await.is_err());
    /// drop(outer);
    /// assert!(beneath.claim("engine", &Scope::Whole).await.is_ok());
    /// # Ok::<(), tiered_core::Error>(()) }).unwrap();
    /// ```
    pub fn holding(mut self, guard: impl Any + Send + Sync) -> Self {
        self.holds = Some(match self.holds.take() {
            Some(before) => Box::new((before, guard)),
            None => Box::new(guard),
        });
        self
    }

    /// Says that the holder is about to give it back: a caller that asks for it waits a moment.
    pub fn leave(&self) {
        if let Some((registry, id)) = &self.lent
            && let Some(lent) = registry.held.lock().scopes.iter_mut().find(|lent| lent.id == *id)
        {
            lent.leaving = true;
        }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        if let Some((registry, id)) = self.lent.take() {
            registry.held.lock().scopes.retain(|lent| lent.id != id);
            registry.released.send_modify(|count| *count += 1);
        }
    }
}

impl fmt::Debug for Claim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.lent.is_some() { "Claim" } else { "Claim(shared)" })
    }
}
