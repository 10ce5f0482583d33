//! A tier over the S3 client of `object_store`: the conformance suite against the S3 server for tests.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use object_store::aws::{AmazonS3, AmazonS3Builder};
use tiered::adapter::{Stamp, VersionMint};
use tiered::object_store::v0_14::{ObjectTierConfig, object_store};
use tiered::{Durability, Result, Store, Timestamp};
use tiered_conformance::{Factory, Place};
use tiered_core::testing::ManualClock;
use tiered_services::{S3_BUCKET, S3_CREDENTIALS, Service};

/// The limits of the suite.
const LARGEST: u64 = 4 << 20;

/// Tiers below prefixes of their own, on a manual clock.
struct Amazon {
    objects: Arc<AmazonS3>,
    clock: Arc<ManualClock>,
    stamp: Stamp,
    prefix: String,
    places: AtomicUsize,
}

impl Amazon {
    fn new() -> Self {
        let clock = Arc::new(ManualClock::new(Timestamp::from_millis(1_000_000_000_000)));
        let stamp = Stamp::new(clock.clone(), Arc::new(VersionMint::from_entropy()));
        let (access, secret) = S3_CREDENTIALS;
        let objects = AmazonS3Builder::new()
            .with_bucket_name(S3_BUCKET)
            .with_region("us-east-1")
            .with_endpoint(Service::S3.required())
            .with_allow_http(true)
            // The body of such a request is XML, which has no U+FFFF: the server refuses it, and the suite writes such keys.
            .with_disable_bulk_delete(true)
            .with_access_key_id(access)
            .with_secret_access_key(secret)
            .build()
            .expect("a client");
        let prefix = format!("amazon/{}/{:016x}/", std::process::id(), fastrand::u64(..));
        Self { objects: Arc::new(objects), clock, stamp, prefix, places: AtomicUsize::new(0) }
    }

    fn config(&self, place: usize) -> ObjectTierConfig {
        ObjectTierConfig::new(Arc::clone(&self.objects))
            .prefix(format!("{}{place}/", self.prefix))
            .keys(tiered::object_store::Keys::Flat)
            .max_value(LARGEST)
            .request_lifetime(Duration::ZERO)
            .durability(Durability::PowerLoss)
            .stamp(self.stamp.clone())
    }
}

/// A prefix of its own.
struct Room(ObjectTierConfig);

#[async_trait]
impl Place for Room {
    async fn open(&self) -> Result<Arc<dyn Store>> {
        Ok(Arc::new(self.0.clone().open().await?))
    }
}

#[async_trait]
impl Factory for Amazon {
    async fn open(&self) -> Result<Arc<dyn Store>> {
        tiered_tests::prepare_s3().await?;
        Ok(Arc::new(self.config(0).open().await?))
    }

    async fn place(&self) -> Option<Arc<dyn Place>> {
        tiered_tests::prepare_s3().await.ok()?;
        Some(Arc::new(Room(self.config(1 + self.places.fetch_add(1, Ordering::Relaxed)))))
    }

    fn clock(&self) -> Option<Arc<ManualClock>> {
        Some(Arc::clone(&self.clock))
    }
}

mod suite {
    //! Every case runs.
    tiered_conformance::suite!(super::Amazon::new());
}
