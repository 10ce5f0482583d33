//! What is kept between two runs of a sync, in a file or in a store.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tiered::adapter::url::StoreUrl;
use tiered::{Create, ErrorKind, Key, Put, Schemes, Store, StoreExt as _};

use crate::exit::Failure;
use crate::stack;

/// Where documents are kept, each under a name of its own.
#[derive(Clone)]
pub(super) enum Kept {
    /// Files with this path, to which the name is appended.
    Files(PathBuf),
    /// Keys with this beginning.
    Keys(Arc<dyn Store>, String),
}

impl Kept {
    /// Opens what `text` names: a URL or else a path. In a store, documents of different syncs have different `label`s.
    pub(super) async fn open(schemes: &Schemes, text: &str, label: &str) -> Result<Self, Failure> {
        let is_url = text.split_once(':').is_some_and(|(scheme, _)| !scheme.contains('/'));
        if !is_url {
            return Ok(Self::Files(text.into()));
        }
        if StoreUrl::parse(text)?.scheme() == "memory" {
            return Err(Failure::Usage(
                "memory: is lost with this process; name a file or a lasting store".to_owned(),
            ));
        }
        let store = stack::open_alone(schemes, text, Create::IfAbsent).await?;
        Ok(Self::Keys(store, format!("tiered.sync/{label}")))
    }

    /// What is kept under `name`.
    pub(super) async fn read(&self, name: &str) -> Result<Option<Vec<u8>>, Failure> {
        match self {
            Self::Files(path) => match fs::read(file(path, name)) {
                Ok(content) => Ok(Some(content)),
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
                Err(error) => Err(failed(path, name, error)),
            },
            Self::Keys(store, label) => {
                let entry = store.get(&key(label, name)?).await?;
                Ok(entry.map(|entry| entry.into_value().to_vec()))
            }
        }
    }

    /// Replaces what is kept under `name`.
    pub(super) async fn write(&self, name: &str, content: Vec<u8>) -> Result<(), Failure> {
        match self {
            Self::Files(path) => {
                let (path, name) = (path.clone(), name.to_owned());
                on_a_thread(move || {
                    let written = draft(&path, &content);
                    let kept =
                        written.and_then(|draft| draft.persist(file(&path, &name)).map_err(io::Error::from));
                    kept.map(drop).map_err(|error| failed(&path, &name, error))
                })
                .await
            }
            Self::Keys(store, label) => {
                store.put(&key(label, name)?, Put::new(content)).await?;
                Ok(())
            }
        }
    }

    /// Keeps `content` under `name` unless another process was first; what is kept in the end.
    pub(super) async fn write_first(&self, name: &str, content: Vec<u8>) -> Result<Vec<u8>, Failure> {
        let is_ours = match self {
            Self::Files(path) => {
                let (path, name, content) = (path.clone(), name.to_owned(), content.clone());
                on_a_thread(move || {
                    let written = draft(&path, &content);
                    let kept = written.and_then(|draft| {
                        draft.persist_noclobber(file(&path, &name)).map_err(io::Error::from)
                    });
                    match kept {
                        Ok(_) => Ok(true),
                        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
                        Err(error) => Err(failed(&path, &name, error)),
                    }
                })
                .await?
            }
            Self::Keys(store, label) => {
                match store.put(&key(label, name)?, Put::new(content.clone()).if_absent()).await {
                    Ok(_) => true,
                    Err(error) if error.kind() == ErrorKind::PreconditionFailed => false,
                    Err(error) => return Err(error.into()),
                }
            }
        };
        if is_ours {
            return Ok(content);
        }
        let theirs = self.read(name).await?;
        theirs.ok_or_else(|| Failure::Usage(format!("{} vanished while it was read", self.name_of(name))))
    }

    /// What to call a document.
    pub(super) fn name_of(&self, name: &str) -> String {
        match self {
            Self::Files(path) => file(path, name).display().to_string(),
            Self::Keys(_, label) => format!("the key {label}{name}"),
        }
    }

    pub(super) async fn close(&self) -> Result<(), Failure> {
        match self {
            Self::Files(_) => Ok(()),
            Self::Keys(store, _) => Ok(store.close().await?),
        }
    }
}

fn key(label: &str, name: &str) -> tiered::Result<Key> {
    Key::new(format!("{label}{name}"))
}

fn file(path: &Path, name: &str) -> PathBuf {
    let mut path = path.as_os_str().to_owned();
    path.push(name);
    path.into()
}

fn failed(path: &Path, name: &str, error: io::Error) -> Failure {
    Failure::Io(file(path, name).display().to_string(), error)
}

/// A file beside `path` with this content, on the disk.
fn draft(path: &Path, content: &[u8]) -> io::Result<tempfile::NamedTempFile> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut draft = tempfile::NamedTempFile::new_in(folder)?;
    draft.write_all(content)?;
    draft.as_file().sync_data()?;
    Ok(draft)
}

/// Runs what waits for a disk, without stopping what is copied meanwhile.
async fn on_a_thread<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Failure> + Send + 'static,
) -> Result<T, Failure> {
    let ended = tokio::task::spawn_blocking(work).await;
    ended.map_err(|error| Failure::Io("a thread".to_owned(), io::Error::other(error)))?
}
