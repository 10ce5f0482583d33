//! Starting a server: in a container, else as a process.

pub(crate) mod containers;
pub(crate) mod folder;
pub(crate) mod images;
mod owner;
mod pooler;
pub(crate) mod processes;
mod tools;

use std::time::Duration;

use tiered_services::Service;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

pub(crate) use owner::Owner;
pub(crate) use pooler::Upstream;

/// A setting of Postgres. Tests kill its processes, which lose nothing without syncs; none cuts the power of the machine.
/// Benchmarks set `TIERED_SERVICES_SYNC=1`: what they measure is to survive that.
fn syncs() -> &'static str {
    if std::env::var("TIERED_SERVICES_SYNC").is_ok_and(|value| value == "1") {
        "fsync=on"
    } else {
        "fsync=off"
    }
}

/// How servers are had, by `TIERED_TEST_SERVICES`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// In containers where there is a Docker engine, else as processes.
    Auto,
    Containers,
    Processes,
}

impl Kind {
    pub(crate) fn from_environment() -> Result<Self, String> {
        match std::env::var("TIERED_TEST_SERVICES").as_deref() {
            Err(_) | Ok("" | "auto") => Ok(Self::Auto),
            Ok("containers") => Ok(Self::Containers),
            Ok("processes") => Ok(Self::Processes),
            Ok(other) => Err(format!("TIERED_TEST_SERVICES={other}: use auto, containers or processes")),
        }
    }
}

/// A server that runs.
pub(crate) struct Running {
    pub(crate) url: String,
    /// How it runs, for people.
    pub(crate) how: String,
    /// The host and port at which containers reach it, where it is a container itself.
    pub(crate) inside: Option<String>,
    handle: Handle,
}

enum Handle {
    Container(Box<containers::Container>),
    Process(Box<processes::Process>),
}

impl Running {
    pub(crate) async fn stop(self) {
        match self.handle {
            Handle::Container(container) => containers::stop(*container).await,
            Handle::Process(process) => (*process).stop().await,
        }
    }
}

/// Starts `service` for `owner` and waits until it answers. A pooler stands before `upstream`.
pub(crate) async fn start(
    service: Service,
    kind: Kind,
    owner: &Owner,
    upstream: Option<&Upstream>,
) -> Result<Running, String> {
    let server = match kind {
        Kind::Containers => containers::start(service, owner, upstream).await?,
        Kind::Auto if containers::engine().await => match containers::start(service, owner, upstream).await {
            Ok(server) => server,
            Err(why) => {
                eprintln!("{}: no container ({why}); a process instead", service.name());
                processes::start(service, upstream).await?
            }
        },
        Kind::Auto | Kind::Processes => processes::start(service, upstream).await?,
    };
    let patience = Duration::from_mins(1);
    let answers = tokio::time::timeout(patience, async {
        while !answers(service, &server.url).await {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    });
    match answers.await {
        Ok(()) => Ok(server),
        Err(_) => Err(format!("it did not answer within {} s", patience.as_secs())),
    }
}

/// Whether the server does more than accept connections.
async fn answers(service: Service, url: &str) -> bool {
    let Some(rest) = url.split_once("://").map(|(_, rest)| rest) else { return false };
    let place = rest.rsplit('@').next().unwrap_or(rest);
    let address = place.split('/').next().unwrap_or(place);
    let (question, expected): (&[u8], &[u8]) = match service {
        // A start-up message for the user postgres; `R`: authenticated.
        Service::Postgres | Service::PgBouncer => (b"\0\0\0\x17\0\x03\0\0user\0postgres\0\0", b"R"),
        _ => (b"GET / HTTP/1.0\r\n\r\n", b"HTTP/1."),
    };
    let asked = async {
        let mut stream = TcpStream::connect(address).await.ok()?;
        stream.write_all(question).await.ok()?;
        let mut answer = vec![0; expected.len()];
        stream.read_exact(&mut answer).await.ok()?;
        Some(answer == expected)
    };
    matches!(tokio::time::timeout(Duration::from_secs(5), asked).await, Ok(Some(true)))
}
