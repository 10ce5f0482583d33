//! The command line.

mod gc;
mod import;
mod rate;
mod sync;
mod walk;

use std::ffi::OsString;
use std::path::PathBuf;

use clap::builder::{PathBufValueParser, TypedValueParser as _};
use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{ArgMatches, Args, CommandFactory as _, FromArgMatches as _, Parser, Subcommand};
use tiered::Precondition;
use tiered::ownership::JournalId;
use tiered::ownership::Lease;

pub(crate) use gc::{Gc, References};
#[cfg(feature = "git")]
pub(crate) use import::Git;
pub(crate) use import::Import;
pub(crate) use sync::{Chosen, Patterns, Shard, Sync};
pub(crate) use walk::Walk;

/// A key-value store in tiers.
#[derive(Parser)]
#[command(name = "tiered", version, about, after_help = AFTER)]
pub(crate) struct Arguments {
    /// Prints JSON: one object, or one a line for listings.
    #[arg(long, global = true)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) place: Place,
    #[command(subcommand)]
    pub(crate) command: Command,
}

const AFTER: &str = "\
Stores by URL
  redb:FILE        a file
                   ?cache=64MiB&durability=sync|buffer&verify=auto|always|never
  rocksdb:DIR      a folder; needs the feature rocksdb
                   ?cache=64MiB&write_buffer=64MiB&durability=sync|buffer
  postgres://USER@HOST/DATABASE   a table; needs the feature postgres
                   ?table=tiered&feed=on
  s3://BUCKET/PREFIX              objects; needs the feature s3
                   ?region=…&endpoint=https://…
  moka:            memory of this process, bounded
                   ?capacity=64MiB&ttl=60s&policy=lru|tinylfu
  quick:           the same, over quick_cache
                   ?capacity=64MiB&ttl=60s&items=50000
  memory:          memory of this process
  Files and folders take access=read-only, which reading commands use by themselves where writing is
  forbidden. Each takes max_value=1GiB. A path is literal up to the first `?`.

Exit codes
  0  done
  1  the key or writer is absent; `exists`: no store; `id`: none; `journal abandon`: no such journal
  2  usage, URL, configuration, key, value over the limit, a place that holds something else
  3  a precondition failed, and nothing was written
  4  locked, unavailable, absent place, `create` of one that is there, any other failure
  5  damaged data
  6  `check` or `sync --verify` found a difference, `list` or `check` met a damaged key, `walk`
     met a reference to a key that does not exist, a conformance case failed

A key that begins with a dash follows two dashes: tiered --store URL get -- -key";

/// Below the help of each subcommand.
const MORE: &str = "URLs of stores and exit codes: tiered --help";

/// The options that name a store or a stack.
const STORE: &[&str] = &["store", "config"];
const STACK: &[&str] = &[
    "frontend",
    "backend",
    "write_policy",
    "read_policy",
    "journal",
    "sole_writer",
    "private_frontend",
    "lease",
    "config",
];
const DECLARED: &[&str] = &["sole_journal", "backend_id"];

/// Which of the options of [`Place`] and `--json` a subcommand knows; the others are not shown in its help.
fn known(path: &[&str]) -> Vec<&'static [&'static str]> {
    const JSON: &[&str] = &["json"];
    match path {
        ["get" | "put" | "list" | "head" | "gc" | "create" | "exists" | "id"] => {
            vec![STORE, STACK, DECLARED, JSON]
        }
        ["delete" | "destroy"] => vec![STORE, STACK, DECLARED],
        ["flush"] | ["journal", "retry" | "drop"] => vec![STACK, DECLARED],
        ["journal", "list" | "verify"] => vec![&["journal", "store"], JSON],
        ["journal", "abandon"] => vec![&["journal", "store"]],
        ["import", "git"] | ["sync" | "walk" | "check" | "conformance" | "replay"] => vec![JSON],
        _ => Vec::new(),
    }
}

/// The command line with the help of each subcommand cut to what applies to it.
pub(crate) fn command() -> clap::Command {
    let mut command = Arguments::command();
    // Hands the global options down.
    command.build();
    cut(command, &[])
}

fn cut(command: clap::Command, path: &[&str]) -> clap::Command {
    let names: Vec<String> = command.get_subcommands().map(|inner| inner.get_name().to_owned()).collect();
    let mut command = command;
    for name in names.iter().filter(|name| *name != "help") {
        let path = [path, &[name.as_str()]].concat();
        let known = known(&path).concat();
        command = command.mut_subcommand(name, |inner| {
            let inner = inner.mut_args(|argument| {
                let id = argument.get_id().as_str();
                match (GLOBAL.contains(&id) && !known.contains(&id), special(&path, id)) {
                    (true, _) => argument.hide(true),
                    (false, Some(help)) => argument.help(help),
                    (false, None) => argument,
                }
            });
            cut(inner, &path).after_help(MORE)
        });
    }
    command
}

/// Options that a subcommand accepts and does not show. `--json` is harmless if nothing is printed as JSON. A journal
/// can be inspected with the options of its stack: its backend then says whether it names the journal.
fn tolerated(path: &[&str]) -> &'static [&'static str] {
    match path {
        ["journal", "list" | "verify"] => &[
            "frontend",
            "backend",
            "write_policy",
            "read_policy",
            "sole_writer",
            "private_frontend",
            "lease",
            "sole_journal",
            "backend_id",
        ],
        _ => &["json"],
    }
}

/// What an option of [`Place`] means to one subcommand alone.
fn special(path: &[&str], id: &str) -> Option<&'static str> {
    match (path, id) {
        (["journal", "list" | "verify"], "store") => Some("The backend, to say whether it names the journal"),
        (["journal", "list" | "verify"], "journal") => Some("The journal's folder"),
        (["journal", "abandon"], "store") => Some("The store that waits for the journal"),
        (["journal", "abandon"], "journal") => Some("The journal's folder, to print what is given up"),
        _ => None,
    }
}

/// Parses a command line, and refuses an option that would be ignored.
pub(crate) fn parse(line: impl Iterator<Item = OsString>) -> Result<Arguments, clap::Error> {
    let mut command = command();
    let matches = command.try_get_matches_from_mut(line)?;
    if let Some(why) = ignored(&matches) {
        return Err(command.error(ErrorKind::ArgumentConflict, why));
    }
    Arguments::from_arg_matches(&matches)
}

fn ignored(matches: &ArgMatches) -> Option<String> {
    let mut path = Vec::new();
    let mut leaf = matches;
    while let Some((name, inner)) = leaf.subcommand() {
        path.push(name);
        leaf = inner;
    }
    let known = [known(&path).concat(), tolerated(&path).to_vec()].concat();
    let ignored = GLOBAL.iter().find(|id| {
        !known.contains(*id)
            && leaf.try_contains_id(id).unwrap_or(false)
            && leaf.value_source(id) == Some(ValueSource::CommandLine)
    })?;
    let option = ignored.replace('_', "-");
    Some(format!("`{}` does not use --{option}; see its --help", path.join(" ")))
}

/// Every option that stands before or behind a subcommand.
const GLOBAL: &[&str] = &[
    "store",
    "frontend",
    "backend",
    "write_policy",
    "read_policy",
    "journal",
    "sole_writer",
    "private_frontend",
    "lease",
    "sole_journal",
    "backend_id",
    "config",
    "json",
];

/// A path that may begin with a dash, but not with two: an option whose value was forgotten would take the next one.
fn path() -> impl clap::builder::TypedValueParser<Value = PathBuf> {
    PathBufValueParser::new().try_map(|path| named(&path.to_string_lossy()).map(|_| path))
}

fn named(path: &str) -> Result<String, String> {
    if path.starts_with("--") {
        return Err(format!("a value is missing before {path}; a file of that name is ./{path}"));
    }
    Ok(path.to_owned())
}

/// Where a command reads and writes.
#[derive(Args)]
#[command(next_help_heading = "The store")]
pub(crate) struct Place {
    /// A single store.
    #[arg(long, global = true, value_name = "URL", conflicts_with_all = ["frontend", "backend", "config"])]
    pub(crate) store: Option<String>,
    /// The fast tier of a stack.
    #[arg(long, global = true, value_name = "URL", requires = "backend")]
    pub(crate) frontend: Option<String>,
    /// The authoritative tier of a stack.
    #[arg(long, global = true, value_name = "URL", requires = "frontend")]
    pub(crate) backend: Option<String>,
    /// write-through (default), write-behind, write-around or frontend-only.
    #[arg(long, global = true, value_name = "POLICY", requires = "frontend")]
    pub(crate) write_policy: Option<String>,
    /// frontend-first (default) or frontend-only.
    #[arg(long, global = true, value_name = "POLICY", requires = "frontend")]
    pub(crate) read_policy: Option<String>,
    /// The journal of write-behind: a folder, or `volatile:`, which a crash loses.
    #[arg(long, global = true, value_name = "PATH", allow_hyphen_values = true, value_parser = named)]
    pub(crate) journal: Option<String>,
    /// Declares that nothing else writes to the backend. Write-behind needs it if the backend could be shared.
    #[arg(long, global = true, requires = "frontend")]
    pub(crate) sole_writer: bool,
    /// Declares that nothing else uses a frontend that could be shared.
    #[arg(long, global = true, requires = "frontend")]
    pub(crate) private_frontend: bool,
    /// Owns the backend by a lease: acquire, or take-over from its holder. For write-behind over a backend that could
    /// be shared.
    #[arg(long, global = true, value_name = "HOW", requires = "frontend", conflicts_with = "sole_writer", value_parser = lease)]
    pub(crate) lease: Option<Lease>,
    /// Declares that nothing writes to the backend without this journal. Needed if the backend keeps no marks.
    #[arg(long, global = true, requires = "journal")]
    pub(crate) sole_journal: bool,
    /// Names the backend. Needed if the backend keeps no marks: a journal then recognises it by this name.
    #[arg(long, global = true, value_name = "NAME", requires = "frontend", allow_hyphen_values = true)]
    pub(crate) backend_id: Option<String>,
    /// A stack described in TOML.
    #[arg(long, global = true, value_name = "FILE", conflicts_with_all = ["frontend", "backend"], allow_hyphen_values = true, value_parser = path())]
    pub(crate) config: Option<PathBuf>,
}

fn lease(text: &str) -> Result<Lease, String> {
    match text {
        "acquire" => Ok(Lease::Acquire),
        "take-over" => Ok(Lease::TakeOver),
        _ => Err("use acquire or take-over".to_owned()),
    }
}

/// The precondition of a write; if it does not hold, the command ends with 3.
#[derive(Args)]
pub(crate) struct Condition {
    /// Only if the key is absent.
    #[arg(long, conflicts_with = "if_version")]
    pub(crate) if_absent: bool,
    /// Only if the key has this version, as `head` shows it.
    #[arg(long, value_name = "VERSION")]
    pub(crate) if_version: Option<String>,
}

impl Condition {
    pub(crate) fn precondition(&self) -> tiered::Result<Precondition> {
        Ok(match &self.if_version {
            Some(version) => Precondition::Matches(version.parse()?),
            None if self.if_absent => Precondition::Absent,
            None => Precondition::None,
        })
    }
}

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Prints a value.
    Get {
        /// The key.
        key: String,
        /// Writes the value to this file instead, replacing its content.
        #[arg(short, long, value_name = "FILE", allow_hyphen_values = true, value_parser = path())]
        output: Option<PathBuf>,
    },
    /// Writes a value.
    Put {
        /// The key.
        key: String,
        /// The file with the value; standard input by default.
        file: Option<PathBuf>,
        #[command(flatten)]
        condition: Condition,
    },
    /// Deletes a key. Ends with 1 if it is absent.
    Delete {
        /// The key.
        key: String,
        /// Only if the key has this version, as `head` shows it.
        #[arg(long, value_name = "VERSION")]
        if_version: Option<String>,
    },
    /// Lists keys in the order of their bytes.
    List {
        /// Only keys that begin with this.
        #[arg(default_value = "", hide_default_value = true)]
        prefix: String,
        /// Only keys after this one, which need not exist.
        #[arg(long, value_name = "KEY", allow_hyphen_values = true)]
        start_after: Option<String>,
        /// At most this many.
        #[arg(long, value_name = "N")]
        limit: Option<usize>,
    },
    /// Prints what is known of a key, without its value.
    Head {
        /// The key.
        key: String,
    },
    /// Brings one store in step with another.
    Sync(Sync),
    /// Copies what is reachable from roots, each key once and after all that it refers to: a walk that is stopped leaves no
    /// root whose parts are missing, cycles excepted.
    Walk(Walk),
    /// Brings what another program keeps into a store.
    #[command(subcommand)]
    Import(Import),
    /// Compares two stores, and prints the keys that differ. Ends with 6 if there are any.
    Check {
        /// The store that says what should be there.
        #[arg(long, value_name = "URL")]
        from: String,
        /// The store that is compared with it: its keys are `missing`, `extra`, or `differ`.
        #[arg(long, value_name = "URL")]
        to: String,
        #[command(flatten)]
        chosen: Chosen,
        /// Compares the bytes of the values instead of versions and sizes.
        #[arg(long)]
        values: bool,
    },
    /// Deletes what nothing refers to any more, by two runs: one observes it, a later one deletes it. A dry run unless
    /// --apply is given. Without roots and keep-list it prints the horizon and the writers under way.
    Gc(Gc),
    /// Waits until every journaled write of a stack is in the backend.
    Flush,
    /// Says what hit ratio memory tiers would have had for a log of accesses, and what the backend would have been spared.
    Replay(Replay),
    /// Inspects the journal of write-behind, and retries or drops writes that the backend refused.
    #[command(subcommand)]
    Journal(Journal),
    /// Makes a new store or stack, and prints its id. Fails if there is one, or any tier of it.
    Create,
    /// Says whether there is a store or stack. Ends with 1 if there is none.
    Exists,
    /// Removes a store or stack with everything that it has written: the frontend, the journal and the backend, which stays
    /// under the write policy frontend-only. What others have put in the same place stays.
    Destroy {
        /// Destroys it. Without this option the command only prints what would be removed, and ends with 2.
        #[arg(long)]
        yes: bool,
        /// Loses acknowledged writes that only a journal has. Without this option they are a reason to refuse.
        #[arg(long)]
        discard_unflushed: bool,
    },
    /// Prints the id of a store or stack, which is the same after each opening. Ends with 1 if it has none.
    Id,
    /// Runs the conformance suite under a fresh prefix of a store. Ends with 6 if a case fails.
    Conformance {
        /// The store, which is created if it is absent.
        url: String,
    },
    /// Shows the main job on real files, and measures it.
    Demo {
        /// Where the files come from.
        #[arg(default_value = ".")]
        dir: PathBuf,
        /// The folder for its data; a new temporary one by default.
        #[arg(long, value_name = "PATH", allow_hyphen_values = true, value_parser = path())]
        data: Option<PathBuf>,
    },
}

/// What is tried, and for which log.
#[derive(Args)]
pub(crate) struct Replay {
    /// The log: one access a line, a key and, behind a space or a tab, the bytes of its value if they are known. `-` is standard
    /// input.
    #[arg(value_name = "TRACE")]
    pub(crate) trace: PathBuf,
    /// A tier in memory, without its capacity; can be repeated.
    #[arg(long, value_name = "URL", default_values = ["quick:", "moka:", "moka:?policy=tinylfu"])]
    pub(crate) tier: Vec<String>,
    /// What the tier holds at most, bookkeeping included, such as 64MiB; can be repeated or separated by commas. By default 0.5, 2,
    /// 5, 10 and 25 % of what all entries of the log would take.
    #[arg(long, value_name = "BYTES", value_delimiter = ',')]
    pub(crate) capacity: Vec<String>,
    /// Bytes of a value where the log does not say.
    #[arg(long, value_name = "BYTES", default_value = "1KiB")]
    pub(crate) value_size: String,
    /// Draws the hit ratios into an SVG file.
    #[arg(long, value_name = "FILE", allow_hyphen_values = true, value_parser = path())]
    pub(crate) plot: Option<PathBuf>,
}

/// Commands on the journal that `--journal` names.
#[derive(Subcommand)]
pub(crate) enum Journal {
    /// Prints what waits for the backend, and what it refused. The stack may be in use.
    List,
    /// Checks every record, and prints what the journal holds and its id.
    Verify,
    /// Tries refused writes of the stack again, and flushes.
    Retry {
        /// Only the write of this number, as `journal list` shows it; all by default.
        sequence: Option<u64>,
    },
    /// Drops a refused write of the stack. It was acknowledged, and is lost.
    Drop {
        /// The number of the write, as `journal list` shows it.
        sequence: u64,
    },
    /// Gives up a journal that is lost or unwanted. Its unflushed writes, which were acknowledged, are lost.
    Abandon {
        /// The journal's id, as `journal verify` and the warnings show it.
        id: JournalId,
        /// Gives it up. Without this option the command only prints what is lost, and ends with 2.
        #[arg(long)]
        yes: bool,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(line: &[&str]) -> String {
        let line = ["tiered"].iter().chain(line).map(OsString::from);
        parse(line).err().map_or_else(String::new, |error| error.to_string())
    }

    fn without_text(command: &clap::Command, path: &str, found: &mut Vec<String>) {
        let path = format!("{path} {}", command.get_name());
        if command.get_about().is_none() {
            found.push(path.clone());
        }
        for argument in command.get_arguments().filter(|argument| !argument.is_hide_set()) {
            if argument.get_help().is_none() {
                found.push(format!("{path} {}", argument.get_id()));
            }
        }
        for inner in command.get_subcommands().filter(|inner| inner.get_name() != "help") {
            without_text(inner, &path, found);
        }
    }

    #[test]
    fn every_option_has_a_help_text() {
        let mut found = Vec::new();
        without_text(&command(), "", &mut found);
        assert_eq!(found, Vec::<String>::new());
    }

    #[test]
    fn every_global_option_applies_to_some_subcommand() {
        let mut all = command();
        all.build();
        let ids: Vec<_> = all.get_arguments().filter(|argument| argument.is_global_set()).collect();
        assert_eq!(ids.len(), GLOBAL.len(), "GLOBAL lists them all");
        for argument in ids {
            let id = argument.get_id().as_str();
            assert!(GLOBAL.contains(&id), "{id}");
            assert!(known(&["get"]).concat().contains(&id), "{id}");
        }
    }

    #[test]
    fn an_option_without_effect_is_refused() {
        let sync = ["sync", "--from", "memory:", "--to", "memory:", "--strategy", "refresh"];
        assert_eq!(refused(&sync), "");
        let text = refused(&[&sync[..], &["--store", "redb:x"]].concat());
        assert!(text.contains("`sync` does not use --store"), "{text}");
        let text = refused(&["--frontend", "moka:", "--backend", "redb:x", "conformance", "memory:"]);
        assert!(text.contains("`conformance` does not use --frontend"), "{text}");
        assert_eq!(refused(&["--json", "demo"]), "");
        let stack = ["--frontend", "moka:", "--backend", "redb:x", "--journal", "j", "journal"];
        assert_eq!(refused(&[&stack[..], &["verify", "--json"]].concat()), "");
        let text = refused(&[&stack[..], &["abandon", "00000000000000000000000000000007"]].concat());
        assert!(text.contains("`journal abandon` does not use --frontend"), "{text}");
    }

    #[test]
    fn values_may_begin_with_a_dash() {
        for line in [
            &["list", "--start-after", "-x"][..],
            &["list", "--start-after", "--limit", "--limit", "3"],
            &["sync", "--from", "a:", "--to", "b:", "--strategy", "refresh", "--prefix", "-x"],
            &["get", "k", "-o", "-out"],
            &["get", "--", "-k"],
            &["put", "--if-absent", "--", "-k", "-file"],
            &["list", "--", "-prefix"],
            &["--journal", "-j", "journal", "list"],
            &["--config", "-c.toml", "get", "k"],
            &["demo", "--data", "-d"],
        ] {
            assert_eq!(refused(line), "", "{line:?}");
        }
        let text = refused(&["--journal", "--sole-writer", "journal", "list"]);
        assert!(text.contains("a value is missing before --sole-writer"), "{text}");
        let text = refused(&["put", "--if-absnet", "k"]);
        assert!(text.contains("--if-absent"), "{text}");
    }
}
