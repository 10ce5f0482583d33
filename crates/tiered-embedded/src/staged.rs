//! The writer's part of streamed puts: storing what comes, and making an entry of it.

use tiered_core::adapter::BatchOutcomes;
use tiered_core::{Action, Applied, Error, ErrorKind, Outcome, Result, Written};
use tokio::sync::oneshot;

use crate::bound::Change;
use crate::engine::{Table, Transaction};
use crate::layout::write_record;
use crate::record::Content;
use crate::request::{Part, Upload};
use crate::shared::Shared;
use crate::value::Loose;
use crate::writer::{Answer, CarriedOut, Refusal, judge_one};

/// Stores a part. The value stays loose: its mark says how much of it there is.
pub(crate) fn store(
    transaction: &mut dyn Transaction,
    part: &Part,
    reply: oneshot::Sender<Result<u64>>,
    shared: &Shared,
    carried_out: &mut CarriedOut,
) -> Result<()> {
    let (opening, added) = (shared.opening(), part.after.bytes - part.before.bytes);
    let refused =
        if part.opening.is_some_and(|begun| begun != opening) || !shared.values.is_live(part.place.id) {
            // The same answer where the call was dropped: nobody reads it.
            Err(lost())
        } else {
            let check = |bound: &crate::bound::Bound| bound.check_staged(carried_out.staged, added);
            shared.bound.as_ref().map_or(Ok(()), check)
        };
    if let Err(error) = refused {
        // A dropped call needs no answer.
        reply.send(Err(error)).ok();
        return Ok(());
    }
    carried_out.answers.push(Answer::Staged(opening, reply));
    for (index, chunk) in (part.first..).zip(&part.chunks) {
        transaction.put(Table::Chunks, &part.place.chunk(index), chunk)?;
    }
    let name = part.place.loose();
    transaction.put(Table::Chunks, &name, &part.after.encode(&name))?;
    carried_out.staged += added;
    carried_out.change(|| Change::Staged(added));
    Ok(())
}

/// Makes an entry of what was stored, where its precondition holds.
pub(crate) fn publish(
    transaction: &mut dyn Transaction,
    upload: Upload,
    reply: oneshot::Sender<Result<BatchOutcomes>>,
    shared: &Shared,
    carried_out: &mut CarriedOut,
) -> Result<()> {
    let (key, place) = (upload.key.clone(), upload.place);
    let published = judge(transaction, &upload, shared, carried_out).and_then(|()| {
        let written = write(transaction, upload, shared, carried_out).map_err(Refusal::Broken)?;
        Ok(vec![Ok(Applied::Put(written))])
    });
    match published {
        Ok(outcomes) => {
            carried_out.published.push(place.id);
            carried_out.answers.push(Answer::Applied(outcomes, reply));
            Ok(())
        }
        // The transaction goes on without it.
        Err(Refusal::Judged(error)) => {
            shared.values.end(place);
            reply.send(Err(error.for_key(&key).outcome_is(Outcome::NotApplied))).ok();
            Ok(())
        }
        Err(Refusal::Broken(error)) => {
            carried_out.published.push(place.id);
            carried_out.answers.push(Answer::Applied(Vec::new(), reply));
            Err(error)
        }
    }
}

fn judge(
    transaction: &dyn Transaction,
    upload: &Upload,
    shared: &Shared,
    carried_out: &CarriedOut,
) -> std::result::Result<(), Refusal> {
    let name = upload.place.loose();
    let mut loose = None;
    let read = transaction.get(Table::Chunks, &name, &mut |mark| {
        loose = Loose::decode(&name, mark);
        Ok(())
    });
    read.map_err(Refusal::Broken)?;
    if loose != Some(upload.loose) || upload.opening != shared.opening() {
        return Err(Refusal::Judged(lost()));
    }
    let put = Action::Put(upload.put.clone());
    judge_one(transaction, &upload.key, &put, shared.stamp.now(), &carried_out.chunked).map(drop)
}

fn write(
    transaction: &mut dyn Transaction,
    upload: Upload,
    shared: &Shared,
    carried_out: &mut CarriedOut,
) -> Result<Written> {
    let Upload { key, put, place, size, checksum, loose, .. } = upload;
    let mut metadata = (**shared.stamp.entry(&put).metadata()).clone().with_checksum(Some(checksum));
    metadata.size = size;
    let content = Content::Apart(place.id);
    let stored = write_record(transaction, &key, &metadata, &content, &shared.values)?;
    transaction.delete(Table::Chunks, &place.loose())?;
    carried_out.wrote(&key, metadata.expires_at, stored);
    carried_out.change(|| Change::Unstaged(loose.bytes));
    Ok(Written::committed(metadata.version))
}

/// The parts of an upload may be gone.
fn lost() -> Error {
    let message = "the disk failed while the value was uploaded, and a part of it is lost; send it again";
    Error::new(ErrorKind::Unavailable, message).outcome_is(Outcome::NotApplied)
}
