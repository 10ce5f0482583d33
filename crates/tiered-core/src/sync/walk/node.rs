//! What a walk notes of a key.

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};

/// The number of a key: they are counted as they are reached.
pub(super) type Id = u32;

/// Numbers below this are given to keys.
pub(super) const MOST: Id = Id::MAX - 1;

/// What was found under a key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Node {
    size: u64,
    version: u64,
    children: Vec<Id>,
}

impl Node {
    /// A value of so many bytes, of this version, which refers to these keys.
    pub(super) const fn new(size: u64, version: u64, children: Vec<Id>) -> Self {
        Self { size, version, children }
    }

    /// Bytes of the value.
    pub(super) const fn size(&self) -> u64 {
        self.size
    }

    /// The fingerprint of its version.
    pub(super) const fn version(&self) -> u64 {
        self.version
    }

    /// What it refers to, each once.
    pub(super) fn children(&self) -> &[Id] {
        &self.children
    }

    pub(super) fn encode(&self) -> Bytes {
        let mut bytes = BytesMut::with_capacity(16 + 4 * self.children.len());
        bytes.put_u64_le(self.size);
        bytes.put_u64_le(self.version);
        self.children.iter().for_each(|child| bytes.put_u32_le(*child));
        bytes.freeze()
    }

    pub(super) fn decode(mut bytes: Bytes) -> Option<Self> {
        let (size, version) = (bytes.try_get_u64_le().ok()?, bytes.try_get_u64_le().ok()?);
        let mut children = Vec::with_capacity(bytes.len() / 4);
        while bytes.has_remaining() {
            children.push(bytes.try_get_u32_le().ok()?);
        }
        Some(Self { size, version, children })
    }
}
