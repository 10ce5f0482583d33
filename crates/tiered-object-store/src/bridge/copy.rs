//! Copies and renames.

use tiered_core::{
    Batch, Delete, Entry, Existed, Feature, Key, Metadata, Precondition, Put, ReadOptions, Version, Written,
};

use super::error;
use super::object_store::path::Path;
use super::object_store::{CopyMode, CopyOptions, RenameOptions, RenameTargetMode, Result};
use super::view::{ObjectView, replaced};

/// How often a rename begins anew whose source was replaced meanwhile.
const ATTEMPTS: usize = 20;

/// From where to where, and whether another object may be replaced.
struct Move<'p> {
    from: (&'p Path, Key),
    to: (&'p Path, Key),
    mode: CopyMode,
}

impl Move<'_> {
    /// The put of a copy: a write of its own, that keeps attributes and expiry.
    fn put(&self, put: Put) -> Put {
        match self.mode {
            CopyMode::Overwrite => put,
            CopyMode::Create => put.if_absent(),
        }
    }

    /// The error of a copy that failed.
    fn failed(&self, failed: tiered_core::Error) -> super::object_store::Error {
        match self.mode {
            CopyMode::Create if error::is_refusal(&failed) => error::exists(self.to.0, failed),
            _ => error::of(failed, self.to.0),
        }
    }
}

impl ObjectView {
    fn moving<'p>(&self, from: &'p Path, to: &'p Path, mode: CopyMode) -> Result<Move<'p>> {
        if mode == CopyMode::Create {
            self.require(Feature::ConditionalPut, "a copy to what must not exist")?;
        }
        Ok(Move { from: (from, Self::key(from)?), to: (to, Self::key(to)?), mode })
    }

    pub(super) async fn copy_object(&self, from: &Path, to: &Path, options: &CopyOptions) -> Result<()> {
        let moving = self.moving(from, to, options.mode)?;
        self.copy(&moving, &self.options(from, &options.extensions)).await.map(drop)
    }

    /// The version that was copied.
    async fn copy(&self, moving: &Move<'_>, options: &ReadOptions) -> Result<Version> {
        let (from, key) = &moving.from;
        let head = self.store().head(key, options).await.map_err(|failed| error::of(failed, from))?;
        let head = head.ok_or_else(|| error::not_found(from))?;
        if head.size <= self.whole() {
            let entry = self.entry(moving, options).await?;
            let put = moving.put(Put::replacing(&entry, entry.value().clone()));
            self.store().put(&moving.to.1, put).await.map_err(|failed| moving.failed(failed))?;
            return Ok(entry.version().clone());
        }
        let streamed = self.store().read_stream(key, options).await;
        let streamed = streamed.map_err(|failed| error::of(failed, from))?;
        let (metadata, body) = streamed.ok_or_else(|| error::not_found(from))?;
        let put = moving.put(kept(&metadata));
        let written: Result<Written, _> = self.store().put_stream(&moving.to.1, put, body).await;
        written.map_err(|failed| moving.failed(failed))?;
        Ok(metadata.version.clone())
    }

    async fn entry(&self, moving: &Move<'_>, options: &ReadOptions) -> Result<Entry> {
        let (from, key) = &moving.from;
        let read = self.store().load(key, options).await;
        let read = read.map_err(|failed| error::of(failed, from))?;
        read.into_entry().ok_or_else(|| error::not_found(from))
    }

    /// One step where the store has atomic batches. Elsewhere the source is removed only if it is still what was copied: a
    /// write of it in between is one that came after the rename, and stays.
    pub(super) async fn rename_object(&self, from: &Path, to: &Path, options: &RenameOptions) -> Result<()> {
        let mode = match options.target_mode {
            RenameTargetMode::Overwrite => CopyMode::Overwrite,
            RenameTargetMode::Create => CopyMode::Create,
        };
        self.require(Feature::ConditionalDelete, "a rename")?;
        let moving = self.moving(from, to, mode)?;
        // What a cache still has, and the backend has not, is not to be moved.
        let asked = self.options(from, &options.extensions).authoritative();
        if from == to {
            // Copied onto itself it would then be removed.
            self.entry(&moving, &asked).await?;
            return match mode {
                CopyMode::Overwrite => Ok(()),
                CopyMode::Create => Err(error::exists(to, "it is the object itself")),
            };
        }
        let is_atomic = self.store().capabilities().has(Feature::AtomicBatch);
        let head = self.store().head(&moving.from.1, &asked).await;
        let head = head.map_err(|failed| error::of(failed, from))?.ok_or_else(|| error::not_found(from))?;
        if is_atomic && head.size <= self.whole() {
            return self.rename_at_once(&moving, &asked).await;
        }
        let version = self.copy(&moving, &asked).await?;
        match self.store().delete(&moving.from.1, Delete::new().if_version(version)).await {
            Ok(_) => Ok(()),
            Err(refused) if error::is_refusal(&refused) => Ok(()),
            Err(failed) => Err(error::of(failed, from)),
        }
    }

    async fn rename_at_once(&self, moving: &Move<'_>, options: &ReadOptions) -> Result<()> {
        for _ in 0..ATTEMPTS {
            let entry = self.entry(moving, options).await?;
            let put = moving.put(Put::replacing(&entry, entry.value().clone()));
            let delete = Delete::new().if_version(entry.version().clone());
            let batch = Batch::new().put(moving.to.1.clone(), put).delete(moving.from.1.clone(), delete);
            let Err(failed) = self.store().apply(batch).await else { return Ok(()) };
            if !error::is_refusal(&failed) {
                return Err(error::of(failed, moving.to.0));
            }
            // One of the two preconditions did not hold.
            if moving.mode == CopyMode::Create && self.is_there(moving).await? {
                return Err(error::exists(moving.to.0, failed));
            }
        }
        Err(replaced(moving.from.0))
    }

    /// Whether there is an object at the target, as the authority has it.
    async fn is_there(&self, moving: &Move<'_>) -> Result<bool> {
        let check = Delete::new().precondition(Precondition::Absent);
        match self.store().delete(&moving.to.1, check).await {
            Ok(deleted) => Ok(deleted.existed == Existed::Yes),
            Err(refused) if error::is_refusal(&refused) => Ok(true),
            Err(failed) => Err(error::of(failed, moving.to.0)),
        }
    }
}

/// What a streamed copy keeps of its source.
fn kept(metadata: &Metadata) -> Put {
    let put = Put::new("").attributes(metadata.attributes.clone());
    match metadata.expires_at {
        Some(at) => put.expires_at(at),
        None => put.never_expires(),
    }
}
