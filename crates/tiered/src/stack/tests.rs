//! What a stack reads from TOML, and what it keeps to itself.

use super::*;

#[test]
fn neither_debug_nor_errors_show_secrets() {
    let stack = Stack::store("s3:bucket?secret=hunter2");
    assert!(!format!("{stack:?}").contains("hunter2"));
    let error = Stack::from_toml("[frontend]\nurl = \"s3:bucket?secret=hunter2\" oops").expect_err("no TOML");
    let text = error.chain();
    assert!(!text.contains("hunter2") && !text.contains('\n') && text.contains("line 2"), "{text}");
}

#[test]
fn debug_does_not_show_a_key_that_was_given_in_the_place_of_its_name() {
    for name in ["keys-env", "keys-file"] {
        let toml = format!("[encrypted]\n{name} = \"hunter2\"\n[encrypted.store]\nurl = \"memory:\"");
        let stack = Stack::from_toml(&toml).expect("a stack");
        assert!(!format!("{stack:?}").contains("hunter2"), "{stack:?}");
    }
}

#[test]
fn errors_of_parsing_do_not_show_the_text() {
    assert!(!format!("{:?}", Stack::store("hunter2")).contains("hunter2"), "no URL, and perhaps a password");
    for (toml, hint) in [
        ("frontend = 'postgres://u:hunter2@host/d'", "invalid type: string …, expected struct Stack"),
        ("sole-writer = 'hunter2'", "expected a boolean"),
        ("sole-writer = 'hunter2, expected `x'", "expected a boolean"),
        ("hunter2 = 1", "expected one of `url`"),
        ("'`hunter2' = 1", "expected one of `url`"),
        ("[policy]\nwrite-policy = 'hunter2'", "expected one of `write-through`"),
        ("[policy]\nread-timeout = 'hunter2'", r#"such as "500ms", "60s" or "1h 30m""#),
        ("[policy]\nmax-stale = 'hunter2'", r#"expected "auto", "unlimited", or a duration"#),
        ("[policy]\nmax-fill = 'hunter2'", r#"such as 4096 or "64MiB""#),
        ("uri = 'memory:'", "unknown field `uri`"),
    ] {
        let text = Stack::from_toml(toml).expect_err(toml).chain();
        assert!(!text.contains("hunter2") && text.contains(hint), "{text}");
    }
}

#[tokio::test]
async fn wrong_settings_say_what_to_change() {
    for (toml, hint) in [
        ("", "needs a url"),
        ("url = 'memory:'\n[frontend]\nurl = 'memory:'", "either a url"),
        ("uri = 'memory:'", "unknown field"),
        (
            "[frontend]\nurl='memory:'\n[backend]\nurl='memory:'\n[policy]\nwrite-policy='write-back'",
            "unknown variant",
        ),
        (
            "[frontend]\nurl='memory:'\n[backend]\nurl='memory:'\n[policy]\nwrite-policy='write-behind'",
            "needs a journal",
        ),
    ] {
        let error = match Stack::from_toml(toml) {
            Ok(stack) => stack.open(Create::IfAbsent).await.map(drop).expect_err(toml),
            Err(error) => error,
        };
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(error.to_string().contains(hint), "{error}");
    }
}

#[tokio::test]
async fn a_stack_declares_its_backend_and_journal_by_name() {
    let tiers = "[frontend]\nurl='memory:'\n[backend]\nurl='memory:'\n";
    let text = format!("backend-id = 'orders'\nsole-journal = true\n{tiers}");
    let stack = Stack::from_toml(&text).expect("reads");
    stack.open(Create::IfAbsent).await.expect("opens").close().await.expect("closes");
    for alone in ["backend-id = 'orders'", "sole-journal = true"] {
        let stack = Stack::from_toml(&format!("url = 'memory:'\n{alone}")).expect("reads");
        let error = stack.open(Create::IfAbsent).await.map(drop).expect_err(alone);
        assert!(error.to_string().contains("either a url"), "{error}");
    }
}

#[cfg(all(feature = "moka", feature = "redb", feature = "journal"))]
#[tokio::test]
async fn a_stack_that_was_dropped_or_refused_can_be_reopened_immediately() {
    use tiered_core::{Key, Put};
    let folder = tempfile::tempdir().expect("a folder");
    let place = folder.path().to_str().expect("utf-8");
    let stack = |frontend: &str| {
        let toml = format!(
            "journal='{place}/journal'\n[frontend]\nurl='{frontend}'\n[backend]\nurl='redb:{place}/d.redb'\n[policy]\nwrite-policy='write-behind'"
        );
        Stack::from_toml(&toml).expect("reads")
    };
    for round in 0..5 {
        let opened = stack("moka:").open(Create::IfAbsent).await;
        let store = opened.unwrap_or_else(|error| panic!("{round}: {}", error.chain()));
        store.put(&Key::new("k").expect("valid"), Put::new("v")).await.expect("written");
        drop(store);
        // Its backend and journal are open already when the frontend is refused.
        let refused = stack("moka:?capacity=0").open(Create::IfAbsent).await.map(drop);
        let error = refused.expect_err("no capacity");
        assert_eq!(error.kind(), ErrorKind::Config, "{round}: {}", error.chain());
    }
}

#[cfg(all(feature = "moka", feature = "redb"))]
#[tokio::test]
async fn the_documented_sample_opens() {
    use tiered_core::{Key, Put, StoreExt as _};
    let folder = tempfile::tempdir().expect("a folder");
    let sample = include_str!("../../../../docs/stack.toml");
    let place = folder.path().to_str().expect("utf-8");
    let stack = Stack::from_toml(&sample.replace("redb:", &format!("redb:{place}/"))).expect("reads");
    let store = stack.open(Create::IfAbsent).await.expect("opens");
    let key = Key::new("k").expect("valid");
    store.put(&key, Put::new("v")).await.expect("written");
    assert_eq!(store.get(&key).await.expect("reads").expect("found").value(), "v");
    store.close().await.expect("closes");
}

#[cfg(all(feature = "lz4", feature = "encryption", feature = "moka"))]
#[tokio::test]
async fn wrappers_stand_around_stacks_and_tiers() {
    use tiered_core::StoreExt as _;
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("keys");
    std::fs::write(&file, format!("a = {}", "07".repeat(32))).expect("written");
    let keys = file.to_str().expect("utf-8");
    let toml = format!(
        "[encrypted]\nkeys-file='{keys}'\n[encrypted.store.frontend]\nurl='moka:'\n\
         [encrypted.store.backend.prefix]\nname='users/'\n\
         [encrypted.store.backend.prefix.store.compressed.store]\nurl='memory:'"
    );
    let store = Stack::from_toml(&toml).expect("reads").open(Create::IfAbsent).await.expect("opens");
    store.set("42", "Ada").await.expect("written");
    assert_eq!(store.get("42").await.expect("reads").expect("there").value(), "Ada");
    assert!(store.capabilities().name().starts_with("encrypted"), "{:?}", store.capabilities());
    store.close().await.expect("closes");
    let url = format!("read-only+encrypted+memory:?keys_file={keys}");
    let store = crate::open(&url, Create::IfAbsent).await.expect("opens");
    assert_eq!(store.set("k", "v").await.expect_err("read only").kind(), ErrorKind::PermissionDenied);
    let by_code = Stack::store("memory:").compressed("lz4").encrypted(&file).under_prefix("a/").only_read();
    by_code.open_to_read().await.expect("opens");
}

#[tokio::test]
async fn wrong_wrappers_say_what_to_change() {
    for (toml, hint) in [
        ("[encrypted.store]\nurl='memory:'", "keys-file or keys-env"),
        ("url='memory:'\n[read-only.store]\nurl='memory:'", "one wrapper"),
        (
            "[read-only.store]\nurl='memory:'\n[prefix]\nname='a'\n[prefix.store]\nurl='memory:'",
            "one wrapper",
        ),
        ("sole-writer=true\n[read-only.store]\nurl='memory:'", "one wrapper"),
        ("[compressed]\nmethod='gzip'\n[compressed.store]\nurl='memory:'", "e"),
    ] {
        let stack = Stack::from_toml(toml).expect("reads");
        let error = stack.open(Create::IfAbsent).await.map(drop).expect_err(toml);
        assert!(error.kind() == ErrorKind::Config && error.to_string().contains(hint), "{error}");
    }
}

#[tokio::test]
async fn tiers_have_schemes_of_the_program() {
    use tiered_core::MemoryStore;
    let schemes = Schemes::standard().with("mine", |url: StoreUrl, _: Create| async move {
        url.finish(&[])?;
        Ok(MemoryStore::new())
    });
    let toml = "[frontend]\nurl='mine:a'\n[backend]\nurl='mine:b'";
    let stack = Stack::from_toml(toml).expect("reads");
    stack.open_with(&schemes, Create::IfAbsent).await.expect("opens").close().await.expect("closes");
    stack.open_to_read_with(&schemes).await.expect("opens");
    let error = stack.open(Create::IfAbsent).await.map(drop).expect_err("not in this build");
    assert!(error.to_string().contains("unknown scheme"), "{error}");
    let error = schemes.open("yours:", Create::IfAbsent).await.map(drop).expect_err("unknown");
    assert!(error.to_string().contains("mine:"), "{error}");
}
