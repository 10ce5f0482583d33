//! What can be chosen of a tier over an object store.

/// Whether conditional writes are used.
///
/// # Examples
/// ```
/// use tiered_object_store::Conditional;
///
/// assert_eq!(Conditional::default(), Conditional::Probe);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Conditional {
    /// Where the object store turns out to judge them, when the tier is opened.
    #[default]
    Probe,
    /// Never.
    Off,
}

/// What a listing does about the order, which the trait `ObjectStore` does not promise.
///
/// # Examples
/// ```
/// use tiered_object_store::Order;
///
/// assert_eq!(Order::default(), Order::Checked);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Order {
    /// Keys are listed as the object store gives them, and an error ends a listing that is out of order. For S3, Google
    /// Cloud Storage, Azure and memory.
    #[default]
    Checked,
    /// The whole listing is taken into memory and sorted. For folders and WebDAV.
    Sorted,
}
