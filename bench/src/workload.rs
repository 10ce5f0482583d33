//! Keys, values, and the order in which keys are asked for.

use std::sync::Arc;

use bytes::Bytes;
use tiered::Key;

/// Which keys a run asks for most.
#[derive(Clone, Copy, Debug)]
pub enum Skew {
    /// All alike.
    Uniform,
    /// The k-th with a frequency of 1 / k^0.99, as YCSB does it.
    Zipf,
    /// One after the other, then from the first on again.
    InOrder,
}

impl Skew {
    /// In words.
    pub fn name(self) -> &'static str {
        match self {
            Self::Uniform => "uniform",
            Self::Zipf => "Zipf 0.99",
            Self::InOrder => "in order",
        }
    }
}

/// The exponent of [`Skew::Zipf`].
pub const ZIPF: f64 = 0.99;

/// A key in the forms that the sides take.
#[derive(Clone, Debug)]
pub struct Name {
    /// As text.
    pub text: String,
    /// As a key of tiered.
    pub key: Key,
}

impl Name {
    /// The key of a number.
    ///
    /// # Panics
    /// Never: a short text of ASCII is a key.
    pub fn of(number: u64) -> Self {
        let text = format!("users/{number:012}");
        let key = Key::new(text.as_str()).expect("a short text of ASCII is a key");
        Self { text, key }
    }
}

/// Keys, a value, and an order of asking.
#[derive(Clone, Debug)]
pub struct Workload {
    /// Every key.
    pub names: Arc<[Name]>,
    /// Indices into the keys, in the order in which they are asked for.
    pub order: Arc<[u32]>,
    /// The value of each key.
    pub value: Bytes,
}

/// How many picks an order has before it begins again: far more than a cache line predictor learns.
const ORDER: usize = 1 << 17;

impl Workload {
    /// `keys` keys with values of `size` bytes.
    pub fn new(keys: usize, size: usize, skew: Skew) -> Self {
        let names = (0..keys as u64).map(Name::of).collect();
        let mut dice = fastrand::Rng::with_seed(42);
        let zipf = Zipf::new(keys, ZIPF);
        // Ranks are spread over the keys, so that frequent keys are no neighbours.
        let mut places: Vec<u32> = (0..keys as u32).collect();
        dice.shuffle(&mut places);
        let pick = |index: usize| match skew {
            Skew::Uniform => dice.u32(..keys as u32),
            Skew::Zipf => places.get(zipf.pick(&mut dice)).copied().unwrap_or_default(),
            Skew::InOrder => (index % keys) as u32,
        };
        let length = if matches!(skew, Skew::InOrder) { keys } else { ORDER };
        Self { names, order: (0..length).map(pick).collect(), value: value(size) }
    }
}

/// A value of `size` bytes that no compressor shrinks.
pub fn value(size: usize) -> Bytes {
    let mut dice = fastrand::Rng::with_seed(size as u64);
    let mut value = vec![0; size];
    dice.fill(&mut value);
    value.into()
}

/// Ranks with frequencies of 1 / k^exponent.
#[derive(Clone, Debug)]
pub struct Zipf(Vec<f64>);

impl Zipf {
    /// Of this many ranks.
    pub fn new(ranks: usize, exponent: f64) -> Self {
        let mut sum = 0.0;
        let sums = (1..=ranks).map(|rank| {
            sum += (rank as f64).powf(-exponent);
            sum
        });
        Self(sums.collect())
    }

    /// A rank, from 0.
    pub fn pick(&self, dice: &mut fastrand::Rng) -> usize {
        let all = self.0.last().copied().unwrap_or_default();
        let at = dice.f64() * all;
        self.0.partition_point(|sum| *sum <= at).min(self.0.len().saturating_sub(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_rank_of_zipf_is_as_frequent_as_it_should_be() {
        let (zipf, mut dice) = (Zipf::new(1000, ZIPF), fastrand::Rng::with_seed(1));
        let firsts = (0..100_000).filter(|_| zipf.pick(&mut dice) == 0).count();
        let expected = 100_000.0 / (1..=1000).map(|rank| f64::from(rank).powf(-ZIPF)).sum::<f64>();
        assert!((firsts as f64 - expected).abs() < expected * 0.05, "{firsts} of {expected}");
    }

    #[test]
    fn an_order_stays_within_its_keys() {
        for skew in [Skew::Uniform, Skew::Zipf, Skew::InOrder] {
            let workload = Workload::new(100, 10, skew);
            assert!(workload.order.iter().all(|index| *index < 100), "{skew:?}");
            assert_eq!((workload.names.len(), workload.value.len()), (100, 10));
        }
    }
}
