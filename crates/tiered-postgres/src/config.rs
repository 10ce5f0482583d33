//! Opening: where, which table, with which bounds.

use std::fmt;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::str::FromStr as _;
use std::sync::Arc;
use std::time::Duration;

use sqlx::ConnectOptions as _;
use sqlx::postgres::{PgConnectOptions, PgSslMode};
use tiered_core::Create;
use tiered_core::adapter::Stamp;
use tiered_core::{Error, ErrorKind, Operation, Result};

use crate::client::Client;
use crate::schema::{self, Names};
use crate::store::PostgresStore;

/// Whether writes are announced, and announcements heard.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Feed {
    /// No.
    #[default]
    Off,
    /// Writes are announced (`NOTIFY`), and [`changes`](tiered_core::Store::changes) yields what others announce
    /// (`LISTEN`).
    On,
}

/// The server's limits for a session, in milliseconds: an abandoned statement ends at them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limits {
    pub(crate) statement: i64,
    pub(crate) idle: i64,
}

impl Limits {
    /// The setting of [`Self::statement`].
    pub(crate) const STATEMENT: &str = "statement_timeout";
    /// The setting of [`Self::idle`].
    pub(crate) const IDLE: &str = "idle_in_transaction_session_timeout";
}

/// How to open a [`PostgresStore`].
#[derive(Clone)]
pub struct PostgresConfig {
    pub(crate) connect: PgConnectOptions,
    pub(crate) schema: String,
    pub(crate) table: String,
    pub(crate) connections: u32,
    pub(crate) timeout: Duration,
    pub(crate) statement_cache: usize,
    pub(crate) feed: Feed,
    pub(crate) sweep: Option<Duration>,
    pub(crate) max_value: u64,
    pub(crate) create: Create,
    pub(crate) stamp: Stamp,
}

impl PostgresConfig {
    /// The timeouts that are taken: a key whose write has an unknown outcome stays closed for two of them.
    const TIMEOUTS: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_hours(24);
    /// Largest [`max_value`](Self::max_value), 1 TiB: a table of Postgres takes 32 TiB.
    pub const MAX_VALUE: u64 = 1 << 40;
    /// The default `max_value`, 256 MiB: a value that is read whole is held in memory.
    pub const DEFAULT_MAX_VALUE: u64 = 256 << 20;

    /// From a URL in libpq's format, `postgres://user:password@host:port/database`, with the driver's parameters
    /// (`sslmode`, `sslrootcert`, `sslcert`, `sslkey`, `application_name`). A missing password is taken from
    /// `PGPASSWORD` or the password file.
    ///
    /// TLS with a verified certificate is required, unless the host is this machine (loopback or a socket) or the
    /// URL says otherwise with `sslmode`.
    ///
    /// # Errors
    /// [`ErrorKind::Config`]. The URL is not in it, since it may hold a password.
    pub fn from_url(url: &str) -> Result<Self> {
        let connect = PgConnectOptions::from_str(url).map_err(|_| {
            Error::new(
                ErrorKind::Config,
                "the URL of postgres cannot be read; write postgres://user:password@host:port/database, special characters of the password percent-encoded",
            )
            .during(Operation::Open)
        })?;
        let query = url.split_once('?').map_or("", |(_, query)| query);
        let says_so =
            query.split('&').any(|pair| pair.starts_with("sslmode=") || pair.starts_with("ssl-mode="));
        let connect = match (says_so, is_local(&connect)) {
            (true, _) => connect,
            (false, true) => connect.ssl_mode(PgSslMode::Prefer),
            (false, false) => connect.ssl_mode(PgSslMode::VerifyFull),
        };
        Ok(Self::from_options(connect))
    }

    /// From the driver's own options, unchanged.
    pub fn from_options(connect: PgConnectOptions) -> Self {
        Self {
            connect,
            schema: "public".to_owned(),
            table: "tiered".to_owned(),
            connections: 10,
            timeout: Duration::from_secs(10),
            statement_cache: 100,
            feed: Feed::default(),
            sweep: Some(Duration::from_mins(1)),
            max_value: Self::DEFAULT_MAX_VALUE,
            create: Create::default(),
            stamp: Stamp::system(),
        }
    }

    /// The schema that the tables are in; `public` by default. Matches `[a-z_][a-z0-9_]{0,62}`.
    #[must_use]
    pub fn schema(mut self, schema: &str) -> Self {
        schema.clone_into(&mut self.schema);
        self
    }

    /// The table; `tiered` by default. Matches `[a-z_][a-z0-9_]{0,54}`: other names are derived from it.
    #[must_use]
    pub fn table(mut self, table: &str) -> Self {
        table.clone_into(&mut self.table);
        self
    }

    /// At most so many connections; 10 by default, at least 1. The feed takes one more.
    #[must_use]
    pub fn connections(mut self, connections: u32) -> Self {
        self.connections = connections;
        self
    }

    /// How long a call waits for a connection, and then for the answer; 10 s by default, from 100 ms to a day. The
    /// server gives a statement four fifths of it, and refuses one that arrives later. An unknown write can take
    /// effect for two timeouts: that is the store's [`request_lifetime`](tiered_core::Capabilities::request_lifetime).
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Prepared statements to keep for each connection; 100 by default. 0 for a pooler that may give each transaction
    /// another session of the server (`PgBouncer` in transaction mode): every call is then a transaction of its own,
    /// which takes four exchanges instead of one, sets its own limits, and leaves nothing in the session. No start-up
    /// parameter is sent that such a pooler refuses, and [`feed`](Self::feed) cannot be on.
    #[must_use]
    pub fn statement_cache(mut self, statements: usize) -> Self {
        self.statement_cache = statements;
        self
    }

    /// Whether writes are announced, and announcements heard. Off by default: committing an announcement takes a lock of
    /// the whole server instance. Every process that writes must have it on, or its writes are seen only by their age.
    #[must_use]
    pub fn feed(mut self, feed: Feed) -> Self {
        self.feed = feed;
        self
    }

    /// How often expired rows are removed, and the chunks of values that were replaced, deleted, or given up while they
    /// were uploaded; a minute by default, `None` for never; longer than zero. Reads hide them anyway.
    #[must_use]
    pub fn sweep(mut self, every: Option<Duration>) -> Self {
        self.sweep = every;
        self
    }

    /// The largest value, in bytes; at most [`Self::MAX_VALUE`]. In a batch a value has at most 900 MiB.
    #[must_use]
    pub fn max_value(mut self, bytes: u64) -> Self {
        self.max_value = bytes;
        self
    }

    /// What to do where the tables do not exist.
    #[must_use]
    pub fn create(mut self, create: Create) -> Self {
        self.create = create;
        self
    }

    /// The clock and the source of versions.
    #[must_use]
    pub fn stamp(mut self, stamp: Stamp) -> Self {
        self.stamp = stamp;
        self
    }

    /// Connects, and makes the tables or brings them up to date.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] for a setting that cannot work, and outside a tokio runtime; [`ErrorKind::NotFound`] where
    /// the database, or with [`Create::Never`] the tables, do not exist; [`ErrorKind::AlreadyExists`] where they do
    /// under [`Create::New`]; [`ErrorKind::Foreign`] where a table of that
    /// name is not a store's, which is not touched; [`ErrorKind::PermissionDenied`]; [`ErrorKind::Unavailable`].
    ///
    /// # Cancel safety
    /// If dropped, the tables are created completely or not at all.
    pub async fn open(self) -> Result<PostgresStore> {
        let place = self.place();
        let failed = |error: Error| error.at_place(&place).during(Operation::Open).in_tier("postgres");
        self.check().map_err(failed)?;
        PostgresStore::open(self).await.map_err(failed)
    }

    /// Whether there are tables of a store of these names. Changes nothing. Where the database does not exist there are
    /// none.
    ///
    /// # Errors
    /// [`ErrorKind::Foreign`] where a table of that name is not a store's; else as [`open`](Self::open).
    ///
    /// # Cancel safety
    /// Dropping it has no effect.
    ///
    /// # Examples
    /// ```no_run
    /// # async fn example() -> tiered_core::Result<()> {
    /// use tiered_postgres::PostgresConfig;
    ///
    /// if PostgresConfig::from_url("postgres://app@localhost/app")?.table("cache").exists().await? {
    ///     println!("there is a store");
    /// }
    /// # Ok(()) }
    /// ```
    pub async fn exists(self) -> Result<bool> {
        let failed = |error: Error| error.at_place(self.place()).during(Operation::Open).in_tier("postgres");
        let exists = async {
            let client = self.reach().await?;
            let exists = schema::exists(&client, &Names::of(&self)).await;
            client.close();
            exists
        };
        match exists.await {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
            exists => exists.map_err(failed),
        }
    }

    /// Removes the tables of the store, in one transaction: the table with its entries and its index, and the table of its
    /// marks. The schema and the database stay. When it returns, the tables are gone, as durably as the server commits.
    ///
    /// It waits for transactions that use the tables, until the timeout. Other handles of the store are not seen: their
    /// later calls fail. Close them first.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] where there are none; [`ErrorKind::Foreign`] where a table of that name is not a store's;
    /// the server's where objects of others depend on the tables, such as views; else as [`open`](Self::open). After an
    /// error that [may have taken effect](Error::write_outcome) all of it is gone, or nothing; else nothing.
    ///
    /// # Cancel safety
    /// If dropped, the tables are removed completely or not at all.
    ///
    /// # Examples
    /// ```no_run
    /// # async fn example() -> tiered_core::Result<()> {
    /// use tiered_postgres::PostgresConfig;
    ///
    /// PostgresConfig::from_url("postgres://app@localhost/app")?.table("cache").destroy().await?;
    /// # Ok(()) }
    /// ```
    pub async fn destroy(self) -> Result<()> {
        let failed =
            |error: Error| error.at_place(self.place()).during(Operation::Destroy).in_tier("postgres");
        let destroyed = async {
            let client = self.reach().await?;
            let removed = schema::remove(&client, &Names::of(&self)).await;
            client.close();
            removed
        };
        destroyed.await.map_err(failed)
    }

    /// Connections to a server that can hold a store.
    async fn reach(&self) -> Result<Client> {
        self.check()?;
        let client = Client::new(self)?;
        schema::inspect(&client, self.limits()).await?;
        Ok(client)
    }

    /// The place for messages, without the user and the password.
    pub(crate) fn place(&self) -> String {
        let host = match self.connect.get_socket() {
            Some(socket) => socket.display().to_string(),
            None => format!("{}:{}", self.connect.get_host(), self.connect.get_port()),
        };
        let database = self.connect.get_database().unwrap_or_default();
        format!("{host}/{database} {}.{}", self.schema, self.table)
    }

    fn check(&self) -> Result<()> {
        let refuse = |why: String| Err(Error::new(ErrorKind::Config, why));
        for (what, name, longest) in [("schema", &self.schema, 63), ("table", &self.table, 55)] {
            let mut bytes = name.bytes();
            let first = bytes.next().is_some_and(|byte| byte.is_ascii_lowercase() || byte == b'_');
            let rest = bytes.all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_');
            if !first || !rest || name.len() > longest {
                return refuse(format!(
                    "the {what} {name:?} must match [a-z_][a-z0-9_]{{0,{}}}",
                    longest - 1
                ));
            }
        }
        if self.connections == 0 {
            return refuse("connections must be at least 1".to_owned());
        }
        if !Self::TIMEOUTS.contains(&self.timeout) {
            return refuse("timeout must be at least 100ms and at most 1d".to_owned());
        }
        if self.sweep.is_some_and(|every| every.is_zero()) {
            return refuse("sweep must be longer than 0s; set it to off (None) for no sweeps".to_owned());
        }
        if self.max_value > Self::MAX_VALUE {
            return refuse(format!("max_value must be at most {} bytes for postgres", Self::MAX_VALUE));
        }
        if self.has_feed() && self.statement_cache == 0 {
            return refuse(
                "a feed needs a session of its own, which statement_cache=0 (a pooler in transaction mode) does not give; connect to the server itself, or set feed=off"
                    .to_owned(),
            );
        }
        if self.has_feed() && self.channel().len() > 63 {
            return refuse(format!(
                "the channel {} of the feed is longer than 63 bytes; use a shorter schema or table",
                self.channel()
            ));
        }
        Ok(())
    }

    /// The channel on which writes are announced.
    pub(crate) fn channel(&self) -> String {
        format!("tiered:{}.{}", self.schema, self.table)
    }

    /// What a session is limited to.
    pub(crate) fn limits(&self) -> Limits {
        // The server takes 31 bits.
        let setting = |millis: u128| i64::from(i32::try_from(millis).unwrap_or(i32::MAX));
        let millis = self.timeout.as_millis();
        Limits { statement: setting(millis * 4 / 5), idle: setting(millis) }
    }

    /// Whether writes are announced.
    pub(crate) fn has_feed(&self) -> bool {
        self.feed == Feed::On
    }

    /// Whether a pooler may give each transaction another session.
    pub(crate) fn is_pooled(&self) -> bool {
        self.statement_cache == 0
    }

    /// What every connection is opened with.
    pub(crate) fn connection(&self) -> PgConnectOptions {
        let connect =
            self.connect.clone().statement_cache_capacity(self.statement_cache).disable_statement_logging();
        // Numbers travel as they are, not as text; and poolers refuse the parameter.
        let connect = connect.extra_float_digits(None);
        let connect = match connect.get_application_name() {
            Some(_) => connect,
            None => connect.application_name("tiered"),
        };
        if self.is_pooled() {
            return connect;
        }
        let Limits { statement, idle } = self.limits();
        connect.options([(Limits::STATEMENT, statement.to_string()), (Limits::IDLE, idle.to_string())])
    }

    /// What each piece of work begins with behind a pooler: a transaction, with its own limits.
    pub(crate) fn transaction(&self) -> Option<Arc<str>> {
        let Limits { statement, idle } = self.limits();
        self.is_pooled().then(|| {
            let (first, second) = (Limits::STATEMENT, Limits::IDLE);
            format!("BEGIN; SET LOCAL {first} = {statement}; SET LOCAL {second} = {idle}").into()
        })
    }
}

/// Returns true if the server is on this machine, so that no traffic leaves it.
fn is_local(connect: &PgConnectOptions) -> bool {
    let host = connect.get_host();
    connect.get_socket().is_some()
        || host.starts_with('/')
        || host == "localhost"
        || host.trim_matches(['[', ']']).parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

impl fmt::Debug for PostgresConfig {
    // The driver's options would show the password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresConfig")
            .field("place", &self.place())
            .field("connections", &self.connections)
            .field("timeout", &self.timeout)
            .field("feed", &self.feed)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(url: &str) -> PgSslMode {
        PostgresConfig::from_url(url).expect("reads").connect.get_ssl_mode()
    }

    #[test]
    fn tls_is_verified_unless_the_host_is_local() {
        assert!(matches!(mode("postgres://u@db.example.com/d"), PgSslMode::VerifyFull));
        assert!(matches!(mode("postgres://u@10.0.0.1/d"), PgSslMode::VerifyFull));
        assert!(matches!(mode("postgres://u@db.example.com/d?sslmode=require"), PgSslMode::Require));
        assert!(matches!(mode("postgres://u@localhost/d"), PgSslMode::Prefer));
        assert!(matches!(mode("postgres://u@127.0.0.1:5433/d"), PgSslMode::Prefer));
        assert!(matches!(mode("postgres://u@%2Frun%2Fpostgresql/d"), PgSslMode::Prefer));
    }

    #[test]
    fn neither_debug_nor_errors_show_the_password() {
        let config = PostgresConfig::from_url("postgres://u:hunter2@localhost/d").expect("reads");
        assert!(!format!("{config:?}").contains("hunter2"));
        let error = PostgresConfig::from_url("postgres://u:hun ter2@local host:x/d").expect_err("malformed");
        assert!(!error.chain().contains("ter2"), "{error}");
    }

    #[test]
    fn names_and_times_are_checked() {
        let config = || PostgresConfig::from_url("postgres://u@localhost/d").expect("reads");
        for table in ["", "A", "a-b", "1a", "a\"; DROP TABLE x; --", &"a".repeat(56)] {
            assert_eq!(config().table(table).check().expect_err(table).kind(), ErrorKind::Config);
        }
        assert!(config().table("_a1").schema("s").check().is_ok());
        assert!(config().feed(Feed::On).statement_cache(0).check().is_err());
        assert!(
            config().timeout(Duration::MAX).check().is_err()
                && config().timeout(Duration::ZERO).check().is_err()
        );
        assert!(
            config().sweep(Some(Duration::ZERO)).check().is_err() && config().sweep(None).check().is_ok()
        );
        assert!(config().feed(Feed::On).schema(&"s".repeat(60)).check().is_err());
    }
}
