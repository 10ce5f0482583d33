//! Which keys are in cycles: the strongly connected components of a graph, by Tarjan's algorithm ("Depth-first search and linear
//! graph algorithms", 1972), without recursion.

/// A key that the search has not seen.
const UNSEEN: usize = usize::MAX;

/// The number of the component of each of `count` keys. Those that are not `left` have none, [`usize::MAX`], and are passed
/// by. `next`: the nth key that a key refers to, or that refers to it, which makes no difference to components.
pub(super) fn components(
    count: usize,
    left: &[usize],
    next: impl Fn(usize, usize) -> Option<usize>,
) -> Vec<usize> {
    let mut search = Search {
        next,
        is_left: vec![false; count],
        order: vec![UNSEEN; count],
        low: vec![0; count],
        component: vec![UNSEEN; count],
        open: Vec::new(),
        seen: 0,
        found: 0,
    };
    for index in left {
        set(&mut search.is_left, *index, true);
    }
    for index in left {
        if get(&search.order, *index) == UNSEEN {
            search.from(*index);
        }
    }
    search.component
}

struct Search<F> {
    /// The `n`th neighbour of a key.
    next: F,
    is_left: Vec<bool>,
    /// When each key was seen.
    order: Vec<usize>,
    /// The first key that each reaches, as far as is known.
    low: Vec<usize>,
    component: Vec<usize>,
    /// Keys whose component is not known yet.
    open: Vec<usize>,
    seen: usize,
    found: usize,
}

impl<F: Fn(usize, usize) -> Option<usize>> Search<F> {
    fn from(&mut self, start: usize) {
        let mut path = vec![(start, 0)];
        self.enter(start);
        while let Some((index, nth)) = path.pop() {
            let Some(neighbour) = (self.next)(index, nth) else {
                self.leave(index);
                if let Some((before, _)) = path.last() {
                    let low = get(&self.low, *before).min(get(&self.low, index));
                    set(&mut self.low, *before, low);
                }
                continue;
            };
            path.push((index, nth + 1));
            if !self.is_left.get(neighbour).copied().unwrap_or_default() {
                continue;
            }
            if get(&self.order, neighbour) == UNSEEN {
                self.enter(neighbour);
                path.push((neighbour, 0));
            } else if get(&self.component, neighbour) == UNSEEN {
                let low = get(&self.low, index).min(get(&self.order, neighbour));
                set(&mut self.low, index, low);
            }
        }
    }

    fn enter(&mut self, index: usize) {
        set(&mut self.order, index, self.seen);
        set(&mut self.low, index, self.seen);
        self.seen += 1;
        self.open.push(index);
    }

    /// Closes a component with the first of its keys.
    fn leave(&mut self, index: usize) {
        if get(&self.low, index) != get(&self.order, index) {
            return;
        }
        while let Some(member) = self.open.pop() {
            set(&mut self.component, member, self.found);
            if member == index {
                break;
            }
        }
        self.found += 1;
    }
}

fn get(of: &[usize], index: usize) -> usize {
    of.get(index).copied().unwrap_or(UNSEEN)
}

fn set<T>(of: &mut [T], index: usize, value: T) {
    if let Some(place) = of.get_mut(index) {
        *place = value;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The components of these edges, each as its keys, in order.
    fn found(count: usize, left: &[usize], edges: &[(usize, usize)]) -> Vec<Vec<usize>> {
        let next = |from: usize, nth: usize| {
            edges.iter().filter(|(one, _)| *one == from).nth(nth).map(|(_, other)| *other)
        };
        let of = components(count, left, next);
        let mut sets: Vec<Vec<usize>> = Vec::new();
        for number in 0..count {
            let members: Vec<usize> = (0..count).filter(|index| get(&of, *index) == number).collect();
            sets.extend(Some(members).filter(|members| !members.is_empty()));
        }
        sets.sort();
        sets
    }

    #[test]
    fn keys_that_reach_each_other_are_one_component() {
        let edges = [(0, 1), (1, 2), (2, 0), (2, 3), (3, 4), (4, 3), (5, 5), (0, 6)];
        let all: Vec<usize> = (0..7).collect();
        assert_eq!(found(7, &all, &edges), [vec![0, 1, 2], vec![3, 4], vec![5], vec![6]]);
        // Two ways into one cycle, and one that comes back to an earlier component.
        let edges = [(0, 1), (0, 2), (1, 3), (2, 3), (3, 1)];
        assert_eq!(found(4, &[0, 1, 2, 3], &edges), [vec![0], vec![1, 3], vec![2]]);
    }

    #[test]
    fn what_is_not_left_is_passed_by() {
        let edges = [(0, 1), (1, 2), (2, 0)];
        assert_eq!(found(3, &[0, 2], &edges), [vec![0], vec![2]]);
    }

    #[test]
    fn a_long_way_takes_no_stack() {
        let count = 200_000;
        let left: Vec<usize> = (0..count).collect();
        let ring = |from: usize, nth: usize| (nth == 0).then_some((from + 1) % count);
        let of = components(count, &left, ring);
        assert!(of.iter().all(|component| *component == 0));
    }
}
