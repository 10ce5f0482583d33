//! A crate as its sources have it: modules, items, and where a name leads.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use quote::ToTokens as _;
use syn::{Attribute, Expr, ExprLit, Item, ItemImpl, Lit, Meta, MetaNameValue, Type, UseTree};

/// Where an item is defined.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Place {
    /// The modules below the crate.
    pub(crate) module: Vec<String>,
    pub(crate) name: String,
}

/// The sources of a crate.
pub(crate) struct Crate {
    /// As it is named in paths.
    pub(crate) name: String,
    modules: BTreeMap<Vec<String>, Vec<Item>>,
}

impl Crate {
    /// Reads the library in `folder`.
    pub(crate) fn read(name: &str, folder: &Path) -> Result<Self, String> {
        let mut read = Self { name: name.replace('-', "_"), modules: BTreeMap::new() };
        let file = folder.join("src/lib.rs");
        let text = fs::read_to_string(&file).map_err(|error| format!("{}: {error}", file.display()))?;
        let parsed = syn::parse_file(&text).map_err(|error| format!("{}: {error}", file.display()))?;
        read.add(Vec::new(), parsed.items, &folder.join("src"))?;
        Ok(read)
    }

    fn add(&mut self, module: Vec<String>, items: Vec<Item>, folder: &Path) -> Result<(), String> {
        let mut items: Vec<Item> = items.into_iter().filter(|item| !is_for_tests(attributes(item))).collect();
        for item in &mut items {
            let Item::Mod(inner) = item else { continue };
            let name = inner.ident.to_string();
            let mut path = module.clone();
            path.push(name.clone());
            let inside = folder.join(&name);
            if let Some(named) = named_file(&inner.attrs) {
                // Of a file beside `lib.rs`, whose modules are in a folder of its name. It is as a `mod.rs`.
                let file =
                    if module.is_empty() { folder } else { folder.parent().unwrap_or(folder) }.join(named);
                let content = parsed(std::slice::from_ref(&file))?;
                self.add(path, content, file.parent().unwrap_or(folder))?;
                continue;
            }
            let content = match inner.content.take() {
                Some((_, items)) => items,
                None => parsed(&[folder.join(format!("{name}.rs")), inside.join("mod.rs")])?,
            };
            self.add(path, content, &inside)?;
        }
        self.modules.insert(module, items);
        Ok(())
    }

    /// The items of a module.
    pub(crate) fn items(&self, module: &[String]) -> impl Iterator<Item = &Item> {
        self.modules.get(module).into_iter().flatten()
    }

    /// The definition that a path in a module leads to; `None` where it is another crate's.
    pub(crate) fn resolve(
        &self,
        module: &[String],
        path: &[String],
        seen: &mut BTreeSet<(Vec<String>, Vec<String>)>,
    ) -> Option<(Place, &Item)> {
        if !seen.insert((module.to_vec(), path.to_vec())) {
            return None;
        }
        let (first, rest) = path.split_first()?;
        match first.as_str() {
            "crate" => return self.resolve(&[], rest, seen),
            "self" => return self.resolve(module, rest, seen),
            "super" => return self.resolve(module.split_last()?.1, rest, seen),
            _ => {}
        }
        let mut inside = module.to_vec();
        inside.push(first.clone());
        if !rest.is_empty() && self.modules.contains_key(&inside) {
            return self.resolve(&inside, rest, seen);
        }
        if rest.is_empty()
            && let Some(item) = self.items(module).find(|item| name(item).as_ref() == Some(first))
        {
            return Some((Place { module: module.to_vec(), name: first.clone() }, item));
        }
        let uses = self.items(module).filter_map(|item| match item {
            Item::Use(used) => Some(leaves(&used.tree)),
            _ => None,
        });
        let (target, _) = uses.flatten().find(|(_, name)| name == first)?;
        if target.first() == Some(first) {
            // As in `use bytes::bytes`: a crate.
            return None;
        }
        let target: Vec<String> = target.iter().chain(rest).cloned().collect();
        self.resolve(module, &target, seen)
    }

    /// The blocks that implement something for the item at `place`, or implement it where it is a trait.
    pub(crate) fn implementations(&self, place: &Place) -> Vec<&ItemImpl> {
        let mut found = Vec::new();
        for (module, items) in &self.modules {
            for item in items {
                let Item::Impl(block) = item else { continue };
                let of = |path: &syn::Path| {
                    let path: Vec<String> = path.segments.iter().map(|part| part.ident.to_string()).collect();
                    self.resolve(module, &path, &mut BTreeSet::new())
                        .is_some_and(|(found, _)| found == *place)
                };
                let is_type = matches!(&*block.self_ty, Type::Path(own) if of(&own.path));
                let is_trait = block.trait_.as_ref().is_some_and(|(path, _)| of(path));
                if is_type || is_trait {
                    found.push(block);
                }
            }
        }
        found
    }

    /// Macros that users of the crate see.
    pub(crate) fn exported_macros(&self) -> Vec<String> {
        let exported = self.modules.values().flatten().filter_map(|item| match item {
            Item::Macro(item) if item.attrs.iter().any(|one| one.path().is_ident("macro_export")) => {
                item.ident.as_ref().map(ToString::to_string)
            }
            _ => None,
        });
        exported.collect()
    }
}

fn parsed(files: &[PathBuf]) -> Result<Vec<Item>, String> {
    for file in files {
        if let Ok(text) = fs::read_to_string(file) {
            let parsed = syn::parse_file(&text).map_err(|error| format!("{}: {error}", file.display()))?;
            return Ok(parsed.items);
        }
    }
    Err(format!("no file of the module {files:?}"))
}

/// The file that `#[path = "…"]` names.
fn named_file(attributes: &[Attribute]) -> Option<String> {
    let path = attributes.iter().find(|attribute| attribute.path().is_ident("path"))?;
    let Meta::NameValue(MetaNameValue { value: Expr::Lit(ExprLit { lit: Lit::Str(text), .. }), .. }) =
        &path.meta
    else {
        return None;
    };
    Some(text.value())
}

fn is_for_tests(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        let text = attribute.to_token_stream().to_string();
        let condition = text.starts_with("# [cfg (") || text.starts_with("# [cfg(");
        let word = |word: &str| text.split(|c: char| !c.is_alphanumeric()).any(|found| found == word);
        condition && (word("test") || word("doctest")) && !text.contains("\"test-util\"")
    })
}

pub(crate) fn attributes(item: &Item) -> &[Attribute] {
    match item {
        Item::Const(item) => &item.attrs,
        Item::Enum(item) => &item.attrs,
        Item::Fn(item) => &item.attrs,
        Item::Impl(item) => &item.attrs,
        Item::Macro(item) => &item.attrs,
        Item::Mod(item) => &item.attrs,
        Item::Static(item) => &item.attrs,
        Item::Struct(item) => &item.attrs,
        Item::Trait(item) => &item.attrs,
        Item::Type(item) => &item.attrs,
        Item::Union(item) => &item.attrs,
        Item::Use(item) => &item.attrs,
        _ => &[],
    }
}

/// The name that an item defines.
pub(crate) fn name(item: &Item) -> Option<String> {
    Some(match item {
        Item::Const(item) => item.ident.to_string(),
        Item::Enum(item) => item.ident.to_string(),
        Item::Fn(item) => item.sig.ident.to_string(),
        Item::Static(item) => item.ident.to_string(),
        Item::Struct(item) => item.ident.to_string(),
        Item::Trait(item) => item.ident.to_string(),
        Item::Type(item) => item.ident.to_string(),
        Item::Union(item) => item.ident.to_string(),
        _ => return None,
    })
}

/// What a `use` names: each path, and the name that it is known by.
pub(crate) fn leaves(tree: &UseTree) -> Vec<(Vec<String>, String)> {
    match tree {
        UseTree::Path(path) => {
            let first = path.ident.to_string();
            let with = |(rest, name): (Vec<String>, String)| {
                let is_self = rest.len() == 1 && rest.first().is_some_and(|part| part == "self");
                if is_self {
                    let name = if name == "self" { first.clone() } else { name };
                    return (vec![first.clone()], name);
                }
                (std::iter::once(first.clone()).chain(rest).collect(), name)
            };
            leaves(&path.tree).into_iter().map(with).collect()
        }
        UseTree::Name(name) => vec![(vec![name.ident.to_string()], name.ident.to_string())],
        UseTree::Rename(renamed) => vec![(vec![renamed.ident.to_string()], renamed.rename.to_string())],
        UseTree::Glob(_) => Vec::new(),
        UseTree::Group(group) => group.items.iter().flat_map(leaves).collect(),
    }
}
