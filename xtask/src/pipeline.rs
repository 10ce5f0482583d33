//! A command of several stages: it says beforehand what it does and for how long, shows how far it is, and ends with a
//! table.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use crate::progress::Progress;
use crate::session::Session;
use crate::stage::Counts;

/// A stage of a command.
pub(crate) struct Stage {
    pub(crate) name: &'static str,
    /// What it does, in a few words.
    pub(crate) what: &'static str,
    /// How long it takes on two idle cores.
    pub(crate) estimate: Estimate,
    /// Whether the stages after it need it, so that the command ends where it fails.
    pub(crate) vital: bool,
    pub(crate) run: fn(&mut Session) -> Result<Counts, String>,
}

/// How long a stage takes at most, in seconds: an upper bound, not a measurement of this version.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Estimate {
    /// With dependencies compiled and servers installed.
    pub(crate) compiled: u64,
    /// From nothing.
    pub(crate) nothing: u64,
}

impl Estimate {
    /// The same from nothing.
    pub(crate) const fn always(seconds: u64) -> Self {
        Self { compiled: seconds, nothing: seconds }
    }
}

/// A command of several stages.
pub(crate) struct Pipeline {
    pub(crate) title: &'static str,
    pub(crate) stages: Vec<Stage>,
    /// What it does not run, and the command that does.
    pub(crate) elsewhere: &'static [(&'static str, &'static str)],
}

/// How a stage ended.
struct Row {
    name: &'static str,
    taken: Duration,
    ended: Result<Counts, String>,
}

impl Pipeline {
    /// Runs the stages. The error says which of them failed.
    pub(crate) fn run(&self) -> Result<(), String> {
        let mut session = Session::begin()?;
        println!("{}", self.announcement(session.is_compiled()));
        let mut rows: Vec<Row> = Vec::new();
        for (index, stage) in self.stages.iter().enumerate() {
            let row = self.stage(index, stage, &mut session);
            let over = row.ended.is_err() && stage.vital;
            rows.push(row);
            if over {
                break;
            }
        }
        println!("\n{}", self.summary(&rows, &session));
        let failed: Vec<&str> = rows.iter().filter(|row| row.ended.is_err()).map(|row| row.name).collect();
        if failed.is_empty() { Ok(()) } else { Err(format!("failed: {}", failed.join(", "))) }
    }

    fn stage(&self, index: usize, stage: &Stage, session: &mut Session) -> Row {
        let estimate = if session.is_compiled() { stage.estimate.compiled } else { stage.estimate.nothing };
        let place = format!("[{}/{}] {}", index + 1, self.stages.len(), stage.name);
        #[expect(clippy::disallowed_methods, reason = "a build tool has no injected clock")]
        let begun = Instant::now();
        session.begin_stage(stage.name, Progress::begin(place.clone(), estimate));
        let ended = (stage.run)(session);
        let taken = begun.elapsed();
        session.end_stage();
        match &ended {
            Ok(counts) => println!("{place}: {} s{}", taken.as_secs(), counts.in_words()),
            Err(why) => println!("{place}: FAILED after {} s: {why}", taken.as_secs()),
        }
        Row { name: stage.name, taken, ended }
    }

    /// What is said beforehand.
    fn announcement(&self, is_compiled: bool) -> String {
        let mut text = format!("{}\n\n", self.title);
        let sum = |of: fn(&Estimate) -> u64| self.stages.iter().map(|stage| of(&stage.estimate)).sum::<u64>();
        let width = self.width();
        writeln!(text, "  stage  {:width$}  {:>8}  {:>12}", "", "compiled", "from nothing").ok();
        for (index, stage) in self.stages.iter().enumerate() {
            let Estimate { compiled, nothing } = stage.estimate;
            writeln!(
                text,
                "  {:>5}  {:width$}  {compiled:>6} s  {nothing:>10} s  {}",
                index + 1,
                stage.name,
                stage.what
            )
            .ok();
        }
        let (compiled, nothing) = (sum(|estimate| estimate.compiled), sum(|estimate| estimate.nothing));
        writeln!(
            text,
            "  {:>5}  {:width$}  {:>4} min  {:>8} min",
            "",
            "all",
            minutes(compiled),
            minutes(nothing)
        )
        .ok();
        let now = if is_compiled { compiled } else { nothing };
        let state =
            if is_compiled { "Dependencies are compiled" } else { "Dependencies are not compiled yet" };
        write!(
            text,
            "\nThese times are upper estimates for two idle cores. {state}: this run takes at most about {} minutes there.\n\
             It needs no input. Ctrl-C stops it and its servers.\n",
            minutes(now)
        )
        .ok();
        text
    }

    /// The table at the end.
    fn summary(&self, rows: &[Row], session: &Session) -> String {
        let width = self.width();
        let mut text = format!("{:width$}  seconds  result\n", "stage");
        let mut all = Counts::default();
        let mut taken = Duration::ZERO;
        for row in rows {
            let result = match &row.ended {
                Ok(counts) => {
                    all.add(*counts);
                    format!("passed{}", counts.in_words())
                }
                Err(_) => "FAILED".to_owned(),
            };
            taken += row.taken;
            writeln!(text, "{:width$}  {:>7}  {result}", row.name, row.taken.as_secs()).ok();
        }
        for stage in self.stages.iter().skip(rows.len()) {
            writeln!(text, "{:width$}  {:>7}  not run", stage.name, "").ok();
        }
        let failed = rows.iter().filter(|row| row.ended.is_err()).count();
        let result = if failed == 0 { "passed".to_owned() } else { format!("{failed} stages FAILED") };
        writeln!(text, "{:width$}  {:>7}  {result}{}", "all", taken.as_secs(), all.in_words()).ok();
        for missing in session.missing() {
            writeln!(text, "not run: {missing}").ok();
        }
        for (what, command) in self.elsewhere {
            writeln!(text, "not run here: {what}: `{command}`").ok();
        }
        write!(text, "the full output of each stage: {}", session.logs().display()).ok();
        text
    }

    fn width(&self) -> usize {
        self.stages.iter().map(|stage| stage.name.len()).max().unwrap_or_default()
    }
}

fn minutes(seconds: u64) -> u64 {
    seconds.div_ceil(60)
}
