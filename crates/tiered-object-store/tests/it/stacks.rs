//! The stacks below a view.

use std::sync::Arc;

use tempfile::TempDir;
use tiered_core::{MemoryStore, Store, TieredStore, VolatileJournal, WritePolicy};
use tiered_quick::QuickConfig;
use tiered_redb::RedbConfig;

/// A store, and the folder that it is in.
pub(crate) struct Stack {
    pub(crate) store: Arc<dyn Store>,
    _folder: TempDir,
}

fn folder() -> TempDir {
    tempfile::tempdir().expect("a folder")
}

async fn redb(folder: &TempDir) -> impl Store {
    let config = RedbConfig::new(folder.path().join("data.redb")).cache(8 << 20);
    config.open().await.expect("opens")
}

/// One tier in memory.
pub(crate) async fn memory() -> Stack {
    std::future::ready(()).await;
    Stack { store: Arc::new(MemoryStore::new()), _folder: folder() }
}

/// A cache over a file.
pub(crate) async fn through() -> Stack {
    let folder = folder();
    let frontend = QuickConfig::new(64 << 20).build().expect("opens");
    let stack = TieredStore::builder(frontend, redb(&folder).await).build().await.expect("builds");
    Stack { store: Arc::new(stack), _folder: folder }
}

/// Writes are acknowledged before the file has them.
pub(crate) async fn behind() -> Stack {
    let folder = folder();
    let frontend = QuickConfig::new(64 << 20).build().expect("opens");
    let stack = TieredStore::builder(frontend, redb(&folder).await)
        .write_policy(WritePolicy::WriteBehind)
        .journal(VolatileJournal::new())
        .build()
        .await
        .expect("builds");
    Stack { store: Arc::new(stack), _folder: folder }
}

/// A frontend that holds an entry or two, and evicts one for each that comes.
pub(crate) async fn evicting() -> Stack {
    let folder = folder();
    let frontend = QuickConfig::new(8 << 10).items(2).max_value(512).build().expect("opens");
    let stack = TieredStore::builder(frontend, redb(&folder).await).build().await.expect("builds");
    Stack { store: Arc::new(stack), _folder: folder }
}

/// All of them.
pub(crate) async fn all() -> [Stack; 4] {
    [memory().await, through().await, behind().await, evicting().await]
}

/// A test for each function of `integration` on each stack.
#[macro_export]
macro_rules! integration {
    ($($name:ident($view:ident $(, $argument:expr)*))*) => {
        $(mod $name {
            use super::{ObjectView, integration};

            $crate::integration! { @on memory $name $view ($($argument),*) }
            $crate::integration! { @on through $name $view ($($argument),*) }
            $crate::integration! { @on behind $name $view ($($argument),*) }
            $crate::integration! { @on evicting $name $view ($($argument),*) }
        })*
    };
    (@on $stack:ident $name:ident $view:ident ($($argument:expr),*)) => {
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $stack() {
            let stack = $crate::stacks::$stack().await;
            let $view = ObjectView::new(stack.store.clone());
            integration::$name(&$view $(, $argument)*).await;
        }
    };
}
