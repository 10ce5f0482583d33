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

/// Every case, the plain ones first: the first that fails is the one to look at, since what it checks others build on.
pub fn cases() -> impl Iterator<Item = &'static Case> {
    [
        reading::CASES,
        writing::CASES,
        deleting::CASES,
        ranges::CASES,
        preconditions::CASES,
        listing::CASES,
        batches::CASES,
        expiry::CASES,
        tombstones::CASES,
        marks::CASES,
        streaming::CASES,
        concurrency::CASES,
        life::CASES,
        model::CASES,
        tiers::CASES,
    ]
    .into_iter()
    .flatten()
}
