//! Rounds: every side takes its turn in each of them, so that a busy moment of the machine meets all sides alike.

use anyhow::{Context as _, Result};
use futures_util::future::LocalBoxFuture;

use crate::statistics::{Percentiles, Summary, Waits};

/// What one side did in one round.
#[derive(Clone, Debug, Default)]
pub struct Sample {
    /// The figure, in the unit of its group.
    pub value: f64,
    /// How long single operations took, where a person waits for them.
    pub waits: Option<Waits>,
}

impl Sample {
    /// A figure without single waits.
    pub fn of(value: f64) -> Self {
        Self { value, waits: None }
    }
}

/// One of several that are compared.
pub struct Side<'a> {
    name: String,
    is_ours: bool,
    turn: Turn<'a>,
}

/// How a side takes a turn.
pub type Turn<'a> = Box<dyn FnMut() -> LocalBoxFuture<'a, Result<Sample>> + 'a>;

impl std::fmt::Debug for Side<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Side")
            .field("name", &self.name)
            .field("is_ours", &self.is_ours)
            .finish_non_exhaustive()
    }
}

impl<'a> Side<'a> {
    /// A side, and how it takes a turn.
    pub fn new(
        name: impl Into<String>,
        is_ours: bool,
        turn: impl FnMut() -> LocalBoxFuture<'a, Result<Sample>> + 'a,
    ) -> Self {
        Self { name: name.into(), is_ours, turn: Box::new(turn) }
    }
}

/// What all rounds of one side say.
#[derive(Clone, Debug)]
pub struct Measured {
    /// The side's name.
    pub side: String,
    /// Whether it is a store of this project.
    pub is_ours: bool,
    /// The figure over all rounds.
    pub summary: Summary,
    /// The waits of all rounds together.
    pub percentiles: Option<Percentiles>,
}

/// Lets the sides take turns, A B A B and so on: one round to warm up, which does not count, and `rounds` that do.
pub async fn in_turns(sides: &mut [Side<'_>], rounds: usize) -> Result<Vec<Measured>> {
    take_turns(sides, 1, rounds).await
}

/// The same without a round to warm up, for turns that begin from nothing.
pub async fn in_cold_turns(sides: &mut [Side<'_>], rounds: usize) -> Result<Vec<Measured>> {
    take_turns(sides, 0, rounds).await
}

async fn take_turns(sides: &mut [Side<'_>], warm_up: usize, rounds: usize) -> Result<Vec<Measured>> {
    let mut values = vec![Vec::with_capacity(rounds); sides.len()];
    let mut waits: Vec<Option<Waits>> = vec![None; sides.len()];
    for round in 0..warm_up + rounds {
        for ((side, values), waits) in sides.iter_mut().zip(&mut values).zip(&mut waits) {
            let sample = (side.turn)().await.with_context(|| side.name.clone())?;
            if round >= warm_up {
                values.push(sample.value);
                if let Some(more) = sample.waits {
                    waits.get_or_insert_default().add(&more);
                }
            }
        }
    }
    let measured = sides.iter().zip(values).zip(waits).map(|((side, values), waits)| Measured {
        side: side.name.clone(),
        is_ours: side.is_ours,
        summary: Summary::of(&values),
        percentiles: waits.and_then(|waits| waits.percentiles()),
    });
    Ok(measured.collect())
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    #[tokio::test(flavor = "current_thread")]
    async fn sides_take_turns_and_the_first_round_does_not_count() {
        let order = RefCell::new(String::new());
        let side = |name: &'static str, first: f64| {
            let (order, mut next) = (&order, first);
            Side::new(name, false, move || {
                order.borrow_mut().push_str(name);
                next += 1.0;
                let sample = Sample::of(next);
                Box::pin(async move { Ok(sample) })
            })
        };
        let measured = in_turns(&mut [side("A", 0.0), side("B", 10.0)], 3).await.expect("measured");
        assert_eq!(*order.borrow(), "ABABABAB");
        let medians: Vec<f64> = measured.iter().map(|side| side.summary.median).collect();
        assert_eq!(medians, [3.0, 13.0]);
    }
}
