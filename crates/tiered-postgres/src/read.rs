//! Reads of one key, of many, and of marks.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use sqlx::Row as _;
use sqlx::postgres::PgRow;
use tiered_core::adapter::{Reads, clamp_range};
use tiered_core::{
    ByteStream, Entry, Error, ErrorKind, Key, Lookup, Metadata, Operation, Read, ReadOptions, Result, Slices,
};

use crate::client::Purpose;
use crate::row::{self, now};
use crate::sql::Statement;
use crate::store::PostgresStore;

/// A larger value is streamed in parts of this size, each a statement of its own.
const PART: usize = 4 << 20;

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
        let query = Query::Load {
            statement: match options.range {
                Some(_) => self.0.statements.load_range.clone(),
                None => self.0.statements.load.clone(),
            },
            key: key.clone(),
            now: now(self.0.stamp.now()),
            known: options.unless.as_ref().map(|known| known.version.to_string()),
            wanted: options.if_version.as_ref().map(|known| known.version.to_string()),
            range: options.range.as_ref().map(|range| {
                let length = range.end.saturating_sub(range.start);
                (position(range.start.saturating_add(1)), position(length))
            }),
        };
        let Some(row) = self.row(Purpose::Read, query).await? else {
            return Ok(Read::from_store(Lookup::Absent));
        };
        let (_, entry, metadata) = row::entry(&row)?;
        self.answer(entry, &metadata, options)
    }

    /// All ranges of one row.
    pub(crate) async fn load_slices(
        &self,
        key: &Key,
        ranges: &[Range<u64>],
        options: &ReadOptions,
    ) -> Result<Read<Slices>> {
        self.check_open(Operation::Load)?;
        let query = Query::Slices {
            statement: self.0.statements.load_slices.clone(),
            key: key.clone(),
            now: now(self.0.stamp.now()),
            known: options.unless.as_ref().map(|known| known.version.to_string()),
            wanted: options.if_version.as_ref().map(|known| known.version.to_string()),
            starts: ranges.iter().map(|range| position(range.start.saturating_add(1))).collect(),
            lengths: ranges.iter().map(|range| position(range.end.saturating_sub(range.start))).collect(),
        };
        let Some(row) = self.row(Purpose::Read, query).await? else {
            return Ok(Read::from_store(Lookup::Absent));
        };
        let (_, metadata) = row::metadata(&row)?;
        let metadata = Arc::new(metadata);
        let values: Option<Vec<Vec<u8>>> = row.try_get(11).map_err(|_| row::damaged("value"))?;
        // Conditions and visibility are judged as for any read.
        let empty = values.is_some().then(|| Entry::from_parts(Bytes::new(), Arc::clone(&metadata)));
        let options = options.clone().range(0..0);
        self.answer(empty, &metadata, &options)?.try_map(|_| {
            ranges.iter().try_for_each(|range| clamp_range(range, metadata.size).map(drop))?;
            let values = values.unwrap_or_default().into_iter().map(Bytes::from).collect();
            Ok(Slices::new(Arc::clone(&metadata), values))
        })
    }

    /// The answer for a row; no entry is one of another version, or an unchanged one.
    fn answer(&self, entry: Option<Entry>, metadata: &Arc<Metadata>, options: &ReadOptions) -> Result<Read> {
        if !metadata.is_visible(self.0.stamp.now(), options.tombstones) {
            return Ok(Read::from_store(Lookup::Absent));
        }
        if options.excludes(&metadata.version) {
            return Ok(Read::from_store(Lookup::Changed));
        }
        let Some(entry) = entry else { return Ok(Read::from_store(Lookup::Unchanged)) };
        if let Some(range) = &options.range {
            clamp_range(range, metadata.size)?;
        } else {
            entry.verify()?;
        }
        Ok(Read::from_store(Lookup::Found(entry)))
    }

    pub(crate) async fn head_entry(&self, key: &Key, options: &ReadOptions) -> Result<Option<Arc<Metadata>>> {
        self.check_open(Operation::Load)?;
        let query = Query::Head {
            statement: self.0.statements.head.clone(),
            key: key.clone(),
            now: now(self.0.stamp.now()),
        };
        let Some(row) = self.row(Purpose::Read, query).await? else { return Ok(None) };
        let (_, metadata) = row::metadata(&row)?;
        let visible = metadata.is_visible(self.0.stamp.now(), options.tombstones);
        Ok(visible.then(|| Arc::new(metadata)))
    }

    pub(crate) async fn load_many(&self, keys: &[Key], options: &ReadOptions) -> Result<Reads> {
        self.check_open(Operation::LoadMany)?;
        let mut wanted: Vec<Key> = keys.to_vec();
        wanted.sort_unstable();
        wanted.dedup();
        let wanted = Arc::new(wanted);
        let found = self.find(Arc::clone(&wanted)).await?;
        let answer = |key: &Key| {
            let entry = match wanted.binary_search(key).ok().and_then(|place| found.get(place)) {
                Some(Ok(entry)) => entry.clone(),
                Some(Err(error)) => return Err(error.clone().for_key(key)),
                None => None,
            };
            let read = tiered_core::adapter::answer(entry, self.0.stamp.now(), options);
            read.map_err(|error| error.for_key(key))
        };
        Ok(keys.iter().map(answer).collect())
    }

    /// The entries of keys that are all different, in their order. A row is read and checked while the server sends the next
    /// ones.
    async fn find(&self, wanted: Arc<Vec<Key>>) -> Result<Vec<Result<Option<Entry>>>> {
        let (statement, now) = (self.0.statements.load_many.clone(), now(self.0.stamp.now()));
        let found = self.0.client.run(Purpose::Read, move |connection| {
            let (statement, wanted) = (statement.clone(), Arc::clone(&wanted));
            Box::pin(async move {
                let keys: Vec<&[u8]> = wanted.iter().map(|key| key.as_str().as_bytes()).collect();
                let mut found: Vec<Result<Option<Entry>>> = wanted.iter().map(|_| Ok(None)).collect();
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

    pub(crate) async fn stream_entry(
        &self,
        key: &Key,
        options: &ReadOptions,
    ) -> Result<Option<(Arc<Metadata>, ByteStream)>> {
        let Some(metadata) = self.head_entry(key, options).await? else { return Ok(None) };
        let all = 0..metadata.size;
        let range = clamp_range(options.range.as_ref().unwrap_or(&all), metadata.size)?;
        let (store, key, version) = (self.clone(), key.clone(), metadata.version.to_string());
        let parts = range.clone().step_by(PART).map(move |start| start..range.end.min(start + PART as u64));
        let body = stream::iter(parts).then(move |part| {
            let (store, key, version) = (store.clone(), key.clone(), version.clone());
            async move {
                let query = Query::Part {
                    statement: store.0.statements.part.clone(),
                    key: key.clone(),
                    version,
                    from: position(part.start + 1),
                    length: position(part.end - part.start),
                };
                let failed = |error: Error| store.failed(error, Operation::Load).for_key(&key);
                let row = store.row(Purpose::Read, query).await.map_err(failed)?;
                let part = row.and_then(|row| row.try_get::<Vec<u8>, _>(0).ok()).map(Bytes::from);
                part.ok_or_else(|| {
                    let message = "the entry was replaced while it was read in parts; read it again";
                    failed(Error::new(ErrorKind::Unavailable, message))
                })
            }
        });
        Ok(Some((metadata, Box::pin(body))))
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

/// An entry whose value is as its checksum says.
fn verified((entry, _): (Option<Entry>, Arc<Metadata>)) -> Result<Option<Entry>> {
    if let Some(entry) = &entry {
        entry.verify()?;
    }
    Ok(entry)
}

/// The row of a mark. A mark's name has no colon, so it is never the schema's.
pub(crate) fn mark_row(name: &str) -> String {
    format!("mark:{name}")
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
        range: Option<(i32, i32)>,
    },
    Slices {
        statement: Statement,
        key: Key,
        now: i64,
        known: Option<String>,
        wanted: Option<String>,
        starts: Vec<i32>,
        lengths: Vec<i32>,
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
            Self::Load { statement, key, now, known, wanted, range } => {
                let query =
                    statement.query().bind(key.as_str().as_bytes()).bind(now).bind(known).bind(wanted);
                match range {
                    Some((from, length)) => query.bind(from).bind(length),
                    None => query,
                }
            }
            Self::Slices { statement, key, now, known, wanted, starts, lengths } => {
                let query =
                    statement.query().bind(key.as_str().as_bytes()).bind(now).bind(known).bind(wanted);
                query.bind(starts).bind(lengths)
            }
            Self::Head { statement, key, now } => statement.query().bind(key.as_str().as_bytes()).bind(now),
            Self::Part { statement, key, version, from, length } => {
                statement.query().bind(key.as_str().as_bytes()).bind(version).bind(from).bind(length)
            }
            Self::Mark { statement, name } => statement.query().bind(name),
        }
    }
}
