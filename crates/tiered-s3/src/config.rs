//! Opening: which bucket, which server, what it can do.

use std::fmt;
use std::ops::RangeInclusive;
use std::time::Duration;

use aws_config::SdkConfig;
use aws_sdk_s3::config::{
    BehaviorVersion, Credentials, Region, RequestChecksumCalculation, ResponseChecksumValidation,
    StalledStreamProtectionConfig, retry::RetryConfig, timeout::TimeoutConfig,
};
use tiered_core::adapter::Stamp;
use tiered_core::{Capabilities, Create, Error, ErrorKind, Key, Operation, Result};

use crate::client::{Client, NoteSent};
use crate::store::S3Store;

/// What an object's body is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Layout {
    /// The value and nothing else: any tool reads and writes it. Two writes of equal bytes have equal `ETag`s, so a
    /// conditional write cannot tell them apart; the store does not declare
    /// [`UniqueValidators`](tiered_core::Feature::UniqueValidators).
    #[default]
    Raw,
    /// 24 bytes, the value, 4 bytes: what names the write goes before, the value's CRC-32C behind it. Objects without
    /// them are refused as damaged.
    Enveloped,
}

/// Whether conditional writes and deletes are used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Conditional {
    /// If a probe shows that the server supports them. Opening writes a probe object under `.tiered/`, because some
    /// servers silently ignore the condition.
    #[default]
    Probe,
    /// Never. Opening then writes nothing: a role without write permission can open the store.
    Off,
}

/// How several objects are deleted in one request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BulkDelete {
    /// As S3 specifies; with `Content-MD5` if the server refuses that; one by one if it refuses that as well.
    #[default]
    Auto,
    /// With a CRC checksum, as S3 has it.
    Crc,
    /// With `Content-MD5`, as some older servers want it.
    Md5,
    /// One request each.
    Single,
}

/// Where a request names the bucket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Addressing {
    /// In the path with an [`endpoint`](S3Config::endpoint), in the host with Amazon.
    #[default]
    Auto,
    /// In the path of the URL.
    Path,
    /// In the host of the URL.
    Host,
}

/// Whether an endpoint must have TLS. One on this machine need not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Tls {
    /// Opening refuses an endpoint on another machine without it.
    #[default]
    Required,
    /// `http://` is accepted: requests and values can be read on the way.
    Optional,
}

/// How to open an [`S3Store`].
#[derive(Clone)]
pub struct S3Config {
    pub(crate) bucket: String,
    pub(crate) prefix: String,
    pub(crate) layout: Layout,
    pub(crate) conditional: Conditional,
    pub(crate) bulk_delete: BulkDelete,
    pub(crate) timeout: Duration,
    pub(crate) multipart: u64,
    pub(crate) max_value: u64,
    pub(crate) stamp: Stamp,
    pub(crate) create: Create,
    region: Option<String>,
    endpoint: Option<String>,
    profile: Option<String>,
    credentials: Option<Credentials>,
    anonymous: bool,
    addressing: Addressing,
    tls: Tls,
    sdk: Option<SdkConfig>,
}

impl S3Config {
    /// The timeouts that are taken: a key whose write has an unknown outcome stays closed for longer than one of them.
    const TIMEOUTS: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_hours(24);
    /// Smallest [`multipart`](Self::multipart): S3 takes no smaller parts.
    pub const MIN_PART: u64 = 5 << 20;

    /// The bucket, in the region and with the credentials of the environment's usual chain: variables, profile files,
    /// web identity, the container's or the machine's role.
    pub fn new(bucket: &str) -> Self {
        Self {
            bucket: bucket.to_owned(),
            prefix: String::new(),
            layout: Layout::default(),
            conditional: Conditional::default(),
            bulk_delete: BulkDelete::default(),
            timeout: Duration::from_secs(10),
            multipart: 16 << 20,
            max_value: Capabilities::DEFAULT_MAX_VALUE,
            stamp: Stamp::system(),
            create: Create::default(),
            region: None,
            endpoint: None,
            profile: None,
            credentials: None,
            anonymous: false,
            addressing: Addressing::default(),
            tls: Tls::default(),
            sdk: None,
        }
    }

    /// The prefix of every object's name; empty by default. A slash is appended if it does not end in one.
    #[must_use]
    pub fn prefix(mut self, prefix: &str) -> Self {
        prefix.clone_into(&mut self.prefix);
        if !prefix.is_empty() && !prefix.ends_with('/') {
            self.prefix.push('/');
        }
        self
    }

    /// The layout of an object's body. All users of a prefix must use the same.
    #[must_use]
    pub fn layout(mut self, layout: Layout) -> Self {
        self.layout = layout;
        self
    }

    /// The region; that of the environment by default, and with an [`endpoint`](Self::endpoint) `us-east-1`.
    #[must_use]
    pub fn region(mut self, region: &str) -> Self {
        self.region = Some(region.to_owned());
        self
    }

    /// The URL of a server that is not Amazon's, such as `https://minio.example.com:9000`.
    #[must_use]
    pub fn endpoint(mut self, url: &str) -> Self {
        self.endpoint = Some(url.to_owned());
        self
    }

    /// Where a request names the bucket.
    #[must_use]
    pub fn addressing(mut self, addressing: Addressing) -> Self {
        self.addressing = addressing;
        self
    }

    /// Whether an endpoint must have TLS.
    #[must_use]
    pub fn tls(mut self, tls: Tls) -> Self {
        self.tls = tls;
        self
    }

    /// A profile of the environment's configuration files.
    #[must_use]
    pub fn profile(mut self, profile: &str) -> Self {
        self.profile = Some(profile.to_owned());
        self
    }

    /// These credentials, instead of the environment's.
    #[must_use]
    pub fn credentials(mut self, access_key: &str, secret_key: &str, session_token: Option<&str>) -> Self {
        let session_token = session_token.map(str::to_owned);
        self.credentials = Some(Credentials::new(access_key, secret_key, session_token, None, "tiered"));
        self
    }

    /// No credentials: for public buckets.
    #[must_use]
    pub fn anonymous(mut self) -> Self {
        self.anonymous = true;
        self
    }

    /// The driver's own configuration, if the environment's chain is not enough (single sign-on, a role to assume, a
    /// proxy). The other settings override it.
    #[must_use]
    pub fn sdk_config(mut self, sdk: SdkConfig) -> Self {
        self.sdk = Some(sdk);
        self
    }

    /// Whether conditional writes are used.
    #[must_use]
    pub fn conditional(mut self, conditional: Conditional) -> Self {
        self.conditional = conditional;
        self
    }

    /// How several objects are deleted.
    #[must_use]
    pub fn bulk_delete(mut self, bulk_delete: BulkDelete) -> Self {
        self.bulk_delete = bulk_delete;
        self
    }

    /// How long one request may take; 10 s by default, from 100 ms to a day, and a second more for each MiB that it moves;
    /// half of it, and at most 5 s, for connecting. Reads and conditional writes are tried three times. A read that is truncated, or whose
    /// object changes meanwhile, is repeated until this time has passed.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Larger values are written in parts of this size, at least [`Self::MIN_PART`]; 16 MiB by default. A value that is
    /// written under a precondition goes as a whole.
    #[must_use]
    pub fn multipart(mut self, bytes: u64) -> Self {
        self.multipart = bytes;
        self
    }

    /// The largest value, in bytes. S3 takes 5 GiB as a whole and 10,000 parts.
    #[must_use]
    pub fn max_value(mut self, bytes: u64) -> Self {
        self.max_value = bytes;
        self
    }

    /// The clock and the source of versions.
    #[must_use]
    pub fn stamp(mut self, stamp: Stamp) -> Self {
        self.stamp = stamp;
        self
    }

    /// What to do where the prefix holds no key and no mark, and so no store. Keys of other programs count. With
    /// [`Create::IfAbsent`], the default, that is not asked. The bucket is never created.
    #[must_use]
    pub fn create(mut self, create: Create) -> Self {
        self.create = create;
        self
    }

    /// Reaches the bucket, and asks the server what it can do.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] for a setting that cannot work, and outside a tokio runtime; [`ErrorKind::NotFound`] where
    /// the bucket does not exist (it is not made, since a bucket has an owner, a region and rules), and under
    /// [`Create::Never`] the store; [`ErrorKind::AlreadyExists`] where it does under [`Create::New`];
    /// [`ErrorKind::Corrupt`] where its [removal](Self::destroy) was interrupted;
    /// [`ErrorKind::PermissionDenied`]; [`ErrorKind::Unavailable`].
    ///
    /// # Cancel safety
    /// If dropped, it may leave its probe object under `.tiered/`.
    pub async fn open(self) -> Result<S3Store> {
        let place = self.place();
        let failed = |error: Error| error.at_place(&place).during(Operation::Open).in_tier("s3");
        let client = self.reach().await.map_err(failed)?;
        S3Store::open(self, client).await.map_err(failed)
    }

    /// The client, for settings that can work. Nothing is sent.
    pub(crate) async fn reach(&self) -> Result<Client> {
        self.check()?;
        tiered_core::adapter::opening::runtime()?;
        Ok(Client {
            s3: self.client().await?,
            bucket: self.bucket.clone(),
            prefix: self.prefix.clone(),
            timeout: self.timeout,
        })
    }

    /// The place, for messages.
    pub(crate) fn place(&self) -> String {
        format!("s3://{}/{}", self.bucket, self.prefix)
    }

    fn check(&self) -> Result<()> {
        let refuse = |why: &str| Err(Error::new(ErrorKind::Config, why));
        if self.bucket.is_empty() || self.bucket.contains('/') {
            return refuse("the bucket's name is empty or has a slash; give the name alone");
        }
        if self.bucket.ends_with("--x-s3") {
            return refuse("a directory bucket does not list in order; use a general-purpose bucket");
        }
        if self.prefix.len() > Key::MAX_LEN / 2 || self.prefix.chars().any(char::is_control) {
            return refuse(
                "the prefix has more than 512 bytes or a control character; use a shorter, printable one",
            );
        }
        if self.multipart < Self::MIN_PART {
            return refuse("multipart must be at least 5MiB: S3 takes no smaller parts");
        }
        if !Self::TIMEOUTS.contains(&self.timeout) {
            return refuse("timeout must be at least 100ms and at most 1d");
        }
        if let Some(endpoint) = &self.endpoint {
            let plain = endpoint.strip_prefix("http://");
            if plain.is_none() && !endpoint.starts_with("https://") {
                return refuse("the endpoint is not a URL; begin it with https:// or http://");
            }
            if plain.is_some_and(|rest| !is_local(rest)) && self.tls == Tls::Required {
                return refuse(
                    "the endpoint has no TLS and is not on this machine; use https://, or set tls to optional in a network that you trust",
                );
            }
        }
        Ok(())
    }

    /// The environment's configuration, with what was set here before it.
    async fn load(&self) -> SdkConfig {
        let mut loader = aws_config::defaults(BehaviorVersion::latest());
        if let Some(region) = &self.region {
            loader = loader.region(Region::new(region.clone()));
        } else if self.endpoint.is_some() {
            // Other servers have no regions: the environment is not queried over the network for one.
            loader = loader.region(Region::new("us-east-1"));
        }
        if let Some(profile) = &self.profile {
            loader = loader.profile_name(profile);
        }
        if self.anonymous {
            loader = loader.no_credentials();
        } else if let Some(credentials) = &self.credentials {
            loader = loader.credentials_provider(credentials.clone());
        }
        loader.load().await
    }

    async fn client(&self) -> Result<aws_sdk_s3::Client> {
        let sdk = match &self.sdk {
            Some(sdk) => sdk.clone(),
            None => Box::pin(self.load()).await,
        };
        let mut config = aws_sdk_s3::config::Builder::from(&sdk)
            // Retries are ours: only we know which writes may be repeated.
            .retry_config(RetryConfig::disabled())
            // At most half the timeout, so that a failed connection differs from a lost answer.
            .timeout_config(
                TimeoutConfig::builder()
                    .connect_timeout(Duration::from_secs(5).min(self.timeout / 2))
                    .build(),
            )
            .interceptor(NoteSent)
            .stalled_stream_protection(
                // The default of 5 s takes a slow server for a dead one.
                StalledStreamProtectionConfig::enabled().grace_period(Duration::from_secs(20)).build(),
            );
        if let Some(region) = &self.region {
            config = config.region(Region::new(region.clone()));
        }
        if let Some(credentials) = &self.credentials {
            config = config.credentials_provider(credentials.clone());
        }
        if let Some(endpoint) = &self.endpoint {
            // Servers other than Amazon's do not know the newer checksums.
            config = config
                .endpoint_url(endpoint)
                .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
                .response_checksum_validation(ResponseChecksumValidation::WhenRequired);
        }
        let path_style = match self.addressing {
            Addressing::Auto => self.endpoint.is_some(),
            Addressing::Path => true,
            Addressing::Host => false,
        };
        let config = config.force_path_style(path_style).build();
        if config.region().is_none() {
            return Err(Error::new(
                ErrorKind::Config,
                "no region: give one, or set AWS_REGION, or name one in the profile",
            ));
        }
        Ok(aws_sdk_s3::Client::from_conf(config))
    }
}

/// Whether what follows `http://` is on this machine.
fn is_local(rest: &str) -> bool {
    let authority = rest.split(['/', '?']).next().unwrap_or_default();
    let host = match authority.strip_prefix('[') {
        Some(v6) => v6.split(']').next().unwrap_or_default(),
        None => authority.split(':').next().unwrap_or_default(),
    };
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

impl fmt::Debug for S3Config {
    // Credentials stay out.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("S3Config")
            .field("place", &self.place())
            .field("region", &self.region)
            .field("layout", &self.layout)
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn invalid_settings_are_refused() {
        let refused = |config: S3Config| config.check().expect_err("refused").to_string();
        assert!(refused(S3Config::new("")).contains("bucket"));
        assert!(refused(S3Config::new("b--x-s3")).contains("in order"));
        assert!(refused(S3Config::new("b").endpoint("http://storage.example.com")).contains("TLS"));
        assert!(refused(S3Config::new("b").endpoint("storage.example.com")).contains("https://"));
        assert!(refused(S3Config::new("b").multipart(1)).contains("5MiB"));
        assert!(refused(S3Config::new("b").timeout(Duration::MAX)).contains("at most 1d"));
        for local in ["http://127.0.0.1:9000", "http://localhost/x", "http://[::1]:9000"] {
            assert!(S3Config::new("b").endpoint(local).check().is_ok(), "{local}");
        }
        assert!(S3Config::new("b").endpoint("http://s").tls(Tls::Optional).check().is_ok());
    }

    #[tokio::test]
    async fn the_bucket_is_in_the_host_or_in_the_path() {
        use aws_sdk_s3::presigning::PresigningConfig;
        let url = async |config: S3Config| {
            let client =
                config.region("eu-central-1").credentials("a", "b", None).client().await.expect("a client");
            let times = PresigningConfig::expires_in(Duration::from_mins(1)).expect("valid");
            let request =
                client.get_object().bucket("bucket").key("a key").presigned(times).await.expect("made");
            request.uri().split('?').next().unwrap_or_default().to_owned()
        };
        let amazon = S3Config::new("bucket");
        assert_eq!(url(amazon.clone()).await, "https://bucket.s3.eu-central-1.amazonaws.com/a%20key");
        let path = url(amazon.addressing(Addressing::Path)).await;
        assert_eq!(path, "https://s3.eu-central-1.amazonaws.com/bucket/a%20key");
        let other = S3Config::new("bucket").endpoint("https://storage.example.com:9000");
        assert_eq!(url(other.clone()).await, "https://storage.example.com:9000/bucket/a%20key");
        let host = url(other.addressing(Addressing::Host)).await;
        assert_eq!(host, "https://bucket.storage.example.com:9000/a%20key");
    }

    #[test]
    fn credentials_are_not_shown() {
        let config = S3Config::new("b").credentials("AKIA", "hunter2", Some("token"));
        let shown = format!("{config:?}");
        assert!(!shown.contains("hunter2") && !shown.contains("AKIA") && !shown.contains("token"), "{shown}");
    }
}
