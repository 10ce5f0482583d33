//! Traces: which key was asked for, one after the other. Read from files, or made up.

pub mod format;
pub mod synthetic;

use std::collections::HashMap;

use foldhash::fast::RandomState;

/// Accesses to keys, which are numbered from 0 in the order of their first access.
#[derive(Clone, Debug)]
pub struct Trace {
    /// Its name in the report.
    pub name: String,
    /// The key of each access.
    pub accesses: Vec<u32>,
    /// How many keys there are.
    pub keys: usize,
}

impl Trace {
    /// From keys of any kind.
    pub fn of(name: impl Into<String>, keys: impl Iterator<Item = u64>) -> Self {
        let mut numbers: HashMap<u64, u32, RandomState> = HashMap::default();
        let number = |key| {
            let next = numbers.len() as u32;
            *numbers.entry(key).or_insert(next)
        };
        let accesses = keys.map(number).collect();
        Self { name: name.into(), accesses, keys: numbers.len() }
    }

    /// Its beginning: so many accesses, and the keys of these.
    #[must_use]
    pub fn beginning(mut self, length: usize) -> Self {
        self.accesses.truncate(length);
        self.keys = self.accesses.iter().max().map_or(0, |last| *last as usize + 1);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_numbered_by_their_first_access() {
        let trace = Trace::of("t", [70, 5, 70, 9].into_iter());
        assert_eq!((trace.accesses.as_slice(), trace.keys), (&[0, 1, 0, 2][..], 3));
        let beginning = trace.beginning(3);
        assert_eq!((beginning.accesses.as_slice(), beginning.keys), (&[0, 1, 0][..], 2));
    }
}
