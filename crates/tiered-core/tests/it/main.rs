//! Public behaviour of the core.

mod backlog;
mod batches;
mod calls;
mod checkpoints;
mod claims;
mod damage;
mod entries;
mod feed;
mod forms;
mod hooks;
mod invalidation;
mod leasing;
mod lookups;
mod many;
mod model;
mod promises;
mod resilience;
mod retrying;
mod scripted;
mod settings;
mod split;
mod sync_batches;
mod synchronisation;
mod tiering;
mod ttl;
mod walks;
