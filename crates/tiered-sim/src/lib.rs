//! Seeded simulation of the tiering engine.
//!
//! One seed is one run: a stack of its own choosing (policies, tiers, settings), concurrent clients, and tiers that
//! delay, fail, lose answers, apply late, hang, evict and crash ([`FaultStore`](tiered_conformance::FaultStore)). Time
//! is virtual and every choice follows from the seed, so a seed repeats itself to the last call.
//!
//! A run goes in *epochs*: clients work while faults happen; then the faults end, and the stack must come to rest; or
//! the power is cut, and the stack is opened again over what the disks kept. After each epoch the history of every key
//! is checked ([`checker`], [`oracle`]), and what the tiers hold is compared.
//!
//! Invariants (`ARCHITECTURE.md` has them all): I1 durability, I2 integrity, I3 linearizability, I4 coherence, I9
//! cancellation (clients drop calls half-way), I10 loads and idle keys, I12 time (clocks jump by years), I13
//! convergence, I15 ownership (a backend is opened without its journal).

mod alone;
mod careless;
pub mod checker;
mod client;
pub mod clock;
mod config;
pub mod disk;
mod epoch;
pub mod history;
mod journal;
pub mod ledger;
pub mod oracle;
mod ranges;
mod run;
mod seam;
pub mod server;
mod shared;
mod trace;
mod transfer;
mod value;
mod world;

pub use careless::Careless;
pub use config::{Ending, Sim};
pub use run::{Outcome, Violation, run};
