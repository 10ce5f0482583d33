//! A namespace within a store.

mod marks;

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{StreamExt as _, future, stream};
use tiered_core::adapter::{BatchOutcomes, Change, ChangeStream, Claim, Reads, Scope};
use tiered_core::{
    Action, AsStore, Batch, ByteStream, Capabilities, Delete, Deleted, Entry, Error, ErrorKind, Key,
    ListOptions, ListStream, Listed, Metadata, Operation, Put, Read, ReadOptions, Result, Slices, Store,
    Written, adapter,
};

use marks::Names;

/// The keys of a store that begin with a prefix, as a store of their own.
///
/// Users of this store never see the prefix: `k` here is the prefix and `k` in the store inside. Keys of others are
/// neither read, listed nor written, and errors name the keys of this store.
///
/// * **Limits.** The longest key is shorter by the prefix.
/// * **Claims.** A claim of this store claims the keys with the prefix alone. So stores with disjoint prefixes can be
///   tiers of different stacks. `users/` and `users/old/` are not disjoint.
/// * **Marks** are kept under names of their own, so each prefix has its own marks. A stack over the whole store does not
///   see them: do not write the whole store while stacks with journals own parts of it.
/// * **Changes** of keys without the prefix are left out.
/// * **`peek`** answers where prefix and key have at most [`Key::INLINE`] bytes together. A longer key would be an
///   allocation, which `peek` must not make; [`load`](Store::load) answers it.
/// * **`close`** closes the store inside, and so all other prefixes of it. With [`leave_open`](Self::leave_open) it closes this
///   one alone.
///
/// # Examples
/// ```
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// use tiered_core::{MemoryStore, StoreExt};
/// use tiered_wrap::Prefix;
///
/// let all = MemoryStore::new();
/// let users = Prefix::new(all.clone(), "users/")?;
/// users.set("42", "Ada").await?;
/// assert_eq!(users.prefix(), "users/");
/// assert_eq!(users.keys("").await?.len(), 1);
/// assert!(all.contains("users/42").await?);
/// # Ok::<(), tiered_core::Error>(()) }).unwrap();
/// ```
#[derive(Clone, Debug)]
pub struct Prefix(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    inner: Arc<dyn Store>,
    prefix: String,
    names: Names,
    capabilities: Capabilities,
    closing: Closing,
    closed: AtomicBool,
}

/// What `close` does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Closing {
    Inside,
    ThisAlone,
}

impl Prefix {
    /// The keys of `store` that begin with `prefix`.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] where the prefix is empty, contains a control character, or leaves no room for a key.
    pub fn new(store: impl AsStore, prefix: impl Into<String>) -> Result<Self> {
        let (inner, prefix) = (store.into_store(), prefix.into());
        let refuse = |why: String| Err(Error::new(ErrorKind::Config, why).during(Operation::Open));
        if prefix.is_empty() {
            return refuse(
                "the prefix is empty; name one such as \"users/\", or use the store itself".to_owned(),
            );
        }
        if prefix.chars().any(char::is_control) {
            return refuse(format!("the prefix {prefix:?} contains a control character; leave it out"));
        }
        let max_key = inner.capabilities().max_key();
        if prefix.len() >= max_key {
            return refuse(format!(
                "the prefix has {} bytes; the longest key of {} has {max_key}; shorten the prefix",
                prefix.len(),
                inner.capabilities().name()
            ));
        }
        let capabilities = inner.capabilities().clone().with_max_key(max_key - prefix.len());
        let names = Names::of(&prefix);
        let closed = AtomicBool::new(false);
        Ok(Self(Arc::new(Shared { inner, prefix, names, capabilities, closing: Closing::Inside, closed })))
    }

    /// The same prefix, whose `close` leaves the store inside open: it flushes, and refuses every later call of this prefix and
    /// its clones. For prefixes of one store that are closed apart, such as backends of several stacks. The owner of the
    /// store inside closes it.
    ///
    /// # Examples
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// use tiered_core::{MemoryStore, Store, StoreExt};
    /// use tiered_wrap::Prefix;
    ///
    /// let all = MemoryStore::new();
    /// let users = Prefix::new(all.clone(), "users/")?.leave_open();
    /// let orders = Prefix::new(all.clone(), "orders/")?.leave_open();
    /// users.close().await?;
    /// assert!(users.set("42", "Ada").await.is_err());
    /// orders.set("1", "apples").await?;
    /// all.close().await?;
    /// # Ok::<(), tiered_core::Error>(()) }).unwrap();
    /// ```
    #[must_use]
    pub fn leave_open(self) -> Self {
        let Shared { inner, prefix, names, capabilities, .. } = &*self.0;
        Self(Arc::new(Shared {
            inner: Arc::clone(inner),
            prefix: prefix.clone(),
            names: names.clone(),
            capabilities: capabilities.clone(),
            closing: Closing::ThisAlone,
            closed: AtomicBool::new(false),
        }))
    }

    /// The prefix.
    pub fn prefix(&self) -> &str {
        &self.0.prefix
    }
}

impl Shared {
    /// The key in the store inside.
    fn inside(&self, key: &Key) -> Result<Key> {
        self.capabilities.check_key(key)?;
        Key::new([self.prefix.as_str(), key.as_str()].concat())
    }

    /// The key of this store; `None` for one of others, and for the prefix itself, which is no key here.
    fn outside(&self, key: &Key) -> Option<Key> {
        Key::new(key.as_str().strip_prefix(&self.prefix)?).ok()
    }

    /// The key inside, where it takes no allocation.
    fn inline(&self, key: &Key) -> Option<Key> {
        let mut buffer = [0; Key::INLINE];
        let (before, rest) = buffer.split_at_mut_checked(self.prefix.len())?;
        before.copy_from_slice(self.prefix.as_bytes());
        rest.get_mut(..key.len())?.copy_from_slice(key.as_str().as_bytes());
        let text = std::str::from_utf8(buffer.get(..self.prefix.len() + key.len())?).ok()?;
        Key::new(text).ok()
    }

    fn check_open(&self, operation: Operation) -> Result<()> {
        if self.closed.load(Ordering::Acquire) {
            return Err(adapter::closed(operation).in_tier(self.capabilities.name()));
        }
        Ok(())
    }

    /// The key in the store inside, or the refusal of an operation.
    fn inside_of(&self, key: &Key, operation: Operation) -> Result<Key> {
        self.check_open(operation)?;
        self.inside(key)
            .map_err(|error| error.during(operation).in_tier(self.capabilities.name()).for_key(key))
    }

    /// An error of the store inside, for this store's caller.
    fn translated(&self, error: Error) -> Error {
        match error.key().and_then(|key| self.outside(key)) {
            Some(key) => error.key_is(&key),
            None => error,
        }
    }

    fn listed(&self, listed: Result<Listed>) -> Result<Listed> {
        self.check_open(Operation::List)?;
        let mut listed = listed.map_err(|error| self.translated(error))?;
        listed.key = self.outside(&listed.key).ok_or_else(|| {
            Error::new(ErrorKind::Other, "the store inside listed a key without the prefix")
                .during(Operation::List)
                .in_tier(self.capabilities.name())
        })?;
        Ok(listed)
    }

    fn scope(&self, scope: &Scope) -> Result<Scope> {
        match scope {
            Scope::Whole => Ok(Scope::prefix(&self.prefix)),
            Scope::Prefix(prefix) => Ok(Scope::prefix(&[self.prefix.as_str(), prefix].concat())),
            _ => Err(Error::new(ErrorKind::Unsupported, "a prefix does not know this kind of scope")),
        }
    }
}

/// The most of `text` that has at most `bytes` bytes.
fn cut(text: &str, bytes: usize) -> &str {
    let end = (0..=bytes.min(text.len())).rev().find(|end| text.is_char_boundary(*end));
    text.get(..end.unwrap_or(0)).unwrap_or_default()
}

#[deny(clippy::missing_trait_methods, reason = "no provided body may shadow the store's own")]
#[async_trait]
impl Store for Prefix {
    fn capabilities(&self) -> &Capabilities {
        &self.0.capabilities
    }

    async fn load(&self, key: &Key, options: &ReadOptions) -> Result<Read> {
        let inside = self.0.inside_of(key, Operation::Load)?;
        self.0.inner.load(&inside, options).await.map_err(|error| error.key_is(key))
    }

    async fn put(&self, key: &Key, put: Put) -> Result<Written> {
        let inside = self.0.inside_of(key, Operation::Put)?;
        self.0.inner.put(&inside, put).await.map_err(|error| error.key_is(key))
    }

    async fn delete(&self, key: &Key, delete: Delete) -> Result<Deleted> {
        let inside = self.0.inside_of(key, Operation::Delete)?;
        self.0.inner.delete(&inside, delete).await.map_err(|error| error.key_is(key))
    }

    fn list(&self, options: ListOptions) -> ListStream {
        let shared = Arc::clone(&self.0);
        if let Err(error) = shared.check_open(Operation::List) {
            return Box::pin(stream::iter([Err(error)]));
        }
        let mut inside = options.clone();
        inside.prefix = [shared.prefix.as_str(), &options.prefix].concat();
        // The prefix alone is a key of the store inside, and none here: the listing begins after it.
        let after = options.start_after.as_ref().map_or("", Key::as_str);
        let text = [shared.prefix.as_str(), after].concat();
        let short = cut(&text, Key::MAX_LEN);
        let is_exact = short.len() == text.len();
        inside.start_after = Key::new(short).ok();
        if is_exact {
            return Box::pin(shared.inner.clone().list(inside).map(move |listed| shared.listed(listed)));
        }
        // The key to start after is longer than any key inside: keys are compared here, and counted here.
        let limit = inside.limit.take().unwrap_or(usize::MAX);
        let listing = shared.inner.clone().list(inside).map(move |listed| shared.listed(listed));
        let kept = listing.filter(move |listed| {
            let key = match listed {
                Ok(listed) => Some(&listed.key),
                Err(error) => error.damaged_key(),
            };
            future::ready(key.is_none_or(|key| options.contains(key)))
        });
        Box::pin(kept.take(limit))
    }

    fn peek(&self, key: &Key) -> Option<Entry> {
        self.0.check_open(Operation::Load).ok()?;
        self.0.inner.peek(&self.0.inline(key)?)
    }

    fn peek_hidden(&self, key: &Key) -> Option<Entry> {
        self.0.check_open(Operation::Load).ok()?;
        self.0.inner.peek_hidden(&self.0.inline(key)?)
    }

    async fn head(&self, key: &Key, options: &ReadOptions) -> Result<Option<Arc<Metadata>>> {
        let inside = self.0.inside_of(key, Operation::Load)?;
        self.0.inner.head(&inside, options).await.map_err(|error| error.key_is(key))
    }

    async fn get_many(&self, keys: &[Key], options: &ReadOptions) -> Reads {
        let inside: Vec<Result<Key>> =
            keys.iter().map(|key| self.0.inside_of(key, Operation::LoadMany)).collect();
        let asked: Vec<Key> = inside.iter().filter_map(|key| key.as_ref().ok().cloned()).collect();
        let mut reads = self.0.inner.get_many(&asked, options).await.into_iter();
        let missing = || Error::new(ErrorKind::Other, "the store inside left a key without an answer");
        let answers = inside.into_iter().zip(keys).map(|(inside, key)| match inside {
            Ok(_) => reads.next().unwrap_or_else(|| Err(missing())).map_err(|error| error.key_is(key)),
            Err(error) => Err(error),
        });
        answers.collect()
    }

    async fn get_ranges(
        &self,
        key: &Key,
        ranges: &[Range<u64>],
        options: &ReadOptions,
    ) -> Result<Read<Slices>> {
        let inside = self.0.inside_of(key, Operation::Load)?;
        self.0.inner.get_ranges(&inside, ranges, options).await.map_err(|error| error.key_is(key))
    }

    async fn apply(&self, batch: Batch) -> Result<BatchOutcomes> {
        self.0.check_open(Operation::Apply)?;
        let name = self.0.capabilities.name();
        let failed = |error: Error| error.during(Operation::Apply).in_tier(name);
        let check = |key: &Key, _: &Action| self.0.capabilities.check_key(key);
        let (rest, refused) = crate::alike(&self.0.capabilities, batch).checked(check).map_err(failed)?;
        let mut inside = Batch::of(rest.atomicity());
        for (key, action) in rest.into_operations() {
            inside.push(self.0.inside_of(&key, Operation::Apply)?, action);
        }
        let outcomes = self.0.inner.apply(inside).await.map_err(|error| self.0.translated(error))?;
        let translate = |outcome: Result<_>| outcome.map_err(|error| self.0.translated(error));
        Ok(refused.among(outcomes.into_iter().map(translate).collect()))
    }

    async fn read_stream(
        &self,
        key: &Key,
        options: &ReadOptions,
    ) -> Result<Option<(Arc<Metadata>, ByteStream)>> {
        let inside = self.0.inside_of(key, Operation::Load)?;
        let read = self.0.inner.read_stream(&inside, options).await.map_err(|error| error.key_is(key))?;
        Ok(read.map(|(metadata, body)| {
            let key = key.clone();
            let body: ByteStream = Box::pin(body.map(move |part| part.map_err(|error| error.key_is(&key))));
            (metadata, body)
        }))
    }

    async fn put_stream(&self, key: &Key, put: Put, body: ByteStream) -> Result<Written> {
        let inside = self.0.inside_of(key, Operation::Put)?;
        self.0.inner.put_stream(&inside, put, body).await.map_err(|error| error.key_is(key))
    }

    async fn claim(&self, scope: &Scope) -> Result<Claim> {
        self.0.check_open(Operation::Open)?;
        self.0.inner.claim(&self.0.scope(scope)?).await
    }

    fn changes(&self) -> Option<ChangeStream> {
        let shared = Arc::clone(&self.0);
        let changes = self.0.inner.changes()?;
        Some(Box::pin(changes.filter_map(move |change| {
            future::ready(match change {
                Change::Key { key, version } => shared.outside(&key).map(|key| Change::Key { key, version }),
                other => Some(other),
            })
        })))
    }

    async fn mark(&self, name: &str) -> Result<Option<Bytes>> {
        self.0.check_open(Operation::Mark)?;
        self.0.capabilities.require(tiered_core::Feature::KeepsMarks)?;
        adapter::check_mark(name, None)?;
        self.0.inner.mark(&self.0.names.value(name)).await
    }

    async fn mark_names(&self, prefix: &str) -> Result<Vec<String>> {
        self.0.check_open(Operation::Mark)?;
        marks::names(&*self.0.inner, &self.0.names, prefix).await
    }

    async fn set_mark(&self, name: &str, value: Option<Bytes>) -> Result<()> {
        self.0.check_open(Operation::Mark)?;
        self.0.capabilities.require(tiered_core::Feature::KeepsMarks)?;
        adapter::check_mark(name, value.as_ref())?;
        marks::set(&*self.0.inner, &self.0.names, name, value).await
    }

    async fn flush(&self) -> Result<()> {
        self.0.check_open(Operation::Flush)?;
        self.0.inner.flush().await
    }

    async fn close(&self) -> Result<()> {
        if self.0.closing == Closing::Inside {
            return self.0.inner.close().await;
        }
        // No write that follows is acknowledged; what was is flushed.
        if self.0.closed.swap(true, Ordering::AcqRel) { Ok(()) } else { self.0.inner.flush().await }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_cut_between_characters() {
        assert_eq!((cut("aé", 3), cut("aé", 2), cut("aé", 1), cut("aé", 0)), ("aé", "a", "a", ""));
    }
}
