//! The statements, made once for tables whose names were checked.
//!
//! Every write carries a deadline of the server's clock and does nothing when it arrives after it: a request that
//! the network delayed cannot overtake a later one. Each answers in one row: whether it was in time, how many rows it
//! changed, and the server's clock.

mod values;

use std::sync::Arc;

use sqlx::AssertSqlSafe;
use sqlx::postgres::PgArguments;

use crate::row::METADATA;
use crate::schema::Names;
pub(crate) use values::Values;

/// A query that parameters are bound to.
pub(crate) type Query<'q> = sqlx::query::Query<'q, sqlx::Postgres, PgArguments>;

/// Whether a connection keeps the statements that it has prepared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Prepared {
    /// Under names of the session.
    Kept,
    /// Not at all: each use parses the statement again without a name, because another session may not know the name,
    /// or use it for another statement.
    Unnamed,
}

/// A statement's text, which is safe: only checked names were put into it.
#[derive(Clone, Debug)]
pub(crate) struct Statement {
    text: Arc<str>,
    prepared: Prepared,
}

impl Statement {
    pub(crate) fn query<'q>(&self) -> Query<'q> {
        sqlx::query(AssertSqlSafe(Arc::clone(&self.text))).persistent(self.prepared == Prepared::Kept)
    }
}

/// Every statement that a store needs.
#[derive(Clone, Debug)]
pub(crate) struct Statements {
    pub(crate) load: Statement,
    pub(crate) load_range: Statement,
    pub(crate) load_slices: Statement,
    pub(crate) head: Statement,
    pub(crate) load_many: Statement,
    pub(crate) part: Statement,
    pub(crate) list: Statement,
    pub(crate) put: Statement,
    pub(crate) put_absent: Statement,
    pub(crate) put_matches: Statement,
    pub(crate) delete: Statement,
    pub(crate) delete_matches: Statement,
    pub(crate) apply: Statement,
    pub(crate) lock: Statement,
    pub(crate) judge: Statement,
    pub(crate) get_mark: Statement,
    pub(crate) list_marks: Statement,
    pub(crate) set_mark: Statement,
    pub(crate) remove_mark: Statement,
    pub(crate) sweep: Statement,
    /// For values in chunks.
    pub(crate) values: Values,
}

const ENTRY: &str =
    "key, version, modified, expires_at, attributes, checksum, value, session, validated, origin, validator";

/// What an upsert replaces: everything but the key. A column that is not written gets its default.
const REPLACE: &str = "version = EXCLUDED.version, modified = EXCLUDED.modified, expires_at = EXCLUDED.expires_at, \
    attributes = EXCLUDED.attributes, checksum = EXCLUDED.checksum, value = EXCLUDED.value, \
    session = EXCLUDED.session, validated = EXCLUDED.validated, origin = EXCLUDED.origin, \
    validator = EXCLUDED.validator, content = EXCLUDED.content, size = EXCLUDED.size";

/// Whether the row `old` is unexpired at the parameter `now`. A time beyond the column's range is negative.
fn unexpired(now: &str) -> String {
    format!("(old.expires_at IS NULL OR old.expires_at < 0 OR old.expires_at > {now}::bigint)")
}

/// Whether the row `old` exists to preconditions at the parameter `now`.
fn live(now: &str) -> String {
    format!("({} AND old.origin < 2)", unexpired(now))
}

/// The keys in an array parameter. Not `= ANY`: a plan that was made while the table was small compares every row with every
/// key.
fn given(keys: &str) -> String {
    format!("(SELECT unnest({keys}::bytea[]))")
}

/// A write: `changes` yields a row for each changed one, and is to look at `guard.ok`. Parameter 1 is the deadline;
/// where writes are announced, 2 is the channel and 3 the announcements.
fn guarded(changes: &str, existed: &str, feed: bool) -> String {
    let announced = if feed {
        "(SELECT count(pg_notify($2::text, note)::text) FROM unnest($3::text[]) AS note WHERE (SELECT ok FROM guard) AND EXISTS (SELECT 1 FROM done))"
    } else {
        "(SELECT count(*) FROM (SELECT $2::text, $3::text[]) AS unused)"
    };
    format!(
        "WITH guard AS MATERIALIZED (SELECT extract(epoch FROM clock_timestamp())::float8 <= $1::float8 AS ok), \
         {changes} \
         SELECT (SELECT ok FROM guard), (SELECT count(*) FROM done), {existed}, \
         extract(epoch FROM clock_timestamp())::float8, {announced}"
    )
}

/// Whether the row `old` is what a put of this version, checksum and size has written: a writer whose answer was lost
/// recognises its own write. The version alone does not tell: copies of another value may carry it.
fn own(version: &str, checksum: &str, size: &str) -> String {
    format!(
        "(old.version = {version} AND old.checksum = {checksum} \
         AND coalesce(octet_length(old.value)::bigint, old.size) = {size})"
    )
}

/// A put of parameters 4 to 14 over a row of version 16.
fn update(table: &str) -> String {
    format!(
        "done AS (UPDATE {table} AS old SET version = $5::text, modified = $6::bigint, \
         expires_at = $7::bigint, attributes = $8::text::jsonb, checksum = $9::bigint, value = $10::bytea, \
         session = $11::bigint, validated = $12::bigint, origin = $13::smallint, validator = $14::text, \
         content = NULL, size = NULL FROM guard WHERE guard.ok AND old.key = $4::bytea AND {} AND (old.version = $16::text OR {}) \
         RETURNING 1)",
        live("$15"),
        own("$5::text", "$9::bigint", "octet_length($10::bytea)")
    )
}

/// A batch: parameter 4 are the keys to delete, 5 is now, 6 to 16 are the columns to write.
///
/// Two batches never wait for each other when each takes its rows in the order of their keys. An ordered upsert does so
/// for rows that are not there yet as well, and so do ordered locks for rows to delete. A batch that has both, and is
/// not a single pass, locks them all first: see [`lock`].
fn apply(table: &str, feed: bool) -> String {
    let given = given("$4");
    let changes = format!(
        "locked AS MATERIALIZED (SELECT entry.key FROM {table} AS entry, guard WHERE guard.ok \
         AND entry.key IN {given} ORDER BY entry.key FOR UPDATE OF entry), \
         first AS MATERIALIZED (SELECT count(*) AS rows FROM locked), \
         gone AS (DELETE FROM {table} AS old USING guard, first WHERE guard.ok AND first.rows >= 0 \
         AND old.key IN {given} RETURNING old.key, {} AS was), \
         done AS (INSERT INTO {table} AS old ({ENTRY}) \
         SELECT u.key, u.version, u.modified, u.expires_at, u.attributes::jsonb, u.checksum, u.value, u.session, \
         u.validated, u.origin, u.validator FROM guard, first, \
         unnest($6::bytea[], $7::text[], $8::bigint[], $9::bigint[], $10::text[], $11::bigint[], $12::bytea[], \
         $13::bigint[], $14::bigint[], $15::smallint[], $16::text[]) AS u ({ENTRY}) \
         WHERE guard.ok AND first.rows >= 0 ORDER BY u.key ON CONFLICT (key) DO UPDATE SET {REPLACE} \
         RETURNING 1 AS one)",
        live("$5")
    );
    let existed = "coalesce((SELECT array_agg(key) FROM gone WHERE was), '{}')";
    // Deletes alone are announced as well.
    guarded(&changes, existed, feed).replace(
        "EXISTS (SELECT 1 FROM done)",
        "(EXISTS (SELECT 1 FROM done) OR EXISTS (SELECT 1 FROM gone))",
    )
}

/// Locks the rows of the keys in parameter 4, in their order. A row that is not there cannot be locked: an expired
/// one takes its place until the transaction has written or removed it. Those that are there stay as they are.
fn lock(table: &str) -> String {
    let changes = format!(
        "done AS (INSERT INTO {table} AS old ({ENTRY}) \
         SELECT key, '', 0, 0, NULL, 0, '', NULL, NULL, 0, NULL FROM guard, unnest($4::bytea[]) AS key \
         WHERE guard.ok ORDER BY key ON CONFLICT (key) DO UPDATE SET version = old.version WHERE false RETURNING 1)"
    );
    guarded(&changes, "true", false)
}

/// Parameter 4 is the mark's name, 5 its value.
fn set_mark(meta: &str) -> String {
    let changes = format!(
        "done AS (INSERT INTO {meta} AS old (name, value) SELECT $4::text, $5::bytea FROM guard \
         WHERE guard.ok ON CONFLICT (name) DO UPDATE SET value = EXCLUDED.value RETURNING 1)"
    );
    guarded(&changes, "true", false)
}

/// As [`set_mark`], without a value.
fn remove_mark(meta: &str) -> String {
    let changes = format!(
        "done AS (DELETE FROM {meta} AS old USING guard WHERE guard.ok AND old.name = $4::text \
         AND $5::bytea IS NULL RETURNING 1)"
    );
    guarded(&changes, "true", false)
}

impl Statements {
    pub(crate) fn new(names: &Names, feed: bool, prepared: Prepared) -> Self {
        let (table, meta) = (names.table.as_str(), names.meta.as_str());
        let text = |text: String| Statement { text: Arc::from(text), prepared };
        let metadata = METADATA;
        let insert = format!(
            "INSERT INTO {table} AS old ({ENTRY}) \
             SELECT $4::bytea, $5::text, $6::bigint, $7::bigint, $8::text::jsonb, $9::bigint, $10::bytea, \
             $11::bigint, $12::bigint, $13::smallint, $14::text FROM guard WHERE guard.ok"
        );
        let put = |suffix: String| {
            let changes =
                format!("done AS ({insert} ON CONFLICT (key) DO UPDATE SET {REPLACE}{suffix} RETURNING 1)");
            text(guarded(&changes, "true", feed))
        };
        let delete = |condition: &str| {
            let changes = format!(
                "done AS (DELETE FROM {table} AS old USING guard WHERE guard.ok AND old.key = $4::bytea{condition} \
                 RETURNING {} AS was)",
                live("$5")
            );
            text(guarded(&changes, "coalesce((SELECT bool_or(was) FROM done), false)", feed))
        };
        let delete_matches = format!(" AND {} AND old.version = $6::text", live("$5"));
        let unexpired = unexpired("$2");
        let value = |part: &str| {
            format!(
                "CASE WHEN old.value IS NULL OR old.version = $3::text OR old.version <> $4::text THEN NULL \
                 ELSE {part} END"
            )
        };
        // Each part in its place.
        let parts = value(
            "ARRAY(SELECT substr(value, part.start, part.length) FROM unnest($5::integer[], $6::integer[]) \
             WITH ORDINALITY AS part(start, length, place) ORDER BY part.place)",
        );
        let (whole, part) = (value("value"), value("substr(value, $5::integer, $6::integer)"));
        Self {
            load: text(format!(
                "SELECT key, {metadata}, {whole} FROM {table} AS old WHERE key = $1::bytea AND {unexpired}"
            )),
            load_range: text(format!(
                "SELECT key, {metadata}, {part} FROM {table} AS old WHERE key = $1::bytea AND {unexpired}"
            )),
            load_slices: text(format!(
                "SELECT key, {metadata}, {parts} FROM {table} AS old WHERE key = $1::bytea AND {unexpired}"
            )),
            head: text(format!(
                "SELECT key, {metadata} FROM {table} AS old WHERE key = $1::bytea AND {unexpired}"
            )),
            // Rows name the places of their keys, which tells more quickly than the keys what was found.
            load_many: text(format!(
                "SELECT given.place, {metadata}, value FROM unnest($1::bytea[]) WITH ORDINALITY AS given(key, place) \
                 JOIN {table} AS old ON old.key = given.key WHERE {unexpired}"
            )),
            part: text(format!(
                "SELECT substr(value, $3::integer, $4::integer) FROM {table} WHERE key = $1::bytea AND version = $2::text"
            )),
            // One bound below and one above, and neither of them optional: so the index leads to the first row of a page,
            // also by a plan that was made for any parameters.
            list: text(format!(
                "SELECT key, {metadata}, CASE WHEN octet_length(value) <= $6::bigint THEN value END \
                 FROM {table} AS old WHERE key >= $1::bytea AND key < $3::bytea AND {unexpired} \
                 AND ($4::boolean OR origin < 2) ORDER BY key LIMIT (SELECT $5::bigint)"
            )),
            put: put(String::new()),
            put_absent: put(format!(
                " WHERE NOT {} OR {}",
                live("$15"),
                own("EXCLUDED.version", "EXCLUDED.checksum", "octet_length(EXCLUDED.value)")
            )),
            put_matches: text(guarded(&update(table), "true", feed)),
            delete: delete(""),
            delete_matches: delete(&delete_matches),
            apply: text(apply(table, feed)),
            lock: text(lock(table)),
            judge: text(format!(
                "SELECT key, version, {}, checksum, coalesce(octet_length(value)::bigint, size) FROM {table} AS old \
                 WHERE key IN {} ORDER BY key",
                live("$2"),
                given("$1")
            )),
            get_mark: text(format!("SELECT value FROM {meta} WHERE name = $1::text")),
            list_marks: text(format!(
                "SELECT name FROM {meta} WHERE left(name, length($1::text)) = $1::text ORDER BY name COLLATE \"C\""
            )),
            set_mark: text(set_mark(meta)),
            remove_mark: text(remove_mark(meta)),
            sweep: text(format!(
                "DELETE FROM {table} WHERE key IN (SELECT key FROM {table} WHERE expires_at BETWEEN 0 AND $1::bigint \
                 ORDER BY expires_at LIMIT $2::bigint FOR UPDATE SKIP LOCKED)"
            )),
            values: Values::new(names, feed, prepared),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A connection keeps its plans: one of a small table, or of few keys, serves a large batch later. Compared by `= ANY`
    /// in a scan, 4,097 keys cost 17 million comparisons.
    #[test]
    fn no_statement_compares_each_row_with_each_key() {
        for feed in [false, true] {
            let statements = Statements::new(&Names::new("s", "t"), feed, Prepared::Kept);
            let text = format!("{statements:?}");
            assert!(text.contains("IN (SELECT unnest("), "{text}");
            assert!(!text.contains("ANY("), "{text}");
        }
    }

    /// A plan for any parameters cannot go by the index where a bound may be missing: each page would read all rows before it.
    #[test]
    fn a_page_of_a_listing_is_between_two_keys_that_are_always_given() {
        let statements = Statements::new(&Names::new("s", "t"), true, Prepared::Kept);
        let list = &statements.list.text;
        assert!(list.contains("WHERE key >= $1::bytea AND key < $3::bytea AND"), "{list}");
        assert!(!list.contains("OR key"), "{list}");
    }
}
