//! Values in chunks: reading parts of them.
//!
//! The bytes under an id never change, so that any number of statements read one version. Chunks that are missing were
//! removed after the row was replaced or deleted.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures_util::TryStreamExt as _;
use sqlx::Row as _;
use tiered_core::{Error, Result};

use crate::client::Purpose;
use crate::row::{Content, damaged};
use crate::store::PostgresStore;

/// Bytes of a chunk.
pub(crate) const CHUNK: usize = 1 << 20;

/// Bytes that one statement reads of a value.
pub(crate) const PART: u64 = 4 << 20;

/// The largest buffer that is made ahead for a value: what a row says of its size is not relied upon.
const RESERVED: u64 = 64 << 20;

/// The ranges of a value in parts that a statement reads each.
pub(crate) fn parts(range: &Range<u64>) -> impl Iterator<Item = Range<u64>> + Send + use<> {
    let end = range.end;
    let length = usize::try_from(PART).unwrap_or(usize::MAX);
    (range.start..end).step_by(length).map(move |start| start..end.min(start + PART))
}

/// A place in a value, as a column holds it.
fn place(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

impl PostgresStore {
    /// The bytes of ranges that the value has; `None` where a chunk of it is missing.
    pub(crate) async fn pieces(&self, content: Content, ranges: &[Range<u64>]) -> Result<Option<Vec<Bytes>>> {
        let statement = self.0.statements.values.pieces.clone();
        let first: Vec<i64> = ranges.iter().map(|range| place(range.start)).collect();
        let beyond: Vec<i64> = ranges.iter().map(|range| place(range.end)).collect();
        let bounds = Arc::new((first, beyond));
        let found = self.0.client.run(Purpose::Read, move |connection| {
            let (statement, bounds) = (statement.clone(), Arc::clone(&bounds));
            Box::pin(async move {
                let query = statement.query().bind(content.as_bytes()).bind(&bounds.0).bind(&bounds.1);
                let mut rows = query.fetch(connection);
                let mut found: Pieces = BTreeMap::new();
                while let Some(row) = rows.try_next().await? {
                    let data: &[u8] = row.try_get(2)?;
                    found.insert((row.try_get(0)?, row.try_get(1)?), Bytes::copy_from_slice(data));
                }
                Ok(found)
            })
        });
        Ok(assemble(found.await?, ranges))
    }

    /// A range of a value in one buffer; `None` where a chunk of it is missing.
    pub(crate) async fn assembled(&self, content: Content, range: &Range<u64>) -> Result<Option<Bytes>> {
        let size = range.end.saturating_sub(range.start);
        if size <= PART {
            let pieces = self.pieces(content, std::slice::from_ref(range)).await?;
            return Ok(pieces.and_then(|pieces| pieces.into_iter().next()));
        }
        let mut value = BytesMut::with_capacity(usize::try_from(size.min(RESERVED)).unwrap_or(0));
        for part in parts(range) {
            let Some(pieces) = self.pieces(content, &[part]).await? else { return Ok(None) };
            for piece in pieces {
                value.extend_from_slice(&piece);
            }
        }
        Ok(Some(value.freeze()))
    }
}

/// What was found of ranges: for each the number of it from 1 on, and where in the value the bytes are.
type Pieces = BTreeMap<(i64, i64), Bytes>;

/// The bytes of each range, if all of them were found.
fn assemble(found: Pieces, ranges: &[Range<u64>]) -> Option<Vec<Bytes>> {
    let mut found = found.into_iter().peekable();
    let mut values = Vec::with_capacity(ranges.len());
    for (number, range) in (1_i64..).zip(ranges) {
        let (mut at, mut pieces) = (range.start, Vec::new());
        while let Some(((_, start), piece)) = found.next_if(|((of, _), _)| *of == number) {
            if place(at) != start {
                return None;
            }
            at += piece.len() as u64;
            pieces.push(piece);
        }
        if at != range.end {
            return None;
        }
        values.push(match <[Bytes; 1]>::try_from(pieces) {
            Ok([piece]) => piece,
            Err(pieces) => pieces.concat().into(),
        });
    }
    Some(values)
}

/// The error of a value that is missing although its row refers to it.
pub(crate) fn missing() -> Error {
    damaged("value in chunks")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pieces(found: &[(i64, i64, &'static str)]) -> Pieces {
        found.iter().map(|(of, at, piece)| ((*of, *at), Bytes::from_static(piece.as_bytes()))).collect()
    }

    #[test]
    fn ranges_are_put_together_from_pieces_that_follow_each_other() {
        let whole = pieces(&[(1, 2, "cd"), (1, 4, "ef"), (3, 0, "ab")]);
        let ranges = [2..6, 3..3, 0..2];
        assert_eq!(assemble(whole, &ranges), Some(vec!["cdef".into(), Bytes::new(), "ab".into()]));
        for broken in [
            pieces(&[(1, 2, "cd"), (3, 0, "ab")]),
            pieces(&[(1, 4, "ef"), (3, 0, "ab")]),
            pieces(&[(1, 2, "cd"), (1, 5, "f"), (3, 0, "ab")]),
            pieces(&[(1, 2, "cd"), (1, 4, "efg"), (3, 0, "ab")]),
            pieces(&[(1, 2, "cd"), (1, 4, "ef")]),
        ] {
            assert_eq!(assemble(broken, &ranges), None);
        }
    }

    #[test]
    fn a_range_is_read_in_parts() {
        assert_eq!(parts(&(5..5)).count(), 0);
        assert_eq!(parts(&(5..6)).collect::<Vec<_>>(), vec![5..6]);
        assert_eq!(parts(&(5..PART + 6)).collect::<Vec<_>>(), vec![5..PART + 5, PART + 5..PART + 6]);
    }
}
