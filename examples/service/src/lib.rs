//! A shop: sessions that end, a stock that many buyers share, orders that are all or nothing, documents of any size.
//!
//! Writes are acknowledged when the journal on disk has them. The process may be killed at any moment after that.

mod error;
mod open;

use bytes::Bytes;
use futures_util::stream::{self, BoxStream};
use futures_util::{StreamExt as _, TryStreamExt as _};
use std::time::Duration;
use tiered::{
    Batch, Delete, Entry, Key, ListOptions, Put, ReadOptions, Store as _, StoreExt as _, TieredStore,
};

pub use error::{Result, ServiceError};
pub use open::Config;

/// How long a session lasts.
pub const SESSION: Duration = Duration::from_secs(30 * 60);

/// The service. Cloning shares it.
#[derive(Clone, Debug)]
pub struct Shop {
    store: TieredStore,
}

impl Shop {
    /// Opens the shop, and recovers what a crash left in the journal.
    pub async fn open(config: &Config) -> Result<Self> {
        Ok(Self { store: config.open().await? })
    }

    /// Flushes and closes. What cannot be flushed in time stays in the journal for the next opening.
    pub async fn shut_down(&self) -> Result<()> {
        Ok(self.store.close().await?)
    }

    /// How many acknowledged writes the database does not have yet.
    pub fn backlog(&self) -> u64 {
        self.store.stats().backlog
    }

    /// Begins a session of `user`.
    pub async fn sign_in(&self, token: &str, user: &str) -> Result<()> {
        let put = Put::new(user.to_owned()).expires_in(SESSION).if_absent();
        self.store.put(&key("sessions", token)?, put).await?;
        Ok(())
    }

    /// The user of a session, while it lasts.
    pub async fn user(&self, token: &str) -> Result<Option<String>> {
        match self.store.get(&key("sessions", token)?).await? {
            None => Ok(None),
            Some(entry) => Ok(Some(text(token, &entry)?)),
        }
    }

    /// Renames the user of a session. The session ends when it would have.
    pub async fn rename(&self, token: &str, user: &str) -> Result<bool> {
        let change = |old: Option<&Entry>| old.map(|old| Put::replacing(old, user.to_owned()));
        let (_, written) = self.store.update(&key("sessions", token)?, change).await?;
        Ok(written.is_some())
    }

    /// Puts pieces into the stock. Returns how many there are.
    pub async fn deliver(&self, item: &str, pieces: u64) -> Result<u64> {
        self.change_stock(item, |left| Ok(left + pieces)).await
    }

    /// How many pieces there are.
    pub async fn stock(&self, item: &str) -> Result<u64> {
        match self.store.get(&key("stock", item)?).await? {
            None => Err(ServiceError::Unknown(item.to_owned())),
            Some(entry) => number(item, &entry),
        }
    }

    /// Takes one piece out of the stock, even if others buy at the same moment.
    pub async fn take(&self, item: &str) -> Result<u64> {
        let sold_out = |left| ServiceError::SoldOut { item: item.to_owned(), left };
        self.change_stock(item, |left| left.checked_sub(1).ok_or_else(|| sold_out(left))).await
    }

    /// Compare and set until no one wrote in between. `update` cannot hand an error of the change out, so it is kept
    /// beside it.
    async fn change_stock(
        &self,
        item: &str,
        change: impl Fn(u64) -> Result<u64> + Send + Sync,
    ) -> Result<u64> {
        let mut decided = Ok(0);
        self.store
            .update(&key("stock", item)?, |old| {
                decided = old.map_or(Ok(0), |old| number(item, old)).and_then(&change);
                let value = decided.as_ref().ok()?.to_string();
                Some(match old {
                    Some(old) => Put::replacing(old, value),
                    None => Put::new(value),
                })
            })
            .await?;
        decided
    }

    /// Places an order: it is in the list of its user and out of the cart, or nothing has happened.
    pub async fn order(&self, user: &str, number: u32, item: &str) -> Result<()> {
        let order = format!("{number:010}");
        let batch = Batch::new()
            .put(key("orders", &order)?, Put::new(item.to_owned()).if_absent())
            .put(key("users", &format!("{user}-{order}"))?, Put::new(order.clone()))
            .delete(key("carts", user)?, Delete::new());
        self.store.apply(batch).await?;
        Ok(())
    }

    /// The numbers of all orders of a user, in order.
    pub async fn orders_of(&self, user: &str) -> Result<Vec<u32>> {
        let options = ListOptions::new().prefix(key("users", &format!("{user}-"))?.as_str());
        let keys: Vec<_> = self.store.list(options).map_ok(|listed| listed.key).try_collect().await?;
        let reads = self.store.get_many(&keys, &ReadOptions::new()).await;
        let mut numbers = Vec::new();
        for (key, read) in keys.iter().zip(reads) {
            // Deleted since the listing.
            let Some(entry) = read?.into_entry() else { continue };
            numbers.push(text(key.as_str(), &entry)?.parse().map_err(|_| form(key.as_str()))?);
        }
        Ok(numbers)
    }

    /// Stores a document as it arrives. One that breaks off is not stored.
    pub async fn upload(&self, name: &str, body: BoxStream<'static, tiered::Result<Bytes>>) -> Result<u64> {
        let key = key("documents", name)?;
        self.store.put_stream(&key, Put::new(Bytes::new()), body).await?;
        let metadata = self.store.head(&key, &ReadOptions::new()).await?;
        metadata.map(|metadata| metadata.size).ok_or_else(|| ServiceError::Unknown(name.to_owned()))
    }

    /// A document in parts.
    pub async fn download(&self, name: &str) -> Result<BoxStream<'static, Result<Bytes>>> {
        match self.store.read_stream(&key("documents", name)?, &ReadOptions::new()).await? {
            None => Err(ServiceError::Unknown(name.to_owned())),
            Some((_, body)) => Ok(body.map_err(ServiceError::from).boxed()),
        }
    }
}

/// A document from parts that are at hand.
pub fn parts(parts: Vec<Bytes>) -> BoxStream<'static, tiered::Result<Bytes>> {
    stream::iter(parts.into_iter().map(Ok)).boxed()
}

/// A key of a kind. Names are checked, so that none reaches into another kind.
fn key(kind: &str, name: &str) -> Result<Key> {
    if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-') {
        return Err(ServiceError::Name(name.to_owned()));
    }
    Ok(Key::new(format!("{kind}/{name}"))?)
}

fn form(what: &str) -> ServiceError {
    ServiceError::Form(what.to_owned())
}

fn text(what: &str, entry: &Entry) -> Result<String> {
    String::from_utf8(entry.value().to_vec()).map_err(|_| form(what))
}

fn number(what: &str, entry: &Entry) -> Result<u64> {
    text(what, entry)?.parse().map_err(|_| form(what))
}
