//! The stores that operations are carried out on, and what outlives their processes.

use std::sync::Arc;
use std::time::Duration;

use arbitrary::Arbitrary;
use tiered_core::adapter::journal::Journal;
use tiered_core::adapter::{Clock as _, Stamp, VersionMint};
use tiered_core::settings::Reopen;
use tiered_core::testing::ManualClock;
use tiered_core::{
    Capabilities, Durability, MemoryStore, Put, ReadPolicy, Store, TieredStore, Timestamp, VolatileJournal,
    WritePolicy,
};
use tiered_journal::{JournalConfig, MemoryFolder};

use super::model::{Held, KEYS, Model, key};

/// A store, or a pair of policies.
#[derive(Arbitrary, Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Memory,
    Through { frontend: Frontend },
    ThroughReadingFrontend,
    Behind { frontend: Frontend, log: Log },
    BehindReadingFrontend { log: Log },
    Around { frontend: Frontend },
    Local,
    LocalReadingFrontend,
}

/// What the frontend is after a process has ended.
#[derive(Arbitrary, Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Frontend {
    Lasting,
    /// As above, and emptied by the next process.
    Cleared,
    /// As above, and believed after a clean close, which there never is here.
    Trusted,
    /// Gone.
    Volatile,
}

#[derive(Arbitrary, Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Log {
    Memory,
    /// The journal's own format, in a folder in memory.
    Files,
}

impl Kind {
    fn policies(self) -> Option<(WritePolicy, ReadPolicy)> {
        use ReadPolicy::{FrontendFirst, FrontendOnly};
        Some(match self {
            Self::Memory => return None,
            Self::Through { .. } => (WritePolicy::WriteThrough, FrontendFirst),
            Self::ThroughReadingFrontend => (WritePolicy::WriteThrough, FrontendOnly),
            Self::Behind { .. } => (WritePolicy::WriteBehind, FrontendFirst),
            Self::BehindReadingFrontend { .. } => (WritePolicy::WriteBehind, FrontendOnly),
            Self::Around { .. } => (WritePolicy::WriteAround, FrontendFirst),
            Self::Local => (WritePolicy::FrontendOnly, FrontendFirst),
            Self::LocalReadingFrontend => (WritePolicy::FrontendOnly, FrontendOnly),
        })
    }

    fn frontend(self) -> Frontend {
        match self {
            Self::Through { frontend } | Self::Behind { frontend, .. } | Self::Around { frontend } => {
                frontend
            }
            _ => Frontend::Lasting,
        }
    }

    /// Whether a read shows what the backend alone has.
    pub(super) fn sees_the_backend(self) -> bool {
        self == Self::Memory || self.policies().is_some_and(|(_, read)| read == ReadPolicy::FrontendFirst)
    }

    /// Whether writes reach the backend.
    pub(super) fn writes_the_backend(self) -> bool {
        self.policies().is_none_or(|(write, _)| write != WritePolicy::FrontendOnly)
    }
}

/// The tiers, and the clock that all share.
pub(super) struct Subject {
    pub(super) kind: Kind,
    pub(super) clock: Arc<ManualClock>,
    stamp: Stamp,
    pub(super) frontend: MemoryStore,
    pub(super) backend: MemoryStore,
    volatile: Arc<VolatileJournal>,
    folder: MemoryFolder,
}

impl Subject {
    pub(super) fn new(kind: Kind) -> Self {
        let clock = Arc::new(ManualClock::new(Timestamp::from_millis(0)));
        let stamp = Stamp::new(clock.clone(), Arc::new(VersionMint::seeded(1)));
        let store = || MemoryStore::with_stamp(stamp.clone());
        // The engine keeps its marks only in a frontend that outlives the process.
        let lasting = |volatile: Capabilities| volatile.with_durability(Durability::PowerLoss);
        let frontend = match kind.frontend() {
            Frontend::Volatile => store(),
            _ => store().declaring(lasting),
        };
        Self {
            kind,
            clock,
            frontend,
            backend: store(),
            volatile: Arc::default(),
            folder: MemoryFolder::new(),
            stamp,
        }
    }

    /// Gives the backend an entry for each bit.
    pub(super) async fn fill(&self, there: u8, model: &mut Model) {
        for number in (0..8).filter(|number| there & 1 << number != 0) {
            let value = model.value(number);
            let written = self.backend.put(&key(number), Put::new(value.clone())).await.expect("written");
            model.put(key(number), Held { value, version: written.version, expires_at: None });
        }
        assert_eq!(KEYS.len(), 8, "a bit for each key");
    }

    /// What a process opens.
    pub(super) async fn open(&self) -> Arc<dyn Store> {
        let Some((write, read)) = self.kind.policies() else { return Arc::new(self.backend.clone()) };
        let (frontend, backend) = (Arc::new(self.frontend.clone()), Arc::new(self.backend.clone()));
        let mut builder = TieredStore::builder(frontend, backend)
            .write_policy(write)
            .read_policy(read)
            .stamp(self.stamp.clone());
        builder = builder.reopen(match self.kind.frontend() {
            Frontend::Lasting | Frontend::Volatile => Reopen::Revalidate,
            Frontend::Cleared => Reopen::Clear,
            Frontend::Trusted => Reopen::Trust,
        });
        let journal: Option<Arc<dyn Journal>> = match self.kind {
            Kind::Behind { log: Log::Memory, .. } | Kind::BehindReadingFrontend { log: Log::Memory } => {
                Some(self.volatile.clone())
            }
            Kind::Behind { log: Log::Files, .. } | Kind::BehindReadingFrontend { log: Log::Files } => {
                let config = JournalConfig::new("").segment_size(64 << 10);
                Some(Arc::new(config.open_in(self.folder.attach()).expect("the settings are right")))
            }
            _ => None,
        };
        if let Some(journal) = journal {
            builder = builder.journal(journal);
        }
        Arc::new(builder.build().await.expect("the parts fit"))
    }

    /// The process has ended, and with it all its tasks.
    pub(super) fn reopened(&mut self) {
        if self.kind.frontend() == Frontend::Volatile {
            self.frontend = MemoryStore::with_stamp(self.stamp.clone());
        }
    }

    /// Whether the backend's entry shows again where a local one over it has expired: a local change lasts as long as
    /// the frontend keeps it.
    pub(super) fn uncovers(&self) -> bool {
        self.kind == Kind::Local && !self.backend.snapshot().is_empty()
    }

    /// Moves the clock; wall time then, in milliseconds.
    pub(super) fn advance(&self, millis: u64) -> u64 {
        self.clock.advance(Duration::from_millis(millis));
        self.clock.now().as_millis()
    }
}
