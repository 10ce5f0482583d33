//! A server that is less than S3: s3s-fs keeps objects as files, and a write is not one step there. The suite runs but for
//! the cases that need what it has not got; signatures are checked here, and nowhere else.

use tiered_conformance::RunOptions;
use tiered_s3::{Layout, S3Config};
use tiered_services::Service;

use crate::place::{BUCKET, Server, prefix};

/// Cases that this server fails, each tried and seen to.
const WANTING: [&str; 24] = [
    // `a` is a file, and so cannot be a folder of `a/b`; a name that ends in a slash has no body.
    "delete_neighbours",
    "list_after",
    "list_combined",
    "list_order",
    "list_prefix",
    "model_listing",
    "model_sequence",
    "read_key_shortest",
    "read_keys",
    "read_keys_similar",
    // A part of a name has 255 bytes at most.
    "read_key_longest",
    // A value and its headers are two files: readers see one without the other, and so do conditions.
    "cancel_writes",
    "handles_race",
    "read_if_version_race",
    "race_ranges",
    "race_counter",
    "race_create",
    "race_list",
    "race_reads",
    "race_replace",
    "race_values",
    "race_versions",
    "race_acknowledged_visible",
    "stream_puts_together",
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_without_atomic_conditions_passes_every_other_case() {
    let server = Server::new(Service::S3Fs, Layout::Raw).await;
    let wanting = |name: &&str| !WANTING.contains(name);
    let names = tiered_conformance::cases().map(|case| case.name).filter(wanting);
    // A listing walks through the folders of the whole bucket, and fails where a file vanishes meanwhile: a case at a time.
    let options = RunOptions::new().only(names).concurrency(1);
    let report = tiered_conformance::run(server, options).await;
    assert!(report.is_ok(), "{report}");
    assert!(report.passed() >= 80, "{} passed", report.passed());
}

#[tokio::test]
async fn a_wrong_secret_is_refused_and_not_printed() {
    let config = S3Config::new(BUCKET).endpoint(&Service::S3Fs.required()).prefix(&prefix());
    let error = config.credentials("tiered-tests", "hunter2", None).open().await.expect_err("refused");
    assert_eq!(error.kind(), tiered_core::ErrorKind::PermissionDenied, "{}", error.chain());
    assert!(!format!("{} {error:?}", error.chain()).contains("hunter2"));
}
