//! What each run cost.

use measure::wire::Asked;

use crate::queries::Answers;
use crate::stack::Hits;

/// A run of all queries.
#[derive(Clone, Debug)]
pub(crate) struct Run {
    pub(crate) name: String,
    pub(crate) answers: Answers,
    pub(crate) asked: Asked,
    pub(crate) hits: Option<Hits>,
    /// Answers that are not those of the files as they are now.
    pub(crate) wrong: u64,
}

/// Prints runs, each with what is saved beside `bare`.
pub(crate) fn print(runs: &[Run], bare: &Run) {
    println!(
        "| | GET | HEAD | LIST | MiB of objects | blocks from memory | from disk | late calls of caches | wrong answers | seconds | \
         $ saved in 1,000 runs |\n|---|---|---|---|---|---|---|---|---|---|---|"
    );
    for run in runs {
        let Asked { gets, heads, lists, .. } = run.asked;
        let hits = run.hits.map_or_else(
            || " | | ".to_owned(),
            |hits| format!("{} | {} | {}", hits.memory, hits.disk, hits.late),
        );
        println!(
            "| {} | {gets} | {heads} | {lists} | {:.1} | {hits} | {} | {:.1} | {:.3} |",
            run.name,
            run.asked.read as f64 / f64::from(1 << 20),
            run.wrong,
            run.answers.took.as_secs_f64(),
            (bare.asked.dollars() - run.asked.dollars()) * 1_000.0,
        );
    }
}
