//! Where a walk begins: keys by name and by prefix, all of them or those of a shard.

use futures_util::StreamExt as _;
use tiered::{Key, ListOptions, ReadOptions, Result as Stored, Store};

use crate::arguments::{References, Shard, Walk};
use crate::exit::Failure;
use crate::{fingerprint, git};

/// The roots of this process.
pub(super) async fn roots(from: &dyn Store, order: &Walk) -> Result<Vec<Key>, Failure> {
    let mut named = named(from, order).await?;
    named.sort();
    named.dedup();
    let under = under(from, &order.roots_under).await?;
    let Some(shard) = order.shard else { return Ok([named, under].concat()) };
    if named.len() + under.len() < shard.of {
        return Err(too_few(named.len() + under.len(), shard));
    }
    let of_named = part(named, shard);
    let of_under = under.into_iter().filter(|key| is_of(key, shard));
    Ok(of_named.into_iter().chain(of_under).collect())
}

fn too_few(roots: usize, shard: Shard) -> Failure {
    let (s, keys) =
        if roots == 1 { ("", "the keys that it refers to") } else { ("s", "keys that they refer to") };
    Failure::Usage(format!(
        "each of {} shards walks from a part of the roots, and there {} only {roots}: name at least as many as there are shards, such as {keys}; when all shards have ended, walk from the root{s} without --shard, with --trust-present",
        shard.of,
        if roots == 1 { "is" } else { "are" },
    ))
}

/// Every process has the same list: each gets a range of it.
fn part(roots: Vec<Key>, Shard { index, of }: Shard) -> Vec<Key> {
    let border = |shard: usize| roots.len() * shard / of;
    let (before, behind) = (border(index - 1), border(index));
    roots.into_iter().skip(before).take(behind - before).collect()
}

/// Keys that come and go while processes list them change nothing about the others.
fn is_of(key: &Key, Shard { index, of }: Shard) -> bool {
    fingerprint::of(key.as_str()) % of as u64 == (index - 1) as u64
}

/// The keys of `--root`. Git's names may be short.
async fn named(from: &dyn Store, order: &Walk) -> Result<Vec<Key>, Failure> {
    if order.references != References::Git {
        return Ok(order.root.iter().map(Key::new).collect::<Stored<_>>()?);
    }
    let mut roots = Vec::new();
    for name in &order.root {
        roots.push(if git::is_id(name) { Key::new(name)? } else { reference(from, name).await? });
    }
    Ok(roots)
}

/// The reference of this name.
async fn reference(from: &dyn Store, name: &str) -> Result<Key, Failure> {
    for name in git::names(name) {
        let key = Key::new(name)?;
        if from.head(&key, &ReadOptions::new().authoritative()).await?.is_some() {
            return Ok(key);
        }
    }
    Err(Failure::Usage(format!(
        "{name} is no reference in the source, and no whole id of an object; see list refs/"
    )))
}

/// The keys of `--roots-under`.
async fn under(from: &dyn Store, prefixes: &[String]) -> Result<Vec<Key>, Failure> {
    let mut roots = Vec::new();
    for prefix in prefixes {
        let before = roots.len();
        let mut listing = from.list(ListOptions::new().prefix(prefix));
        while let Some(listed) = listing.next().await {
            match listed {
                Ok(listed) => roots.push(listed.key),
                // It fails when it is walked.
                Err(error) => match error.damaged_key() {
                    Some(key) => roots.push(key.clone()),
                    None => return Err(error.into()),
                },
            }
        }
        if roots.len() == before {
            return Err(Failure::Usage(format!("no key of the source begins with {prefix:?}")));
        }
    }
    Ok(roots)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(count: usize) -> Vec<Key> {
        (0..count).map(|number| Key::new(format!("releases/{number:04}")).expect("a key")).collect()
    }

    #[test]
    fn each_root_is_of_one_shard() {
        for (count, of) in [(4, 4), (10, 3), (1_000, 7)] {
            let all = keys(count);
            let shards = (1..=of).map(|index| Shard { index, of });
            let parts: Vec<Vec<Key>> = shards.clone().map(|shard| part(all.clone(), shard)).collect();
            assert_eq!(parts.concat(), all);
            assert!(parts.iter().all(|part| !part.is_empty() && part.len() <= count.div_ceil(of)));
            for key in &all {
                assert_eq!(shards.clone().filter(|shard| is_of(key, *shard)).count(), 1, "{key}");
            }
        }
        let largest =
            (1..=4).map(|index| keys(1_000).iter().filter(|key| is_of(key, Shard { index, of: 4 })).count());
        assert!(largest.max() < Some(300));
    }
}
