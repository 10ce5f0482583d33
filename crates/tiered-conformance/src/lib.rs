//! The conformance suite that every `tiered` adapter, and every stack of them, must pass.
//!
//! The rustdoc of [`tiered_core::Store`] is the specification; each of its clauses has a name in brackets, and each
//! [`Case`] here cites the clauses that it checks. There is one list of cases ([`cases`]), and two ways to run it:
//!
//! * [`suite!`] makes one test per case in the module where it stands;
//! * [`run`] runs them all on one store and returns a [`Report`].
//!
//! Every case works under a fresh random prefix, which it removes afterwards, also after a failure; what a store
//! holds already is neither read nor written. Cases that close a store, or need one to themselves, ask the
//! [`Factory`] for a [`Place`] and are skipped where it has none.
//!
//! A capability that a store does not declare is not simply left out: where the specification says how such a store
//! refuses, the case checks the refusal ([`Ending::Refused`], which counts as passed).
//!
//! # Examples
//! ```
//! # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
//! use std::sync::Arc;
//! use tiered_conformance::{RunOptions, run};
//! use tiered_core::{MemoryStore, Store};
//!
//! let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
//! let factory = move || {
//!     let store = Arc::clone(&store);
//!     async move { store }
//! };
//! let report = run(factory, RunOptions::new().only(["read_whole"])).await;
//! assert!(report.is_ok(), "{report}");
//! # });
//! ```

mod bench;
mod case;
mod cases;
mod crew;
mod dice;
mod factory;
mod fault;
mod intercept;
mod report;
mod run;
mod scratch;
mod suite;
mod supervise;
mod text;
mod watch;

pub use case::{Case, Need, Pace};
pub use cases::cases;
pub use dice::Dice;
pub use factory::{Eviction, Factory, Place};
pub use fault::{Call, Fault, FaultStore, Faults};
pub use intercept::{DerivedReads, Intercept, Interceptor};
pub use report::{CaseReport, Ending, Report};
pub use run::{Effort, RunOptions, run};
#[doc(hidden)]
pub use suite::{is_case, prove, prove_within, share};
