//! Building a tiered store: the rooms, from the ground up.

mod changes;
mod setters;

use std::sync::Arc;

use bytes::Bytes;

use super::{Rooms, TieredStore};
use crate::adapter::opening;
use crate::capability::{Durability, Feature};
use crate::claim::{Claim, Scope};
use crate::clock::Stamp;
use crate::door::Door;
use crate::error::{Error, ErrorKind, Operation, Result};
use crate::frontend::{Frontend, Sessions, fresh_seed};
use crate::hooks::{Hook, Hooks};
use crate::journal::{IntoJournal, Journal};
use crate::observe::{EventSender, Events, Recorder};
use crate::ownership::{self, Lease, Tolerates};
use crate::parts::Parts;
use crate::plan::guarantee::{Guarantees, Requirement};
use crate::plan::{Declared, Plan, WriteRoute};
use crate::reader::Reader;
use crate::settings::TieredSettings;
use crate::slot::Slots;
use crate::store::{AsStore, Store};
use crate::sync::{StrategyName, SyncStrategy};
use crate::tasks::Tasks;
use crate::tier::Tier;
use crate::turn::Turns;
use crate::write_behind::WriteBehind;
use crate::writer::{Local, Through, Writer, Writes};
use changes::Changes;

/// Builds a [`TieredStore`].
///
/// # Examples
/// ```
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// use std::time::Duration;
/// use tiered_core::{MemoryStore, Requirement, Store, TieredStore, WritePolicy};
///
/// let store = TieredStore::builder(MemoryStore::new(), MemoryStore::new())
///     .write_policy(WritePolicy::WriteAround)
///     .max_stale(Duration::from_secs(5))
///     .require(Requirement::Linearizable)
///     .build()
///     .await?;
/// store.close().await?;
/// # Ok::<(), tiered_core::Error>(()) }).unwrap();
/// ```
#[derive(Debug)]
pub struct TieredBuilder {
    frontend: Arc<dyn Store>,
    backend: Arc<dyn Store>,
    settings: TieredSettings,
    changes: Changes,
    stamp: Stamp,
    journal: Option<Arc<dyn Journal>>,
    backend_id: Option<String>,
    on_connect: Option<Arc<dyn SyncStrategy>>,
    recorder: Arc<Recorder>,
    hooks: Arc<Hooks>,
    requirement: Option<Requirement>,
    declared: Declared,
    sole_journal: bool,
    tolerates: Tolerates,
}

impl TieredStore {
    /// Begins to build a store of these two tiers.
    ///
    /// # Examples
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// use std::sync::Arc;
    /// use tiered_core::{MemoryStore, Store, TieredStore};
    ///
    /// // A store by itself, or shared.
    /// let backend: Arc<dyn Store> = Arc::new(MemoryStore::new());
    /// let store = TieredStore::builder(MemoryStore::new(), backend).build().await?;
    /// # Ok::<(), tiered_core::Error>(()) }).unwrap();
    /// ```
    pub fn builder(frontend: impl AsStore, backend: impl AsStore) -> TieredBuilder {
        TieredBuilder::new(frontend.into_store(), backend.into_store())
    }
}

impl TieredBuilder {
    fn new(frontend: Arc<dyn Store>, backend: Arc<dyn Store>) -> Self {
        let recorder = Arc::new(Recorder::new(EventSender::new()));
        Self {
            hooks: Hooks::new(Arc::clone(&recorder)),
            recorder,
            frontend,
            backend,
            settings: TieredSettings::default(),
            changes: Changes::default(),
            stamp: Stamp::system(),
            journal: None,
            backend_id: None,
            on_connect: None,
            requirement: None,
            declared: Declared::default(),
            sole_journal: false,
            tolerates: Tolerates::default(),
        }
    }

    /// All settings at once, but for those that single methods of this builder set, before or after.
    ///
    /// # Examples
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// use tiered_core::{MemoryStore, TieredSettings, TieredStore, WritePolicy};
    ///
    /// let from_a_file = TieredSettings::default();
    /// let builder = TieredStore::builder(MemoryStore::new(), MemoryStore::new())
    ///     .write_policy(WritePolicy::WriteAround)
    ///     .settings(from_a_file);
    /// // The method wins, although it was called first.
    /// assert_eq!(builder.build().await?.settings().write_policy, WritePolicy::WriteAround);
    /// # Ok::<(), tiered_core::Error>(()) }).unwrap();
    /// ```
    #[must_use]
    pub fn settings(mut self, settings: TieredSettings) -> Self {
        self.settings = settings;
        self
    }

    /// The journal of a write-behind store.
    ///
    /// # Examples
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// use tiered_core::{MemoryStore, TieredStore, VolatileJournal, WritePolicy};
    ///
    /// // In place of this journal: that of `tiered-journal`, which is on disk.
    /// let store = TieredStore::builder(MemoryStore::new(), MemoryStore::new())
    ///     .write_policy(WritePolicy::WriteBehind)
    ///     .journal(VolatileJournal::new())
    ///     .build()
    ///     .await?;
    /// # Ok::<(), tiered_core::Error>(()) }).unwrap();
    /// ```
    #[must_use]
    pub fn journal(mut self, journal: impl IntoJournal) -> Self {
        let journal = journal.into_journal();
        self.declared.journal(journal.durability());
        self.journal = Some(journal);
        self
    }

    /// The clock and the source of versions. Each tier judges expiry by a clock of its own: a test that moves time by hand
    /// gives the same stamp to the tiers' configurations as well.
    ///
    /// # Examples
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// use tiered_core::adapter::Stamp;
    /// use tiered_core::{MemoryStore, TieredStore};
    ///
    /// // One clock for the whole stack.
    /// let stamp = Stamp::system();
    /// let tier = || MemoryStore::with_stamp(stamp.clone());
    /// let store = TieredStore::builder(tier(), tier()).stamp(stamp.clone()).build().await?;
    /// # Ok::<(), tiered_core::Error>(()) }).unwrap();
    /// ```
    #[must_use]
    pub fn stamp(mut self, stamp: Stamp) -> Self {
        self.stamp = stamp;
        self
    }

    /// A name for the backend, by which a persistent frontend recognises it, instead of a mark in the backend.
    ///
    /// # Examples
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// use tiered_core::{MemoryStore, TieredStore};
    ///
    /// let store = TieredStore::builder(MemoryStore::new(), MemoryStore::new()).backend_id("orders").build().await?;
    /// # Ok::<(), tiered_core::Error>(()) }).unwrap();
    /// ```
    #[must_use]
    pub fn backend_id(mut self, id: &str) -> Self {
        self.backend_id = Some(id.to_owned());
        self
    }

    /// A strategy to run from backend to frontend before the store is handed out.
    ///
    /// # Examples
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// use tiered_core::sync::PopulateMissing;
    /// use tiered_core::{MemoryStore, StoreExt, TieredStore};
    ///
    /// let backend = MemoryStore::new();
    /// backend.set("users/42", "Ada").await?;
    /// let store = TieredStore::builder(MemoryStore::new(), backend).on_connect(PopulateMissing).build().await?;
    /// assert!(store.frontend().contains("users/42").await?);
    /// # Ok::<(), tiered_core::Error>(()) }).unwrap();
    /// ```
    #[must_use]
    pub fn on_connect(mut self, strategy: impl SyncStrategy) -> Self {
        self.on_connect = Some(Arc::new(strategy));
        self
    }

    /// What happens in the store from its first moment on, the sync on connecting among it.
    ///
    /// # Examples
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// use tiered_core::{Event, MemoryStore, StoreExt, TieredStore};
    /// use tiered_core::sync::PopulateMissing;
    ///
    /// let backend = MemoryStore::new();
    /// backend.set("users/42", "Ada").await?;
    /// let builder = TieredStore::builder(MemoryStore::new(), backend).on_connect(PopulateMissing);
    /// let mut events = builder.subscribe();
    /// let store = builder.build().await?;
    /// assert!(matches!(events.next().await, Some(Event::Filled { .. })));
    /// # Ok::<(), tiered_core::Error>(()) }).unwrap();
    /// ```
    pub fn subscribe(&self) -> Events {
        self.recorder.subscribe()
    }

    /// A [hook](crate::hooks) of the store from its first moment on. Several run in the order in which they were added.
    ///
    /// # Examples
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// use tiered_core::hooks::{self, Mutation};
    /// use tiered_core::{Error, ErrorKind, MemoryStore, StoreExt, TieredStore};
    ///
    /// let store = TieredStore::builder(MemoryStore::new(), MemoryStore::new())
    ///     .hook(hooks::before(|mutation: &Mutation| match mutation.key().as_str().starts_with("users/") {
    ///         true => Ok(()),
    ///         false => Err(Error::new(ErrorKind::InvalidKey, "this store keeps users alone")),
    ///     }))
    ///     .build()
    ///     .await?;
    /// assert!(store.set("orders/1", "").await.is_err());
    /// # Ok::<(), tiered_core::Error>(()) }).unwrap();
    /// ```
    #[must_use]
    pub fn hook(self, hook: impl Hook) -> Self {
        // It stays for as long as the store.
        drop(self.hooks.add(Box::new(hook)));
        self
    }

    /// Refuses to build a stack that promises less.
    ///
    /// # Examples
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// use tiered_core::{MemoryStore, Requirement, TieredStore};
    ///
    /// let store = TieredStore::builder(MemoryStore::new(), MemoryStore::new()).require(Requirement::Strict);
    /// assert!(store.build().await.is_err(), "memory does not survive a kill");
    /// # Ok::<(), tiered_core::Error>(()) }).unwrap();
    /// ```
    #[must_use]
    pub fn require(mut self, requirement: Requirement) -> Self {
        self.requirement = Some(requirement);
        self
    }

    /// Declares that this store is the only writer of a backend that could be shared. Write-behind needs it
    /// there; a second writer would lose data.
    ///
    /// # Examples
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// use tiered_core::{MemoryStore, Sharing, Staleness, TieredStore};
    ///
    /// // As a table of a server, which other processes could write.
    /// let backend = MemoryStore::new().declaring(|all| all.with_sharing(Sharing::Shared));
    /// let store = TieredStore::builder(MemoryStore::new(), backend).declare_sole_writer().build().await?;
    /// assert_eq!(store.guarantees().max_stale, Staleness::None);
    /// # Ok::<(), tiered_core::Error>(()) }).unwrap();
    /// ```
    #[must_use]
    pub fn declare_sole_writer(mut self) -> Self {
        self.declared.sole_writer();
        self
    }

    /// Declares that this store is the only user of a frontend that could be shared, such as a table of a server.
    ///
    /// A frontend belongs to one tiered store. A second one, in another process, would fill it with values older than those
    /// that this store has written, and would decide conditional writes of
    /// [`WritePolicy::FrontendOnly`](crate::WritePolicy::FrontendOnly) beside it. So [`build`](Self::build) refuses a
    /// frontend that could be shared without this declaration; give each process a frontend of its own. Several processes
    /// may share the backend.
    ///
    /// # Examples
    /// ```
    /// use tiered_core::{MemoryStore, Store as _, TieredStore};
    ///
    /// # async fn example() -> tiered_core::Result<()> {
    /// // In place of the first: a table of Postgres that no other process uses.
    /// let (frontend, backend) = (MemoryStore::new(), MemoryStore::new());
    /// let store = TieredStore::builder(frontend, backend).declare_private_frontend().build().await?;
    /// # store.close().await }
    /// ```
    #[must_use]
    pub fn declare_private_frontend(mut self) -> Self {
        self.declared.private_frontend();
        self
    }

    /// Owns the backend by a lease: a record in it, which every flush replaces conditionally, so that nothing of an owner
    /// that was taken over takes effect any more. For write-behind over a backend with atomic batches that several
    /// processes could write; a standby takes over with [`Lease::TakeOver`]. The key `.tiered/owner` is the record's.
    ///
    /// An owner that was taken over serves nothing any more: its calls fail with [`ErrorKind::Locked`] from the moment
    /// when it notices, at its next flush. What it had acknowledged and not flushed is parked in its journal.
    ///
    /// # Examples
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// use tiered_core::ownership::Lease;
    /// use tiered_core::{MemoryStore, Sharing, TieredStore, VolatileJournal, WritePolicy};
    ///
    /// let backend = MemoryStore::new().declaring(|all| all.with_sharing(Sharing::Shared));
    /// let builder = TieredStore::builder(MemoryStore::new(), backend)
    ///     .write_policy(WritePolicy::WriteBehind)
    ///     .journal(VolatileJournal::new())
    ///     .lease(Lease::Acquire);
    /// # Ok::<(), tiered_core::Error>(()) }).unwrap();
    /// ```
    #[must_use]
    pub fn lease(mut self, lease: Lease) -> Self {
        self.declared.lease(lease);
        self
    }

    /// Declares that nothing writes the backend without this journal, where the backend cannot say so itself since it
    /// keeps no marks: opened without the journal it would take writes that unflushed ones overwrite later.
    ///
    /// # Examples
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// use tiered_core::{MemoryStore, TieredStore, VolatileJournal, WritePolicy};
    ///
    /// let store = TieredStore::builder(MemoryStore::new(), MemoryStore::new())
    ///     .write_policy(WritePolicy::WriteBehind)
    ///     .journal(VolatileJournal::new())
    ///     .backend_id("orders")
    ///     .declare_sole_journal()
    ///     .build()
    ///     .await?;
    /// # Ok::<(), tiered_core::Error>(()) }).unwrap();
    /// ```
    #[must_use]
    pub fn declare_sole_journal(mut self) -> Self {
        self.sole_journal = true;
        self
    }

    /// Declares that this store is about to become the backend of another one that has a journal. Without this a backend
    /// that such a journal holds writes for is refused: this store alone would not see them.
    ///
    /// # Examples
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// use tiered_core::{MemoryStore, TieredStore, VolatileJournal, WritePolicy};
    ///
    /// let below = TieredStore::builder(MemoryStore::new(), MemoryStore::new()).beneath_journal().build().await?;
    /// let above = TieredStore::builder(MemoryStore::new(), below)
    ///     .write_policy(WritePolicy::WriteBehind)
    ///     .journal(VolatileJournal::new())
    ///     .build()
    ///     .await?;
    /// # Ok::<(), tiered_core::Error>(()) }).unwrap();
    /// ```
    #[must_use]
    pub fn beneath_journal(mut self) -> Self {
        self.tolerates = self.tolerates.above();
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
    ///
    /// # Examples
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// use tiered_core::{ErrorKind, MemoryStore, TieredStore};
    ///
    /// let tier = MemoryStore::new();
    /// let error = TieredStore::builder(tier.clone(), tier).build().await.expect_err("one store is no two tiers");
    /// assert_eq!(error.kind(), ErrorKind::Locked);
    /// # Ok::<(), tiered_core::Error>(()) }).unwrap();
    /// ```
    pub async fn build(mut self) -> Result<TieredStore> {
        self.changes.apply(&mut self.settings);
        let plan = Arc::new(self.plan()?);
        let runtime = opening::runtime().map_err(|error| error.during(Operation::Open))?;
        let tasks = Tasks::new(runtime, self.claim_tiers(&plan).await?);
        let id = self.identity().await?;
        let sessions =
            Sessions::begin(self.frontend.as_ref(), id.clone(), self.settings.reopen, &self.stamp).await?;
        let journal_of = self.journal_of(id)?;
        let tolerates = self.tolerated(&plan);
        let mut guarantees = plan.guarantees().clone();
        if self.journal.is_none() {
            guarantees.see(ownership::check(self.backend.as_ref(), None, tolerates).await?);
        }
        let on_connect = self.on_connect.take();
        let named = self.settings.on_connect.map(StrategyName::strategy);
        let rooms = self.into_rooms(plan, guarantees, sessions, tasks);
        if let Some(behind) = rooms.writes.behind() {
            behind.recover(&journal_of, tolerates).await?;
        }
        rooms.start();
        let store = TieredStore::new(rooms);
        if let Some(strategy) = on_connect.or(named) {
            store.connect(strategy.as_ref()).await?;
        }
        Ok(store)
    }

    /// The plan of the stack.
    fn plan(&self) -> Result<Plan> {
        if Arc::ptr_eq(&self.frontend, &self.backend) {
            return Err(Error::new(
                ErrorKind::Config,
                "frontend and backend are the same store; a tier needs a store of its own",
            )
            .during(Operation::Open));
        }
        let (frontend, backend) = (self.frontend.capabilities(), self.backend.capabilities());
        let plan = Plan::of(self.settings.clone(), self.declared, frontend, backend)?;
        if let Some(requirement) = self.requirement {
            plan.guarantees().require(requirement)?;
        }
        Ok(plan)
    }

    async fn claim_tiers(&self, plan: &Plan) -> Result<Vec<Claim>> {
        let mut claims = vec![self.frontend.claim(&Scope::Whole).await?];
        if plan.claims_backend() {
            claims.push(self.backend.claim(&Scope::Whole).await?);
        }
        Ok(claims)
    }

    fn has_durable_journal(&self) -> bool {
        self.journal.as_ref().is_some_and(|journal| journal.durability() > Durability::Volatile)
    }

    /// The identity of the backend, where a frontend or a journal that outlives the process must know it again.
    async fn identity(&self) -> Result<Option<Bytes>> {
        if !self.has_durable_journal() && !Sessions::bind_to_backend(self.frontend.capabilities()) {
            return Ok(None);
        }
        ownership::identity(self.backend.as_ref(), self.backend_id.as_deref(), &self.stamp).await
    }

    /// The identity of the backend that a durable journal is bound to.
    fn journal_of(&self, id: Option<Bytes>) -> Result<Bytes> {
        if !self.has_durable_journal() {
            return Ok(Bytes::new());
        }
        let backend = self.backend.capabilities();
        let name = backend.name();
        let refuse = |message: String| Error::new(ErrorKind::Config, message).during(Operation::Open);
        let identity = id.ok_or_else(|| {
            refuse(format!(
                "a durable journal must know its backend again, and {name} keeps no marks; name it with backend_id(…)"
            ))
        })?;
        if !backend.has(Feature::KeepsMarks) && !self.sole_journal {
            return Err(refuse(format!(
                "{name} keeps no marks, so it cannot tell other stores of the journal; declare_sole_journal() where nothing writes it without the journal"
            )));
        }
        Ok(identity)
    }

    fn tolerated(&self, plan: &Plan) -> Tolerates {
        let tolerates = if plan.lease().is_some() { self.tolerates.lease_holder() } else { self.tolerates };
        if plan.writes_backend() { tolerates } else { tolerates.all() }
    }

    /// Builds the rooms, each from those below it.
    fn into_rooms(
        self,
        plan: Arc<Plan>,
        guarantees: Guarantees,
        sessions: Sessions,
        tasks: Tasks,
    ) -> Arc<Rooms> {
        let (stamp, recorder, hooks) = (self.stamp, self.recorder, self.hooks);
        let slots = Slots::new(fresh_seed(&stamp));
        let parts = Parts::new(plan, slots, stamp, tasks, recorder, hooks);
        let plan = parts.plan();
        let tier = |store, breaker| Tier::new(store, breaker, parts.stamp(), parts.recorder());
        let backend = Arc::new(tier(self.backend, plan.settings().backend_breaker));
        let frontend = tier(self.frontend, plan.settings().frontend_breaker);
        let frontend = Frontend::new(&parts, frontend, sessions);
        let reader = Reader::new(&parts, Arc::clone(&frontend), Arc::clone(&backend));
        let door = Arc::new(Door::new(plan.capabilities().name(), parts.hooks()));
        let turns = Turns::new(&parts, Arc::clone(&door));
        let (near, far, turns_of) = (Arc::clone(&frontend), Arc::clone(&backend), Arc::clone(&turns));
        let writer = match (plan.route(), self.journal) {
            (WriteRoute::Behind, Some(journal)) => {
                let door = Arc::clone(&door);
                Writer::Behind(WriteBehind::new(&parts, door, near, far, turns_of, journal))
            }
            (WriteRoute::Through(on_unknown), _) => {
                Writer::Through(Through::new(&parts, on_unknown, near, far, turns_of))
            }
            // The plan refuses write-behind without a journal.
            (WriteRoute::Local | WriteRoute::Behind, _) => {
                Writer::Local(Local::new(&parts, near, far, turns_of))
            }
        };
        let writing = Writes::new(writer, parts.plan(), turns, parts.stamp());
        Rooms::new(&parts, guarantees, door, frontend, backend, reader, writing)
    }
}
