//! `conformance`.

use std::sync::Arc;

use tiered::{Create, Store};
use tiered_conformance::{RunOptions, cases};

use super::closing;
use crate::exit::{DIFFERENT, Failure, OK};
use crate::output;
use crate::progress::Progress;

pub(super) async fn run(url: &str) -> Result<u8, Failure> {
    let store = tiered::open(url, Create::IfAbsent).await?;
    let shared = Arc::clone(&store);
    let factory = move || {
        let store: Arc<dyn Store> = Arc::clone(&shared);
        async move { store }
    };
    let progress = Progress::new("of the suite's cases");
    progress.show(cases().count() as u64);
    let report = tiered_conformance::run(factory, RunOptions::new()).await;
    drop(progress);
    let printed = output::bytes(format!("{report}\n").as_bytes());
    closing(&*store, printed).await?;
    Ok(if report.is_ok() { OK } else { DIFFERENT })
}
