//! Every target on its corpus: what fuzzing found worth keeping, and what it once found wrong.

use std::fs;
use std::panic;
use std::sync::{Mutex, PoisonError};

use tiered_fuzz::{TARGETS, replay};

/// One target at a time: some measure what the process allocates.
static TURN: Mutex<()> = Mutex::new(());

fn replayed(name: &str) {
    let (_, target) = TARGETS.into_iter().find(|(known, _)| *known == name).expect("a target of that name");
    let files = replay::corpus(name).expect("the folder of the corpus is there");
    assert!(!files.is_empty(), "the corpus of {name} is empty");
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    for file in files {
        let input = fs::read(&file).expect("reads");
        let ran = panic::catch_unwind(|| target(&input));
        assert!(ran.is_ok(), "replay it: cargo run -p tiered-fuzz --bin {name} -- {}", file.display());
    }
}

macro_rules! targets {
    ($($name:ident)*) => {
        $(
            #[test]
            fn $name() {
                replayed(stringify!($name));
            }
        )*

        #[test]
        fn every_fuzz_target_is_replayed() {
            let names = [$(stringify!($name)),*];
            assert_eq!(names, TARGETS.map(|(name, _)| name));
        }
    };
}

targets! { codec journal key operations record settings tokens url }
