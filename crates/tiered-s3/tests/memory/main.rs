//! A streamed value of any size takes the same memory, written to S3 and read from it.
//!
//! `TIERED_STREAM_BYTES` takes another size of the value. With `--nocapture` the figures are printed.

#[path = "../../../tiered-redb/tests/memory/measure.rs"]
mod measure;
#[path = "../it/place.rs"]
#[allow(dead_code, reason = "what the other tests need")]
mod place;

use tiered_core::Store as _;
use tiered_services::Service;

use measure::{ALONE, measure};
use place::{config, prefix};

/// Bytes of the value, unless a variable says otherwise.
const SIZE: u64 = 128 << 20;

#[tokio::test]
async fn a_stream_through_s3_takes_the_same_memory_at_any_size() {
    let _alone = ALONE.lock().await;
    let config = config(&Service::S3.required(), &prefix()).await;
    let store = config.max_value(64 << 30).open().await.expect("opens");
    measure("S3", &store, SIZE).await;
    store.close().await.expect("closes");
}
