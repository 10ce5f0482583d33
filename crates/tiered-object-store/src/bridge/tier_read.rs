//! Reads of a tier.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use tiered_core::adapter::{Checksum, Reads, clamp_range};
use tiered_core::{
    ByteStream, Entry, Error, ErrorKind, Key, Lookup, Metadata, Operation, Read, ReadOptions, Result,
};

use super::failure::Failed;
use super::head::Head;
use super::object_store::path::Path;
use super::object_store::{GetOptions, GetRange, GetResult, ObjectStore as _};
use super::tier::ObjectTier;

/// Reads at a time of one call for several keys.
const CONCURRENCY: usize = 16;

/// More bytes than any object has. Some servers refuse larger numbers in a range.
const LARGEST: u64 = 1 << 48;

impl ObjectTier {
    /// What an object tells; `None` if it does not exist.
    pub(super) async fn look(&self, path: &Path) -> Result<Option<Head>> {
        let options = GetOptions { head: true, ..GetOptions::default() };
        match self.objects().get_opts(path, options).await.map_err(Failed::from) {
            Ok(got) => Head::of(&got.meta, &got.attributes).map(Some).map_err(Failed::into_error),
            Err(Failed::Missing | Failed::Blocked(_)) => Ok(None),
            Err(failed) => Err(failed.into_error()),
        }
    }

    pub(super) async fn look_live(&self, path: &Path) -> Result<Option<Head>> {
        Ok(self.look(path).await?.filter(|head| head.is_live(self.stamp().now())))
    }

    pub(super) async fn load_entry(&self, key: &Key, options: &ReadOptions) -> Result<Read> {
        self.check_open(Operation::Load)?;
        let path = self.path(key)?;
        if let Some(known) = &options.unless {
            match self.look_live(&path).await? {
                None => return Ok(Read::from_store(Lookup::Absent)),
                Some(head) if options.excludes(&head.version) => {
                    return Ok(Read::from_store(Lookup::Changed));
                }
                Some(head) if head.version == known.version => {
                    return Ok(Read::from_store(Lookup::Unchanged));
                }
                Some(_) => {}
            }
        }
        match &options.range {
            None => self.load_whole(&path, options).await,
            Some(range) => self.load_part(&path, range, options).await,
        }
        .map(Read::from_store)
    }

    async fn load_whole(&self, path: &Path, options: &ReadOptions) -> Result<Lookup> {
        let Some((head, got)) = self.get(path, None).await? else { return Ok(Lookup::Absent) };
        if options.excludes(&head.version) {
            return Ok(Lookup::Changed);
        }
        self.check_size(head.size)?;
        let value = body(got, head.size).await?;
        let seen = Checksum::of(&value);
        if head.checksum.is_some_and(|stored| stored != seen) {
            return Err(mismatch());
        }
        Ok(Lookup::Found(Entry::from_parts(value, Arc::new(head.metadata(Some(seen))))))
    }

    fn check_size(&self, size: u64) -> Result<()> {
        if size <= tiered_core::Store::capabilities(self).max_value() {
            return Ok(());
        }
        Err(Error::new(ErrorKind::TooLarge, "the object is larger than max_value; raise it"))
    }

    /// A live object, with its body to be read; the bytes `range` of it, or all.
    async fn get(&self, path: &Path, range: Option<Range<u64>>) -> Result<Option<(Head, GetResult)>> {
        let options = GetOptions { range: range.map(GetRange::Bounded), ..GetOptions::default() };
        let got = match self.objects().get_opts(path, options).await.map_err(Failed::from) {
            Ok(got) => got,
            Err(Failed::Missing | Failed::Blocked(_)) => return Ok(None),
            Err(failed) => return Err(failed.into_error()),
        };
        let head = Head::of(&got.meta, &got.attributes).map_err(Failed::into_error)?;
        Ok(head.is_live(self.stamp().now()).then_some((head, got)))
    }

    async fn load_part(&self, path: &Path, range: &Range<u64>, options: &ReadOptions) -> Result<Lookup> {
        let mut refused = None;
        if range.start < range.end.min(LARGEST) {
            let asked = range.start..range.end.min(LARGEST);
            match self.get(path, Some(asked)).await {
                Ok(None) => return Ok(Lookup::Absent),
                Ok(Some((head, _))) if options.excludes(&head.version) => return Ok(Lookup::Changed),
                Ok(Some((head, got))) => {
                    let clamped = clamp_range(range, head.size)?;
                    if got.range != clamped {
                        return Err(torn("the object store gives another part than the one asked for"));
                    }
                    let value = body(got, clamped.end - clamped.start).await?;
                    return Ok(part_of(head, value));
                }
                // It may begin at the end, or beyond: the size decides.
                Err(error) => refused = Some(error),
            }
        }
        let Some(head) = self.look_live(path).await? else { return Ok(Lookup::Absent) };
        if options.excludes(&head.version) {
            return Ok(Lookup::Changed);
        }
        let clamped = clamp_range(range, head.size)?;
        match refused {
            Some(error) if !clamped.is_empty() => Err(error),
            _ => Ok(part_of(head, Bytes::new())),
        }
    }

    pub(super) async fn head_entry(&self, key: &Key) -> Result<Option<Arc<Metadata>>> {
        self.check_open(Operation::Load)?;
        let head = self.look_live(&self.path(key)?).await?;
        Ok(head.map(|head| {
            let checksum = head.checksum;
            Arc::new(head.metadata(checksum))
        }))
    }

    pub(super) async fn load_many(&self, keys: &[Key], options: &ReadOptions) -> Reads {
        let read = |key: Key| {
            let (tier, options) = (self.clone(), options.clone());
            async move {
                let read = tier.load_entry(&key, &options).await;
                read.map_err(|error| tier.failed(error, Operation::LoadMany).for_key(&key))
            }
        };
        stream::iter(keys.to_vec()).map(read).buffered(CONCURRENCY).collect().await
    }

    pub(super) async fn stream_entry(
        &self,
        key: &Key,
        options: &ReadOptions,
    ) -> Result<Option<(Arc<Metadata>, ByteStream)>> {
        self.check_open(Operation::Load)?;
        let path = self.path(key)?;
        let asked = options.range.clone().filter(|range| range.start < range.end.min(LARGEST));
        if options.range.is_some() && asked.is_none() {
            return self.stream_part(&path, options).await;
        }
        let asked = asked.map(|range| range.start..range.end.min(LARGEST));
        let whole = asked.is_none();
        let got = match self.get(&path, asked.clone()).await {
            Err(_) if !whole => return self.stream_part(&path, options).await,
            got => got?,
        };
        let Some((head, got)) = got else { return Ok(None) };
        let range = match &asked {
            None => 0..head.size,
            Some(range) => clamp_range(range, head.size)?,
        };
        if got.range != range {
            return Err(torn("the object store gives another part than the one asked for"));
        }
        let checksum = head.checksum;
        let left = range.end - range.start;
        let parts = Parts {
            tier: self.clone(),
            key: key.clone(),
            left,
            crc: 0,
            expected: checksum.filter(|_| whole),
        };
        let body = got.into_stream().map(|part| part.map_err(|error| Failed::from(error).into_error()));
        Ok(Some((Arc::new(head.metadata(checksum)), parts.stream(Box::pin(body)))))
    }

    /// A part that is empty, or that was refused.
    async fn stream_part(
        &self,
        path: &Path,
        options: &ReadOptions,
    ) -> Result<Option<(Arc<Metadata>, ByteStream)>> {
        let range = options.range.clone().unwrap_or(0..0);
        let plain = ReadOptions::new().range(range.clone());
        match self.load_part(path, &range, &plain).await? {
            Lookup::Found(entry) => {
                let metadata = Arc::clone(entry.metadata());
                Ok(Some((metadata, Box::pin(stream::iter([Ok(entry.into_value())])))))
            }
            Lookup::Absent | Lookup::Changed | Lookup::Unchanged => Ok(None),
        }
    }
}

/// A streamed value, checked at its end.
struct Parts {
    tier: ObjectTier,
    key: Key,
    left: u64,
    crc: u32,
    expected: Option<Checksum>,
}

impl Parts {
    fn stream(self, body: ByteStream) -> ByteStream {
        Box::pin(stream::unfold(Some((self, body)), |state| async move {
            let (mut parts, mut body) = state?;
            match parts.take(body.next().await) {
                Ok(Some(part)) => Some((Ok(part), Some((parts, body)))),
                Ok(None) => None,
                Err(error) => {
                    let error = parts.tier.failed(error, Operation::Load).for_key(&parts.key);
                    Some((Err(error), None))
                }
            }
        }))
    }

    fn take(&mut self, part: Option<Result<Bytes>>) -> Result<Option<Bytes>> {
        match part.transpose()? {
            Some(part) => {
                let left = self.left.checked_sub(part.len() as u64);
                self.left = left.ok_or_else(|| torn("the body is longer than the object"))?;
                self.crc = crc32c::crc32c_append(self.crc, &part);
                Ok(Some(part))
            }
            None if self.left > 0 => Err(torn("the body ended before its end")),
            None if self.expected.is_some_and(|expected| expected != Checksum::from_u32(self.crc)) => {
                Err(mismatch())
            }
            None => Ok(None),
        }
    }
}

fn part_of(head: Head, value: Bytes) -> Lookup {
    let checksum = head.checksum;
    Lookup::Found(Entry::from_parts(value, Arc::new(head.metadata(checksum))))
}

/// The body, which has as many bytes as were announced.
async fn body(got: GetResult, length: u64) -> Result<Bytes> {
    let bytes = got.bytes().await.map_err(|error| Failed::from(error).into_error())?;
    if bytes.len() as u64 == length {
        Ok(bytes)
    } else {
        Err(torn("the body has another length than the object"))
    }
}

fn torn(what: &str) -> Error {
    Error::new(ErrorKind::Unavailable, format!("{what}; read it again"))
}

fn mismatch() -> Error {
    Error::new(
        ErrorKind::Corrupt,
        "the value does not match its checksum; restore it from another tier or a backup",
    )
}
