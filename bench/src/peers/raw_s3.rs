//! S3 by the SDK: a request for each key.

use anyhow::{Context as _, Result};
use bytes::Bytes;
use futures_util::future::try_join_all;
use tiered::s3::aws_sdk_s3::config::{BehaviorVersion, Credentials, Region};
use tiered::s3::aws_sdk_s3::{Client, Config};
use tiered_services::{S3_BUCKET, S3_CREDENTIALS};

use super::Peer;
use crate::workload::{Name, Workload};

/// The prefix of what a run writes by hand.
pub const PREFIX: &str = "bench-raw/";

/// A prefix of a bucket.
#[derive(Clone, Debug)]
pub struct RawS3(Client);

impl RawS3 {
    /// The bucket of the server, which is made where it is absent.
    pub async fn open(url: &str) -> Result<Self> {
        let (access, secret) = S3_CREDENTIALS;
        let config = Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new("us-east-1"))
            .endpoint_url(url)
            .force_path_style(true)
            .credentials_provider(Credentials::new(access, secret, None, None, "bench"));
        let client = Client::from_conf(config.build());
        if client.head_bucket().bucket(S3_BUCKET).send().await.is_err() {
            client.create_bucket().bucket(S3_BUCKET).send().await.context("the bucket is not made")?;
        }
        Ok(Self(client))
    }

    /// Writes every key of the workload.
    pub async fn fill(&self, workload: &Workload) -> Result<()> {
        for names in workload.names.chunks(16) {
            try_join_all(names.iter().map(|name| self.put(name, workload.value.clone()))).await?;
        }
        Ok(())
    }

    /// Removes every key of the workload.
    pub async fn remove(&self, workload: &Workload) -> Result<()> {
        for names in workload.names.chunks(16) {
            let one = |name: &Name| {
                let key = format!("{PREFIX}{}", name.text);
                self.0.delete_object().bucket(S3_BUCKET).key(key).send()
            };
            try_join_all(names.iter().map(one)).await?;
        }
        Ok(())
    }
}

impl Peer for RawS3 {
    async fn get(&self, name: &Name) -> Result<Option<usize>> {
        let key = format!("{PREFIX}{}", name.text);
        let object = self.0.get_object().bucket(S3_BUCKET).key(key).send().await?;
        Ok(Some(object.body.collect().await?.into_bytes().len()))
    }

    async fn put(&self, name: &Name, value: Bytes) -> Result<()> {
        let key = format!("{PREFIX}{}", name.text);
        self.0.put_object().bucket(S3_BUCKET).key(key).body(value.into()).send().await?;
        Ok(())
    }
}
