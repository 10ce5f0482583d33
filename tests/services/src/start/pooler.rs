//! `PgBouncer` before the Postgres of the tests.

use percent_encoding::percent_decode_str;

use super::Running;

/// Connections to the server: fewer than its clients have, so that they take turns.
const POOL: u32 = 12;

/// The Postgres that a pooler stands before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Upstream {
    user: String,
    password: String,
    host: String,
    port: String,
    database: String,
    /// The host and port at which containers reach it, where it is a container itself.
    inside: Option<String>,
}

impl Upstream {
    /// From the URL of Postgres.
    pub(crate) fn of_url(url: &str) -> Option<Self> {
        let (_, rest) = url.split_once("://")?;
        let rest = rest.split('?').next().unwrap_or(rest);
        let (place, database) = rest.split_once('/').unwrap_or((rest, ""));
        let (login, address) = place.rsplit_once('@').unwrap_or(("postgres", place));
        let (user, password) = login.split_once(':').unwrap_or((login, ""));
        let (host, port) = address.rsplit_once(':').unwrap_or((address, "5432"));
        let text = |escaped: &str| Some(percent_decode_str(escaped).decode_utf8().ok()?.into_owned());
        Some(Self {
            user: text(user)?,
            password: text(password)?,
            host: text(host)?,
            port: port.to_owned(),
            database: if database.is_empty() { text(user)? } else { text(database)? },
            inside: None,
        })
    }

    /// A server that was started.
    pub(crate) fn of(server: &Running) -> Option<Self> {
        Some(Self { inside: server.inside.clone(), ..Self::of_url(&server.url)? })
    }

    /// The URL of a pooler that listens at `host` and `port`.
    pub(crate) fn through(&self, host: &str, port: &str) -> String {
        format!("postgres://postgres@{host}:{port}/{}", self.database)
    }

    /// The pooler's configuration, if this machine's processes reach the server.
    pub(crate) fn here(&self, listen: &str, port: &str) -> String {
        self.file(&self.host, &self.port, listen, port)
    }

    /// The pooler's configuration, if containers reach the server.
    pub(crate) fn inside(&self, listen: &str, port: &str) -> Result<String, String> {
        let inside = self.inside.as_deref().and_then(|place| place.rsplit_once(':'));
        let (host, server_port) = inside.ok_or("Postgres is not in a container")?;
        Ok(self.file(host, server_port, listen, port))
    }

    /// No start-up parameter is ignored: what a pooler refuses must not be sent.
    fn file(&self, host: &str, server_port: &str, listen: &str, port: &str) -> String {
        let quoted = |text: &str| format!("'{}'", text.replace('\'', "''"));
        let user = quoted(&self.user);
        // It takes no empty text.
        let password = match self.password.as_str() {
            "" => String::new(),
            password => format!(" password={}", quoted(password)),
        };
        format!(
            "[databases]\n\
             * = host={host} port={server_port} user={user}{password}\n\
             [pgbouncer]\n\
             listen_addr = {listen}\n\
             listen_port = {port}\n\
             unix_socket_dir =\n\
             auth_type = any\n\
             pool_mode = transaction\n\
             default_pool_size = {POOL}\n\
             max_client_conn = 2000\n"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_url_of_the_server_is_parsed() {
        let upstream =
            Upstream::of_url("postgres://an%20app:it's@db:6543/data?sslmode=disable").expect("reads");
        assert_eq!((upstream.user.as_str(), upstream.password.as_str()), ("an app", "it's"));
        assert_eq!(upstream.through("127.0.0.1", "1"), "postgres://postgres@127.0.0.1:1/data");
        let file = upstream.here("127.0.0.1", "1");
        assert!(file.contains("* = host=db port=6543 user='an app' password='it''s'\n"), "{file}");
        let plain = Upstream::of_url("postgres://localhost").expect("reads");
        assert_eq!(
            (plain.user.as_str(), plain.port.as_str(), plain.database.as_str()),
            ("postgres", "5432", "postgres")
        );
        assert!(plain.inside("0.0.0.0", "1").is_err());
    }
}
