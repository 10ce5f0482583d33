//! An S3 server, and a bucket of it.

use clap::Args;
use tiered::s3::S3Config;
use tiered::s3::aws_sdk_s3::Client;
use tiered::s3::aws_sdk_s3::config::{BehaviorVersion, Builder, Credentials, Region};

/// An S3 server.
#[derive(Clone, Debug, Args)]
pub struct Server {
    /// The S3 server.
    #[arg(long, env = "TIERED_TEST_S3_FS")]
    pub endpoint: String,
    /// A bucket of it, which is made if it is absent.
    #[arg(long, default_value = "consumers")]
    pub bucket: String,
    #[arg(long, default_value = "tiered-tests")]
    pub access_key: String,
    #[arg(long, default_value = "tiered-tests-secret")]
    pub secret_key: String,
}

impl Server {
    /// The bucket, which is made where it is not there.
    pub async fn bucket(&self) -> anyhow::Result<S3Config> {
        self.bucket_at(&self.endpoint).await
    }

    /// The bucket of the same name on another server.
    pub async fn bucket_at(&self, endpoint: &str) -> anyhow::Result<S3Config> {
        let credentials = Credentials::new(&self.access_key, &self.secret_key, None, None, "consumers");
        let config = Builder::new()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new("us-east-1"))
            .endpoint_url(endpoint)
            .force_path_style(true)
            .credentials_provider(credentials);
        let client = Client::from_conf(config.build());
        if client.head_bucket().bucket(&self.bucket).send().await.is_err() {
            client.create_bucket().bucket(&self.bucket).send().await?;
        }
        Ok(self.config(endpoint))
    }

    /// The bucket, which is there, by way of `endpoint`.
    #[must_use]
    pub fn config(&self, endpoint: &str) -> S3Config {
        let config = S3Config::new(&self.bucket).endpoint(endpoint);
        config.credentials(&self.access_key, &self.secret_key, None)
    }
}
