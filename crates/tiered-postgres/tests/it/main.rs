//! The Postgres tier against a real server: the conformance suite, opening and refusing, the feed.

mod feed;
mod following;
mod lifecycle;
mod listings;
mod opening;
mod place;
mod pooler;
mod rows;
mod streams;
mod wire;

/// The suite on a server. Every case runs.
macro_rules! suite {
    ($name:ident, $service:ident) => {
        mod $name {
            tiered_conformance::suite!(super::place::Server::new(tiered_services::Service::$service).await);
        }
    };
}

suite!(suite, Postgres);
// Each transaction may get another session of the server.
suite!(suite_pooled, PgBouncer);
