//! The sweep for expired entries: every commit looks at a few records and removes what has expired.

use std::ops::{Bound, ControlFlow};

use tiered_core::adapter::{Stamp, Tombstones};
use tiered_core::{Key, Result};

use crate::engine::{Table, Transaction};
use crate::layout::{read_record, remove_entry};
use crate::list::key_of;
use crate::record;

/// Records that a commit looks at, for each of its requests that put something: two are enough that dead
/// entries never outnumber the writes of one round. Deletes add none, and a scan over many of them is slow in some engines.
pub(crate) const RECORDS: usize = 2;

/// Where the sweep stands.
///
/// It goes round the table. After a round without a record that can expire it rests until one is written: most stores have
/// none, and a look at records is most of what a small write costs.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sweep {
    /// The last record that was looked at; `None`: the next is the table's first.
    cursor: Option<Key>,
    /// Whether this round came upon a record that can expire, or one was written during it.
    has_work: bool,
    rests: bool,
}

impl Sweep {
    /// A record that can expire is being written.
    pub(crate) fn wake(&mut self) {
        self.has_work = true;
        self.rests = false;
    }

    /// Looks at the next `most` records and removes those that have expired. Where the sweep stands then, if the transaction
    /// is committed.
    pub(crate) fn go_on(
        mut self,
        transaction: &mut dyn Transaction,
        most: usize,
        stamp: &Stamp,
    ) -> Result<Self> {
        if most == 0 || self.rests {
            return Ok(self);
        }
        let now = stamp.now();
        let (mut expired, mut seen, mut last) = (Vec::new(), 0, None);
        let from =
            self.cursor.as_ref().map_or(Bound::Unbounded, |key| Bound::Excluded(key.as_str().as_bytes()));
        transaction.scan(Table::Meta, from, None, &mut |name, bytes| {
            // Damaged records are skipped: reads report them.
            if let Ok(key) = key_of(name) {
                if let Ok(record) = record::decode(&key, bytes) {
                    self.has_work |= record.metadata.expires_at.is_some();
                    if !record.metadata.is_visible(now, Tombstones::Show) {
                        expired.push(key.clone());
                    }
                }
                last = Some(key);
            }
            seen += 1;
            Ok(if seen == most { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
        })?;
        for key in expired {
            // The transaction may have replaced it meanwhile.
            let has_expired = |at| now >= at;
            let record = read_record(transaction, &key)?;
            if record.and_then(|record| record.metadata.expires_at).is_some_and(has_expired) {
                remove_entry(transaction, &key)?;
            }
        }
        self.cursor = last.filter(|_| seen == most);
        if self.cursor.is_none() {
            self.rests = !self.has_work;
            self.has_work = false;
        }
        Ok(self)
    }
}
