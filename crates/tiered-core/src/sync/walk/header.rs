//! Which walk a workspace is of, under which random keys its fingerprints are, and whether the walk has ended.

#![expect(
    deprecated,
    reason = "std deprecates SipHasher for its name: what is kept needs a hash that never changes"
)]

use std::hash::{Hasher as _, SipHasher};

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};

use super::workspace::{Workspace, foreign};
use crate::batch::Batch;
use crate::error::{Error, ErrorKind, Result};
use crate::key::Key;
use crate::version::Version;
use crate::write::Put;

/// The form of what is kept.
const FORMAT: u8 = 1;

/// Where the header is kept: the first key of a workspace, since all others are `k/…`, `n/…` and `v/…`.
const NAME: &str = "h";

/// The keys of two fingerprints, by SipHash-2-4.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Digests([u64; 4]);

impl Digests {
    /// Under random keys.
    pub(super) fn random() -> Self {
        Self(std::array::from_fn(|_| getrandom::u64().expect("the operating system gives random bytes")))
    }

    /// 128 bits for the text of a key.
    pub(super) fn of_key(self, key: &Key) -> u128 {
        let [first, second, third, fourth] = self.0;
        let [high, low] = [(first, second), (third, fourth)].map(|(one, other)| {
            let mut hasher = SipHasher::new_with_keys(one, other);
            hasher.write(key.as_str().as_bytes());
            hasher.finish()
        });
        u128::from(high) << 64 | u128::from(low)
    }

    /// 64 bits for a version.
    pub(super) fn of_version(self, version: &Version) -> u64 {
        let [first, second, ..] = self.0;
        let mut hasher = SipHasher::new_with_keys(first, second);
        match version.as_u128() {
            Some(id) => hasher.write(&id.to_le_bytes()),
            None => hasher.write(version.as_token().unwrap_or_default().as_bytes()),
        }
        hasher.finish()
    }
}

/// Which walk a workspace is of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Header {
    digests: Digests,
    has_ended: bool,
    /// What must be the same for a later walk to go on.
    label: String,
}

impl Header {
    /// Of a walk that came to its end.
    pub(super) fn ended(digests: Digests, label: &str) -> Self {
        Self { digests, has_ended: true, label: label.to_owned() }
    }

    pub(super) const fn digests(&self) -> Digests {
        self.digests
    }

    /// That of an earlier walk which did not end. Otherwise begins anew, in a store that is empty or that an ended walk left.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] where the store is of another walk, or of none.
    pub(super) async fn take_up(workspace: &Workspace, label: &str) -> Result<Self> {
        workspace.check_batches()?;
        let name = Key::new(NAME)?;
        match workspace.get(std::slice::from_ref(&name)).await?.into_iter().flatten().next() {
            None => workspace.check_empty().await?,
            Some(bytes) => {
                let found = Self::decode(bytes).ok_or_else(foreign)?;
                if !found.has_ended && found.label == label {
                    return Ok(found);
                }
                if !found.has_ended {
                    return Err(another(&found.label, label));
                }
                // It says that the walk has ended until another header takes its place.
                workspace.clear(name).await?;
            }
        }
        let header = Self { digests: Digests::random(), has_ended: false, label: label.to_owned() };
        header.write(workspace).await?;
        Ok(header)
    }

    /// Keeps it.
    pub(super) async fn write(&self, workspace: &Workspace) -> Result<()> {
        let mut batch = Batch::new();
        batch.push(Key::new(NAME)?, Put::new(self.encode()).into());
        workspace.put(batch).await?;
        workspace.flush().await
    }

    fn encode(&self) -> Bytes {
        let mut bytes = BytesMut::with_capacity(34 + self.label.len());
        bytes.put_u8(FORMAT);
        bytes.put_u8(self.has_ended.into());
        self.digests.0.iter().for_each(|key| bytes.put_u64_le(*key));
        bytes.put_slice(self.label.as_bytes());
        bytes.freeze()
    }

    fn decode(mut bytes: Bytes) -> Option<Self> {
        let (format, ended) = (bytes.try_get_u8().ok()?, bytes.try_get_u8().ok()?);
        let mut keys = [0; 4];
        for key in &mut keys {
            *key = bytes.try_get_u64_le().ok()?;
        }
        let label = std::str::from_utf8(&bytes).ok()?.to_owned();
        let is_known = format == FORMAT && ended < 2;
        is_known.then_some(Self { digests: Digests(keys), has_ended: ended == 1, label })
    }
}

fn another(theirs: &str, ours: &str) -> Error {
    let message = format!(
        "the workspace is of another walk, which did not end: {theirs}. This one is: {ours}. Name another workspace, or remove this one"
    );
    Error::new(ErrorKind::Config, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What an earlier version of the program kept is found by every later one.
    #[test]
    fn fingerprints_and_headers_never_change() {
        let digests = Digests([1, 2, 3, 4]);
        let key = Key::new("users/42").expect("a key");
        assert_eq!(digests.of_key(&key), 0x1b6f_11e5_2541_d763_e696_16ac_38cb_e601);
        assert_eq!(digests.of_version(&Version::from_u128(5)), 0x44a6_cb86_8ae8_b3c7);
        assert_eq!(digests.of_version(&Version::from_token("etag").expect("a token")), 0xa7cf_b95a_cb9e_38b1);
        let header = Header { digests, has_ended: false, label: "from a to b".to_owned() };
        let bytes = header.encode();
        assert_eq!((bytes.first(), bytes.len()), (Some(&1), 45));
        assert_eq!(Header::decode(bytes.clone()), Some(header));
        for wrong in [bytes.slice(..20), Bytes::from_static(b""), Bytes::from(vec![2; 40])] {
            assert_eq!(Header::decode(wrong), None);
        }
    }
}
