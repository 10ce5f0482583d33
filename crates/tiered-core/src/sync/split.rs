//! Where to split a range of keys so that the parts have about as many keys each, without listing all of them.
//!
//! The keys are a tree, one character a level. What is below a prefix is one page of a listing, and then known exactly, or
//! more: then the children of the prefix are found by skipping from one to the next, and the number of keys below is
//! estimated as Knuth does it for any tree ("Estimating the efficiency of backtrack programs", 1975): by going down to a
//! child drawn at random and multiplying with the number of children. The prefix with most keys is opened again and again,
//! until none has much of a part.

use futures_util::future::BoxFuture;
use futures_util::{FutureExt as _, StreamExt as _, stream};

use crate::error::{Error, ErrorKind, Operation, Result};
use crate::key::Key;
use crate::list::ListOptions;
use crate::store::{AsStore, Store};

/// Keys of a page. What has fewer is known exactly.
const PAGE: usize = 1_000;

/// How many random ways down an estimate takes.
const WAYS: usize = 2;

/// Requests at a time.
const AT_A_TIME: usize = 16;

/// No prefix has more than this share of a part in the end, as far as is known.
const PIECES: u64 = 8;

/// So many prefixes are opened for each part at most.
const OPENED: usize = 64;

/// Children of a prefix that are told apart.
const CHILDREN: usize = 4_096;

/// The last character there is. No text after a prefix begins with a greater one.
const LAST: char = char::MAX;

/// Finds keys at which the keys of `store` that begin with `prefix` can be split into `parts` ranges of about the same
/// number of keys: for [`SyncOptions::after`](super::SyncOptions::after) and
/// [`through`](super::SyncOptions::through). Fewer than `parts - 1` keys come back where there are not enough keys.
///
/// Up to a thousand keys are counted exactly. For more it lists samples, some thousand requests for each part, of which 16
/// are under way. The parts then differ, by a few percent where keys are alike. The same keys give the same
/// answer; where keys come and go meanwhile, two processes can get different ones, so one of them must decide for all.
///
/// # Errors
/// [`ErrorKind::Config`] for no parts; the listing's own. A damaged entry counts like any other.
///
/// # Cancel safety
/// It only reads.
///
/// # Examples
/// ```
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// use tiered_core::sync::split;
/// use tiered_core::{MemoryStore, StoreExt};
///
/// let store = MemoryStore::new();
/// for number in 0..100 {
///     store.set(format!("users/{number:02}").as_str(), "…").await?;
/// }
/// let borders = split(&store, "users/", 4).await?;
/// let names: Vec<_> = borders.iter().map(|key| key.as_str()).collect();
/// assert_eq!(names, ["users/24", "users/49", "users/74"]);
/// # Ok::<(), tiered_core::Error>(()) }).unwrap();
/// ```
pub async fn split(store: &(impl AsStore + ?Sized), prefix: &str, parts: usize) -> Result<Vec<Key>> {
    let found = cut(store.as_store(), prefix, parts).await;
    found.map_err(|error| error.during(Operation::Sync))
}

async fn cut(store: &dyn Store, prefix: &str, parts: usize) -> Result<Vec<Key>> {
    if parts == 0 {
        return Err(Error::new(ErrorKind::Config, "a range is split into at least one part"));
    }
    if parts == 1 {
        return Ok(Vec::new());
    }
    let mut cells = vec![Cell::of(store, prefix.to_owned()).await?];
    for _ in 0..parts.saturating_mul(OPENED) {
        let most = total(&cells) / whole(parts) / PIECES;
        let largest = cells.iter().enumerate().filter(|(_, cell)| cell.children.is_some());
        let largest = largest.max_by_key(|(_, cell)| cell.count);
        let Some((place, _)) = largest.filter(|(_, cell)| cell.count > most) else { break };
        let cell = cells.get_mut(place).map(std::mem::take).unwrap_or_default();
        let opened = cell.open(store).await?;
        cells.splice(place..=place, opened);
    }
    Ok(borders(&cells, parts))
}

/// The keys below a prefix.
#[derive(Debug, Default)]
struct Cell {
    prefix: String,
    /// How many keys it has, as far as is known.
    count: u64,
    /// The first keys: all where it has no children.
    keys: Vec<Key>,
    /// What is below it where that is more than a page: the first key of each child.
    children: Option<Vec<Child>>,
}

#[derive(Clone, Debug)]
struct Child {
    prefix: String,
    first: Key,
}

impl Cell {
    /// Looks below a prefix, and estimates how much there is.
    async fn of(store: &dyn Store, prefix: String) -> Result<Self> {
        let page = page(store, &prefix, None, PAGE + 1).await?;
        let prefix = common(store, prefix, &page).await?;
        if page.len() <= PAGE {
            return Ok(Self { prefix, count: whole(page.len()), keys: page, children: None });
        }
        let children = children(store, &prefix, &page).await?;
        let ways = (0..WAYS.min(children.len())).map(|way| {
            let mut dice = fastrand::Rng::with_seed(seed(&prefix, way));
            let children = &children;
            async move {
                let child = dice.choice(children).map(|child| child.prefix.clone()).unwrap_or_default();
                let below = below(store, child, dice).await?;
                Ok::<u64, Error>(below.saturating_mul(whole(children.len())))
            }
        });
        let ways: Vec<Result<u64>> = stream::iter(ways).buffered(AT_A_TIME).collect().await;
        let taken = whole(ways.len().max(1));
        let found = ways.into_iter().map(|way| way.map(|count| count / taken)).sum::<Result<u64>>()?;
        Ok(Self { prefix, count: found.max(whole(PAGE)), keys: page, children: Some(children) })
    }

    /// The cells of its children, in order. A key that is the prefix itself is before them.
    async fn open(self, store: &dyn Store) -> Result<Vec<Self>> {
        let own = self.keys.into_iter().take(1).filter(|key| key.as_str() == self.prefix);
        let own = own.map(|key| Self { count: 1, keys: vec![key], ..Self::default() });
        let children = self.children.unwrap_or_default();
        let looks = children.into_iter().map(|child| async move {
            let mut cell = Self::of(store, child.prefix).await?;
            if cell.keys.is_empty() {
                // Removed meanwhile.
                cell.keys.push(child.first);
            }
            Ok(cell)
        });
        // Boxed: it is as deep as the tree, and large.
        let opened: Vec<Result<Self>> = stream::iter(looks).buffered(AT_A_TIME).boxed().collect().await;
        own.map(Ok).chain(opened).collect()
    }
}

/// An estimate of how many keys are below a prefix: one random way down.
fn below(store: &dyn Store, prefix: String, mut dice: fastrand::Rng) -> BoxFuture<'_, Result<u64>> {
    async move {
        let page = page(store, &prefix, None, PAGE + 1).await?;
        if page.len() <= PAGE {
            return Ok(whole(page.len()));
        }
        let prefix = common(store, prefix, &page).await?;
        let children = children(store, &prefix, &page).await?;
        let Some(child) = dice.choice(&children) else { return Ok(whole(page.len())) };
        let below = below(store, child.prefix.clone(), dice).await?;
        Ok(below.saturating_mul(whole(children.len())))
    }
    .boxed()
}

/// The prefix that all keys below `prefix` have in common, where the first page of them has a longer one and there are no
/// others: long names are not gone down a character at a time.
async fn common(store: &dyn Store, prefix: String, page: &[Key]) -> Result<String> {
    let (Some(first), Some(last)) = (page.first(), page.last()) else { return Ok(prefix) };
    let alike = first.as_str().char_indices().zip(last.as_str().chars());
    let differs = alike.clone().find(|((_, one), other)| one != other).map(|((place, _), _)| place);
    let shorter = first.as_str().len().min(last.as_str().len());
    let longer = first.as_str().get(..differs.unwrap_or(shorter)).unwrap_or_default();
    if page.len() <= PAGE || longer.len() <= prefix.len() {
        return Ok(prefix);
    }
    let Ok(behind) = Key::new(format!("{longer}{LAST}")) else { return Ok(prefix) };
    let others = self::page(store, &prefix, Some(behind), 1).await?;
    let is_alike = others.first().is_none_or(|other| other.as_str().starts_with(longer));
    Ok(if is_alike { longer.to_owned() } else { prefix })
}

/// The children of a prefix: those that its first page has, then one after the other by skipping what is below the last.
async fn children(store: &dyn Store, prefix: &str, page: &[Key]) -> Result<Vec<Child>> {
    let mut children: Vec<Child> = Vec::new();
    let add = |children: &mut Vec<Child>, key: &Key| {
        let Some(next) = key.as_str().get(prefix.len()..).and_then(|rest| rest.chars().next()) else {
            return;
        };
        let child = format!("{prefix}{next}");
        if children.last().is_none_or(|last| last.prefix != child) {
            children.push(Child { prefix: child, first: key.clone() });
        }
    };
    for key in page {
        add(&mut children, key);
    }
    while let Some(last) = children.last().filter(|_| children.len() < CHILDREN) {
        let Ok(behind) = Key::new(format!("{}{LAST}", last.prefix)) else { break };
        let known = children.len();
        let next = self::page(store, prefix, Some(behind), 1).await?;
        let Some(key) = next.first() else { break };
        add(&mut children, key);
        if children.len() == known {
            // Keys that go on with the last character there is: they count as its.
            break;
        }
    }
    Ok(children)
}

/// The first keys below a prefix.
async fn page(store: &dyn Store, prefix: &str, after: Option<Key>, limit: usize) -> Result<Vec<Key>> {
    let mut options = ListOptions::new().prefix(prefix).limit(limit);
    options.start_after = after;
    let mut listing = store.list(options);
    let mut keys = Vec::new();
    while let Some(listed) = listing.next().await {
        match listed {
            Ok(listed) => keys.push(listed.key),
            Err(error) => match error.damaged_key() {
                Some(key) => keys.push(key.clone()),
                None => return Err(error),
            },
        }
    }
    Ok(keys)
}

/// A seed for the dice of a way down: the same for the same prefix.
fn seed(prefix: &str, way: usize) -> u64 {
    let way = u64::try_from(way).unwrap_or_default();
    u64::from(crc32c::crc32c(prefix.as_bytes())) << 8 | way
}

/// The keys with which parts end, each once.
fn borders(cells: &[Cell], parts: usize) -> Vec<Key> {
    let total = total(cells);
    let mut borders: Vec<Key> = Vec::new();
    let (mut place, mut before) = (0, 0);
    for part in 1..parts {
        let wanted = u128::from(total) * u128::from(whole(part)) / u128::from(whole(parts));
        let wanted = u64::try_from(wanted).unwrap_or(total);
        while let Some(cell) = cells.get(place).filter(|cell| cell.count < wanted.saturating_sub(before)) {
            before = before.saturating_add(cell.count);
            place += 1;
        }
        let border = cells.get(place).and_then(|cell| match &cell.children {
            // Known exactly: the part ends within it.
            None => {
                let within = usize::try_from(wanted.saturating_sub(before)).unwrap_or(usize::MAX);
                cell.keys.get(within.saturating_sub(1))
            }
            // The first key of what follows, which is one more than belongs here.
            Some(_) => cells.get(place + 1).and_then(|next| next.keys.first()),
        });
        borders.extend(border.filter(|key| borders.last().is_none_or(|last| last < *key)).cloned());
    }
    borders
}

fn total(cells: &[Cell]) -> u64 {
    cells.iter().fold(0, |sum, cell| sum.saturating_add(cell.count))
}

fn whole(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}
