//! The public face: it is the listed one, what may grow is open, and users find an example for everything.

use std::collections::BTreeSet;
use std::fs;

use syn::{Attribute, Expr, ExprLit, Fields, ImplItem, Item, Lit, Meta, TraitItem, Visibility};

use crate::face::{self, Crate, Offer, Public};
use crate::stage::root;

/// The published libraries.
const CRATES: [&str; 16] = [
    "tiered",
    "tiered-cli",
    "tiered-conformance",
    "tiered-core",
    "tiered-embedded",
    "tiered-journal",
    "tiered-memory",
    "tiered-moka",
    "tiered-object-store",
    "tiered-postgres",
    "tiered-quick",
    "tiered-redb",
    "tiered-rocksdb",
    "tiered-s3",
    "tiered-values",
    "tiered-wrap",
];

/// Where the lists are, one for each crate.
const LISTS: &str = "docs/public-api";

/// The crates whose users are not authors of adapters, and the modules of theirs that are for those alone.
const USED: [&str; 4] = ["tiered", "tiered-core", "tiered-values", "tiered-wrap"];
const FOR_AUTHORS: [&str; 2] = ["adapter", "testing"];

/// Enums that never grow, since each of their users must handle every variant: a store that ignored one would break the
/// contract.
const CONTRACT: [&str; 9] = [
    "Action",
    "Applied",
    "Atomicity",
    "Create",
    "Expiry",
    "Lookup",
    "Origin",
    "Precondition",
    "WriteDurability",
];

/// Enums that are complete.
const COMPLETE: [&str; 9] =
    ["Before", "DryRun", "Existed", "Outcome", "Present", "Races", "Sharing", "Tombstones", "Unflushed"];

pub(super) fn check(faults: &mut Vec<String>) -> Result<(), String> {
    for name in CRATES {
        let read = Crate::read(name, &root().join("crates").join(name))?;
        compare(name, &face::list(&read), faults)?;
        if USED.contains(&name) {
            let public = face::public(&read);
            faults.extend(public.iter().filter(|public| is_closed(public)).map(|public| {
                format!("{}: may grow, and is not #[non_exhaustive]; see xtask/src/tidy/face.rs", public.path)
            }));
            let (count, without) = without_example(&read, &public);
            println!("{name}: {count} public items that users name, {} without an example", without.len());
            faults.extend(without.iter().map(|path| {
                format!("{path}: no example; write one, or call it in the example of its type or block")
            }));
        }
    }
    Ok(())
}

/// Compares the list with the committed one, or writes it where `TIERED_BLESS` is set.
fn compare(name: &str, found: &[String], faults: &mut Vec<String>) -> Result<(), String> {
    let list = root().join(LISTS).join(format!("{name}.txt"));
    if std::env::var_os("TIERED_BLESS").is_some() {
        return fs::write(&list, found.join("\n") + "\n")
            .map_err(|error| format!("{}: {error}", list.display()));
    }
    let listed = fs::read_to_string(&list).unwrap_or_default();
    let listed: BTreeSet<&str> = listed.lines().collect();
    let found: BTreeSet<&str> = found.iter().map(String::as_str).collect();
    let new = found.difference(&listed).map(|line| format!("+ {line}"));
    let gone = listed.difference(&found).map(|line| format!("- {line}"));
    let changed: Vec<String> = new.chain(gone).collect();
    if !changed.is_empty() {
        faults.push(format!(
            "{LISTS}/{name}.txt: the public face has changed; if that is meant, run TIERED_BLESS=1 cargo xtask tidy and look at the difference\n{}",
            changed.join("\n")
        ));
    }
    Ok(())
}

/// Whether an item can grow, and breaks its users where it does.
fn is_closed(public: &Public<'_>) -> bool {
    let Offer::Item(item) = &public.offer else { return false };
    let is_open =
        |attributes: &[Attribute]| attributes.iter().any(|one| one.path().is_ident("non_exhaustive"));
    let name = public.place.name.as_str();
    match item {
        Item::Enum(item) => !is_open(&item.attrs) && !CONTRACT.contains(&name) && !COMPLETE.contains(&name),
        Item::Struct(item) => {
            let public = |field: &syn::Field| matches!(field.vis, Visibility::Public(_));
            let named = matches!(item.fields, Fields::Named(_));
            named && item.fields.iter().all(public) && !item.fields.is_empty() && !is_open(&item.attrs)
        }
        _ => false,
    }
}

/// How many items users name, and those of them without an example.
fn without_example(of: &Crate, public: &[Public<'_>]) -> (usize, Vec<String>) {
    let for_authors = |path: &str| path.split("::").skip(1).any(|part| FOR_AUTHORS.contains(&part));
    let (mut count, mut without) = (0, Vec::new());
    for public in public.iter().filter(|public| !for_authors(&public.path)) {
        let Offer::Item(item) = &public.offer else { continue };
        let own = examples(face::attributes(item));
        let is_plain = matches!(item, Item::Const(_) | Item::Static(_) | Item::Type(_));
        if !is_plain {
            count += 1;
            if own.is_empty() {
                without.push(public.path.clone());
            }
        }
        let mut look = |name: &str, attributes: &[Attribute], around: &str| {
            count += 1;
            if examples(attributes).is_empty() && !calls(around, name) {
                without.push(format!("{}::{name}", public.path));
            }
        };
        if let Item::Trait(item) = item {
            for inner in &item.items {
                if let TraitItem::Fn(method) = inner {
                    look(&method.sig.ident.to_string(), &method.attrs, &own);
                }
            }
            continue;
        }
        for block in of.implementations(&public.place) {
            if block.trait_.is_some() {
                continue;
            }
            let around = format!("{own}\n{}", examples(&block.attrs));
            for inner in &block.items {
                if let ImplItem::Fn(method) = inner
                    && matches!(method.vis, Visibility::Public(_))
                {
                    look(&method.sig.ident.to_string(), &method.attrs, &around);
                }
            }
        }
    }
    (count, without)
}

/// The programs in a documentation.
fn examples(attributes: &[Attribute]) -> String {
    let mut inside = false;
    let mut programs = String::new();
    for line in attributes
        .iter()
        .filter_map(documentation)
        .flat_map(|text| text.lines().map(str::to_owned).collect::<Vec<_>>())
    {
        let line = line.trim();
        if let Some(language) = line.strip_prefix("```") {
            inside = !inside && language.is_empty();
        } else if inside {
            programs.push_str(line);
            programs.push('\n');
        }
    }
    programs
}

fn documentation(attribute: &Attribute) -> Option<String> {
    let Meta::NameValue(named) = &attribute.meta else { return None };
    if !named.path.is_ident("doc") {
        return None;
    }
    match &named.value {
        Expr::Lit(ExprLit { lit: Lit::Str(text), .. }) => Some(text.value()),
        _ => None,
    }
}

/// Whether a program calls a function of this name.
fn calls(program: &str, name: &str) -> bool {
    [".", "::"].iter().any(|before| {
        let call = format!("{before}{name}");
        program.match_indices(&call).any(|(at, _)| {
            let after = program[at + call.len()..].chars().next();
            !after.is_some_and(|next| next.is_alphanumeric() || next == '_')
        })
    })
}
