//! Object stores by URL, and whether there is a store in one.

use std::time::Duration;

use futures_util::StreamExt as _;
use tiered_core::adapter::opening;
use tiered_core::{Create, Durability, Error, ErrorKind, Feature, Key, Operation, Result};
use url::Url;

use super::config::ObjectTierConfig;
use super::failure::Failed;
use super::object_store::path::Path;
use super::object_store::{ObjectStoreScheme, PutMode, parse_url_opts};
use super::tier::{ObjectTier, whole};
use crate::Order;
use crate::names::RESERVED;

/// What marks begin with, behind what is reserved.
pub(super) const MARKS: &str = "marks/";

/// The mark of a new store.
const CREATED: &str = "tiered.created";

impl ObjectTierConfig {
    /// For the object store that a URL names, whose path is the prefix: `file:///FOLDER` and `memory:///PREFIX`, the first of
    /// them with the feature `fs`. `gs://`, `az://`, `s3://`, `http://` and `https://` are there as well in a program that
    /// turns on these features of `object_store`; their settings and credentials come from the environment, as that crate
    /// says. Listings of files and of HTTP are [sorted](Order::Sorted).
    ///
    /// # Errors
    /// [`ErrorKind::Config`] for what is no such URL, or needs a feature.
    ///
    /// # Examples
    /// ```
    /// # #[cfg(feature = "v0_14")]
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// use tiered_core::StoreExt;
    /// use tiered_object_store::v0_14::ObjectTierConfig;
    ///
    /// let tier = ObjectTierConfig::at("memory:///settings")?.open().await?;
    /// tier.set("greeting", "hello").await?;
    /// # Ok::<(), tiered_core::Error>(()) }).unwrap();
    /// ```
    pub fn at(place: &str) -> Result<Self> {
        // Neither the text nor a URL with a password is shown.
        let refuse =
            |why: &str| Error::new(ErrorKind::Config, why).during(Operation::Open).in_tier("object-store");
        let url = Url::parse(place).map_err(|_| refuse("it is no URL; write one such as file:///FOLDER"))?;
        if url.password().is_some() {
            return Err(refuse("the URL has a password; give credentials by the environment"));
        }
        let (scheme, _) = ObjectStoreScheme::parse(&url)
            .map_err(|_| refuse("it names no object store; write file:///FOLDER, gs://BUCKET/PREFIX, az://CONTAINER/PREFIX or https://HOST/PREFIX"))?;
        let variables = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
        let (objects, path) = parse_url_opts(&url, variables).map_err(|error| {
            refuse("the object store cannot be used with these settings, or needs a feature of object_store")
                .with_source(error)
        })?;
        let prefix = if path.is_root() { String::new() } else { format!("{path}/") };
        let config = Self::new(objects).prefix(prefix);
        Ok(match scheme {
            ObjectStoreScheme::Local => config.order(Order::Sorted).durability(Durability::ProcessKill),
            ObjectStoreScheme::Memory => {
                config.durability(Durability::Volatile).request_lifetime(Duration::ZERO)
            }
            ObjectStoreScheme::Http => config.order(Order::Sorted),
            _ => config,
        })
    }

    /// Whether there is a store below the prefix: any key or mark. Changes nothing.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    ///
    /// # Cancel safety
    /// Dropping it has no effect.
    ///
    /// # Examples
    /// ```
    /// # #[cfg(feature = "v0_14")]
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// use tiered_object_store::v0_14::ObjectTierConfig;
    ///
    /// assert!(!ObjectTierConfig::at("memory:///settings")?.exists().await?);
    /// # Ok::<(), tiered_core::Error>(()) }).unwrap();
    /// ```
    pub async fn exists(self) -> Result<bool> {
        let found = async {
            opening::runtime()?;
            self.check()?;
            self.holds_anything().await
        };
        found.await.map_err(|error| error.during(Operation::Open).in_tier("object-store"))
    }

    async fn holds_anything(&self) -> Result<bool> {
        let folder = self.prefix.strip_suffix('/').and_then(whole);
        let mut found = self.objects.list(folder.as_ref());
        while let Some(object) = found.next().await {
            let object = match object.map_err(Failed::from) {
                Ok(object) => object,
                Err(Failed::Missing) => return Ok(false),
                Err(failed) => return Err(failed.into_error()),
            };
            if self.is_any(&object.location) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Whether an object is a key or a mark.
    fn is_any(&self, location: &Path) -> bool {
        let Some(text) = location.as_ref().strip_prefix(&self.prefix) else { return false };
        match text.strip_prefix(RESERVED) {
            Some(reserved) => reserved.starts_with(MARKS),
            None => self.keys.read(text).is_some_and(|key| Key::new(key).is_ok()),
        }
    }

    /// Looks whether the place is as it is wanted.
    pub(super) async fn look(&self) -> Result<()> {
        if self.create == Create::IfAbsent {
            return Ok(());
        }
        match (self.holds_anything().await?, self.create) {
            (false, Create::Never) => {
                Err(Error::new(ErrorKind::NotFound, "there is no store under the prefix; create it"))
            }
            (true, Create::New) => Err(already_there()),
            _ => Ok(()),
        }
    }
}

impl ObjectTier {
    /// Notes that the store is new. Of two that make it at the same time, one fails, where writes can be conditional.
    pub(super) async fn note_created(&self) -> Result<()> {
        let guarded = tiered_core::Store::capabilities(self).has(Feature::ConditionalPut);
        let mode = if guarded { PutMode::Create } else { PutMode::Overwrite };
        match self.put_own(&format!("{MARKS}{CREATED}"), "1".into(), mode).await {
            Err(Failed::Condition) => Err(already_there()),
            written => written.map_err(Failed::into_error),
        }
    }
}

fn already_there() -> Error {
    Error::new(ErrorKind::AlreadyExists, "there is a store under the prefix already; connect to it")
}
