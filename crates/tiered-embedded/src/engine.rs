//! The interface of an embedded engine.

use std::ops::{Bound, ControlFlow};

use tiered_core::Result;

/// One of the three ordered tables of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Table {
    /// Key → record.
    Meta,
    /// The id of a value and the number of a chunk → chunk; the id of a value without a record → what there is of it.
    Chunks,
    /// Name → mark.
    Marks,
}

/// Whether an engine is opened by its user or after a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opening {
    /// By the user: an absent database is created if the configuration says so.
    First,
    /// After a failure: an absent database is an error; it is never created empty.
    Again,
}

/// What a scan shows each pair to, until it breaks.
pub type Visit<'v> = dyn FnMut(&[u8], &[u8]) -> Result<ControlFlow<()>> + 'v;

/// A consistent view of all tables.
pub trait View {
    /// Shows the value of `key` to `visit`, if there is one; whether there was. An error of `visit` is passed on.
    fn get(&self, table: Table, key: &[u8], visit: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<bool>;

    /// As [`get`](View::get) for each of `keys`, with its index. An engine with a faster way for many overrides it.
    fn get_many(
        &self,
        table: Table,
        keys: &[&[u8]],
        visit: &mut dyn FnMut(usize, &[u8]) -> Result<()>,
    ) -> Result<()> {
        for (index, key) in keys.iter().enumerate() {
            self.get(table, key, &mut |value| visit(index, value))?;
        }
        Ok(())
    }

    /// Shows the pairs between `from` and `to` (excluded; `None`: the table's end) in the order of their keys, until
    /// `visit` breaks.
    fn scan(&self, table: Table, from: Bound<&[u8]>, to: Option<&[u8]>, visit: &mut Visit<'_>) -> Result<()>;
}

/// A view that sees its own writes: of [`Table::Meta`] by [`get`](View::get); whether other reads see them is left to
/// the engine. Dropped without a commit it leaves no trace.
pub trait Transaction: View {
    /// Sets a value.
    fn put(&mut self, table: Table, key: &[u8], value: &[u8]) -> Result<()>;

    /// Sets a value and shows the one that it replaces to `visit`, if there was one. An engine that comes upon the old value
    /// while it writes the new one overrides it.
    fn replace(
        &mut self,
        table: Table,
        key: &[u8],
        value: &[u8],
        visit: &mut dyn FnMut(&[u8]),
    ) -> Result<()> {
        self.get(table, key, &mut |old| {
            visit(old);
            Ok(())
        })?;
        self.put(table, key, value)
    }

    /// Removes a value; a no-op if it is absent.
    fn delete(&mut self, table: Table, key: &[u8]) -> Result<()>;
}

/// An open embedded database.
///
/// Calls may block, but for [`read_cached`](Engine::read_cached). [`read`](Engine::read) comes from threads for blocking work,
/// and from the caller's own while that is quick ([`ReadMode`](crate::ReadMode)). Only one thread writes. An error says in its kind what happened: after `Unavailable` and `Full` the engine is closed and
/// reopened.
pub trait Engine: Send + Sync + 'static {
    /// Runs `run` on a view of the database.
    fn read(&self, run: &mut dyn FnMut(&dyn View) -> Result<()>) -> Result<()>;

    /// As [`read`](Engine::read), but never waits for the disk: `None` when it would have to. What `run` did is then
    /// thrown away, and it runs again elsewhere.
    fn read_cached(&self, _run: &mut dyn FnMut(&dyn View) -> Result<()>) -> Option<Result<()>> {
        None
    }

    /// Runs `run` in a transaction, then commits it; on disk when it returns where `durable` is set, and everything
    /// that was committed before with it.
    ///
    /// # Errors
    /// Those of `run` and of what comes before the commit, which leave no trace, with the outcome
    /// [`NotApplied`](tiered_core::Outcome::NotApplied), unless `run` says otherwise; those of the commit itself with
    /// [`Unknown`](tiered_core::Outcome::Unknown).
    fn write(&self, durable: bool, run: &mut dyn FnMut(&mut dyn Transaction) -> Result<()>) -> Result<()>;

    /// Closes the database: everything on disk, every lock released.
    fn close(self: Box<Self>) -> Result<()>;
}
