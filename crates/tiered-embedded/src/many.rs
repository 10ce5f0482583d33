//! Reads of many keys: piece by piece on the caller's thread while that is quick, the rest on one for blocking work.

use tiered_core::adapter::{self, Reads};
use tiered_core::{ErrorKind, Key, Operation, Read, ReadOptions, Result, Store as _, Timestamp};

use crate::answer::answer;
use crate::engine::{Table, View};
use crate::inline::{LARGEST, Lap};
use crate::layout::{chunk_bytes, read_record};
use crate::record::{self, Record};
use crate::store::EmbeddedStore;

/// Keys of a piece. From memory they take about 100 µs; a fresh view for each piece costs little beside them.
const PIECE: usize = 64;

/// How a piece ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ended {
    /// The next one may follow on the caller's thread.
    Whole,
    /// The rest is to be read on another thread.
    Cut,
}

impl EmbeddedStore {
    /// Reads each of `keys`. The caller's thread is free for other work after each piece.
    pub(crate) async fn read_many(&self, keys: &[Key], options: &ReadOptions) -> Reads {
        if let Err(error) = self.check_open(Operation::LoadMany) {
            return adapter::all_failed(keys, &error);
        }
        if keys.is_empty() {
            return Reads::new();
        }
        let now = self.now();
        let mut reads = Reads::with_capacity(keys.len());
        while !self.polls_inline() {
            let rest = keys.get(reads.len()..).unwrap_or_default();
            if self.read_piece(rest, options, now, &mut reads) == Ended::Cut {
                break;
            }
            if reads.len() == keys.len() {
                return reads;
            }
            tokio::task::yield_now().await;
        }
        let rest = keys.get(reads.len()..).unwrap_or_default();
        reads.extend(self.read_rest(rest, options, now).await);
        reads
    }

    /// Reads the first few of `keys` on the caller's thread, and adds what they have to `reads`.
    fn read_piece(&self, keys: &[Key], options: &ReadOptions, now: Timestamp, reads: &mut Reads) -> Ended {
        let Some(mut turn) = self.begin_turn() else { return Ended::Cut };
        let mut ended = Ended::Whole;
        let ran = self.shared().with_idle_engine(|engine| {
            let ran = engine.read(&mut |view| {
                let mut bytes = 0;
                for key in keys.iter().take(PIECE) {
                    let record = read_record(view, key);
                    let wanted = match &record {
                        Ok(Some(record)) => chunk_bytes(key, record, options.range.as_ref()),
                        Ok(None) | Err(_) => 0,
                    };
                    if wanted > LARGEST {
                        ended = Ended::Cut;
                        break;
                    }
                    reads.push(answer_one(view, self.name(), key, record, options, now)?);
                    bytes += wanted;
                    match self.inlining().lap(&mut turn) {
                        Lap::Go if bytes <= LARGEST => {}
                        Lap::Go | Lap::Break => break,
                        Lap::Leave => {
                            ended = Ended::Cut;
                            break;
                        }
                    }
                }
                Ok(())
            });
            Some(ran)
        });
        self.inlining().end(turn);
        // The blocking path reports a failing disk and closes the engine.
        if matches!(ran, Some(Ok(()))) { ended } else { Ended::Cut }
    }

    /// Reads `keys` on another thread, all on one view.
    async fn read_rest(&self, keys: &[Key], options: &ReadOptions, now: Timestamp) -> Reads {
        let (owned, asked, name) = (keys.to_vec(), options.clone(), self.name());
        let reads = self.read(Operation::LoadMany, move |view| {
            let names: Vec<&[u8]> = owned.iter().map(|key| key.as_str().as_bytes()).collect();
            let mut records: Vec<Result<Option<Record>>> = Vec::new();
            records.resize_with(owned.len(), || Ok(None));
            view.get_many(Table::Meta, &names, &mut |index, bytes| {
                if let (Some(key), Some(record)) = (owned.get(index), records.get_mut(index)) {
                    *record = record::decode(key, bytes).map(Some);
                }
                Ok(())
            })?;
            let answers = owned.iter().zip(records);
            answers.map(|(key, record)| answer_one(view, name, key, record, &asked, now)).collect()
        });
        match reads.await {
            Ok(reads) => reads,
            // The engine does not name the damaged key: read each key on its own.
            Err(error) if error.kind() == ErrorKind::Corrupt => {
                let mut reads = Reads::with_capacity(keys.len());
                for key in keys {
                    reads.push(self.load(key, options).await);
                }
                reads
            }
            Err(error) => adapter::all_failed(keys, &error),
        }
    }
}

/// The answer to one key of several. Damage concerns one key; a failed disk ends the read, and the engine is reopened.
fn answer_one(
    view: &dyn View,
    name: &'static str,
    key: &Key,
    record: Result<Option<Record>>,
    options: &ReadOptions,
    now: Timestamp,
) -> Result<Result<Read>> {
    let read = record.and_then(|record| answer(view, key, record, options, now));
    match read.map_err(|error| error.during(Operation::LoadMany).in_tier(name).for_key(key)) {
        Err(error) if matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Full) => Err(error),
        read => Ok(read),
    }
}
