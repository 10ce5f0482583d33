//! The bucket of the films.

use tiered::s3::aws_sdk_s3::Client;
use tiered::s3::aws_sdk_s3::config::{BehaviorVersion, Builder, Credentials, Region};

use crate::Arguments;

/// Makes the bucket, where it is not there.
pub(crate) async fn make(arguments: &Arguments) -> anyhow::Result<()> {
    let credentials = Credentials::new(&arguments.access_key, &arguments.secret_key, None, None, "media");
    let config = Builder::new()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("us-east-1"))
        .endpoint_url(&arguments.endpoint)
        .force_path_style(true)
        .credentials_provider(credentials);
    let client = Client::from_conf(config.build());
    if client.head_bucket().bucket(&arguments.bucket).send().await.is_err() {
        client.create_bucket().bucket(&arguments.bucket).send().await?;
    }
    Ok(())
}
