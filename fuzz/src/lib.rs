//! What fuzzing looks for: for each parser, each decoder and the engine a function that takes any bytes and panics where
//! a property does not hold.
//!
//! `cargo xtask fuzz` runs them under libFuzzer; `cargo test -p tiered-fuzz` replays what fuzzing found worth keeping,
//! in `corpus/`. `cargo run -p tiered-fuzz --bin NAME -- FILE…` replays files.

#![allow(clippy::missing_panics_doc, reason = "a panic is what a target finds")]
#![allow(
    clippy::panic,
    clippy::indexing_slicing,
    reason = "as in tests: a wrong index is a fault of the target"
)]

mod allocation;
mod codec;
mod fake;
mod journal;
mod key;
mod operations;
mod record;
pub mod replay;
mod secret;
mod settings;
mod tokens;
mod url;

pub use codec::codec;
pub use journal::journal;
pub use key::key;
pub use operations::operations;
pub use record::record;
pub use settings::settings;
pub use tokens::tokens;
pub use url::url;

/// A target: it takes any bytes.
pub type Target = fn(&[u8]);

/// Every target and its name, which is that of its corpus too.
pub const TARGETS: [(&str, Target); 8] = [
    ("codec", codec),
    ("journal", journal),
    ("key", key),
    ("operations", operations),
    ("record", record),
    ("settings", settings),
    ("tokens", tokens),
    ("url", url),
];

/// The program of a target.
#[macro_export]
macro_rules! target {
    ($name:ident) => {
        #[cfg(fuzzing)]
        libfuzzer_sys::fuzz_target!(|data: &[u8]| $crate::$name(data));

        #[cfg(not(fuzzing))]
        fn main() -> std::process::ExitCode {
            $crate::replay::main($crate::$name)
        }
    };
}
