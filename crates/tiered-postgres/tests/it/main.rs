//! The Postgres tier against a real server: the conformance suite, opening and refusing, the feed.

mod feed;
mod opening;
mod place;
mod rows;
mod wire;

mod suite {
    //! Every case runs, but for the one that wants batches that are not atomic, and those for a store that keeps
    //! others out.
    tiered_conformance::suite!(super::place::Server::new().await, skips: ["batch_outcomes", "life_locked"]);
}
