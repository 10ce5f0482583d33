//! What the compiler says to a wrong use of the macro: one error, which names what is wrong.

use std::path::PathBuf;
use std::process::Command;
use std::time::SystemTime;

/// A right use: it compiles, with libraries that belong together.
const RIGHT: &str = "tiered_conformance::suite!(|| async { tiered_core::MemoryStore::new() });";

/// The builds of a library beside this test, the newest first.
fn builds(name: &str) -> Vec<PathBuf> {
    let begins = format!("lib{name}-");
    let mut builds: Vec<PathBuf> = std::fs::read_dir(folder())
        .expect("the folder of this test")
        .filter_map(Result::ok)
        .map(|file| file.path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "rlib"))
        .filter(|path| path.file_name().is_some_and(|file| file.to_string_lossy().starts_with(&begins)))
        .collect();
    builds.sort_by_key(|path| {
        path.metadata().and_then(|data| data.modified()).unwrap_or(SystemTime::UNIX_EPOCH)
    });
    builds.reverse();
    builds
}

fn folder() -> PathBuf {
    let test = std::env::current_exe().expect("this test is a file");
    test.parent().expect("it is in a folder").to_owned()
}

/// A build of the suite and the build of the core that it was made with. Other builds lie beside them, of other features
/// and of examples.
struct Libraries {
    suite: PathBuf,
    core: PathBuf,
}

impl Libraries {
    fn find() -> Self {
        let cores = builds("tiered_core");
        let pairs = builds("tiered_conformance").into_iter().flat_map(|suite| {
            cores.iter().map(move |core| Self { suite: suite.clone(), core: core.clone() })
        });
        let matching = pairs.into_iter().find(|libraries| libraries.errors(RIGHT).is_empty());
        matching.expect("the right use compiles with some builds of the libraries")
    }

    /// The compiler's errors for a module that consists of `source`.
    fn errors(&self, source: &str) -> Vec<String> {
        let deps = folder();
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
        rustc.arg(&deps).arg("-L").arg(format!("dependency={}", deps.display()));
        for (name, library) in [("tiered_conformance", &self.suite), ("tiered_core", &self.core)] {
            rustc.arg("--extern").arg(format!("{name}={}", library.display()));
        }
        let output = rustc.output().expect("the compiler runs");
        std::fs::remove_file(&file).expect("removed");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        said.lines().filter(|line| line.contains("error")).map(str::to_owned).collect()
    }
}

#[test]
fn a_factory_of_the_wrong_type_is_one_compiler_error() {
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
    let libraries = Libraries::find();
    for (source, named) in wrong {
        let errors: Vec<String> =
            libraries.errors(source).into_iter().filter(|line| line.contains("error[")).collect();
        let told = matches!(errors.as_slice(), [error] if error.contains(named));
        assert!(told, "{source}\n{} errors: {errors:#?}", errors.len());
    }
}
