//! What keeps the store from being opened, and what it says then.

use std::net::TcpListener;
use std::time::Duration;

use aws_config::SdkConfig;
use aws_config::credential_process::CredentialProcessProvider;
use tiered_core::{ErrorKind, Outcome};
use tiered_s3::aws_sdk_s3::config::{BehaviorVersion, Region, SharedCredentialsProvider};
use tiered_s3::{Conditional, S3Config, Tls};
use tiered_services::Service;

use crate::place::{BUCKET, config, prefix};

#[test]
fn opening_outside_of_a_runtime_is_refused() {
    let config = S3Config::new(BUCKET).endpoint("http://127.0.0.1:1").credentials("a", "b", None);
    let mut opening = std::pin::pin!(config.open());
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    let opened = opening.as_mut().poll(&mut context);
    assert!(opened.is_ready(), "it waits for what nothing drives");
    let std::task::Poll::Ready(Err(error)) = opened else { return };
    assert_eq!(error.kind(), ErrorKind::Config, "{error}");
    assert!(error.to_string().contains("tokio runtime"), "{error}");
}

#[tokio::test]
async fn without_credentials_nothing_is_sent() {
    let credentials = SharedCredentialsProvider::new(CredentialProcessProvider::new("exit 3".to_owned()));
    let sdk = SdkConfig::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("us-east-1"))
        .credentials_provider(credentials)
        .build();
    let config = S3Config::new(BUCKET).endpoint(&Service::S3.required()).sdk_config(sdk);
    let error = config.conditional(Conditional::Off).open().await.expect_err("no credentials");
    assert_eq!(
        (error.kind(), error.write_outcome()),
        (ErrorKind::Unavailable, Outcome::NotApplied),
        "{error}"
    );
    assert!(error.message().contains("could not be signed"), "{}", error.chain());
    assert!(!error.message().contains("lost"), "{}", error.chain());
}

#[tokio::test]
async fn a_server_that_cannot_be_reached_was_sent_nothing() {
    // A port that was free a moment ago, and a name that stands for no machine.
    let port =
        TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port").port();
    for endpoint in [format!("http://127.0.0.1:{port}"), "http://no-such-host.invalid".to_owned()] {
        let config = S3Config::new(BUCKET).endpoint(&endpoint).tls(Tls::Optional).credentials("a", "b", None);
        let error = config.timeout(Duration::from_secs(4)).open().await.expect_err("nothing is there");
        assert_eq!(
            (error.kind(), error.write_outcome()),
            (ErrorKind::Unavailable, Outcome::NotApplied),
            "{error}"
        );
        assert!(error.message().contains("cannot be reached"), "{}", error.chain());
    }
    // It speaks, and no TLS.
    let endpoint = Service::S3.required().replace("http://", "https://");
    let config = S3Config::new(BUCKET).endpoint(&endpoint).credentials("a", "b", None);
    let error = config.timeout(Duration::from_secs(4)).open().await.expect_err("no TLS");
    assert_eq!(
        (error.kind(), error.write_outcome()),
        (ErrorKind::Unavailable, Outcome::NotApplied),
        "{error}"
    );
    assert!(error.message().contains("TLS"), "{}", error.chain());
}

#[tokio::test]
async fn a_missing_bucket_is_named_in_the_error() {
    config(&Service::S3.required(), &prefix()).await;
    let config = S3Config::new("no-such-bucket").endpoint(&Service::S3.required());
    let error = config.credentials("a", "b", None).open().await.expect_err("no bucket");
    assert_eq!(error.kind(), ErrorKind::NotFound, "{}", error.chain());
}
