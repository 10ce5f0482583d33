//! The wrappers: the conformance suite over several stores, nested ones, and what is each one's own.

mod compressed;
mod encrypted;
mod golden;
mod places;
mod prefix;
mod read_only;
mod stacks;
mod suites;
mod swappable;
