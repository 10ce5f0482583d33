//! Keys, and where they come from.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use aes_gcm_siv::aead::AeadInOut as _;
use aes_gcm_siv::{Aes256GcmSiv, KeyInit as _, Nonce, Tag};
use async_trait::async_trait;
use tiered_core::{Error, ErrorKind, Operation, Result};
use zeroize::Zeroizing;

/// Longest id of a key, in bytes: what a value's head has room for.
pub(super) const MAX_ID: usize = 32;

/// Bytes by which a value tells its key from another one under the same id.
pub(super) const CHECK: usize = 8;

fn refuse<T>(message: impl Into<String>) -> Result<T> {
    Err(Error::new(ErrorKind::Config, message).during(Operation::Open))
}

/// A key of 256 bits, and the id that values name it by.
///
/// The id is no secret: it stands in the clear in each value and its attributes. `Debug` shows nothing else. The bytes of
/// the key are overwritten in memory when the last clone is dropped.
///
/// # Examples
/// ```
/// use tiered_wrap::EncryptionKey;
///
/// // For a file or a secret store. Keep it: without it no value can be read.
/// let text = EncryptionKey::generate_hex();
/// let key = EncryptionKey::from_hex("2026-a", &text)?;
/// assert_eq!(key.id(), "2026-a");
/// let same = EncryptionKey::new("from-bytes", [7; 32])?;
/// # Ok::<(), tiered_core::Error>(())
/// ```
#[derive(Clone)]
pub struct EncryptionKey(Arc<Inner>);

struct Inner {
    id: String,
    cipher: Aes256GcmSiv,
    check: [u8; CHECK],
}

impl EncryptionKey {
    /// A key from its bytes. They must be random: derive them from a passphrase by a function for that, such as Argon2.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] where the id does not match `[A-Za-z0-9_-]{1,32}`.
    pub fn new(id: impl Into<String>, bytes: [u8; 32]) -> Result<Self> {
        let (id, bytes) = (id.into(), Zeroizing::new(bytes));
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_-".contains(&byte);
        if id.is_empty() || id.len() > MAX_ID || !id.bytes().all(allowed) {
            // Not the id itself: where it was mixed up with the key, that would show it.
            return refuse("the id of an encryption key must match [A-Za-z0-9_-]{1,32}");
        }
        let cipher = Aes256GcmSiv::new((&*bytes).into());
        let mut key = Inner { id, cipher, check: [0; CHECK] };
        let tag = key.tag(&[0; 12], b"tiered-wrap key")?;
        key.check.copy_from_slice(tag.first_chunk::<CHECK>().unwrap_or(&[0; CHECK]));
        Ok(Self(Arc::new(key)))
    }

    /// A key from 64 hexadecimal digits.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] where it is no such text, or as [`new`](Self::new). The text is never shown.
    pub fn from_hex(id: impl Into<String>, digits: &str) -> Result<Self> {
        let mut bytes = Zeroizing::new([0; 32]);
        let digits = digits.trim().as_bytes();
        let value = |digit: u8| char::from(digit).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
        let mut pairs = digits.chunks_exact(2);
        for byte in bytes.iter_mut() {
            let Some(&[high, low]) = pairs.next() else { return refuse(NO_KEY) };
            let Some((high, low)) = value(high).zip(value(low)) else { return refuse(NO_KEY) };
            *byte = high << 4 | low;
        }
        if digits.len() != 64 {
            return refuse(NO_KEY);
        }
        Self::new(id, *bytes)
    }

    /// 64 random hexadecimal digits for a new key.
    ///
    /// # Panics
    /// When the operating system has no random source: a key that can be guessed protects nothing.
    pub fn generate_hex() -> String {
        use fmt::Write as _;
        let mut bytes = Zeroizing::new([0; 32]);
        #[expect(clippy::expect_used, reason = "a key that can be guessed protects nothing")]
        getrandom::fill(&mut *bytes).expect("the operating system gives random bytes");
        bytes.iter().fold(String::with_capacity(64), |mut text, byte| {
            // Writing to a `String` cannot fail.
            write!(text, "{byte:02x}").ok();
            text
        })
    }

    /// What values name it by.
    pub fn id(&self) -> &str {
        &self.0.id
    }

    /// Tells it from another key under the same id.
    pub(super) fn check(&self) -> &[u8; CHECK] {
        &self.0.check
    }

    /// A value that only the holder of the key can compute of `data`.
    pub(super) fn tag(&self, nonce: &[u8; 12], data: &[u8]) -> Result<[u8; 16]> {
        self.0.tag(nonce, data)
    }

    /// Encrypts in place; the tag to be kept beside it.
    pub(super) fn encrypt(&self, nonce: &[u8; 12], data: &[u8], buffer: &mut [u8]) -> Result<[u8; 16]> {
        self.0.encrypt(nonce, data, buffer)
    }

    /// Decrypts in place; whether it is what was encrypted.
    pub(super) fn decrypt(&self, nonce: &[u8; 12], data: &[u8], buffer: &mut [u8], tag: &[u8; 16]) -> bool {
        let (nonce, tag) = (Nonce::from(*nonce), Tag::from(*tag));
        self.0.cipher.decrypt_inout_detached(&nonce, data, buffer.into(), &tag).is_ok()
    }
}

const NO_KEY: &str = "an encryption key is 64 hexadecimal digits; make one with EncryptionKey::generate_hex";

impl Inner {
    fn encrypt(&self, nonce: &[u8; 12], data: &[u8], buffer: &mut [u8]) -> Result<[u8; 16]> {
        let nonce = Nonce::from(*nonce);
        let tag = self.cipher.encrypt_inout_detached(&nonce, data, buffer.into());
        tag.map(Into::into).map_err(|_| Error::new(ErrorKind::Other, "the value cannot be encrypted"))
    }

    fn tag(&self, nonce: &[u8; 12], data: &[u8]) -> Result<[u8; 16]> {
        self.encrypt(nonce, data, &mut [])
    }
}

impl fmt::Debug for EncryptionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EncryptionKey").field("id", &self.0.id).finish_non_exhaustive()
    }
}

/// Where keys come from. Each call may ask a key service; the answers should be kept, since every read and write asks.
///
/// # Examples
/// ```
/// use async_trait::async_trait;
/// use tiered_core::{Error, ErrorKind, Result};
/// use tiered_wrap::{EncryptionKey, KeyProvider};
///
/// /// One key for each year.
/// #[derive(Debug)]
/// struct Yearly(Vec<EncryptionKey>);
///
/// #[async_trait]
/// impl KeyProvider for Yearly {
///     async fn current(&self) -> Result<EncryptionKey> {
///         self.0.last().cloned().ok_or_else(|| Error::new(ErrorKind::Config, "there is no key"))
///     }
///
///     async fn key(&self, id: &str) -> Result<Option<EncryptionKey>> {
///         Ok(self.0.iter().find(|key| key.id() == id).cloned())
///     }
/// }
/// ```
#[async_trait]
pub trait KeyProvider: fmt::Debug + Send + Sync + 'static {
    /// The key of new writes.
    ///
    /// # Errors
    /// Those of the provider. The write fails, and has no effect.
    ///
    /// # Examples
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
    /// use tiered_wrap::{EncryptionKey, KeyProvider, Keys};
    ///
    /// let keys = Keys::new(EncryptionKey::new("a", [1; 32])?);
    /// assert_eq!(keys.current().await?.id(), "a");
    /// # Ok::<(), tiered_core::Error>(()) }).unwrap();
    /// ```
    async fn current(&self) -> Result<EncryptionKey>;

    /// The key with this id; `None` where there is none.
    ///
    /// # Errors
    /// Those of the provider. The read fails.
    ///
    /// # Examples
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
    /// use tiered_wrap::{EncryptionKey, KeyProvider, Keys};
    ///
    /// let keys = Keys::new(EncryptionKey::new("a", [1; 32])?);
    /// assert!(keys.key("b").await?.is_none());
    /// # Ok::<(), tiered_core::Error>(()) }).unwrap();
    /// ```
    async fn key(&self, id: &str) -> Result<Option<EncryptionKey>>;
}

/// Keys that are known from the beginning: one for new writes, and others for what was written before.
///
/// # Examples
/// ```
/// use tiered_wrap::{EncryptionKey, Keys};
///
/// let keys = Keys::new(EncryptionKey::new("2026", [2; 32])?).and(EncryptionKey::new("2025", [1; 32])?);
///
/// // As in a file: the first key is that of new writes.
/// let text = format!("# comment\n2026 = {}\n2025 = {}\n", "02".repeat(32), "01".repeat(32));
/// let same = Keys::from_text(&text)?;
/// assert_eq!(format!("{same:?}"), format!("{keys:?}"));
/// # Ok::<(), tiered_core::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Keys {
    current: EncryptionKey,
    others: Vec<EncryptionKey>,
}

impl Keys {
    /// One key.
    pub fn new(current: EncryptionKey) -> Self {
        Self { current, others: Vec::new() }
    }

    /// With another key, for reading what was written under it.
    #[must_use]
    pub fn and(mut self, key: EncryptionKey) -> Self {
        self.others.push(key);
        self
    }

    /// Keys from a text: one line `id = 64 hexadecimal digits` for each. The first is that of new writes. Empty lines and
    /// those that begin with `#` are passed over.
    ///
    /// # Errors
    /// [`ErrorKind::Config`], with the number of the line and never with its text; also for an id that occurs twice.
    pub fn from_text(text: &str) -> Result<Self> {
        let mut keys: Vec<EncryptionKey> = Vec::new();
        for (number, line) in (1_usize..).zip(text.lines()) {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let Some((id, digits)) = line.split_once('=') else {
                return refuse(format!(
                    "line {number} of the keys is no key; write id = 64 hexadecimal digits"
                ));
            };
            let key = EncryptionKey::from_hex(id.trim(), digits)
                .map_err(|error| error.at_place(format!("line {number} of the keys")))?;
            if keys.iter().any(|other| other.id() == key.id()) {
                return refuse(format!("line {number} of the keys has the id of another; ids never repeat"));
            }
            keys.push(key);
        }
        let mut keys = keys.into_iter();
        match keys.next() {
            Some(current) => Ok(Self { current, others: keys.collect() }),
            None => refuse("the keys are empty; write a line id = 64 hexadecimal digits"),
        }
    }

    /// Keys from a file with such a text. Blocks for a short read.
    ///
    /// # Errors
    /// As [`from_text`](Self::from_text); [`ErrorKind::Config`] where the file cannot be read, naming it.
    ///
    /// # Examples
    /// ```
    /// let error = tiered_wrap::Keys::from_file("no/such/file").unwrap_err();
    /// assert_eq!(error.kind(), tiered_core::ErrorKind::Config);
    /// ```
    pub fn from_file(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let text = std::fs::read_to_string(path).map(Zeroizing::new).map_err(|error| {
            Error::new(ErrorKind::Config, "the file of encryption keys cannot be read")
                .at_place(shown(&path.display().to_string()))
                .during(Operation::Open)
                .with_source(error)
        })?;
        Self::from_text(&text).map_err(|error| error.at_place(shown(&path.display().to_string())))
    }

    /// Keys from an environment variable with such a text.
    ///
    /// # Errors
    /// As [`from_text`](Self::from_text); [`ErrorKind::Config`] where the variable is not set, naming it.
    ///
    /// # Examples
    /// ```
    /// let error = tiered_wrap::Keys::from_env("NO_SUCH_VARIABLE").unwrap_err();
    /// assert!(error.to_string().contains("NO_SUCH_VARIABLE"));
    /// ```
    pub fn from_env(name: &str) -> Result<Self> {
        // Not the error's own text: that shows a value that is no UTF-8.
        let Ok(text) = std::env::var(name).map(Zeroizing::new) else {
            return refuse(format!(
                "the environment variable {} has no encryption keys; set it",
                shown(name)
            ));
        };
        Self::from_text(&text).map_err(|error| error.at_place(shown(name)))
    }
}

/// The name of a place, unless it is a key that was given in the place of one.
fn shown(place: &str) -> &str {
    let digits = place.bytes().filter(u8::is_ascii_hexdigit).count();
    if digits >= 48 { "…" } else { place }
}

#[async_trait]
impl KeyProvider for Keys {
    async fn current(&self) -> Result<EncryptionKey> {
        Ok(self.current.clone())
    }

    async fn key(&self, id: &str) -> Result<Option<EncryptionKey>> {
        let mut all = std::iter::once(&self.current).chain(&self.others);
        Ok(all.find(|key| key.id() == id).cloned())
    }
}
