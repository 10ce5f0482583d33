//! A streamed value of any size takes the same memory, written to Postgres and read from it.
//!
//! `TIERED_STREAM_BYTES` takes another size of the value. With `--nocapture` the figures are printed.

#[path = "../../../tiered-redb/tests/memory/measure.rs"]
mod measure;
#[path = "../it/place.rs"]
#[allow(dead_code, reason = "what the other tests need")]
mod place;

use tiered_core::Store as _;

use measure::{ALONE, measure};
use place::Schema;

/// Bytes of the value, unless a variable says otherwise.
const SIZE: u64 = 128 << 20;

#[tokio::test]
async fn a_stream_through_postgres_takes_the_same_memory_at_any_size() {
    let _alone = ALONE.lock().await;
    let schema = Schema::new();
    let store = schema.config().max_value(64 << 30).open().await.expect("opens");
    measure("Postgres", &store, SIZE).await;
    store.close().await.expect("closes");
}
