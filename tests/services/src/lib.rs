//! The servers that tests run against. Tests look up their URLs here; the program `tiered-services` starts them.

#[cfg(feature = "proxy")]
mod proxy;

use std::env;

#[cfg(feature = "proxy")]
pub use proxy::{Mode, Proxy};

/// A server that tests need.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Service {
    /// A Postgres server: a URL with a user who may create schemas.
    Postgres,
    /// A pooler in transaction mode before that server (`PgBouncer`): each transaction may get another session.
    PgBouncer,
    /// An S3 server with atomic conditional writes and deletes (moto): the URL of its endpoint.
    S3,
    /// An S3 server that checks signatures and whose conditional writes are not atomic (s3s-fs).
    S3Fs,
    /// An S3 server that ignores conditional writes (garage). Optional: the default run does not build it.
    S3Garage,
}

impl Service {
    /// Every server; one that stands before another comes after it.
    pub const ALL: [Self; 5] = [Self::Postgres, Self::PgBouncer, Self::S3, Self::S3Fs, Self::S3Garage];

    /// The name in tables.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Postgres => "postgres",
            Self::PgBouncer => "pgbouncer",
            Self::S3 => "s3",
            Self::S3Fs => "s3-fs",
            Self::S3Garage => "s3-garage",
        }
    }

    /// The variable of the environment that holds its URL.
    pub const fn variable(self) -> &'static str {
        match self {
            Self::Postgres => "TIERED_TEST_POSTGRES",
            Self::PgBouncer => "TIERED_TEST_PGBOUNCER",
            Self::S3 => "TIERED_TEST_S3",
            Self::S3Fs => "TIERED_TEST_S3_FS",
            Self::S3Garage => "TIERED_TEST_S3_GARAGE",
        }
    }

    /// Its URL, where there is one.
    pub fn url(self) -> Option<String> {
        env::var(self.variable()).ok().filter(|url| !url.is_empty())
    }

    /// Its host and port.
    ///
    /// # Panics
    /// As [`required`](Self::required).
    pub fn address(self) -> String {
        let url = self.required();
        let place = url.split_once("://").map_or(url.as_str(), |(_, rest)| rest);
        let place = place.split('/').next().unwrap_or(place);
        place.rsplit('@').next().unwrap_or(place).to_owned()
    }

    /// Its URL.
    ///
    /// # Panics
    /// Fails if there is none: a test that needs a server does not pass without it.
    #[expect(clippy::panic, reason = "a test fails by panicking")]
    pub fn required(self) -> String {
        self.url().unwrap_or_else(|| {
            panic!(
                "{} is not set: run `cargo xtask test`, or `cargo xtask services up` and set what it prints",
                self.variable()
            )
        })
    }
}

/// The credentials of the S3 servers for tests: (access key, secret key).
pub const S3_CREDENTIALS: (&str, &str) = ("tiered-tests", "tiered-tests-secret");

/// The bucket of the tests. Each test has a prefix of its own in it.
pub const S3_BUCKET: &str = "tiered-tests";
