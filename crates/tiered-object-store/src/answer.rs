//! What a read tells beside the object.

use std::time::Duration;

use tiered_core::{Read, Source};

/// Which tier answered a read, and how old the answer is. On `object_store` 0.14 it stands among the `extensions` of a
/// `GetResult`. A value that is streamed has none, since nothing tells which tier it comes from.
///
/// # Examples
/// ```
/// # #[cfg(feature = "v0_14")]
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// use tiered_core::{MemoryStore, Source, TieredStore};
/// use tiered_object_store::Answer;
/// use tiered_object_store::v0_14::ObjectView;
/// use tiered_object_store::v0_14::object_store::{ObjectStoreExt, path::Path};
///
/// let stack = TieredStore::builder(MemoryStore::new(), MemoryStore::new()).build().await?;
/// let objects = ObjectView::new(stack);
/// let path = Path::from("tables/1.parquet");
/// objects.put(&path, "PAR1".into()).await?;
/// let got = objects.get(&path).await?;
/// let answer = got.extensions.get::<Answer>().expect("a small object");
/// assert!(answer.is_hit() && !answer.is_stale());
/// assert_eq!(answer.source(), Source::Frontend);
/// println!("compared with the backend {:?} ago", answer.age());
/// # Ok::<(), Box<dyn std::error::Error>>(()) }).unwrap();
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    source: Source,
    age: Duration,
    stale: bool,
}

impl Answer {
    pub(crate) fn of<T>(read: &Read<T>) -> Self {
        Self { source: read.source, age: read.age, stale: read.stale }
    }

    /// The tier that answered.
    pub const fn source(&self) -> Source {
        self.source
    }

    /// Time since the answer was compared with the authority.
    pub const fn age(&self) -> Duration {
        self.age
    }

    /// Whether it is staler than was asked for.
    pub const fn is_stale(&self) -> bool {
        self.stale
    }

    /// Whether the backend was not asked: the frontend answered, or a write that is not flushed yet.
    pub const fn is_hit(&self) -> bool {
        matches!(self.source, Source::Frontend | Source::Pending)
    }
}
