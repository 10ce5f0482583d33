//! The stacks that are killed.

use tiered::{Create, Result, Store, TieredStore};

/// A stack, as settings with `PLACE` for its folder and `SCHEMA` for its schema.
#[derive(Debug)]
pub(crate) struct Stack {
    pub(crate) name: &'static str,
    settings: &'static str,
    backend: &'static str,
}

/// Small bounds and buffers, so that much happens in little time.
pub(crate) const ALL: &[Stack] = &[
    Stack {
        name: "moka/journal/redb",
        settings: "journal = 'PLACE/journal'\n\
            [frontend]\nurl = 'moka:?capacity=1MiB'\n\
            [backend]\nurl = 'redb:PLACE/back.redb'\n\
            [policy]\nwrite-policy = 'write-behind'\nmax-pending-operations = 200",
        backend: "redb:PLACE/back.redb",
    },
    #[cfg(feature = "rocksdb")]
    Stack {
        name: "redb/journal/rocksdb",
        settings: "journal = 'PLACE/journal'\n\
            [frontend]\nurl = 'redb:PLACE/front.redb?durability=buffer'\n\
            [backend]\nurl = 'rocksdb:PLACE/back'\n\
            [policy]\nwrite-policy = 'write-behind'\nreopen = 'trust'\nmax-pending-operations = 200",
        backend: "rocksdb:PLACE/back",
    },
    #[cfg(feature = "postgres")]
    Stack {
        name: "moka/journal/postgres",
        settings: "journal = 'PLACE/journal'\nsole-writer = true\n\
            [frontend]\nurl = 'moka:?capacity=1MiB'\n\
            [backend]\nurl = 'POSTGRES'\n\
            [policy]\nwrite-policy = 'write-behind'\nmax-pending-operations = 200",
        backend: "POSTGRES",
    },
    #[cfg(feature = "postgres")]
    Stack {
        name: "redb/postgres",
        settings: "sole-writer = true\n\
            [frontend]\nurl = 'redb:PLACE/front.redb?durability=buffer'\n\
            [backend]\nurl = 'POSTGRES'\n\
            [policy]\nwrite-policy = 'write-through'\nreopen = 'trust'",
        backend: "POSTGRES",
    },
];

impl Stack {
    pub(crate) fn named(name: &str) -> Option<&'static Self> {
        ALL.iter().find(|stack| stack.name == name)
    }

    /// The stack whose files are at `place`.
    pub(crate) async fn open(&self, place: &str) -> Result<TieredStore> {
        tiered::Stack::from_toml(&fill(self.settings, place))?.open_tiered(Create::IfAbsent).await
    }

    /// Its backend alone.
    pub(crate) async fn open_backend(&self, place: &str) -> Result<std::sync::Arc<dyn Store>> {
        tiered::open(&fill(self.backend, place), Create::Never).await
    }

    /// Waits until the server has noticed that the last process is gone: what that one had sent would else come after
    /// the next one's look.
    pub(crate) fn wait_for_quiet(&self) {
        #[cfg(feature = "postgres")]
        if self.backend == "POSTGRES" {
            postgres(
                "DO $$ BEGIN WHILE EXISTS (SELECT FROM pg_stat_activity WHERE application_name = 'tiered') \
                 LOOP PERFORM pg_sleep(0.002); PERFORM pg_stat_clear_snapshot(); END LOOP; END $$",
            );
        }
    }

    /// Removes what is not in the folder.
    #[cfg_attr(not(feature = "postgres"), expect(unused_variables, reason = "all is in the folder"))]
    pub(crate) fn tidy_up(&self, place: &str) {
        #[cfg(feature = "postgres")]
        if self.backend == "POSTGRES" {
            postgres(&format!("DROP SCHEMA IF EXISTS {} CASCADE", schema(place)));
        }
    }
}

fn fill(settings: &str, place: &str) -> String {
    #[cfg(feature = "postgres")]
    if settings.contains("POSTGRES") {
        let url = tiered_services::Service::Postgres.required();
        let and = if url.contains('?') { '&' } else { '?' };
        let url = format!("{url}{and}schema={}", schema(place));
        return settings.replace("POSTGRES", &url).replace("PLACE", place);
    }
    settings.replace("PLACE", place)
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
