//! Making one store stand in for another.

use bytes::Bytes;

use crate::clock::Stamp;
use crate::error::Result;
use crate::marks::{IDENTITY, JOURNALS};
use crate::store::AsStore;

/// Makes `to` stand in for `from`, whose entries it holds already: it gets the id and all other marks of `from`, so that
/// journals and frontends that belong to `from` know it again. `from` gets a new id, and waits for no journal any more.
/// Marks of `to` that `from` does not have stay.
///
/// Call it while no one writes either of them. Both must keep marks ([`Feature::KeepsMarks`](crate::Feature::KeepsMarks)).
///
/// # Durability
/// As marks: when it returns, all of it is as durable as the stores can make it. Ended half-way, even by a loss of power, both
/// have the same id at most, and calling it again completes it.
///
/// # Errors
/// Those of the stores. After one `from` is as before, or both stores have its id. Where its last write is of unknown outcome, `from`
/// may have a new id already: then `to` is the store to go on with.
///
/// # Cancel safety
/// Dropped half-way it is as after an error.
///
/// # Examples
/// ```
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// use tiered_core::{MemoryStore, ownership};
///
/// let (from, to) = (MemoryStore::new(), MemoryStore::new());
/// let id = ownership::ensure_id(&from).await?;
/// ownership::hand_over(&from, &to).await?;
/// assert_eq!(ownership::id(&to).await?, id);
/// assert_ne!(ownership::id(&from).await?, id);
/// # Ok::<(), tiered_core::Error>(()) }).unwrap();
/// ```
pub async fn hand_over(from: &(impl AsStore + ?Sized), to: &(impl AsStore + ?Sized)) -> Result<()> {
    let (from, to) = (from.as_store(), to.as_store());
    let mut marks = from.mark_names("").await?;
    // The id last: a store that has it has the rest.
    marks.sort_by_key(|name| name == IDENTITY);
    for name in &marks {
        to.set_mark(name, from.mark(name).await?).await?;
    }
    to.flush().await?;
    if marks.iter().any(|name| name == IDENTITY) {
        let fresh = Stamp::system().versions().mint().to_string();
        let fresh = Bytes::from(fresh);
        if let Err(error) = from.set_mark(IDENTITY, Some(fresh.clone())).await
            && from.mark(IDENTITY).await? != Some(fresh)
        {
            return Err(error);
        }
    }
    if marks.iter().any(|name| name == JOURNALS) {
        // `to` waits for them. Left behind, it would only keep others from writing `from`.
        if let Err(error) = from.set_mark(JOURNALS, None).await {
            tracing::warn!(error = %error.chain(), "a store that was replaced still names journals");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::MemoryStore;
    use crate::store::Store as _;

    #[test]
    fn all_marks_go_over_and_the_store_before_waits_for_no_journal() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("builds");
        runtime.block_on(async {
            let (from, to) = (MemoryStore::new(), MemoryStore::new());
            let journal = "000000000000000000000000000000ff";
            for (name, value) in [(IDENTITY, "us"), (JOURNALS, journal), ("of.others", "7")] {
                from.set_mark(name, Some(value.into())).await.expect("set");
            }
            to.set_mark("its.own", Some("1".into())).await.expect("set");
            to.set_mark(IDENTITY, Some("them".into())).await.expect("set");
            hand_over(&from, &to).await.expect("handed over");
            for (name, value) in [(IDENTITY, "us"), (JOURNALS, journal), ("of.others", "7"), ("its.own", "1")]
            {
                assert_eq!(to.mark(name).await.expect("read").expect("is there"), value);
            }
            assert_ne!(from.mark(IDENTITY).await.expect("read").expect("is there"), "us");
            assert_eq!(from.mark(JOURNALS).await.expect("read"), None);
        });
    }
}
