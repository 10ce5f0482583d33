//! Redis: the server that Debian installs, as a process of its own on the loopback.

use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use ::redis::aio::MultiplexedConnection;
use anyhow::{Context as _, Result, bail};
use bytes::Bytes;

use super::Peer;
use crate::workload::{Name, Workload};

/// When Redis syncs its log.
#[derive(Clone, Copy, Debug)]
pub enum AppendFsync {
    /// Before it answers.
    Always,
    /// Once a second.
    EverySecond,
}

impl AppendFsync {
    /// As in `appendfsync`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Always => "always",
            Self::EverySecond => "everysec",
        }
    }
}

/// A server, ended when it is dropped.
#[derive(Debug)]
pub struct Server {
    child: Child,
    port: u16,
    folder: PathBuf,
    sync: AppendFsync,
}

/// The reason why Redis is missing; `None` where it can be started.
pub fn why_missing() -> Option<String> {
    let found = Command::new("redis-server").arg("--version").stdout(Stdio::null()).status();
    let is_there = found.is_ok_and(|status| status.success());
    (!is_there).then(|| "redis-server is not installed; `apt-get install redis-server`".to_owned())
}

/// How long a server may take to load a log of a million records.
const PATIENCE: Duration = Duration::from_mins(2);

impl Server {
    /// Starts a server whose data is in `folder`, and waits until it serves.
    pub async fn start(folder: &Path, sync: AppendFsync) -> Result<Self> {
        std::fs::create_dir_all(folder)?;
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
        let child = Command::new("redis-server")
            .args(["--bind", "127.0.0.1", "--port", &port.to_string(), "--save", "", "--daemonize", "no"])
            .args(["--appendonly", "yes", "--appendfsync", sync.name()])
            // A rewrite of the log in the middle of a run would be measured with it.
            .args(["--auto-aof-rewrite-percentage", "0"])
            .arg("--dir")
            .arg(folder)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("redis-server")?;
        let server = Self { child, port, folder: folder.to_owned(), sync };
        server.serves().await?;
        Ok(server)
    }

    async fn serves(&self) -> Result<()> {
        let begun = Instant::now();
        while begun.elapsed() < PATIENCE {
            if let Ok(mut connection) = self.connection().await
                && ::redis::cmd("PING").query_async::<String>(&mut connection).await.is_ok()
            {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        bail!("redis-server does not answer")
    }

    async fn connection(&self) -> Result<MultiplexedConnection> {
        let client = ::redis::Client::open(format!("redis://127.0.0.1:{}/", self.port))?;
        Ok(client.get_multiplexed_async_connection().await?)
    }

    /// A client.
    pub async fn client(&self) -> Result<Client> {
        Ok(Client(self.connection().await?))
    }

    /// Kills the server and starts it again over the same data; the time until it serves.
    pub async fn restart(mut self) -> Result<(Self, Duration)> {
        self.child.kill()?;
        self.child.wait()?;
        let begun = Instant::now();
        let (folder, sync) = (self.folder.clone(), self.sync);
        let again = Self::start(&folder, sync).await?;
        Ok((again, begun.elapsed()))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// A client: one connection, over which all tasks send at once.
#[derive(Clone, Debug)]
pub struct Client(MultiplexedConnection);

impl Client {
    /// Writes every key, 1,000 by one message.
    pub async fn fill(&self, workload: &Workload) -> Result<()> {
        let mut connection = self.0.clone();
        for names in workload.names.chunks(1000) {
            let mut pipe = ::redis::pipe();
            for name in names {
                pipe.cmd("SET").arg(&name.text).arg(&*workload.value).ignore();
            }
            pipe.query_async::<()>(&mut connection).await?;
        }
        Ok(())
    }
}

impl Peer for Client {
    async fn get(&self, name: &Name) -> Result<Option<usize>> {
        let mut connection = self.0.clone();
        let value: Option<Vec<u8>> = ::redis::cmd("GET").arg(&name.text).query_async(&mut connection).await?;
        Ok(value.map(|value| value.len()))
    }

    async fn put(&self, name: &Name, value: Bytes) -> Result<()> {
        let mut connection = self.0.clone();
        ::redis::cmd("SET").arg(&name.text).arg(&*value).query_async::<()>(&mut connection).await?;
        Ok(())
    }
}
