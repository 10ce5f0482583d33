//! A small simulation with every `cargo test`; the gate's is `cargo xtask sim`.

use tiered_sim::{Careless, Sim, run};

const fn sim(seed: u64, careless: Option<Careless>) -> Sim {
    Sim { seed, operations: 300, careless, show: false }
}

#[test]
fn seeds_keep_every_promise_and_repeat_themselves() {
    for seed in 0..24 {
        let traces = [(), ()].map(|()| run(sim(seed, None)).unwrap_or_else(|why| panic!("{why}")).trace);
        assert_eq!(traces[0], traces[1], "seed {seed} did something else the second time");
    }
}

#[test]
fn different_seeds_give_different_runs() {
    let traces: std::collections::BTreeSet<u64> =
        (0..8).map(|seed| run(sim(seed, None)).map_or(0, |outcome| outcome.trace)).collect();
    assert_eq!(traces.len(), 8);
}

#[test]
fn a_deliberate_bug_is_caught_and_explained() {
    let violation = (0..100).find_map(|seed| run(sim(seed, Some(Careless::ChecksumSkipped))).err());
    let text = violation.expect("caught").to_string();
    assert!(text.contains("key-") && text.contains("cargo xtask sim --seeds 1 --ops 300 --seed "), "{text}");
}
