//! One method of the builder for each setting.

use std::time::Duration;

use super::TieredBuilder;
use crate::policy::{ReadPolicy, WritePolicy};
use crate::settings::{
    BreakerSettings, DefaultTtl, FillTiming, FrontendFailure, MaxStale, OnConnectFailure, OnFull, OnOverdue,
    OnPark, OnUnknown, Reopen, ServeStale, TieredSettings,
};

/// # Settings
///
/// Each method sets one field of [`TieredSettings`], and wins over [`settings`](TieredBuilder::settings), whichever is
/// called first. Of two calls of one method the last counts.
///
/// # Examples
/// ```
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// use std::time::Duration;
/// use tiered_core::{MemoryStore, TieredStore, WritePolicy};
///
/// let store = TieredStore::builder(MemoryStore::new(), MemoryStore::new())
///     .write_policy(WritePolicy::WriteAround)
///     .max_stale(Duration::from_secs(5))
///     .serve_stale(Duration::from_mins(10))
///     .negative_ttl(Duration::from_millis(200))
///     .default_ttl(Duration::from_hours(24))
///     .prefix_ttl("sessions/", Duration::from_mins(30))
///     .backend_breaker(5, Duration::from_secs(1))
///     .build()
///     .await?;
/// # Ok::<(), tiered_core::Error>(()) }).unwrap();
/// ```
impl TieredBuilder {
    fn change(mut self, change: impl Fn(&mut TieredSettings) + Send + Sync + 'static) -> Self {
        self.changes.push(change);
        self
    }

    /// How it writes.
    #[must_use]
    pub fn write_policy(self, policy: WritePolicy) -> Self {
        self.change(move |settings| settings.write_policy = policy)
    }

    /// How it reads.
    ///
    /// # Examples
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// use tiered_core::{MemoryStore, ReadPolicy, TieredStore};
    ///
    /// let builder = TieredStore::builder(MemoryStore::new(), MemoryStore::new());
    /// let store = builder.read_policy(ReadPolicy::FrontendOnly).build().await?;
    /// # Ok::<(), tiered_core::Error>(()) }).unwrap();
    /// ```
    #[must_use]
    pub fn read_policy(self, policy: ReadPolicy) -> Self {
        self.change(move |settings| settings.read_policy = policy)
    }

    /// How stale a hit may be: a [`Duration`], or a [`MaxStale`].
    #[must_use]
    pub fn max_stale(self, max_stale: impl Into<MaxStale>) -> Self {
        let max_stale = max_stale.into();
        self.change(move |settings| settings.max_stale = max_stale)
    }

    /// What a persistent frontend's entries are worth after opening.
    ///
    /// # Examples
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// use tiered_core::settings::Reopen;
    /// use tiered_core::{MemoryStore, TieredStore};
    ///
    /// let builder = TieredStore::builder(MemoryStore::new(), MemoryStore::new());
    /// let store = builder.reopen(Reopen::Clear).build().await?;
    /// # Ok::<(), tiered_core::Error>(()) }).unwrap();
    /// ```
    #[must_use]
    pub fn reopen(self, reopen: Reopen) -> Self {
        self.change(move |settings| settings.reopen = reopen)
    }

    /// What failed entries of the sync on connecting mean.
    ///
    /// # Examples
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// use tiered_core::settings::OnConnectFailure;
    /// use tiered_core::sync::PopulateMissing;
    /// use tiered_core::{MemoryStore, TieredStore};
    ///
    /// let builder = TieredStore::builder(MemoryStore::new(), MemoryStore::new());
    /// let store = builder.on_connect(PopulateMissing).on_connect_failure(OnConnectFailure::Fail).build().await?;
    /// # Ok::<(), tiered_core::Error>(()) }).unwrap();
    /// ```
    #[must_use]
    pub fn on_connect_failure(self, on_connect_failure: OnConnectFailure) -> Self {
        self.change(move |settings| settings.on_connect_failure = on_connect_failure)
    }

    /// When a read that missed is answered.
    ///
    /// # Examples
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// use tiered_core::settings::FillTiming;
    /// use tiered_core::{MemoryStore, TieredStore};
    ///
    /// let builder = TieredStore::builder(MemoryStore::new(), MemoryStore::new());
    /// let store = builder.fill(FillTiming::BeforeAnswer).build().await?;
    /// # Ok::<(), tiered_core::Error>(()) }).unwrap();
    /// ```
    #[must_use]
    pub fn fill(self, fill: FillTiming) -> Self {
        self.change(move |settings| settings.fill = fill)
    }

    /// Values larger than this many bytes are not copied to the frontend.
    ///
    /// # Examples
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// use tiered_core::{MemoryStore, TieredStore};
    ///
    /// let builder = TieredStore::builder(MemoryStore::new(), MemoryStore::new());
    /// let store = builder.max_fill(1 << 20).build().await?;
    /// assert_eq!(store.settings().max_fill, Some(1 << 20));
    /// # Ok::<(), tiered_core::Error>(()) }).unwrap();
    /// ```
    #[must_use]
    pub fn max_fill(self, bytes: u64) -> Self {
        self.change(move |settings| settings.max_fill = Some(bytes))
    }

    /// Bytes of the blocks in which the frontend keeps large values that are read by ranges; `None` for no blocks.
    ///
    /// # Examples
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// use tiered_core::{MemoryStore, StoreExt, TieredStore};
    ///
    /// let backend = MemoryStore::new();
    /// backend.set("film", vec![7; 4 << 20]).await?;
    /// let store = TieredStore::builder(MemoryStore::new(), backend).block_size(64 << 10).build().await?;
    /// store.get_range("film", 1_000_000..1_000_100).await?;
    /// // Two more reads of the same block, which the frontend has by now.
    /// store.get_range("film", 1_000_100..1_000_200).await?;
    /// store.get_range("film", 1_000_200..1_000_300).await?;
    /// assert_eq!(store.stats().backend_reads, 1);
    /// # Ok::<(), tiered_core::Error>(()) }).unwrap();
    /// ```
    #[must_use]
    pub fn block_size(self, bytes: impl Into<Option<u64>>) -> Self {
        let bytes = bytes.into();
        self.change(move |settings| settings.block_size = bytes)
    }

    /// Values of at most this many bytes are kept as a whole, once a range read asks for at least half of them.
    ///
    /// # Examples
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// use tiered_core::{MemoryStore, TieredStore};
    ///
    /// let builder = TieredStore::builder(MemoryStore::new(), MemoryStore::new());
    /// let store = builder.fill_whole(4 << 20).build().await?;
    /// assert_eq!(store.settings().fill_whole, 4 << 20);
    /// # Ok::<(), tiered_core::Error>(()) }).unwrap();
    /// ```
    #[must_use]
    pub fn fill_whole(self, bytes: u64) -> Self {
        self.change(move |settings| settings.fill_whole = bytes)
    }

    /// At most so many acknowledged writes wait for the backend (write-behind).
    ///
    /// # Examples
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// use tiered_core::{MemoryStore, TieredStore, VolatileJournal, WritePolicy};
    ///
    /// let store = TieredStore::builder(MemoryStore::new(), MemoryStore::new())
    ///     .write_policy(WritePolicy::WriteBehind)
    ///     .journal(VolatileJournal::new())
    ///     .max_pending_operations(1_000)
    ///     .build()
    ///     .await?;
    /// # Ok::<(), tiered_core::Error>(()) }).unwrap();
    /// ```
    #[must_use]
    pub fn max_pending_operations(self, operations: usize) -> Self {
        self.change(move |settings| settings.max_pending_operations = operations)
    }

    /// At most so many bytes of values wait for the backend (write-behind).
    ///
    /// # Examples
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// use tiered_core::{MemoryStore, TieredStore, VolatileJournal, WritePolicy};
    ///
    /// let store = TieredStore::builder(MemoryStore::new(), MemoryStore::new())
    ///     .write_policy(WritePolicy::WriteBehind)
    ///     .journal(VolatileJournal::new())
    ///     .max_pending_bytes(16 << 20)
    ///     .build()
    ///     .await?;
    /// # Ok::<(), tiered_core::Error>(()) }).unwrap();
    /// ```
    #[must_use]
    pub fn max_pending_bytes(self, bytes: u64) -> Self {
        self.change(move |settings| settings.max_pending_bytes = bytes)
    }

    /// What happens to a write for which there is no room (write-behind).
    ///
    /// # Examples
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// use tiered_core::settings::OnFull;
    /// use tiered_core::{MemoryStore, TieredStore, VolatileJournal, WritePolicy};
    ///
    /// let store = TieredStore::builder(MemoryStore::new(), MemoryStore::new())
    ///     .write_policy(WritePolicy::WriteBehind)
    ///     .journal(VolatileJournal::new())
    ///     .on_full(OnFull::Fail)
    ///     .build()
    ///     .await?;
    /// # Ok::<(), tiered_core::Error>(()) }).unwrap();
    /// ```
    #[must_use]
    pub fn on_full(self, on_full: OnFull) -> Self {
        self.change(move |settings| settings.on_full = on_full)
    }

    /// Keys in quarantine beyond this number put the whole frontend in doubt.
    ///
    /// # Examples
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// use tiered_core::{MemoryStore, TieredStore};
    ///
    /// let builder = TieredStore::builder(MemoryStore::new(), MemoryStore::new());
    /// let store = builder.max_quarantined(100).build().await?;
    /// # Ok::<(), tiered_core::Error>(()) }).unwrap();
    /// ```
    #[must_use]
    pub fn max_quarantined(self, keys: usize) -> Self {
        self.change(move |settings| settings.max_quarantined = keys)
    }

    /// What a failure of the frontend means for a call that the backend can serve.
    ///
    /// # Examples
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// use tiered_core::settings::FrontendFailure;
    /// use tiered_core::{MemoryStore, TieredStore};
    ///
    /// let builder = TieredStore::builder(MemoryStore::new(), MemoryStore::new());
    /// let store = builder.frontend_failure(FrontendFailure::Fail).build().await?;
    /// # Ok::<(), tiered_core::Error>(()) }).unwrap();
    /// ```
    #[must_use]
    pub fn frontend_failure(self, frontend_failure: FrontendFailure) -> Self {
        self.change(move |settings| settings.frontend_failure = frontend_failure)
    }

    /// What happens to the writes after one that the backend refuses (write-behind).
    ///
    /// # Examples
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// use tiered_core::settings::OnPark;
    /// use tiered_core::{MemoryStore, TieredStore, VolatileJournal, WritePolicy};
    ///
    /// let store = TieredStore::builder(MemoryStore::new(), MemoryStore::new())
    ///     .write_policy(WritePolicy::WriteBehind)
    ///     .journal(VolatileJournal::new())
    ///     .on_park(OnPark::Skip)
    ///     .build()
    ///     .await?;
    /// # Ok::<(), tiered_core::Error>(()) }).unwrap();
    /// ```
    #[must_use]
    pub fn on_park(self, on_park: OnPark) -> Self {
        self.change(move |settings| settings.on_park = on_park)
    }

    /// How long a journaled write may wait for the backend before an alarm goes off; `None` for no alarm.
    ///
    /// # Examples
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// use std::time::Duration;
    /// use tiered_core::{MemoryStore, TieredStore, VolatileJournal, WritePolicy};
    ///
    /// let store = TieredStore::builder(MemoryStore::new(), MemoryStore::new())
    ///     .write_policy(WritePolicy::WriteBehind)
    ///     .journal(VolatileJournal::new())
    ///     .max_pending_age(Duration::from_secs(60))
    ///     .build()
    ///     .await?;
    /// # Ok::<(), tiered_core::Error>(()) }).unwrap();
    /// ```
    #[must_use]
    pub fn max_pending_age(self, age: impl Into<Option<Duration>>) -> Self {
        let age = age.into();
        self.change(move |settings| settings.max_pending_age = age)
    }

    /// What happens to new writes while the oldest pending one is overdue.
    ///
    /// # Examples
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// use tiered_core::settings::OnOverdue;
    /// use tiered_core::{MemoryStore, TieredStore, VolatileJournal, WritePolicy};
    ///
    /// let store = TieredStore::builder(MemoryStore::new(), MemoryStore::new())
    ///     .write_policy(WritePolicy::WriteBehind)
    ///     .journal(VolatileJournal::new())
    ///     .on_overdue(OnOverdue::Block)
    ///     .build()
    ///     .await?;
    /// # Ok::<(), tiered_core::Error>(()) }).unwrap();
    /// ```
    #[must_use]
    pub fn on_overdue(self, on_overdue: OnOverdue) -> Self {
        self.change(move |settings| settings.on_overdue = on_overdue)
    }

    /// How long a call waits for the frontend before it goes on without it.
    ///
    /// # Examples
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// use std::time::Duration;
    /// use tiered_core::{MemoryStore, TieredStore};
    ///
    /// let builder = TieredStore::builder(MemoryStore::new(), MemoryStore::new());
    /// let store = builder.frontend_patience(Duration::from_millis(100)).build().await?;
    /// # Ok::<(), tiered_core::Error>(()) }).unwrap();
    /// ```
    #[must_use]
    pub fn frontend_patience(self, patience: Duration) -> Self {
        self.change(move |settings| settings.frontend_patience = patience)
    }

    /// How long a write takes at most to answer; `None` for no limit. See [`TieredSettings::write_deadline`].
    ///
    /// # Examples
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// use std::time::Duration;
    /// use tiered_core::{MemoryStore, TieredStore};
    ///
    /// let builder = TieredStore::builder(MemoryStore::new(), MemoryStore::new());
    /// let store = builder.write_deadline(Duration::from_secs(5)).build().await?;
    /// # Ok::<(), tiered_core::Error>(()) }).unwrap();
    /// ```
    #[must_use]
    pub fn write_deadline(self, deadline: impl Into<Option<Duration>>) -> Self {
        let deadline = deadline.into();
        self.change(move |settings| settings.write_deadline = deadline)
    }

    /// How long closing waits for pending writes to reach the backend.
    ///
    /// # Examples
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// use std::time::Duration;
    /// use tiered_core::{MemoryStore, TieredStore};
    ///
    /// let builder = TieredStore::builder(MemoryStore::new(), MemoryStore::new());
    /// let store = builder.close_deadline(Duration::from_secs(5)).build().await?;
    /// # Ok::<(), tiered_core::Error>(()) }).unwrap();
    /// ```
    #[must_use]
    pub fn close_deadline(self, deadline: Duration) -> Self {
        self.change(move |settings| settings.close_deadline = deadline)
    }

    /// What happens about a backend write whose outcome is unknown (write-through, write-around).
    ///
    /// # Examples
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// use tiered_core::settings::OnUnknown;
    /// use tiered_core::{MemoryStore, TieredStore};
    ///
    /// let builder = TieredStore::builder(MemoryStore::new(), MemoryStore::new());
    /// let store = builder.on_unknown(OnUnknown::Retry).build().await?;
    /// # Ok::<(), tiered_core::Error>(()) }).unwrap();
    /// ```
    #[must_use]
    pub fn on_unknown(self, on_unknown: OnUnknown) -> Self {
        self.change(move |settings| settings.on_unknown = on_unknown)
    }

    /// For how long the frontend remembers that the backend has no such entry; `None` for not at all.
    #[must_use]
    pub fn negative_ttl(self, ttl: impl Into<Option<Duration>>) -> Self {
        let ttl = ttl.into();
        self.change(move |settings| settings.negative_ttl = ttl)
    }

    /// When entries expire that were put with [`Expiry::Default`](crate::Expiry::Default): a [`Duration`] after the write, or a
    /// [`DefaultTtl`].
    ///
    /// # Examples
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// use std::time::Duration;
    /// use tiered_core::settings::DefaultTtl;
    /// use tiered_core::{MemoryStore, Put, StoreExt, TieredStore};
    ///
    /// let store = TieredStore::builder(MemoryStore::new(), MemoryStore::new())
    ///     .default_ttl(Duration::from_hours(24))
    ///     .prefix_ttl("sessions/", Duration::from_mins(30))
    ///     .prefix_ttl("users/", DefaultTtl::Never)
    ///     .build()
    ///     .await?;
    /// store.set("sessions/1", "Ada").await?;
    /// assert!(store.get("sessions/1").await?.expect("there").metadata().expires_at.is_some());
    /// // An explicit expiry takes precedence.
    /// store.set("sessions/robot", Put::new("Ada").never_expires()).await?;
    /// assert!(store.get("sessions/robot").await?.expect("there").metadata().expires_at.is_none());
    /// # Ok::<(), tiered_core::Error>(()) }).unwrap();
    /// ```
    #[must_use]
    pub fn default_ttl(self, ttl: impl Into<DefaultTtl>) -> Self {
        let ttl = ttl.into();
        self.change(move |settings| settings.default_ttl = ttl)
    }

    /// The same for keys that begin with `prefix`. Of several prefixes the longest counts.
    #[must_use]
    pub fn prefix_ttl(self, prefix: impl Into<String>, ttl: impl Into<DefaultTtl>) -> Self {
        let (prefix, ttl) = (prefix.into(), ttl.into());
        self.change(move |settings| {
            settings.prefix_ttl.insert(prefix.clone(), ttl);
        })
    }

    /// Whether an entry older than it may be is served while the backend cannot be asked: a greatest age, or a
    /// [`ServeStale`].
    #[must_use]
    pub fn serve_stale(self, serve_stale: impl Into<ServeStale>) -> Self {
        let serve_stale = serve_stale.into();
        self.change(move |settings| settings.serve_stale = serve_stale)
    }

    /// How long a read waits for the backend before it takes a stale entry instead, where
    /// [`serve_stale`](Self::serve_stale) allows one; `None` for as long as the backend takes.
    ///
    /// # Examples
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// use std::time::Duration;
    /// use tiered_core::settings::ServeStale;
    /// use tiered_core::{MemoryStore, TieredStore};
    ///
    /// let builder = TieredStore::builder(MemoryStore::new(), MemoryStore::new());
    /// let store = builder.serve_stale(ServeStale::Unlimited).soft_read_timeout(Duration::from_millis(50)).build().await?;
    /// # Ok::<(), tiered_core::Error>(()) }).unwrap();
    /// ```
    #[must_use]
    pub fn soft_read_timeout(self, timeout: impl Into<Option<Duration>>) -> Self {
        let timeout = timeout.into();
        self.change(move |settings| settings.soft_read_timeout = timeout)
    }

    /// How long a read waits for the backend before it fails with [`ErrorKind::TimedOut`](crate::ErrorKind::TimedOut);
    /// `None` for no limit.
    ///
    /// # Examples
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// use std::time::Duration;
    /// use tiered_core::{MemoryStore, TieredStore};
    ///
    /// let builder = TieredStore::builder(MemoryStore::new(), MemoryStore::new());
    /// let store = builder.read_timeout(Duration::from_secs(5)).build().await?;
    /// # Ok::<(), tiered_core::Error>(()) }).unwrap();
    /// ```
    #[must_use]
    pub fn read_timeout(self, timeout: impl Into<Option<Duration>>) -> Self {
        let timeout = timeout.into();
        self.change(move |settings| settings.read_timeout = timeout)
    }

    /// Leaves the backend alone for `pause` after so many failures in a row.
    #[must_use]
    pub fn backend_breaker(self, failures: u32, pause: Duration) -> Self {
        self.change(move |settings| settings.backend_breaker = Some(BreakerSettings::new(failures, pause)))
    }

    /// The same for the frontend, which the store does without meanwhile.
    ///
    /// # Examples
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// use std::time::Duration;
    /// use tiered_core::{MemoryStore, TieredStore};
    ///
    /// let builder = TieredStore::builder(MemoryStore::new(), MemoryStore::new());
    /// let store = builder.frontend_breaker(5, Duration::from_secs(1)).build().await?;
    /// # Ok::<(), tiered_core::Error>(()) }).unwrap();
    /// ```
    #[must_use]
    pub fn frontend_breaker(self, failures: u32, pause: Duration) -> Self {
        self.change(move |settings| settings.frontend_breaker = Some(BreakerSettings::new(failures, pause)))
    }
}

#[cfg(test)]
mod tests {

    use super::*;
    use crate::memory::MemoryStore;
    use crate::tiered::TieredStore;

    fn builder() -> TieredBuilder {
        TieredStore::builder(MemoryStore::new(), MemoryStore::new())
    }

    fn settings_of(builder: &TieredBuilder) -> TieredSettings {
        let mut settings = builder.settings.clone();
        builder.changes.apply(&mut settings);
        settings
    }

    #[test]
    fn a_builder_method_overrides_settings_in_either_order() {
        let all = || TieredSettings { max_pending_operations: 5, ..TieredSettings::default() };
        let before = builder().write_policy(WritePolicy::WriteAround).settings(all());
        let after = builder().settings(all()).write_policy(WritePolicy::WriteAround);
        let settings = settings_of(&before);
        assert_eq!(settings, settings_of(&after));
        let found = (settings.write_policy, settings.max_pending_operations);
        assert_eq!(found, (WritePolicy::WriteAround, 5));
        let twice = builder().max_fill(1).settings(all()).max_fill(2);
        assert_eq!(settings_of(&twice).max_fill, Some(2));
    }

    #[test]
    fn every_setting_has_a_builder_method() {
        let second = Duration::from_secs(1);
        let built = builder()
            .write_policy(WritePolicy::WriteBehind)
            .read_policy(ReadPolicy::FrontendOnly)
            .max_stale(second)
            .reopen(Reopen::Clear)
            .on_connect_failure(OnConnectFailure::Fail)
            .fill(FillTiming::BeforeAnswer)
            .max_fill(1)
            .block_size(1 << 10)
            .fill_whole(7)
            .max_pending_operations(2)
            .max_pending_bytes(3)
            .on_full(OnFull::Fail)
            .max_quarantined(4)
            .frontend_failure(FrontendFailure::Fail)
            .on_park(OnPark::Skip)
            .max_pending_age(None)
            .on_overdue(OnOverdue::Fail)
            .frontend_patience(second)
            .write_deadline(second)
            .close_deadline(Duration::from_nanos(1))
            .on_unknown(OnUnknown::Retry)
            .negative_ttl(second)
            .default_ttl(second)
            .prefix_ttl("a/", DefaultTtl::Never)
            .serve_stale(ServeStale::Unlimited)
            .soft_read_timeout(second)
            .read_timeout(second)
            .backend_breaker(5, second)
            .frontend_breaker(6, second);
        // Every field is named: a new one does not compile here until it has a method.
        let expected = TieredSettings {
            write_policy: WritePolicy::WriteBehind,
            read_policy: ReadPolicy::FrontendOnly,
            max_stale: MaxStale::AtMost(second),
            reopen: Reopen::Clear,
            // `TieredBuilder::on_connect` takes a strategy of any kind.
            on_connect: None,
            on_connect_failure: OnConnectFailure::Fail,
            fill: FillTiming::BeforeAnswer,
            max_fill: Some(1),
            block_size: Some(1 << 10),
            fill_whole: 7,
            max_pending_operations: 2,
            max_pending_bytes: 3,
            on_full: OnFull::Fail,
            max_quarantined: 4,
            frontend_failure: FrontendFailure::Fail,
            on_park: OnPark::Skip,
            max_pending_age: None,
            on_overdue: OnOverdue::Fail,
            frontend_patience: second,
            write_deadline: Some(second),
            close_deadline: Duration::from_nanos(1),
            on_unknown: OnUnknown::Retry,
            negative_ttl: Some(second),
            default_ttl: DefaultTtl::After(second),
            prefix_ttl: [("a/".to_owned(), DefaultTtl::Never)].into(),
            serve_stale: ServeStale::Unlimited,
            soft_read_timeout: Some(second),
            read_timeout: Some(second),
            backend_breaker: Some(BreakerSettings::new(5, second)),
            frontend_breaker: Some(BreakerSettings::new(6, second)),
        };
        assert_eq!(settings_of(&built), expected);
    }
}
