//! Typed keys: a type whose values are keys, and texts that sort as what they stand for.

use std::borrow::Cow;

use tiered_core::{AsKey, Key};

use crate::error::{Error, Result};

pub mod ordered;

/// A type whose values are the keys of one kind of entry.
///
/// A key is [`PREFIX`](Self::PREFIX) and a text. Let the text sort as the values do: [`ordered`] has texts for numbers and
/// bytes. No prefix may begin with another one.
///
/// # Examples
/// ```
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// use tiered_core::MemoryStore;
/// use tiered_values::{Json, Typed, TypedKey, ordered};
///
/// #[derive(Debug, PartialEq)]
/// struct UserId(u64);
///
/// impl TypedKey for UserId {
///     const PREFIX: &'static str = "users/";
///     fn text(&self) -> String {
///         ordered::from_u64(self.0)
///     }
///     fn parse(text: &str) -> Option<Self> {
///         ordered::to_u64(text).map(Self)
///     }
/// }
///
/// let names = Typed::<String>::new(MemoryStore::new(), Json)?.keyed::<UserId>();
/// names.put(UserId(42), &"Ada".to_owned()).await?;
/// assert_eq!(names.get(UserId(42)).await?.as_deref(), Some("Ada"));
/// assert_eq!(names.keys().await?, [UserId(42)]);
///
/// let key = UserId(42).key()?;
/// assert_eq!(key.as_str(), "users/000000000000002a");
/// assert_eq!(UserId::of(&key)?, UserId(42));
/// # Ok::<(), tiered_values::Error>(()) }).unwrap();
/// ```
pub trait TypedKey: Sized + Send + Sync {
    /// What all keys of the type begin with, as in `users/`.
    const PREFIX: &'static str;

    /// The value as text, without the prefix.
    ///
    /// # Examples
    /// ```
    /// use tiered_values::TypedKey;
    ///
    /// struct Country(String);
    ///
    /// impl TypedKey for Country {
    ///     const PREFIX: &'static str = "countries/";
    ///     fn text(&self) -> String {
    ///         self.0.clone()
    ///     }
    ///     fn parse(text: &str) -> Option<Self> {
    ///         (text.len() == 2).then(|| Self(text.to_owned()))
    ///     }
    /// }
    ///
    /// assert_eq!(Country("pe".to_owned()).text(), "pe");
    /// assert!(Country::parse("peru").is_none());
    /// ```
    fn text(&self) -> String;

    /// The value of a text; `None` where it stands for none.
    ///
    /// # Examples
    /// ```
    /// use tiered_values::TypedKey;
    ///
    /// #[derive(Debug, PartialEq)]
    /// struct Year(u16);
    ///
    /// impl TypedKey for Year {
    ///     const PREFIX: &'static str = "years/";
    ///     fn text(&self) -> String {
    ///         format!("{:04}", self.0)
    ///     }
    ///     fn parse(text: &str) -> Option<Self> {
    ///         text.parse().ok().map(Self)
    ///     }
    /// }
    ///
    /// assert_eq!(Year::parse("0476"), Some(Year(476)));
    /// ```
    fn parse(text: &str) -> Option<Self>;

    /// The key.
    ///
    /// # Errors
    /// [`Error::Store`] of the kind [`InvalidKey`](tiered_core::ErrorKind::InvalidKey) where the text is no key.
    fn key(&self) -> Result<Key> {
        Ok(Key::new(format!("{}{}", Self::PREFIX, self.text()))?)
    }

    /// The value of a key.
    ///
    /// # Errors
    /// [`Error::Invalid`] where the key is none of this type.
    fn of(key: &Key) -> Result<Self> {
        let text = key.as_str().strip_prefix(Self::PREFIX);
        text.and_then(Self::parse)
            .ok_or_else(|| Error::invalid(format!("{key:?} is no key of the kind {:?}", Self::PREFIX)))
    }
}

/// Marks a handle whose keys have no type: it takes a [`Key`], or text that is one.
///
/// # Examples
/// ```
/// use tiered_core::MemoryStore;
/// use tiered_values::{AnyKey, Json, Typed};
///
/// struct Service {
///     // The same as `Typed<String>`.
///     names: Typed<String, AnyKey>,
/// }
///
/// let service = Service { names: Typed::new(MemoryStore::new(), Json)? };
/// # drop(service.names);
/// # Ok::<(), tiered_values::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AnyKey(());

/// What a [`Typed`](crate::Typed) handle with keys of the kind `K` takes: for [`AnyKey`] what the store takes
/// ([`AsKey`]), else a `K` or a reference to one.
///
/// # Examples
/// ```
/// use tiered_values::{AnyKey, ToKey};
///
/// assert_eq!(ToKey::<AnyKey>::to_key(&"users/42")?.as_str(), "users/42");
/// # Ok::<(), tiered_values::Error>(())
/// ```
pub trait ToKey<K>: Send + Sync {
    /// The key; borrowed where there is one.
    ///
    /// # Errors
    /// [`Error::Store`] of the kind [`InvalidKey`](tiered_core::ErrorKind::InvalidKey) where it is none.
    fn to_key(&self) -> Result<Cow<'_, Key>>;
}

impl<Q: AsKey> ToKey<AnyKey> for Q {
    fn to_key(&self) -> Result<Cow<'_, Key>> {
        Ok(self.as_key()?)
    }
}

impl<K: TypedKey> ToKey<K> for K {
    fn to_key(&self) -> Result<Cow<'_, Key>> {
        self.key().map(Cow::Owned)
    }
}

impl<K: TypedKey> ToKey<K> for &K {
    fn to_key(&self) -> Result<Cow<'_, Key>> {
        self.key().map(Cow::Owned)
    }
}
