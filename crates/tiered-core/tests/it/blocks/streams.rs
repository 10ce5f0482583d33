//! Streams of values that are in blocks, or are to be.

use futures_util::TryStreamExt as _;
use tiered_core::{ByteStream, Error, Metadata};

use super::*;

/// Bytes of a part of a stream.
const PART: u64 = 16 * BLOCK;

async fn stream_of(store: &TieredStore, options: &ReadOptions) -> (Arc<Metadata>, ByteStream) {
    store.read_stream(&key("k"), options).await.expect("reads").expect("found")
}

async fn all_of(body: ByteStream) -> Result<Vec<u8>> {
    body.try_fold(Vec::new(), |mut all, part| async move {
        all.extend_from_slice(&part);
        Ok(all)
    })
    .await
}

#[tokio::test]
async fn a_stream_leaves_its_blocks_and_is_made_of_them() {
    let large = value(1, SIZE);
    let Stack { store, back, .. } = stack_over(&large).await;
    let (metadata, body) = stream_of(&store, &ReadOptions::new()).await;
    assert_eq!((metadata.size, all_of(body).await.expect("reads")), (SIZE, large.to_vec()));
    let parts = [span(0..PART, false), span(PART..2 * PART, true), span(2 * PART..SIZE, true)];
    assert_eq!(back.taken(), parts, "the first names version and size");
    for range in [0..u64::MAX, 5..9, PART - 1..PART + 1, 3 * BLOCK + 7..SIZE - 7, SIZE..SIZE + 9] {
        let (metadata, body) = stream_of(&store, &ReadOptions::new().range(range.clone())).await;
        assert_eq!(metadata.size, SIZE);
        assert_eq!(all_of(body).await.expect("reads"), part(&large, &range), "{range:?}");
    }
    assert_eq!(range_of(&store, 77..7777).await, part(&large, &(77..7777)));
    assert_eq!(back.taken(), []);
    let (metadata, body) = stream_of(&store, &ReadOptions::new().range(7..7)).await;
    assert_eq!((metadata.size, all_of(body).await.expect("reads").len()), (SIZE, 0));
    let stats = store.stats();
    assert_eq!((stats.block_fills, stats.slots), (41, 0));
    let beyond = store.read_stream(&key("k"), &ReadOptions::new().range(SIZE + 1..SIZE + 2)).await;
    assert_eq!(beyond.err().map(|error| error.kind()), Some(ErrorKind::InvalidRange));
    assert!(store.read_stream(&key("none"), &ReadOptions::new()).await.expect("reads").is_none());
}

#[tokio::test]
async fn a_stream_takes_the_blocks_that_are_there_and_fetches_the_others() {
    let large = value(1, SIZE);
    let Stack { store, back, .. } = stack_over(&large).await;
    range_of(&store, 20 * BLOCK..22 * BLOCK).await;
    back.taken();
    let (_, body) = stream_of(&store, &ReadOptions::new().range(PART..2 * PART)).await;
    assert_eq!(all_of(body).await.expect("reads"), part(&large, &(PART..2 * PART)));
    let mut reads = back.taken();
    reads.sort_by_key(|asked| asked.range.clone().map(|range| range.start));
    assert_eq!(reads, [span(PART..20 * BLOCK, true), span(22 * BLOCK..2 * PART, true)]);
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_waits_has_two_parts_read_ahead() {
    let large = value(1, SIZE);
    let Stack { store, back, .. } = stack_over(&large).await;
    back.inner().set("k", value(1, 4 * SIZE)).await.expect("written");
    back.slow.store(true, Ordering::Relaxed);
    let (_, mut body) = stream_of(&store, &ReadOptions::new()).await;
    assert_eq!(body.try_next().await.expect("reads").expect("the first").len() as u64, PART);
    assert_eq!(back.taken().len(), 1);
    body.try_next().await.expect("reads").expect("the second");
    tokio::time::sleep(Duration::from_secs(9)).await;
    assert_eq!(back.taken().len(), 2, "the second and the third, of eleven");
    drop(body);
    assert_eq!(store.stats().slots, 0);
    store.close().await.expect("nothing is left of a stream that was dropped");
}

#[tokio::test]
async fn what_is_there_as_a_whole_or_pending_is_not_fetched_in_blocks() {
    let large = value(1, SIZE);
    let Stack { store, back, .. } = stack_over(&large).await;
    store.get("k").await.expect("reads");
    back.taken();
    let (_, body) = stream_of(&store, &ReadOptions::new().range(10..SIZE)).await;
    assert_eq!(all_of(body).await.expect("reads"), part(&large, &(10..SIZE)));
    assert_eq!(back.taken(), []);

    let behind = |builder: TieredBuilder| {
        builder.write_policy(WritePolicy::WriteBehind).journal(VolatileJournal::new())
    };
    let Stack { store, back, .. } = stack_with(behind).await;
    back.full.store(true, Ordering::Relaxed);
    store.set("k", large.clone()).await.expect("pending");
    let (metadata, body) = stream_of(&store, &ReadOptions::new()).await;
    assert_eq!((metadata.size, all_of(body).await.expect("reads")), (SIZE, large.to_vec()));
    assert_eq!(back.taken(), []);
}

#[tokio::test]
async fn a_small_value_is_kept_whole_by_one_request() {
    let Stack { store, front, back } = stack().await;
    back.inner().set("k", value(1, 3 * BLOCK)).await.expect("written");
    let (_, body) = stream_of(&store, &ReadOptions::new()).await;
    assert_eq!(all_of(body).await.expect("reads"), value(1, 3 * BLOCK));
    assert_eq!(back.taken().len(), 1);
    assert!(front.peek(&key("k")).is_some());
}

/// Another process replaces the value before the request of so many.
async fn replaced_at(request: usize) -> Result<Vec<u8>, Error> {
    let (front, back) = (MemoryStore::new(), backend(Sharing::Shared));
    back.inner().set("k", value(1, SIZE)).await.expect("written");
    let builder = TieredStore::builder(front, back.clone()).block_size(BLOCK).fill_whole(BLOCK);
    let store = builder.fill(FillTiming::BeforeAnswer).build().await.expect("builds");
    let (_, mut body) = stream_of(&store, &ReadOptions::new()).await;
    let mut all = Vec::new();
    for number in 1.. {
        if number == request {
            back.inner().set("k", value(2, SIZE)).await.expect("written");
        }
        match body.try_next().await? {
            Some(part) => all.extend_from_slice(&part),
            None => break,
        }
    }
    assert_eq!(range_of(&store, 0..9).await.len(), 9, "whatever became of the stream");
    Ok(all)
}

#[tokio::test]
async fn a_stream_of_a_value_that_is_replaced_ends_with_an_error_that_can_be_tried_again() {
    // The first part has been read by then, the second and third have not.
    for request in [1, 2] {
        let error = replaced_at(request).await.expect_err("the version is gone");
        assert_eq!((error.kind(), error.key()), (ErrorKind::Unavailable, Some(&key("k"))));
        assert!(error.to_string().contains("read it again"), "{error}");
    }
    // All of them have been.
    assert_eq!(replaced_at(4).await.expect("reads"), value(1, SIZE).to_vec());
}

#[tokio::test]
async fn a_fresh_stream_passes_by_blocks() {
    let large = value(1, SIZE);
    let Stack { store, back, .. } = stack_over(&large).await;
    range_of(&store, 0..SIZE).await;
    back.taken();
    let new = value(2, SIZE);
    back.inner().set("k", new.clone()).await.expect("written by others");
    let (_, body) = stream_of(&store, &ReadOptions::new().authoritative()).await;
    assert_eq!(all_of(body).await.expect("reads"), new);
}
