//! Removing the values that no record refers to, piece by piece.
//!
//! Each piece is a transaction of its own: it sees what was committed, and whether the value is loose is looked up in it.

use std::ops::{Bound, ControlFlow};

use tiered_core::{Error, ErrorKind, Result};

use crate::engine::{Engine, Table, Transaction};
use crate::value::Loose;
use crate::values::{Pace, Part, Values};

/// What a piece has removed.
struct Removed {
    /// The next chunk of the value; `None` where it is gone.
    next: Option<u32>,
    /// Bytes of the value, once it is gone.
    bytes: u64,
}

/// Removes the next piece. Bytes of a value that is gone with it; `None` where nothing is to be removed. Blocks.
pub(crate) fn piece(engine: &dyn Engine, values: &Values, pace: Pace) -> Result<Option<u64>> {
    values.learn(engine)?;
    let Some(part) = values.next(pace) else { return Ok(None) };
    let mut removed = None;
    engine.write(false, &mut |transaction| {
        removed = Some(remove(transaction, part)?);
        Ok(())
    })?;
    let Removed { next, bytes } =
        removed.ok_or_else(|| Error::new(ErrorKind::Other, "the engine ran no transaction"))?;
    values.removed(part.place, next);
    Ok(Some(bytes))
}

/// Removes everything. Blocks.
pub(crate) fn all(engine: &dyn Engine, values: &Values) -> Result<()> {
    while piece(engine, values, Pace::Idle)?.is_some() {}
    Ok(())
}

fn remove(transaction: &mut dyn Transaction, part: Part) -> Result<Removed> {
    let Part { place, from, most } = part;
    let name = place.loose();
    let mut mark = None;
    let is_loose = transaction.get(Table::Chunks, &name, &mut |found| {
        mark = Loose::decode(&name, found);
        Ok(())
    })?;
    if !is_loose {
        return Ok(Removed { next: None, bytes: 0 });
    }
    let Some(Loose { chunks, bytes }) = mark else { return remove_without_mark(transaction, part) };
    let end = chunks.min(from.saturating_add(most));
    (from..end).try_for_each(|index| transaction.delete(Table::Chunks, &place.chunk(index)))?;
    if end < chunks {
        return Ok(Removed { next: Some(end), bytes: 0 });
    }
    transaction.delete(Table::Chunks, &name)?;
    Ok(Removed { next: None, bytes })
}

/// As [`remove`], where the mark is damaged: the chunks that are there are looked for.
fn remove_without_mark(transaction: &mut dyn Transaction, part: Part) -> Result<Removed> {
    let Part { place, from, most } = part;
    let mut names = Vec::new();
    let (first, last) = (place.chunk(from), place.chunk(u32::MAX));
    transaction.scan(Table::Chunks, Bound::Included(&first), Some(&last), &mut |name, _| {
        names.push(name.to_vec());
        Ok(if names.len() as u64 == u64::from(most) {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        })
    })?;
    names.iter().try_for_each(|name| transaction.delete(Table::Chunks, name))?;
    if names.len() as u64 == u64::from(most) {
        return Ok(Removed { next: Some(from), bytes: 0 });
    }
    transaction.delete(Table::Chunks, &place.loose())?;
    Ok(Removed { next: None, bytes: 0 })
}
