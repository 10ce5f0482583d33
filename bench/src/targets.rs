//! What is aimed at. Each target names where it comes from; none of them is a result.

use serde::{Deserialize, Serialize};

/// A bound on a figure of ours.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// What is bounded.
    pub bound: Bound,
    /// Where it comes from.
    pub source: &'static str,
}

/// What a target bounds.
#[derive(Clone, Copy, Debug)]
pub enum Bound {
    /// The cost relative to the reference of the same case, at most.
    Ratio(f64),
    /// The figure itself, at most.
    AtMost(f64),
    /// Percentage points below the best of the same case, at most.
    PointsBelowBest(f64),
}

/// Whether a target was reached.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// It was.
    Met,
    /// It was not.
    Missed,
    /// The row is what others are compared with.
    Reference,
    /// The row is of a peer: nothing is aimed at.
    Peer,
}

/// Where targets come from that have no figure of their own.
const PARITY: &str = "no worse than the peer";

const fn parity() -> Target {
    Target { bound: Bound::Ratio(1.0), source: PARITY }
}

/// A hit beside the look-up of the raw cache.
pub const HIT: Target =
    Target { bound: Bound::Ratio(1.3), source: "docs/src/performance.md: at most 1.3 of the raw cache" };

/// What an entry takes beside its key and value.
pub const MEMORY: Target = Target {
    bound: Bound::AtMost(384.0),
    source: "crates/tiered-moka: what the tier counts for an entry's bookkeeping",
};

/// What a full tier holds beside the capacity it was given, in percent.
pub const CAPACITY: Target = Target {
    bound: Bound::AtMost(100.0),
    source: "crates/tiered-moka: bounded by bytes, bookkeeping included",
};

/// Allocations of a hit.
pub const ALLOCATIONS: Target =
    Target { bound: Bound::AtMost(0.0), source: "tests/allocations.rs: a hit allocates nothing" };

/// A hit ratio beside the best policy on the same trace and capacity.
pub const HIT_RATIO: Target = Target { bound: Bound::PointsBelowBest(0.0), source: PARITY };

/// Loads of the backend in a stampede.
pub const STAMPEDE_LOADS: Target =
    Target { bound: Bound::AtMost(1.0), source: "one read of the backend for all readers" };

/// A miss with its fill.
pub const MISS: Target = parity();
/// Reads and writes in a mix.
pub const MIXED: Target = parity();
/// Many keys by one call.
pub const GET_MANY: Target = parity();
/// Writes that the backend has when they are acknowledged, beside its own group commit.
pub const WRITE_THROUGH: Target = Target {
    bound: Bound::Ratio(1.0 / 0.9),
    source: "docs/src/performance.md: at least 0.9 of its group commit",
};
/// Writes that the journal has when they are acknowledged, beside a bare log.
pub const WRITE_BEHIND: Target =
    Target { bound: Bound::Ratio(1.0 / 0.9), source: "docs/src/performance.md: at least 0.9 of a bare log" };
/// A read of an embedded engine beside the same by hand.
pub const ENGINE_READ: Target =
    Target { bound: Bound::Ratio(2.0), source: "docs/src/performance.md: at most 2 of the engine" };
/// Many keys of an embedded engine by one call, beside the same by hand.
pub const ENGINE_READ_MANY: Target =
    Target { bound: Bound::Ratio(1.5), source: "docs/src/performance.md: at most 1.5 of a loop" };
/// A request to a server beside the same by hand.
pub const SERVER: Target = Target {
    bound: Bound::Ratio(1.0 / 0.95),
    source: "docs/src/performance.md: at least 0.95 of the client",
};
/// What reaches a server of acknowledged writes, beside a loop by hand.
pub const DRAIN: Target =
    Target { bound: Bound::Ratio(1.0 / 0.9), source: "docs/src/performance.md: at least 0.9 of a loop" };
/// Durable writes beside those of Redis with a sync for each.
pub const DURABLE: Target = parity();
/// From opening to serving, with a million records.
pub const RECOVERY: Target = parity();
/// The time until every reader of a stampede has its answer.
pub const STAMPEDE: Target = parity();
/// Listing beside the engine by itself.
pub const LISTING: Target = parity();
/// A sync or a walk beside a loop by hand that writes the same records.
pub const SYNC: Target = Target {
    bound: Bound::Ratio(1.0 / 0.8),
    source: "docs/src/performance.md: at least 0.8 of a loop by hand",
};
/// A sync from S3 beside programs that copy its objects into files.
pub const COPIERS: Target = Target {
    bound: Bound::Ratio(1.0),
    source: "docs/src/performance.md: at least as fast as the fastest of these programs",
};
/// The first hit after a restart.
pub const RESTART: Target = parity();
