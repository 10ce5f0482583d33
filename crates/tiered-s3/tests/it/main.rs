//! The S3 tier against real servers: the conformance suite, other clients, opening and refusing, a stub for what no
//! server does on demand.

mod completion;
mod deletes;
mod fs;
mod lifecycle;
mod opening;
mod others;
mod place;
mod shelf;
mod stub;
mod torn;
mod wire;

/// The suite on a server.
macro_rules! suite {
    ($name:ident, $service:ident, $layout:ident) => {
        mod $name {
            tiered_conformance::suite!(
                super::place::Server::new(tiered_services::Service::$service, tiered_s3::Layout::$layout)
                    .await
            );
        }
    };
}

suite!(moto_raw, S3, Raw);
suite!(moto_enveloped, S3, Enveloped);
