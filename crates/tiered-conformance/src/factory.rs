//! Where the suite takes the store under test from.

use std::sync::Arc;

use async_trait::async_trait;
use tiered_core::testing::ManualClock;
use tiered_core::{AsStore, Result, Store};

/// Gives the store under test.
///
/// A closure that returns a future of a store is a factory too; it has no places and no clock.
#[diagnostic::on_unimplemented(
    message = "`{Self}` gives no store to test",
    label = "no `Factory`",
    note = "give a type that implements `Factory`, or a closure that returns a future of a `Store` or of an `Arc` \
            of one, and not of a `Result`"
)]
#[async_trait]
pub trait Factory: Send + Sync + 'static {
    /// A handle on the store under test. It may be the same one each time: the suite never closes it.
    async fn open(&self) -> Result<Arc<dyn Store>>;

    /// A fresh, empty place of the same kind, which a case may fill, close and open again; `None` where there are
    /// none, and the cases that need one are skipped.
    async fn place(&self) -> Option<Arc<dyn Place>> {
        None
    }

    /// The clock of the stores that this factory gives, where it is moved by hand. A store on a manual clock *must*
    /// give it here: the suite waits for real time to pass otherwise. The suite moves it forward.
    fn clock(&self) -> Option<Arc<ManualClock>> {
        None
    }

    /// Whether entries may really vanish during the suite.
    fn eviction(&self) -> Eviction {
        Eviction::AsDeclared
    }
}

/// Whether entries may vanish while the suite runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Eviction {
    /// As the store declares by [`Feature::Evicts`](tiered_core::Feature::Evicts): an absent entry is then accepted
    /// wherever a present one is expected, a wrong one never.
    #[default]
    AsDeclared,
    /// Never, although the store declares that it evicts: it has room for 64 MiB and 4,096 entries, more than the
    /// whole suite writes. The suite is then as strict as with any other store.
    Never,
}

/// A place of its own for one case. Dropping it removes what it holds.
#[async_trait]
pub trait Place: Send + Sync + 'static {
    /// Opens the store at this place. While it is open, a second call answers as a second process would find it.
    async fn open(&self) -> Result<Arc<dyn Store>>;
}

#[async_trait]
impl<F, Fut> Factory for F
where
    F: Fn() -> Fut + Send + Sync + 'static,
    Fut: Future + Send + 'static,
    Fut::Output: AsStore,
{
    async fn open(&self) -> Result<Arc<dyn Store>> {
        Ok(self().await.into_store())
    }
}
