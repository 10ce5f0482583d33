//! The wrappers: the conformance suite over several stores, nested ones, and what is each one's own.

mod places;
mod prefix;
mod read_only;
mod suites;
