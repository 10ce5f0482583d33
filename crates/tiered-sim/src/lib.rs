//! Seeded simulation, oracle and linearizability checker for tiered (not published).
