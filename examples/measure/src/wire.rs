//! What goes over the wire to S3: a proxy that counts requests and bytes, whatever client sends them.
//!
//! Each client is counted in the same way: what it says of itself is not asked.

use std::net::SocketAddr;
use std::ops::Sub;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt as _, Empty};
use hyper::body::{Bytes, Frame, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode, Uri};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpListener;

/// Dollars for 1,000 requests that read, in Amazon's region us-east-1: GET and HEAD.
pub const READS: f64 = 0.0004;

/// Dollars for 1,000 requests that write or list, there: PUT, COPY, POST, LIST.
pub const OTHERS: f64 = 0.005;

/// What was asked of S3.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    /// Objects, or parts of them.
    pub gets: u64,
    pub heads: u64,
    /// Pages of listings.
    pub lists: u64,
    /// PUT, POST and DELETE.
    pub writes: u64,
    /// Bytes of objects that were read.
    pub read: u64,
    /// Bytes of bodies that were sent.
    pub sent: u64,
}

impl Asked {
    /// All requests.
    #[must_use]
    pub fn requests(self) -> u64 {
        self.gets + self.heads + self.lists + self.writes
    }

    /// What Amazon takes for the requests, in dollars. Deletes are free there, and are counted as writes here.
    #[must_use]
    pub fn dollars(self) -> f64 {
        let (reads, others) = (self.gets + self.heads, self.lists + self.writes);
        (reads as f64 * READS + others as f64 * OTHERS) / 1_000.0
    }
}

impl Sub for Asked {
    type Output = Self;

    fn sub(self, earlier: Self) -> Self {
        Self {
            gets: self.gets - earlier.gets,
            heads: self.heads - earlier.heads,
            lists: self.lists - earlier.lists,
            writes: self.writes - earlier.writes,
            read: self.read - earlier.read,
            sent: self.sent - earlier.sent,
        }
    }
}

#[derive(Debug, Default)]
struct Counts {
    gets: AtomicU64,
    heads: AtomicU64,
    lists: AtomicU64,
    writes: AtomicU64,
    read: AtomicU64,
    sent: AtomicU64,
}

/// A proxy in front of an S3 server, for as long as the runtime runs.
#[derive(Debug)]
pub struct Wire {
    address: SocketAddr,
    counts: Arc<Counts>,
}

/// Where requests go, and how long each is held up.
#[derive(Debug)]
struct Upstream {
    client: Client<HttpConnector, BoxBody<Bytes, hyper::Error>>,
    base: String,
    delay: Duration,
    counts: Arc<Counts>,
}

impl Wire {
    /// A proxy on a free port before `server`, which holds up each request for `delay`: a server on the same machine answers
    /// sooner than S3.
    pub async fn before(server: &str, delay: Duration) -> anyhow::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.context("the proxy has no port")?;
        let (address, counts) = (listener.local_addr()?, Arc::<Counts>::default());
        let client = Client::builder(TokioExecutor::new()).build_http();
        let base = server.trim_end_matches('/').to_owned();
        let upstream = Arc::new(Upstream { client, base, delay, counts: Arc::clone(&counts) });
        tokio::spawn(async move {
            while let Ok((connection, _)) = listener.accept().await {
                let upstream = Arc::clone(&upstream);
                let serve = service_fn(move |request| Arc::clone(&upstream).pass(request));
                let serving = http1::Builder::new().serve_connection(TokioIo::new(connection), serve);
                // A client that goes away ends its connection.
                tokio::spawn(async move { drop(serving.await) });
            }
        });
        Ok(Self { address, counts })
    }

    /// What clients take for the S3 server.
    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// What was asked so far.
    #[must_use]
    pub fn asked(&self) -> Asked {
        let of = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let counts = &self.counts;
        Asked {
            gets: of(&counts.gets),
            heads: of(&counts.heads),
            lists: of(&counts.lists),
            writes: of(&counts.writes),
            read: of(&counts.read),
            sent: of(&counts.sent),
        }
    }
}

impl Upstream {
    async fn pass(
        self: Arc<Self>,
        request: Request<Incoming>,
    ) -> anyhow::Result<Response<BoxBody<Bytes, hyper::Error>>> {
        let (mut head, body) = request.into_parts();
        let lists = head.uri.query().is_some_and(|query| query.contains("list-type=2"));
        let kind = match head.method {
            Method::GET if lists => &self.counts.lists,
            Method::GET => &self.counts.gets,
            Method::HEAD => &self.counts.heads,
            _ => &self.counts.writes,
        };
        kind.fetch_add(1, Ordering::Relaxed);
        let reads = head.method == Method::GET && !lists;
        let path = head.uri.path_and_query().map_or("/", |path| path.as_str());
        head.uri = format!("{}{path}", self.base).parse::<Uri>()?;
        tokio::time::sleep(self.delay).await;
        let counts = Arc::clone(&self.counts);
        let body = body.map_frame(move |frame| counted(frame, Some(&counts.sent))).boxed();
        let Ok(answer) = self.client.request(Request::from_parts(head, body)).await else {
            let mut answer = Response::new(Empty::new().map_err(|never| match never {}).boxed());
            *answer.status_mut() = StatusCode::BAD_GATEWAY;
            return Ok(answer);
        };
        let reads = reads && answer.status().is_success();
        let counts = Arc::clone(&self.counts);
        Ok(answer
            .map(|body| body.map_frame(move |frame| counted(frame, reads.then_some(&counts.read))).boxed()))
    }
}

/// The frame, whose bytes are counted.
fn counted(frame: Frame<Bytes>, count: Option<&AtomicU64>) -> Frame<Bytes> {
    if let Some((bytes, count)) = frame.data_ref().zip(count) {
        count.fetch_add(bytes.len() as u64, Ordering::Relaxed);
    }
    frame
}
