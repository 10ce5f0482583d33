//! The inside of tiered-core: that its rooms are separate. Each property is printed with its figure.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use crate::stage::root;

const CORE: &str = "crates/tiered-core/src";

/// The vocabulary: plain data and the contract, whose types mention each other. Elsewhere no two modules import each other.
const VOCABULARY: [&str; 16] = [
    "adapter",
    "attributes",
    "batch",
    "capability",
    "claim",
    "clock",
    "entry",
    "error",
    "journal",
    "key",
    "list",
    "policy",
    "ranges",
    "read",
    "store",
    "write",
];

/// Where a policy is read: nowhere else.
const PLAN: &str = "plan";

/// The rooms that call tiers, which they do through `tier`.
const ROOMS: [&str; 6] = ["frontend", "reader", "tiered", "turn", "write_behind", "writer"];

/// Files of the rooms that name a store: to build tiers, to give them out, and for marks that a session reads.
const NAME_STORES: [&str; 3] = ["tiered.rs", "tiered/builder.rs", "frontend/session.rs"];

/// Where interleavings are explored: these take locks, atomics, time and tasks from `sync_primitives` alone.
const EXPLORED: [&str; 11] = [
    "door",
    "frontend",
    "ownership",
    "reader",
    "slot",
    "tasks",
    "tier",
    "tiered",
    "turn",
    "write_behind",
    "writer",
];

/// What `sync_primitives` has other names for.
const UNSEEN: [&str; 5] = ["parking_lot", "std::sync::atomic", "OnceLock;", "tokio::time", "tokio::runtime"];

/// Longest function, in lines.
const MAX_FUNCTION: usize = 60;

/// A source file of tiered-core.
struct Source {
    /// Below [`CORE`].
    file: PathBuf,
    /// As in `frontend::change`.
    module: String,
    /// Without the tests.
    text: String,
}

pub(super) fn check(tracked: &[PathBuf], faults: &mut Vec<String>) {
    let sources = sources(tracked);
    let before = faults.len();
    let circles = circles(&sources);
    println!("1. modules of tiered-core that import each other: {}", circles.len());
    faults.extend(circles);
    print("2. fields that are visible outside their module", open_fields(&sources), faults);
    print("3. places outside of plan that read a policy", policies(&sources), faults);
    print("4. deliberate bugs and test hooks", hooks(tracked), faults);
    print("5. places that call a tier past `tier`", past_tier(&sources), faults);
    print("6. functions over 60 lines", long_functions(&sources), faults);
    print("   places where a room is out of shuttle's sight", unseen(&sources), faults);
    if faults.len() == before {
        println!("   {} modules, all hold", sources.len());
    }
}

fn print(property: &str, found: Vec<String>, faults: &mut Vec<String>) {
    println!("{property}: {}", found.len());
    faults.extend(found);
}

fn sources(tracked: &[PathBuf]) -> Vec<Source> {
    let inside = tracked.iter().filter_map(|file| Some((file, file.strip_prefix(CORE).ok()?)));
    inside
        .filter(|(_, inside)| inside.extension().is_some_and(|extension| extension == "rs"))
        .filter_map(|(file, inside)| {
            let text = fs::read_to_string(root().join(file)).ok()?;
            let text: Vec<&str> = text.lines().take_while(|line| !line.starts_with("#[cfg(test)]")).collect();
            let module = inside.with_extension("").to_string_lossy().replace('/', "::");
            Some(Source { file: inside.to_owned(), module, text: text.join("\n") })
        })
        .collect()
}

/// A fault at a line.
fn at(file: &Path, index: usize, what: &str) -> String {
    format!("{CORE}/{}:{}: {what}", file.display(), index + 1)
}

/// Pairs of modules that reach each other by imports and paths.
fn circles(sources: &[Source]) -> Vec<String> {
    let known: BTreeSet<&str> = sources.iter().map(|source| source.module.as_str()).collect();
    let is_vocabulary = |module: &str| VOCABULARY.contains(&module.split("::").next().unwrap_or_default());
    let edges: BTreeMap<&str, BTreeSet<String>> = sources
        .iter()
        .filter(|source| source.module != "lib")
        .map(|source| (source.module.as_str(), uses(source, &known)))
        .collect();
    let mut circles = Vec::new();
    for (&module, used) in &edges {
        for used in used {
            let back = reaches(used, module, &edges, &mut BTreeSet::new());
            if back && !(is_vocabulary(module) && is_vocabulary(used)) && module < used.as_str() {
                circles.push(format!(
                    "{CORE}: {module} and {used} import each other, directly or by way of others"
                ));
            }
        }
    }
    circles
}

fn reaches<'s>(
    from: &'s str,
    to: &str,
    edges: &'s BTreeMap<&str, BTreeSet<String>>,
    seen: &mut BTreeSet<&'s str>,
) -> bool {
    from == to
        || (seen.insert(from)
            && edges.get(from).is_some_and(|used| used.iter().any(|next| reaches(next, to, edges, seen))))
}

/// The modules that a source names, by `use` or in a path: the deepest one that each path leads to.
fn uses(source: &Source, known: &BTreeSet<&str>) -> BTreeSet<String> {
    let parent = source.module.rsplit_once("::").map_or("", |(parent, _)| parent);
    let code: Vec<&str> =
        source.text.lines().map(|line| line.split("//").next().unwrap_or_default()).collect();
    let code = flattened(&code.join(" "));
    let mut used = BTreeSet::new();
    for path in paths(&code) {
        let full = match path.split_once("::") {
            Some(("crate", rest)) => rest.to_owned(),
            Some(("super", rest)) if parent.is_empty() => rest.to_owned(),
            Some(("super", rest)) => format!("{parent}::{rest}"),
            Some(("self", rest)) => format!("{}::{rest}", source.module),
            _ => format!("{}::{path}", source.module),
        };
        let mut deepest = full.as_str();
        while !known.contains(deepest) {
            let Some((shorter, _)) = deepest.rsplit_once("::") else { break };
            deepest = shorter;
        }
        if known.contains(deepest) && deepest != source.module {
            used.insert(deepest.to_owned());
        }
    }
    used
}

/// The code with `a::{b, c::{d}}` written as `a::b a::c::d`.
fn flattened(code: &str) -> String {
    let mut code = code.to_owned();
    while let Some(open) = code.rfind("::{") {
        let Some(close) = code[open..].find('}').map(|close| open + close) else { break };
        let start =
            code[..open].rfind(|c: char| !(c.is_alphanumeric() || "_:".contains(c))).map_or(0, |at| at + 1);
        let prefix = code[start..open].to_owned();
        let inside = code[open + 3..close].split(',').map(str::trim).filter(|item| !item.is_empty());
        let flat: Vec<String> = inside
            .filter_map(|item| item.split_whitespace().next())
            .map(|item| format!("{prefix}::{item}"))
            .collect();
        code = format!("{}{}{}", &code[..start], flat.join(" , "), &code[close + 1..]);
    }
    code
}

fn paths(code: &str) -> impl Iterator<Item = &str> {
    code.split(|c: char| !(c.is_alphanumeric() || "_:".contains(c)))
        .map(|word| word.trim_matches(':'))
        .filter(|word| word.contains("::"))
}

fn open_fields(sources: &[Source]) -> Vec<String> {
    let is_open = |line: &str| {
        let field = line.trim_start().strip_prefix("pub(").and_then(|rest| rest.split_once(") "));
        field.is_some_and(|(_, rest)| {
            let name = rest.split(':').next().unwrap_or_default();
            rest.contains(": ") && name.chars().all(|c| c.is_alphanumeric() || c == '_')
        })
    };
    lines(sources, |_, line| is_open(line), "a field is visible outside its module")
}

fn policies(sources: &[Source]) -> Vec<String> {
    let reads = |source: &Source, line: &str| {
        let outside = !source.module.starts_with(PLAN);
        let named = [".write_policy", ".read_policy"].iter().any(|field| {
            line.split(field)
                .nth(1)
                .is_some_and(|rest| !rest.starts_with('(') && !rest.trim_start().starts_with("= "))
        });
        outside && named && !line.trim_start().starts_with("//")
    };
    lines(sources, reads, "a policy is read outside of plan")
}

/// Published crates have neither.
fn hooks(tracked: &[PathBuf]) -> Vec<String> {
    let published = |file: &Path| {
        let hidden = ["crates/tiered-sim", "crates/tiered-conformance"];
        file.starts_with("crates")
            && !hidden.iter().any(|path| file.starts_with(path))
            && !super::is_test(file)
    };
    let mut found = Vec::new();
    for file in tracked.iter().filter(|file| published(file)) {
        let Ok(text) = fs::read_to_string(root().join(file)) else { continue };
        for (index, line) in text.lines().enumerate() {
            if line.to_lowercase().contains("planted") {
                found.push(format!(
                    "{}:{}: no deliberate bug in a published crate",
                    file.display(),
                    index + 1
                ));
            }
        }
    }
    found
}

fn past_tier(sources: &[Source]) -> Vec<String> {
    let names_store = |source: &Source, line: &str| {
        let room = source.module.split("::").next().unwrap_or_default();
        let may = NAME_STORES.iter().any(|file| source.file == Path::new(file));
        ROOMS.contains(&room) && !may && line.contains("dyn Store") && !line.trim_start().starts_with("//")
    };
    lines(sources, names_store, "a room has a store at hand; call it through tier")
}

/// Uses of primitives at which shuttle's scheduler decides nothing.
fn unseen(sources: &[Source]) -> Vec<String> {
    let is_unseen = |source: &Source, line: &str| {
        let room = source.module.split("::").next().unwrap_or_default();
        let explored = EXPLORED.contains(&room) && !source.file.ends_with("interleavings.rs");
        let named = UNSEEN.iter().any(|name| line.contains(name)) && !line.contains("sync_primitives");
        explored && named && !line.trim_start().starts_with("//")
    };
    lines(sources, is_unseen, "take it from sync_primitives, so that interleavings see it")
}

fn lines(sources: &[Source], is_fault: impl Fn(&Source, &str) -> bool, what: &str) -> Vec<String> {
    let mut found = Vec::new();
    for source in sources {
        let faulty = source.text.lines().enumerate().filter(|(_, line)| is_fault(source, line));
        found.extend(faulty.map(|(index, _)| at(&source.file, index, what)));
    }
    found
}

fn long_functions(sources: &[Source]) -> Vec<String> {
    let mut found = Vec::new();
    for source in sources {
        let lines: Vec<&str> = source.text.lines().collect();
        for (index, line) in lines.iter().enumerate().filter(|(_, line)| begins_function(line)) {
            let indentation: String = line.chars().take_while(|c| *c == ' ').collect();
            let end = format!("{indentation}}}");
            let rest = || lines.iter().skip(index);
            let length = rest().position(|line| *line == end).map_or(0, |length| length + 1);
            // A method without a body ends before the next brace.
            let has_body = rest().take(length).find(|line| line.ends_with('{') || line.ends_with(';'));
            if length > MAX_FUNCTION && has_body.is_some_and(|line| line.ends_with('{')) {
                let what = format!("a function of {length} lines; {MAX_FUNCTION} is the most");
                found.push(at(&source.file, index, &what));
            }
        }
    }
    found
}

fn begins_function(line: &str) -> bool {
    let mut words = line.split_whitespace();
    let mut before = words.by_ref().take_while(|word| *word != "fn");
    let only_qualifiers = before.all(|word| word.starts_with("pub") || ["async", "const"].contains(&word));
    only_qualifiers && line.split_whitespace().any(|word| word == "fn")
}
