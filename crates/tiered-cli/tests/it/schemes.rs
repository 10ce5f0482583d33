//! Stores of the program, and wrappers, by URL.

use std::ffi::OsString;
use std::fs;

use tiered::adapter::url::StoreUrl;
use tiered::{Create, Schemes};
use tiered_redb::RedbConfig;

use crate::place::Place;

#[test]
fn the_command_opens_stores_of_the_programs_own_scheme() {
    let place = Place::new();
    let value = place.path("value");
    fs::write(&value, "Ada").expect("written");
    let file = place.path("mine.redb");
    let schemes = Schemes::standard().with("mine", move |url: StoreUrl, create: Create| {
        let config = RedbConfig::new(&file).create(create);
        async move {
            url.finish(&[])?;
            config.open().await
        }
    });
    let run = |arguments: &[&str]| {
        let all = ["tiered"].iter().chain(arguments);
        tiered_cli::run_with(&schemes, all.map(OsString::from))
    };
    let value = value.to_str().expect("utf-8");
    assert_eq!(run(&["--store", "mine:", "put", "users/42", value]), 0);
    assert_eq!(run(&["--frontend", "moka:", "--backend", "mine:", "get", "users/42"]), 0);
    assert_eq!(run(&["--store", "prefix+mine:?prefix=users/", "head", "42"]), 0);
    assert_eq!(run(&["--store", "mine:?size=1", "head", "users/42"]), 2);
    assert_eq!(run(&["--store", "yours:", "head", "users/42"]), 2);
    let stored = place.run(&["--store", &place.url("mine.redb"), "get", "users/42"]).ends(0);
    assert_eq!(stored.0.stdout, b"Ada");
}

#[allow(dead_code, reason = "its main function is the example's")]
#[path = "../../examples/own_scheme.rs"]
mod own_scheme;

#[test]
fn the_example_of_an_own_scheme_is_a_whole_command() {
    let schemes = own_scheme::schemes();
    let run = |arguments: &[&str]| {
        let all = ["tiered"].iter().chain(arguments);
        tiered_cli::run_with(&schemes, all.map(OsString::from))
    };
    assert_eq!(run(&["conformance", "small:"]), 0);
    assert_eq!(run(&["--frontend", "small:?max_value=4KiB", "--backend", "memory:", "get", "k"]), 1);
    assert_eq!(run(&["--store", "small:?capacity=1", "get", "k"]), 2, "an unknown parameter");
}

#[test]
fn a_prefix_in_a_url_is_a_store_of_its_own() {
    let place = Place::new();
    let all = place.url("d.redb");
    let users = format!("prefix+{all}?prefix=users/");
    place.put(&users, "42", b"Ada");
    assert_eq!(place.run(&["--store", &all, "get", "users/42"]).ends(0).0.stdout, b"Ada");
    let view = format!("read-only+{all}");
    assert_eq!(place.run(&["--store", &view, "get", "users/42"]).ends(0).0.stdout, b"Ada");
    place.run(&["--store", &view, "delete", "users/42"]).ends(4);
}
