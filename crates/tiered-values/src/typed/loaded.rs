//! What a loader found at its source.

use std::time::Duration;

use tiered_core::Expiry;

/// What the loader of [`get_with`](crate::Typed::get_with) found: a value, or that there is none.
///
/// # Examples
/// ```
/// use std::time::Duration;
/// use tiered_values::Loaded;
///
/// let found = Loaded::value("Ada").expires_in(Duration::from_secs(60));
/// let nothing = Loaded::<&str>::absent().remembered_for(Duration::from_secs(5));
/// assert_eq!(Loaded::from(None::<&str>), Loaded::absent());
/// assert_ne!(found, nothing);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loaded<T> {
    value: Option<T>,
    expiry: Option<Expiry>,
    remembered: Option<Duration>,
}

impl<T> Loaded<T> {
    /// A value.
    pub const fn value(value: T) -> Self {
        Self { value: Some(value), expiry: None, remembered: None }
    }

    /// The source has none.
    pub const fn absent() -> Self {
        Self { value: None, expiry: None, remembered: None }
    }

    /// The value stops existing so long after it is stored. This comes before the handle's
    /// [expiry](crate::TypedBuilder::expiry).
    #[must_use]
    pub const fn expires_in(mut self, ttl: Duration) -> Self {
        self.expiry = Some(Expiry::After(ttl));
        self
    }

    /// The handle remembers the absence for so long, and asks the source again only then. A write of the key through the
    /// same handle ends it. The store is asked first all the same: what others write there is seen at once.
    #[must_use]
    pub const fn remembered_for(mut self, ttl: Duration) -> Self {
        self.remembered = Some(ttl);
        self
    }

    /// The value, when it expires, and how long its absence is remembered.
    pub(super) fn into_parts(self) -> (Option<T>, Option<Expiry>, Option<Duration>) {
        (self.value, self.expiry, self.remembered)
    }
}

/// An absence is not remembered.
impl<T> From<Option<T>> for Loaded<T> {
    fn from(value: Option<T>) -> Self {
        Self { value, expiry: None, remembered: None }
    }
}
