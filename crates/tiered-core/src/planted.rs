//! Deliberate bugs, to show that the simulation finds such bugs. Never compiled into a release: the feature
//! `planted` is for `tiered-sim` alone.

/// A deliberate bug of the engine.
#[cfg_attr(not(feature = "planted"), allow(dead_code, reason = "chosen only with the feature"))]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Plant {
    /// A fill installs although its lease was revoked.
    FillIgnoresLease,
    /// A writer does not wait for an install that has begun.
    InstallNotWaitedFor,
    /// A read joins a flight that a write has detached.
    FollowerJoinsOldFlight,
    /// A gated key serves hits.
    GatedKeyServesHits,
    /// A key is opened at once after an unknown outcome.
    UnknownReopenedAtOnce,
    /// A frontend that failed to install or remove is trusted.
    FrontendFailureIgnored,
    /// The flusher applies a batch in reverse order.
    FlushReordersKey,
    /// A conditional write is decided against the backend although a write is pending.
    ConditionalBypassesJournal,
    /// A pending write is cleared before the frontend has it.
    PendingClearedBeforeFrontend,
    /// A pending write is cleared although a later one superseded it.
    PendingClearedThoughSuperseded,
    /// A pending delete leaves no tombstone.
    DeleteWithoutTombstone,
    /// Listings do not consult pending writes.
    ListingMissesPending,
    /// An unknown outcome is reported as not applied.
    TimeoutReportedNotApplied,
    /// A write is acknowledged before the journal has it.
    AcknowledgeBeforeDurable,
    /// A failed call of the frontend counts as over although it can still take effect.
    FrontendLifetimeIgnored,
    /// A persistent frontend is trusted after a crash.
    PersistentFrontendTrusted,
    /// A sync of the frontend copies without a lease.
    SyncCopiesOverNewer,
    /// The journal forgets a record before the backend has it.
    JournalTrimmedEarly,
    /// A backend that is out of reach is taken for one that refuses.
    OutageParks,
    /// An append after a failed one is acknowledged without the journal.
    AppendAfterFailedAppend,
    /// A pending write falls out of the overlay before the backend has it.
    PendingEvicted,
    /// A write of unknown outcome is repeated under another id.
    RetryUnderNewId,
    /// A refusal of a write that has taken effect already is taken for the answer.
    OwnWriteRefused,
    /// A listing captures the pending writes after the backend's listing has begun.
    ListingCapturesLate,
    /// A call that is dropped keeps the room for its pending write.
    RoomLeaksOnCancel,
    /// A flush under a lease does not compare the owner's record.
    FenceSkipped,
    /// The last write of a key is found by the writer's clock.
    OrderFromWallClock,
    /// A full sync removes what was written after its listing.
    FullSyncRemovesWritten,
    /// A walk copies parents before their children.
    WalkParentsFirst,
    /// A note of absence outlives a write.
    AbsenceOutlivesWrite,
    /// A stale answer is given for a key that missed a write.
    StaleServedOutOfStep,
    /// The journal's sync is repeated after it failed. Planted between the journal and its folder.
    FsyncRetried,
    /// The journal takes a group although its checksum is another. Planted between the journal and its folder.
    ChecksumSkipped,
    /// A write of unknown outcome is repeated although others may have undone it. Not in [`ALL`](Self::ALL): it takes
    /// several stores over one backend, which `tiered-sim`'s `shared` test has.
    UnfencedRepeated,
}

#[cfg(feature = "planted")]
impl Plant {
    /// Every deliberate bug that one store can show.
    pub const ALL: [Self; 33] = [
        Self::FillIgnoresLease,
        Self::InstallNotWaitedFor,
        Self::FollowerJoinsOldFlight,
        Self::GatedKeyServesHits,
        Self::UnknownReopenedAtOnce,
        Self::FrontendFailureIgnored,
        Self::FlushReordersKey,
        Self::ConditionalBypassesJournal,
        Self::PendingClearedBeforeFrontend,
        Self::PendingClearedThoughSuperseded,
        Self::DeleteWithoutTombstone,
        Self::ListingMissesPending,
        Self::TimeoutReportedNotApplied,
        Self::AcknowledgeBeforeDurable,
        Self::FrontendLifetimeIgnored,
        Self::PersistentFrontendTrusted,
        Self::SyncCopiesOverNewer,
        Self::JournalTrimmedEarly,
        Self::OutageParks,
        Self::AppendAfterFailedAppend,
        Self::PendingEvicted,
        Self::RetryUnderNewId,
        Self::OwnWriteRefused,
        Self::ListingCapturesLate,
        Self::RoomLeaksOnCancel,
        Self::FenceSkipped,
        Self::OrderFromWallClock,
        Self::FullSyncRemovesWritten,
        Self::WalkParentsFirst,
        Self::AbsenceOutlivesWrite,
        Self::StaleServedOutOfStep,
        Self::FsyncRetried,
        Self::ChecksumSkipped,
    ];
}

/// The planted bug of one store, if any. Without the feature there never is one, and the checks compile away.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Planted {
    #[cfg(feature = "planted")]
    plant: Option<Plant>,
}

impl Planted {
    #[cfg(feature = "planted")]
    pub(crate) const fn new(plant: Plant) -> Self {
        Self { plant: Some(plant) }
    }

    #[cfg(feature = "planted")]
    pub(crate) fn has(self, plant: Plant) -> bool {
        self.plant == Some(plant)
    }

    #[cfg(not(feature = "planted"))]
    #[expect(clippy::unused_self, reason = "the same signature as with the feature")]
    pub(crate) const fn has(self, _plant: Plant) -> bool {
        false
    }
}
