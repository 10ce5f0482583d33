//! JSON documents that are read and changed by path.

mod merge;
mod path;
mod tree;

use serde_json::Value;
use tiered_core::{AsStore, Entry, Key};

use crate::codec::Json;
use crate::error::{Error, Result};
use crate::keys::{AnyKey, ToKey};
use crate::typed::{Inner, Typed};
use crate::writer::Decision;

pub use merge::merge_patch;
pub use path::{Path, ToPath};

/// How deep a document may nest. A deeper one could be written, and not read back.
pub const MAX_DOCUMENT_DEPTH: usize = 127;

/// JSON documents over any store: values that are read and changed by path.
///
/// A path is a JSON Pointer (RFC 6901) such as `/address/city`, or segments such as `["address", "city"]` ([`ToPath`]); the
/// empty one stands for the whole document. A segment names a member of an object or, as a number, an element of an array;
/// `-` stands behind an array's last element.
///
/// Every change is one conditional write of the whole document over the authority's: a fragment is never written or
/// cached, and two changes of different parts never undo each other. The function of [`update_in`](Self::update_in) runs once
/// for each attempt and takes effect once.
///
/// An absent path is `None`; a `null` at the path is a value. A path that leads through a number, a text, a boolean or a
/// `null` is [`Error::Path`].
///
/// Documents are those of `Typed<serde_json::Value>`: [`Documents::from`] takes such a handle, with its codec and all that
/// was chosen for it. Numbers are 64-bit integers or floating-point numbers, and members are sorted by name; a change rewrites
/// the whole document that way.
///
/// # Examples
/// ```
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// use serde_json::json;
/// use tiered_core::MemoryStore;
/// use tiered_values::Documents;
///
/// let users = Documents::new(MemoryStore::new())?;
/// users.assoc_in("users/42", "/address/city", json!("London")).await?;
/// let (old, new) = users
///     .update_in("users/42", ["visits"], |old| json!(old.and_then(|n| n.as_u64()).unwrap_or(0) + 1))
///     .await?;
/// assert_eq!((old, new), (None, json!(1)));
/// assert_eq!(users.get("users/42").await?, Some(json!({ "address": { "city": "London" }, "visits": 1 })));
/// # Ok::<(), tiered_values::Error>(()) }).unwrap();
/// ```
#[derive(Debug)]
pub struct Documents<K = AnyKey> {
    values: Typed<Value, K>,
}

impl<K> Clone for Documents<K> {
    fn clone(&self) -> Self {
        Self { values: self.values.clone() }
    }
}

/// Documents with the codec and the choices of this handle.
impl<K> From<Typed<Value, K>> for Documents<K> {
    fn from(values: Typed<Value, K>) -> Self {
        Self { values }
    }
}

impl Documents {
    /// Documents in `store`, as JSON.
    ///
    /// # Errors
    /// As [`Typed::new`].
    pub fn new(store: impl AsStore) -> Result<Self> {
        Ok(Self { values: Typed::new(store, Json)? })
    }
}

impl<K> Documents<K> {
    /// The documents as values, for what concerns them as a whole: putting, removing, loading.
    ///
    /// # Examples
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
    /// use serde_json::json;
    /// use tiered_core::MemoryStore;
    /// use tiered_values::Documents;
    ///
    /// let users = Documents::new(MemoryStore::new())?;
    /// users.values().put("users/42", &json!({ "name": "Ada" })).await?;
    /// assert_eq!(users.get_in("users/42", "/name").await?, Some(json!("Ada")));
    /// # Ok::<(), tiered_values::Error>(()) }).unwrap();
    /// ```
    pub fn values(&self) -> &Typed<Value, K> {
        &self.values
    }

    /// The whole document.
    ///
    /// # Errors
    /// As [`Typed::get`].
    ///
    /// # Cancel safety
    /// Dropping it has no effect.
    ///
    /// # Examples
    /// See [`Documents`].
    pub async fn get(&self, key: impl ToKey<K>) -> Result<Option<Value>> {
        self.values.get(key).await
    }

    /// What is at the path; `None` where nothing is there, or no document.
    ///
    /// # Errors
    /// Those of [`Typed::get`]; [`Error::Path`].
    ///
    /// # Cancel safety
    /// Dropping it has no effect.
    ///
    /// # Examples
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
    /// use serde_json::{Value, json};
    /// use tiered_core::MemoryStore;
    /// use tiered_values::{Documents, Error};
    ///
    /// let documents = Documents::new(MemoryStore::new())?;
    /// documents.assoc_in("d", "", json!({ "list": [1, { "a/b": null }] })).await?;
    /// assert_eq!(documents.get_in("d", "/list/1/a~1b").await?, Some(Value::Null));
    /// assert_eq!(documents.get_in("d", ["list", "1", "a/b"]).await?, Some(Value::Null));
    /// assert_eq!(documents.get_in("d", "/list/7").await?, None);
    /// assert!(matches!(documents.get_in("d", "/list/0/x").await, Err(Error::Path { .. })));
    /// # Ok::<(), tiered_values::Error>(()) }).unwrap();
    /// ```
    pub async fn get_in(&self, key: impl ToKey<K>, path: impl ToPath) -> Result<Option<Value>> {
        let (key, path) = (key.to_key()?, path.to_path()?);
        let Some(mut document) = self.values.get_of(&key).await? else { return Ok(None) };
        tree::take(&mut document, &path).map_err(|error| of_key(&key, &error))
    }

    /// Sets what is at the path. Returns what was there. Members of objects that are missing on the way are made, as objects.
    /// In an array the element of the number is replaced; its length, or `-`, appends.
    ///
    /// # Errors
    /// Those of [`Typed::update`]; [`Error::Path`].
    ///
    /// # Cancel safety
    /// As a put: dropping it leaves the outcome unknown.
    ///
    /// # Examples
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
    /// use serde_json::json;
    /// use tiered_core::MemoryStore;
    /// use tiered_values::Documents;
    ///
    /// let documents = Documents::new(MemoryStore::new())?;
    /// assert_eq!(documents.assoc_in("d", "/tags", json!(["a"])).await?, None);
    /// documents.assoc_in("d", "/tags/-", json!("b")).await?;
    /// assert_eq!(documents.assoc_in("d", "/tags/0", json!("c")).await?, Some(json!("a")));
    /// assert_eq!(documents.get("d").await?, Some(json!({ "tags": ["c", "b"] })));
    /// # Ok::<(), tiered_values::Error>(()) }).unwrap();
    /// ```
    pub async fn assoc_in(
        &self,
        key: impl ToKey<K>,
        path: impl ToPath,
        value: Value,
    ) -> Result<Option<Value>> {
        let (key, path) = (key.to_key()?, path.to_path()?);
        check_path(&key, &path)?;
        check_depth(&key, &value)?;
        let inner = self.values.inner();
        let decide = |entry: Option<&Entry>| {
            let mut document = document_of(inner, &key, entry)?;
            let old = tree::set(&mut document, &path, value.clone()).map_err(|error| of_key(&key, &error))?;
            Ok((put_of(inner, &key, entry, document.as_ref())?, old))
        };
        inner.change(&key, decide).await
    }

    /// Replaces what is at the path by `change` of it. Returns what was there, and what is there now. Missing members are
    /// made as with [`assoc_in`](Self::assoc_in).
    ///
    /// `change` runs once for each attempt and takes effect once, on the authority's document.
    ///
    /// # Errors
    /// Those of [`Typed::update`]; [`Error::Path`].
    ///
    /// # Cancel safety
    /// As a put: dropping it leaves the outcome unknown.
    ///
    /// # Examples
    /// See [`Documents`].
    pub async fn update_in<F>(
        &self,
        key: impl ToKey<K>,
        path: impl ToPath,
        mut change: F,
    ) -> Result<(Option<Value>, Value)>
    where
        F: FnMut(Option<&Value>) -> Value + Send,
    {
        let (key, path) = (key.to_key()?, path.to_path()?);
        check_path(&key, &path)?;
        let inner = self.values.inner();
        let decide = |entry: Option<&Entry>| {
            let mut document = document_of(inner, &key, entry)?;
            let of_key = |error: tree::Blocked| of_key(&key, &error);
            let old = match &mut document {
                Some(document) => tree::find(document, &path).map_err(of_key)?.cloned(),
                None => None,
            };
            let new = change(old.as_ref());
            tree::set(&mut document, &path, new.clone()).map_err(of_key)?;
            Ok((put_of(inner, &key, entry, document.as_ref())?, (old, new)))
        };
        inner.change(&key, decide).await
    }

    /// Removes what is at the path. Returns what was there; `None` where nothing was, and then nothing is written. The
    /// elements behind one of an array move up. The empty path deletes the document.
    ///
    /// # Errors
    /// Those of [`Typed::update`]; [`Error::Path`]. Where the answer to the delete of a whole document was lost, the outcome
    /// is unknown.
    ///
    /// # Cancel safety
    /// As a put: dropping it leaves the outcome unknown.
    ///
    /// # Examples
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
    /// use serde_json::json;
    /// use tiered_core::MemoryStore;
    /// use tiered_values::Documents;
    ///
    /// let documents = Documents::new(MemoryStore::new())?;
    /// documents.assoc_in("d", "/a/b", json!(null)).await?;
    /// assert_eq!(documents.dissoc_in("d", "/a/b").await?, Some(json!(null)));
    /// assert_eq!(documents.dissoc_in("d", "/a/b").await?, None);
    /// assert_eq!(documents.dissoc_in("d", "").await?, Some(json!({ "a": {} })));
    /// assert_eq!(documents.get("d").await?, None);
    /// # Ok::<(), tiered_values::Error>(()) }).unwrap();
    /// ```
    pub async fn dissoc_in(&self, key: impl ToKey<K>, path: impl ToPath) -> Result<Option<Value>> {
        let (key, path) = (key.to_key()?, path.to_path()?);
        let inner = self.values.inner();
        let decide = |entry: Option<&Entry>| {
            let Some(mut document) = document_of(inner, &key, entry)? else {
                return Ok((Decision::Keep, None));
            };
            if path.is_root() {
                return Ok((Decision::Delete, Some(document)));
            }
            let old = tree::remove(&mut document, &path).map_err(|error| of_key(&key, &error))?;
            let decision = match old {
                Some(_) => put_of(inner, &key, entry, Some(&document))?,
                None => Decision::Keep,
            };
            Ok((decision, old))
        };
        inner.change(&key, decide).await
    }

    /// Applies a JSON Merge Patch (RFC 7396) to the document: members of the patch replace those of the document, and `null`
    /// removes them. Returns the document before and after.
    ///
    /// # Errors
    /// Those of [`Typed::update`]; [`Error::Path`] where the patch nests too deep.
    ///
    /// # Cancel safety
    /// As a put: dropping it leaves the outcome unknown.
    ///
    /// # Examples
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
    /// use serde_json::json;
    /// use tiered_core::MemoryStore;
    /// use tiered_values::Documents;
    ///
    /// let users = Documents::new(MemoryStore::new())?;
    /// users.assoc_in("users/42", "", json!({ "name": "Ada", "email": "a@example.org" })).await?;
    /// let (_, new) = users.merge_patch("users/42", &json!({ "email": null, "visits": 1 })).await?;
    /// assert_eq!(new, json!({ "name": "Ada", "visits": 1 }));
    /// # Ok::<(), tiered_values::Error>(()) }).unwrap();
    /// ```
    pub async fn merge_patch(&self, key: impl ToKey<K>, patch: &Value) -> Result<(Option<Value>, Value)> {
        let key = key.to_key()?;
        check_depth(&key, patch)?;
        let inner = self.values.inner();
        let decide = |entry: Option<&Entry>| {
            let old = document_of(inner, &key, entry)?;
            let mut new = old.clone().unwrap_or(Value::Null);
            merge_patch(&mut new, patch);
            Ok((put_of(inner, &key, entry, Some(&new))?, (old, new)))
        };
        inner.change(&key, decide).await
    }
}

fn document_of(inner: &Inner<Value>, key: &Key, entry: Option<&Entry>) -> Result<Option<Value>> {
    entry.map_or(Ok(None), |entry| inner.value(key, entry))
}

fn put_of(
    inner: &Inner<Value>,
    key: &Key,
    entry: Option<&Entry>,
    document: Option<&Value>,
) -> Result<Decision> {
    let document = document.unwrap_or(&Value::Null);
    check_depth(key, document)?;
    Ok(Decision::Put(inner.put_of(key, document, entry)?))
}

/// Before what is missing on the way is made: dropping what nests deeper is recursive, and would overflow the stack.
fn check_path(key: &Key, path: &Path) -> Result<()> {
    if path.segments().len() > MAX_DOCUMENT_DEPTH {
        let reason = "the path has more than 127 segments, and documents nest at most so deep";
        return Err(Error::Path { key: Some(key.clone()), at: String::new(), reason });
    }
    Ok(())
}

fn check_depth(key: &Key, document: &Value) -> Result<()> {
    if tree::is_deeper(document, MAX_DOCUMENT_DEPTH) {
        let reason = "the document nests deeper than 127 arrays and objects";
        return Err(Error::Path { key: Some(key.clone()), at: String::new(), reason });
    }
    Ok(())
}

/// The error of a path, with the document that it concerns.
fn of_key(key: &Key, error: &tree::Blocked) -> Error {
    Error::Path { key: Some(key.clone()), at: error.at.to_string(), reason: error.reason }
}
