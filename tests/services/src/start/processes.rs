//! Servers as processes of this machine, on free ports of loopback.

use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Stdio;

use tiered_services::{S3_CREDENTIALS, Service};
use tokio::process::{Child, Command};

use super::folder::Folder;
use super::{Handle, Running, Upstream, tools};

/// A process and the folder that it works in, both removed at the end.
pub(crate) struct Process {
    child: Child,
    /// Dropped after the process was told to end.
    _folder: Folder,
}

impl Process {
    pub(crate) async fn stop(mut self) {
        self.child.kill().await.ok();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.child.start_kill().ok();
    }
}

/// Starts a server as a process.
pub(crate) async fn start(service: Service, upstream: Option<&Upstream>) -> Result<Running, String> {
    let failed = |error: std::io::Error| error.to_string();
    // Free now, and seldom taken before the server has it.
    let port =
        TcpListener::bind(("127.0.0.1", 0)).and_then(|listener| listener.local_addr()).map_err(failed)?;
    let port = port.port().to_string();
    let made = Folder::make(std::env::temp_dir().join(format!("tiered-{}-{port}", service.name())));
    let made = made.map_err(failed)?;
    let folder = made.path();
    let command = match service {
        Service::Postgres => postgres(folder, &port).await?,
        Service::PgBouncer => {
            let upstream = upstream.ok_or("there is no Postgres to stand before")?;
            pooler(folder, &upstream.here("127.0.0.1", &port)).await?
        }
        Service::S3 => {
            let mut command = Command::new(tools::moto().await?);
            command.args(["-c", include_str!("../serve_s3.py"), "127.0.0.1", &port]);
            command
        }
        Service::S3Fs => {
            let (access, secret) = S3_CREDENTIALS;
            let mut command = Command::new(tools::s3s_fs().await?);
            command.args([
                "--host",
                "127.0.0.1",
                "--port",
                &port,
                "--access-key",
                access,
                "--secret-key",
                secret,
            ]);
            command.arg(folder);
            command
        }
        Service::S3Garage => return Err("it is used where its URL is given".to_owned()),
    };
    let mut command = tied(command).await;
    let log = std::fs::File::create(folder.join("log.txt")).map_err(failed)?;
    command.stdin(Stdio::null()).stdout(log.try_clone().map_err(failed)?).stderr(log).kill_on_drop(true);
    let child = command.spawn().map_err(|error| format!("{command:?}: {error}"))?;
    let url = match (service, upstream) {
        (Service::PgBouncer, Some(upstream)) => upstream.through("127.0.0.1", &port),
        (Service::Postgres, _) => format!("postgres://postgres@127.0.0.1:{port}/postgres"),
        _ => format!("http://127.0.0.1:{port}"),
    };
    Ok(Running {
        url,
        how: format!("process on port {port}"),
        inside: None,
        handle: Handle::Process(Box::new(Process { child, _folder: made })),
    })
}

/// The same command, ended by the system when this process is killed before it could do so.
async fn tied(command: Command) -> Command {
    if !tools::runs("setpriv", "--version").await {
        return command;
    }
    let mut tied = Command::new("setpriv");
    // An interrupt: Postgres ends its own processes then.
    tied.args(["--pdeathsig", "INT", "--"])
        .arg(command.as_std().get_program())
        .args(command.as_std().get_args());
    if let Some(folder) = command.as_std().get_current_dir() {
        tied.current_dir(folder);
    }
    tied
}

/// Lets the user postgres work in `folder`, where this is the administrator: some servers refuse to run as that.
async fn hand_over(folder: &Path) -> Result<(), String> {
    if tools::is_root() {
        let path = folder.to_string_lossy().into_owned();
        tools::run("chown", &["-R", "postgres", &path]).await?;
        std::fs::set_permissions(folder, PermissionsExt::from_mode(0o711))
            .map_err(|error| error.to_string())?;
    }
    Ok(())
}

/// A program that does not run as the administrator.
fn unprivileged(program: &Path, folder: &Path) -> Command {
    if !tools::is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    // The signal is said here: another user clears what was said before.
    command.args(["--reuid=postgres", "--regid=postgres", "--init-groups", "--pdeathsig=INT", "--"]);
    command.arg(program);
    command.current_dir(folder);
    command
}

/// The command of a pooler that reads `file`. It ends at once when it is interrupted.
async fn pooler(folder: &Path, file: &str) -> Result<Command, String> {
    let program = tools::pgbouncer().await?;
    let path = folder.join("pgbouncer.ini");
    std::fs::write(&path, file).map_err(|error| format!("{}: {error}", path.display()))?;
    hand_over(folder).await?;
    let mut command = unprivileged(&program, folder);
    command.arg(path);
    Ok(command)
}

/// Makes a database cluster, and the command that serves it.
async fn postgres(folder: &Path, port: &str) -> Result<Command, String> {
    let programs = tools::postgres().await?;
    let data = folder.join("data");
    hand_over(folder).await?;
    let program = |name: &str| unprivileged(&programs.join(name), folder);
    let mut initdb = program("initdb");
    initdb.args(["-A", "trust", "-E", "UTF8", "--locale=C.UTF-8", "-U", "postgres", "-D"]).arg(&data);
    let output = initdb.stdin(Stdio::null()).output().await.map_err(|error| format!("initdb: {error}"))?;
    if !output.status.success() {
        return Err(format!("initdb: {}", String::from_utf8_lossy(&output.stderr).trim()));
    }
    let mut server = program("postgres");
    server.arg("-D").arg(&data).arg("-k").arg(folder);
    server.args(["-p", port, "-c", "listen_addresses=127.0.0.1", "-c", super::syncs()]);
    Ok(server)
}
