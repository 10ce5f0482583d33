//! Stores that are opened outside a tokio runtime: an error that says what to do, or a store, never a panic.

use futures_util::FutureExt as _;
use tiered::{Create, ErrorKind, SCHEMES, Stack};

/// A URL of each scheme that would open, and whether the scheme is compiled in. A new one needs a line here.
fn url(scheme: &str, folder: &std::path::Path) -> Option<(String, bool)> {
    let file = |scheme: &str| format!("{scheme}:{}", folder.join(scheme).display());
    Some(match scheme {
        "memory" => ("memory:".to_owned(), true),
        "moka" => ("moka:".to_owned(), cfg!(feature = "moka")),
        "quick" => ("quick:".to_owned(), cfg!(feature = "quick")),
        "redb" => (file(scheme), cfg!(feature = "redb")),
        "rocksdb" => (file(scheme), cfg!(feature = "rocksdb")),
        "postgres" => ("postgres://user@localhost/database".to_owned(), cfg!(feature = "postgres")),
        "s3" => ("s3://bucket/prefix?region=us-east-1".to_owned(), cfg!(feature = "s3")),
        "object" => {
            let folder = folder.join("object");
            (format!("object:file://{}", folder.display()), cfg!(feature = "object-store"))
        }
        _ => return None,
    })
}

/// What an opening that needs a runtime says.
fn says_what_to_do(error: &tiered::Error, what: &str) {
    assert_eq!(error.kind(), ErrorKind::Config, "{what}: {}", error.chain());
    assert!(error.chain().contains("tokio runtime"), "{what}: {}", error.chain());
}

#[test]
fn opening_a_store_without_a_runtime_says_so() {
    let folder = tempfile::tempdir().expect("a folder");
    let in_memory = ["memory", "moka", "quick"];
    for (scheme, ..) in SCHEMES {
        let (url, is_compiled_in) = url(scheme, folder.path()).expect(scheme);
        for create in [Create::IfAbsent, Create::Never] {
            let opened = tiered::open(&url, create).now_or_never().expect("does not wait for anything");
            match opened {
                Ok(_) => assert!(in_memory.contains(scheme), "{scheme} has I/O"),
                Err(error) if is_compiled_in => says_what_to_do(&error, scheme),
                Err(error) => assert!(error.chain().contains("needs the feature"), "{}", error.chain()),
            }
        }
        let opened = tiered::open_to_read(&url).now_or_never().expect("does not wait for anything");
        if is_compiled_in && !in_memory.contains(scheme) {
            says_what_to_do(&opened.map(drop).expect_err(scheme), scheme);
        }
    }
    assert_eq!(std::fs::read_dir(folder.path()).expect("reads").count(), 0, "nothing was made");
}

#[test]
fn building_a_stack_without_a_runtime_says_so() {
    let folder = tempfile::tempdir().expect("a folder");
    let stacks = [
        ("[frontend]\nurl='memory:'\n[backend]\nurl='memory:'".to_owned(), "tiers"),
        (
            format!(
                "journal='{}'\n[policy]\nwrite-policy='write-behind'\n[frontend]\nurl='memory:'\n[backend]\nurl='memory:'",
                folder.path().join("journal").display()
            ),
            "a journal",
        ),
    ];
    for (toml, what) in stacks {
        let stack = Stack::from_toml(&toml).expect("reads");
        for opened in [
            stack.open(Create::IfAbsent).now_or_never(),
            stack.open_to_read().now_or_never(),
            stack
                .open_tiered(Create::IfAbsent)
                .now_or_never()
                .map(|opened| opened.map(|store| std::sync::Arc::new(store) as _)),
        ] {
            let opened: tiered::Result<std::sync::Arc<dyn tiered::Store>> =
                opened.expect("does not wait for anything");
            says_what_to_do(&opened.map(drop).expect_err(what), what);
        }
    }
}
