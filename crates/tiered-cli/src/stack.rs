//! The store that the command line names.

use std::sync::Arc;

use tiered::{Create, Stack, Store, TieredSettings};

use crate::arguments::Place;
use crate::exit::Failure;

/// Opens what `place` names.
pub(crate) async fn open(place: &Place, create: Create) -> Result<Arc<dyn Store>, Failure> {
    Ok(describe(place)?.open(create).await?)
}

fn describe(place: &Place) -> Result<Stack, Failure> {
    if let Some(path) = &place.config {
        let text =
            std::fs::read_to_string(path).map_err(|error| Failure::Io(path.display().to_string(), error))?;
        return Ok(Stack::from_toml(&text)?);
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
            without_parameters(backend)
        )));
    }
    let mut settings = TieredSettings::default();
    if let Some(policy) = &place.write_policy {
        settings.write_policy = policy.parse()?;
    }
    if let Some(policy) = &place.read_policy {
        settings.read_policy = policy.parse()?;
    }
    Ok(Stack::tiers(Stack::store(frontend), Stack::store(backend), settings, place.journal.clone()))
}

/// A URL as it may be shown: parameters can be secrets.
pub(crate) fn without_parameters(url: &str) -> &str {
    url.split('?').next().unwrap_or_default()
}

/// Whether two URLs name the same store.
pub(crate) fn same(from: &str, to: &str) -> bool {
    let place = |url: &str| {
        let (scheme, rest) = url.split_once(':')?;
        let path = rest.split('?').next().unwrap_or_default();
        // Stores in memory are new each time.
        if path.is_empty() {
            return None;
        }
        let real = std::fs::canonicalize(path).unwrap_or_else(|_| path.into());
        Some((scheme.to_owned(), real))
    };
    place(from).is_some_and(|place_from| Some(place_from) == place(to))
}
