//! Claims on a store that can be exchanged: they stand, and what is claimed beneath them changes.

use std::sync::{Arc, Weak};

use tiered_core::adapter::{Claim, Claims, Scope};
use tiered_core::{Capabilities, Result, Sharing, Store};
use tokio::sync::Mutex;

/// What is lent of a store, and the claim beneath it.
#[derive(Debug, Default)]
pub(super) struct Lent {
    claims: Claims,
    beneath: Mutex<Weak<Beneath>>,
}

/// The claim on the store inside. It is given back with the last claim above it.
#[derive(Debug)]
pub(super) struct Beneath(parking_lot::Mutex<Option<Claim>>);

impl Lent {
    pub(super) async fn claim(
        &self,
        capabilities: &Capabilities,
        inside: &Arc<dyn Store>,
        scope: &Scope,
    ) -> Result<Claim> {
        if capabilities.sharing() == Sharing::Shared {
            return Ok(Claim::shared());
        }
        let claim = self.claims.claim(capabilities.name(), scope).await?;
        Ok(claim.holding(self.beneath(inside).await?))
    }

    /// Claims the store inside, or joins those that have.
    pub(super) async fn beneath(&self, inside: &Arc<dyn Store>) -> Result<Arc<Beneath>> {
        let mut beneath = self.beneath.lock().await;
        if let Some(claimed) = beneath.upgrade() {
            return Ok(claimed);
        }
        let claim = inside.claim(&Scope::Whole).await?;
        let claimed = Arc::new(Beneath(parking_lot::Mutex::new(Some(claim))));
        *beneath = Arc::downgrade(&claimed);
        Ok(claimed)
    }

    /// Releases the claim on the store inside, for an exchange. `None` where nothing is claimed.
    pub(super) async fn give_back(&self) -> Option<Arc<Beneath>> {
        let claimed = self.beneath.lock().await.upgrade()?;
        drop(claimed.0.lock().take());
        Some(claimed)
    }
}

impl Beneath {
    /// Claims the store that is inside from now on.
    pub(super) async fn claim_again(&self, inside: &Arc<dyn Store>) -> Result<()> {
        let claim = inside.claim(&Scope::Whole).await?;
        *self.0.lock() = Some(claim);
        Ok(())
    }

    /// The claim itself, for another who holds it.
    pub(super) fn take(&self) -> Option<Claim> {
        self.0.lock().take()
    }

    /// Holds a claim on the store that is inside from now on.
    pub(super) fn hold(&self, claim: Option<Claim>) {
        *self.0.lock() = claim;
    }
}
