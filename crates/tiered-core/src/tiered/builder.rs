//! Building a tiered store: components, settings, and the check that they fit.

use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::watch;

use super::TieredStore;
use super::behind::{Behind, Lease};
use super::engine::{Borrowed, Busy, Engine};
use super::guarantee::{Guarantees, Requirement};
use super::health::Health;
use super::ownership::{self, Tolerates};
use super::session;
use super::settings::{FillTiming, MaxStale, OnConnectFailure, OnOverdue, OnUnknown, Reopen, TieredSettings};
use crate::capability::{Capabilities, Durability, Feature, Sharing};
use crate::claim::{Claim, Claims, Scope};
use crate::clock::Stamp;
use crate::error::{Error, ErrorKind, Operation, Result};
use crate::journal::Journal;
use crate::observe::{Counters, EventSender, Events};
use crate::opening;
use crate::planted::Planted;
use crate::policy::{ReadPolicy, WritePolicy};
use crate::slot::Slots;
use crate::store::Store;
use crate::sync::SyncStrategy;

/// Staleness allowed where other processes can write to the backend, unless set otherwise: a minute is short
/// enough for most caches and long enough to spare the backend.
const SHARED_MAX_STALE: Duration = Duration::from_mins(1);

/// Builds a [`TieredStore`].
#[derive(Debug)]
pub struct TieredBuilder {
    frontend: Arc<dyn Store>,
    backend: Arc<dyn Store>,
    settings: TieredSettings,
    stamp: Stamp,
    journal: Option<Arc<dyn Journal>>,
    backend_id: Option<String>,
    on_connect: Option<Arc<dyn SyncStrategy>>,
    events: EventSender,
    requirement: Option<Requirement>,
    sole_writer: bool,
    private_frontend: bool,
    lease: Option<Lease>,
    sole_journal: bool,
    tolerates: Tolerates,
    planted: Planted,
}

impl TieredBuilder {
    pub(super) fn new(frontend: Arc<dyn Store>, backend: Arc<dyn Store>) -> Self {
        Self {
            frontend,
            backend,
            settings: TieredSettings::default(),
            stamp: Stamp::system(),
            journal: None,
            backend_id: None,
            on_connect: None,
            events: EventSender::new(),
            requirement: None,
            sole_writer: false,
            private_frontend: false,
            lease: None,
            sole_journal: false,
            tolerates: Tolerates::default(),
            planted: Planted::default(),
        }
    }

    /// All settings at once, replacing those made before.
    #[must_use]
    pub fn settings(mut self, settings: TieredSettings) -> Self {
        self.settings = settings;
        self
    }

    /// How it writes.
    #[must_use]
    pub fn write_policy(mut self, policy: WritePolicy) -> Self {
        self.settings.write_policy = policy;
        self
    }

    /// How it reads.
    #[must_use]
    pub fn read_policy(mut self, policy: ReadPolicy) -> Self {
        self.settings.read_policy = policy;
        self
    }

    /// How stale a hit may be.
    #[must_use]
    pub fn max_stale(mut self, max_stale: MaxStale) -> Self {
        self.settings.max_stale = max_stale;
        self
    }

    /// What a persistent frontend's entries are worth after opening.
    #[must_use]
    pub fn reopen(mut self, reopen: Reopen) -> Self {
        self.settings.reopen = reopen;
        self
    }

    /// The journal of a write-behind store.
    #[must_use]
    pub fn journal(mut self, journal: Arc<dyn Journal>) -> Self {
        self.journal = Some(journal);
        self
    }

    /// The clock and the source of versions. Each tier judges expiry by a clock of its own: a test that moves time by hand
    /// gives the same stamp to the tiers' configurations as well.
    #[must_use]
    pub fn stamp(mut self, stamp: Stamp) -> Self {
        self.stamp = stamp;
        self
    }

    /// A name for the backend, by which a persistent frontend recognises it, instead of a mark in the backend.
    #[must_use]
    pub fn backend_id(mut self, id: &str) -> Self {
        self.backend_id = Some(id.to_owned());
        self
    }

    /// A strategy to run from backend to frontend before the store is handed out.
    #[must_use]
    pub fn on_connect(mut self, strategy: Arc<dyn SyncStrategy>) -> Self {
        self.on_connect = Some(strategy);
        self
    }

    /// What failed entries of that sync mean.
    #[must_use]
    pub fn on_connect_failure(mut self, on_connect_failure: OnConnectFailure) -> Self {
        self.settings.on_connect_failure = on_connect_failure;
        self
    }

    /// When a read that missed is answered.
    #[must_use]
    pub fn fill(mut self, fill: FillTiming) -> Self {
        self.settings.fill = fill;
        self
    }

    /// What happens to new writes while the oldest pending one is overdue.
    #[must_use]
    pub fn on_overdue(mut self, on_overdue: OnOverdue) -> Self {
        self.settings.on_overdue = on_overdue;
        self
    }

    /// What happens in the store from its first moment on, the sync on connecting among it.
    pub fn subscribe(&self) -> Events {
        self.events.subscribe()
    }

    /// Refuses to build a stack that promises less.
    #[must_use]
    pub fn require(mut self, requirement: Requirement) -> Self {
        self.requirement = Some(requirement);
        self
    }

    /// Declares that this store is the only writer of a backend that could be shared. Write-behind needs it
    /// there; a second writer would lose data.
    #[must_use]
    pub fn declare_sole_writer(mut self) -> Self {
        self.sole_writer = true;
        self
    }

    /// Whether other processes may write to the backend.
    fn others_write(&self) -> bool {
        let is_shared = self.backend.capabilities().sharing() == Sharing::Shared;
        is_shared && !self.sole_writer && self.lease.is_none()
    }

    /// Declares that this store is the only user of a frontend that could be shared, such as a table of a server.
    ///
    /// A frontend belongs to one tiered store. A second one, in another process, would fill it with values older than those
    /// that this store has written, and would decide conditional writes of
    /// [`WritePolicy::FrontendOnly`] beside it. So [`build`](Self::build) refuses a frontend that could be shared without
    /// this declaration; give each process a frontend of its own. Several processes may share the backend.
    ///
    /// # Examples
    /// ```
    /// use std::sync::Arc;
    /// use tiered_core::{MemoryStore, Store as _, TieredStore};
    ///
    /// # async fn example() -> tiered_core::Result<()> {
    /// // In place of the first: a table of Postgres that no other process uses.
    /// let (frontend, backend) = (Arc::new(MemoryStore::new()), Arc::new(MemoryStore::new()));
    /// let store = TieredStore::builder(frontend, backend).declare_private_frontend().build().await?;
    /// # store.close().await }
    /// ```
    #[must_use]
    pub fn declare_private_frontend(mut self) -> Self {
        self.private_frontend = true;
        self
    }

    /// Owns the backend by a lease: a record in it, which every flush replaces conditionally, so that nothing of an owner
    /// that was taken over takes effect any more. For write-behind over a backend with atomic batches that several
    /// processes could write; a standby takes over with [`Lease::TakeOver`]. The key `.tiered/owner` is the record's.
    ///
    /// An owner that was taken over serves nothing any more: its calls fail with [`ErrorKind::Locked`] from the moment
    /// when it notices, at its next flush. What it had acknowledged and not flushed is parked in its journal.
    #[must_use]
    pub fn lease(mut self, lease: Lease) -> Self {
        self.lease = Some(lease);
        self
    }

    /// Declares that nothing writes the backend without this journal, where the backend cannot say so itself since it
    /// keeps no marks: opened without the journal it would take writes that unflushed ones overwrite later.
    #[must_use]
    pub fn declare_sole_journal(mut self) -> Self {
        self.sole_journal = true;
        self
    }

    /// Declares that this store is about to become the backend of another one that has a journal. Without this a backend
    /// that such a journal holds writes for is refused: this store alone would not see them.
    #[must_use]
    pub fn beneath_journal(mut self) -> Self {
        self.tolerates.above = true;
        self
    }

    /// Plants a deliberate bug.
    #[cfg(feature = "planted")]
    #[must_use]
    pub fn plant(mut self, plant: crate::Plant) -> Self {
        self.planted = Planted::new(plant);
        self
    }

    /// Checks that the parts fit, claims the tiers, begins a session, takes over what the journal holds, and runs
    /// `on_connect`.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] for a combination that cannot keep its promises, saying what to change, and outside a
    /// tokio runtime; [`ErrorKind::Locked`] where a tier belongs to another tiered store of this process, or where
    /// another journal holds writes for the backend; else the errors of the tiers.
    ///
    /// # Cancel safety
    /// Dropped half-way, it may leave a persistent frontend marked as in use, which costs a revalidation.
    ///
    /// # Panics
    /// In a tokio runtime without its time driver.
    pub async fn build(self) -> Result<TieredStore> {
        self.check().map_err(|error| error.during(Operation::Open))?;
        let runtime = opening::runtime().map_err(|error| error.during(Operation::Open))?;
        let (front, back) = (self.frontend.capabilities(), self.backend.capabilities());
        let max_stale = match self.settings.max_stale {
            MaxStale::Millis(millis) => Some(Duration::from_millis(millis)),
            MaxStale::Auto if back.sharing() == Sharing::Shared && !self.sole_writer => {
                Some(SHARED_MAX_STALE)
            }
            MaxStale::Auto | MaxStale::Unlimited => None,
        };
        let journal_durability = self.journal.as_ref().map(|journal| journal.durability());
        let (read, write) = (self.settings.read_policy, self.settings.write_policy);
        let mut guarantees =
            Guarantees::of(read, write, front, back, journal_durability, max_stale, self.settings.on_park);
        if let Some(requirement) = self.requirement {
            guarantees.require(requirement)?;
        }
        let capabilities = derive(&self.settings, front, back, &guarantees, self.others_write());
        let borrowed = self.claim_tiers(max_stale).await?;
        let backend_id = self.backend_id.as_deref();
        let session = session::begin(
            &self.frontend,
            &self.backend,
            backend_id,
            self.settings.reopen,
            &self.stamp,
            self.planted,
        )
        .await?;
        let journal_of = match &self.journal {
            Some(journal) if journal.durability() > Durability::Volatile => {
                journal_of(&self.backend, backend_id, self.sole_journal, &self.stamp).await?
            }
            _ => Bytes::new(),
        };
        let tolerates = Tolerates {
            lease_holder: self.lease.is_some(),
            all: write == WritePolicy::FrontendOnly,
            ..self.tolerates
        };
        if self.journal.is_none() {
            guarantees.journals = ownership::check(self.backend.as_ref(), None, tolerates).await?;
        }
        let (behind, appends) = match self.journal {
            Some(journal) if write == WritePolicy::WriteBehind => {
                let atomic = back.has(Feature::AtomicBatch);
                let (behind, appends) = Behind::new(journal, &self.settings, atomic, self.lease);
                (Some(behind), Some(appends))
            }
            _ => (None, None),
        };
        let max_stale_millis =
            max_stale.map_or(u64::MAX, |age| u64::try_from(age.as_millis()).unwrap_or(u64::MAX - 1));
        let engine = Arc::new(Engine {
            alone: back.sharing() == Sharing::Exclusive || self.sole_writer,
            persistent: session::is_persistent(self.frontend.as_ref()),
            frontend: self.frontend,
            backend: self.backend,
            capabilities,
            guarantees,
            slots: Slots::new(session::fresh_session(&self.stamp), self.planted),
            stamp: self.stamp,
            behind,
            counters: Counters::default(),
            events: self.events,
            connected: OnceLock::new(),
            runtime,
            planted: self.planted,
            session: AtomicU64::new(session),
            in_step: Mutex::default(),
            backend_health: Health::new(self.settings.backend_breaker),
            frontend_health: Health::new(self.settings.frontend_breaker),
            max_stale_millis,
            closed: AtomicBool::new(false),
            barred: AtomicBool::new(false),
            busy: Busy::new(),
            closing: Busy::new(),
            leaving: watch::Sender::new(false),
            borrowed: Borrowed::new(borrowed),
            claims: Claims::new(),
            settings: self.settings,
        });
        engine.recover(&journal_of, tolerates).await?;
        if let Some(feed) = engine.feed() {
            engine.runtime.spawn(Arc::clone(&engine).follow(feed));
        }
        if let Some(appends) = appends {
            engine.runtime.spawn(Arc::clone(&engine).append_loop(appends));
            engine.runtime.spawn(Arc::clone(&engine).flush_loop());
        }
        let named = engine.settings.on_connect.map(crate::sync::StrategyName::strategy);
        let store = TieredStore::new(engine);
        if let Some(strategy) = self.on_connect.or(named) {
            store.connect(strategy.as_ref()).await?;
        }
        Ok(store)
    }

    /// Claims both tiers. A store that never writes its backend and looks at it again and again can share it.
    async fn claim_tiers(&self, max_stale: Option<Duration>) -> Result<Vec<Claim>> {
        let mut borrowed = vec![self.frontend.claim(&Scope::Whole).await?];
        if self.settings.write_policy != WritePolicy::FrontendOnly || max_stale.is_none() {
            borrowed.push(self.backend.claim(&Scope::Whole).await?);
        }
        Ok(borrowed)
    }

    fn check(&self) -> Result<()> {
        let refuse = |why: String| Err(Error::new(ErrorKind::Config, why));
        let (front, back) = (self.frontend.capabilities(), self.backend.capabilities());
        let write = self.settings.write_policy;
        if Arc::ptr_eq(&self.frontend, &self.backend) {
            return refuse(
                "frontend and backend are the same store; a tier needs a store of its own".to_owned(),
            );
        }
        if !front.has(Feature::KeepsMetadata) || !front.has(Feature::KeepsNotes) {
            return refuse(format!(
                "{} cannot be a frontend, since it does not keep metadata and notes; make it the backend, and nest stacks to the right: a over (b over c)",
                front.name()
            ));
        }
        if front.sharing() == Sharing::Shared && !self.private_frontend {
            return refuse(format!(
                "a frontend belongs to one tiered store, and {} can be shared; give each process a frontend of its own, and declare it with declare_private_frontend() (private-frontend = true, --private-frontend)",
                front.name()
            ));
        }
        if write == WritePolicy::WriteBehind {
            if self.journal.is_none() {
                return refuse("write-behind needs a journal; give one with journal(…), a VolatileJournal where losing writes is acceptable".to_owned());
            }
            if self.others_write() {
                return refuse(format!(
                    "write-behind needs to be the only writer, and {} can be shared; take a lease(…), or declare_sole_writer() where nobody else writes",
                    back.name()
                ));
            }
            if self.settings.max_pending_operations == 0 || self.settings.max_pending_bytes == 0 {
                return refuse("max-pending-operations and max-pending-bytes must be at least 1".to_owned());
            }
            if self.settings.on_overdue != OnOverdue::Alarm && self.settings.max_pending_age_millis.is_none()
            {
                return refuse(
                    "on-overdue = block or fail needs an age: set max-pending-age-millis".to_owned(),
                );
            }
            if self.lease.is_some() && (!back.has(Feature::AtomicBatch) || !back.has(Feature::ConditionalPut))
            {
                return refuse(format!(
                    "a lease needs atomic batches and conditional puts, which {} lacks; declare_sole_writer() where nobody else writes",
                    back.name()
                ));
            }
            if self.lease.is_some() && self.sole_writer {
                return refuse("a lease is of no use to a sole writer; leave one of them out".to_owned());
            }
        } else if self.lease.is_some() {
            return refuse(format!(
                "a lease is of no use under {write}; leave it out or choose write-behind"
            ));
        } else if self.journal.is_some() {
            return refuse(format!(
                "a journal is of no use under {write}; leave it out or choose write-behind"
            ));
        }
        let writes_through = matches!(write, WritePolicy::WriteThrough | WritePolicy::WriteAround);
        if self.settings.on_unknown == OnUnknown::Drive {
            if !writes_through {
                return refuse(format!("on-unknown = drive is of no use under {write}; leave it out"));
            }
            if !back.has(Feature::ConditionalPut) || !back.has(Feature::ConditionalDelete) {
                return refuse(format!(
                    "on-unknown = drive needs conditional puts and deletes, which {} lacks; report unknown outcomes instead",
                    back.name()
                ));
            }
        }
        for breaker in [self.settings.backend_breaker, self.settings.frontend_breaker].into_iter().flatten() {
            if breaker.failures == 0 || breaker.pause_millis == 0 {
                return refuse("a breaker's failures and pause-millis must be at least 1".to_owned());
            }
        }
        if write == WritePolicy::FrontendOnly && self.settings.frontend_breaker.is_some() {
            return refuse(
                "frontend-breaker is of no use under frontend-only, which cannot do without its frontend; leave it out"
                    .to_owned(),
            );
        }
        if write == WritePolicy::WriteAround && self.settings.read_policy == ReadPolicy::FrontendOnly {
            return refuse(
                "write-around with reads from the frontend alone never sees a write; read frontend-first"
                    .to_owned(),
            );
        }
        if self.settings.frontend_patience_millis == 0 {
            return refuse("frontend-patience-millis must be at least 1".to_owned());
        }
        if self.settings.reopen == Reopen::Trust && back.sharing() == Sharing::Shared && !self.sole_writer {
            return refuse(format!(
                "reopen = trust serves what others may have overwritten in {}; revalidate, or declare_sole_writer()",
                back.name()
            ));
        }
        Ok(())
    }
}

/// The identity of the backend that a durable journal is bound to.
async fn journal_of(
    backend: &Arc<dyn Store>,
    id: Option<&str>,
    sole_journal: bool,
    stamp: &Stamp,
) -> Result<Bytes> {
    let name = backend.capabilities().name();
    let refuse = |message: String| Error::new(ErrorKind::Config, message).during(Operation::Open);
    let identity = session::identity(backend, id, stamp).await?.ok_or_else(|| {
        refuse(format!(
            "a durable journal must know its backend again, and {name} keeps no marks; name it with backend_id(…)"
        ))
    })?;
    if !backend.capabilities().has(Feature::KeepsMarks) && !sole_journal {
        return Err(refuse(format!(
            "{name} keeps no marks, so it cannot tell other stores of the journal; declare_sole_journal() where nothing writes it without the journal"
        )));
    }
    Ok(identity)
}

/// What the stack declares about itself.
fn derive(
    settings: &TieredSettings,
    front: &Capabilities,
    back: &Capabilities,
    guarantees: &Guarantees,
    others_write: bool,
) -> Capabilities {
    let local = settings.write_policy == WritePolicy::FrontendOnly;
    let home = if local { front } else { back };
    let limits = |front: u64, home: u64| if local { front.min(home) } else { home };
    // What only the frontend shows lasts no longer than the frontend, wherever else it is.
    let shown = match settings.read_policy {
        ReadPolicy::FrontendFirst => guarantees.durability,
        ReadPolicy::FrontendOnly => guarantees.durability.min(front.durability()),
    };
    let mut derived = Capabilities::new(format!("{}/{}", front.name(), back.name()), shown, home.sharing())
        .max_key(if local { front.key_limit().min(back.key_limit()) } else { back.key_limit() })
        .max_value(limits(front.value_limit(), home.value_limit()))
        .request_lifetime(home.lifetime());
    let decides = matches!(settings.write_policy, WritePolicy::WriteBehind | WritePolicy::FrontendOnly);
    let lists_front = local || settings.read_policy == ReadPolicy::FrontendOnly;
    let lists = if lists_front { front } else { back };
    for feature in Feature::ALL {
        let has = match feature {
            Feature::ConditionalPut | Feature::ConditionalDelete => decides || home.has(feature),
            Feature::AtomicBatch => !local && back.has(feature),
            Feature::KeepsMetadata | Feature::KeepsMarks | Feature::Changes => home.has(feature),
            Feature::KeepsNotes => false,
            // What others write, the frontend may never have had.
            Feature::Evicts => {
                home.has(feature) || (lists_front && (front.has(feature) || (others_write && !local)))
            }
            // A pending write is in memory, whatever the frontend is.
            Feature::Peeks => front.has(feature) || settings.write_policy == WritePolicy::WriteBehind,
            Feature::ListsMetadata | Feature::ListsExpiry => lists.has(feature),
            Feature::UniqueValidators => back.has(feature),
            // What vanishes with the process is not damaged on a disk.
            Feature::DetectsCorruption => {
                back.has(feature) && (front.has(feature) || front.durability() == Durability::Volatile)
            }
        };
        if has {
            derived = derived.with(feature);
        }
    }
    derived
}
