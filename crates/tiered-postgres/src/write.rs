//! Puts, deletes and marks: one guarded statement each.

use std::sync::Arc;

use bytes::Bytes;
use sqlx::Row as _;
use sqlx::postgres::PgRow;
use tiered_core::adapter::precondition_failed;
use tiered_core::{
    Delete, Deleted, Error, ErrorKind, Feature, Key, Operation, Outcome, Precondition, Put, Result, Version,
    Written,
};

use crate::batch::STATEMENT_BYTES;
use crate::client::Purpose;
use crate::read::mark_row;
use crate::row::{Record, now};
use crate::sql::{Query, Statement};
use crate::store::PostgresStore;

/// The answer of a guarded statement.
pub(crate) struct Answer {
    /// Rows changed.
    pub(crate) done: u64,
    /// The row, whose third column is the statement's own.
    pub(crate) row: PgRow,
}

/// What a guarded statement is given before its own parameters: what is announced if it takes effect.
pub(crate) type Announcements = Arc<[String]>;

/// What is announced of a write: its version, or a dash for a delete, and the key.
pub(crate) fn announcement(key: &Key, version: Option<&Version>) -> String {
    match version {
        Some(version) => format!("{version} {key}"),
        None => format!("- {key}"),
    }
}

impl PostgresStore {
    /// Runs a write that carries its deadline, and is never repeated.
    pub(crate) async fn write(
        &self,
        statement: &Statement,
        announcements: Announcements,
        bind: impl for<'q> Fn(Query<'q>) -> Query<'q> + Clone + Send + Sync + 'static,
    ) -> Result<Answer> {
        self.send(Purpose::Write, statement, announcements, bind).await
    }

    /// Runs a write that carries its deadline. The server's clock may have been set since it was last seen: a
    /// statement that it refused is sent once more with what it says now.
    pub(crate) async fn send(
        &self,
        purpose: Purpose,
        statement: &Statement,
        announcements: Announcements,
        bind: impl for<'q> Fn(Query<'q>) -> Query<'q> + Clone + Send + Sync + 'static,
    ) -> Result<Answer> {
        for _ in 0..2 {
            let (statement, bind, deadline) = (statement.clone(), bind.clone(), self.0.client.deadline());
            let announcements = Arc::clone(&announcements);
            let channel = self.0.channel.clone().unwrap_or_default();
            let row = self
                .0
                .client
                .run(purpose, move |connection| {
                    let (statement, bind) = (statement.clone(), bind.clone());
                    let (announcements, channel) = (Arc::clone(&announcements), channel.clone());
                    Box::pin(async move {
                        let query =
                            statement.query().bind(deadline).bind(channel).bind(announcements.to_vec());
                        bind(query).fetch_one(connection).await
                    })
                })
                .await?;
            let unread = |error: sqlx::Error| {
                Error::new(ErrorKind::Other, "the server's answer cannot be read")
                    .with_source(error)
                    .outcome_is(Outcome::Unknown)
            };
            self.0.client.clock().set(row.try_get(3).map_err(unread)?);
            if row.try_get(0).map_err(unread)? {
                let done: i64 = row.try_get(1).map_err(unread)?;
                return Ok(Answer { done: done.cast_unsigned(), row });
            }
            tracing::warn!(
                "the server refused a write as too late: its clock was set, or the way is very slow"
            );
        }
        Err(too_late())
    }

    /// The announcements of a write, where writes are announced.
    pub(crate) fn announce(&self, writes: impl IntoIterator<Item = String>) -> Announcements {
        if self.0.channel.is_none() {
            return Arc::from([]);
        }
        writes.into_iter().collect()
    }

    pub(crate) async fn put_entry(&self, key: &Key, put: &Put) -> Result<Written> {
        self.check_open(Operation::Put)?;
        self.0.capabilities.check_key(key)?;
        self.0.capabilities.check_value(put.value.len() as u64)?;
        self.0.capabilities.check_precondition(&put.precondition, Feature::ConditionalPut)?;
        let entry = self.0.stamp.entry(put);
        if entry.value().len() > STATEMENT_BYTES {
            return self.put_apart(key, put.precondition.clone(), &entry).await;
        }
        let version = entry.version().clone();
        let record = Arc::new(Record::of(key, &entry));
        let statements = &self.0.statements;
        let statement = match put.precondition {
            Precondition::None => &statements.put,
            Precondition::Absent => &statements.put_absent,
            Precondition::Matches(_) => &statements.put_matches,
            // What could be read is not damaged.
            Precondition::Damaged => return Err(precondition_failed(key)),
        };
        let (precondition, now) = (put.precondition.clone(), now(self.0.stamp.now()));
        let announcements = self.announce([announcement(key, Some(&version))]);
        let answer = self.write(statement, announcements, move |query| {
            bind_condition(bind_row(query, &record, &record.value), &precondition, now)
        });
        match answer.await?.done {
            0 => Err(precondition_failed(key)),
            _ => Ok(Written::committed(version)),
        }
    }

    pub(crate) async fn delete_entry(&self, key: &Key, delete: &Delete) -> Result<Deleted> {
        self.check_open(Operation::Delete)?;
        self.0.capabilities.check_key(key)?;
        self.0.capabilities.check_precondition(&delete.precondition, Feature::ConditionalDelete)?;
        let (statement, matches) = match &delete.precondition {
            Precondition::None => (&self.0.statements.delete, None),
            Precondition::Matches(version) => (&self.0.statements.delete_matches, Some(version.to_string())),
            Precondition::Absent => {
                let there = self.head_entry(key, &tiered_core::ReadOptions::new()).await?;
                return match there {
                    Some(_) => Err(precondition_failed(key)),
                    None => Ok(Deleted::committed(false)),
                };
            }
            Precondition::Damaged => return Err(precondition_failed(key)),
        };
        let (owned, now) = (key.clone(), now(self.0.stamp.now()));
        let conditional = matches.is_some();
        let answer = self.write(statement, self.announce([announcement(key, None)]), move |query| {
            let query = query.bind(owned.as_str().as_bytes()).bind(now);
            match &matches {
                Some(version) => query.bind(version),
                None => query,
            }
        });
        let answer = answer.await?;
        if conditional && answer.done == 0 {
            return Err(precondition_failed(key));
        }
        // What was removed and had expired did not exist.
        Ok(Deleted::committed(answer.row.try_get(2).unwrap_or(false)))
    }

    pub(crate) async fn write_mark(&self, name: &str, value: Option<Bytes>) -> Result<()> {
        let statements = &self.0.statements;
        let statement = if value.is_some() { &statements.set_mark } else { &statements.remove_mark };
        let name = mark_row(name);
        let answer =
            self.write(statement, Arc::from([]), move |query| query.bind(&name).bind(value.as_deref()));
        answer.await.map(drop)
    }
}

/// The error of a write that the server refused because its deadline had passed there.
pub(crate) fn too_late() -> Error {
    Error::new(
        ErrorKind::TimedOut,
        "the write reached the server after its deadline, and was refused there; raise the timeout",
    )
    .outcome_is(Outcome::NotApplied)
}

/// Binds the columns of a row. `value` is the value, or its id where it lies in chunks.
pub(crate) fn bind_row<'q>(query: Query<'q>, record: &Record, value: &[u8]) -> Query<'q> {
    query
        .bind(record.key.as_str().as_bytes())
        .bind(&record.version)
        .bind(record.modified)
        .bind(record.expires_at)
        .bind(&record.attributes)
        .bind(record.checksum)
        .bind(value)
        .bind(record.session)
        .bind(record.validated)
        .bind(record.origin)
        .bind(&record.validator)
}

/// Binds what a precondition is judged by.
pub(crate) fn bind_condition<'q>(query: Query<'q>, precondition: &Precondition, now: i64) -> Query<'q> {
    match precondition {
        Precondition::None | Precondition::Damaged => query,
        Precondition::Absent => query.bind(now),
        Precondition::Matches(version) => query.bind(now).bind(version.to_string()),
    }
}
