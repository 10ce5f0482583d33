//! In which order keys may be published: cycle by cycle, each after all that it refers to. These are the strongly connected
//! components of the graph in the order in which Tarjan's algorithm closes them ("Depth-first search and linear graph
//! algorithms", 1972), without recursion, and with the references in the ledger.

use super::ledger::Ledger;
use super::marks::Marks;
use super::node::Id;
use crate::error::Result;

/// A key that the search has not seen.
const UNSEEN: u32 = u32::MAX;
/// A key that was given out.
const CLOSED: u32 = u32::MAX - 1;

/// A key on the way to the one that is looked at.
struct Step {
    id: Id,
    children: Vec<Id>,
    next: usize,
    /// The first key that it reaches, as far as is known.
    low: u32,
}

/// The search. All keys were visited before.
pub(super) struct Order {
    /// When each key was seen.
    seen: Vec<u32>,
    count: u32,
    path: Vec<Step>,
    /// Keys whose component is not closed yet.
    open: Vec<Id>,
    /// Keys up to here were seen.
    start: Id,
}

impl Order {
    /// Of the keys up to `reached`.
    pub(super) fn new(reached: Id) -> Self {
        Self { seen: vec![UNSEEN; reached as usize], count: 0, path: Vec::new(), open: Vec::new(), start: 0 }
    }

    /// The next keys: one, or those of a cycle. All other keys that they refer to were given out before. Those about which
    /// nothing is to be done are passed by.
    pub(super) async fn next(&mut self, ledger: &Ledger, marks: &Marks) -> Result<Option<Vec<Id>>> {
        loop {
            let Some(step) = self.path.last_mut() else {
                let Some(start) = self.next_start() else { return Ok(None) };
                if let Some(leaf) = self.enter(start, ledger, marks).await? {
                    return Ok(Some(vec![leaf]));
                }
                continue;
            };
            let Some(child) = step.children.get(step.next).copied() else {
                if let Some(closed) = self.leave() {
                    return Ok(Some(closed));
                }
                continue;
            };
            step.next += 1;
            match self.seen.get(child as usize).copied().unwrap_or(CLOSED) {
                CLOSED => {}
                UNSEEN => {
                    if let Some(leaf) = self.enter(child, ledger, marks).await? {
                        return Ok(Some(vec![leaf]));
                    }
                }
                seen => step.low = step.low.min(seen),
            }
        }
    }

    fn next_start(&mut self) -> Option<Id> {
        while *self.seen.get(self.start as usize)? != UNSEEN {
            self.start += 1;
        }
        Some(self.start)
    }

    fn set(&mut self, id: Id, seen: u32) {
        if let Some(place) = self.seen.get_mut(id as usize) {
            *place = seen;
        }
    }

    /// Begins with a key. Answers it where it refers to nothing.
    async fn enter(&mut self, id: Id, ledger: &Ledger, marks: &Marks) -> Result<Option<Id>> {
        if marks.is_done(id) || marks.is_leaf(id) {
            self.set(id, CLOSED);
            return Ok(Some(id).filter(|id| !marks.is_done(*id)));
        }
        let children = ledger.nodes(&[id]).await?.pop().map(|node| node.children().to_vec());
        let low = self.count;
        self.count += 1;
        self.set(id, low);
        self.open.push(id);
        self.path.push(Step { id, children: children.unwrap_or_default(), next: 0, low });
        Ok(None)
    }

    /// Ends with the last key of the path: it closes a component, or is part of one that an earlier key closes.
    fn leave(&mut self) -> Option<Vec<Id>> {
        let Step { id, low, .. } = self.path.pop()?;
        if self.seen.get(id as usize) != Some(&low) {
            if let Some(before) = self.path.last_mut() {
                before.low = before.low.min(low);
            }
            return None;
        }
        let first = self.open.iter().rposition(|open| *open == id)?;
        let closed = self.open.split_off(first);
        for id in &closed {
            self.set(*id, CLOSED);
        }
        Some(closed)
    }
}

#[cfg(test)]
mod tests {
    use super::super::node::Node;
    use super::*;
    use crate::key::Key;

    /// The components of these edges in the order in which they are given out, each sorted.
    async fn order(count: Id, edges: &[(Id, Id)], marks: &Marks) -> Vec<Vec<Id>> {
        let mut ledger = Ledger::open(None).await.expect("empty");
        let keys: Vec<Key> = (0..count).map(|id| Key::new(format!("{id}")).expect("a key")).collect();
        ledger.reach(&keys).await.expect("reached");
        let to = |from| edges.iter().filter(|(one, _)| *one == from).map(|(_, to)| *to).collect();
        ledger.note((0..count).map(|id| (id, Node::new(0, 0, to(id)))).collect()).await.expect("noted");
        let (mut order, mut found) = (Order::new(count), Vec::new());
        while let Some(mut some) = order.next(&ledger, marks).await.expect("searched") {
            some.sort_unstable();
            found.push(some);
        }
        found
    }

    #[tokio::test]
    async fn keys_that_reach_each_other_come_together_after_what_they_refer_to() {
        let edges = [(0, 1), (1, 2), (2, 0), (2, 3), (3, 4), (4, 3), (5, 5), (0, 6)];
        let found = order(7, &edges, &Marks::default()).await;
        assert_eq!(found, [vec![3, 4], vec![6], vec![0, 1, 2], vec![5]]);
        // Two ways into one cycle, and one that comes back to an earlier component.
        let edges = [(0, 1), (0, 2), (1, 3), (2, 3), (3, 1)];
        assert_eq!(order(4, &edges, &Marks::default()).await, [vec![1, 3], vec![2], vec![0]]);
    }

    #[tokio::test]
    async fn leaves_come_before_and_what_is_done_is_passed_by() {
        let mut marks = Marks::default();
        marks.leaf(2);
        marks.settle(1);
        marks.break_off(3);
        let edges = [(0, 1), (0, 2), (0, 3), (1, 4)];
        assert_eq!(order(5, &edges, &marks).await, [vec![2], vec![0], vec![4]]);
        assert_eq!(marks.broken(), 1);
    }

    #[tokio::test]
    async fn a_long_way_takes_no_stack() {
        let count = 50_000;
        let mut ledger = Ledger::open(None).await.expect("empty");
        let keys: Vec<Key> = (0..count).map(|id| Key::new(format!("{id}")).expect("a key")).collect();
        ledger.reach(&keys).await.expect("reached");
        let ring = |id: Id| (id, Node::new(0, 0, vec![(id + 1) % count]));
        ledger.note((0..count).map(ring).collect()).await.expect("noted");
        let mut order = Order::new(count);
        let found = order.next(&ledger, &Marks::default()).await.expect("searched").expect("one");
        assert_eq!(found.len(), count as usize);
        assert_eq!(order.next(&ledger, &Marks::default()).await.expect("searched"), None);
    }
}
