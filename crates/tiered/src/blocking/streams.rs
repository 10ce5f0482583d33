//! Streams of the async API as iterators and readers.

use std::fmt;
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _, stream};
use tiered_core::{ByteStream, Error, ErrorKind, Event, ListStream, Listed, Metadata, Result};
use tokio::runtime::Handle;

use super::Runtime;

/// How much of a reader is taken at a time, in bytes: as much as a pipe holds.
const CHUNK: u64 = 64 << 10;

/// A listing, in the order of the keys. Each step waits for its entry. See [`BlockingStore::list`](super::BlockingStore::list).
///
/// From inside an async task the next step is an error, and the last one.
///
/// # Examples
/// ```
/// use tiered::ListOptions;
/// use tiered::blocking::{BlockingStore, Runtime};
///
/// let store = BlockingStore::new(tiered::MemoryStore::new(), Runtime::new()?);
/// store.set("a", "1")?;
/// store.set("b", "2")?;
/// let keys: Result<Vec<_>, _> =
///     store.list(ListOptions::new()).map(|listed| listed.map(|listed| listed.key)).collect();
/// assert_eq!(keys?.len(), 2);
/// # Ok::<(), tiered::Error>(())
/// ```
pub struct Entries {
    /// None after the end.
    listing: Option<ListStream>,
    runtime: Runtime,
}

impl Entries {
    pub(super) fn new(listing: ListStream, runtime: Runtime) -> Self {
        Self { listing: Some(listing), runtime }
    }

    fn end(&mut self) {
        let _here = self.runtime.enter();
        self.listing = None;
    }
}

impl Iterator for Entries {
    type Item = Result<Listed>;

    fn next(&mut self) -> Option<Self::Item> {
        let listing = self.listing.as_mut()?;
        let next = self.runtime.wait(async { Ok::<_, Error>(listing.next().await) });
        // A stream is not asked again after its end, and a loop over a refused listing ends.
        if !matches!(next, Ok(Some(_))) {
            self.end();
        }
        next.unwrap_or_else(|refused| Some(Err(refused)))
    }
}

impl Drop for Entries {
    fn drop(&mut self) {
        self.end();
    }
}

impl fmt::Debug for Entries {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entries").finish_non_exhaustive()
    }
}

/// A value that is read part by part. See [`BlockingStore::read`](super::BlockingStore::read).
///
/// An error of the store is the [source](std::error::Error::source) of the [`io::Error`] that a read returns; its kind
/// follows the store's.
///
/// # Examples
/// ```
/// use tiered::ReadOptions;
/// use tiered::blocking::{BlockingStore, Runtime};
///
/// let store = BlockingStore::new(tiered::MemoryStore::new(), Runtime::new()?);
/// store.set("log", "a long text")?;
/// let mut body = store.read("log", &ReadOptions::new().range(2..6))?.expect("just written");
/// assert_eq!(body.metadata().size, 11);
/// let mut bytes = 0;
/// while let Some(part) = body.next_part()? {
///     bytes += part.len();
/// }
/// assert_eq!(bytes, 4);
/// # Ok::<(), tiered::Error>(())
/// ```
pub struct Body {
    metadata: Arc<Metadata>,
    /// None after the end.
    stream: Option<ByteStream>,
    /// What ended it early: a value that is cut off must not look whole.
    failed: Option<Error>,
    rest: Bytes,
    runtime: Runtime,
}

impl Body {
    pub(super) fn new(metadata: Arc<Metadata>, stream: ByteStream, runtime: Runtime) -> Self {
        Self { metadata, stream: Some(stream), failed: None, rest: Bytes::new(), runtime }
    }

    /// The metadata of the entry.
    pub fn metadata(&self) -> &Arc<Metadata> {
        &self.metadata
    }

    /// The next part, without copying it. None at the end.
    pub fn next_part(&mut self) -> Result<Option<Bytes>> {
        if !self.rest.is_empty() {
            return Ok(Some(std::mem::take(&mut self.rest)));
        }
        let Some(stream) = self.stream.as_mut() else {
            return self.failed.clone().map_or(Ok(None), Err);
        };
        match self.runtime.wait(async { Ok::<_, Error>(stream.next().await) })? {
            Some(Ok(part)) => Ok(Some(part)),
            // A stream is not asked again after its end, or after an error, which stays.
            Some(Err(error)) => {
                self.end();
                self.failed = Some(error.clone());
                Err(error)
            }
            None => {
                self.end();
                Ok(None)
            }
        }
    }

    fn end(&mut self) {
        let _here = self.runtime.enter();
        self.stream = None;
    }
}

impl io::Read for Body {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.rest.is_empty() && !buffer.is_empty() {
            match self.next_part().map_err(as_io_error)? {
                Some(part) => self.rest = part,
                None => return Ok(0),
            }
        }
        let length = self.rest.len().min(buffer.len());
        let part = self.rest.split_to(length);
        if let Some(room) = buffer.get_mut(..length) {
            room.copy_from_slice(&part);
        }
        Ok(length)
    }
}

impl Drop for Body {
    fn drop(&mut self) {
        self.end();
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Body").field("metadata", &self.metadata).finish_non_exhaustive()
    }
}

fn as_io_error(error: Error) -> io::Error {
    let kind = match error.kind() {
        ErrorKind::Unsupported => io::ErrorKind::Unsupported,
        ErrorKind::TimedOut => io::ErrorKind::TimedOut,
        ErrorKind::Corrupt => io::ErrorKind::InvalidData,
        ErrorKind::PermissionDenied => io::ErrorKind::PermissionDenied,
        ErrorKind::NotFound => io::ErrorKind::NotFound,
        _ => io::ErrorKind::Other,
    };
    io::Error::new(kind, error)
}

/// Events of a tiered store: each step waits for the next one. See
/// [`BlockingStore::subscribe`](super::BlockingStore::subscribe).
///
/// It ends when the last handle of the store is dropped. From inside an async task it ends at once: the async
/// [`Events`](crate::Events) are there for tasks.
///
/// # Examples
/// ```
/// use tiered::blocking::{BlockingStore, Runtime};
/// use tiered::{Event, MemoryStore, TieredStore};
///
/// let runtime = Runtime::new()?;
/// let tiers = TieredStore::builder(MemoryStore::new(), MemoryStore::new());
/// let store = BlockingStore::new(runtime.wait(tiers.build())?, runtime);
/// let events = store.subscribe();
/// let printer = std::thread::spawn(move || events.map(|event| println!("{event:?}")).count());
/// store.set("k", "v")?;
/// store.close()?;
/// drop(store);
/// assert!(printer.join().expect("no panic") >= 1);
/// # Ok::<(), tiered::Error>(())
/// ```
#[derive(Debug)]
pub struct Events {
    events: tiered_core::Events,
    runtime: Runtime,
}

impl Events {
    pub(super) fn new(events: tiered_core::Events, runtime: Runtime) -> Self {
        Self { events, runtime }
    }
}

impl Iterator for Events {
    type Item = Event;

    fn next(&mut self) -> Option<Event> {
        self.runtime.wait(async { Ok::<_, Error>(self.events.next().await) }).ok().flatten()
    }
}

/// What a reader gives, read on blocking threads of the runtime.
pub(super) fn chunks(
    reader: impl io::Read + Send + 'static,
    handle: Handle,
) -> impl Stream<Item = Result<Bytes>> + Send {
    stream::try_unfold((reader, handle), |(mut reader, handle)| async move {
        let reading = handle.spawn_blocking(move || {
            let mut chunk = Vec::new();
            io::Read::read_to_end(&mut io::Read::take(&mut reader, CHUNK), &mut chunk)
                .map(|_| (chunk, reader))
        });
        let read = reading.await.map_err(|lost| {
            Error::new(ErrorKind::Other, "the reader of the value panicked").with_source(lost)
        })?;
        let (chunk, reader) = read.map_err(|error| {
            Error::new(ErrorKind::InvalidInput, "the reader of the value failed").with_source(error)
        })?;
        Ok(if chunk.is_empty() { None } else { Some((Bytes::from(chunk), (reader, handle))) })
    })
}
