//! Films over HTTP, by ranges.

use std::net::SocketAddr;

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use futures_util::stream;
use tiered::{Error, Key, ReadOptions, Store, StoreExt as _, TieredStore};
use tokio::net::TcpListener;

/// So many bytes are read of the store at a time: what a player waits for.
const PIECE: u64 = 256 << 10;

/// Starts the server on a free port.
pub async fn start(store: TieredStore) -> anyhow::Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let films = Router::new().route("/films/{name}", get(film)).with_state(store);
    tokio::spawn(async move { axum::serve(listener, films).await });
    Ok(address)
}

async fn film(State(store): State<TieredStore>, Path(name): Path<String>, headers: HeaderMap) -> Response {
    match answer(&store, &name, &headers).await {
        Ok(response) => response,
        // What went wrong is for whoever runs the server.
        Err(error) => {
            eprintln!("{name}: {error}");
            StatusCode::BAD_GATEWAY.into_response()
        }
    }
}

async fn answer(store: &TieredStore, name: &str, headers: &HeaderMap) -> tiered::Result<Response> {
    let Ok(key) = Key::new(name) else { return Ok(StatusCode::NOT_FOUND.into_response()) };
    let Some(metadata) = store.head(&key, &ReadOptions::new()).await? else {
        return Ok(StatusCode::NOT_FOUND.into_response());
    };
    let size = metadata.size;
    let asked = headers.get(header::RANGE).and_then(|range| asked(range, size));
    let (start, end) = asked.unwrap_or((0, size));
    if start >= end {
        return Ok(StatusCode::RANGE_NOT_SATISFIABLE.into_response());
    }
    let body = stream::try_unfold((store.clone(), key, start), move |(store, key, at)| async move {
        if at >= end {
            return Ok(None);
        }
        let next = (at / PIECE + 1).saturating_mul(PIECE).min(end);
        let part = store.get_range(&key, at..next).await?;
        // Deleted meanwhile: the player notices that it ends too early.
        let part = part.ok_or_else(|| Error::new(tiered::ErrorKind::Other, "the film is gone"))?;
        Ok::<_, Error>(Some((part.value().clone(), (store, key, next))))
    });
    let status = if asked.is_some() { StatusCode::PARTIAL_CONTENT } else { StatusCode::OK };
    let mut response = (status, Body::from_stream(body)).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(end - start));
    headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    if asked.is_some()
        && let Ok(range) = HeaderValue::try_from(format!("bytes {start}-{}/{size}", end - 1))
    {
        headers.insert(header::CONTENT_RANGE, range);
    }
    Ok(response)
}

/// `bytes=FIRST-`, `bytes=FIRST-LAST` or `bytes=-COUNT`. Others are ignored, as the protocol allows.
fn asked(range: &HeaderValue, size: u64) -> Option<(u64, u64)> {
    let (first, last) = range.to_str().ok()?.strip_prefix("bytes=")?.split_once('-')?;
    if first.is_empty() {
        let count: u64 = last.parse().ok()?;
        return Some((size.saturating_sub(count), size));
    }
    let end = if last.is_empty() { size } else { last.parse::<u64>().ok()?.checked_add(1)?.min(size) };
    Some((first.parse().ok()?, end))
}
