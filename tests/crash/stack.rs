//! The stacks that are killed.

use std::sync::Arc;

use tiered::adapter::url::{StoreUrl, parse_bytes};
use tiered::journal::{JournalConfig, OsFolder};
use tiered::ownership::Lease;
use tiered::redb::RedbConfig;
use tiered::{Create, Error, ErrorKind, Result, Store, TieredSettings, TieredStore, WriteDurability};

use crate::doomed::{DoomedFolder, DoomedJournal, DoomedTier, Tier};
use crate::refusing::{Leniency, Refusing};
use crate::step::Doom;

/// A stack as data, with `PLACE` for its folder and `POSTGRES` for the server.
#[derive(Debug)]
pub(crate) struct Stack {
    pub(crate) name: &'static str,
    frontend: &'static str,
    backend: &'static str,
    /// Write-behind with a journal on disk, or write-through.
    behind: bool,
    /// The rest of its settings.
    policy: &'static str,
    /// Whether its backend refuses some values.
    pub(crate) refuses: bool,
    /// Calls that it never makes, and why.
    never: &'static [Never],
}

/// A call, or with a dot at the end all calls of a part, and why they are not made.
type Never = (&'static str, &'static str);

/// A stack that is open.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) store: TieredStore,
    /// Its backend, past everything that refuses or ends.
    pub(crate) inner: Arc<dyn Store>,
    /// What the backend takes although it would refuse it.
    pub(crate) leniency: Leniency,
}

const IN_BATCHES: Never = ("backend.put", "what is journaled is flushed in batches");
const DELETED_IN_BATCHES: Never = ("backend.delete", "what is journaled is flushed in batches");
const BY_KEY: Never = ("frontend.apply", "the engine changes a frontend key by key");
const NOT_LISTED: Never = ("frontend.list", "only clearing and synchronising lists a frontend");
const NO_HEADS: Never = ("frontend.head", "the engine reads a frontend's entries whole");
const NOT_FLUSHED: Never = ("frontend.flush", "flushing is the backend's matter, and closing flushes");
const KEEPS_NO_MARKS: Never = ("frontend.mark", "a frontend in memory has no session");
const SETS_NO_MARKS: Never = ("frontend.set_mark", "a frontend in memory has no session");
const NO_NEW_IDENTITY: Never =
    ("backend.set_mark", "neither a journal nor a frontend is bound to the backend");
const TAKES_ALL: Never = ("journal.set_aside", "the backend refuses nothing");
const NO_JOURNAL: [Never; 3] =
    [("journal.", "it has no journal"), ("folder.", "it has no journal"), ("file.", "it has no journal")];

/// Small bounds and buffers, so that much happens in little time.
pub(crate) const ALL: &[Stack] = &[
    Stack {
        name: "moka/journal/redb",
        frontend: "moka:?capacity=1MiB",
        backend: "redb:PLACE/back.redb",
        behind: true,
        policy: "max-pending-operations = 200",
        refuses: false,
        never: &[
            IN_BATCHES,
            DELETED_IN_BATCHES,
            BY_KEY,
            NOT_LISTED,
            NO_HEADS,
            NOT_FLUSHED,
            KEEPS_NO_MARKS,
            SETS_NO_MARKS,
            TAKES_ALL,
        ],
    },
    Stack {
        name: "moka/journal/refusing",
        frontend: "moka:?capacity=1MiB",
        backend: "redb:PLACE/back.redb",
        behind: true,
        policy: "max-pending-operations = 200\non-park = 'skip'",
        refuses: true,
        never: &[
            IN_BATCHES,
            DELETED_IN_BATCHES,
            BY_KEY,
            NOT_LISTED,
            NO_HEADS,
            NOT_FLUSHED,
            KEEPS_NO_MARKS,
            SETS_NO_MARKS,
        ],
    },
    Stack {
        name: "moka/journal/halting",
        frontend: "moka:?capacity=1MiB",
        backend: "redb:PLACE/back.redb",
        behind: true,
        policy: "max-pending-operations = 200\non-park = 'halt'",
        refuses: true,
        never: &[
            IN_BATCHES,
            DELETED_IN_BATCHES,
            BY_KEY,
            NOT_LISTED,
            NO_HEADS,
            NOT_FLUSHED,
            KEEPS_NO_MARKS,
            SETS_NO_MARKS,
        ],
    },
    Stack {
        name: "redb/redb",
        frontend: "redb:PLACE/front.redb?durability=buffer",
        backend: "redb:PLACE/back.redb",
        behind: false,
        policy: "reopen = 'trust'",
        refuses: false,
        never: &[BY_KEY, NOT_LISTED, NO_HEADS, NOT_FLUSHED, NO_JOURNAL[0], NO_JOURNAL[1], NO_JOURNAL[2]],
    },
    Stack {
        name: "bounded/redb",
        // Room for a few large values, in blocks.
        frontend: "redb:PLACE/front.redb?durability=buffer&capacity=4MiB",
        backend: "redb:PLACE/back.redb",
        behind: false,
        policy: "max-fill = '1MiB'",
        refuses: false,
        never: &[BY_KEY, NO_HEADS, NOT_FLUSHED, NO_JOURNAL[0], NO_JOURNAL[1], NO_JOURNAL[2]],
    },
    Stack {
        name: "moka/redb",
        frontend: "moka:?capacity=1MiB",
        backend: "redb:PLACE/back.redb",
        behind: false,
        policy: "",
        refuses: false,
        never: &[
            BY_KEY,
            NOT_LISTED,
            NO_HEADS,
            NOT_FLUSHED,
            KEEPS_NO_MARKS,
            SETS_NO_MARKS,
            NO_NEW_IDENTITY,
            NO_JOURNAL[0],
            NO_JOURNAL[1],
            NO_JOURNAL[2],
        ],
    },
    #[cfg(feature = "rocksdb")]
    Stack {
        name: "redb/journal/rocksdb",
        frontend: "redb:PLACE/front.redb?durability=buffer",
        backend: "rocksdb:PLACE/back",
        behind: true,
        policy: "reopen = 'trust'\nmax-pending-operations = 200",
        refuses: false,
        never: &[IN_BATCHES, DELETED_IN_BATCHES, BY_KEY, NOT_LISTED, NO_HEADS, NOT_FLUSHED, TAKES_ALL],
    },
    #[cfg(feature = "postgres")]
    Stack {
        name: "moka/journal/postgres",
        frontend: "moka:?capacity=1MiB",
        backend: "POSTGRES",
        behind: true,
        policy: "max-pending-operations = 200",
        refuses: false,
        never: &[
            DELETED_IN_BATCHES,
            BY_KEY,
            NOT_LISTED,
            NO_HEADS,
            NOT_FLUSHED,
            KEEPS_NO_MARKS,
            SETS_NO_MARKS,
            TAKES_ALL,
        ],
    },
    #[cfg(feature = "postgres")]
    Stack {
        name: "redb/postgres",
        frontend: "redb:PLACE/front.redb?durability=buffer",
        backend: "POSTGRES",
        behind: false,
        policy: "reopen = 'trust'",
        refuses: false,
        never: &[BY_KEY, NOT_LISTED, NO_HEADS, NOT_FLUSHED, NO_JOURNAL[0], NO_JOURNAL[1], NO_JOURNAL[2]],
    },
];

impl Stack {
    pub(crate) fn named(name: &str) -> Option<&'static Self> {
        ALL.iter().find(|stack| stack.name == name)
    }

    /// Why it never makes this call, where it does not.
    pub(crate) fn never(&self, call: &str) -> Option<&'static str> {
        let pinned = self
            .never
            .iter()
            .find(|(never, _)| if never.ends_with('.') { call.starts_with(never) } else { call == *never });
        pinned.map(|(_, why)| *why)
    }

    /// Whether its backend is a server.
    pub(crate) fn is_remote(&self) -> bool {
        self.backend == "POSTGRES"
    }

    /// Whether nothing is flushed behind a refused write.
    pub(crate) fn halts(&self) -> bool {
        self.policy.contains("halt")
    }

    fn policy(&self) -> String {
        let write = if self.behind { "write-behind" } else { "write-through" };
        format!("write-policy = '{write}'\n{}", self.policy)
    }

    /// Opens the stack whose files are at `place`: as a user does, or with its parts wrapped where the process is to end
    /// at a step.
    pub(crate) async fn open(&self, place: &str, doom: &Doom) -> Result<Opened> {
        if doom.is_sealed() || self.refuses {
            return self.assemble(place, doom).await;
        }
        let journal = if self.behind { format!("journal = '{place}/journal'\n") } else { String::new() };
        let owner = match () {
            () if self.is_leased() => "lease = 'acquire'\n",
            () if self.is_remote() => "sole-writer = true\n",
            () => "",
        };
        let settings = format!(
            "{journal}{owner}[frontend]\nurl = '{}'\n[backend]\nurl = '{}'\n[policy]\n{}",
            fill(self.frontend, place),
            fill(self.backend, place),
            self.policy()
        );
        let store = tiered::Stack::from_toml(&settings)?.open_tiered(Create::IfAbsent).await?;
        let inner = Arc::clone(store.backend());
        Ok(Opened { store, inner, leniency: Leniency::default() })
    }

    async fn assemble(&self, place: &str, doom: &Doom) -> Result<Opened> {
        let leniency = Leniency::default();
        let config = |why: String| Error::new(ErrorKind::Config, why);
        let settings: TieredSettings =
            toml::from_str(&self.policy()).map_err(|error| config(error.to_string()))?;
        let mut journal = None;
        if self.behind {
            let folder = OsFolder::open(std::path::Path::new(&format!("{place}/journal")))
                .map_err(|error| config(error.to_string()))?;
            // Small segments, so that some begin and some are removed.
            let opened = JournalConfig::new(place)
                .segment_size(64 << 10)
                .open_in(Arc::new(DoomedFolder::new(folder, doom)))?;
            journal = Some(Arc::new(DoomedJournal::new(opened, doom)));
        }
        let inner = open_by_adapter(&fill(self.backend, place)).await?;
        let backend: Arc<dyn Store> = if self.refuses {
            Arc::new(Refusing::over(Arc::clone(&inner), &leniency))
        } else {
            Arc::clone(&inner)
        };
        let frontend = open_by_adapter(&fill(self.frontend, place)).await?;
        let mut builder = TieredStore::builder(
            DoomedTier::over(frontend, Tier::Frontend, doom),
            DoomedTier::over(backend, Tier::Backend, doom),
        )
        .settings(settings);
        if let Some(journal) = journal {
            builder = builder.journal(journal);
        }
        if self.is_leased() {
            builder = builder.lease(Lease::Acquire);
        } else if self.is_remote() {
            builder = builder.declare_sole_writer();
        }
        Ok(Opened { store: builder.build().await?, inner, leniency })
    }

    /// Whether it owns its backend by a lease: nothing that a killed process has sent arrives later.
    fn is_leased(&self) -> bool {
        self.behind && self.is_remote()
    }

    /// Its backend alone.
    pub(crate) async fn open_backend(&self, place: &str) -> Result<Arc<dyn Store>> {
        tiered::open(&fill(self.backend, place), Create::Never).await
    }

    /// The backend under a stack without a journal, as a process opens it that does not know of the journal.
    pub(crate) async fn open_alone(&self, place: &str) -> Result<TieredStore> {
        let frontend = tiered::open("memory:", Create::IfAbsent).await?;
        let backend = tiered::open(&fill(self.backend, place), Create::IfAbsent).await?;
        let builder = TieredStore::builder(frontend, backend);
        if self.is_remote() { builder.declare_sole_writer() } else { builder }.build().await
    }

    /// Whether it has a journal.
    pub(crate) fn has_journal(&self) -> bool {
        self.behind
    }

    /// Waits until the server has noticed the death of the last process: otherwise what that one had sent comes after
    /// the next one's look.
    #[cfg_attr(not(feature = "postgres"), expect(clippy::unused_self, reason = "no server"))]
    pub(crate) fn wait_for_quiet(&self) {
        #[cfg(feature = "postgres")]
        if self.is_remote() && !self.is_leased() {
            postgres(
                "DO $$ BEGIN WHILE EXISTS (SELECT FROM pg_stat_activity WHERE application_name = 'tiered') \
                 LOOP PERFORM pg_sleep(0.002); PERFORM pg_stat_clear_snapshot(); END LOOP; END $$",
            );
        }
    }

    /// Removes what is not in the folder.
    #[cfg_attr(
        not(feature = "postgres"),
        expect(unused_variables, clippy::unused_self, reason = "all is in the folder")
    )]
    pub(crate) fn tidy_up(&self, place: &str) {
        #[cfg(feature = "postgres")]
        if self.is_remote() {
            postgres(&format!("DROP SCHEMA IF EXISTS {} CASCADE", schema(place)));
        }
    }
}

/// Opens a store as a program does that knows its adapter: what opens a URL gives the store its identity, here the engine
/// does, and a process may end there.
async fn open_by_adapter(url: &str) -> Result<Arc<dyn Store>> {
    let mut parsed = StoreUrl::parse(url)?;
    Ok(match parsed.scheme() {
        "redb" => {
            let durability = match parsed.take("durability").as_deref() {
                Some("buffer") => WriteDurability::Buffer,
                _ => WriteDurability::Sync,
            };
            let mut config = RedbConfig::new(parsed.path()).durability(durability);
            if let Some(capacity) = parsed.take("capacity") {
                config = config.capacity(parse_bytes(&capacity)?);
            }
            Arc::new(config.open().await?)
        }
        #[cfg(feature = "rocksdb")]
        "rocksdb" => Arc::new(tiered::rocksdb::RocksdbConfig::new(parsed.path()).open().await?),
        #[cfg(feature = "postgres")]
        "postgres" | "postgresql" => {
            let schema = parsed.take("schema").unwrap_or_default();
            let server = tiered_services::Service::Postgres.required();
            let config = tiered::postgres::PostgresConfig::from_url(&server)?;
            Arc::new(config.schema(&schema).open().await?)
        }
        _ => tiered::open(url, Create::IfAbsent).await?,
    })
}

fn fill(url: &str, place: &str) -> String {
    #[cfg(feature = "postgres")]
    if url == "POSTGRES" {
        let url = tiered_services::Service::Postgres.required();
        let and = if url.contains('?') { '&' } else { '?' };
        return format!("{url}{and}schema={}", schema(place));
    }
    url.replace("PLACE", place)
}

/// A schema's name from that of the folder.
#[cfg(feature = "postgres")]
fn schema(place: &str) -> String {
    let name = place.chars().filter(char::is_ascii_alphanumeric).collect::<String>().to_lowercase();
    format!("tiered_crash_{name}")
}

#[cfg(feature = "postgres")]
fn postgres(statement: &str) {
    use tiered::postgres::sqlx::{AssertSqlSafe, Connection as _, PgConnection, raw_sql};
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let url = tiered_services::Service::Postgres.required();
        let mut connection = PgConnection::connect(&url).await.expect("connects");
        raw_sql(AssertSqlSafe(statement.to_owned())).execute(&mut connection).await.expect("runs");
    });
}
