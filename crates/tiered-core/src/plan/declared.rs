//! What the user declares beside the settings.

use crate::capability::{Durability, Sharing};
use crate::ownership::Lease;

/// What the user declares beside the settings.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Declared {
    journal: Option<Durability>,
    lease: Option<Lease>,
    sole_writer: bool,
    private_frontend: bool,
}

impl Declared {
    /// There is a journal of this durability.
    pub(crate) fn journal(&mut self, durability: Durability) {
        self.journal = Some(durability);
    }

    /// The backend is owned by a lease.
    pub(crate) fn lease(&mut self, lease: Lease) {
        self.lease = Some(lease);
    }

    /// No other process writes the backend.
    pub(crate) fn sole_writer(&mut self) {
        self.sole_writer = true;
    }

    /// No other process uses the frontend.
    pub(crate) fn private_frontend(&mut self) {
        self.private_frontend = true;
    }

    /// How the backend is owned, where that takes a lease.
    pub(super) const fn leased(self) -> Option<Lease> {
        self.lease
    }

    /// The durability of the journal, if there is one.
    pub(super) const fn journaled(self) -> Option<Durability> {
        self.journal
    }

    /// Whether no other process writes the backend.
    pub(super) const fn writes_alone(self) -> bool {
        self.sole_writer
    }

    /// Whether no other process uses the frontend.
    pub(super) const fn has_private_frontend(self) -> bool {
        self.private_frontend
    }

    /// Whether other processes may write a backend that declares `sharing`.
    pub(super) fn others_write(self, sharing: Sharing) -> bool {
        sharing == Sharing::Shared && !self.sole_writer && self.lease.is_none()
    }
}
