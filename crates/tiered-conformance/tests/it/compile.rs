//! What the compiler says to a wrong use of the macro: one error, which names what is wrong.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::SystemTime;

/// The newest build of a library beside this test.
fn library(folder: &Path, name: &str) -> PathBuf {
    let begins = format!("lib{name}-");
    let newest = std::fs::read_dir(folder)
        .expect("the folder of this test")
        .filter_map(Result::ok)
        .map(|file| file.path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "rlib"))
        .filter(|path| path.file_name().is_some_and(|file| file.to_string_lossy().starts_with(&begins)))
        .max_by_key(|path| {
            path.metadata().and_then(|data| data.modified()).unwrap_or(SystemTime::UNIX_EPOCH)
        });
    newest.expect("the library was built before its test")
}

/// The compiler's errors for a module that consists of `source`.
fn errors(source: &str) -> Vec<String> {
    let test = std::env::current_exe().expect("this test is a file");
    let deps = test.parent().expect("it is in a folder");
    let file = deps.join(format!("conformance-wrong-{}.rs", source.len()));
    std::fs::write(&file, source).expect("written");
    let mut rustc = Command::new(std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()));
    rustc.arg(&file).args([
        "--edition=2024",
        "--test",
        "--emit=metadata",
        "--error-format=short",
        "--out-dir",
    ]);
    rustc.arg(deps).arg("-L").arg(format!("dependency={}", deps.display()));
    for name in ["tiered_conformance", "tiered_core"] {
        rustc.arg("--extern").arg(format!("{name}={}", library(deps, name).display()));
    }
    let output = rustc.output().expect("the compiler runs");
    std::fs::remove_file(&file).expect("removed");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    said.lines().filter(|line| line.contains("error[")).map(str::to_owned).collect()
}

#[test]
fn a_wrong_factory_is_one_error() {
    let wrong = [
        // No store, but the result of opening one.
        ("tiered_conformance::suite!(|| async { Ok::<_, ()>(tiered_core::MemoryStore::new()) });", "Store"),
        ("tiered_conformance::suite!(tiered_core::MemoryStore::new());", "gives no store to test"),
        ("tiered_conformance::suite!(|| async { missing() });", "missing"),
        // A case that does not exist cannot be pinned.
        (
            "tiered_conformance::suite!(|| async { tiered_core::MemoryStore::new() }, skips: [no_case = \"\"]);",
            "there is no case to skip of the name no_case",
        ),
    ];
    for (source, named) in wrong {
        let errors = errors(source);
        let told = matches!(errors.as_slice(), [error] if error.contains(named));
        assert!(told, "{source}\n{} errors: {errors:#?}", errors.len());
    }
    let right = errors("tiered_conformance::suite!(|| async { tiered_core::MemoryStore::new() });");
    assert!(right.is_empty(), "{right:#?}");
}
