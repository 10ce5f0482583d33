//! Which hooks a store has.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::Mutex;

use super::hook::Hook;
use crate::observe::{Count, Recorder};

/// One registered hook.
pub(super) struct Registered {
    hook: Box<dyn Hook>,
    removed: AtomicBool,
}

/// The hooks of a store, in the order in which they were added.
pub(crate) struct Hooks {
    /// Tells the stores of the process apart.
    store: u64,
    list: Mutex<Arc<[Arc<Registered>]>>,
    recorder: Arc<Recorder>,
}

/// A hook that was added to a store. Dropping the handle leaves the hook in place.
///
/// # Examples
/// ```
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// use tiered_core::hooks::{self, Mutation};
/// use tiered_core::{Error, ErrorKind, MemoryStore, StoreExt, TieredStore};
///
/// let store = TieredStore::builder(MemoryStore::new(), MemoryStore::new()).build().await?;
/// let frozen = |_: &Mutation| Err(Error::new(ErrorKind::PermissionDenied, "frozen until noon"));
/// let freeze = store.add_hook(hooks::before(frozen));
/// assert!(store.set("users/42", "Ada").await.is_err());
/// freeze.remove();
/// store.set("users/42", "Ada").await?;
/// # Ok::<(), tiered_core::Error>(()) }).unwrap();
/// ```
#[derive(Debug)]
pub struct HookHandle {
    hooks: Arc<Hooks>,
    hook: Arc<Registered>,
}

impl HookHandle {
    /// Removes the hook: after this no call of it begins. A call that has begun runs to its end. A write that is past
    /// [`before`](Hook::before) ends without [`after`](Hook::after).
    pub fn remove(self) {
        self.hook.removed.store(true, Ordering::SeqCst);
        self.hooks.forget(&self.hook);
    }
}

tokio::task_local! {
    /// The stores whose hook the current task is in.
    static INSIDE: Vec<u64>;
}

/// A task that the current one waits for. Where that one is in a hook, the task is so as well.
pub(crate) fn inherited<F: Future>(task: F) -> impl Future<Output = F::Output> {
    let stores = INSIDE.try_with(Vec::clone).unwrap_or_default();
    async move { if stores.is_empty() { task.await } else { INSIDE.scope(stores, task).await } }
}

/// Makes a call that belongs to no hook, though the current task may be in one.
pub(crate) fn outside<T>(call: impl FnOnce() -> T) -> T {
    INSIDE.sync_scope(Vec::new(), call)
}

impl Hooks {
    pub(crate) fn new(recorder: Arc<Recorder>) -> Arc<Self> {
        static STORES: AtomicU64 = AtomicU64::new(0);
        let store = STORES.fetch_add(1, Ordering::Relaxed);
        Arc::new(Self { store, list: Mutex::new(Arc::from([])), recorder })
    }

    pub(crate) fn add(self: &Arc<Self>, hook: Box<dyn Hook>) -> HookHandle {
        let hook = Arc::new(Registered { hook, removed: AtomicBool::new(false) });
        let mut list = self.list.lock();
        *list = list.iter().chain([&hook]).map(Arc::clone).collect();
        drop(list);
        HookHandle { hooks: Arc::clone(self), hook }
    }

    fn forget(&self, hook: &Arc<Registered>) {
        let mut list = self.list.lock();
        *list = list.iter().filter(|other| !Arc::ptr_eq(other, hook)).map(Arc::clone).collect();
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.list.lock().is_empty()
    }

    /// The hooks that see a write which begins now.
    pub(super) fn now(&self) -> Arc<[Arc<Registered>]> {
        Arc::clone(&self.list.lock())
    }

    /// Whether the caller is a hook of this store.
    pub(crate) fn is_caller(&self) -> bool {
        INSIDE.try_with(|stores| stores.contains(&self.store)).unwrap_or(false)
    }

    /// Makes a call of a hook.
    pub(super) async fn inside<T>(&self, call: impl Future<Output = T>) -> T {
        let mut stores = INSIDE.try_with(Vec::clone).unwrap_or_default();
        stores.push(self.store);
        INSIDE.scope(stores, call).await
    }

    pub(super) fn count(&self, what: Count) {
        self.recorder.count(what);
    }
}

impl Registered {
    /// The hook, until it is removed.
    pub(super) fn get(&self) -> Option<&dyn Hook> {
        (!self.removed.load(Ordering::SeqCst)).then_some(self.hook.as_ref())
    }
}

impl fmt::Debug for Registered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hook").field("removed", &self.removed).finish_non_exhaustive()
    }
}

impl fmt::Debug for Hooks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Hooks").field(&self.now().len()).finish()
    }
}
