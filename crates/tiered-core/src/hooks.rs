//! Hooks: code of the program that runs before and after each mutation of a tiered store.
//!
//! [`TieredStore::subscribe`](crate::TieredStore::subscribe) is a feed: it tells of everything that happens, later, and a
//! slow receiver misses some of it. A hook is part of the write: it may refuse it, it misses none, and the write's answer
//! waits for it.
//!
//! # What calls a hook
//!
//! Each put and each delete of this store in this process is one mutation: single, streamed or in a batch.
//!
//! These are not mutations: fills, invalidations, expiry, syncs into the frontend, writes of other processes, and the recovery
//! of a journal. Hooks saw the writes of a journal when they were acknowledged.
//!
//! | | [`before`](Hook::before) | [`after`](Hook::after) |
//! |---|---|---|
//! | is called | when the write has its key's gate and nothing has been written | when its outcome is known, before the write is answered and before the next write of the key begins |
//! | number of calls | at most one | one for each mutation whose write began |
//! | order | of registration; in a batch, that of its operations | the same |
//! | a failure | refuses the write: [`Outcome::NotApplied`](crate::Outcome::NotApplied) | cannot be reported; the write is answered as it ended |
//! | a panic | refuses the write | is logged and counted in [`Stats::hook_panics`](crate::Stats::hook_panics) |
//! | a delay | delays the write and later ones of its keys, and under write-behind holds the room that the write takes; at the write deadline the write fails with [`Outcome::NotApplied`](crate::Outcome::NotApplied) | delays the answer and later writes of its keys; at the write deadline the caller gets [`Outcome::Unknown`](crate::Outcome::Unknown) |
//! | the caller drops the write | it is cancelled, and nothing is written | it runs to its end |
//!
//! While a hook runs, its key serves no hits: reads ask the backend, or show the pending write. Reads never wait for a hook, with
//! one exception: where the frontend alone answers reads, a read waits for a write of its key, hooks included.
//!
//! # A hook may not call its store
//!
//! The write holds the gates of its keys, so such a call could wait for itself. Every call of a hook to its own store that could
//! wait fails with [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported), also by way of another store. To call the store,
//! send the work to a task, and do not wait for that task in the hook.
//!
//! A hook may call other stores, but no store above its own: a write of that one waits for this one. Such a call is not
//! recognised, and may wait until the write deadline.

mod hook;
mod mutation;
mod registry;
mod watch;

pub use hook::{Hook, after, before};
pub(crate) use mutation::Body;
pub use mutation::{Mutation, Old};
pub use registry::HookHandle;
pub(crate) use registry::{Hooks, inherited, outside};
pub(crate) use watch::after_all;
