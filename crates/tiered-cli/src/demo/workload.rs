//! In which order keys are read.

use rand::{RngExt as _, SeedableRng as _};
use tiered::Key;

/// Reads of the skewed workload.
const READS: usize = 50_000;

/// Each key once.
pub(super) fn each_once(keys: &[Key]) -> Vec<Key> {
    keys.to_vec()
}

/// A few keys often, most rarely: the rank is a uniform number cubed, so that about half of the reads go to an
/// eighth of the keys. Seeded, so that two runs read the same.
pub(super) fn skewed(keys: &[Key]) -> Vec<Key> {
    let mut random = rand::rngs::StdRng::seed_from_u64(7);
    let count = keys.len();
    let mut order = Vec::with_capacity(READS);
    for _ in 0..READS {
        let uniform: f64 = random.random();
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss,
            reason = "a rank below the number of keys"
        )]
        let rank = (uniform.powi(3) * count as f64) as usize;
        order.extend(keys.get(rank.min(count.saturating_sub(1))).cloned());
    }
    order
}
