//! A store under a prefix that is new, looked for, and destroyed.

use tiered_core::{ErrorKind, Key, Put, Store as _, StoreExt as _};
use tiered_s3::aws_sdk_s3::Client;
use tiered_s3::{BulkDelete, Conditional, Create, Layout, S3Config};
use tiered_services::Service;

use crate::place::{BUCKET, client, config, prefix};

/// The names of all objects under a prefix, without it.
async fn names(client: &Client, prefix: &str) -> Vec<String> {
    let answer = client.list_objects_v2().bucket(BUCKET).prefix(prefix).send().await.expect("lists");
    let names = answer.contents().iter().filter_map(|object| object.key()?.strip_prefix(prefix));
    names.map(str::to_owned).collect()
}

async fn put_foreign(client: &Client, name: &str) {
    let body = tiered_s3::aws_sdk_s3::primitives::ByteStream::from_static(b"of others");
    client.put_object().bucket(BUCKET).key(name).body(body).send().await.expect("written");
}

async fn refused(config: S3Config) -> ErrorKind {
    config.open().await.expect_err("refused").kind()
}

#[tokio::test]
async fn a_new_store_is_new_and_a_destroyed_one_gone() {
    let endpoint = Service::S3.required();
    for layout in [Layout::Raw, Layout::Enveloped] {
        let prefix = prefix();
        let config = config(&endpoint, &prefix).await.layout(layout);
        assert!(!config.clone().exists().await.expect("tells"));
        assert_eq!(config.clone().destroy().await.expect_err("absent").kind(), ErrorKind::NotFound);
        assert_eq!(refused(config.clone().create(Create::Never)).await, ErrorKind::NotFound);
        let store = config.clone().create(Create::New).open().await.expect("made");
        assert!(config.clone().exists().await.expect("tells"), "an empty store is there");
        assert_eq!(refused(config.clone().create(Create::New)).await, ErrorKind::AlreadyExists);
        store.set("k", "v").await.expect("written");
        store.set_mark("mine", Some("v".into())).await.expect("set");
        store.close().await.expect("closes");
        config.clone().create(Create::Never).open().await.expect("connects");
        config.clone().destroy().await.expect("destroyed");
        assert_eq!(names(&client(&endpoint), &prefix).await, Vec::<String>::new());
        assert!(!config.exists().await.expect("tells"));
    }
}

#[tokio::test]
async fn objects_of_others_and_those_beside_the_prefix_stay() {
    let endpoint = Service::S3.required();
    let other = client(&endpoint);
    for (layout, conditional, bulk) in [
        (Layout::Raw, Conditional::Probe, BulkDelete::Auto),
        (Layout::Enveloped, Conditional::Off, BulkDelete::Auto),
        (Layout::Raw, Conditional::Off, BulkDelete::Single),
    ] {
        let prefix = prefix();
        let config =
            config(&endpoint, &prefix).await.layout(layout).conditional(conditional).bulk_delete(bulk);
        let store = config.clone().open().await.expect("opens");
        for index in 0..40 {
            let key = Key::new(format!("k {index}+ü")).expect("valid");
            store.put(&key, Put::new("v")).await.expect("written");
        }
        store.set_mark("mine", Some("v".into())).await.expect("set");
        store.close().await.expect("closes");
        put_foreign(&other, &format!("{prefix}of-others")).await;
        put_foreign(&other, &format!("{prefix}.tiered/notes")).await;
        let beside = format!("{}-beside", prefix.trim_end_matches('/'));
        put_foreign(&other, &beside).await;
        config.destroy().await.expect("destroyed");
        assert_eq!(names(&other, &prefix).await, [".tiered/notes", "of-others"]);
        assert_eq!(names(&other, &beside).await.len(), 1);
    }
}

#[tokio::test]
async fn an_interrupted_removal_is_not_opened_and_is_finished() {
    let endpoint = Service::S3.required();
    let prefix = prefix();
    let config = config(&endpoint, &prefix).await;
    let store = config.clone().open().await.expect("opens");
    for key in ["a", "b"] {
        store.set(key, "v").await.expect("written");
    }
    // As a killed process leaves it.
    store.set_mark("tiered.destroying", Some("1".into())).await.expect("set");
    store.delete(&Key::new("a").expect("valid"), tiered_core::Delete::new()).await.expect("removed");
    store.close().await.expect("closes");
    for create in [Create::Never, Create::IfAbsent, Create::New] {
        assert_eq!(refused(config.clone().create(create)).await, ErrorKind::Corrupt, "{create:?}");
    }
    assert!(config.clone().exists().await.expect("tells"));
    config.destroy().await.expect("destroyed");
    assert_eq!(names(&client(&endpoint), &prefix).await, Vec::<String>::new());
}
