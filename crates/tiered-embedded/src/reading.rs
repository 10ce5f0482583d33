//! Reads: on the caller's thread, or on one for blocking work.

use std::sync::Arc;

use tiered_core::adapter::{closed, opening};
use tiered_core::{Error, ErrorKind, Operation, Result};
use tokio::runtime::Handle;

use crate::engine::View;
use crate::inline::Turn;
use crate::store::EmbeddedStore;

/// The number of concurrent reads on threads: an engine's calls block, and more threads would only wait for the same
/// disk.
pub(crate) const READERS: usize = 16;

impl EmbeddedStore {
    /// Runs a read of one key on the caller's thread, where that is quick at present or the engine has all it needs in its
    /// cache. `None` where it is to run [on another thread](Self::read), also if `read` says so.
    pub(crate) async fn read_here<T: Send>(
        &self,
        operation: Operation,
        read: impl FnMut(&dyn View) -> Result<Option<T>> + Send,
    ) -> Result<Option<T>> {
        self.check_open(operation)?;
        if self.polls_inline() {
            return Ok(None);
        }
        // A task that reads and reads lets others run now and then.
        tokio::task::coop::consume_budget().await;
        self.read_now(operation, read)
    }

    fn read_now<T>(
        &self,
        operation: Operation,
        mut read: impl FnMut(&dyn View) -> Result<Option<T>>,
    ) -> Result<Option<T>> {
        let mut result = None;
        let mut run = |view: &dyn View| {
            result = read(view)?;
            Ok(())
        };
        let ran = match self.begin_turn() {
            Some(turn) => {
                let ran = self.shared().with_idle_engine(|engine| Some(engine.read(&mut run)));
                self.inlining().end(turn);
                ran
            }
            None => self.shared().with_idle_engine(|engine| engine.read_cached(&mut run)),
        };
        match ran {
            None => Ok(None),
            // The blocking path reports a failing disk and closes the engine.
            Some(Err(error)) if error.kind() != ErrorKind::Corrupt => Ok(None),
            Some(Err(error)) => Err(self.failed(operation, error)),
            Some(Ok(())) => Ok(result),
        }
    }

    /// Begins reads on the caller's thread; `None` where they run on another one. So do all outside of a runtime: they fail
    /// there, and not only those that turn out to be slow.
    pub(crate) fn begin_turn(&self) -> Option<Turn> {
        Handle::try_current().ok()?;
        self.inlining().begin()
    }

    /// Runs a read on a thread that may block.
    pub(crate) async fn read<T: Send + 'static>(
        &self,
        operation: Operation,
        read: impl Fn(&dyn View) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        self.check_open(operation)?;
        let failed = |error: Error| self.failed(operation, error);
        let shared = Arc::clone(self.shared());
        let run = move || {
            shared.with_engine(|engine| {
                let mut result = None;
                engine.read(&mut |view| {
                    result = Some(read(view)?);
                    Ok(())
                })?;
                result.ok_or_else(|| Error::new(ErrorKind::Other, "the engine ran no read"))
            })
        };
        if self.polls_inline() {
            return run().map_err(failed);
        }
        let Ok(_permit) = self.readers().acquire().await else { return Err(failed(closed(operation))) };
        blocking(run).await.map_err(failed)
    }
}

/// Runs a call on a thread that may block.
pub(crate) async fn blocking<T: Send + 'static>(
    run: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    let task = opening::runtime()?.spawn_blocking(run);
    task.await.unwrap_or_else(|error| {
        Err(Error::new(ErrorKind::Other, "a blocking call was lost").with_source(error))
    })
}
