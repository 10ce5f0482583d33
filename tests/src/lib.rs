//! Every combination of adapters, run through the conformance suite.
