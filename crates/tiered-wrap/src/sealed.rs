//! A store that keeps each value in another form: what compression and encryption have in common.
//!
//! A stored value is a *head*, and then the value in *frames* of 64 KiB. The head tells size, checksum and where the frames
//! are, so a range is read from the frames that it touches.

mod codec;
mod frames;
mod list;
mod read;
mod stream;
mod write;

use std::sync::Arc;

use tiered_core::adapter::Stamp;
use tiered_core::{Capabilities, Error, ErrorKind, Feature, Key, Metadata, Operation, Result, Store};

use crate::facts::{self, Facts};

pub(crate) use codec::{Codec, Coded, FRAME, Head, breathe, frame_len, frames};

/// A store around another whose values are kept as a codec makes them.
#[derive(Debug)]
pub(crate) struct Sealed<C>(Arc<Shared<C>>);

impl<C> Clone for Sealed<C> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

#[derive(Debug)]
pub(crate) struct Shared<C> {
    inner: Arc<dyn Store>,
    codec: C,
    capabilities: Capabilities,
    stamp: Stamp,
}

impl<C: Codec> Sealed<C> {
    pub(crate) fn new(inner: Arc<dyn Store>, codec: C, stamp: Stamp) -> Result<Self> {
        let of = inner.capabilities();
        let refuse = |why: String| Err(Error::new(ErrorKind::Config, why).during(Operation::Open));
        if !of.has(Feature::KeepsMetadata) {
            return refuse(format!(
                "{} does not keep metadata, and a value that is {} needs its version; wrap another store",
                of.name(),
                C::NAME
            ));
        }
        let Some(most) = codec.largest(of.max_value()) else {
            return refuse(format!(
                "the largest value of {} is {} bytes, less than what {} values need beside their own bytes; raise max_value",
                of.name(),
                of.max_value(),
                C::NAME
            ));
        };
        let capabilities = of
            .clone()
            .named(format!("{} {}", C::NAME, of.name()))
            .without(Feature::Peeks)
            .with_max_value(most);
        Ok(Self(Arc::new(Shared { inner, codec, capabilities, stamp })))
    }

    pub(crate) fn inner(&self) -> &Arc<dyn Store> {
        &self.0.inner
    }

    pub(crate) fn capabilities(&self) -> &Capabilities {
        &self.0.capabilities
    }

    #[cfg(feature = "encryption")]
    pub(crate) fn codec(&self) -> &C {
        &self.0.codec
    }

    #[cfg(feature = "encryption")]
    pub(crate) fn stamp(&self) -> &Stamp {
        &self.0.stamp
    }

    /// An error of the codec, about a value that was to be read.
    fn failed(&self, operation: Operation, key: &Key, error: Error) -> Error {
        error.during(operation).in_tier(self.0.capabilities.name()).for_key(key)
    }
}

/// The metadata that the caller sees, from those inside.
fn outside(metadata: &Metadata, facts: Facts) -> Result<Arc<Metadata>> {
    let (attributes, _) = facts::take(&metadata.attributes)?;
    let mut metadata = metadata.clone();
    metadata.attributes = attributes;
    metadata.size = facts.size;
    metadata.checksum = facts.checksum;
    Ok(Arc::new(metadata))
}

/// A value that ends before it should, or goes on after it.
pub(crate) fn cut() -> Error {
    Error::new(
        ErrorKind::Corrupt,
        "the value is not as long as it says; restore it from another tier or a backup",
    )
}

/// A value that another program or wrapper wrote.
pub(crate) fn foreign(name: &str) -> Error {
    let message = format!("the value is not a {name} one; read it without this wrapper, or remove it");
    Error::new(ErrorKind::Foreign, message)
}
