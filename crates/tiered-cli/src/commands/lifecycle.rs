//! `create`, `exists`, `destroy` and `id`.

use serde::Serialize;
use tiered::{Schemes, Stack, Unflushed, ownership};

use super::closing;
use crate::arguments::Place;
use crate::exit::{ABSENT, Failure, OK, USAGE};
use crate::output::Lines;
use crate::{output, stack};

#[derive(Debug, Serialize)]
struct Id<'a> {
    id: Option<&'a str>,
}

#[derive(Debug, Serialize)]
struct Exists {
    exists: bool,
}

/// Makes a new store or stack, and prints its id.
pub(super) async fn create(schemes: &Schemes, place: &Place, json: bool) -> Result<u8, Failure> {
    let stack = lasting(place, "create")?;
    let store = stack.create(schemes).await?;
    let id = ownership::id(&*store).await.map_err(Failure::from);
    let id = closing(&*store, id).await?;
    // A stack over a backend that keeps no marks has the name that it was given.
    let id = if id.is_none() { stack.id(schemes).await? } else { id };
    print_id(id.as_deref(), json)?;
    Ok(OK)
}

/// Says whether there is a store or stack. Ends with 1 if there is none.
pub(super) async fn exists(schemes: &Schemes, place: &Place, json: bool) -> Result<u8, Failure> {
    let exists = stack::describe(place)?.exists(schemes).await?;
    let mut lines = Lines::new();
    if json {
        lines.json(&Exists { exists })?;
    } else {
        lines.text(if exists { "exists" } else { "absent" })?;
    }
    lines.finish()?;
    Ok(if exists { OK } else { ABSENT })
}

/// Removes a store or stack. Without `--yes` it only says what would be removed.
pub(super) async fn destroy(
    schemes: &Schemes,
    place: &Place,
    yes: bool,
    unflushed: Unflushed,
) -> Result<u8, Failure> {
    let stack = lasting(place, "destroy")?;
    if !yes {
        for line in describe(place) {
            output::complain(&format!("destroy removes {line}"));
        }
        output::complain("nothing was changed; add --yes to destroy it");
        return Ok(USAGE);
    }
    stack.destroy(schemes, unflushed).await.map_err(|error| {
        let refused = Failure::from(error);
        if unflushed == Unflushed::Refuse && refused.to_string().contains("Unflushed::Discard") {
            output::complain(
                "`tiered flush` flushes a stack, `tiered journal` handles parked writes; --discard-unflushed loses them",
            );
        }
        refused
    })?;
    Ok(OK)
}

/// Prints the id of a store or stack. Ends with 1 if it has none.
pub(super) async fn id(schemes: &Schemes, place: &Place, json: bool) -> Result<u8, Failure> {
    let id = stack::describe(place)?.id(schemes).await?;
    print_id(id.as_deref(), json)?;
    Ok(if id.is_some() { OK } else { ABSENT })
}

fn print_id(id: Option<&str>, json: bool) -> Result<(), Failure> {
    let mut lines = Lines::new();
    if json {
        lines.json(&Id { id })?;
    } else if let Some(id) = id {
        lines.text(id)?;
    }
    lines.finish()
}

/// The stack, unless it is surely in memory: that ends with this command.
fn lasting(place: &Place, command: &str) -> Result<Stack, Failure> {
    let stack = stack::describe(place)?;
    let scheme = stack.url().and_then(|url| url.split(':').next());
    if matches!(scheme, Some("memory" | "moka")) {
        return Err(Failure::Usage(format!(
            "{command}: a store in memory ends with this command; name one that lasts"
        )));
    }
    Ok(stack)
}

/// What the command line names, without secrets.
fn describe(place: &Place) -> Vec<String> {
    let mut lines = Vec::new();
    if let Some(path) = &place.config {
        lines.push(format!("the stack that {} describes", path.display()));
    }
    if let Some(url) = &place.store {
        lines.push(stack::without_secrets(url));
    }
    if let Some(url) = &place.frontend {
        lines.push(format!("the frontend {}", stack::without_secrets(url)));
    }
    if let Some(path) = &place.journal {
        lines.push(format!("the journal {path}"));
    }
    if let Some(url) = &place.backend
        && place.write_policy.as_deref() != Some("frontend-only")
    {
        lines.push(format!("the backend {}", stack::without_secrets(url)));
    }
    lines
}
