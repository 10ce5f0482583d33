//! The store that the command line names.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tiered::adapter::url::StoreUrl;
use tiered::{Create, Schemes, Stack, Store, TieredSettings, TieredStore, ownership};

use crate::arguments::Place;
use crate::exit::Failure;
use crate::output;

/// Opens what `place` names.
pub(crate) async fn open(
    schemes: &Schemes,
    place: &Place,
    create: Create,
) -> Result<Arc<dyn Store>, Failure> {
    let stack = describe(place)?;
    let store = stack.open_with(schemes, create).await?;
    Ok(warned(store, stack.url()).await)
}

/// Opens what `place` names for reading; with `access=read-only` if it may not be written.
pub(crate) async fn open_to_read(schemes: &Schemes, place: &Place) -> Result<Arc<dyn Store>, Failure> {
    let stack = describe(place)?;
    let store = stack.open_to_read_with(schemes).await?;
    Ok(warned(store, stack.url()).await)
}

/// Opens the one store that `url` names, without a stack around it.
pub(crate) async fn open_alone(
    schemes: &Schemes,
    url: &str,
    create: Create,
) -> Result<Arc<dyn Store>, Failure> {
    Ok(warned(schemes.open(url, create).await?, Some(url)).await)
}

/// Opens the one store that `url` names, to read it.
pub(crate) async fn read_alone(schemes: &Schemes, url: &str) -> Result<Arc<dyn Store>, Failure> {
    Ok(warned(schemes.open_to_read(url).await?, Some(url)).await)
}

/// Warns of the journals of a store that is opened by its URL, without its stack.
pub(crate) async fn warned(store: Arc<dyn Store>, url: Option<&str>) -> Arc<dyn Store> {
    if let Some(url) = url {
        warn_of_journals(&*store, url).await;
    }
    store
}

/// Warns if a journal holds writes for a store that is opened without it: reads may be stale, and writes are
/// overwritten later.
async fn warn_of_journals(store: &dyn Store, url: &str) {
    let url = without_secrets(url);
    match ownership::journals(store).await {
        Ok(journals) => {
            for id in journals {
                output::complain(&format!(
                    "warning: {url}: the journal {id} may hold acknowledged writes that are not here yet: what is read may be old, and what is written now is overwritten later. Open the stack with that journal, or give it up: tiered --store {} journal abandon {id}",
                    output::quoted(&url)
                ));
            }
        }
        Err(error) => output::complain(&format!(
            "warning: {url}: whether a journal holds writes for it cannot be told: {}",
            error.chain()
        )),
    }
}

/// Opens the stack that `place` names.
pub(crate) async fn open_tiered(schemes: &Schemes, place: &Place) -> Result<TieredStore, Failure> {
    Ok(describe(place)?.open_tiered_with(schemes, Create::Never).await?)
}

/// What `place` names.
pub(crate) fn describe(place: &Place) -> Result<Stack, Failure> {
    if let Some(path) = &place.config {
        let text =
            std::fs::read_to_string(path).map_err(|error| Failure::Io(path.display().to_string(), error))?;
        return Ok(Stack::from_toml(&text)?);
    }
    if place.journal.is_some() && place.frontend.is_none() {
        return Err(Failure::Usage(
            "--journal is for a stack: name --frontend URL --backend URL; in a --config it stands in the file".to_owned(),
        ));
    }
    if let Some(url) = &place.store {
        return Ok(Stack::store(url));
    }
    let (Some(frontend), Some(backend)) = (&place.frontend, &place.backend) else {
        return Err(Failure::Usage(
            "name a store: --store URL, or --frontend URL --backend URL, or --config FILE".to_owned(),
        ));
    };
    if same(frontend, backend) {
        return Err(Failure::Usage(format!(
            "{} is frontend and backend; name two stores",
            without_secrets(backend)
        )));
    }
    let mut settings = TieredSettings::default();
    if let Some(policy) = &place.write_policy {
        settings.write_policy = policy.parse()?;
    }
    if let Some(policy) = &place.read_policy {
        settings.read_policy = policy.parse()?;
    }
    let stack = Stack::tiers(Stack::store(frontend), Stack::store(backend), settings, place.journal.clone());
    let stack = stack.lease(place.lease);
    let stack = if place.sole_writer { stack.declare_sole_writer() } else { stack };
    let stack = if place.private_frontend { stack.declare_private_frontend() } else { stack };
    let stack = if place.sole_journal { stack.declare_sole_journal() } else { stack };
    Ok(match &place.backend_id {
        Some(id) => stack.backend_id(id),
        None => stack,
    })
}

/// A URL without its secrets: parameters and user information are cut.
pub(crate) fn without_secrets(url: &str) -> String {
    let plain = url.split('?').next().unwrap_or_default();
    match (plain.split_once("://"), plain.rsplit_once('@')) {
        (Some((scheme, rest)), Some((_, host))) if scheme != "s3" && rest.contains('@') => {
            format!("{scheme}://{host}")
        }
        _ => plain.to_owned(),
    }
}

/// Whether two URLs name the same store.
pub(crate) fn same(from: &str, to: &str) -> bool {
    place(from).is_some_and(|place_from| Some(place_from) == place(to))
}

/// The identity of a store as text, without secrets: the same for each URL of the same place.
pub(crate) fn identity(url: &str) -> String {
    let Some((scheme, path, parameters)) = place(url) else { return without_secrets(url) };
    let parameters: Vec<String> = parameters.into_iter().filter(|parameter| !parameter.is_empty()).collect();
    // On a server, the path is a URL already.
    let path = path.display().to_string();
    let place = if path.starts_with(&scheme) { path } else { format!("{scheme}:{path}") };
    if parameters.is_empty() { place } else { format!("{place}?{}", parameters.join("&")) }
}

/// The identity of a store; `None` if each opening creates a new one.
fn place(url: &str) -> Option<(String, PathBuf, Vec<String>)> {
    let mut parsed = StoreUrl::parse(url).ok()?;
    // Two prefixes of one store are two places.
    let prefix = parsed.take("prefix").unwrap_or_default();
    // Stores in memory are new each time.
    if parsed.path().is_empty() {
        return None;
    }
    if url.contains("://") {
        // On a server, parameters say which of its places it is.
        let parameters = [("table", "tiered"), ("schema", "public"), ("endpoint", "")];
        let parameters =
            parameters.map(|(name, usual)| parsed.take(name).unwrap_or_else(|| usual.to_owned()));
        let path = without_secrets(url);
        let parameters = parameters.into_iter().chain([prefix]).collect();
        return Some((parsed.scheme().to_owned(), path.into(), parameters));
    }
    let real = real_path(parsed.path().as_ref());
    Some((parsed.scheme().to_owned(), real, vec![prefix]))
}

/// A path without links, the same before and after what it names is made: of what is not there, the folder's.
fn real_path(path: &Path) -> PathBuf {
    let of_folder = || {
        let path = std::path::absolute(path).ok()?;
        Some(std::fs::canonicalize(path.parent()?).ok()?.join(path.file_name()?))
    };
    std::fs::canonicalize(path).ok().or_else(of_folder).unwrap_or_else(|| path.to_owned())
}

#[cfg(test)]
mod tests {
    use super::{identity, same, without_secrets};

    #[test]
    fn printed_stacks_show_no_passwords() {
        let shown = without_secrets("postgres://user:hunt@er2@db.example.com:5432/app?sslmode=require");
        assert_eq!(shown, "postgres://db.example.com:5432/app");
        assert_eq!(without_secrets("s3://bucket/a@b?endpoint=x"), "s3://bucket/a@b");
        assert_eq!(without_secrets("redb:a@b?cache=1MiB"), "redb:a@b");
    }

    #[test]
    fn an_identity_is_one_place_without_secrets() {
        assert_eq!(identity("postgres://u:secret@h/d?table=t"), "postgres://h/d?t&public");
        assert_eq!(identity("s3://b/p?endpoint=http://x"), "s3://b/p?tiered&public&http://x");
        assert_eq!(identity("redb:/no/such?cache=1MiB"), "redb:/no/such");
        assert_eq!(identity("memory:"), "memory:");
    }

    #[test]
    fn a_place_on_a_server_is_its_table_or_prefix() {
        assert!(same("postgres://u@h/d", "postgres://other@h/d?table=tiered"));
        assert!(!same("postgres://u@h/d", "postgres://u@h/d?table=other"));
        assert!(!same("s3://b/p", "s3://b/p?endpoint=http://localhost"));
        assert!(same("redb:x?cache=1MiB", "redb:x"));
        assert!(!same("memory:", "memory:"));
        assert!(!same("prefix+redb:x?prefix=a", "prefix+redb:x?prefix=b"));
    }
}
