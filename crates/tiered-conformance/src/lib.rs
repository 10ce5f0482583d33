//! The conformance suite that every tiered adapter, and every stack of them, must pass.
