//! The target `record`: fuzzed by libFuzzer, else replaying the files that it is given.

#![cfg_attr(fuzzing, no_main)]

tiered_fuzz::target!(record);
