//! A key-value store in tiers: a fast frontend over an authoritative backend, with explicit policies.
