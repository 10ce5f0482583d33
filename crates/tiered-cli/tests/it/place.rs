//! The real command in a folder of its own.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use tempfile::TempDir;

/// A folder that commands work in.
pub(crate) struct Place(TempDir);

impl Place {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().expect("a folder"))
    }

    pub(crate) fn folder(&self) -> &Path {
        self.0.path()
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub(crate) fn url(&self, name: &str) -> String {
        format!("redb:{}", self.path(name).display())
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Ran {
        self.run_with(arguments, b"")
    }

    pub(crate) fn run_with(&self, arguments: &[&str], input: &[u8]) -> Ran {
        let mut child = Command::new(env!("CARGO_BIN_EXE_tiered"))
            .args(arguments)
            .current_dir(self.0.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("starts");
        // A command that fails early does not read.
        child.stdin.take().expect("piped").write_all(input).ok();
        Ran(child.wait_with_output().expect("ends"))
    }

    /// Makes a database of so many small entries.
    pub(crate) fn fill(&self, name: &str, entries: usize) {
        use tiered::Store as _;
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("builds");
        runtime.block_on(async {
            let store = tiered_redb::RedbConfig::new(self.path(name)).open().await.expect("opens");
            let mut batch = tiered::Batch::new();
            for number in 0..entries {
                let key = tiered::Key::new(format!("key-{number}")).expect("valid");
                batch = batch.put(key, tiered::Put::new("v"));
            }
            store.apply(batch).await.expect("written");
            store.close().await.expect("closes");
        });
    }

    pub(crate) fn put(&self, store: &str, key: &str, value: &[u8]) {
        self.run_with(&["--store", store, "put", key], value).ends(0);
    }
}

/// What a command printed, and how it ended.
pub(crate) struct Ran(pub(crate) Output);

impl Ran {
    pub(crate) fn ends(self, code: i32) -> Self {
        assert_eq!(self.0.status.code(), Some(code), "{}\n{}", self.text(), self.errors());
        assert!(!self.errors().contains("panicked"), "{}", self.errors());
        self
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.stdout).into_owned()
    }

    pub(crate) fn errors(&self) -> String {
        String::from_utf8_lossy(&self.0.stderr).into_owned()
    }

    pub(crate) fn says(self, hint: &str) -> Self {
        assert!(self.errors().contains(hint), "{hint:?} is not in {}", self.errors());
        self
    }
}

/// Flips a bit in the middle of the value of 100,000 times 7.
pub(crate) fn damage(path: &Path) {
    let mut bytes = fs::read(path).expect("reads");
    let at = bytes.windows(1000).position(|window| window == [7; 1000]).expect("the value is there");
    *bytes.get_mut(at + 500).expect("inside") ^= 1;
    fs::write(path, bytes).expect("written");
}
