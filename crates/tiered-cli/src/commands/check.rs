//! `check`.

use std::cmp::Ordering;

use futures_util::StreamExt as _;
use serde::Serialize;
use tiered::{Key, ListOptions, ListStream, Listed, ReadOptions, Store};

use super::closing;
use crate::exit::{DIFFERENT, Failure, OK};
use crate::progress::Progress;
use crate::{output, stack};

#[derive(Debug, Serialize)]
struct Line<'a> {
    key: &'a str,
    kind: &'static str,
}

pub(super) async fn run(from: &str, to: &str, values: bool, json: bool) -> Result<u8, Failure> {
    if stack::same(from, to) {
        return Err(Failure::Usage(format!(
            "{} is both sides; name two stores",
            stack::without_secrets(from)
        )));
    }
    let from = stack::read_alone(from).await?;
    let to = match stack::read_alone(to).await {
        Ok(to) => to,
        Err(error) => return closing(&*from, Err(error)).await,
    };
    let found = compare(&*from, &*to, values, json).await;
    let found = closing(&*to, found).await;
    let differences = closing(&*from, found).await?;
    if differences == 0 {
        return Ok(OK);
    }
    output::complain(&format!("{differences} keys differ"));
    Ok(DIFFERENT)
}

async fn next(listing: &mut ListStream) -> Result<Option<Listed>, Failure> {
    Ok(listing.next().await.transpose()?)
}

async fn compare(from: &dyn Store, to: &dyn Store, values: bool, json: bool) -> Result<u64, Failure> {
    let mut lines = output::Lines::new();
    let progress = Progress::new("compared");
    let mut compared = 0;
    let (mut ours, mut theirs) = (from.list(ListOptions::new()), to.list(ListOptions::new()));
    let (mut our, mut their) = (next(&mut ours).await?, next(&mut theirs).await?);
    let mut differences = 0;
    loop {
        let order = match (&our, &their) {
            (None, None) => {
                lines.finish()?;
                return Ok(differences);
            }
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(our), Some(their)) => our.key.cmp(&their.key),
        };
        let kind = match order {
            Ordering::Less => Some("missing"),
            Ordering::Greater => Some("extra"),
            Ordering::Equal => match (&our, &their) {
                (Some(our), Some(their)) if differ(from, to, our, their, values).await? => Some("differs"),
                _ => None,
            },
        };
        let key: Option<Key> =
            if order == Ordering::Greater { &their } else { &our }.as_ref().map(|listed| listed.key.clone());
        if let (Some(kind), Some(key)) = (kind, key) {
            differences += 1;
            if json {
                lines.json(&Line { key: key.as_str(), kind })?;
            } else {
                lines.text(&format!("{kind} {key}"))?;
            }
        }
        compared += 1;
        progress.show(compared);
        if order != Ordering::Greater {
            our = next(&mut ours).await?;
        }
        if order != Ordering::Less {
            their = next(&mut theirs).await?;
        }
    }
}

async fn differ(
    from: &dyn Store,
    to: &dyn Store,
    our: &Listed,
    their: &Listed,
    values: bool,
) -> Result<bool, Failure> {
    if our.size != their.size {
        return Ok(true);
    }
    let fresh = ReadOptions::new().authoritative();
    if !values {
        let version = async |store: &dyn Store, listed: &Listed| match &listed.version {
            Some(version) => Ok(Some(version.clone())),
            // Some stores do not list versions.
            None => store.head(&listed.key, &fresh).await.map(|head| head.map(|known| known.version.clone())),
        };
        return Ok(version(from, our).await? != version(to, their).await?);
    }
    let ours = from.load(&our.key, &fresh).await?.into_entry();
    let theirs = to.load(&their.key, &fresh).await?.into_entry();
    Ok(ours.as_ref().map(tiered::Entry::value) != theirs.as_ref().map(tiered::Entry::value))
}
