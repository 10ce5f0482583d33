//! Buckets on the servers for tests, and prefixes of their own in them.

use std::sync::Arc;

use tiered_conformance::{Factory, Place};
use tiered_core::adapter::{Stamp, VersionMint};
use tiered_core::testing::ManualClock;
use tiered_core::{Result, Store, Timestamp};
use tiered_s3::aws_sdk_s3::config::{BehaviorVersion, Credentials, Region};
use tiered_s3::aws_sdk_s3::{self, Client};
use tiered_s3::{Layout, S3Config, S3Store};
use tiered_services::{S3_CREDENTIALS, Service};

/// The bucket of the tests, on each server. Each test has a prefix of its own in it.
pub(crate) use tiered_services::S3_BUCKET as BUCKET;

/// A prefix that no other test has.
pub(crate) fn prefix() -> String {
    let id = VersionMint::from_entropy().mint().as_u128().expect("an id");
    format!("test-{:016x}/", id >> 64)
}

/// Another client of the server, as any tool is.
pub(crate) fn client(endpoint: &str) -> Client {
    let (access, secret) = S3_CREDENTIALS;
    let config = aws_sdk_s3::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("us-east-1"))
        .endpoint_url(endpoint)
        .force_path_style(true)
        .credentials_provider(Credentials::new(access, secret, None, None, "tests"));
    Client::from_conf(config.build())
}

/// A configuration for a prefix of its own; the bucket is made where it is not there.
pub(crate) async fn config(endpoint: &str, prefix: &str) -> S3Config {
    let client = client(endpoint);
    if client.head_bucket().bucket(BUCKET).send().await.is_err() {
        // Another test may be faster.
        client.create_bucket().bucket(BUCKET).send().await.ok();
    }
    let (access, secret) = S3_CREDENTIALS;
    S3Config::new(BUCKET).endpoint(endpoint).prefix(prefix).credentials(access, secret, None)
}

/// A store on a manual clock, for the conformance suite.
pub(crate) struct Server {
    endpoint: String,
    layout: Layout,
    stamp: Stamp,
    clock: Arc<ManualClock>,
    store: S3Store,
}

impl Server {
    pub(crate) async fn new(service: Service, layout: Layout) -> Self {
        let endpoint = service.required();
        let clock = Arc::new(ManualClock::new(Timestamp::from_millis(1_000_000_000_000)));
        let stamp = Stamp::new(clock.clone(), Arc::new(VersionMint::from_entropy()));
        let config = config(&endpoint, &prefix()).await.layout(layout).stamp(stamp.clone());
        let store = config.max_value(4 << 20).open().await.expect("opens");
        Self { endpoint, layout, stamp, clock, store }
    }
}

struct Room(S3Config);

#[async_trait::async_trait]
impl Place for Room {
    async fn open(&self) -> Result<Arc<dyn Store>> {
        Ok(Arc::new(self.0.clone().open().await?))
    }
}

#[async_trait::async_trait]
impl Factory for Server {
    async fn open(&self) -> Result<Arc<dyn Store>> {
        Ok(Arc::new(self.store.clone()))
    }

    async fn place(&self) -> Option<Arc<dyn Place>> {
        let config = config(&self.endpoint, &prefix()).await.layout(self.layout);
        Some(Arc::new(Room(config.stamp(self.stamp.clone()))))
    }

    fn clock(&self) -> Option<Arc<ManualClock>> {
        Some(Arc::clone(&self.clock))
    }
}
