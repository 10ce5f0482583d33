//! Reads of one key, of many, and of marks.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::TryStreamExt as _;
use sqlx::Row as _;
use sqlx::postgres::PgRow;
use tiered_core::adapter::{Reads, clamp_range};
use tiered_core::{Entry, Key, Lookup, Metadata, Operation, Read, ReadOptions, Result, Slices, Version};

use crate::chunks::missing;
use crate::client::Purpose;
use crate::row::{self, Content, Found, Stored, now};
use crate::sql::Statement;
use crate::store::PostgresStore;
use crate::stream::replaced;

/// Times that a value is looked for whose chunks were gone: each time its entry was replaced.
const ATTEMPTS: usize = 8;

/// A position or a length in a value, as `substr` takes it.
fn position(bytes: u64) -> i32 {
    i32::try_from(bytes).unwrap_or(i32::MAX)
}

impl PostgresStore {
    async fn row(&self, purpose: Purpose, query: Query) -> Result<Option<PgRow>> {
        let query = Arc::new(query);
        self.0
            .client
            .run(purpose, move |connection| {
                let query = Arc::clone(&query);
                Box::pin(async move { query.build().fetch_optional(connection).await })
            })
            .await
    }

    pub(crate) async fn load_entry(&self, key: &Key, options: &ReadOptions) -> Result<Read> {
        self.check_open(Operation::Load)?;
        let statement = match options.range {
            Some(_) => &self.0.statements.load_range,
            None => &self.0.statements.load,
        };
        let range = options.range.as_ref().map(|range| {
            let length = range.end.saturating_sub(range.start);
            (position(range.start.saturating_add(1)), position(length))
        });
        let mut gone = None;
        for _ in 0..ATTEMPTS {
            let part = Part::Range(range);
            let Some(row) = self.row(Purpose::Read, self.conditional(statement, key, options, part)).await?
            else {
                return Ok(Read::from_store(Lookup::Absent));
            };
            let (_, Found { metadata, stored }) = row::entry(&row)?;
            if let Some(read) = self.judge_read(&metadata, options) {
                return Ok(read);
            }
            let all = 0..metadata.size;
            let range = clamp_range(options.range.as_ref().unwrap_or(&all), metadata.size)?;
            let value = match stored {
                Stored::Here(value) => Some(value),
                Stored::Unread => return Ok(Read::from_store(Lookup::Unchanged)),
                Stored::Apart(content) => {
                    look_again(&mut gone, content, self.assembled(content, &range).await?)?
                }
            };
            let Some(value) = value else { continue };
            let entry = Entry::from_parts(value, metadata);
            if options.range.is_none() {
                entry.verify()?;
            }
            return Ok(Read::from_store(Lookup::Found(entry)));
        }
        Err(replaced())
    }

    /// All ranges of one row.
    pub(crate) async fn load_slices(
        &self,
        key: &Key,
        ranges: &[Range<u64>],
        options: &ReadOptions,
    ) -> Result<Read<Slices>> {
        self.check_open(Operation::Load)?;
        let starts: Vec<i32> = ranges.iter().map(|range| position(range.start.saturating_add(1))).collect();
        let lengths: Vec<i32> =
            ranges.iter().map(|range| position(range.end.saturating_sub(range.start))).collect();
        let mut gone = None;
        for _ in 0..ATTEMPTS {
            let part = Part::Slices(starts.clone(), lengths.clone());
            let query = self.conditional(&self.0.statements.load_slices, key, options, part);
            let Some(row) = self.row(Purpose::Read, query).await? else {
                return Ok(Read::from_store(Lookup::Absent));
            };
            let (_, Found { metadata, stored }) = row::metadata(&row)?;
            if let Some(read) = self.judge_read(&metadata, options) {
                return read.try_map(|_| Ok(Slices::new(metadata, Vec::new())));
            }
            let clamped =
                ranges.iter().map(|range| clamp_range(range, metadata.size)).collect::<Result<Vec<_>>>()?;
            let values = match stored {
                Stored::Apart(content) => {
                    look_again(&mut gone, content, self.pieces(content, &clamped).await?)?
                }
                Stored::Here(_) | Stored::Unread => {
                    let values: Vec<Vec<u8>> = row.try_get(row::VALUE).map_err(|_| row::damaged("value"))?;
                    Some(values.into_iter().map(Bytes::from).collect())
                }
            };
            let Some(values) = values else { continue };
            return Ok(Read::from_store(Lookup::Found(Slices::new(metadata, values))));
        }
        Err(replaced())
    }

    /// The answer of a read for whose conditions the value does not matter; `None` where it does.
    fn judge_read(&self, metadata: &Metadata, options: &ReadOptions) -> Option<Read> {
        let answer = if !metadata.is_visible(self.0.stamp.now(), options.tombstones) {
            Lookup::Absent
        } else if options.excludes(&metadata.version) {
            Lookup::Changed
        } else if options.unless.as_ref().is_some_and(|known| known.version == metadata.version) {
            Lookup::Unchanged
        } else {
            return None;
        };
        Some(Read::from_store(answer))
    }

    fn conditional(&self, statement: &Statement, key: &Key, options: &ReadOptions, part: Part) -> Query {
        Query::Load {
            statement: statement.clone(),
            key: key.clone(),
            now: now(self.0.stamp.now()),
            known: options.unless.as_ref().map(|known| known.version.to_string()),
            wanted: options.if_version.as_ref().map(|known| known.version.to_string()),
            part,
        }
    }

    /// What the row of a key says, without its value.
    pub(crate) async fn look(&self, key: &Key) -> Result<Option<Found>> {
        let query = Query::Head {
            statement: self.0.statements.head.clone(),
            key: key.clone(),
            now: now(self.0.stamp.now()),
        };
        let row = self.row(Purpose::Read, query).await?;
        row.map(|row| row::metadata(&row).map(|(_, found)| found)).transpose()
    }

    pub(crate) async fn head_entry(&self, key: &Key, options: &ReadOptions) -> Result<Option<Arc<Metadata>>> {
        self.check_open(Operation::Load)?;
        let found = self.look(key).await?.map(|found| found.metadata);
        Ok(found.filter(|metadata| metadata.is_visible(self.0.stamp.now(), options.tombstones)))
    }

    /// A part of a value that lies in its row; `None` where it is not there any longer.
    pub(crate) async fn part_of_row(
        &self,
        key: &Key,
        version: &Version,
        part: &Range<u64>,
    ) -> Result<Option<Bytes>> {
        let query = Query::Part {
            statement: self.0.statements.part.clone(),
            key: key.clone(),
            version: version.to_string(),
            from: position(part.start + 1),
            length: position(part.end - part.start),
        };
        let row = self.row(Purpose::Read, query).await?;
        Ok(row.and_then(|row| row.try_get::<Vec<u8>, _>(0).ok()).map(Bytes::from))
    }

    pub(crate) async fn load_many(&self, keys: &[Key], options: &ReadOptions) -> Result<Reads> {
        self.check_open(Operation::LoadMany)?;
        let mut wanted: Vec<Key> = keys.to_vec();
        wanted.sort_unstable();
        wanted.dedup();
        let wanted = Arc::new(wanted);
        let found = self.find(Arc::clone(&wanted)).await?;
        let mut reads = Vec::with_capacity(keys.len());
        for key in keys {
            let read = match wanted.binary_search(key).ok().and_then(|place| found.get(place)) {
                Some(Ok(Some(Found { metadata, stored }))) => match stored {
                    Stored::Here(value) => {
                        let entry = Entry::from_parts(value.clone(), Arc::clone(metadata));
                        tiered_core::adapter::answer(Some(entry), self.0.stamp.now(), options)
                    }
                    Stored::Apart(_) | Stored::Unread => self.load_entry(key, options).await,
                },
                Some(Err(error)) => Err(error.clone()),
                Some(Ok(None)) | None => Ok(Read::from_store(Lookup::Absent)),
            };
            reads.push(read.map_err(|error| error.for_key(key)));
        }
        Ok(reads)
    }

    /// The rows of keys that are all different, in their order. A row is read and checked while the server sends the next
    /// ones.
    async fn find(&self, wanted: Arc<Vec<Key>>) -> Result<Vec<Result<Option<Found>>>> {
        let (statement, now) = (self.0.statements.load_many.clone(), now(self.0.stamp.now()));
        let found = self.0.client.run(Purpose::Read, move |connection| {
            let (statement, wanted) = (statement.clone(), Arc::clone(&wanted));
            Box::pin(async move {
                let keys: Vec<&[u8]> = wanted.iter().map(|key| key.as_str().as_bytes()).collect();
                let mut found: Vec<Result<Option<Found>>> = wanted.iter().map(|_| Ok(None)).collect();
                let mut rows = statement.query().bind(keys).bind(now).fetch(connection);
                while let Some(row) = rows.try_next().await? {
                    // Places are counted from 1.
                    let place = usize::try_from(row.try_get::<i64, _>(0)?).unwrap_or(0);
                    if let Some(found) = place.checked_sub(1).and_then(|place| found.get_mut(place)) {
                        *found = row::entry_beside_key(&row).and_then(verified);
                    }
                }
                Ok(found)
            })
        });
        found.await
    }

    pub(crate) async fn list_marks(&self, prefix: &str) -> Result<Vec<String>> {
        let (statement, prefix) = (self.0.statements.list_marks.clone(), mark_row(prefix));
        let rows = self
            .0
            .client
            .run(Purpose::Read, move |connection| {
                let (statement, prefix) = (statement.clone(), prefix.clone());
                Box::pin(async move { statement.query().bind(prefix).fetch_all(connection).await })
            })
            .await?;
        let name = |row: &PgRow| {
            let row: &str = row.try_get(0).map_err(|_| row::damaged("name of a mark"))?;
            Ok(row.strip_prefix(&mark_row("")).unwrap_or(row).to_owned())
        };
        rows.iter().map(name).collect()
    }

    pub(crate) async fn get_mark(&self, name: &str) -> Result<Option<Bytes>> {
        let query = Query::Mark { statement: self.0.statements.get_mark.clone(), name: mark_row(name) };
        let row = self.row(Purpose::Read, query).await?;
        Ok(row.and_then(|row| row.try_get::<Vec<u8>, _>(0).ok()).map(Bytes::from))
    }
}

/// What was read of a value in chunks. Where nothing was, its entry was replaced and is to be read again. One that is
/// still there, and whose value is gone for the second time, is damaged.
fn look_again<T>(gone: &mut Option<Content>, content: Content, read: Option<T>) -> Result<Option<T>> {
    if read.is_none() && gone.replace(content) == Some(content) {
        return Err(missing());
    }
    Ok(read)
}

/// What a row says, where its value is as its checksum says.
fn verified(found: Found) -> Result<Option<Found>> {
    if let Stored::Here(value) = &found.stored {
        Entry::from_parts(value.clone(), Arc::clone(&found.metadata)).verify()?;
    }
    Ok(Some(found))
}

/// The row of a mark. A mark's name has no colon, so it is never the schema's.
pub(crate) fn mark_row(name: &str) -> String {
    format!("mark:{name}")
}

/// What is read of a value, where it lies in its row.
enum Part {
    /// The whole, or where a range begins and its length.
    Range(Option<(i32, i32)>),
    /// Where ranges begin, and their lengths.
    Slices(Vec<i32>, Vec<i32>),
}

/// A statement that answers in one row at most, and its parameters.
enum Query {
    Load {
        statement: Statement,
        key: Key,
        now: i64,
        /// The version whose value is not wanted, and the only one whose value is.
        known: Option<String>,
        wanted: Option<String>,
        part: Part,
    },
    Head {
        statement: Statement,
        key: Key,
        now: i64,
    },
    Part {
        statement: Statement,
        key: Key,
        version: String,
        from: i32,
        length: i32,
    },
    Mark {
        statement: Statement,
        name: String,
    },
}

impl Query {
    fn build(&self) -> crate::sql::Query<'_> {
        match self {
            Self::Load { statement, key, now, known, wanted, part } => {
                let query =
                    statement.query().bind(key.as_str().as_bytes()).bind(now).bind(known).bind(wanted);
                match part {
                    Part::Range(Some((from, length))) => query.bind(from).bind(length),
                    Part::Range(None) => query,
                    Part::Slices(starts, lengths) => query.bind(starts).bind(lengths),
                }
            }
            Self::Head { statement, key, now } => statement.query().bind(key.as_str().as_bytes()).bind(now),
            Self::Part { statement, key, version, from, length } => {
                statement.query().bind(key.as_str().as_bytes()).bind(version).bind(from).bind(length)
            }
            Self::Mark { statement, name } => statement.query().bind(name),
        }
    }
}
