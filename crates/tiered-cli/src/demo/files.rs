//! Real files as values.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use tiered::Key;
use walkdir::WalkDir;

use crate::exit::Failure;

/// At most so many files, so that the demo ends soon.
const MAX_FILES: usize = 2_000;
/// At most so many bytes.
const MAX_BYTES: u64 = 64 << 20;
/// With fewer files than this, the cargo registry's sources are added.
const FEW: usize = 300;

/// A file to import.
#[derive(Debug)]
pub(super) struct SourceFile {
    pub(super) key: Key,
    pub(super) value: Bytes,
}

/// The files under `dir`, and under the cargo registry where those are few.
pub(super) fn gather(dir: &Path) -> Result<Vec<SourceFile>, Failure> {
    std::fs::read_dir(dir).map_err(|error| Failure::Io(dir.display().to_string(), error))?;
    let mut files = Vec::new();
    let mut bytes = 0;
    collect(dir, "files", &mut files, &mut bytes);
    if files.len() < FEW
        && let Some(registry) = registry()
    {
        collect(&registry, "registry", &mut files, &mut bytes);
    }
    if files.is_empty() {
        return Err(Failure::Usage(format!("{} has no readable files; name another folder", dir.display())));
    }
    Ok(files)
}

fn registry() -> Option<PathBuf> {
    let home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cargo")))?;
    Some(home.join("registry").join("src"))
}

fn collect(dir: &Path, prefix: &str, files: &mut Vec<SourceFile>, bytes: &mut u64) {
    let skipped = |entry: &walkdir::DirEntry| {
        let name = entry.file_name();
        entry.depth() > 0 && (name == ".git" || name == "target")
    };
    // Links are not followed; what cannot be read is passed over.
    let walk =
        WalkDir::new(dir).sort_by_file_name().into_iter().filter_entry(|entry| !skipped(entry)).flatten();
    for entry in walk.filter(|entry| entry.file_type().is_file()) {
        let size = entry.metadata().map_or(u64::MAX, |metadata| metadata.len());
        if files.len() >= MAX_FILES || *bytes >= MAX_BYTES {
            return;
        }
        if *bytes + size > MAX_BYTES {
            continue;
        }
        let relative = entry.path().strip_prefix(dir).unwrap_or(entry.path());
        let (Ok(key), Ok(value)) =
            (Key::new(format!("{prefix}/{}", relative.to_string_lossy())), std::fs::read(entry.path()))
        else {
            continue;
        };
        *bytes += value.len() as u64;
        files.push(SourceFile { key, value: Bytes::from(value) });
    }
}
