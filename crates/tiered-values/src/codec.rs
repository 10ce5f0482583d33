//! Codecs: how a value becomes bytes.

use std::fmt;

use bytes::Bytes;

use crate::error::BoxError;

/// Turns values into bytes and back.
///
/// `decode(encode(value))` must give a value equal to `value`, and `decode` must use all bytes. The name is recorded with
/// each value, so that one codec never reads what another one wrote.
///
/// # Examples
/// ```
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// use bytes::Bytes;
/// use tiered_core::MemoryStore;
/// use tiered_values::{BoxError, Codec, Typed};
///
/// /// Text as it is.
/// #[derive(Debug)]
/// struct Plain;
///
/// impl Codec<String> for Plain {
///     fn name(&self) -> &str {
///         "plain"
///     }
///     fn encode(&self, value: &String) -> Result<Bytes, BoxError> {
///         Ok(Bytes::copy_from_slice(value.as_bytes()))
///     }
///     fn decode(&self, bytes: &[u8]) -> Result<String, BoxError> {
///         Ok(std::str::from_utf8(bytes)?.to_owned())
///     }
/// }
///
/// let notes = Typed::<String>::new(MemoryStore::new(), Plain)?;
/// notes.put("today", &"rain".to_owned()).await?;
/// assert_eq!(notes.get("today").await?.as_deref(), Some("rain"));
/// # Ok::<(), tiered_values::Error>(()) }).unwrap();
/// ```
pub trait Codec<T>: fmt::Debug + Send + Sync + 'static {
    /// What is recorded with each value: `[a-z0-9._-]{1,32}`.
    ///
    /// # Examples
    /// ```
    /// use tiered_values::{Codec, Json};
    ///
    /// assert_eq!(Codec::<u32>::name(&Json), "json");
    /// ```
    fn name(&self) -> &str;

    /// The value as bytes.
    ///
    /// # Errors
    /// Where the value has no form in this codec.
    ///
    /// # Examples
    /// ```
    /// use std::collections::BTreeMap;
    /// use tiered_values::{Codec, Json};
    ///
    /// assert_eq!(Json.encode(&7)?, "7");
    /// // A member's name must be text.
    /// assert!(Json.encode(&BTreeMap::from([((1, 2), 3)])).is_err());
    /// # Ok::<(), tiered_values::BoxError>(())
    /// ```
    fn encode(&self, value: &T) -> Result<Bytes, BoxError>;

    /// The value that these bytes, all of them, stand for.
    ///
    /// # Errors
    /// Where they stand for none.
    ///
    /// # Examples
    /// ```
    /// use tiered_values::{Codec, Json};
    ///
    /// let decoded: Vec<u32> = Json.decode(b"[1, 2]")?;
    /// assert_eq!(decoded, [1, 2]);
    /// assert!(Codec::<u32>::decode(&Json, b"1 2").is_err());
    /// # Ok::<(), tiered_values::BoxError>(())
    /// ```
    fn decode(&self, bytes: &[u8]) -> Result<T, BoxError>;
}

/// JSON, by `serde_json`. Recorded as `json`.
///
/// Other programs can read the values. Floating-point numbers that are not finite cannot be read back.
///
/// # Examples
/// ```
/// use tiered_values::{Codec, Json};
///
/// assert_eq!(Json.encode(&vec![1_u8, 2])?, "[1,2]");
/// # Ok::<(), tiered_values::BoxError>(())
/// ```
#[cfg(feature = "json")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Json;

#[cfg(feature = "json")]
impl<T: serde::Serialize + serde::de::DeserializeOwned> Codec<T> for Json {
    fn name(&self) -> &'static str {
        "json"
    }

    fn encode(&self, value: &T) -> Result<Bytes, BoxError> {
        Ok(serde_json::to_vec(value)?.into())
    }

    fn decode(&self, bytes: &[u8]) -> Result<T, BoxError> {
        serde_json::from_slice(bytes).map_err(|error| {
            let what = match error.classify() {
                serde_json::error::Category::Data => "the JSON is of another type",
                serde_json::error::Category::Eof => "the JSON ends too soon",
                serde_json::error::Category::Syntax | serde_json::error::Category::Io => "it is no JSON",
            };
            format!("{what}, at line {} column {}", error.line(), error.column()).into()
        })
    }
}

/// `MessagePack`, by `rmp-serde`. Recorded as `msgpack`.
///
/// Fields are written with their names, so that fields can be added and left out as with JSON.
///
/// # Examples
/// ```
/// use tiered_values::{Codec, MessagePack};
///
/// let bytes = MessagePack.encode(&"hi".to_owned())?;
/// assert_eq!(bytes, &b"\xa2hi"[..]);
/// let decoded: String = MessagePack.decode(&bytes)?;
/// assert_eq!(decoded, "hi");
/// # Ok::<(), tiered_values::BoxError>(())
/// ```
#[cfg(feature = "msgpack")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MessagePack;

#[cfg(feature = "msgpack")]
impl<T: serde::Serialize + serde::de::DeserializeOwned> Codec<T> for MessagePack {
    fn name(&self) -> &'static str {
        "msgpack"
    }

    fn encode(&self, value: &T) -> Result<Bytes, BoxError> {
        Ok(rmp_serde::to_vec_named(value)?.into())
    }

    fn decode(&self, bytes: &[u8]) -> Result<T, BoxError> {
        let mut rest = bytes;
        let value = T::deserialize(&mut rmp_serde::Deserializer::new(&mut rest)).map_err(plain)?;
        all_used(rest)?;
        Ok(value)
    }
}

/// postcard. Recorded as `postcard`.
///
/// The smallest and the fastest of the three. The bytes have no names and no types: a change of the type needs another
/// [schema version](crate::TypedBuilder::schema).
///
/// # Examples
/// ```
/// use tiered_values::{Codec, Postcard};
///
/// let bytes = Postcard.encode(&(1_u32, true))?;
/// assert_eq!(bytes, &[1, 1][..]);
/// let decoded: (u32, bool) = Postcard.decode(&bytes)?;
/// assert_eq!(decoded, (1, true));
/// # Ok::<(), tiered_values::BoxError>(())
/// ```
#[cfg(feature = "postcard")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Postcard;

#[cfg(feature = "postcard")]
impl<T: serde::Serialize + serde::de::DeserializeOwned> Codec<T> for Postcard {
    fn name(&self) -> &'static str {
        "postcard"
    }

    fn encode(&self, value: &T) -> Result<Bytes, BoxError> {
        Ok(postcard::to_allocvec(value)?.into())
    }

    fn decode(&self, bytes: &[u8]) -> Result<T, BoxError> {
        let (value, rest) = postcard::take_from_bytes(bytes)?;
        all_used(rest)?;
        Ok(value)
    }
}

/// The errors of serde quote what they found: values stay out of errors.
#[cfg(feature = "msgpack")]
fn plain(error: rmp_serde::decode::Error) -> BoxError {
    match error {
        rmp_serde::decode::Error::Syntax(_) | rmp_serde::decode::Error::Uncategorized(_) => {
            "the bytes are of another type".into()
        }
        other => other.into(),
    }
}

/// Bytes behind the value mean that they are of another type.
#[cfg(any(feature = "msgpack", feature = "postcard"))]
fn all_used(rest: &[u8]) -> Result<(), BoxError> {
    if rest.is_empty() { Ok(()) } else { Err(format!("{} bytes follow the value", rest.len()).into()) }
}
