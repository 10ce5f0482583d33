//! Whether a database was ever used.

use std::ops::{Bound, ControlFlow};

use tiered_core::Result;
use tiered_core::adapter::opening::is_set_by_openings;

use crate::bound::is_mark;
use crate::engine::{Engine, Table};

/// Whether the database has no entries, and no marks but those that an opening sets: what a failed opening may take back.
///
/// # Errors
/// Those of the engine.
pub fn is_unused(engine: &dyn Engine) -> Result<bool> {
    let mut unused = true;
    engine.read(&mut |view| {
        for table in [Table::Meta, Table::Chunks, Table::Marks] {
            view.scan(table, Bound::Unbounded, None, &mut |key, _| {
                let by_opening = || !is_mark(key) || std::str::from_utf8(key).is_ok_and(is_set_by_openings);
                unused = table == Table::Marks && by_opening();
                Ok(if unused { ControlFlow::Continue(()) } else { ControlFlow::Break(()) })
            })?;
            if !unused {
                break;
            }
        }
        Ok(())
    })?;
    Ok(unused)
}
