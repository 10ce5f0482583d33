//! Deliberate bugs of the journal, made between it and its folder: what the journal is told is not what is so.

use std::io;
use std::sync::Arc;

use clap::ValueEnum;
use tiered_core::adapter::Checksum;
use tiered_journal::{File, Folder};

/// Where groups begin in a segment, and the multiple of bytes that each takes: the journal's format.
const HEADER: usize = 512;
const ALIGN: usize = 8;
/// Where a segment's header has the journal's id.
const ID: std::ops::Range<usize> = 24..40;

/// What a careless journal does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Careless {
    /// Its sync is repeated after it failed.
    FsyncRetried,
    /// It takes a group although its checksum is another.
    ChecksumSkipped,
}

/// A folder under which the journal has the bug.
#[derive(Debug)]
struct CarelessFolder {
    inner: Arc<dyn Folder>,
    bug: Careless,
}

impl Careless {
    /// `inner`, or what makes its journal careless.
    pub(crate) fn over(inner: Arc<dyn Folder>, bug: Option<Self>) -> Arc<dyn Folder> {
        match bug {
            Some(bug) => Arc::new(CarelessFolder { inner, bug }),
            None => inner,
        }
    }
}

impl CarelessFolder {
    fn file(&self, inner: Box<dyn File>) -> Box<dyn File> {
        Box::new(CarelessFile { inner, bug: self.bug })
    }
}

impl Folder for CarelessFolder {
    fn names(&self) -> io::Result<Vec<String>> {
        self.inner.names()
    }
    fn create(&self, name: &str, len: u64) -> io::Result<Box<dyn File>> {
        self.inner.create(name, len).map(|file| self.file(file))
    }
    fn open(&self, name: &str) -> io::Result<Box<dyn File>> {
        self.inner.open(name).map(|file| self.file(file))
    }
    fn remove(&self, name: &str) -> io::Result<()> {
        self.inner.remove(name)
    }
    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.inner.rename(from, to)
    }
    fn sync(&self) -> io::Result<()> {
        self.inner.sync()
    }
}

#[derive(Debug)]
struct CarelessFile {
    inner: Box<dyn File>,
    bug: Careless,
}

impl File for CarelessFile {
    fn read(&self) -> io::Result<Vec<u8>> {
        let mut content = self.inner.read()?;
        if self.bug == Careless::ChecksumSkipped {
            accept_all(&mut content);
        }
        Ok(content)
    }
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.inner.write_at(bytes, offset)
    }
    fn sync(&self) -> io::Result<()> {
        match self.inner.sync() {
            Err(_) if self.bug == Careless::FsyncRetried => self.inner.sync(),
            synced => synced,
        }
    }
}

/// Gives each group of a segment the checksum of what is there.
fn accept_all(segment: &mut [u8]) {
    let Some(id) = segment.get(ID).map(<[u8]>::to_vec) else { return };
    let mut at = HEADER;
    while let Some(group) = segment.get_mut(at..).filter(|group| group.starts_with(b"tJg1")) {
        let Some(Ok(len)) = group.get(4..8).map(<[u8; 4]>::try_from) else { return };
        let padded = (32 + u32::from_le_bytes(len) as usize).next_multiple_of(ALIGN);
        let Some(group) = group.get_mut(..padded) else { return };
        let (Some(before), Some(after)) = (group.get(4..8), group.get(12..)) else { return };
        let checksum = Checksum::of(&[id.as_slice(), before, after].concat()).as_u32();
        if let Some(place) = group.get_mut(8..12) {
            place.copy_from_slice(&checksum.to_le_bytes());
        }
        at += padded;
    }
}
