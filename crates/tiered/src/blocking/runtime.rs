//! The threads on which stores work, and how a thread waits for them.

use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use tiered_core::{Create, Error, ErrorKind, Result, Store};
use tokio::runtime::{EnterGuard, Handle, RuntimeFlavor};
use tokio::task::coop;

use super::BlockingStore;

/// Threads on which the stores of a program work. Clones share them.
///
/// The threads end when the last clone is dropped, and with it the last store of this runtime. Dropping waits for
/// nothing: what is still under way is left as by a crash, so close stores first.
///
/// # Examples
/// ```
/// use tiered::Create;
/// use tiered::blocking::Runtime;
///
/// let runtime = Runtime::new()?;
/// let store = runtime.open("memory:", Create::IfAbsent)?;
/// store.set("greeting", "hello")?;
/// // Any part of the async API, on this thread.
/// let keys = runtime.wait(async { tiered::StoreExt::keys(store.inner(), "").await })?;
/// assert_eq!(keys.len(), 1);
/// # Ok::<(), tiered::Error>(())
/// ```
#[derive(Clone)]
pub struct Runtime {
    handle: Handle,
    /// None for a runtime of the user's.
    _own: Option<Arc<Own>>,
}

/// A runtime that is ended without waiting: tokio's own drop panics inside a task.
struct Own(Option<tokio::runtime::Runtime>);

impl Drop for Own {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

impl Runtime {
    /// Starts a runtime with two threads. Enough for most programs: reads and writes of the program run on its own
    /// threads, and what blocks in an engine runs on threads that are started as needed.
    ///
    /// # Errors
    /// [`ErrorKind::Full`] or [`ErrorKind::Other`] where the operating system gives no threads.
    ///
    /// # Examples
    /// ```
    /// let runtime = tiered::blocking::Runtime::new()?;
    /// # Ok::<(), tiered::Error>(())
    /// ```
    pub fn new() -> Result<Self> {
        Self::with_threads(2)
    }

    /// Starts a runtime with `threads` threads, at least one.
    ///
    /// # Errors
    /// As [`new`](Self::new); [`ErrorKind::InvalidInput`] for no threads at all.
    ///
    /// # Examples
    /// ```
    /// let runtime = tiered::blocking::Runtime::with_threads(4)?;
    /// assert!(tiered::blocking::Runtime::with_threads(0).is_err());
    /// # Ok::<(), tiered::Error>(())
    /// ```
    pub fn with_threads(threads: usize) -> Result<Self> {
        if threads == 0 {
            return Err(Error::new(ErrorKind::InvalidInput, "a runtime needs at least one thread"));
        }
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        let runtime = builder.worker_threads(threads).thread_name("tiered").enable_all().build()?;
        let handle = runtime.handle().clone();
        Ok(Self { handle, _own: Some(Arc::new(Own(Some(runtime)))) })
    }

    /// Uses a runtime that the program has already. It must last as long as the stores.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] for a runtime of one thread: nothing would happen in it while that thread waits.
    ///
    /// # Examples
    /// ```
    /// use tiered::{Create, blocking::Runtime};
    ///
    /// let tokio = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    /// let runtime = Runtime::of(tokio.handle().clone())?;
    /// runtime.open("memory:", Create::IfAbsent)?.set("k", "v")?;
    /// # Ok::<(), tiered::Error>(())
    /// ```
    pub fn of(handle: Handle) -> Result<Self> {
        if handle.runtime_flavor() == RuntimeFlavor::CurrentThread {
            return Err(Error::new(
                ErrorKind::Config,
                "a current-thread runtime does nothing while its thread waits; give a multi-thread runtime, or use Runtime::new",
            ));
        }
        Ok(Self { handle, _own: None })
    }

    /// Opens the store that `url` names, as [`open`](crate::open()).
    ///
    /// # Errors
    /// As [`open`](crate::open()); [`ErrorKind::Unsupported`] from inside an async task.
    ///
    /// # Examples
    /// ```
    /// use tiered::{Create, blocking::Runtime};
    ///
    /// let store = Runtime::new()?.open("memory:", Create::IfAbsent)?;
    /// assert!(store.get("k")?.is_none());
    /// # Ok::<(), tiered::Error>(())
    /// ```
    pub fn open(&self, url: &str, create: Create) -> Result<BlockingStore> {
        self.wait(crate::open(url, create))
            .map(|store: Arc<dyn Store>| BlockingStore::new(store, self.clone()))
    }

    /// Runs a future of the async API to its end on this thread: syncs, walks, builders, typed values, user code.
    ///
    /// The future may borrow. What it spawns runs on the threads of the runtime.
    ///
    /// # Errors
    /// The future's own; [`ErrorKind::Unsupported`] from inside an async task: use the async API there, or move the call
    /// into `tokio::task::spawn_blocking`. The future is then dropped without having run.
    ///
    /// # Examples
    /// ```
    /// use tiered::blocking::Runtime;
    /// use tiered::sync::{FullSync, SyncOptions, sync};
    /// use tiered::{Error, MemoryStore, StoreExt};
    ///
    /// let (source, target) = (MemoryStore::new(), MemoryStore::new());
    /// let runtime = Runtime::new()?;
    /// runtime.wait(source.set("k", "v"))?;
    /// let report = runtime.wait(sync(&source, &target, &FullSync, &SyncOptions::new()))?;
    /// assert_eq!(report.copied, 1);
    ///
    /// let refused: Result<(), Error> = tokio::runtime::Builder::new_current_thread()
    ///     .build()
    ///     .unwrap()
    ///     .block_on(async { runtime.wait(async { Ok(()) }) });
    /// assert!(refused.unwrap_err().message().contains("spawn_blocking"));
    /// # Ok::<(), Error>(())
    /// ```
    pub fn wait<T, E>(&self, future: impl Future<Output = Result<T, E>>) -> Result<T, E>
    where
        E: From<Error>,
    {
        refuse_in_a_task()?;
        let _here = self.handle.enter();
        pollster::block_on(future)
    }

    /// Makes what this thread spawns or drops belong to the runtime. Drivers need it in `Drop`.
    pub(super) fn enter(&self) -> EnterGuard<'_> {
        self.handle.enter()
    }

    /// The runtime of tokio.
    pub(super) fn handle(&self) -> &Handle {
        &self.handle
    }
}

impl fmt::Debug for Runtime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Runtime").field("id", &self.handle.id()).finish_non_exhaustive()
    }
}

/// Refuses to block a thread that polls an async task.
fn refuse_in_a_task() -> Result<()> {
    if !is_in_a_task() {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::Unsupported,
        "a blocking call from inside an async task would stop its thread; use the async API there, or move the call into tokio::task::spawn_blocking",
    ))
}

/// More than any budget of tokio's, which counts in a `u8`.
const MOST_BUDGET: u32 = 256;

/// Whether this thread polls a task of tokio, or a future under its `block_on`.
///
/// Threads of `spawn_blocking` have a current runtime as well. What sets tasks apart is the budget for cooperative
/// scheduling: each poll of a task has a bounded one, a blocking thread has none. So this takes from the budget until it
/// is used up, and gives all of it back.
fn is_in_a_task() -> bool {
    if Handle::try_current().is_err() {
        return false;
    }
    let mut before = None;
    for _ in 0..MOST_BUDGET {
        match coop::poll_proceed(&mut Context::from_waker(Waker::noop())) {
            Poll::Pending => return true,
            Poll::Ready(taken) if before.is_none() => before = Some(taken),
            // The first one restores the budget as it was before it. The others are not to.
            Poll::Ready(taken) => taken.made_progress(),
        }
    }
    false
}
