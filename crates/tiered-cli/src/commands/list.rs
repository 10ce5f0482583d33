//! `list`.

use futures_util::StreamExt as _;
use serde::Serialize;
use tiered::{Key, ListOptions, Schemes, Store};

use super::closing;
use crate::arguments::Place;
use crate::exit::{DIFFERENT, Failure, OK};
use crate::output::Lines;
use crate::{output, stack};

#[derive(Debug, Serialize)]
struct Line<'a> {
    key: &'a str,
    size: u64,
    version: Option<String>,
}

pub(super) async fn run(
    schemes: &Schemes,
    place: &Place,
    json: bool,
    prefix: String,
    start_after: Option<&str>,
    limit: Option<usize>,
) -> Result<u8, Failure> {
    let mut options = ListOptions::new().prefix(prefix);
    if let Some(after) = start_after {
        options = options.start_after(Key::new(after)?);
    }
    if let Some(limit) = limit {
        options = options.limit(limit);
    }
    let store = stack::open_to_read(schemes, place).await?;
    let listed = print(&*store, options, json).await;
    let damaged = closing(&*store, listed).await?;
    if damaged == 0 {
        return Ok(OK);
    }
    output::complain(&format!("{damaged} keys are damaged"));
    Ok(DIFFERENT)
}

/// Prints the listing, and damaged keys on standard error. Returns how many of those there are.
async fn print(store: &dyn Store, options: ListOptions, json: bool) -> Result<u64, Failure> {
    let mut lines = Lines::new();
    let mut damaged = 0;
    let mut listing = store.list(options);
    while let Some(listed) = listing.next().await {
        let listed = match listed {
            Ok(listed) => listed,
            Err(error) if error.damaged_key().is_some() => {
                damaged += 1;
                output::complain(&format!("damaged: {}", error.chain()));
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        if json {
            let version = listed.version.as_ref().map(ToString::to_string);
            lines.json(&Line { key: listed.key.as_str(), size: listed.size, version })?;
        } else {
            lines.text(listed.key.as_str())?;
        }
    }
    lines.finish()?;
    Ok(damaged)
}
