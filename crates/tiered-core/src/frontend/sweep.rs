//! Blocks of earlier processes whose value was replaced: nobody finds them any more, and they take room.

use std::collections::HashSet;
use std::sync::Arc;

use futures_util::StreamExt as _;

use super::Frontend;
use super::session::is_persistent;
use crate::blocks::{Grid, Names, is_block, past_blocks};
use crate::entry::{Origin, Tombstones};
use crate::error::Result;
use crate::list::{ListOptions, ListStream};
use crate::store::Store as _;

/// Blocks that are judged together.
const BATCH: usize = 1 << 10;

impl Frontend {
    /// Begins to remove the blocks that earlier processes left, where the frontend outlives a process. It lists what the frontend
    /// has, beside reads and writes, until the store is left. What fails is left to the eviction of the frontend.
    pub(crate) fn begin_sweep(self: &Arc<Self>) {
        let Some(grid) = self.plan.grid().filter(|_| is_persistent(self.tier.capabilities())) else { return };
        let frontend = Arc::clone(self);
        self.tasks.spawn(async move {
            match frontend.sweep(grid).await {
                Ok(removed) => tracing::debug!(removed, "blocks of versions that are gone were removed"),
                Err(error) => {
                    tracing::debug!(error = %error.chain(), "blocks of versions that are gone stay");
                }
            }
        });
    }

    /// Removes each block that belongs to no stub. A stub that comes meanwhile is known to this process, with its blocks.
    async fn sweep(&self, grid: Grid) -> Result<u64> {
        let stubs = self.stubs(grid).await?;
        let mut blocks = self.list_hidden(ListOptions::new().prefix(Names::PREFIX)).chunks(BATCH);
        let mut removed = 0;
        while let Some(listed) = blocks.next().await {
            let mut strangers = Vec::new();
            for listed in listed {
                let name = match listed {
                    Ok(listed) => listed.key,
                    Err(error) => error.damaged_key().cloned().ok_or(error)?,
                };
                strangers.extend(
                    Names::hash_of(&name).filter(|hash| !stubs.contains(hash)).map(|hash| (hash, name)),
                );
            }
            let known = if strangers.is_empty() { HashSet::new() } else { self.kept.hashes() };
            for (_, name) in strangers.iter().filter(|(hash, _)| !known.contains(hash)) {
                if self.tasks.are_leaving() {
                    return Ok(removed);
                }
                self.tier.replace(name, None).await?;
                removed += 1;
            }
        }
        Ok(removed)
    }

    /// What the names of the blocks begin with that the stubs in the frontend have.
    async fn stubs(&self, grid: Grid) -> Result<HashSet<u128>> {
        let mut stubs = HashSet::new();
        // Blocks lie in one range, which is left out.
        for start_after in [None, Some(past_blocks()?)] {
            let mut listing = self.list_hidden(ListOptions { start_after, ..ListOptions::new() });
            while let Some(listed) = listing.next().await {
                if self.tasks.are_leaving() {
                    break;
                }
                let listed = match listed {
                    Ok(listed) => listed,
                    Err(error) if error.damaged_key().is_some() => continue,
                    Err(error) => return Err(error),
                };
                if is_block(&listed.key) {
                    break;
                }
                let stub = listed.metadata.filter(|metadata| metadata.note.origin == Origin::Part);
                stubs.extend(stub.map(|stub| Names::of(&listed.key, &stub.version, grid.block()).hash()));
            }
        }
        Ok(stubs)
    }

    fn list_hidden(&self, options: ListOptions) -> ListStream {
        self.tier.past_breaker().list(options.tombstones(Tombstones::Show))
    }
}
