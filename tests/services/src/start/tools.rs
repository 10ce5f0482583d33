//! Programs that servers need: found, else installed where that is allowed.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use tokio::process::Command;

/// Where what was installed is kept for the next run: `TIERED_SERVICES_DIR`, else a folder of the user's cache.
pub(crate) fn cache() -> Result<PathBuf, String> {
    let variable = |name: &str| std::env::var_os(name).map(PathBuf::from);
    let folder = variable("TIERED_SERVICES_DIR")
        .or_else(|| Some(variable("XDG_CACHE_HOME")?.join("tiered/services")))
        .or_else(|| Some(variable("HOME")?.join(".cache/tiered/services")))
        .ok_or("HOME is not set")?;
    std::fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    Ok(folder)
}

/// Runs a program to its end; its error output where it fails.
pub(crate) async fn run(program: impl AsRef<Path>, arguments: &[&str]) -> Result<(), String> {
    run_with(program, arguments, &[("DEBIAN_FRONTEND", "noninteractive")]).await
}

/// The same with these variables.
async fn run_with(
    program: impl AsRef<Path>,
    arguments: &[&str],
    variables: &[(&str, &str)],
) -> Result<(), String> {
    let program = program.as_ref();
    let mut command = Command::new(program);
    command.args(arguments).envs(variables.iter().copied()).stdin(Stdio::null());
    let output = command.output().await.map_err(|error| format!("{}: {error}", program.display()))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let last = said.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or_default();
    Err(format!("{} {}: {last}", program.display(), arguments.first().unwrap_or(&"")))
}

/// Whether a program is there and runs.
pub(crate) async fn runs(program: &str, argument: &str) -> bool {
    run(program, &[argument]).await.is_ok()
}

/// Whether this is the administrator.
pub(crate) fn is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|own| std::os::unix::fs::MetadataExt::uid(&own) == 0)
}

/// Installs a package of the system, where that is allowed.
pub(crate) async fn install(package: &str) -> Result<(), String> {
    if !runs("apt-get", "--version").await {
        return Err(format!("install {package}"));
    }
    let sudo = if is_root() {
        None
    } else if run("sudo", &["--non-interactive", "true"]).await.is_ok() {
        Some("sudo")
    } else {
        return Err(format!("type: sudo apt-get install {package}"));
    };
    eprintln!("installing {package}");
    for arguments in [&["update", "--quiet"][..], &["install", "--yes", "--quiet", package]] {
        match sudo {
            None => run("apt-get", arguments).await?,
            Some(sudo) => run(sudo, &[&["--non-interactive", "apt-get"], arguments].concat()).await?,
        }
    }
    Ok(())
}

/// A Python with moto in it, and pip.
pub(crate) async fn moto() -> Result<PathBuf, String> {
    let venv = cache()?.join("moto-5.2.5");
    let python = venv.join("bin/python");
    if run(&python, &["-c", "import moto.server"]).await.is_ok() {
        return Ok(python);
    }
    eprintln!("installing moto 5.2.5");
    let path = venv.to_string_lossy().into_owned();
    if run("python3", &["-m", "venv", "--clear", &path]).await.is_err() {
        // Debian keeps this part of Python in a package of its own.
        install("python3-venv").await?;
        run("python3", &["-m", "venv", "--clear", &path]).await?;
    }
    run(&python, &["-m", "pip", "install", "--quiet", "moto[server]==5.2.5"]).await?;
    Ok(python)
}

/// The program s3s-fs, built by cargo.
pub(crate) async fn s3s_fs() -> Result<PathBuf, String> {
    let root = cache()?.join("s3s-fs-0.14.1");
    let program = root.join("bin/s3s-fs");
    if run(&program, &["--version"]).await.is_ok() {
        return Ok(program);
    }
    eprintln!("building s3s-fs 0.14.1 by cargo, once: some minutes");
    let (root_text, target) = (root.to_string_lossy().into_owned(), root.join("target"));
    let target_text = target.to_string_lossy().into_owned();
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let arguments = [
        "install",
        "--quiet",
        "--locked",
        "s3s-fs",
        "--version",
        "0.14.1",
        "--features",
        "binary",
        "--root",
        &root_text,
        "--target-dir",
        &target_text,
    ];
    // Little optimised: to compile it takes longer than all that the tests ask of it.
    let options = [("CARGO_PROFILE_RELEASE_OPT_LEVEL", "1"), ("CARGO_PROFILE_RELEASE_LTO", "false")];
    run_with(cargo, &arguments, &options).await?;
    std::fs::remove_dir_all(target).ok();
    Ok(program)
}

/// The program pgbouncer.
pub(crate) async fn pgbouncer() -> Result<PathBuf, String> {
    if let Some(program) = find_pgbouncer() {
        return Ok(program);
    }
    install("pgbouncer").await?;
    find_pgbouncer().ok_or_else(|| "pgbouncer was installed, and not found".to_owned())
}

fn find_pgbouncer() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    // Debian keeps it where a user's path does not lead.
    let folders = [PathBuf::from("/usr/sbin"), PathBuf::from("/usr/local/sbin")];
    std::env::split_paths(&path)
        .chain(folders)
        .map(|folder| folder.join("pgbouncer"))
        .find(|path| path.is_file())
}

/// The folder of Postgres' server programs.
pub(crate) async fn postgres() -> Result<PathBuf, String> {
    if let Some(folder) = find_postgres() {
        return Ok(folder);
    }
    install("postgresql").await?;
    find_postgres().ok_or_else(|| "postgresql was installed, and its initdb not found".to_owned())
}

fn find_postgres() -> Option<PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut folders: Vec<PathBuf> = versions.map(|version| version.path().join("bin")).collect();
    folders.sort();
    let path = std::env::var_os("PATH").unwrap_or_default();
    folders
        .into_iter()
        .rev()
        .chain(std::env::split_paths(&path))
        .find(|folder| folder.join("initdb").is_file())
}
