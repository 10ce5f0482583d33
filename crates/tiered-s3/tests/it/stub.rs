//! A server that answers what a test says, for what no real one does on demand.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tiered_s3::{Conditional, Layout, S3Config, S3Store};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// What is asked for: a method, a path, what stands behind it, and headers in lower case.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) query: String,
    pub(crate) body: Vec<u8>,
    headers: Vec<(String, String)>,
}

impl Request {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// The headers that an object keeps.
    pub(crate) fn metadata(&self) -> Vec<(String, String)> {
        self.headers.iter().filter(|(name, _)| name.starts_with("x-amz-meta-")).cloned().collect()
    }

    /// A parameter behind the path; empty where it has no value.
    pub(crate) fn parameter(&self, name: &str) -> Option<&str> {
        let pairs = self.query.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
        pairs.into_iter().find(|(known, _)| *known == name).map(|(_, value)| value)
    }
}

/// What is answered. The connection is closed behind it.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    /// Bytes of the body that are sent, where it is cut short.
    pub(crate) cut: Option<usize>,
}

impl Answer {
    pub(crate) fn new(status: u16) -> Self {
        Self { status, headers: Vec::new(), body: Vec::new(), cut: None }
    }

    pub(crate) fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    pub(crate) fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    pub(crate) fn cut(mut self, bytes: usize) -> Self {
        self.cut = Some(bytes);
        self
    }

    async fn send(self, stream: &mut TcpStream, head: bool) -> std::io::Result<()> {
        let mut lines = vec![format!("HTTP/1.1 {} x", self.status), "connection: close".to_owned()];
        lines.extend(self.headers.iter().map(|(name, value)| format!("{name}: {value}")));
        if !self.headers.iter().any(|(name, _)| name == "content-length") {
            lines.push(format!("content-length: {}", self.body.len()));
        }
        let text = lines.join("\r\n") + "\r\n\r\n";
        stream.write_all(text.as_bytes()).await?;
        if !head {
            let sent = self.cut.unwrap_or(self.body.len());
            stream.write_all(self.body.get(..sent).unwrap_or(&self.body)).await?;
        }
        stream.shutdown().await
    }
}

/// The server. It ends with the test's runtime.
pub(crate) struct Stub {
    endpoint: String,
    asked: Arc<Mutex<Vec<Request>>>,
}

impl Stub {
    /// Answers every request for an object by `answer`, which is told how many there were before it.
    pub(crate) async fn new(answer: impl Fn(&Request, usize) -> Answer + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let endpoint = format!("http://{}", listener.local_addr().expect("an address"));
        let asked: Arc<Mutex<Vec<Request>>> = Arc::default();
        let (noted, answer) = (Arc::clone(&asked), Arc::new(answer));
        #[expect(clippy::disallowed_methods, reason = "a test's own runtime")]
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let (noted, answer) = (Arc::clone(&noted), Arc::clone(&answer));
                #[expect(clippy::disallowed_methods, reason = "a test's own runtime")]
                tokio::spawn(async move {
                    let Some(request) = read(&mut stream).await else { return };
                    let given = if request.method == "HEAD" && request.path.trim_matches('/') == "bucket" {
                        Answer::new(200)
                    } else if request.path.ends_with("/.tiered/marks/tiered.destroying") {
                        // Asked by every opening.
                        Answer::new(404)
                    } else {
                        let before = {
                            let mut noted = noted.lock().expect("no panic");
                            noted.push(request.clone());
                            noted.len() - 1
                        };
                        answer(&request, before)
                    };
                    given.send(&mut stream, request.method == "HEAD").await.ok();
                });
            }
        });
        Self { endpoint, asked }
    }

    pub(crate) fn config(&self) -> S3Config {
        let config = S3Config::new("bucket").endpoint(&self.endpoint).credentials("a", "b", None);
        config.conditional(Conditional::Off).timeout(Duration::from_secs(5))
    }

    pub(crate) async fn store(&self) -> S3Store {
        self.config().layout(Layout::Raw).open().await.expect("opens")
    }

    /// The requests for objects so far.
    pub(crate) fn asked(&self) -> Vec<Request> {
        self.asked.lock().expect("no panic").clone()
    }
}

async fn read(stream: &mut TcpStream) -> Option<Request> {
    let (mut bytes, mut buffer) = (Vec::new(), vec![0; 64 << 10]);
    let end = loop {
        let length = stream.read(&mut buffer).await.ok().filter(|length| *length > 0)?;
        bytes.extend_from_slice(buffer.get(..length)?);
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            break end;
        }
    };
    let mut body = bytes.split_off(end + 4);
    let head = String::from_utf8_lossy(&bytes).into_owned();
    let mut lines = head.lines();
    let mut first = lines.next()?.split(' ');
    let (method, path) = (first.next()?.to_owned(), first.next()?.to_owned());
    let headers = lines.filter_map(|line| {
        let (name, value) = line.split_once(':')?;
        Some((name.to_ascii_lowercase(), value.trim().to_owned()))
    });
    let (path, query) = path.split_once('?').unwrap_or((&path, ""));
    let (path, query) = (path.to_owned(), query.to_owned());
    let mut request = Request { method, path, query, body: Vec::new(), headers: headers.collect() };
    let length = request.header("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
    while body.len() < length {
        let more = stream.read(&mut buffer).await.ok().filter(|length| *length > 0)?;
        body.extend_from_slice(buffer.get(..more)?);
    }
    request.body = body;
    Some(request)
}
