//! Seeded pseudo-random numbers: the same seed gives the same case.

use bytes::Bytes;
use tiered_core::VersionMint;

/// Seeded choices: the `SplitMix64` generator, small and good enough to choose operations.
#[derive(Clone, Debug)]
pub struct Dice(u64);

impl Dice {
    /// The same seed gives the same numbers.
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next 64 bits.
    pub fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
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
