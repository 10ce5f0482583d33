//! Several ranges of one value, of one version.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};

use crate::entry::{Entry, Metadata, clamp_range};
use crate::error::{Error, ErrorKind, Result};
use crate::read::{Known, Lookup, Read, ReadOptions};

/// Reads at a time of one call.
const CONCURRENCY: usize = 8;

/// How often a read that found its value replaced begins anew. A value that is replaced faster than it is read would
/// keep it busy without end.
const ATTEMPTS: usize = 8;

/// Ranges that are at most so many bytes apart are one read, where a read costs no more than a system call.
pub const NEAR: u64 = 64 << 10;

/// What several ranges of a value have, all of one version.
///
/// # Examples
/// ```
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// use tiered_core::{Key, Lookup, MemoryStore, ReadOptions, Store, StoreExt};
///
/// let store = MemoryStore::new();
/// store.set("file", "header, body").await?;
/// let read = store.get_ranges(&Key::new("file")?, &[0..6, 8..12], &ReadOptions::new()).await?;
/// let Lookup::Found(slices) = read.lookup else { panic!("just written") };
/// assert_eq!((slices.metadata.size, slices.values), (12, vec!["header".into(), "body".into()]));
/// # Ok::<(), tiered_core::Error>(()) }).unwrap();
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Slices {
    /// The metadata of the whole value.
    pub metadata: Arc<Metadata>,
    /// The bytes of each range, in the order asked.
    pub values: Vec<Bytes>,
}

/// # Examples
/// ```
/// use std::sync::Arc;
/// use tiered_core::adapter::Stamp;
/// use tiered_core::{Put, Slices};
///
/// let entry = Stamp::system().entry(&Put::new("header, body"));
/// let slices = Slices::of(&entry, &[8..12])?;
/// assert_eq!(slices, Slices::new(Arc::clone(entry.metadata()), vec!["body".into()]));
/// # Ok::<(), tiered_core::Error>(())
/// ```
impl Slices {
    /// These bytes, one for each range, of a value with this metadata.
    pub const fn new(metadata: Arc<Metadata>, values: Vec<Bytes>) -> Self {
        Self { metadata, values }
    }

    /// These ranges of a whole entry.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidRange`] where one of them does not fit the value.
    pub fn of(entry: &Entry, ranges: &[Range<u64>]) -> Result<Self> {
        let values = ranges.iter().map(|range| Ok(entry.slice(range)?.into_value()));
        Ok(Self { metadata: Arc::clone(entry.metadata()), values: values.collect::<Result<_>>()? })
    }
}

/// Answers [`get_ranges`](crate::Store::get_ranges) by range reads: those of ranges that are at most `near` bytes apart
/// are joined, the first says which version it is, and the others are conditional on that. Where it changes meanwhile, all
/// begins anew, at most eight times.
///
/// # Errors
/// Those of `load`; [`ErrorKind::InvalidRange`]; [`ErrorKind::Unavailable`] where the value was replaced each time.
///
/// # Cancel safety
/// Dropping it has no effect.
pub async fn load_ranges<F, Loading>(
    ranges: &[Range<u64>],
    options: &ReadOptions,
    near: u64,
    load: F,
) -> Result<Read<Slices>>
where
    F: Fn(ReadOptions) -> Loading + Sync,
    Loading: Future<Output = Result<Read>> + Send,
{
    let spans = spans(ranges, near);
    let (first, others) = match spans.split_first() {
        Some((first, others)) => (first.clone(), others),
        None => (0..0, &[][..]),
    };
    for _ in 0..ATTEMPTS {
        let read = load(ReadOptions { range: Some(first.clone()), ..options.clone() }).await?;
        let Lookup::Found(entry) = &read.lookup else { return Ok(read.without_entry()) };
        let same = ReadOptions { unless: None, ..options.clone() }.if_version(Known::of(entry));
        let loads: Vec<Loading> = others.iter().map(|span| load(same.clone().range(span.clone()))).collect();
        let rest: Vec<Read> = stream::iter(loads).buffered(CONCURRENCY).try_collect().await?;
        match rest.iter().find(|read| read.entry().is_none()) {
            None => return assemble(ranges, &spans, read, rest),
            // The version that was asked for has been replaced.
            Some(other) if options.if_version.is_some() => return Ok(other.clone().without_entry()),
            Some(_) => {}
        }
    }
    Err(Error::new(ErrorKind::Unavailable, "the value was replaced each time it was read; read it again"))
}

/// The ranges, ordered, and joined where they overlap or are near.
fn spans(ranges: &[Range<u64>], near: u64) -> Vec<Range<u64>> {
    let mut ordered: Vec<Range<u64>> = ranges.to_vec();
    ordered.sort_unstable_by_key(|range| range.start);
    let mut spans: Vec<Range<u64>> = Vec::new();
    for range in ordered {
        match spans.last_mut() {
            Some(last) if range.start <= last.end.saturating_add(near) => last.end = last.end.max(range.end),
            _ => spans.push(range.start..range.end.max(range.start)),
        }
    }
    spans
}

fn assemble(
    ranges: &[Range<u64>],
    spans: &[Range<u64>],
    first: Read,
    rest: Vec<Read>,
) -> Result<Read<Slices>> {
    let (source, mut age, mut stale) = (first.source, first.age, first.stale);
    let mut parts: Vec<Entry> = Vec::with_capacity(spans.len());
    for read in std::iter::once(first).chain(rest) {
        age = age.max(read.age);
        stale |= read.stale;
        parts.extend(read.into_entry());
    }
    let Some(metadata) = parts.first().map(|entry| Arc::clone(entry.metadata())) else {
        return Ok(Read { lookup: Lookup::Absent, source, age, stale });
    };
    let mut values = Vec::with_capacity(ranges.len());
    for range in ranges {
        let range = clamp_range(range, metadata.size)?;
        let holds = |span: &&(&Range<u64>, &Entry)| span.0.start <= range.start && range.end <= span.0.end;
        let spans: Vec<(&Range<u64>, &Entry)> = spans.iter().zip(&parts).collect();
        let value = spans.iter().find(holds).and_then(|(span, part)| {
            let start = usize::try_from(range.start - span.start).ok()?;
            let end = usize::try_from(range.end - span.start).ok()?;
            (end <= part.value().len()).then(|| part.value().slice(start..end))
        });
        values.push(value.ok_or_else(|| {
            Error::new(ErrorKind::Other, "the store gave another part of the value than the one asked for")
        })?);
    }
    Ok(Read { lookup: Lookup::Found(Slices { metadata, values }), source, age, stale })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Put;
    use crate::adapter::Stamp;
    use parking_lot::Mutex;

    #[test]
    fn neighbouring_ranges_are_merged_into_one_read() {
        assert_eq!(spans(&[10..20, 0..5, 24..30, 12..14], 4), [0..5, 10..30]);
        assert_eq!(spans(&[0..5, 5..9, 12..13], 0), [0..9, 12..13]);
        assert_eq!(spans(&[], 4), Vec::<Range<u64>>::new());
    }

    /// A value that is replaced between two reads, for so many times.
    async fn replaced(times: usize, options: ReadOptions) -> (Result<Read<Slices>>, usize) {
        let stamp = Stamp::system();
        let state = Mutex::new((0, stamp.entry(&Put::new("0123456789"))));
        let read = load_ranges(&[0..2, 8..10], &options, 0, |options| {
            let (reads, entry) = &mut *state.lock();
            *reads += 1;
            let answer = Read::answer(Some(entry.clone()), &options);
            if *reads <= times * 2 && *reads % 2 == 1 {
                *entry = stamp.entry(&Put::new("abcdefghij"));
            }
            std::future::ready(answer)
        });
        (read.await, state.lock().0)
    }

    #[tokio::test]
    async fn a_value_replaced_during_a_ranged_read_is_read_again() {
        let (read, reads) = replaced(2, ReadOptions::new()).await;
        let Lookup::Found(slices) = read.expect("read").lookup else { panic!("it is there") };
        assert_eq!((slices.values, reads), (vec![Bytes::from("ab"), Bytes::from("ij")], 6));
        let (read, reads) = replaced(usize::MAX / 2, ReadOptions::new()).await;
        assert_eq!(
            (read.expect_err("replaced without end").kind(), reads),
            (ErrorKind::Unavailable, 2 * ATTEMPTS)
        );
    }

    #[tokio::test]
    async fn a_read_of_a_given_version_is_not_repeated_with_another() {
        let version = crate::Version::from_u128(1);
        let (read, reads) = replaced(1, ReadOptions::new().if_version(version)).await;
        assert_eq!((read.expect("read").lookup, reads), (Lookup::Changed, 1));
    }
}
