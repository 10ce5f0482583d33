//! The public face of the crates: what their sources offer, item by item.
//!
//! It is read from the sources, so that it needs no nightly compiler.

mod describe;
mod source;

use std::collections::BTreeSet;

use syn::{Item, Visibility};

pub(crate) use source::{Crate, Place, attributes};

/// A public item under the path by which users name it.
pub(crate) struct Public<'c> {
    /// As in `tiered_core::sync::FullSync`.
    pub(crate) path: String,
    /// Where it is defined.
    pub(crate) place: Place,
    /// What is offered.
    pub(crate) offer: Offer<'c>,
}

/// What stands behind a public path.
pub(crate) enum Offer<'c> {
    Item(&'c Item),
    /// Of another crate.
    Foreign(String),
}

/// All public items of a crate, by the modules that can be reached.
pub(crate) fn public(of: &Crate) -> Vec<Public<'_>> {
    let mut found = Vec::new();
    walk(of, &[], &of.name, &mut found);
    found.sort_by(|one, other| one.path.cmp(&other.path));
    found
}

fn walk<'c>(of: &'c Crate, module: &[String], path: &str, found: &mut Vec<Public<'c>>) {
    for item in of.items(module) {
        let Some(visibility) = visibility(item) else { continue };
        if !matches!(visibility, Visibility::Public(_)) {
            continue;
        }
        match item {
            Item::Mod(inner) => {
                let mut inside = module.to_vec();
                inside.push(inner.ident.to_string());
                walk(of, &inside, &format!("{path}::{}", inner.ident), found);
            }
            Item::Use(used) => {
                for (target, name) in source::leaves(&used.tree) {
                    let path = format!("{path}::{name}");
                    let (place, offer) = match of.resolve(module, &target, &mut BTreeSet::new()) {
                        Some((place, item)) => (place, Offer::Item(item)),
                        None => (Place::default(), Offer::Foreign(target.join("::"))),
                    };
                    found.push(Public { path, place, offer });
                }
            }
            item => {
                let Some(name) = source::name(item) else { continue };
                let place = Place { module: module.to_vec(), name: name.clone() };
                found.push(Public { path: format!("{path}::{name}"), place, offer: Offer::Item(item) });
            }
        }
    }
}

fn visibility(item: &Item) -> Option<&Visibility> {
    Some(match item {
        Item::Const(item) => &item.vis,
        Item::Enum(item) => &item.vis,
        Item::Fn(item) => &item.vis,
        Item::Mod(item) => &item.vis,
        Item::Static(item) => &item.vis,
        Item::Struct(item) => &item.vis,
        Item::Trait(item) => &item.vis,
        Item::Type(item) => &item.vis,
        Item::Union(item) => &item.vis,
        Item::Use(item) => &item.vis,
        _ => return None,
    })
}

/// The lines of the list: one for each item, field, variant, method and implementation.
pub(crate) fn list(of: &Crate) -> Vec<String> {
    let mut lines = BTreeSet::new();
    for public in public(of) {
        match &public.offer {
            Offer::Foreign(target) => {
                lines.insert(format!("{}: use {target}", public.path));
            }
            Offer::Item(item) => {
                lines.extend(describe::item(&public.path, item));
                for block in of.implementations(&public.place) {
                    lines.extend(describe::implementation(&public.path, block));
                }
            }
        }
    }
    for exported in of.exported_macros() {
        lines.insert(format!("{}::{exported}: macro", of.name));
    }
    lines.into_iter().collect()
}
