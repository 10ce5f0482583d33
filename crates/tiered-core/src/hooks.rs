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
//! | a failure | refuses the write: [`Outcome::NotApplied`](crate::Outcome::NotApplied) | cannot be reported; the write is answered as it ended |
//! | a panic | refuses the write | is logged and counted in [`Stats::hook_panics`](crate::Stats::hook_panics) |
//! | a delay | delays the write and later ones of its keys; at the write deadline the write fails with [`Outcome::NotApplied`](crate::Outcome::NotApplied) | delays the answer and later writes of its keys; at the write deadline the caller gets [`Outcome::Unknown`](crate::Outcome::Unknown) |
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

mod hook;
mod mutation;
mod registry;
mod watch;

pub use hook::{Hook, after, before};
pub(crate) use mutation::Body;
pub use mutation::{Mutation, Old};
pub use registry::HookHandle;
pub(crate) use registry::{Hooks, inherited};
pub(crate) use watch::after_all;
