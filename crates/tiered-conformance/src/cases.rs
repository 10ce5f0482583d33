//! The one list of cases.

mod batches;
mod concurrency;
mod deleting;
mod expiry;
mod life;
mod listing;
mod marks;
mod model;
mod preconditions;
mod ranges;
mod reading;
mod streaming;
mod tiers;
mod tombstones;
mod writing;

use crate::case::Case;

/// Every case, in the order of the specification.
pub fn cases() -> impl Iterator<Item = &'static Case> {
    [
        reading::CASES,
        ranges::CASES,
        writing::CASES,
        preconditions::CASES,
        deleting::CASES,
        streaming::CASES,
        batches::CASES,
        listing::CASES,
        expiry::CASES,
        tombstones::CASES,
        marks::CASES,
        concurrency::CASES,
        life::CASES,
        model::CASES,
        tiers::CASES,
    ]
    .into_iter()
    .flatten()
}
