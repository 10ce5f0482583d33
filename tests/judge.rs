//! The judge of object stores, every function of `object_store::integration` but `response_extensions`, on stacks over real tiers: by
//! cache and file, over a server, and behind a durable journal. The bridge's own tests have it on stacks in memory.

use std::path::Path;
use std::sync::Arc;

use object_store::Error;
use object_store::integration;
use tempfile::TempDir;
use tiered::journal::JournalConfig;
use tiered::object_store::v0_14::ObjectView;
use tiered::object_store::v0_14::object_store;
use tiered::{Create, Store, TieredStore, WritePolicy};

/// A view of a stack, and the folder of its files.
struct Judged {
    view: ObjectView,
    _folder: TempDir,
}

/// The judge puts values of 10 MiB.
const MAX_VALUE: &str = "max_value=32MiB";

async fn open(folder: &Path, url: &str) -> Arc<dyn Store> {
    let url = url.replace("DIR", &folder.display().to_string());
    tiered::open(&format!("{url}&{MAX_VALUE}"), Create::IfAbsent).await.expect("opens")
}

fn folder() -> TempDir {
    tempfile::tempdir().expect("a folder")
}

/// A stack that writes through, of the two URLs.
async fn through(frontend: &str, backend: &str) -> Judged {
    let folder = folder();
    let frontend = open(folder.path(), frontend).await;
    let stack = TieredStore::builder(frontend, open(folder.path(), backend).await);
    Judged { view: ObjectView::new(Arc::new(stack.build().await.expect("builds"))), _folder: folder }
}

const MOKA: &str = "moka:?capacity=64MiB";

async fn moka_redb() -> Judged {
    through(MOKA, "redb:DIR/data.redb?cache=8MiB").await
}

#[cfg(feature = "rocksdb")]
async fn moka_rocksdb() -> Judged {
    through(MOKA, "rocksdb:DIR/data?cache=8MiB").await
}

/// The frontend keeps within a capacity that a value of the judge fills.
#[cfg(feature = "s3")]
async fn redb_s3() -> Judged {
    let folder = folder();
    let frontend = open(folder.path(), "redb:DIR/cache.redb?cache=8MiB&capacity=48MiB").await;
    let stack =
        TieredStore::builder(frontend, tiered_tests::s3(folder.path(), 32 << 20).await.expect("opens"));
    Judged { view: ObjectView::new(Arc::new(stack.build().await.expect("builds"))), _folder: folder }
}

/// Writes are acknowledged when the journal has them.
async fn journal() -> Judged {
    let folder = folder();
    let frontend = open(folder.path(), "quick:?capacity=64MiB").await;
    let backend = open(folder.path(), "redb:DIR/data.redb?cache=8MiB").await;
    let journal = JournalConfig::new(folder.path().join("journal")).open().await.expect("opens");
    let stack =
        TieredStore::builder(frontend, backend).write_policy(WritePolicy::WriteBehind).journal(journal);
    Judged { view: ObjectView::new(Arc::new(stack.build().await.expect("builds"))), _folder: folder }
}

/// A test for each function of `integration` on each stack.
macro_rules! judged {
    ($($name:ident($view:ident $(, $argument:expr)*))*) => {
        $(mod $name {
            use super::integration;

            judged! { @on moka_redb $name $view ($($argument),*) }
            #[cfg(feature = "rocksdb")]
            judged! { @on moka_rocksdb $name $view ($($argument),*) }
            #[cfg(feature = "s3")]
            judged! { @on redb_s3 $name $view ($($argument),*) }
            judged! { @on journal $name $view ($($argument),*) }
        })*
    };
    (@on $stack:ident $name:ident $view:ident ($($argument:expr),*)) => {
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $stack() {
            let judged = super::$stack().await;
            let $view = &judged.view;
            integration::$name($view $(, $argument)*).await;
        }
    };
}

judged! {
    put_get_delete_list(view)
    put_get_attributes(view)
    get_opts(view)
    put_opts(view, true)
    stream_get(view)
    list_uses_directories_correctly(view)
    list_with_delimiter(view)
    rename_and_copy(view)
    copy_if_not_exists(view)
    copy_rename_nonexistent_object(view)
    multipart(view, view)
    multipart_race_condition(view, true)
    multipart_out_of_order(view)
    multipart_with_opts(view, view)
    multipart_put_part_out_of_order(view, view)
    list_paginated(view, view)
    list_with_offset_exclusivity(view)
}

mod get_nonexistent_object {
    use super::{Error, integration};

    macro_rules! on {
        ($stack:ident) => {
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $stack() {
                let judged = super::$stack().await;
                let error =
                    integration::get_nonexistent_object(&judged.view, None).await.expect_err("not there");
                assert!(matches!(error, Error::NotFound { .. }), "{error}");
            }
        };
    }

    on! { moka_redb }
    #[cfg(feature = "rocksdb")]
    on! { moka_rocksdb }
    #[cfg(feature = "s3")]
    on! { redb_s3 }
    on! { journal }
}
