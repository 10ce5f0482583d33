//! The target `tokens`: fuzzed by libFuzzer, else replaying the files that it is given.

#![cfg_attr(fuzzing, no_main)]

tiered_fuzz::target!(tokens);
