//! The S3 tier against real servers: the conformance suite, other clients, opening and refusing, a stub for what no
//! server does on demand.

mod fs;
mod others;
mod place;
mod wire;

/// The suite on a server. What is skipped needs metadata in listings, notes, atomic batches, or a place that others are
/// kept out of.
macro_rules! suite {
    ($name:ident, $service:ident, $layout:ident $(, $skip:literal)*) => {
        mod $name {
            tiered_conformance::suite!(
                super::place::Server::new(tiered_services::Service::$service, tiered_s3::Layout::$layout).await,
                skips: [
                    "expiry_listed", "life_locked", "list_metadata", "put_copy", "put_note", "race_batches",
                    "tombstone_absent", "tombstone_deleted", "tombstone_hidden", "tombstone_shown" $(, $skip)*
                ]
            );
        }
    };
}

suite!(moto_raw, S3, Raw);
suite!(moto_enveloped, S3, Enveloped);
