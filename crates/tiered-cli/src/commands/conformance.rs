//! `conformance`.

use std::sync::Arc;

use serde::Serialize;
use tiered::{Create, Schemes, Store};
use tiered_conformance::{Ending, Report, RunOptions, cases};

use super::closing;
use crate::exit::{DIFFERENT, Failure, OK};
use crate::output::{self, Lines};
use crate::progress::Progress;
use crate::stack;

#[derive(Debug, Serialize)]
struct Line<'a> {
    case: &'a str,
    ending: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
    seconds: f64,
}

pub(super) async fn run(schemes: &Schemes, url: &str, json: bool) -> Result<u8, Failure> {
    let store = stack::open_alone(schemes, url, Create::IfAbsent).await?;
    let shared = Arc::clone(&store);
    let factory = move || {
        let store: Arc<dyn Store> = Arc::clone(&shared);
        async move { store }
    };
    let progress = Progress::new("of the suite's cases");
    progress.show(cases().count() as u64);
    let report = tiered_conformance::run(factory, RunOptions::new()).await;
    drop(progress);
    let printed = if json { print(&report) } else { output::bytes(format!("{report}\n").as_bytes()) };
    closing(&*store, printed).await?;
    Ok(if report.is_ok() { OK } else { DIFFERENT })
}

fn print(report: &Report) -> Result<(), Failure> {
    let mut lines = Lines::new();
    for case in &report.cases {
        let (ending, reason) = match &case.ending {
            Ending::Passed => ("passed", None),
            Ending::Refused(reason) => ("refused", Some(reason.as_str())),
            Ending::Skipped(reason) => ("skipped", Some(reason.as_str())),
            Ending::Failed(reason) => ("failed", Some(reason.as_str())),
        };
        lines.json(&Line { case: case.name, ending, reason, seconds: case.elapsed.as_secs_f64() })?;
    }
    lines.finish()
}
