//! The one list of cases.

mod batch_entries;
mod batches;
mod claims;
mod closing;
mod concurrency;
mod deleting;
mod expiry;
mod handles;
mod life;
mod listing;
mod marks;
mod model;
mod near;
mod numbers;
mod preconditions;
mod ranges;
mod reading;
mod reopening;
mod stream_large;
mod stream_races;
mod streaming;
mod tiers;
mod times;
mod tombstones;
mod writing;

use crate::case::Case;

/// Every case, the plain ones first: the first that fails is the one to look at, since what it checks others build on.
pub fn cases() -> impl Iterator<Item = &'static Case> {
    // Whole values first; the reads that need more of a write than its value come after the writes.
    let (whole, others) = reading::CASES.split_at(reading::WHOLE);
    [
        whole,
        writing::CASES,
        deleting::CASES,
        ranges::CASES,
        others,
        preconditions::CASES,
        near::CASES,
        listing::CASES,
        batches::CASES,
        batch_entries::CASES,
        numbers::CASES,
        expiry::CASES,
        times::CASES,
        tombstones::CASES,
        marks::CASES,
        claims::CASES,
        streaming::CASES,
        stream_races::CASES,
        stream_large::CASES,
        concurrency::CASES,
        life::CASES,
        reopening::CASES,
        handles::CASES,
        closing::CASES,
        model::CASES,
        tiers::CASES,
    ]
    .into_iter()
    .flatten()
}
