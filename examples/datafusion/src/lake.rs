//! The lake in S3, as any program writes and reads it.

use std::sync::Arc;

use bytes::Bytes;
use measure::bucket::Server;
use object_store::aws::{AmazonS3, AmazonS3Builder};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt as _};

use crate::data::{self, File};

/// The bucket by way of `endpoint`, without a cache: what DataFusion has without tiered.
pub(crate) fn bare(server: &Server, endpoint: &str) -> anyhow::Result<Arc<AmazonS3>> {
    let builder = AmazonS3Builder::new()
        .with_endpoint(endpoint)
        .with_allow_http(true)
        .with_region("us-east-1")
        .with_bucket_name(&server.bucket)
        .with_access_key_id(&server.access_key)
        .with_secret_access_key(&server.secret_key);
    Ok(Arc::new(builder.build()?))
}

/// Files, and their bytes together.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Size {
    pub(crate) files: u64,
    pub(crate) bytes: u64,
}

/// Writes all files.
pub(crate) async fn fill(store: &dyn ObjectStore, orders: u64) -> anyhow::Result<Size> {
    let mut size = Size { files: 0, bytes: 0 };
    for file in data::files(orders) {
        size.bytes += write(store, file, 0).await?;
        size.files += 1;
    }
    Ok(size)
}

/// Writes an edition of a file; how long it is.
pub(crate) async fn write(store: &dyn ObjectStore, file: File, edition: u64) -> anyhow::Result<u64> {
    let parquet = tokio::task::spawn_blocking(move || file.parquet(edition)).await??;
    let length = parquet.len() as u64;
    store.put(&Path::from(file.key()), Bytes::from(parquet).into()).await?;
    Ok(length)
}
