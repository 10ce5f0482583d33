//! Seeded pseudo-random numbers: the same seed gives the same case.

use bytes::Bytes;
use rand_xoshiro::SplitMix64;
use rand_xoshiro::rand_core::{Rng as _, SeedableRng as _};
use tiered_core::adapter::VersionMint;

/// Seeded choices. The numbers of a seed never change: a seed that found a bug finds it again.
#[derive(Clone, Debug)]
pub struct Dice(SplitMix64);

impl Dice {
    /// The same seed gives the same numbers.
    pub fn new(seed: u64) -> Self {
        Self(SplitMix64::seed_from_u64(seed))
    }

    /// The next 64 bits.
    pub fn roll(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// A number below `bound`; 0 where `bound` is 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        if bound == 0 { 0 } else { self.roll() % bound }
    }

    /// One of `items`.
    pub fn pick<'a, T>(&mut self, items: &'a [T]) -> Option<&'a T> {
        let index = usize::try_from(self.below(items.len() as u64)).unwrap_or(0);
        items.get(index)
    }
}

/// 64 bits of the operating system's randomness.
pub(crate) fn entropy() -> u64 {
    let version = VersionMint::from_entropy().mint().as_u128().unwrap_or_default();
    u64::try_from(version >> 64).unwrap_or_default()
}

/// A value of `size` bytes in which every position differs from its neighbours, and which differs by `salt`.
pub(crate) fn bytes(size: usize, salt: u64) -> Bytes {
    let mut dice = Dice::new(salt);
    let mut value = Vec::with_capacity(size + 8);
    while value.len() < size {
        value.extend_from_slice(&dice.roll().to_le_bytes());
    }
    value.truncate(size);
    Bytes::from(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_of_a_seed_never_change() {
        let mut dice = Dice::new(1_234_567);
        let known = [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423];
        assert_eq!([dice.roll(), dice.roll(), dice.roll()], known);
    }
}
