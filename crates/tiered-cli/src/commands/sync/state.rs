//! The state of a sync between two runs: its checkpoint, and where its shards end.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tiered::sync::{Checkpoint, split};
use tiered::{Key, Schemes, Store};

use super::kept::Kept;
use crate::arguments::{Shard, Sync};
use crate::exit::Failure;
use crate::{fingerprint, stack};

/// The form of the documents.
const FORMAT: u32 = 1;

/// Which sync a document belongs to: what must be the same for a run to go on from it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Identity {
    from: String,
    to: String,
    strategy: String,
    prefix: String,
    include: Vec<String>,
    exclude: Vec<String>,
    /// Of how many shards it is, where it is split.
    shards: Option<usize>,
}

impl Identity {
    fn of(order: &Sync) -> Self {
        Self {
            from: stack::identity(&order.from),
            to: stack::identity(&order.to),
            strategy: order.strategy.clone(),
            prefix: order.chosen.prefix.clone(),
            include: order.chosen.include.clone(),
            exclude: order.chosen.exclude.clone(),
            shards: order.shard.map(|shard| shard.of),
        }
    }

    /// A short name that no other sync has: of it as text, the same in every version of this program.
    fn label(&self) -> String {
        let text = serde_json::to_string(self).unwrap_or_default();
        format!("{:016x}", fingerprint::of(&text))
    }
}

#[derive(Serialize, Deserialize)]
struct Document<T> {
    format: u32,
    sync: Identity,
    #[serde(flatten)]
    content: T,
}

/// How far a run is.
#[derive(Serialize, Deserialize)]
struct Reached {
    /// Whether it came to the end of the listings.
    ended: bool,
    /// The keys that it is about.
    range: Range,
    checkpoint: Checkpoint,
}

/// The last key of each shard but the last.
#[derive(Serialize, Deserialize)]
struct Borders {
    borders: Vec<Key>,
}

/// A range of keys.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Range {
    pub(super) after: Option<Key>,
    pub(super) through: Option<Key>,
    /// There are fewer keys than shards, and this one has none.
    #[serde(skip)]
    pub(super) is_empty: bool,
}

/// Where a sync keeps its state.
#[derive(Clone)]
pub(super) struct State {
    kept: Kept,
    identity: Identity,
    /// The name of the checkpoint.
    name: String,
    shard: Option<Shard>,
}

impl State {
    pub(super) async fn open(schemes: &Schemes, place: &str, order: &Sync) -> Result<Self, Failure> {
        let identity = Identity::of(order);
        let kept = Kept::open(schemes, place, &identity.label()).await?;
        let name = order.shard.map(|shard| format!(".{}-of-{}", shard.index, shard.of)).unwrap_or_default();
        Ok(Self { kept, identity, name, shard: order.shard })
    }

    /// What an earlier run over this range had reached that did not end.
    pub(super) async fn checkpoint(&self, range: &Range) -> Result<Option<Checkpoint>, Failure> {
        let Some(text) = self.kept.read(&self.name).await? else { return Ok(None) };
        let reached: Reached = self.parse(&self.name, &text)?;
        if reached.ended {
            return Ok(None);
        }
        if reached.range != *range {
            let why = "the shards were split anew meanwhile, and it belongs to another range of keys";
            return Err(self.unusable(&self.name, &why));
        }
        Ok(Some(reached.checkpoint))
    }

    /// Keeps how far the sync is.
    pub(super) async fn keep(
        &self,
        range: &Range,
        checkpoint: &Checkpoint,
        ended: bool,
    ) -> Result<(), Failure> {
        let reached = Reached { ended, range: range.clone(), checkpoint: checkpoint.clone() };
        self.kept.write(&self.name, self.text(reached)?).await
    }

    /// The keys of this process's shard. The first process decides for all where the shards end.
    pub(super) async fn range(&self, source: &dyn Store) -> Result<Range, Failure> {
        const NAME: &str = ".shards";
        let Some(shard) = self.shard else { return Ok(Range::default()) };
        let text = if let Some(text) = self.kept.read(NAME).await? {
            text
        } else {
            let borders = split(source, &self.identity.prefix, shard.of).await?;
            self.kept.write_first(NAME, self.text(Borders { borders })?).await?
        };
        let Borders { borders } = self.parse(NAME, &text)?;
        let first = shard.index - 1;
        Ok(Range {
            after: first.checked_sub(1).and_then(|before| borders.get(before).cloned()),
            through: borders.get(first).cloned(),
            is_empty: first > borders.len(),
        })
    }

    pub(super) async fn close(&self) -> Result<(), Failure> {
        self.kept.close().await
    }

    fn text<T: Serialize>(&self, content: T) -> Result<Vec<u8>, Failure> {
        let document = Document { format: FORMAT, sync: self.identity.clone(), content };
        let mut text = serde_json::to_vec_pretty(&document).map_err(|error| self.unusable("", &error))?;
        text.push(b'\n');
        Ok(text)
    }

    fn parse<T: DeserializeOwned>(&self, name: &str, text: &[u8]) -> Result<T, Failure> {
        #[derive(Deserialize)]
        struct Head {
            format: u32,
            sync: Identity,
        }
        let head: Head = serde_json::from_slice(text).map_err(|error| self.unusable(name, &error))?;
        if head.format != FORMAT {
            let why = format!("it has the format {}, and this version knows {FORMAT}", head.format);
            return Err(self.unusable(name, &why));
        }
        if head.sync != self.identity {
            let why = format!("it belongs to another sync: {}", difference(&head.sync, &self.identity));
            return Err(self.unusable(name, &why));
        }
        let document: Document<T> =
            serde_json::from_slice(text).map_err(|error| self.unusable(name, &error))?;
        Ok(document.content)
    }

    fn unusable(&self, name: &str, why: &dyn std::fmt::Display) -> Failure {
        let place = self.kept.name_of(name);
        Failure::Usage(format!("{place} cannot be resumed from: {why}; name another place, or remove it"))
    }
}

/// In what two syncs differ first.
fn difference(theirs: &Identity, ours: &Identity) -> String {
    let count = |shards: Option<usize>| shards.map_or("none".to_owned(), |shards| shards.to_string());
    let pairs = [
        ("--from", theirs.from.clone(), ours.from.clone()),
        ("--to", theirs.to.clone(), ours.to.clone()),
        ("--strategy", theirs.strategy.clone(), ours.strategy.clone()),
        ("--prefix", theirs.prefix.clone(), ours.prefix.clone()),
        ("--include", theirs.include.join(" "), ours.include.join(" ")),
        ("--exclude", theirs.exclude.join(" "), ours.exclude.join(" ")),
        ("number of shards", count(theirs.shards), count(ours.shards)),
    ];
    let found = pairs.into_iter().find(|(_, theirs, ours)| theirs != ours);
    found.map_or_else(String::new, |(what, theirs, ours)| {
        format!("its {what} was {theirs:?}, and is {ours:?} now")
    })
}
