//! An item of the public face as lines of text.

use quote::ToTokens;
use syn::{
    Attribute, Fields, FnArg, ImplItem, Item, ItemImpl, ReceiverKind, Signature, TraitItem, Visibility,
};

/// A piece of source on one line, without superfluous spaces.
fn text(tokens: &impl ToTokens) -> String {
    let text = tokens.to_token_stream().to_string().replace("->", "\u{1}").replace("=>", "\u{2}");
    let words: Vec<&str> = text.split_whitespace().collect();
    let mut text = words.join(" ");
    for (from, to) in [
        (" :: ", "::"),
        (":: ", "::"),
        (" ::", "::"),
        (" < ", "<"),
        ("< ", "<"),
        (" <", "<"),
        (" >", ">"),
        ("> (", ">("),
        (" ,", ","),
        (" ;", ";"),
        (" : ", ": "),
        ("& ", "&"),
        ("( ", "("),
        (" )", ")"),
        (" (", "("),
        ("=(", "= ("),
        ("[ ", "["),
        (" ]", "]"),
        ("? ", "?"),
        ("' ", "'"),
        (",>", ">"),
        (",)", ")"),
        ("<>", ""),
        ("impl<", "impl <"),
    ] {
        text = text.replace(from, to);
    }
    text.replace('\u{1}', "->").replace('\u{2}', "=>").replace(")->", ") ->").replace(",\u{20}>", ">")
}

fn is_non_exhaustive(attributes: &[Attribute]) -> &'static str {
    if attributes.iter().any(|one| one.path().is_ident("non_exhaustive")) { "#[non_exhaustive] " } else { "" }
}

fn derived(path: &str, attributes: &[Attribute]) -> Vec<String> {
    let derives = attributes.iter().filter(|one| one.path().is_ident("derive"));
    let lists = derives.filter_map(|one| one.meta.require_list().ok()).map(|list| list.tokens.to_string());
    let names: Vec<String> = lists
        .flat_map(|list| list.split(',').map(|name| name.trim().replace(' ', "")).collect::<Vec<_>>())
        .filter(|name| !name.is_empty())
        .collect();
    names.into_iter().map(|name| format!("{path}: impl {name}")).collect()
}

/// The lines of an item, without what is implemented for it.
pub(super) fn item(path: &str, item: &Item) -> Vec<String> {
    match item {
        Item::Struct(item) => {
            let open = is_non_exhaustive(&item.attrs);
            let generics = text(&item.generics);
            let mut lines = vec![format!("{path}: {open}struct{generics}")];
            lines.extend(derived(path, &item.attrs));
            lines.extend(fields(path, &item.fields, false));
            lines
        }
        Item::Enum(item) => {
            let open = is_non_exhaustive(&item.attrs);
            let generics = text(&item.generics);
            let mut lines = vec![format!("{path}: {open}enum{generics}")];
            lines.extend(derived(path, &item.attrs));
            for variant in &item.variants {
                let own = format!("{path}::{}", variant.ident);
                lines.push(format!("{own}: variant"));
                lines.extend(fields(&own, &variant.fields, true));
            }
            lines
        }
        Item::Trait(item) => {
            let above = text(&item.supertraits);
            let generics = text(&item.generics);
            let mut lines = vec![format!("{path}: trait{generics}: {above}")];
            for inner in &item.items {
                match inner {
                    TraitItem::Fn(method) => {
                        let provided = if method.default.is_some() { " (provided)" } else { "" };
                        lines.push(format!("{}{provided}", function(path, &method.sig)));
                    }
                    TraitItem::Type(inner) => lines.push(format!("{path}::{}: type", inner.ident)),
                    TraitItem::Const(inner) => {
                        lines.push(format!("{path}::{}: const {}", inner.ident, text(&inner.ty)));
                    }
                    _ => {}
                }
            }
            lines
        }
        Item::Fn(item) => vec![signature(path, &item.sig)],
        Item::Const(item) => vec![format!("{path}: const {}", text(&item.ty))],
        Item::Static(item) => vec![format!("{path}: static {}", text(&item.ty))],
        Item::Type(item) => vec![format!("{path}: type{} = {}", text(&item.generics), text(&item.ty))],
        _ => vec![format!("{path}: item")],
    }
}

fn fields(path: &str, fields: &Fields, all: bool) -> Vec<String> {
    let is_open = |visibility: &Visibility| all || matches!(visibility, Visibility::Public(_));
    let shown = fields.iter().enumerate().filter(|(_, field)| is_open(&field.vis));
    shown
        .map(|(index, field)| {
            let name = field.ident.as_ref().map_or_else(|| index.to_string(), ToString::to_string);
            format!("{path}.{name}: {}", text(&field.ty))
        })
        .collect()
}

fn function(path: &str, method: &Signature) -> String {
    signature(&format!("{path}::{}", method.ident), method)
}

fn signature(path: &str, of: &Signature) -> String {
    let unstable = of.asyncness.as_ref().map_or("", |_| "async ");
    let constant = of.constness.as_ref().map_or("", |_| "const ");
    let inputs: Vec<String> = of
        .inputs
        .iter()
        .map(|input| match input {
            FnArg::Typed(typed) => {
                format!("{}: {}", text(&typed.pat).trim_start_matches("mut "), text(&typed.ty))
            }
            FnArg::Receiver(receiver) if matches!(receiver.kind, ReceiverKind::Value) => "self".to_owned(),
            FnArg::Receiver(receiver) => text(receiver),
        })
        .collect();
    let generics = text(&of.generics);
    let bounds =
        of.generics.where_clause.as_ref().map_or_else(String::new, |clause| format!(" {}", text(clause)));
    let output = text(&of.output);
    let output = if output.is_empty() { output } else { format!(" {}", output.trim_start()) };
    format!("{path}: {constant}{unstable}fn{generics}({}){output}{bounds}", inputs.join(", "))
}

/// The lines of a block: its public functions, or that a trait is implemented.
pub(super) fn implementation(path: &str, block: &ItemImpl) -> Vec<String> {
    if let Some((of, _)) = &block.trait_ {
        let generics = text(&block.generics);
        let bounds = block
            .generics
            .where_clause
            .as_ref()
            .map_or_else(String::new, |clause| format!(" {}", text(clause)));
        return vec![format!("{path}: impl{generics} {} for {}{bounds}", text(of), text(&block.self_ty))];
    }
    let mut lines = Vec::new();
    for inner in &block.items {
        match inner {
            ImplItem::Fn(method) if matches!(method.vis, Visibility::Public(_)) => {
                lines.push(function(path, &method.sig));
            }
            ImplItem::Const(inner) if matches!(inner.vis, Visibility::Public(_)) => {
                lines.push(format!("{path}::{}: const {}", inner.ident, text(&inner.ty)));
            }
            _ => {}
        }
    }
    lines
}
