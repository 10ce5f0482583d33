//! `settings`: stacks and their policies as text.

use tiered::{Create, ErrorKind, Stack, Store as _, TieredSettings};

use crate::secret;

/// Any text as the TOML of a stack, and as the settings of a tiered store; a `$` in it stands for a secret.
pub fn settings(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let text = &secret::planted(text);
    match Stack::from_toml(text) {
        Ok(stack) => {
            // A folder's path is no secret.
            if !text.contains("journal") {
                assert!(!secret::is_in(&format!("{stack:?}")), "{stack:?}");
            }
            if stays_in_memory(text) {
                opens(&stack);
            }
        }
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::Config);
            secret::assert_showable(&error.chain());
        }
    }
    if let Ok(settings) = toml::from_str::<TieredSettings>(text) {
        written_and_read(&settings);
        let text = toml::to_string(&settings).expect("what TOML said can be said in TOML");
        assert_eq!(toml::from_str::<TieredSettings>(&text).ok().as_ref(), Some(&settings), "{text}");
    }
    if let Ok(settings) = serde_json::from_str::<TieredSettings>(text) {
        written_and_read(&settings);
    }
}

fn written_and_read(settings: &TieredSettings) {
    let text = serde_json::to_string(settings).expect("settings are plain data");
    assert_eq!(serde_json::from_str::<TieredSettings>(&text).ok().as_ref(), Some(settings), "{text}");
}

/// Whether the stack reaches for no disk and no network, whatever adapters are compiled in. An escape could hide a name.
fn stays_in_memory(text: &str) -> bool {
    !["redb", "rocksdb", "postgres", "s3", "journal", "\\"].iter().any(|word| text.contains(word))
}

fn opens(stack: &Stack) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    runtime.block_on(async {
        match stack.open(Create::IfAbsent).await {
            Ok(store) => store.close().await.expect("nothing is pending"),
            Err(error) => assert_eq!(error.kind(), ErrorKind::Config, "{error}"),
        }
    });
}
