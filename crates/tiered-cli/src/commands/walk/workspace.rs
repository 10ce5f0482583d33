//! Where a walk keeps what it knows.

use std::path::PathBuf;
use std::sync::Arc;

use tempfile::TempDir;
use tiered::adapter::url::StoreUrl;
use tiered::sync::WalkOptions;
use tiered::{Create, Schemes, Store};

use crate::arguments::Walk;
use crate::commands::closing;
use crate::exit::Failure;
use crate::stack;

/// Where a walk keeps what it knows.
pub(super) struct Workspace {
    store: Option<Arc<dyn Store>>,
    kind: Kind,
}

enum Kind {
    /// Of this walk alone. The folder is removed with it.
    Passing { _folder: Option<TempDir> },
    /// A later walk goes on from it.
    Lasting {
        label: String,
        /// A file, which is removed once the walk has come to its end.
        file: Option<PathBuf>,
    },
}

impl Workspace {
    /// What the order names; without a name, a file in a temporary folder, or memory where redb is not compiled in.
    pub(super) async fn open(schemes: &Schemes, order: &Walk) -> Result<Self, Failure> {
        if let Some(place) = &order.resume {
            return Self::lasting(schemes, place, label(order)).await;
        }
        let passing = |store, folder| Self { store, kind: Kind::Passing { _folder: folder } };
        let (url, folder) = match order.workspace.as_deref() {
            Some("memory:") => return Ok(passing(None, None)),
            Some(url) => (url.to_owned(), None),
            None if !cfg!(feature = "redb") => return Ok(passing(None, None)),
            None => {
                let folder = tempfile::Builder::new().prefix("tiered-walk-").tempdir();
                let folder =
                    folder.map_err(|error| Failure::Io(std::env::temp_dir().display().to_string(), error))?;
                (in_file(&folder.path().join("keys.redb").display().to_string()), Some(folder))
            }
        };
        let store = stack::open_alone(schemes, &url, Create::IfAbsent).await?;
        Ok(passing(Some(store), folder))
    }

    async fn lasting(schemes: &Schemes, place: &str, label: String) -> Result<Self, Failure> {
        let is_url = place.split_once(':').is_some_and(|(scheme, _)| !scheme.contains('/'));
        if is_url && StoreUrl::parse(place)?.path().is_empty() {
            return Err(Failure::Usage(format!(
                "{place} is lost with this process; name a file or a lasting store"
            )));
        }
        if !is_url && place.contains('?') {
            return Err(Failure::Usage(format!("{place}: name a file whose path has no question mark")));
        }
        let url = if is_url { place.to_owned() } else { in_file(place) };
        let store = stack::open_alone(schemes, &url, Create::IfAbsent).await?;
        let file = (!is_url).then(|| place.into());
        Ok(Self { store: Some(store), kind: Kind::Lasting { label, file } })
    }

    /// How the walk uses it.
    pub(super) fn options(&self, options: WalkOptions) -> WalkOptions {
        match (&self.store, &self.kind) {
            (None, _) => options,
            (Some(store), Kind::Passing { .. }) => options.workspace(Arc::clone(store)),
            (Some(store), Kind::Lasting { label, .. }) => options.resumable(Arc::clone(store), label),
        }
    }

    pub(super) async fn close(self, done: Result<u8, Failure>) -> Result<u8, Failure> {
        let done = match &self.store {
            Some(store) => closing(&**store, done).await,
            None => done,
        };
        if let Kind::Lasting { file: Some(file), .. } = &self.kind
            && done.is_ok()
        {
            std::fs::remove_file(file).map_err(|error| Failure::Io(file.display().to_string(), error))?;
        }
        done
    }
}

/// A database that is fast rather than durable: what a crash of the machine takes from it is found again.
fn in_file(path: &str) -> String {
    format!("redb:{path}?durability=buffer&cache=64MiB")
}

/// What must be the same for a walk to go on.
fn label(order: &Walk) -> String {
    let mut parts = vec![
        format!("from {}", stack::identity(&order.from)),
        format!("to {}", stack::identity(&order.to)),
        format!("references {}", order.references),
    ];
    for (what, names) in
        [("roots", &order.root), ("roots under", &order.roots_under), ("leaves under", &order.leaves_under)]
    {
        if !names.is_empty() {
            parts.push(format!("{what} {names:?}"));
        }
    }
    if let Some(shard) = order.shard {
        parts.push(format!("shard {}/{}", shard.index, shard.of));
    }
    parts.join(", ")
}
