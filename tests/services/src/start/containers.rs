//! Servers in containers, through testcontainers.

use std::collections::HashMap;
use std::time::Duration;

use testcontainers::bollard::query_parameters::{
    InspectContainerOptions, ListContainersOptions, RemoveContainerOptions,
};
use testcontainers::core::IntoContainerPort as _;
use testcontainers::core::client::docker_client_instance;
use testcontainers::runners::AsyncRunner as _;
use testcontainers::{ContainerAsync, ContainerRequest, GenericImage, ImageExt as _};
use tiered_services::{S3_CREDENTIALS, Service};

use super::{Handle, Owner, Running, Upstream, images, owner};

/// The label of every container of these tests.
const LABEL: &str = "tiered.tests";

pub(crate) type Container = ContainerAsync<GenericImage>;

/// Whether a Docker engine answers.
pub(crate) async fn engine() -> bool {
    let Ok(docker) = docker_client_instance().await else { return false };
    matches!(tokio::time::timeout(Duration::from_secs(5), docker.ping()).await, Ok(Ok(_)))
}

/// What a container of the pooler runs: its first argument is the file that it reads.
const POOLER: &str =
    "printf '%s' \"$0\" > /tmp/pgbouncer.ini && exec pgbouncer -u postgres /tmp/pgbouncer.ini";

/// Starts a server in a container.
pub(crate) async fn start(
    service: Service,
    owner: &Owner,
    upstream: Option<&Upstream>,
) -> Result<Running, String> {
    let (image, port) = (images::reference(service), port(service));
    let pooler = match service {
        Service::PgBouncer => {
            let upstream = upstream.ok_or("there is no Postgres to stand before")?;
            Some(upstream.inside("0.0.0.0", &port.to_string())?)
        }
        _ => None,
    };
    images::ensure(service).await?;
    let (name, tag) = image.rsplit_once(':').unwrap_or((&image, "latest"));
    let request = request(service, GenericImage::new(name, tag).with_exposed_port(port.tcp()));
    let request = match pooler {
        Some(file) => request.with_cmd(["-c".to_owned(), POOLER.to_owned(), file]),
        None => request,
    };
    let request = request.with_label(LABEL, service.name()).with_startup_timeout(Duration::from_mins(1));
    let request =
        owner.labels().into_iter().fold(request, |request, (name, value)| request.with_label(name, value));
    let container = request.start().await.map_err(|error| error.to_string())?;
    let host = container.get_host().await.map_err(|error| error.to_string())?;
    // The name may mean an address that the port is not published on.
    let host = if host.to_string() == "localhost" { "127.0.0.1".to_owned() } else { host.to_string() };
    let inside = address(container.id()).await.map(|address| format!("{address}:{port}"));
    let port = container.get_host_port_ipv4(port.tcp()).await.map_err(|error| error.to_string())?;
    let url = match (service, upstream) {
        (Service::PgBouncer, Some(upstream)) => upstream.through(&host, &port.to_string()),
        (Service::Postgres, _) => format!("postgres://postgres@{host}:{port}/postgres"),
        _ => format!("http://{host}:{port}"),
    };
    let how = format!("container of {image}");
    Ok(Running { url, how, inside, handle: Handle::Container(Box::new(container)) })
}

/// The address of a container in the engine's own network. Asked of the engine: the library looks for a network named
/// as the container's mode is, which is `default` with older engines.
async fn address(id: &str) -> Option<String> {
    let docker = docker_client_instance().await.ok()?;
    let known = docker.inspect_container(id, None::<InspectContainerOptions>).await.ok()?;
    let networks = known.network_settings?.networks?;
    networks.into_values().find_map(|network| network.ip_address.filter(|address| !address.is_empty()))
}

fn port(service: Service) -> u16 {
    match service {
        Service::Postgres => 5432,
        Service::PgBouncer => 6432,
        Service::S3 => 5000,
        Service::S3Fs => 8014,
        Service::S3Garage => 3900,
    }
}

fn request(service: Service, image: GenericImage) -> ContainerRequest<GenericImage> {
    let (access, secret) = S3_CREDENTIALS;
    match service {
        Service::Postgres => image.with_env_var("POSTGRES_HOST_AUTH_METHOD", "trust").with_cmd([
            "postgres",
            "-c",
            super::syncs(),
        ]),
        Service::PgBouncer => image.with_entrypoint("sh").into(),
        Service::S3 => image.with_entrypoint("python3").with_cmd([
            "-c",
            include_str!("../serve_s3.py"),
            "0.0.0.0",
            "5000",
        ]),
        Service::S3Fs => image.with_entrypoint("s3s-fs").with_cmd([
            "--host",
            "0.0.0.0",
            "--port",
            "8014",
            "--access-key",
            access,
            "--secret-key",
            secret,
            "/srv",
        ]),
        Service::S3Garage => image.into(),
    }
}

/// Removes a container.
pub(crate) async fn stop(container: Container) {
    if let Err(error) = container.rm().await {
        eprintln!("a container was not removed: {error}");
    }
}

/// Removes what an earlier run left behind, killed before it could.
pub(crate) async fn remove_leftovers() {
    let Ok(docker) = docker_client_instance().await else { return };
    let filters = HashMap::from([("label".to_owned(), vec![LABEL.to_owned()])]);
    let options =
        ListContainersOptions { all: true, filters: Some(filters), ..ListContainersOptions::default() };
    for container in docker.list_containers(Some(options)).await.unwrap_or_default() {
        let Some(id) = container.id else { continue };
        let labels = container.labels.unwrap_or_default();
        let label = |name: &str| labels.get(name).map(String::as_str).unwrap_or_default();
        // A run on another machine, with the same engine, takes less than an hour.
        let now = std::time::UNIX_EPOCH.elapsed().map_or(0, |since| since.as_secs());
        let age = now.saturating_sub(container.created.and_then(|at| u64::try_from(at).ok()).unwrap_or(0));
        if owner::has_ended(label(owner::FOLDER), label(owner::MACHINE)).unwrap_or(age > 3_600) {
            eprintln!("a container of {age} s ago is removed");
            let options =
                RemoveContainerOptions { force: true, v: true, ..RemoveContainerOptions::default() };
            docker.remove_container(&id, Some(options)).await.ok();
        }
    }
}
