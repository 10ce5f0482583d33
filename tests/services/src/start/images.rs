//! Images: the public ones where a registry can be reached, else built here, from Debian's packages, Python's and cargo's registries,
//! under the same names.
//!
//! All four servers are in one tree of files, which is imported once and has a name for each.

use std::path::Path;
use std::process::Stdio;

use testcontainers::core::client::docker_client_instance;
use tiered_services::Service;
use tokio::process::Command;

use super::folder::Folder;
use super::tools;

/// The suite of Debian that is built on.
const DEBIAN: &str = "bookworm";

/// The version of its Python.
const PYTHON: &str = "3.11";

/// The image of a server: `TIERED_TEST_…_IMAGE`, else the public one.
pub(crate) fn reference(service: Service) -> String {
    let given = std::env::var(format!("{}_IMAGE", service.variable())).ok().filter(|image| !image.is_empty());
    let default = match service {
        Service::Postgres => "postgres:15",
        Service::PgBouncer => "tiered-tests/pgbouncer:1.18",
        Service::S3 => "motoserver/moto:5.2.5",
        Service::S3Fs => "tiered-tests/s3s-fs:0.14.1",
        Service::S3Garage => "dxflrs/garage:v2.5.0",
    };
    given.unwrap_or_else(|| default.to_owned())
}

/// Sees to it that the image is there.
pub(crate) async fn ensure(service: Service) -> Result<(), String> {
    let image = reference(service);
    if is_there(&image).await || tools::run("docker", &["pull", "--quiet", &image]).await.is_ok() {
        return Ok(());
    }
    if service == Service::S3Garage {
        return Err(format!("there is no image {image}"));
    }
    build().await?;
    if is_there(&image).await { Ok(()) } else { Err(format!("there is no image {image}")) }
}

async fn is_there(image: &str) -> bool {
    match docker_client_instance().await {
        Ok(docker) => docker.inspect_image(image).await.is_ok(),
        Err(_) => false,
    }
}

/// Builds the images.
pub(crate) async fn build() -> Result<(), String> {
    if !tools::is_root() {
        return Err("building images takes the administrator's rights".to_owned());
    }
    if !tools::runs("debootstrap", "--version").await {
        tools::install("debootstrap").await?;
    }
    let s3s_fs = tools::s3s_fs().await?;
    // Removed at the end, and by the next build where this one is killed.
    let folder = Folder::make(tools::cache()?.join("image-build")).map_err(|error| error.to_string())?;
    fill(&folder.path().join("root"), &s3s_fs).await
}

async fn fill(root: &Path, s3s_fs: &Path) -> Result<(), String> {
    let failed = |error: std::io::Error| error.to_string();
    let path = |inside: &str| root.join(inside).to_string_lossy().into_owned();
    eprintln!("building the images of the test servers from Debian {DEBIAN}: some minutes, once");
    tools::run(
        "debootstrap",
        &["--variant=minbase", "--include=postgresql,pgbouncer,python3", DEBIAN, &path("")],
    )
    .await?;
    // By this machine's pip, which knows the way to its index, for the image's Python.
    let pip = tools::moto().await?;
    let target = path("opt/moto");
    let arguments = [
        "-m",
        "pip",
        "install",
        "--quiet",
        "--target",
        &target,
        "--implementation",
        "cp",
        "--python-version",
        PYTHON,
        "--only-binary=:all:",
        "moto[server]==5.2.5",
    ];
    tools::run(pip, &arguments).await?;
    std::fs::copy(s3s_fs, root.join("usr/local/bin/s3s-fs")).map_err(failed)?;
    let entrypoint = root.join("usr/local/bin/postgres-entrypoint.sh");
    std::fs::write(&entrypoint, include_str!("../postgres-entrypoint.sh")).map_err(failed)?;
    tools::run("chmod", &["755", &entrypoint.to_string_lossy()]).await?;
    import(root).await?;
    for service in [Service::PgBouncer, Service::S3, Service::S3Fs] {
        tools::run("docker", &["tag", &reference(Service::Postgres), &reference(service)]).await?;
    }
    Ok(())
}

/// Imports the tree as the image of Postgres, whose entrypoint it has.
async fn import(root: &Path) -> Result<(), String> {
    let failed = |error: std::io::Error| error.to_string();
    let mut tar = Command::new("tar")
        .arg("--directory")
        .arg(root)
        .args([
            "--exclude=./var/cache/apt/*",
            "--exclude=./var/lib/apt/lists/*",
            "--exclude=./usr/share/doc/*",
        ])
        .args(["--create", "."])
        .stdout(Stdio::piped())
        .spawn()
        .map_err(failed)?;
    let stream: Stdio = tar.stdout.take().ok_or("tar has no output")?.try_into().map_err(failed)?;
    let imported = Command::new("docker")
        .args(["import", "--change", "ENTRYPOINT [\"/usr/local/bin/postgres-entrypoint.sh\"]"])
        .args(["--change", "ENV PYTHONPATH=/opt/moto", "-", &reference(Service::Postgres)])
        .stdin(stream)
        .output()
        .await
        .map_err(failed)?;
    if !tar.wait().await.map_err(failed)?.success() || !imported.status.success() {
        return Err(format!("docker import: {}", String::from_utf8_lossy(&imported.stderr).trim()));
    }
    Ok(())
}
