//! The `tiered` command.

fn main() {}
