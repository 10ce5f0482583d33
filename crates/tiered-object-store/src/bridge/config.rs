//! How a tier over an object store is opened.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tiered_core::adapter::{Stamp, opening};
use tiered_core::{Capabilities, Create, Durability, Error, ErrorKind, Key, Operation, Result};

use super::object_store::ObjectStore;
use super::tier::{ObjectTier, whole};
use crate::{Conditional, Keys, Order};

/// How long a request may still take effect after its call failed: the retries of `object_store`'s own clients, and a
/// delay on the way.
const REQUEST_LIFETIME: Duration = Duration::from_secs(200);

/// Opens an [`ObjectTier`].
///
/// # Examples
/// ```
/// # #[cfg(feature = "v0_14")]
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// use std::time::Duration;
/// use tiered_core::{Create, Durability, Feature, Store, StoreExt};
/// use tiered_object_store::{Conditional, Keys, Order};
/// use tiered_object_store::v0_14::ObjectTierConfig;
/// use tiered_object_store::v0_14::object_store::memory::InMemory;
///
/// let tier = ObjectTierConfig::new(InMemory::new())
///     .prefix("settings/")
///     .conditional(Conditional::Probe)
///     .order(Order::Checked)
///     .keys(Keys::Flat)
///     .max_key(200)
///     .create(Create::New)
///     .durability(Durability::Volatile)
///     .request_lifetime(Duration::ZERO)
///     .max_value(64 << 20)
///     .open()
///     .await?;
/// assert!(tier.capabilities().has(Feature::ConditionalPut));
/// tier.set("greeting", "hello").await?;
/// # Ok::<(), tiered_core::Error>(()) }).unwrap();
/// ```
#[derive(Clone)]
pub struct ObjectTierConfig {
    pub(super) objects: Arc<dyn ObjectStore>,
    pub(super) prefix: String,
    pub(super) conditional: Conditional,
    pub(super) order: Order,
    pub(super) keys: Keys,
    pub(super) max_key: usize,
    pub(super) create: Create,
    pub(super) durability: Durability,
    pub(super) request_lifetime: Duration,
    pub(super) max_value: u64,
    pub(super) stamp: Stamp,
}

impl ObjectTierConfig {
    /// For `objects`, which may be shared.
    pub fn new(objects: impl ObjectStore) -> Self {
        Self {
            objects: Arc::new(objects),
            prefix: String::new(),
            conditional: Conditional::default(),
            order: Order::default(),
            keys: Keys::default(),
            max_key: Key::MAX_LEN,
            create: Create::default(),
            durability: Durability::PowerLoss,
            request_lifetime: REQUEST_LIFETIME,
            max_value: Capabilities::DEFAULT_MAX_VALUE,
            stamp: Stamp::system(),
        }
    }

    /// What the path of every object begins with: nothing, or folders with a slash at the end.
    #[must_use]
    pub fn prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = prefix.into();
        self
    }

    /// Whether conditional writes are used.
    #[must_use]
    pub fn conditional(mut self, conditional: Conditional) -> Self {
        self.conditional = conditional;
        self
    }

    /// What listings do about their order.
    #[must_use]
    pub fn order(mut self, order: Order) -> Self {
        self.order = order;
        self
    }

    /// How keys are written as paths.
    #[must_use]
    pub fn keys(mut self, keys: Keys) -> Self {
        self.keys = keys;
        self
    }

    /// The longest key, in bytes; what is left of 1,024 beside the prefix by default, and the half of it where keys are
    /// [flat](Keys::Flat).
    #[must_use]
    pub fn max_key(mut self, bytes: usize) -> Self {
        self.max_key = bytes;
        self
    }

    /// What an acknowledged write survives; [`Durability::PowerLoss`] by default, as in the cloud.
    #[must_use]
    pub fn durability(mut self, durability: Durability) -> Self {
        self.durability = durability;
        self
    }

    /// How long a write can still take effect after its call failed; 200 s by default, since clients of `object_store`
    /// repeat requests for up to 180 s.
    #[must_use]
    pub fn request_lifetime(mut self, time: Duration) -> Self {
        self.request_lifetime = time;
        self
    }

    /// The largest value, in bytes; 1 GiB by default.
    #[must_use]
    pub fn max_value(mut self, bytes: u64) -> Self {
        self.max_value = bytes;
        self
    }

    /// The clock and the source of versions; the system's by default.
    #[must_use]
    pub fn stamp(mut self, stamp: Stamp) -> Self {
        self.stamp = stamp;
        self
    }

    /// What to do where there is no key and no mark below the prefix, and so no store. With [`Create::IfAbsent`], the
    /// default, that is not asked.
    #[must_use]
    pub fn create(mut self, create: Create) -> Self {
        self.create = create;
        self
    }

    /// Opens the tier. It writes and removes a small object of its own, to find out what the object store can do.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] for a prefix that is no folder, and outside a tokio runtime;
    /// [`ErrorKind::Unsupported`] for an object store that gives neither attributes nor e-tags;
    /// [`ErrorKind::NotFound`] where there is no store under [`Create::Never`], [`ErrorKind::AlreadyExists`] where there is
    /// under [`Create::New`]; else its own.
    ///
    /// # Cancel safety
    /// Dropped half-way it may leave the small object, below `.tiered/`.
    pub async fn open(self) -> Result<ObjectTier> {
        let opened = async {
            let runtime = opening::runtime()?;
            self.check()?;
            self.look().await?;
            let is_new = self.create == Create::New;
            let tier = ObjectTier::open(self, runtime).await?;
            if is_new {
                tier.note_created().await?;
            }
            Ok(tier)
        };
        opened.await.map_err(|error: Error| error.during(Operation::Open).in_tier("object-store"))
    }

    pub(super) fn check(&self) -> Result<()> {
        let folder = self.prefix.strip_suffix('/');
        if self.prefix.is_empty()
            || folder.is_some_and(|folder| !folder.is_empty() && whole(folder).is_some())
        {
            return Ok(());
        }
        let message = "the prefix must be folders with a slash at the end, such as settings/ or a/b/";
        Err(Error::new(ErrorKind::Config, message))
    }
}

impl fmt::Debug for ObjectTierConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ObjectTierConfig")
            // As text: its fields may be secrets.
            .field("objects", &format_args!("{}", self.objects))
            .field("prefix", &self.prefix)
            .field("conditional", &self.conditional)
            .field("order", &self.order)
            .field("keys", &self.keys)
            .finish_non_exhaustive()
    }
}
