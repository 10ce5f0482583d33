//! Puts in parts: chunks are stored as they come, and published at the end.
//!
//! A value that no row refers to has a mark in the table of loose values: how much of it there is, and until when it is left
//! alone. The first chunk comes with its mark in one statement, and the statement that writes the row removes it. So each
//! chunk belongs to a row or to a marked value, whenever a process or the server ends. A value that others take for
//! abandoned cannot be published: they doom the mark before they remove a chunk.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::StreamExt as _;
use sqlx::Row as _;
use tiered_core::adapter::{Checksum, precondition_failed};
use tiered_core::{
    ByteStream, Entry, Error, ErrorKind, Feature, Key, Operation, Outcome, Precondition, Put, Result, Written,
};

use crate::chunks::CHUNK;
use crate::client::Purpose;
use crate::reclaim;
use crate::row::{Content, Record, now};
use crate::sql::Statement;
use crate::store::PostgresStore;
use crate::write::{announcement, bind_condition, bind_row};

/// How often a value says that it is still being uploaded, while its source gives nothing.
const RENEWAL: Duration = Duration::from_secs(20);

/// How long after its last sign a value is left alone, besides the time that its statements may take.
const PATIENCE: Duration = Duration::from_mins(1);

/// A value that is being uploaded. What was stored of it is removed when this is dropped before the end.
struct Uploading<'u> {
    store: &'u PostgresStore,
    key: &'u Key,
    content: Content,
    size: u64,
    crc: u32,
    /// Whether a publication that may yet take effect decides what becomes of it.
    handed_over: bool,
}

impl Drop for Uploading<'_> {
    fn drop(&mut self) {
        if !self.handed_over {
            reclaim::abandon(&self.store.0, self.content);
        }
    }
}

impl PostgresStore {
    /// Writes a value from parts.
    pub(crate) async fn put_streamed(&self, key: &Key, put: Put, body: ByteStream) -> Result<Written> {
        self.check_open(Operation::Put)?;
        self.0.capabilities.check_key(key)?;
        self.0.capabilities.check_precondition(&put.precondition, Feature::ConditionalPut)?;
        let mut pieces =
            Pieces { store: self, body: Some(body), part: Bytes::new(), buffer: BytesMut::new(), seen: 0 };
        let first = pieces.next().await?;
        if pieces.has_ended() {
            return self.put_entry(key, &put.value(first)).await;
        }
        let mut upload = Uploading::begin(self, key);
        upload.stage(first).await?;
        while !pieces.has_ended() {
            let piece = upload.renewed(pieces.next()).await?;
            upload.stage(piece).await?;
        }
        let stamped = self.0.stamp.entry(&put.clone().value(Bytes::new()));
        upload.publish(put.precondition, &stamped).await
    }

    /// Writes a value that is at hand, and too large for one statement.
    pub(crate) async fn put_apart(
        &self,
        key: &Key,
        precondition: Precondition,
        entry: &Entry,
    ) -> Result<Written> {
        let (value, mut upload) = (entry.value(), Uploading::begin(self, key));
        for start in (0..value.len()).step_by(CHUNK) {
            upload.stage(value.slice(start..value.len().min(start + CHUNK))).await?;
        }
        upload.publish(precondition, entry).await
    }
}

impl<'u> Uploading<'u> {
    fn begin(store: &'u PostgresStore, key: &'u Key) -> Self {
        let content = Content::mint(store.0.stamp.versions());
        Self { store, key, content, size: 0, crc: 0, handed_over: false }
    }

    /// Seconds for which the value is left alone from now on.
    fn lease(&self) -> f64 {
        // A statement waits for a connection, connects, and runs: a timeout each.
        self.store.0.config.timeout.saturating_mul(4).saturating_add(PATIENCE).as_secs_f64()
    }

    /// Stores the next bytes.
    async fn stage(&mut self, piece: Bytes) -> Result<()> {
        if piece.is_empty() {
            return Ok(());
        }
        let statements = &self.store.0.statements.values;
        let statement = if self.size == 0 { &statements.begin } else { &statements.stage };
        self.crc = crc32c::crc32c_append(self.crc, &piece);
        let (content, start, end) = (self.content, self.size, self.size + piece.len() as u64);
        let (lease, column) = (self.lease(), |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX));
        let (from, to) = (column(start), column(end));
        let staged = self.store.send(Purpose::Repeatable, statement, Arc::from([]), move |query| {
            let query = query.bind(content.as_bytes()).bind(from).bind(&piece[..]);
            query.bind(to).bind(lease)
        });
        // Nobody can see it, whatever became of it.
        let staged = staged.await.map_err(|error| error.outcome_is(Outcome::NotApplied))?;
        if staged.done == 0 {
            return Err(lost());
        }
        self.size = end;
        Ok(())
    }

    /// What `next` gives. While it gives nothing, the value is kept from being taken for abandoned.
    async fn renewed<T>(&self, next: impl Future<Output = T>) -> T {
        let mut next = std::pin::pin!(next);
        loop {
            tokio::select! {
                biased;
                given = &mut next => return given,
                () = tokio::time::sleep(RENEWAL) => self.renew().await,
            }
        }
    }

    async fn renew(&self) {
        let (content, lease) = (self.content, self.lease());
        let statement = &self.store.0.statements.values.renew;
        let renewed = self.store.send(Purpose::Repeatable, statement, Arc::from([]), move |query| {
            query.bind(content.as_bytes()).bind(lease)
        });
        if let Err(error) = renewed.await {
            tracing::debug!(error = %error.chain(), "an upload could not say that it goes on; the next part tells");
        }
    }

    /// Makes an entry of what was stored, if its precondition holds.
    async fn publish(mut self, precondition: Precondition, stamped: &Entry) -> Result<Written> {
        let mut metadata = (**stamped.metadata()).clone().with_checksum(Some(Checksum::from_u32(self.crc)));
        metadata.size = self.size;
        let (version, size) = (metadata.version.clone(), i64::try_from(self.size).unwrap_or(i64::MAX));
        let record = Record::of(self.key, &Entry::from_parts(Bytes::new(), Arc::new(metadata)));
        let (store, content, now) = (self.store, self.content, now(self.store.0.stamp.now()));
        let announcements = store.announce([announcement(self.key, Some(&version))]);
        let statement = self.publication(&precondition);
        self.handed_over = true;
        let published = store.send(Purpose::Write, statement, announcements, move |query| {
            let query = bind_row(query, &record, content.as_bytes()).bind(size);
            bind_condition(query, &precondition, now)
        });
        let refused = match published.await {
            Ok(answer) if answer.done > 0 => return Ok(Written::committed(version)),
            Ok(answer) if answer.row.try_get(2).unwrap_or(false) => precondition_failed(self.key),
            Ok(_) => lost(),
            Err(error) => error,
        };
        self.handed_over = refused.write_outcome() != Outcome::NotApplied;
        Err(refused)
    }

    fn publication(&self, precondition: &Precondition) -> &'u Statement {
        let statements = &self.store.0.statements.values;
        match precondition {
            // What could be read is not damaged: that precondition was refused.
            Precondition::None | Precondition::Damaged => &statements.publish,
            Precondition::Absent => &statements.publish_absent,
            Precondition::Matches(_) => &statements.publish_matches,
        }
    }
}

/// A body cut into pieces of equal size, but the last.
struct Pieces<'p> {
    store: &'p PostgresStore,
    body: Option<ByteStream>,
    /// What is left of a part of the body.
    part: Bytes,
    buffer: BytesMut,
    seen: u64,
}

impl Pieces<'_> {
    fn has_ended(&self) -> bool {
        self.body.is_none() && self.part.is_empty() && self.buffer.is_empty()
    }

    /// The next piece; what is left at the end.
    async fn next(&mut self) -> Result<Bytes> {
        loop {
            let room = CHUNK - self.buffer.len();
            let taken = self.part.split_to(room.min(self.part.len()));
            self.buffer.extend_from_slice(&taken);
            // One byte more tells that the value goes on.
            if !self.part.is_empty() || !self.take_part().await? {
                return Ok(self.buffer.split().freeze());
            }
        }
    }

    /// Takes a part of the body; false at its end.
    async fn take_part(&mut self) -> Result<bool> {
        let not_applied = |error: Error| error.outcome_is(Outcome::NotApplied);
        let Some(body) = self.body.as_mut() else { return Ok(false) };
        let Some(part) = body.next().await else {
            self.body = None;
            return Ok(false);
        };
        self.part = part.map_err(not_applied)?;
        self.seen += self.part.len() as u64;
        self.store.0.capabilities.check_value(self.seen).map_err(not_applied)?;
        Ok(true)
    }
}

/// What was stored of a value is gone, or a part of it.
fn lost() -> Error {
    let message = "parts of the upload are gone: it stood still for so long that it was taken for abandoned, or the server failed; send the value again";
    Error::new(ErrorKind::Unavailable, message).outcome_is(Outcome::NotApplied)
}
