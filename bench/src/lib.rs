//! Benchmarks of `tiered` beside its peers. Both sides are measured in one run, in turns; results are judged by targets
//! and written as JSON, tables and plots. `cargo xtask bench` builds and runs it.

pub mod effort;
pub mod groups;
pub mod machine;
pub mod measure;
pub mod peers;
pub mod report;
pub mod statistics;
pub mod targets;
pub mod traces;
pub mod workload;
