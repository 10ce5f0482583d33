//! The sweep for expired entries: every commit looks at a few records and removes what has expired.

use std::ops::{Bound, ControlFlow};

use tiered_core::adapter::{Stamp, Tombstones};
use tiered_core::{Key, Result};

use crate::engine::{Table, Transaction};
use crate::layout::{read_record, remove_entry};
use crate::list::key_of;
use crate::record;
use crate::values::Values;

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

    /// Looks at the next `most` records and removes those that have expired, and tells `removed` of each. Where the sweep
    /// stands then, if the transaction is committed.
    pub(crate) fn go_on(
        mut self,
        transaction: &mut dyn Transaction,
        most: usize,
        stamp: &Stamp,
        values: &Values,
        removed: &mut dyn FnMut(&Key),
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
                remove_entry(transaction, &key, values)?;
                removed(&key);
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

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::collections::BTreeMap;
    use std::sync::Arc;
    use std::time::Duration;

    use tiered_core::testing::ManualClock;
    use tiered_core::{Put, Timestamp};

    use super::*;
    use crate::engine::{View, Visit};
    use crate::layout::write_entry;
    use crate::values::Removal;

    fn values() -> Values {
        Values::new(Removal::AtOnce)
    }

    /// Records in a map, and how many a scan has shown.
    #[derive(Default)]
    struct Records {
        map: BTreeMap<Vec<u8>, Vec<u8>>,
        shown: Cell<usize>,
    }

    impl View for Records {
        fn get(&self, _: Table, key: &[u8], visit: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<bool> {
            self.map.get(key).map_or(Ok(false), |value| visit(value).map(|()| true))
        }

        fn scan(&self, _: Table, from: Bound<&[u8]>, _: Option<&[u8]>, visit: &mut Visit<'_>) -> Result<()> {
            for (key, value) in self.map.range::<[u8], _>((from, Bound::Unbounded)) {
                self.shown.set(self.shown.get() + 1);
                if visit(key, value)?.is_break() {
                    break;
                }
            }
            Ok(())
        }
    }

    impl Transaction for Records {
        fn put(&mut self, _: Table, key: &[u8], value: &[u8]) -> Result<()> {
            self.map.insert(key.to_vec(), value.to_vec());
            Ok(())
        }

        fn delete(&mut self, _: Table, key: &[u8]) -> Result<()> {
            self.map.remove(key);
            Ok(())
        }
    }

    impl Records {
        fn write(&mut self, number: usize, stamp: &Stamp, put: &Put) {
            let key = Key::new(format!("k{number:02}")).expect("valid");
            write_entry(self, &key, &stamp.entry(put), &values(), &mut || unreachable!("small"))
                .expect("a map takes all");
        }

        /// The records that the sweep shows in so many commits of one put each.
        fn shown(&mut self, sweep: &mut Sweep, commits: usize, stamp: &Stamp) -> usize {
            self.shown.set(0);
            for _ in 0..commits {
                *sweep = sweep
                    .clone()
                    .go_on(self, RECORDS, stamp, &values(), &mut |_| ())
                    .expect("a map fails never");
            }
            self.shown.get()
        }
    }

    #[test]
    fn a_sweep_rests_after_a_round_in_which_nothing_expires_until_something_is_written_that_does() {
        let clock = Arc::new(ManualClock::new(Timestamp::from_millis(1_000)));
        let stamp = Stamp::new(Arc::clone(&clock) as Arc<_>, Arc::clone(Stamp::system().versions()));
        let (mut records, mut sweep) = (Records::default(), Sweep::default());
        (0..10).for_each(|number| records.write(number, &stamp, &Put::new("v").never_expires()));
        assert_eq!(records.shown(&mut sweep, 6, &stamp), 10, "a whole round");
        assert_eq!(records.shown(&mut sweep, 100, &stamp), 0, "it rests");
        let minute = Duration::from_mins(1);
        records.write(3, &stamp, &Put::new("v").expires_in(minute));
        sweep.wake();
        assert!(records.shown(&mut sweep, 100, &stamp) >= 160, "one that expires: it goes round and round");
        clock.advance(minute);
        records.shown(&mut sweep, 12, &stamp);
        assert_eq!(records.map.len(), 9, "the expired one is gone");
        records.shown(&mut sweep, 12, &stamp);
        assert_eq!(records.shown(&mut sweep, 100, &stamp), 0, "it rests again");
    }
}
